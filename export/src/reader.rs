//! The read side: the data files of an Iceberg snapshot with their deleted rows.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow_array::RecordBatch;
use futures::stream::BoxStream;
use iceberg::TableIdent;
use iceberg::io::FileIO;
use iceberg::spec::{DataFile, Snapshot, SnapshotRef};
use moonshine_engine::{Table, TableSchema};
use tokio::sync::Mutex;

use crate::catalog::{self, CatalogTable, TableCatalog};
use crate::config::IcebergConfig;
use crate::error::{ExportError, Result};
use crate::manifest::{Entry, ManifestCache};
use crate::references::head;
use crate::scan::{BATCH_ROWS, FileScan, scan_file};
use crate::schema::table_ident;
use crate::summary::{Stamp, live_counts};

/// Reads exported tables; needs no [`Exporter`](crate::Exporter).
#[derive(Debug)]
pub struct IcebergReader {
    catalog: Arc<dyn TableCatalog>,
    /// What was read of each table, by its engine name.
    loaded: Mutex<HashMap<String, LoadedTable>>,
}

#[derive(Debug, Default)]
struct LoadedTable {
    manifests: ManifestCache,
    newest: Option<(String, IcebergSnapshot)>,
}

/// What an Iceberg table holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSummary {
    /// The table, `namespace.name`.
    pub table: String,
    /// The newest snapshot of the branch that it is exported to; none before its first export.
    pub snapshot_id: Option<i64>,
    /// Its Iceberg format version.
    pub format_version: u8,
    /// Its rows, deleted ones not counted.
    pub row_count: u64,
    /// Its data files.
    pub data_files: u64,
    /// Where its metadata is stored.
    pub metadata_location: String,
}

/// One snapshot of an Iceberg table: its data files with their deleted rows. Cheap to clone.
#[derive(Clone, Debug)]
pub struct IcebergSnapshot {
    shared: Arc<SnapshotParts>,
}

struct SnapshotParts {
    file_io: FileIO,
    schema: Arc<TableSchema>,
    files: Vec<IcebergDataFile>,
}

/// Without the store, whose properties may hold keys.
impl fmt::Debug for SnapshotParts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("SnapshotParts");
        shown.field("files", &self.files);
        shown.finish_non_exhaustive()
    }
}

/// A data file of a snapshot.
#[derive(Clone, Debug)]
pub struct IcebergDataFile {
    file: DataFile,
    deletes: Vec<DataFile>,
}

impl IcebergDataFile {
    /// Where it is: the path that the engine's placements name it by.
    pub fn path(&self) -> &str {
        self.file.file_path()
    }

    /// Its rows, deleted ones included.
    pub fn row_count(&self) -> u64 {
        self.file.record_count()
    }

    /// Its rows that are not deleted.
    pub fn live_row_count(&self) -> u64 {
        let deleted: u64 = self.deletes.iter().map(DataFile::record_count).sum();
        self.file.record_count().saturating_sub(deleted)
    }
}

impl IcebergReader {
    /// Connects to the catalog, which must exist.
    ///
    /// # Errors
    /// [`ExportError::Config`]; [`ExportError::Unavailable`], also if nothing was exported there yet.
    pub async fn open(config: &IcebergConfig) -> Result<IcebergReader> {
        config.check()?;
        catalog::open(config, false).await.map(Self::with_catalog)
    }

    /// As [`open`](Self::open); `None` if nothing was exported there yet.
    ///
    /// # Errors
    /// [`ExportError::Config`]; [`ExportError::Unavailable`].
    pub async fn open_if_exists(config: &IcebergConfig) -> Result<Option<IcebergReader>> {
        config.check()?;
        let catalog = catalog::open_if_exists(config).await?;
        Ok(catalog.map(Self::with_catalog))
    }

    /// A reader of the caller's catalog.
    pub fn with_catalog(catalog: Arc<dyn TableCatalog>) -> IcebergReader {
        IcebergReader {
            catalog,
            loaded: Mutex::default(),
        }
    }

    pub(crate) fn catalog(&self) -> &dyn TableCatalog {
        self.catalog.as_ref()
    }

    /// What each table of the catalog holds, sorted by name.
    ///
    /// # Errors
    /// [`ExportError::Unavailable`]; [`ExportError::Corrupt`]; [`ExportError::Foreign`] for a table whose summary
    /// lacks the counters.
    pub async fn summary(&self) -> Result<Vec<TableSummary>> {
        let all = self.catalog.list().await?;
        self.summaries(&all).await
    }

    /// As [`summary`](Self::summary), of these tables alone, by their names in the database; those that are not in the
    /// catalog are left out.
    ///
    /// # Errors
    /// As [`summary`](Self::summary); [`ExportError::Config`] for a name that does not do.
    pub async fn summary_of(&self, tables: &[String]) -> Result<Vec<TableSummary>> {
        let idents: Result<Vec<TableIdent>> = tables.iter().map(|name| table_ident(name)).collect();
        self.summaries(&idents?).await
    }

