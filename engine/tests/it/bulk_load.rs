//! Bulk load: all of it or none of it, whatever happens meanwhile, and newer than what was committed before.

use std::path::Path;
use std::sync::Arc;

use moonshine_engine::io::{CrashStyle, SimulatedIo};
use moonshine_engine::{Database, Durability, Error, Isolation, Keyspace, Options, Value};

/// Runs of about forty rows, leaves of about thirty.
fn options(io: &SimulatedIo) -> Options {
    Options {
        io: Arc::new(io.clone()),
        memory_budget_bytes: 20_000,
        generation_size_bytes_max: Some(6000),
        fragment_size_bytes_max: Some(4000),
        profile: moonshine_sysprobe::Profile::given(4096, 4).into(),
        ..Options::default()
    }
}

fn open(io: &SimulatedIo) -> Database {
    Database::open(Path::new("/db"), options(io)).unwrap()
}

fn key(i: u64) -> [u8; 16] {
    xxhash_rust::xxh3::xxh3_128(&i.to_le_bytes()).to_be_bytes()
}

fn value(i: u64, generation: &str) -> String {
    format!("{generation} {i} {}", "-".repeat(i as usize % 100))
}

fn load(rows: &Keyspace, ids: impl Iterator<Item = u64>, name: &str) -> Result<u64, Error> {
    let mut load = rows.bulk_load()?;
    for i in ids {
        load.insert(key(i), value(i, name))?;
    }
    load.finish()
}

/// The generation of all rows, which must be one; `None` if there are no rows.
fn generation_of(rows: &Keyspace, count: u64) -> Option<String> {
    let found = rows.get(key(0)).unwrap()?;
    let name = String::from_utf8_lossy(&found)
        .split(' ')
        .next()
        .unwrap()
        .to_owned();
    for i in 0..count {
        let found = rows.get(key(i)).unwrap();
        assert_eq!(
            found.as_deref(),
            Some(value(i, &name).as_bytes()),
            "row {i}"
        );
    }
    assert_eq!(rows.iter().count() as u64, count);
    Some(name)
}

fn delta_file_count(io: &SimulatedIo) -> usize {
    let files = io.files().into_iter();
    files
        .filter(|(path, _)| path.extension().is_some_and(|it| it == "mdelta"))
        .count()
}

/// Ordered: in memory, in the tree or in an earlier load, what was committed before is older, and what comes later newer.
#[test]
fn the_last_write_wins_wherever_it_was_written() {
    for count in [1, 20, 300] {
        for below in [false, true] {
            let io = SimulatedIo::new(1);
            let database = open(&io);
            let rows = database.keyspace("rows").unwrap();
            for i in 0..count {
                rows.insert(key(i), value(i, "before")).unwrap();
            }
            if below {
                database.flush().unwrap();
            }
            let before = database.snapshot();
            let twice = (0..count).rev().chain(0..count);
            let seq = load(&rows, twice, "loaded").unwrap();
            assert_eq!((seq, database.durable_seq()), (count + 1, count + 1));
            assert_eq!(generation_of(&rows, count).unwrap(), "loaded");
            for i in 0..count {
                let old = rows.get_at(&before, key(i)).unwrap();
                assert_eq!(old.as_deref(), Some(value(i, "before").as_bytes()));
            }
            assert_eq!(
                rows.range_at::<&[u8]>(&before, ..).unwrap().count() as u64,
                count
            );
            load(&rows, 0..count, "again").unwrap();
            rows.remove(key(0)).unwrap();
            assert!(rows.get(key(0)).unwrap().is_none());
            rows.insert(key(0), value(0, "again")).unwrap();
            drop(before);
            database.compact().unwrap();
            assert_eq!(generation_of(&rows, count).unwrap(), "again");
            drop((rows, database));
            let database = open(&io);
            let rows = database.keyspace("rows").unwrap();
            assert_eq!(generation_of(&rows, count).unwrap(), "again");
        }
    }
}

/// An empty table is divided for what is loaded: each leaf has one RowSet, and nothing is left to compact.
#[test]
fn a_load_leaves_nothing_to_compact_and_no_other_file() {
    let io = SimulatedIo::new(1);
    let database = open(&io);
    let rows = database.keyspace("rows").unwrap();
    load(&rows, 0..300, "loaded").unwrap();
    let files = io.files();
    assert!(delta_file_count(&io) >= 4, "{files:?}");
    database.compact().unwrap();
    assert_eq!(io.files(), files);
    assert_eq!(generation_of(&rows, 300).unwrap(), "loaded");
}

