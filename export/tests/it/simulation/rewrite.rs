//! Rewrites of data files beside exports, faults and kills: invariants 4 "once", 5 "same" and 6 "monotonic".

use moonshine_engine::{ColumnType, SchemaChange, Value};

use super::*;

/// Runs rewrites by hand, so that two small files are enough. What fails is made again.
async fn rewrite(exporter: &Exporter, polls_left: u64) -> bool {
    let maintainer = exporter.maintainer();
    let run = DropAfter {
        inner: Box::pin(maintainer.run(None, false)),
        polls_left,
    };
    match run.await {
        Some(Err(error)) => assert_passing(&error),
        Some(Ok(_)) => {}
        None => return false,
    }
    true
}

/// How many rewrites there were, and how many of them had rows that were exported anew meanwhile.
async fn random_history(guard: Guard, version: FormatVersion, seed: u64) -> (u64, u64) {
    let world = World::new(version);
    let database = world.database();
    let table = notes(&database);
    let catalog = SimulatedCatalog::new(guard, seed);
    let mut random = Random(seed ^ 0x5EED);
    catalog.disturb(true);
    let mut exporter = open_at_last(&database, version, &catalog).await;
    let mut rewrites = BTreeMap::new();
    for step in 0..20 {
        random_writes(&database, &table, &mut random);
        let snapshot = database.snapshot();
        match random.below(4) {
            // Beside each other.
            0 => {
                let rows = (0..60).filter(|id| id % 3 == step % 3);
                let rows = rows.map(|id| (id, format!("{step}")));
                write_notes(&database, &table, rows.collect::<Vec<_>>(), &[]);
                let (maintainer, snapshot) = (exporter.maintainer(), database.snapshot());
                let both = tokio::join!(maintainer.run(None, false), exporter.tick(&snapshot));
                if let (Err(error), _) | (_, Err(error)) = both {
                    assert_passing(&error);
                }
            }
            1 => {
                if !rewrite(&exporter, random.below(60)).await {
                    settled().await;
                }
            }
            _ => {
                if let Err(error) = exporter.tick(&snapshot).await {
                    assert_passing(&error);
                }
            }
        }
        note_rewrites(&catalog, &mut rewrites).await;
        if step % 7 == 6 {
            exporter = open_at_last(&database, version, &catalog).await;
        }
    }
    catalog.calm();
    let snapshot = database.snapshot();
    exporter.tick(&snapshot).await.unwrap();
    exporter.tick(&snapshot).await.unwrap();
    world.check_same_in(&database, catalog.clone()).await;
    exporter.maintainer().run(None, false).await.unwrap();
    world.check_same_in(&database, catalog.clone()).await;
    random_writes(&database, &table, &mut random);
    exporter.tick(&database.snapshot()).await.unwrap();
    world.check_same_in(&database, catalog.clone()).await;
    check_history(&catalog).await;
    check_manifests(&world, &catalog).await;
    note_rewrites(&catalog, &mut rewrites).await;
    let overtaken = rewrites.values().filter(|is_overtaken| **is_overtaken);
    (rewrites.len() as u64, overtaken.count() as u64)
}

/// Notes the table's snapshots that are rewrites, and whether rows were exported anew meanwhile.
async fn note_rewrites(catalog: &SimulatedCatalog, rewrites: &mut BTreeMap<i64, bool>) {
    let found = catalog.look(&ident("shop", "notes"));
    for snapshot in found.iter().flat_map(|found| found.metadata.snapshots()) {
        let summary = snapshot.summary();
        if summary.operation.as_str() == "replace" {
            let deletes = summary.additional_properties.get("added-position-deletes");
            let is_overtaken = deletes.is_some_and(|count| count != "0");
            rewrites.insert(snapshot.snapshot_id(), is_overtaken);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rewrites_beside_exports_lose_nothing() {
    let given = std::env::var("MOONSHINE_TEST_SEED").ok();
    let given = given.map(|seed| seed.parse::<u64>().unwrap());
    let mut all_overtaken = [0; VERSIONS.len()];
    let mut all_rewrites = [[0; VERSIONS.len()]; GUARDS.len()];
    // Threads decide which rewrites come to their end, and which are overtaken: four histories at least, and more until each version had
    // one that was, and one at all with each guard.
    for seed in given.map_or(1..=64, |seed| seed..=seed) {
        for (guard, all_rewrites) in GUARDS.into_iter().zip(&mut all_rewrites) {
            let counts = all_rewrites.iter_mut().zip(&mut all_overtaken);
            for (version, (all_rewrites, all_overtaken)) in VERSIONS.into_iter().zip(counts) {
                println!("MOONSHINE_TEST_SEED={seed} {guard:?} {version:?}");
                let (rewrites, overtaken) = random_history(guard, version, seed).await;
                *all_rewrites += rewrites;
                *all_overtaken += overtaken;
            }
        }
        let mut counts = all_rewrites.iter().flatten().chain(&all_overtaken);
        if seed >= 4 && counts.all(|count| *count > 0) {
            return;
        }
    }
    assert!(given.is_some(), "{all_rewrites:?} {all_overtaken:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_any_two_steps_of_a_rewrite() {
    let begin = async |database: &Database, table: &Table, exporter: &mut Exporter| {
        for first in [0, 20, 40] {
            let rows = (first..first + 30).map(|id| (id, format!("of {first}")));
            write_notes(database, table, rows, &[first]);
            exporter.tick(&database.snapshot()).await.unwrap();
        }
    };
    let act = async |_: &Database, exporter: &mut Exporter, polls_left: u64| {
        rewrite(exporter, polls_left).await
    };
    crash_between_any_two_steps(begin, act).await;
}

/// A column that comes while files are rewritten: the rewrite was done before, or gives way.
#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_comes_meanwhile_is_no_matter() {
    for version in VERSIONS {
        for turns in [0, 1, 3, 10, 30, 100, 300, 1000] {
            let world = World::new(version);
            let database = world.database();
            let table = notes(&database);
            let catalog = SimulatedCatalog::new(Guard::Requirements, 7);
            catalog.calm();
            let mut exporter = open(&database, version, &catalog).await.unwrap();
            for first in [0, 20, 40] {
                let rows = (first..first + 30).map(|id| (id, format!("of {first}")));
                write_notes(&database, &table, rows, &[first]);
                exporter.tick(&database.snapshot()).await.unwrap();
            }
            let maintainer = exporter.maintainer();
            let evolve = async {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
                let add = SchemaChange::AddColumn {
                    name: "stars".into(),
                    column_type: ColumnType::Int64,
                    nullable: true,
                    default: None,
                };
                let table = database.alter_table(&table, &[add]).unwrap();
                let mut transaction = database.begin();
                for id in 10..15 {
                    let row = vec![Value::Int64(id), Value::Null, Value::Int64(id)];
                    transaction.upsert(&table, row).unwrap();
                }
                transaction.commit().unwrap();
                exporter.tick(&database.snapshot()).await
            };
            let (rewritten, exported) = tokio::join!(maintainer.run(None, false), evolve);
            if let Err(error) = &rewritten {
                assert_passing(error);
            }
            exported.unwrap();
            world.check_same_in(&database, catalog.clone()).await;
            maintainer.run(None, false).await.unwrap();
            world.check_same_in(&database, catalog.clone()).await;
            check_history(&catalog).await;
        }
    }
}
