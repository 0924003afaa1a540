//! An error belongs to its table: the others stay fresh, and it is exported by itself once the cause is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use iceberg::TableIdent;
use moonshine_engine::{ColumnType, Database, Table, TableSchema, Value};
use moonshine_export::catalog::{
    CatalogTable, Change, CommitOutcome, Guard, NewTable, TableCatalog,
};
use moonshine_export::environment::Environment;
use moonshine_export::{ExportError, Exporter, FormatVersion, Pace, SettingsByTable, TableExport};
use uuid::Uuid;

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

/// A catalog that answers no commit to one table for as long as it hangs; each reaches it all the same.
#[derive(Debug)]
struct Hanging {
    catalog: Arc<SimulatedCatalog>,
    table: TableIdent,
    hangs: AtomicBool,
}

#[async_trait]
impl TableCatalog for Hanging {
    fn warehouse(&self) -> Option<&str> {
        self.catalog.warehouse()
    }

    fn guard(&self) -> Guard {
        self.catalog.guard()
    }

    async fn list(&self) -> Result<Vec<TableIdent>, ExportError> {
        self.catalog.list().await
    }

    async fn load(&self, ident: &TableIdent) -> Result<Option<CatalogTable>, ExportError> {
        self.catalog.load(ident).await
    }

    async fn create(
        &self,
        ident: &TableIdent,
        table: NewTable,
        id: Uuid,
    ) -> Result<CatalogTable, ExportError> {
        self.catalog.create(ident, table, id).await
    }

    async fn commit(&self, base: &CatalogTable, change: &Change, id: Uuid) -> CommitOutcome {
        let outcome = self.catalog.commit(base, change, id).await;
        if base.ident == self.table && self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        outcome
    }

    async fn drop_table(&self, ident: &TableIdent) -> Result<bool, ExportError> {
        self.catalog.drop_table(ident).await
    }
}

fn connect(database: &Database, catalog: &Arc<impl TableCatalog + 'static>) -> Exporter {
    let settings: SettingsByTable = settings(FormatVersion::V3);
    Exporter::with_catalog(
        database.clone(),
        catalog.clone(),
        settings,
        Environment::default(),
    )
}

/// Exports what is due.
async fn tick_due(exporter: &mut Exporter) -> Vec<TableExport> {
    exporter.begin_due(PACE);
    exporter.finish().await.unwrap()
}

/// Ticks until everything is exported.
async fn tick_until_exported(exporter: &mut Exporter, database: &Database) {
    while !exporter.is_exported_up_to(database.durable_seq()) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        tick_due(exporter).await;
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
    let exports = tick_due(&mut exporter).await;
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
        let exports = tick_due(&mut exporter).await;
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
        let exports = tick_due(&mut exporter).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_table_holds_up_no_other_and_is_given_up_at_last() {
    let world = World::new(FormatVersion::V3);
    let database = world.database();
    let tables = tables(&database, 5);
    let simulated = SimulatedCatalog::new(Guard::Requirements, 7);
    simulated.calm();
    let catalog = Arc::new(Hanging {
        catalog: simulated.clone(),
        table: ident("shop", "t00"),
        hangs: AtomicBool::new(false),
    });
    let mut exporter = connect(&database, &catalog);
    write(&database, &tables, 0);
    tick_until_exported(&mut exporter, &database).await;

    catalog.hangs.store(true, Ordering::SeqCst);
    exporter.set_standstill_max(Duration::from_millis(500));
    let mut exports: BTreeMap<String, usize> = BTreeMap::new();
    let mut id = 0;
    while exports.len() < 4 || exports.values().any(|count| *count < 3) {
        id += 1;
        write(&database, &tables, id);
        exporter.begin_due(PACE);
        tokio::time::sleep(Duration::from_millis(5)).await;
        for export in exporter.ended().unwrap() {
            *exports.entry(export.table).or_default() += 1;
        }
    }
    assert!(!exports.contains_key("shop.t00"), "{exports:?}");

    let standing = || exporter.standings()["shop.t00"].clone();
    while standing().failures == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let standing = standing();
    let reason = standing.reason.as_deref().unwrap();
    assert!(
        !standing.is_stopped && reason.contains("went on"),
        "{reason}"
    );
    catalog.hangs.store(false, Ordering::SeqCst);
    exporter.set_standstill_max(Duration::from_secs(600));
    tick_until_exported(&mut exporter, &database).await;
    assert_eq!(exporter.standings()["shop.t00"].failures, 0);
    world.check_same_in(&database, simulated).await;
}
