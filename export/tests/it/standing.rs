//! An error belongs to its table: the others stay fresh, and it is exported by itself once the cause is gone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use moonshine_engine::{ColumnType, Database, Table, TableSchema, Value};
use moonshine_export::catalog::{Guard, TableCatalog};
use moonshine_export::environment::Environment;
use moonshine_export::{Exporter, FormatVersion, Pace, SettingsByTable};

use crate::simulation::catalog::SimulatedCatalog;
use crate::support::{World, ident, settings};

const PACE: Pace = Pace {
    freshness_ms: 0,
    is_full: false,
};

fn tables(database: &Database, count: usize) -> Vec<Table> {
    let table = |number| {
        let schema = TableSchema::builder(format!("shop.t{number:02}"))
            .column("id", ColumnType::Int64, false)
            .primary_key(["id"]);
        database.create_table(schema.build().unwrap()).unwrap()
    };
    (0..count).map(table).collect()
}

/// A row in each table.
fn write(database: &Database, tables: &[Table], id: i64) {
    let mut transaction = database.begin();
    for table in tables {
        transaction.upsert(table, vec![Value::Int64(id)]).unwrap();
    }
    transaction.commit().unwrap();
}

fn connect(database: &Database, catalog: &Arc<SimulatedCatalog>) -> Exporter {
    let settings: SettingsByTable = settings(FormatVersion::V3);
    Exporter::with_catalog(
        database.clone(),
        catalog.clone(),
        settings,
        Environment::default(),
    )
}

/// Ticks until everything is exported.
async fn tick_until_exported(exporter: &mut Exporter, database: &Database) {
    while !exporter.is_exported_up_to(database.durable_seq()) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        exporter.tick_due(&database.snapshot(), PACE).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_table_starves_no_other() {
    let world = World::new(FormatVersion::V3);
    let database = world.database();
    let tables = tables(&database, 50);
    write(&database, &tables, 1);
    let catalog = SimulatedCatalog::new(Guard::Requirements, 7);
    catalog.calm();
    let mut exporter = connect(&database, &catalog);
    assert_eq!(exporter.tick(&database.snapshot()).await.unwrap().len(), 50);
    assert!(exporter.is_exported_up_to(database.durable_seq()));

    let lost = ident("shop", "t00");
    let dropped = catalog.load(&lost).await.unwrap().unwrap();
    catalog.drop_table(&lost).await.unwrap();
    // Another exporter looks at every table.
    let mut exporter = connect(&database, &catalog);
    write(&database, &tables, 2);
    let exports = exporter.tick_due(&database.snapshot(), PACE).await.unwrap();
    assert_eq!(exports.len(), 49, "all but the dropped one");
    let standings = exporter.standings();
    let bad = standings.values().filter(|standing| standing.failures > 0);
    assert_eq!(bad.count(), 1);
    let standing = &standings["shop.t00"];
    let reason = standing.reason.as_deref().unwrap();
    assert!(standing.is_stopped && reason.contains("gone"), "{reason}");
    assert!(!exporter.is_exported_up_to(database.durable_seq()));
    write(&database, &tables, 3);
    let mut exported = BTreeSet::new();
    while exported.len() < 49 {
        let exports = exporter.tick_due(&database.snapshot(), PACE).await.unwrap();
        exported.extend(exports.into_iter().map(|export| export.table));
    }
    assert!(!exported.contains("shop.t00"));
    let error = exporter.tick(&database.snapshot()).await.unwrap_err();
    assert!(
        error.to_string().contains("gone"),
        "a tick of all says so: {error}"
    );

    catalog.put_back(dropped);
    tick_until_exported(&mut exporter, &database).await;
    assert_eq!(exporter.standings()["shop.t00"].failures, 0);
    world.check_same_in(&database, catalog.clone()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_that_is_down_is_no_end() {
    let world = World::new(FormatVersion::V3);
    let database = world.database();
    let tables = tables(&database, 3);
    write(&database, &tables, 1);
    let catalog = SimulatedCatalog::new(Guard::Metadata, 7);
    catalog.calm();
    catalog.is_down.store(true, Ordering::SeqCst);
    let mut exporter = connect(&database, &catalog);
    for id in 2..5 {
        write(&database, &tables, id);
        let exports = exporter.tick_due(&database.snapshot(), PACE).await.unwrap();
        assert!(exports.is_empty());
    }
    let standings = exporter.standings();
    assert!(
        standings
            .values()
            .all(|standing| standing.failures > 0 && !standing.is_stopped)
    );
    catalog.is_down.store(false, Ordering::SeqCst);
    tick_until_exported(&mut exporter, &database).await;
    world.check_same_in(&database, catalog.clone()).await;
}