/// Atomic: what is not finished leaves no trace, neither rows nor files nor memory.
#[test]
fn a_load_that_is_dropped_leaves_no_trace() {
    let io = SimulatedIo::new(1);
    let database = open(&io);
    let rows = database.keyspace("rows").unwrap();
    let (_, pages) = database.memory_used_bytes();
    let mut given_up = rows.bulk_load().unwrap();
    for i in 0..300 {
        given_up.insert(key(i), value(i, "loaded")).unwrap();
    }
    assert!(delta_file_count(&io) > 1);
    assert_eq!(rows.iter().count(), 0);
    drop(given_up);
    assert_eq!(delta_file_count(&io), 0);
    assert_eq!(database.memory_used_bytes().1, pages);
    assert_eq!(rows.bulk_load().unwrap().finish().unwrap(), 0);
}

/// Durable, atomic: whichever write fails, and whatever a crash then does to those that were not synced, all rows are
/// there or those from before, and all if the load was finished.
#[test]
fn a_failure_or_a_crash_at_any_step_keeps_all_or_nothing() {
    // More than the memory holds the hashes of, every other time.
    const COUNTS: [u64; 2] = [150, 1500];
    let mut finished_count = 0;
    for seed in 0..100u64 {
        let count = COUNTS[seed as usize / 2 % 2];
        let io = SimulatedIo::new(seed);
        let database = open(&io);
        let rows = database.keyspace("rows").unwrap();
        for i in 0..count {
            rows.insert(key(i), value(i, "before")).unwrap();
        }
        if seed % 2 == 0 {
            database.flush().unwrap();
            database.compact().unwrap();
        }
        io.fail_writes_after(seed / 2);
        let finished = load(&rows, 0..count, "loaded");
        let style = match seed % 3 {
            0 => CrashStyle::LoseUnsynced,
            1 => CrashStyle::KeepUnsynced,
            _ => CrashStyle::TearUnsynced(seed),
        };
        let after = io.crash(style);
        let database = open(&after);
        let rows = database.keyspace("rows").unwrap();
        let name = generation_of(&rows, count).unwrap();
        if finished.is_ok() {
            finished_count += 1;
            assert_eq!(name, "loaded", "seed {seed}");
        }
        // It goes on, and nothing is left of what was given up.
        load(&rows, 0..count, "again").unwrap();
        assert_eq!(generation_of(&rows, count).unwrap(), "again");
    }
    assert!((5..95).contains(&finished_count), "{finished_count}");
}

/// The end of a load is one moment: readers beside it see the rows from before or those that were loaded, never both;
/// commits go on, and those behind it are newer. Leaves that get rows meanwhile don't hide those of the load.
#[test]
fn readers_and_writers_beside_a_load_see_one_moment() {
    let io = SimulatedIo::new(1);
    let database = open(&io);
    let rows = database.keyspace("rows").unwrap();
    load(&rows, 0..200, "load-0").unwrap();
    let others = database.keyspace("others").unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    let is_done = || done.load(std::sync::atomic::Ordering::Relaxed);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done() {
                let snapshot = database.snapshot();
                let all = rows.range_at::<&[u8]>(&snapshot, ..).unwrap();
                let names: std::collections::BTreeSet<_> = all
                    .map(|pair| {
                        let (_, value) = pair.unwrap();
                        String::from_utf8_lossy(&value)
                            .split(' ')
                            .next()
                            .unwrap()
                            .to_owned()
                    })
                    .collect();
                assert_eq!(names.len(), 1, "{names:?}");
            }
        });
        scope.spawn(|| {
            // The newest row, without a snapshot, never moves back.
            let mut newest = 0;
            while !is_done() {
                let found = rows.get(key(7)).unwrap().unwrap();
                let found = String::from_utf8_lossy(&found)
                    .strip_prefix("load-")
                    .and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok())
                    .unwrap();
                assert!(found >= newest, "{found} after {newest}");
                newest = found;
            }
        });
        scope.spawn(|| {
            let buffered = others.clone().with_durability(Durability::Buffered);
            for i in 0.. {
                if is_done() {
                    break;
                }
                buffered.insert(key(i % 50), value(i, "other")).unwrap();
            }
        });
        for n in 1..9 {
            let name = format!("load-{n}");
            load(&rows, 0..200, &name).unwrap();
            // Rows in memory, and then in the tree, for the next load to be newer than.
            let mut batch = rows.batch();
            for i in 0..200 {
                batch.insert(key(i), value(i, &name)).unwrap();
            }
            batch.commit().unwrap();
            assert_eq!(generation_of(&rows, 200).unwrap(), name);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    drop((rows, others, database));
    let rows = open(&io).keyspace("rows").unwrap();
    assert_eq!(generation_of(&rows, 200).unwrap(), "load-8");
}

