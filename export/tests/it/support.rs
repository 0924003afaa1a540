//! A world of one database and one warehouse, and what the tests compare.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use futures::TryStreamExt;
use iceberg::TableIdent;
use iceberg::io::FileIO;
use iceberg::spec::{
    DataContentType, ManifestContentType, ManifestList, ManifestStatus, TableMetadata,
};
use moonshine_engine::{ColumnType, Database, Options, Scan, Snapshot, Table, TableSchema, Value};
use moonshine_export::catalog::{LocationCatalog, TableCatalog};
use moonshine_export::environment::Environment;
use moonshine_export::{
    ExportError, Exporter, FormatVersion, IcebergConfig, IcebergReader, Pace, SettingsByTable,
    TableExport, TableSettings,
};
pub(crate) use moonshine_sim::lake::Random;
use moonshine_sim::replay::{LocalFiles, Replay, SnapshotRows};

/// Both ways to delete rows.
pub(crate) const VERSIONS: [FormatVersion; 2] = [FormatVersion::V2, FormatVersion::V3];

/// A folder with a database and a warehouse.
pub(crate) struct World {
    folder: tempfile::TempDir,
    pub(crate) version: FormatVersion,
}

/// Settings with small files.
pub(crate) fn settings(format_version: FormatVersion) -> SettingsByTable {
    let settings = TableSettings {
        format_version,
        target_file_size_bytes: 1 << 20,
        ..TableSettings::default()
    };
    settings.into()
}

/// The rows of a table as text, by key. Text tells -0.0 from 0.0 and null from empty.
pub(crate) type Rows = BTreeMap<String, Vec<String>>;

