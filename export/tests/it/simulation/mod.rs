//! Invariants 4 "once" and 6 "monotonic" beside a catalog that delays, repeats, refuses and forgets to answer, as servers
//! behind networks do, and a store that is slow and fails now and then; for catalogs that compare all of the metadata and for those
//! that compare the requirements alone.
//!
//! `MOONSHINE_TEST_SEED=n` replays one history.

mod branch;
mod rewrite;

use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use iceberg::TableUpdate;
use iceberg::spec::TableMetadata;
use moonshine_engine::{Database, Table};
use moonshine_export::catalog::{Change, CommitOutcome, Guard, TableCatalog};
use moonshine_export::environment::{Environment, TokioWork, Work};
use moonshine_export::{
    ExportError, Exporter, FormatVersion, MaintenanceSettings, SettingsByTable, TableSettings,
};
use parking_lot::Mutex;
use uuid::Uuid;

use crate::ownership::roll_forward;
use crate::support::{Random, VERSIONS, World, copy_folder, ident, notes, settings, write_notes};
use moonshine_sim::lake::{
    Deed, DropAfter, FAULTS, Fault, InstantClock, SeededIdentities, SimulatedCatalog,
};

pub(crate) const GUARDS: [Guard; 2] = [Guard::Metadata, Guard::Requirements];

/// Settings that keep few snapshots.
fn kept_settings(version: FormatVersion) -> SettingsByTable {
    let settings = TableSettings {
        maintenance: MaintenanceSettings {
            snapshots_min: 2,
            snapshots_max: 12,
            ..MaintenanceSettings::default()
        },
        ..settings(version).of("shop.notes").clone()
    };
    settings.into()
}

async fn open(
    database: &Database,
    version: FormatVersion,
    catalog: &Arc<SimulatedCatalog>,
) -> Result<Exporter, ExportError> {
    open_as(kept_settings(version), database, catalog).await
}

/// One of these settings, for which no time passes and whose ids follow from the catalog's seed.
async fn open_as(
    settings: SettingsByTable,
    database: &Database,
    catalog: &Arc<SimulatedCatalog>,
) -> Result<Exporter, ExportError> {
    let environment = Environment {
        clock: Arc::new(InstantClock),
        identities: Arc::new(SeededIdentities::new(catalog.next_seed())),
        work: ASIDE.with(|aside| Arc::new(aside.clone())),
    };
    Exporter::open_with(database.clone(), catalog.clone(), settings, environment).await
}

thread_local! {
    /// What exporters do aside that this test opened: each test has a thread of its own.
    static ASIDE: CountedWork = CountedWork::default();
}

/// Counts what is under way.
#[derive(Clone, Debug, Default)]
struct CountedWork(Arc<AtomicUsize>);