/// A table that gets rows of its own all the time takes a load of many leaves too.
#[test]
fn a_load_into_a_table_that_is_written_to_is_taken() {
    let io = SimulatedIo::new(1);
    let database = open(&io);
    for n in 0..8 {
        let rows = database.keyspace(&format!("rows {n}")).unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let buffered = rows.clone().with_durability(Durability::Buffered);
                let mut count = 0;
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    buffered.insert(count.to_string(), "written").unwrap();
                    count += 1;
                }
                count
            });
            load(&rows, 0..400, "loaded").unwrap();
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            let written: u64 = writer.join().unwrap();
            for i in 0..400 {
                let found = rows.get(key(i)).unwrap();
                assert_eq!(found.as_deref(), Some(value(i, "loaded").as_bytes()));
            }
            assert_eq!(rows.iter().count() as u64, 400 + written);
        });
        database.compact().unwrap();
        let loaded = rows
            .iter()
            .filter(|pair| pair.as_ref().unwrap().0.len() == 16);
        assert_eq!(loaded.count(), 400);
    }
}

/// A load that finds no space is given up whole, wherever it was; writing goes on, and the same load succeeds when there is
/// space again.
#[test]
fn a_load_without_space_is_given_up_and_the_database_goes_on() {
    let mut given_up_count = 0;
    for writes in 0..40 {
        let io = SimulatedIo::new(writes);
        let database = open(&io);
        let rows = database.keyspace("rows").unwrap();
        for i in 0..100 {
            rows.insert(key(i), value(i, "before")).unwrap();
        }
        let before = database.snapshot();
        io.fill_after(Some(writes));
        match load(&rows, 0..100, "loaded") {
            Ok(_) => assert_eq!(generation_of(&rows, 100).unwrap(), "loaded"),
            Err(Error::NoSpace { .. }) => {
                given_up_count += 1;
                assert_eq!(generation_of(&rows, 100).unwrap(), "before");
            }
            Err(error) => panic!("{error}"),
        }
        io.fill_after(None);
        while let Err(error) = load(&rows, 0..100, "again") {
            // Until the flush has tried once more.
            assert!(matches!(error, Error::NoSpace { .. }), "{error}");
        }
        assert_eq!(generation_of(&rows, 100).unwrap(), "again");
        assert_eq!(
            rows.range_at::<&[u8]>(&before, ..).unwrap().count(),
            100,
            "the snapshot stays"
        );
        drop((rows, before, database));
        let rows = open(&io).keyspace("rows").unwrap();
        assert_eq!(generation_of(&rows, 100).unwrap(), "again");
    }
    assert!((3..40).contains(&given_up_count), "{given_up_count}");
}

/// A transaction that read or writes what a load has written since is refused, one beside it is not.
#[test]
fn a_load_conflicts_with_transactions_that_began_before() {
    let io = SimulatedIo::new(1);
    let database = open(&io);
    let rows = database.keyspace("rows").unwrap();
    let at = |i| [Value::Binary(key(i).to_vec())];
    let row = |i| {
        vec![
            Value::Binary(key(i).to_vec()),
            Value::Binary(b"new".to_vec()),
        ]
    };
    let begin = || database.begin_optimistic(Isolation::Serializable);
    let [mut reading, mut writing, mut beside] = [begin(), begin(), begin()];
    assert!(reading.get(rows.table(), &at(1)).unwrap().is_none());
    reading.upsert(rows.table(), row(500)).unwrap();
    writing.upsert(rows.table(), row(2)).unwrap();
    assert!(beside.get(rows.table(), &at(600)).unwrap().is_none());
    beside.upsert(rows.table(), row(601)).unwrap();
    load(&rows, 0..100, "loaded").unwrap();
    for refused in [reading, writing] {
        let refused = refused.commit();
        assert!(
            matches!(refused, Err(Error::Conflict { .. })),
            "{refused:?}"
        );
    }
    beside.commit().unwrap();
    assert_eq!(rows.iter().count(), 101);
}