impl World {
    pub(crate) fn new(version: FormatVersion) -> World {
        World {
            folder: tempfile::tempdir().unwrap(),
            version,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn config(&self) -> IcebergConfig {
        let json = format!(
            r#"{{"warehouse_path": {:?}, "format_version": {}, "target_file_size_mb": 1}}"#,
            self.path("warehouse"),
            self.version.number()
        );
        serde_json::from_str(&json).unwrap()
    }

    pub(crate) fn database(&self) -> Database {
        self.database_in("database")
    }

    pub(crate) fn database_in(&self, name: &str) -> Database {
        Database::open(self.path(name), Options::unmeasured()).unwrap()
    }

    pub(crate) async fn exporter(&self, database: &Database) -> Result<Exporter, ExportError> {
        Exporter::open(database.clone(), &self.config()).await
    }

    pub(crate) async fn exporter_with(
        &self,
        database: &Database,
        catalog: Arc<dyn TableCatalog>,
    ) -> Result<Exporter, ExportError> {
        Exporter::open_with(
            database.clone(),
            catalog,
            settings(self.version),
            Environment::default(),
        )
        .await
    }

    pub(crate) async fn catalog(&self) -> Arc<dyn TableCatalog> {
        Arc::new(LocationCatalog::sql(&self.config(), true).await.unwrap())
    }

    pub(crate) async fn metadata(&self, ident: &TableIdent) -> Arc<TableMetadata> {
        self.catalog()
            .await
            .load(ident)
            .await
            .unwrap()
            .expect("the table is in the catalog")
            .metadata
    }

    /// What the Iceberg table of the last committed export holds.
    pub(crate) async fn exported_rows(&self, database: &Database, table: &Table) -> Rows {
        if database.exported(table).is_none() {
            return Rows::new();
        }
        let reader = IcebergReader::open(&self.config()).await.unwrap();
        Self::rows_by(&reader, database, table).await
    }

    async fn rows_by(reader: &IcebergReader, database: &Database, table: &Table) -> Rows {
        let Some(exported) = database.exported(table) else {
            return Rows::new();
        };
        rows_of_snapshot(reader, table, &exported.token).await
    }

    /// Checks that the Iceberg tables hold what the database holds.
    pub(crate) async fn check_same(&self, database: &Database) {
        self.check_same_in(database, self.catalog().await).await;
        self.check_replay(database).await;
    }

    /// The same by a reader that shares no code with the exporter, which reads every snapshot from the metadata file on.
    pub(crate) async fn check_replay(&self, database: &Database) {
        let catalog = self.catalog().await;
        let snapshot = database.snapshot();
        for table in database.tables() {
            let Some(exported) = database.exported(&table) else {
                continue;
            };
            let named = table.name().split_once('.');
            let (namespace, name) = named.unwrap_or(("default", table.name()));
            let found = catalog.load(&ident(namespace, name)).await.unwrap();
            let location = found.unwrap().metadata_location;
            let replayed = Replay::default().table(&LocalFiles, &location);
            let replayed = replayed.unwrap_or_else(|finding| panic!("{finding}"));
            let mut heads = replayed.heads.values();
            let newest = heads.find(|rows| rows.snapshot.id.to_string() == exported.token);
            let Some(newest) = newest else { continue };
            // A change of columns is published with the export behind it.
            let columns = table
                .schema()
                .columns()
                .iter()
                .map(|column| column.field_id);
            if !columns.eq(newest.schema.fields.iter().map(|field| field.id)) {
                continue;
            }
            check_rows(newest, &snapshot, &table);
        }
    }

    /// The same, of another catalog's tables.
    pub(crate) async fn check_same_in(&self, database: &Database, catalog: Arc<dyn TableCatalog>) {
        let reader = IcebergReader::with_catalog(catalog);
        let snapshot = database.snapshot();
        for table in database.tables() {
            if let Some(exported) = database.exported(&table) {
                reader.check_rows(&table, &exported.token).await.unwrap();
            }
            let expected = rows_at(&snapshot, &table);
            let found = Self::rows_by(&reader, database, &table).await;
            assert_eq!(
                found,
                expected,
                "table {}, {:?}",
                table.name(),
                self.version
            );
        }
    }

    /// Checks the manifests of every snapshot: no equality delete, at most one delete entry a data file, and in v3 row
    /// ids that no other row has and that a row keeps.
    pub(crate) async fn check_manifests(&self, ident: &TableIdent) {
        let metadata = self.metadata(ident).await;
        self.check_manifests_in(&metadata, &FileIO::new_with_fs())
            .await;
    }

    /// The same, of a table of another store.
    pub(crate) async fn check_manifests_in(&self, metadata: &TableMetadata, file_io: &FileIO) {
        let mut first_row_ids: BTreeMap<String, i64> = BTreeMap::new();
        for snapshot in metadata.snapshots() {
            let bytes = file_io
                .new_input(snapshot.manifest_list())
                .unwrap()
                .read()
                .await
                .unwrap();
            let list = ManifestList::parse_with_version(&bytes, metadata.format_version()).unwrap();
            let mut deletes_of: BTreeMap<String, usize> = BTreeMap::new();
            for manifest in list.entries() {
                let mut next_row_id = manifest.first_row_id.map(|id| id as i64);
                for entry in manifest.load_manifest(file_io).await.unwrap().entries() {
                    assert_ne!(entry.content_type(), DataContentType::EqualityDeletes);
                    let file = entry.data_file();
                    if entry.status() == ManifestStatus::Deleted {
                        continue;
                    }
                    if manifest.content == ManifestContentType::Deletes {
                        *deletes_of
                            .entry(file.referenced_data_file().unwrap())
                            .or_default() += 1;
                    } else if self.version == FormatVersion::V3 {
                        let row_id = file.first_row_id().or(next_row_id).unwrap();
                        if file.first_row_id().is_none() {
                            next_row_id = Some(row_id + file.record_count() as i64);
                        }
                        let known = first_row_ids
                            .entry(file.file_path().to_owned())
                            .or_insert(row_id);
                        assert_eq!(*known, row_id, "{} keeps its row ids", file.file_path());
                        assert!(
                            row_id + file.record_count() as i64 <= metadata.next_row_id() as i64
                        );
                    }
                }
            }
            assert!(
                deletes_of.values().all(|count| *count == 1),
                "{deletes_of:?}"
            );
        }
        let distinct: std::collections::BTreeSet<i64> = first_row_ids.values().copied().collect();
        assert_eq!(distinct.len(), first_row_ids.len());
    }
}

/// Checks that a replayed snapshot holds what the database held.
pub(crate) fn check_rows(replayed: &SnapshotRows, snapshot: &Snapshot, table: &Table) {
    let batches = snapshot.scan(table, Scan::default()).unwrap();
    let batches: Vec<RecordBatch> = batches.map(Result::unwrap).collect();
    let columns: Vec<i32> = table
        .schema()
        .columns()
        .iter()
        .map(|column| column.field_id)
        .collect();
    let key: Vec<i32> = table
        .schema()
        .primary_key()
        .iter()
        .map(|at| columns[*at])
        .collect();
    let expected = replayed.rows_of(&batches, &columns, &key);
    let same = expected.and_then(|expected| replayed.check_same(&expected, &key));
    same.unwrap_or_else(|finding| panic!("table {}: {finding}", table.name()));
}

/// What one snapshot of an Iceberg table holds.
pub(crate) async fn rows_of_snapshot(reader: &IcebergReader, table: &Table, token: &str) -> Rows {
    let snapshot = reader.load(table, token).await.unwrap();
    let mut batches = Vec::new();
    for index in 0..snapshot.files().len() {
        let scanned: Vec<RecordBatch> = snapshot
            .scan_file(index, None, &[])
            .try_collect()
            .await
            .unwrap();
        let rows: usize = scanned.iter().map(RecordBatch::num_rows).sum();
        assert_eq!(rows as u64, snapshot.files()[index].live_row_count());
        batches.extend(scanned);
    }
    rows_of(table.schema(), batches)
}

/// What the database held.
pub(crate) fn rows_at(snapshot: &Snapshot, table: &Table) -> Rows {
    let batches = snapshot.scan(table, Scan::default()).unwrap();
    rows_of(table.schema(), batches.map(Result::unwrap).collect())
}

pub(crate) fn rows_of(schema: &TableSchema, batches: Vec<RecordBatch>) -> Rows {
    let options = FormatOptions::new().with_null("∅");
    let mut rows = Rows::new();
    for batch in batches {
        assert_eq!(batch.schema().as_ref(), schema.arrow_schema().as_ref());
        let formatters: Vec<ArrayFormatter<'_>> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column, &options).unwrap())
            .collect();
        for row in 0..batch.num_rows() {
            let values: Vec<String> = formatters
                .iter()
                .map(|formatter| formatter.value(row).to_string())
                .collect();
            let key = schema
                .primary_key()
                .iter()
                .map(|&column| values[column].clone())
                .collect::<Vec<_>>()
                .join("|");
            assert!(
                rows.insert(key.clone(), values).is_none(),
                "key {key} twice"
            );
        }
    }
    rows
}

pub(crate) fn ident(namespace: &str, name: &str) -> TableIdent {
    TableIdent::from_strs([namespace, name]).unwrap()
}

/// A table of a number and a text.
pub(crate) fn notes(database: &Database) -> Table {
    let schema = TableSchema::builder("shop.notes")
        .column("id", ColumnType::Int64, false)
        .column("note", ColumnType::Utf8, true)
        .primary_key(["id"])
        .build()
        .unwrap();
    database.create_table(schema).unwrap()
}

pub(crate) fn note(id: i64, text: &str) -> Vec<Value> {
    vec![Value::Int64(id), Value::Utf8(text.to_owned())]
}

/// One transaction that writes these notes and deletes those ids.
pub(crate) fn write_notes(
    database: &Database,
    table: &Table,
    notes: impl IntoIterator<Item = (i64, String)>,
    deleted: &[i64],
) {
    let mut transaction = database.begin();
    for (id, text) in notes {
        transaction.upsert(table, note(id, &text)).unwrap();
    }
    for id in deleted {
        transaction.delete(table, &[Value::Int64(*id)]).unwrap();
    }
    transaction.commit().unwrap();
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// As often as can be.
pub(crate) const PACE: Pace = Pace {
    freshness_ms: 0,
    is_full: false,
};

/// Exports what is due.
pub(crate) async fn tick_due(exporter: &mut Exporter) -> Vec<TableExport> {
    exporter.begin_due(PACE);
    exporter.finish().await.unwrap()
}