/// One that is counted, however it ends.
struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        UnderWay(count.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Work for CountedWork {
    fn spawn(&self, work: Box<dyn FnOnce() + Send>) {
        let under_way = UnderWay::new(&self.0);
        TokioWork.spawn(Box::new(move || {
            let _under_way = under_way;
            work();
        }));
    }

    fn wait(&self, awaited: Pin<&mut (dyn Future<Output = ()> + Send)>) {
        TokioWork.wait(awaited);
    }

    async fn limit(&self, limit: std::time::Duration) {
        TokioWork.limit(limit).await;
    }
}

/// Opens an exporter however often it takes.
async fn open_at_last(
    database: &Database,
    version: FormatVersion,
    catalog: &Arc<SimulatedCatalog>,
) -> Exporter {
    loop {
        match open(database, version, catalog).await {
            Ok(exporter) => return exporter,
            Err(error) => assert_passing(&error),
        }
    }
}

fn assert_passing(error: &ExportError) {
    assert!(
        matches!(
            error,
            // The engine's part of a dropped tick may come to its end after the next one looked.
            ExportError::Unavailable { .. }
                | ExportError::Conflict { .. }
                | ExportError::Engine(moonshine_engine::Error::Usage(_))
        ),
        "{error}"
    );
}

/// Each commit that is left is in the table's history once, and no position moves back.
async fn check_history(catalog: &SimulatedCatalog) {
    let found = catalog.load(&ident("shop", "notes")).await.unwrap();
    let metadata: &TableMetadata = &found.unwrap().metadata;
    let mut commits = HashSet::new();
    let mut seq_after = u64::MAX;
    let mut snapshot = metadata.current_snapshot();
    while let Some(current) = snapshot {
        let summary = &current.summary().additional_properties;
        assert!(commits.insert(summary["moonshine.commit-id"].clone()));
        let seq: u64 = summary["moonshine.commit-seq"].parse().unwrap();
        assert!(seq <= seq_after, "{seq} before {seq_after}");
        seq_after = seq;
        snapshot = current
            .parent_snapshot_id()
            .and_then(|id| metadata.snapshot_by_id(id));
    }
    assert_eq!(
        commits.len(),
        metadata.snapshots().count(),
        "no snapshot aside"
    );
}

/// No manifest holds an equality delete, and what deletes there are is as it should be.
async fn check_manifests(world: &World, catalog: &SimulatedCatalog) {
    let found = catalog.load(&ident("shop", "notes")).await.unwrap();
    let found = found.unwrap();
    world
        .check_manifests_in(&found.metadata, &found.file_io)
        .await;
}

fn random_writes(database: &Database, table: &Table, random: &mut Random) {
    for _ in 0..random.below(3) {
        let rows: BTreeMap<i64, String> = (0..random.below(30))
            .map(|_| (random.below(60) as i64, format!("{}", random.next())))
            .collect();
        let deleted: Vec<i64> = (0..random.below(8))
            .map(|_| random.below(60) as i64)
            .collect();
        let rows = rows.into_iter().filter(|(id, _)| !deleted.contains(id));
        write_notes(database, table, rows.collect::<Vec<_>>(), &deleted);
    }
}

async fn random_history(guard: Guard, version: FormatVersion, seed: u64) -> BTreeMap<String, u32> {
    let world = World::new(version);
    let database = world.database();
    let table = notes(&database);
    let catalog = SimulatedCatalog::new(guard, seed);
    let mut random = Random(seed ^ 0xABCD);
    catalog.disturb(true);
    let mut exporter = open_at_last(&database, version, &catalog).await;
    for _ in 0..12 {
        random_writes(&database, &table, &mut random);
        let snapshot = database.snapshot();
        let polls_left = match random.below(3) {
            0 => random.below(40),
            _ => u64::MAX,
        };
        let tick = DropAfter {
            inner: Box::pin(exporter.tick(&snapshot)),
            polls_left,
        };
        match tick.await {
            Some(Err(error)) => assert_passing(&error),
            Some(Ok(_)) => {
                catalog.disturb(false);
                world.check_same_in(&database, catalog.clone()).await;
                catalog.disturb(true);
            }
            None => settled().await,
        }
        if random.below(2) == 0
            && let Err(error) = exporter.maintainer().run(None, false).await
        {
            assert_passing(&error);
        }
        if random.below(3) == 0 {
            let mut zombie = exporter;
            exporter = open_at_last(&database, version, &catalog).await;
            write_notes(&database, &table, [(61, format!("{}", random.next()))], &[]);
            // Where there is no table yet there is nothing to take over, and who makes it first exports first.
            let is_taken = !catalog.list().await.unwrap().is_empty();
            match zombie.tick(&database.snapshot()).await {
                Err(ExportError::Fenced { .. }) => {}
                Err(error) => assert_passing(&error),
                Ok(exports) => assert!(!is_taken, "a zombie exported: {exports:?}"),
            }
        }
    }
    catalog.calm();
    // A commit of unknown end is looked up by the tick after.
    let snapshot = database.snapshot();
    exporter.tick(&snapshot).await.unwrap();
    exporter.tick(&snapshot).await.unwrap();
    world.check_same_in(&database, catalog.clone()).await;
    check_history(&catalog).await;
    assert!(catalog.store().failures() > 0);
    check_manifests(&world, &catalog).await;
    catalog.seen()
}

/// Waits until the engine's part of a dropped tick, which goes on on a thread of its own, is over.
async fn settled() {
    let under_way = ASIDE.with(|aside| aside.0.clone());
    while under_way.load(Ordering::SeqCst) > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_and_nothing_comes_twice() {
    let seeds: Vec<u64> = match std::env::var("MOONSHINE_TEST_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (1..=4).collect(),
    };
    let mut seen = BTreeMap::new();
    for &seed in &seeds {
        for guard in GUARDS {
            for version in VERSIONS {
                println!("MOONSHINE_TEST_SEED={seed} {guard:?} {version:?}");
                for (fault, count) in random_history(guard, version, seed).await {
                    *seen.entry(fault).or_insert(0) += count;
                }
            }
        }
    }
    assert!(seeds.len() == 1 || seen.len() == FAULTS.len(), "{seen:?}");
}

/// A table whose one row was exported to a catalog that does as it is told.
struct Exported {
    world: World,
    database: Database,
    table: Table,
    catalog: Arc<SimulatedCatalog>,
    exporter: Exporter,
}

impl Exported {
    async fn new(guard: Guard) -> Self {
        let world = World::new(FormatVersion::V3);
        let database = world.database();
        let table = notes(&database);
        let catalog = SimulatedCatalog::new(guard, 7);
        catalog.calm();
        let mut exporter = open(&database, FormatVersion::V3, &catalog).await.unwrap();
        write_notes(&database, &table, [(1, "old".to_owned())], &[]);
        exporter.tick(&database.snapshot()).await.unwrap();
        Exported {
            world,
            database,
            table,
            catalog,
            exporter,
        }
    }
}

/// A commit that is still on its way, or that a conflict may hide, is not given up because of what happens after it.
#[tokio::test(flavor = "multi_thread")]
async fn what_may_have_happened_stays_pending() {
    let courses = [
        (&[Fault::Late, Fault::Busy][..], &[false, true][..]),
        (&[Fault::SentTwice], &[true]),
        (&[Fault::LostAnswer], &[true]),
        (&[Fault::CopyRefused], &[true]),
        (&[Fault::LateConflict, Fault::Refused], &[false]),
        (&[Fault::LateConflict; 8], &[false; 8]),
    ];
    for guard in GUARDS {
        for (faults, looks_fail) in courses {
            let Exported {
                world,
                database,
                table,
                catalog,
                mut exporter,
            } = Exported::new(guard).await;
            write_notes(&database, &table, [(1, "new".to_owned())], &[]);
            catalog.plan(faults, looks_fail);
            let error = exporter.tick(&database.snapshot()).await.unwrap_err();
            assert_passing(&error);
            assert_eq!(database.pending_exports().len(), 1, "{guard:?} {faults:?}");
            catalog.calm();
            assert!(
                exporter
                    .tick(&database.snapshot())
                    .await
                    .unwrap()
                    .is_empty()
            );
            world.check_same_in(&database, catalog.clone()).await;
            check_history(&catalog).await;
        }
    }
}

/// A catalog that answers a fence with the table as it was has fenced nothing: the commit on its way may still arrive, and
/// its files must be there then.
#[tokio::test(flavor = "multi_thread")]
async fn a_fence_that_the_table_does_not_show_does_not_count() {
    for guard in GUARDS {
        let Exported {
            world,
            database,
            table,
            catalog,
            mut exporter,
        } = Exported::new(guard).await;
        write_notes(&database, &table, [(1, "new".to_owned())], &[]);
        catalog.plan(&[Fault::Late, Fault::Busy], &[false, true]);
        let error = exporter.tick(&database.snapshot()).await.unwrap_err();
        assert_passing(&error);
        // The first look of a tick that settles, and one after each attempt.
        catalog.plan(&[Fault::Ignored; 8], &[false; 9]);
        let error = exporter.tick(&database.snapshot()).await.unwrap_err();
        assert_passing(&error);
        assert_eq!(database.pending_exports().len(), 1, "{guard:?}");
        catalog.calm();
        let exports = exporter.tick(&database.snapshot()).await.unwrap();
        assert!(exports.is_empty(), "it took place: {exports:?}");
        world.check_same_in(&database, catalog.clone()).await;
    }
}

/// A rollback by hand does not end a commit that is on its way: once it is undone, that may arrive, and needs its files.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_on_its_way_outlasts_a_rollback() {
    for arrives_first in [true, false] {
        let Exported {
            world,
            database,
            table,
            catalog,
            mut exporter,
        } = Exported::new(Guard::Requirements).await;
        write_notes(&database, &table, [(2, "old".to_owned())], &[]);
        exporter.tick(&database.snapshot()).await.unwrap();
        let head = database.exported(&table).unwrap().token;
        write_notes(&database, &table, [(1, "new".to_owned())], &[]);
        catalog.plan(&[Fault::RolledBack], &[false]);
        let error = exporter.tick(&database.snapshot()).await.unwrap_err();
        assert!(matches!(error, ExportError::Foreign { .. }), "{error}");
        assert_eq!(database.pending_exports().len(), 1);
        catalog.plan(&[Fault::None], &[false]);
        roll_forward(catalog.as_ref(), head.parse().unwrap()).await;
        if arrives_first {
            catalog.calm();
        }
        exporter.tick(&database.snapshot()).await.unwrap();
        catalog.calm();
        exporter.tick(&database.snapshot()).await.unwrap();
        assert!(database.pending_exports().is_empty());
        world.check_same_in(&database, catalog.clone()).await;
        check_history(&catalog).await;
    }
}

/// Invariant 4, "once": a refusal is an answer to one copy of a request, and its other copy may have been taken.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_before_its_copy_was_refused_counts() {
    for guard in GUARDS {
        let Exported {
            world,
            database,
            table,
            catalog,
            mut exporter,
        } = Exported::new(guard).await;
        write_notes(&database, &table, [(1, "new".to_owned())], &[]);
        catalog.plan(&[Fault::CopyRefused], &[false]);
        let exports = exporter.tick(&database.snapshot()).await.unwrap();
        assert_eq!(exports.len(), 1, "{guard:?}");
        assert!(database.pending_exports().is_empty());
        catalog.calm();
        world.check_same_in(&database, catalog.clone()).await;
        check_history(&catalog).await;
    }
}

