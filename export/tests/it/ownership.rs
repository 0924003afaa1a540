//! Tables that are not ours, or not where we left them, are left alone; older exporters are fenced.

use std::collections::HashMap;
use std::sync::Arc;

use iceberg::TableUpdate;
use iceberg::spec::{
    MAIN_BRANCH, Operation, Snapshot, SnapshotReference, SnapshotRetention, Summary, TableMetadata,
    Transform, UnboundPartitionSpec,
};
use moonshine_engine::{ColumnType, Database, TableSchema};
use moonshine_export::catalog::{CatalogTable, Change, CommitOutcome, TableCatalog};
use moonshine_export::{ExportError, FormatVersion, IcebergReader};
use uuid::Uuid;

use crate::support::{World, copy_folder, ident, notes, write_notes};

/// A world with one exported table.
async fn exported() -> (World, Database) {
    let world = World::new(FormatVersion::V3);
    let database = world.database();
    let table = notes(&database);
    write_notes(
        &database,
        &table,
        (0..10).map(|id| (id, "a".to_owned())),
        &[],
    );
    world
        .exporter(&database)
        .await
        .unwrap()
        .tick(&database.snapshot())
        .await
        .unwrap();
    (world, database)
}

async fn current(catalog: &dyn TableCatalog) -> CatalogTable {
    catalog
        .load(&ident("shop", "notes"))
        .await
        .unwrap()
        .unwrap()
}

/// Commits a snapshot of another writer's that says it appended a file.
pub(crate) async fn foreign_snapshot(catalog: &dyn TableCatalog) {
    let table = current(catalog).await;
    let metadata = &table.metadata;
    let parent = metadata.current_snapshot().unwrap();
    let before = &parent.summary().additional_properties;
    let totals = before.iter().filter(|(key, _)| key.starts_with("total-"));
    let mut properties: HashMap<String, String> = totals
        .map(|(key, total)| (key.clone(), total.clone()))
        .collect();
    properties.insert("added-data-files".to_owned(), "1".to_owned());
    let summary = Summary {
        operation: Operation::Append,
        additional_properties: properties,
    };
    let snapshot = Snapshot::builder()
        .with_snapshot_id(4711)
        .with_parent_snapshot_id(Some(parent.snapshot_id()))
        .with_sequence_number(metadata.next_sequence_number())
        .with_timestamp_ms(metadata.last_updated_ms() + 1)
        .with_manifest_list(parent.manifest_list())
        .with_summary(summary)
        .with_row_range(metadata.next_row_id(), 0)
        .build();
    let updates = vec![TableUpdate::AddSnapshot { snapshot }, becomes_head(4711)];
    change_by_hand(catalog, &table, Change::of(metadata, updates)).await;
}

fn becomes_head(snapshot_id: i64) -> TableUpdate {
    TableUpdate::SetSnapshotRef {
        ref_name: MAIN_BRANCH.to_owned(),
        reference: SnapshotReference {
            snapshot_id,
            retention: SnapshotRetention::branch(None, None, None),
        },
    }
}

async fn change_by_hand(catalog: &dyn TableCatalog, table: &CatalogTable, change: Change) {
    let outcome = catalog.commit(table, &change, Uuid::new_v4()).await;
    assert!(matches!(outcome, CommitOutcome::Committed(_)));
}

/// What takes a table back to the snapshot before the newest.
pub(crate) fn rollback(table: &CatalogTable) -> Change {
    let head = table.metadata.current_snapshot().unwrap();
    let before = becomes_head(head.parent_snapshot_id().unwrap());
    Change::of(&table.metadata, vec![before])
}

pub(crate) async fn roll_back(catalog: &dyn TableCatalog) {
    let table = current(catalog).await;
    change_by_hand(catalog, &table, rollback(&table)).await;
}

/// Makes a snapshot the newest one again.
pub(crate) async fn roll_forward(catalog: &dyn TableCatalog, snapshot_id: i64) {
    let table = current(catalog).await;
    let change = Change::of(&table.metadata, vec![becomes_head(snapshot_id)]);
    change_by_hand(catalog, &table, change).await;
}

