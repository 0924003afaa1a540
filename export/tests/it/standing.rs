//! An error belongs to its table: the others stay fresh, and it is exported by itself once the cause is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use iceberg::spec::{MAIN_BRANCH, SnapshotReference, SnapshotRetention};
use iceberg::{TableIdent, TableUpdate};
use moonshine_engine::{ColumnType, Database, Table, TableSchema, Value};
use moonshine_export::catalog::{
    CatalogTable, Change, CommitOutcome, Guard, NewTable, TableCatalog,
};
use moonshine_export::environment::{Clock, Environment, SystemClock};
use moonshine_export::{
    ExportError, Exporter, FormatVersion, MaintenanceSettings, Standing, TableSettings,
};
use parking_lot::Mutex;
use uuid::Uuid;

use crate::support::{PACE, World, ident, tick_due};
use moonshine_sim::lake::{Fault, SimulatedCatalog};

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

/// A catalog that answers nothing about one table for as long as it hangs. Commits reach it all the same.
#[derive(Debug)]
struct Hanging {
    catalog: Arc<SimulatedCatalog>,
    table: TableIdent,
    /// Whether commits to it hang.
    hangs: AtomicBool,
    /// Commits that hang, or hung.
    commits: AtomicUsize,
    /// Whether looks at it hang.
    looks_hang: AtomicBool,
    /// Looks that hang, or hung.
    looks: AtomicUsize,
    /// Whether looks at it fail.
    looks_fail: AtomicBool,
    /// The snapshot that it is rolled back to behind the next commit.
    roll_back_to: Mutex<Option<i64>>,
}

impl Hanging {
    fn new(catalog: &Arc<SimulatedCatalog>) -> Arc<Hanging> {
        Arc::new(Hanging {
            catalog: catalog.clone(),
            table: ident("shop", "t00"),
            hangs: AtomicBool::new(false),
            commits: AtomicUsize::new(0),
            looks_hang: AtomicBool::new(false),
            looks: AtomicUsize::new(0),
            looks_fail: AtomicBool::new(false),
            roll_back_to: Mutex::default(),
        })
    }

    /// Makes a snapshot of the table its newest.
    async fn roll_to(&self, snapshot_id: i64) {
        let mut is_done = false;
        // What is on its way may come in between.
        while !is_done {
            let found = self.catalog.load(&self.table).await.unwrap().unwrap();
            let retention = SnapshotRetention::branch(None, None, None);
            let update = TableUpdate::SetSnapshotRef {
                ref_name: MAIN_BRANCH.to_owned(),
                reference: SnapshotReference::new(snapshot_id, retention),
            };
            let change = Change::of(&found.metadata, vec![update]);
            let outcome = self.catalog.commit(&found, &change, Uuid::new_v4()).await;
            is_done = matches!(outcome, CommitOutcome::Committed(_));
        }
    }

    async fn wait(&self, hangs: &AtomicBool) {
        while hangs.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
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
        if *ident == self.table && self.looks_fail.load(Ordering::SeqCst) {
            return Err(ExportError::Unavailable {
                place: "catalog".into(),
                reason: "not reached".into(),
            });
        }
        let found = self.catalog.load(ident).await;
        if *ident == self.table && self.looks_hang.load(Ordering::SeqCst) {
            self.looks.fetch_add(1, Ordering::SeqCst);
            self.wait(&self.looks_hang).await;
        }
        found
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
        if base.ident == self.table {
            let snapshot_id = self.roll_back_to.lock().take();
            if let Some(snapshot_id) = snapshot_id {
                self.roll_to(snapshot_id).await;
            }
            if self.hangs.load(Ordering::SeqCst) {
                self.commits.fetch_add(1, Ordering::SeqCst);
            }
            self.wait(&self.hangs).await;
        }
        outcome
    }

    async fn drop_table(&self, ident: &TableIdent) -> Result<bool, ExportError> {
        self.catalog.drop_table(ident).await
    }
}

fn connect(database: &Database, catalog: &Arc<impl TableCatalog + 'static>) -> Exporter {
    connect_with(database, catalog, MaintenanceSettings::default())
}

fn connect_with(
    database: &Database,
    catalog: &Arc<impl TableCatalog + 'static>,
    maintenance: MaintenanceSettings,
) -> Exporter {
    let settings = TableSettings {
        maintenance,
        ..TableSettings::default()
    };
    Exporter::with_catalog(
        database.clone(),
        catalog.clone(),
        settings.into(),
        Environment::default(),
    )
}