/// What a refusal is about may be that the table became another since the last look.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_refusal_the_table_is_looked_at_anew() {
    let Exported {
        world: _world,
        database,
        table,
        catalog,
        mut exporter,
    } = Exported::new(Guard::Requirements).await;
    write_notes(&database, &table, [(1, "new".to_owned())], &[]);
    catalog.plan(&[Fault::Refused], &[]);
    let error = exporter.tick(&database.snapshot()).await.unwrap_err();
    assert_passing(&error);
    assert!(database.pending_exports().is_empty(), "it did not happen");
    catalog.drop_table(&ident("shop", "notes")).await.unwrap();
    let error = exporter.tick(&database.snapshot()).await.unwrap_err();
    assert!(
        matches!(&error, ExportError::Foreign { reason, .. } if reason.contains("gone")),
        "{error}"
    );
}

/// Behind a fence, others may expire the snapshot of the last export: the fence has its rows.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_read_though_its_snapshot_expired() {
    let Exported {
        world,
        database,
        table,
        catalog,
        exporter: _older,
    } = Exported::new(Guard::Requirements).await;
    open(&database, FormatVersion::V3, &catalog).await.unwrap();
    let exported = database.exported(&table).unwrap().token;
    let name = ident("shop", "notes");
    let fenced = catalog.load(&name).await.unwrap().unwrap();
    let snapshot_ids = vec![exported.parse().unwrap()];
    let updates = vec![TableUpdate::RemoveSnapshots { snapshot_ids }];
    let change = Change::of(&fenced.metadata, updates);
    let outcome = catalog.commit(&fenced, &change, Uuid::from_u128(1)).await;
    assert!(matches!(outcome, CommitOutcome::Committed(_)));
    world.check_same_in(&database, catalog.clone()).await;
}