    /// Checks that the catalog answers: asks it for a table that need not exist.
    ///
    /// # Errors
    /// [`ExportError::Unavailable`].
    pub async fn check(&self) -> Result<()> {
        let ident = table_ident("moonshine.check")?;
        self.catalog.load(&ident).await.map(drop)
    }

    async fn summaries(&self, idents: &[TableIdent]) -> Result<Vec<TableSummary>> {
        let mut summaries = Vec::new();
        for ident in idents {
            let Some(table) = self.catalog.load(ident).await? else {
                continue;
            };
            let snapshot = head(&table.metadata);
            let (row_count, data_files) = match snapshot {
                Some(snapshot) => live_counts(ident, snapshot)?,
                None => (0, 0),
            };
            summaries.push(TableSummary {
                table: ident.to_string(),
                snapshot_id: snapshot.map(|snapshot| snapshot.snapshot_id()),
                format_version: table.metadata.format_version() as u8,
                row_count,
                data_files,
                metadata_location: table.metadata_location,
            });
        }
        Ok(summaries)
    }

    /// The snapshot with that id, `token` of the engine's record of an export.
    ///
    /// # Errors
    /// [`ExportError::Foreign`]: no such table or snapshot, or deletes of another writer's;
    /// [`ExportError::Unavailable`]; [`ExportError::Corrupt`].
    pub async fn load(&self, table: &Table, token: &str) -> Result<IcebergSnapshot> {
        let mut loaded = self.loaded.lock().await;
        let state = loaded.entry(table.name().to_owned()).or_default();
        if let Some((newest, snapshot)) = &state.newest
            && newest == token
        {
            return Ok(snapshot.clone());
        }
        let ident = table_ident(table.name())?;
        let found = self.catalog.load(&ident).await?;
        let found =
            found.ok_or_else(|| ExportError::foreign(&ident, "it is not in the catalog"))?;
        let snapshot = exported_snapshot(&found, token)?;
        let snapshot = IcebergSnapshot::load(table, &found, snapshot, &mut state.manifests).await?;
        state.newest = Some((token.to_owned(), snapshot.clone()));
        Ok(snapshot)
    }
}

/// The snapshot of the export with that token.
fn exported_snapshot<'a>(found: &'a CatalogTable, token: &str) -> Result<&'a SnapshotRef> {
    let metadata = &found.metadata;
    // A fence has the rows of the export before it, whose snapshot may have expired.
    let carries_it = |head: &&SnapshotRef| {
        let export_snapshot_id = Stamp::of(head).and_then(|stamp| stamp.export_snapshot_id);
        export_snapshot_id.is_some_and(|id| id.to_string() == token)
    };
    let snapshot = token
        .parse()
        .ok()
        .and_then(|id| metadata.snapshot_by_id(id));
    let snapshot = snapshot.or_else(|| head(metadata).filter(carries_it));
    snapshot
        .ok_or_else(|| ExportError::foreign(&found.ident, format!("it has no snapshot {token}")))
}

impl IcebergSnapshot {
    /// A snapshot of the Iceberg table of an engine's table.
    pub(crate) async fn load(
        table: &Table,
        found: &CatalogTable,
        snapshot: &Snapshot,
        cache: &mut ManifestCache,
    ) -> Result<Self> {
        let file_io = &found.file_io;
        let manifests = cache.load(file_io, &found.metadata, Some(snapshot)).await?;
        let deletes = manifests.delete_by_data_file()?;
        let data_file = |entry: &Entry| {
            let deletes = deletes.get(entry.file.file_path()).into_iter().flatten();
            IcebergDataFile {
                file: entry.file.clone(),
                deletes: deletes.map(|delete| delete.file.clone()).collect(),
            }
        };
        let files = manifests.data_files().map(data_file).collect();
        let parts = SnapshotParts {
            file_io: file_io.clone(),
            schema: table.schema().clone(),
            files,
        };
        Ok(IcebergSnapshot {
            shared: Arc::new(parts),
        })
    }

    /// The data files.
    pub fn files(&self) -> &[IcebergDataFile] {
        &self.shared.files
    }

    /// The rows of a data file that are neither deleted nor in `excluded` (sorted positions), with the columns of the
    /// engine's schema at `projection` (all of them by default), in the engine's Arrow types.
    ///
    /// The stream fails with [`ExportError::Corrupt`] or [`ExportError::Unavailable`].
    pub fn scan_file(
        &self,
        file_index: usize,
        projection: Option<&[usize]>,
        excluded: &[u64],
    ) -> BoxStream<'static, Result<RecordBatch>> {
        let Some(file) = self.shared.files.get(file_index) else {
            let reason = format!("data file {file_index} of {}", self.shared.files.len());
            return Box::pin(futures::stream::once(async {
                Err(ExportError::Config(reason))
            }));
        };
        scan_file(FileScan {
            file_io: self.shared.file_io.clone(),
            schema: self.shared.schema.clone(),
            file: file.file.clone(),
            deletes: file.deletes.clone(),
            projection: projection.map(<[usize]>::to_vec),
            excluded: excluded.iter().copied().collect(),
            lineage: None,
            batch_rows: BATCH_ROWS,
            window_bytes_max: None,
        })
    }
}