/// Ticks until everything is exported.
async fn tick_until_exported(exporter: &mut Exporter, database: &Database) {
    while !exporter.is_exported_up_to(database.durable_seq()) {
        let standings = exporter.standings();
        let is_hopeless = |standing: &&Standing| standing.failures > 5;
        if let Some(standing) = standings.values().find(is_hopeless) {
            panic!("{standing:?}");
        }
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
    let catalog = Hanging::new(&simulated);
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

/// Neither waits for the other: what maintenance gets no answer to, and an export that gets none.
#[tokio::test(flavor = "multi_thread")]
async fn maintenance_and_exports_do_not_wait_for_each_other() {
    let world = World::new(FormatVersion::V3);
    let database = world.database();
    let tables = tables(&database, 2);
    let simulated = SimulatedCatalog::new(Guard::Requirements, 7);
    simulated.calm();
    let catalog = Hanging::new(&simulated);
    let maintenance = MaintenanceSettings {
        snapshots_min: 1,
        snapshots_max: 1,
        ..MaintenanceSettings::default()
    };
    let mut exporter = connect_with(&database, &catalog, maintenance);
    for id in 0..30 {
        write(&database, &tables, id);
        exporter.tick(&database.snapshot()).await.unwrap();
    }
    let snapshots = async |name: &str| {
        let found = simulated.load(&ident("shop", name)).await.unwrap().unwrap();
        found.metadata.snapshots().count()
    };

    catalog.looks_hang.store(true, Ordering::SeqCst);
    let maintainer = exporter.maintainer();
    let mut task = tokio::spawn(async move { maintainer.run_due().await });
    while catalog.looks.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for id in 30..33 {
        write(&database, &tables, id);
        let exports = exporter.tick(&database.snapshot()).await.unwrap();
        assert_eq!(exports.len(), 2);
    }
    assert!(!task.is_finished());
    // It looked at the table as it was before an export, so it gives way; a few times, and then no more.
    let mut id = 33;
    loop {
        catalog.looks_hang.store(false, Ordering::SeqCst);
        task.await.unwrap();
        if snapshots("t00").await < 20 {
            break;
        }
        assert!(id < 60, "exports keep maintenance from ever being done");
        let looks = catalog.looks.load(Ordering::SeqCst);
        catalog.looks_hang.store(true, Ordering::SeqCst);
        let maintainer = exporter.maintainer();
        task = tokio::spawn(async move { maintainer.run_due().await });
        while catalog.looks.load(Ordering::SeqCst) == looks {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        write(&database, &tables, id);
        exporter.tick(&database.snapshot()).await.unwrap();
        id += 1;
    }
    assert!(id > 33, "it gave way to the first exports");

    for _ in 0..30 {
        id += 1;
        write(&database, &tables, id);
        exporter.tick(&database.snapshot()).await.unwrap();
    }
    let before = snapshots("t01").await;
    catalog.hangs.store(true, Ordering::SeqCst);
    write(&database, &tables, id + 1);
    while catalog.commits.load(Ordering::SeqCst) == 0 {
        exporter.begin_due(PACE);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Its own export may come in between.
    while snapshots("t01").await >= before {
        exporter.maintainer().run_due().await;
    }
    catalog.hangs.store(false, Ordering::SeqCst);
    exporter.finish().await.unwrap();
    tick_until_exported(&mut exporter, &database).await;
    world.check_same_in(&database, simulated.clone()).await;
}

/// A clock that is a day ahead.
#[derive(Debug)]
struct ClockAhead;

#[async_trait]
impl Clock for ClockAhead {
    fn now_ms(&self) -> i64 {
        SystemClock.now_ms() + 86_400_000
    }

    async fn pause(&self, duration_ms: u64) {
        SystemClock.pause(duration_ms).await;
    }
}

/// An exporter that takes its epoch without an answer about a table, and finds a later one there, is not fenced by it.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_found_late_with_a_later_epoch_ends_nothing() {
    for guard in [Guard::Metadata, Guard::Requirements] {
        let world = World::new(FormatVersion::V3);
        let database = world.database();
        let tables = tables(&database, 2);
        let simulated = SimulatedCatalog::new(guard, 7);
        simulated.calm();
        let catalog = Hanging::new(&simulated);
        write(&database, &tables, 1);
        let mut first = connect(&database, &catalog);
        first
            .export(&tables[1], &database.snapshot())
            .await
            .unwrap();
        let environment = Environment {
            clock: Arc::new(ClockAhead),
            ..Environment::default()
        };
        let mut ahead = Exporter::with_catalog(
            database.clone(),
            catalog.clone(),
            TableSettings::default().into(),
            environment,
        );
        ahead
            .export(&tables[0], &database.snapshot())
            .await
            .unwrap();

        write(&database, &tables, 2);
        let mut exporter = connect(&database, &catalog);
        catalog.looks_fail.store(true, Ordering::SeqCst);
        assert_eq!(tick_due(&mut exporter).await.len(), 1);
        assert_eq!(exporter.standings()["shop.t00"].failures, 1);
        catalog.looks_fail.store(false, Ordering::SeqCst);
        tick_until_exported(&mut exporter, &database).await;
        world.check_same_in(&database, simulated.clone()).await;

        write(&database, &tables, 3);
        // It does not know of the export of another one, and then of that one.
        let export = ahead.export(&tables[0], &database.snapshot()).await;
        export.unwrap_err();
        let fenced = ahead.export(&tables[0], &database.snapshot()).await;
        assert!(
            matches!(fenced, Err(ExportError::Fenced { .. })),
            "{fenced:?}"
        );
        tick_until_exported(&mut exporter, &database).await;
        world.check_same_in(&database, simulated).await;
    }
}

/// Invariant 4 "once": a commit that is late arrives after the table was rolled back and forth. Its files are there.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_commit_behind_a_rollback_that_was_undone_has_its_files() {
    for seed in 0..8 {
        let world = World::new(FormatVersion::V3);
        let database = world.database();
        let tables = tables(&database, 1);
        let simulated = SimulatedCatalog::new(Guard::Requirements, seed);
        simulated.calm();
        let catalog = Hanging::new(&simulated);
        let mut exporter = connect(&database, &catalog);
        let mut snapshot_ids = Vec::new();
        for id in 0..2 {
            write(&database, &tables, id);
            let exports = exporter.tick(&database.snapshot()).await.unwrap();
            snapshot_ids.push(exports[0].snapshot_id);
        }
        write(&database, &tables, 2);
        *catalog.roll_back_to.lock() = Some(snapshot_ids[0]);
        simulated.plan(&[Fault::Late], &[]);
        let error = exporter.tick(&database.snapshot()).await.unwrap_err();
        assert!(matches!(error, ExportError::Foreign { .. }), "{error}");

        catalog.roll_to(snapshot_ids[1]).await;
        // What is on its way arrives.
        simulated.calm();
        exporter.tick(&database.snapshot()).await.unwrap();
        world.check_same_in(&database, simulated).await;
    }
}