/// Has the process die between any two steps of `act`, which ends after so many polls and says whether it is over; `begin`
/// brings about what it acts on. A database of what the folder held then goes on.
async fn crash_between_any_two_steps(
    begin: impl AsyncFn(&Database, &Table, &mut Exporter),
    act: impl AsyncFn(&Database, &mut Exporter, u64) -> bool,
) {
    for guard in GUARDS {
        for polls_left in 1.. {
            let world = World::new(FormatVersion::V3);
            let database = world.database();
            let table = notes(&database);
            let catalog = SimulatedCatalog::new(guard, 7);
            catalog.calm();
            let mut exporter = open(&database, FormatVersion::V3, &catalog).await.unwrap();
            begin(&database, &table, &mut exporter).await;
            let is_over = act(&database, &mut exporter, polls_left).await;
            settled().await;
            copy_folder(&world.path("database"), &world.path("crashed"));
            drop((table, exporter, database));

            let crashed = world.database_in("crashed");
            let mut exporter = open(&crashed, FormatVersion::V3, &catalog).await.unwrap();
            assert!(crashed.pending_exports().is_empty());
            exporter.tick(&crashed.snapshot()).await.unwrap();
            world.check_same_in(&crashed, catalog.clone()).await;
            let table = crashed.tables().remove(0);
            write_notes(&crashed, &table, [(5, "later".to_owned())], &[25, 45]);
            exporter.tick(&crashed.snapshot()).await.unwrap();
            world.check_same_in(&crashed, catalog.clone()).await;
            check_history(&catalog).await;
            if is_over {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_any_two_steps_of_a_tick() {
    let begin = async |database: &Database, table: &Table, exporter: &mut Exporter| {
        let rows = (0..50).map(|id| (id, "old".to_owned()));
        write_notes(database, table, rows, &[]);
        exporter.tick(&database.snapshot()).await.unwrap();
        let rows = (30..60).map(|id| (id, "new".to_owned()));
        write_notes(database, table, rows, &[1, 2]);
    };
    let act = async |database: &Database, exporter: &mut Exporter, polls_left: u64| {
        let snapshot = database.snapshot();
        let tick = DropAfter {
            inner: Box::pin(exporter.tick(&snapshot)),
            polls_left,
        };
        tick.await.is_some()
    };
    crash_between_any_two_steps(begin, act).await;
}

/// The process dies while the catalog has a commit at hand, before and after it takes place.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_within_the_catalog() {
    for guard in GUARDS {
        for fault in [Fault::HangBefore, Fault::HangAfter] {
            let Exported {
                world,
                database,
                table,
                catalog,
                mut exporter,
            } = Exported::new(guard).await;
            write_notes(&database, &table, [(1, "new".to_owned())], &[]);
            catalog.plan(&[fault], &[]);
            let snapshot = database.snapshot();
            tokio::select! {
                _ = exporter.tick(&snapshot) => panic!("it was to hang"),
                () = catalog.hung() => copy_folder(&world.path("database"), &world.path("crashed")),
            }
            drop((snapshot, table, exporter, database));
            let crashed = world.database_in("crashed");
            assert_eq!(crashed.pending_exports().len(), 1, "{guard:?} {fault:?}");
            let mut exporter = open(&crashed, FormatVersion::V3, &catalog).await.unwrap();
            let exports = exporter.tick(&crashed.snapshot()).await.unwrap();
            let is_exported_anew = fault == Fault::HangBefore;
            assert_eq!(
                exports.len(),
                usize::from(is_exported_anew),
                "{guard:?} {fault:?}"
            );
            world.check_same_in(&crashed, catalog.clone()).await;
            check_history(&catalog).await;
        }
    }
}

/// Two copies of a database whose exporters open at the same instant: one of them goes on, the other is fenced.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_open_at_once_one_goes_on() {
    for guard in GUARDS {
        let Exported {
            world,
            database,
            table,
            catalog,
            exporter,
        } = Exported::new(guard).await;
        settled().await;
        drop(exporter);
        copy_folder(&world.path("database"), &world.path("twin"));
        let twin = world.database_in("twin");
        let twin_table = notes(&twin);
        let (ours, theirs) = tokio::join!(
            open(&database, FormatVersion::V3, &catalog),
            open(&twin, FormatVersion::V3, &catalog)
        );
        write_notes(&database, &table, [(2, "ours".to_owned())], &[]);
        write_notes(&twin, &twin_table, [(2, "theirs".to_owned())], &[]);
        let mut outcomes = Vec::new();
        for (opened, database) in [(ours, &database), (theirs, &twin)] {
            outcomes.push(match opened {
                Ok(mut exporter) => exporter.tick(&database.snapshot()).await.map(drop),
                Err(error) => Err(error),
            });
        }
        let fenced = outcomes
            .iter()
            .filter(|outcome| matches!(outcome, Err(ExportError::Fenced { .. })));
        assert_eq!(fenced.count(), 1, "{guard:?} {outcomes:?}");
        let goes_on = if outcomes[0].is_ok() {
            &database
        } else {
            &twin
        };
        world.check_same_in(goes_on, catalog.clone()).await;
        check_history(&catalog).await;
    }
}

/// A zombie with a folder of its own, beside a catalog with faults: none of its rows come into the table once a newer exporter
/// took over.
#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_with_its_own_folder_is_fenced() {
    for guard in GUARDS {
        for seed in 1..=3 {
            let world = World::new(FormatVersion::V3);
            let database = world.database();
            let table = notes(&database);
            let catalog = SimulatedCatalog::new(guard, seed);
            let mut random = Random(seed ^ 0x5EED);
            let mut zombie = open_at_last(&database, FormatVersion::V3, &catalog).await;
            write_notes(&database, &table, [(1, "before".to_owned())], &[]);
            while database.exported(&table).is_none() {
                if let Err(error) = zombie.tick(&database.snapshot()).await {
                    assert_passing(&error);
                }
            }
            settled().await;
            copy_folder(&world.path("database"), &world.path("newer"));
            let newer = world.database_in("newer");
            let newer_table = notes(&newer);
            let mut exporter = open_at_last(&newer, FormatVersion::V3, &catalog).await;
            for number in 0..10 {
                write_notes(&database, &table, [(2, format!("zombie {number}"))], &[]);
                write_notes(&newer, &newer_table, [(2, format!("newer {number}"))], &[]);
                if random.below(2) == 0 {
                    match zombie.tick(&database.snapshot()).await {
                        Err(ExportError::Fenced { .. }) => {}
                        Err(error) => assert_passing(&error),
                        Ok(exports) => panic!("a zombie exported: {exports:?}"),
                    }
                }
                if let Err(error) = exporter.tick(&newer.snapshot()).await {
                    assert_passing(&error);
                }
            }
            catalog.calm();
            let snapshot = newer.snapshot();
            exporter.tick(&snapshot).await.unwrap();
            exporter.tick(&snapshot).await.unwrap();
            world.check_same_in(&newer, catalog.clone()).await;
            check_history(&catalog).await;
        }
    }
}

/// The export's snapshot expires behind a fence before the exporter finds out that it took place: the fence says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_found_though_its_snapshot_expired() {
    let Exported {
        world,
        database,
        table,
        catalog,
        mut exporter,
    } = Exported::new(Guard::Requirements).await;
    write_notes(&database, &table, [(1, "new".to_owned())], &[]);
    catalog.plan(&[Fault::LostAnswer], &[true]);
    let error = exporter.tick(&database.snapshot()).await.unwrap_err();
    assert_passing(&error);
    // The fence takes place too, and nobody hears of it.
    catalog.plan(&[Fault::LostAnswer], &[false, true]);
    let error = exporter.tick(&database.snapshot()).await.unwrap_err();
    assert_passing(&error);
    assert_eq!(database.pending_exports().len(), 1);
    let name = ident("shop", "notes");
    assert!(catalog.lake().disturb(&name, Deed::Expire { keep: 1 }));
    catalog.calm();
    let exports = exporter.tick(&database.snapshot()).await.unwrap();
    assert!(exports.is_empty(), "it took place: {exports:?}");
    world.check_same_in(&database, catalog.clone()).await;
}