fn location_of(metadata: &Arc<TableMetadata>) -> (Option<i64>, usize) {
    (
        metadata.current_snapshot_id(),
        metadata.metadata_log().len(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_exporter_is_fenced() {
    let (world, database) = exported().await;
    let table = notes(&database);
    let mut zombie = world.exporter(&database).await.unwrap();
    let mut newer = world.exporter(&database).await.unwrap();
    write_notes(&database, &table, [(1, "b".to_owned())], &[]);
    let error = zombie.tick(&database.snapshot()).await.unwrap_err();
    assert!(
        matches!(error, ExportError::Fenced { own, current, .. } if own < current),
        "{error}"
    );
    newer.tick(&database.snapshot()).await.unwrap();
    world.check_same(&database).await;
}

/// Where the database was copied, what the copy's exporter has left of an older state of the table is no damage to one that knows
/// nothing newer.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_exporter_is_fenced_where_its_files_are_gone() {
    for is_maintenance in [false, true] {
        let (world, database) = exported().await;
        let mut older = world.exporter(&database).await.unwrap();
        copy_folder(&world.path("database"), &world.path("copy"));
        let copy = world.database_in("copy");
        let mut newer = world.exporter(&copy).await.unwrap();
        let catalog = world.catalog().await;
        let known = current(catalog.as_ref()).await;
        let manifest_list = known.metadata.current_snapshot().unwrap().manifest_list();
        let change = |database: &Database, text: &str| {
            let table = database.table("shop.notes").unwrap();
            write_notes(database, &table, [(1, text.to_owned())], &[]);
        };
        change(&copy, "of the copy");
        newer.tick(&copy.snapshot()).await.unwrap();
        known.file_io.delete(manifest_list).await.unwrap();
        change(&database, "of the original");
        let error = match is_maintenance {
            true => older.maintainer().run(None, false).await.unwrap_err(),
            false => older.tick(&database.snapshot()).await.unwrap_err(),
        };
        assert!(matches!(error, ExportError::Fenced { .. }), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_writers_snapshot_stops_the_export() {
    let (world, database) = exported().await;
    let table = notes(&database);
    let catalog = world.catalog().await;
    let mut exporter = world.exporter(&database).await.unwrap();
    foreign_snapshot(catalog.as_ref()).await;
    write_notes(&database, &table, [(1, "b".to_owned())], &[]);
    let before = location_of(&current(catalog.as_ref()).await.metadata);
    let error = exporter.tick(&database.snapshot()).await.unwrap_err();
    assert!(
        matches!(&error, ExportError::Foreign { table, .. } if table == "shop.notes"),
        "{error}"
    );
    let error = world.exporter(&database).await.unwrap_err();
    assert!(error.to_string().contains("4711"), "{error}");
    assert_eq!(
        location_of(&current(catalog.as_ref()).await.metadata),
        before,
        "nothing was written"
    );
    assert!(database.pending_exports().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_databases_table_is_refused() {
    let (world, _) = exported().await;
    let other = world.database_in("other");
    notes(&other);
    let before = location_of(&world.metadata(&ident("shop", "notes")).await);
    let error = world.exporter(&other).await.unwrap_err();
    assert!(
        matches!(&error, ExportError::Foreign { reason, .. } if reason.contains("belongs to database")),
        "{error}"
    );
    assert_eq!(
        location_of(&world.metadata(&ident("shop", "notes")).await),
        before
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_of_the_database_is_refused() {
    let (world, database) = exported().await;
    let table = notes(&database);
    copy_folder(&world.path("database"), &world.path("backup"));
    write_notes(&database, &table, [(1, "b".to_owned())], &[]);
    let mut exporter = world.exporter(&database).await.unwrap();
    exporter.tick(&database.snapshot()).await.unwrap();
    let backup = world.database_in("backup");
    let before = location_of(&world.metadata(&ident("shop", "notes")).await);
    let error = world.exporter(&backup).await.unwrap_err();
    assert!(matches!(error, ExportError::Stale { .. }), "{error}");
    assert_eq!(
        location_of(&world.metadata(&ident("shop", "notes")).await),
        before,
        "the real exporter stays in charge"
    );
    write_notes(&database, &table, [(2, "c".to_owned())], &[]);
    exporter.tick(&database.snapshot()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_schema_version_or_a_dropped_table_is_refused() {
    let (world, database) = exported().await;
    let mut v2 = world.config();
    v2.format_version = Some(FormatVersion::V2);
    let error = moonshine_export::Exporter::open(database.clone(), &v2)
        .await
        .unwrap_err();
    assert!(
        matches!(error, ExportError::Config(_)) && error.to_string().contains("format_version"),
        "{error}"
    );

    let elsewhere = World::new(FormatVersion::V3);
    let error = elsewhere.exporter(&database).await.unwrap_err();
    assert!(
        error.to_string().contains("gone from the catalog"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_partitioned_by_hand_is_followed() {
    let (world, database) = exported().await;
    let table = notes(&database);
    let catalog = world.catalog().await;
    let mut exporter = world.exporter(&database).await.unwrap();
    let base = current(catalog.as_ref()).await;
    let spec = UnboundPartitionSpec::builder()
        .add_partition_field(1, "id_bucket", Transform::Bucket(4))
        .unwrap()
        .build();
    let updates = vec![
        TableUpdate::AddSpec { spec },
        TableUpdate::SetDefaultSpec { spec_id: -1 },
    ];
    let change = Change::of(&base.metadata, updates);
    let outcome = catalog.commit(&base, &change, Uuid::from_u128(1)).await;
    assert!(matches!(outcome, CommitOutcome::Committed(_)));
    write_notes(&database, &table, [(1, "b".to_owned())], &[]);
    // The exporter that runs does not know it yet: its files are of the spec that it found, and stay so.
    exporter.tick(&database.snapshot()).await.unwrap();
    world.check_same(&database).await;
    write_notes(
        &database,
        &table,
        [(1, "c".to_owned()), (2, "d".to_owned())],
        &[],
    );
    let mut exporter = world.exporter(&database).await.unwrap();
    exporter.tick(&database.snapshot()).await.unwrap();
    world.check_same(&database).await;
    world.check_manifests(&base.ident).await;
    let metadata = world.metadata(&base.ident).await;
    assert_eq!(metadata.default_partition_spec_id(), 1);
}

/// Two names of the engine that mean one Iceberg table.
#[tokio::test(flavor = "multi_thread")]
async fn two_tables_do_not_share_one() {
    let world = World::new(FormatVersion::V3);
    let database = world.database();
    for name in ["default.t", "t"] {
        let schema = TableSchema::builder(name)
            .column("id", ColumnType::Int64, false)
            .primary_key(["id"]);
        database.create_table(schema.build().unwrap()).unwrap();
    }
    let error = world
        .exporter(&database)
        .await
        .unwrap()
        .tick(&database.snapshot())
        .await
        .unwrap_err();
    // Whichever comes second.
    let reason = "belongs to the table '";
    assert!(error.to_string().contains(reason), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_makes_nothing() {
    let world = World::new(FormatVersion::V3);
    let error = IcebergReader::open(&world.config()).await.unwrap_err();
    assert!(
        matches!(&error, ExportError::Unavailable { place, .. } if place.contains("catalog.db")),
        "{error}"
    );
    assert!(!world.path("warehouse").exists());
}

/// Rows that others append stand in the way of an export unless the table's settings let them be.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_appends_are_kept_where_the_settings_say_so() {
    let (world, database) = exported().await;
    let table = notes(&database);
    let catalog = world.catalog().await;
    foreign_snapshot(catalog.as_ref()).await;
    write_notes(&database, &table, [(1, "b".to_owned())], &[]);
    let mut config = world.config();
    let error = moonshine_export::Exporter::open(database.clone(), &config)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("foreign_appends"), "{error}");
    let all = config.tables.entry("*".to_owned()).or_default();
    all.foreign_appends = Some(moonshine_export::ForeignAppends::Keep);
    let mut exporter = moonshine_export::Exporter::open(database.clone(), &config)
        .await
        .unwrap();
    let exports = exporter.tick(&database.snapshot()).await.unwrap();
    assert_eq!(exports.len(), 1);
    world.check_same(&database).await;
    let found = current(catalog.as_ref()).await;
    let kept = found.metadata.snapshot_by_id(4711);
    assert!(kept.is_some(), "it stays in the history");
    assert!(database.pending_exports().is_empty());
}