/// Invariants 4 "once" and 6 "monotonic": an exporter that opened before there was a table does not take it from a newer one
/// that made it.
#[tokio::test(flavor = "multi_thread")]
async fn an_exporter_from_before_the_table_is_fenced() {
    for guard in GUARDS {
        let world = World::new(FormatVersion::V3);
        let database = world.database();
        let table = notes(&database);
        let catalog = SimulatedCatalog::new(guard, 7);
        catalog.calm();
        let mut zombie = open(&database, FormatVersion::V3, &catalog).await.unwrap();
        let mut newer = open(&database, FormatVersion::V3, &catalog).await.unwrap();
        write_notes(&database, &table, [(1, "first".to_owned())], &[]);
        newer.tick(&database.snapshot()).await.unwrap();
        write_notes(&database, &table, [(1, "second".to_owned())], &[]);
        let error = zombie.tick(&database.snapshot()).await.unwrap_err();
        assert!(matches!(error, ExportError::Fenced { .. }), "{error}");
        newer.tick(&database.snapshot()).await.unwrap();
        world.check_same_in(&database, catalog.clone()).await;
    }
}

/// Keeps what is to be done aside from the moment on that a table has another snapshot.
#[derive(Debug)]
struct HoldingWork {
    catalog: Arc<SimulatedCatalog>,
    snapshot_id: Option<i64>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held(Vec<Box<dyn FnOnce() + Send>>);

impl std::fmt::Debug for Held {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} held", self.0.len())
    }
}

#[async_trait]
impl Work for HoldingWork {
    fn spawn(&self, work: Box<dyn FnOnce() + Send>) {
        let table = self.catalog.look(&ident("shop", "notes"));
        let snapshot_id = table.and_then(|table| table.metadata.current_snapshot_id());
        match snapshot_id == self.snapshot_id {
            true => TokioWork.spawn(work),
            false => self.held.lock().0.push(work),
        }
    }

    fn wait(&self, awaited: Pin<&mut (dyn Future<Output = ()> + Send)>) {
        TokioWork.wait(awaited);
    }

    async fn limit(&self, limit: std::time::Duration) {
        TokioWork.limit(limit).await;
    }
}

/// Invariant 8 "honest": a tick is dropped while the engine is told of its commit. Until that is over the table is nobody
/// else's.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_being_noted_is_not_another_ones() {
    let Exported {
        world,
        database,
        table,
        catalog,
        exporter: _older,
    } = Exported::new(Guard::Metadata).await;
    let head = catalog.look(&ident("shop", "notes")).unwrap().metadata;
    let work = Arc::new(HoldingWork {
        catalog: catalog.clone(),
        snapshot_id: head.current_snapshot_id(),
        held: Mutex::default(),
    });
    let environment = Environment {
        work: work.clone(),
        ..Environment::default()
    };
    let settings = kept_settings(FormatVersion::V3);
    let opened = Exporter::open_with(database.clone(), catalog.clone(), settings, environment);
    let mut exporter = opened.await.unwrap();
    write_notes(&database, &table, [(1, "new".to_owned())], &[]);
    let is_held = async {
        while work.held.lock().0.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    let snapshot = database.snapshot();
    tokio::select! {
        ticked = exporter.tick(&snapshot) => panic!("{ticked:?}"),
        () = is_held => {}
    }
    let error = exporter.tick(&snapshot).await.unwrap_err();
    assert!(matches!(error, ExportError::Unavailable { .. }), "{error}");
    let actions = exporter.maintainer().run(None, false).await;
    assert!(
        !matches!(actions, Err(ExportError::Stale { .. })),
        "{actions:?}"
    );
    let held = std::mem::take(&mut work.held.lock().0);
    held.into_iter().for_each(|work| work());
    world.check_same_in(&database, catalog.clone()).await;
}
