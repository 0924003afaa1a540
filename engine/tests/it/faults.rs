//! Crashes, damage and refusals: what was acknowledged stays, what is damaged is named, what fails says so.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use moonshine_engine::io::{
    CrashStyle, Fault, FaultPlan, FaultRule, FileKind, Lasts, Operation, SimulatedIo,
};
use moonshine_engine::{
    ColumnType, Database, Durability, Error, Options, Table, TableSchema, Value,
};

fn options(io: &SimulatedIo) -> Options {
    Options {
        io: Arc::new(io.clone()),
        segment_size_bytes_max: Some(4096),
        ..Options::unmeasured()
    }
}

fn open(io: &SimulatedIo) -> Result<Database, Error> {
    Database::open(Path::new("/db"), options(io))
}

fn table(database: &Database) -> Table {
    let schema = TableSchema::builder("counts")
        .column("id", ColumnType::Int64, false)
        .column("count", ColumnType::Int64, false)
        .primary_key(["id"])
        .build()
        .unwrap();
    database.create_table(schema).unwrap()
}

/// Transaction n sets ten rows to n: any state that is not all ten equal is half a transaction.
fn write(database: &Database, table: &Table, n: i64) -> moonshine_engine::CommitHandle {
    let mut transaction = database.begin();
    for id in 0..10 {
        transaction
            .upsert(table, vec![Value::Int64(id), Value::Int64(n)])
            .unwrap();
    }
    transaction.submit().unwrap()
}

fn read(database: &Database) -> i64 {
    let table = table(database);
    let snapshot = database.snapshot();
    let counts: Vec<_> = (0..10)
        .map(
            |id| match snapshot.get(&table, &[Value::Int64(id)]).unwrap() {
                Some(row) => row[1].clone(),
                None => Value::Int64(0),
            },
        )
        .collect();
    assert!(
        counts.iter().all(|count| *count == counts[0]),
        "half a transaction: {counts:?}"
    );
    assert_eq!(Value::Int64(snapshot.seq() as i64), counts[0]);
    match counts[0] {
        Value::Int64(n) => n,
        _ => panic!("{counts:?}"),
    }
}

/// Durable, atomic: whatever a crash does to unsynced writes, acknowledged transactions are there and whole.
#[test]
fn a_crash_at_any_moment_keeps_what_was_acknowledged() {
    for seed in 0..300u64 {
        let io = SimulatedIo::new(seed);
        let database = open(&io).unwrap();
        let counts = table(&database);
        let mut acknowledged = 0;
        let total = 1 + (seed % 40) as i64;
        let mut handles = Vec::new();
        for n in 1..=total {
            handles.push(write(&database, &counts, n));
            if n % 3 == 0 {
                acknowledged = handles
                    .drain(..)
                    .map(|handle| handle.wait().unwrap())
                    .max()
                    .unwrap() as i64;
            }
        }
        let style = match seed % 4 {
            0 => CrashStyle::LoseUnsynced,
            1 => CrashStyle::KeepUnsynced,
            _ => CrashStyle::TearUnsynced(seed),
        };
        let after = io.crash(style);
        let recovered = read(&open(&after).unwrap_or_else(|error| panic!("seed {seed}: {error}")));
        assert!(
            (acknowledged..=total).contains(&recovered),
            "seed {seed}: {acknowledged} ≤ {recovered} ≤ {total}"
        );
        // It goes on from there, and again after a clean close.
        let database = open(&after).unwrap();
        let counts = table(&database);
        write(&database, &counts, recovered + 1).wait().unwrap();
        drop(database);
        assert_eq!(read(&open(&after).unwrap()), recovered + 1);
    }
}

fn log_files(io: &SimulatedIo) -> Vec<(PathBuf, usize)> {
    io.files()
        .into_iter()
        .filter(|(path, _)| path.to_string_lossy().ends_with(".mlog"))
        .collect()
}

/// Honest: after a clean close, a flipped bit anywhere in the log is named or harmless, never another state.
#[test]
fn damage_is_named_with_file_and_byte() {
    let io = SimulatedIo::new(1);
    let database = open(&io).unwrap();
    let counts = table(&database);
    for n in 1..=20 {
        write(&database, &counts, n).wait().unwrap();
    }
    drop(database);
    assert!(log_files(&io).len() > 1, "the log has several segments");
    let mut named = 0;
    for (path, len) in log_files(&io) {
        for offset in 0..len {
            let damaged = io.crash(CrashStyle::KeepUnsynced);
            damaged.damage(&path, offset, 1 << (offset % 8)).unwrap();
            match open(&damaged) {
                Ok(database) => assert_eq!(read(&database), 20, "{} byte {offset}", path.display()),
                Err(Error::Corrupt {
                    path: reported,
                    offset: at,
                    ..
                }) => {
                    assert_eq!(reported, path);
                    assert!(at <= offset as u64, "byte {offset} reported at {at}");
                    named += 1;
                }
                Err(other) => panic!("{} byte {offset}: {other}", path.display()),
            }
        }
    }
    assert!(named > 1000);
}

#[test]
fn a_missing_segment_and_a_lost_manifest_are_named() {
    use moonshine_engine::io::Io;
    let io = SimulatedIo::new(1);
    let database = open(&io).unwrap();
    let counts = table(&database);
    for n in 1..=20 {
        write(&database, &counts, n).wait().unwrap();
    }
    drop(database);
    let (first, _) = log_files(&io).remove(0);
    let without_segment = io.crash(CrashStyle::KeepUnsynced);
    without_segment.remove(&first).unwrap();
    assert!(matches!(open(&without_segment), Err(Error::Corrupt { .. })));
    let without_manifest = io.crash(CrashStyle::KeepUnsynced);
    without_manifest.remove(Path::new("/db/MANIFEST")).unwrap();
    assert!(matches!(
        open(&without_manifest),
        Err(Error::Corrupt { .. })
    ));
}

/// A failed write or sync ends writing for good, with an error for every writer; reading goes on.
#[test]
fn a_failed_write_poisons_and_leaves_reads() {
    for failing_sync in [false, true] {
        let io = SimulatedIo::new(1);
        let database = open(&io).unwrap();
        let counts = table(&database);
        write(&database, &counts, 1).wait().unwrap();
        if failing_sync {
            io.fail_syncs(true)
        } else {
            io.fail_writes_after(0)
        }
        let failed = write(&database, &counts, 2);
        assert!(matches!(failed.wait(), Err(Error::Poisoned(_))));
        assert!(matches!(database.begin().commit(), Err(Error::Poisoned(_))));
        assert!(matches!(database.wait_durable(2), Err(Error::Poisoned(_))));
        assert_eq!(read(&database), 1);
        io.fail_syncs(false);
        let recovered = read(&open(&io.crash(CrashStyle::LoseUnsynced)).unwrap());
        assert_eq!(recovered, 1);
    }
}

/// *Durable*: a failed sync loses what was to be durable by it, and the next one succeeds all the same. Who waits meanwhile to
/// sync or to flush is not told that all is well, and does not write on.
#[test]
fn nothing_succeeds_beside_a_sync_that_fails() {
    for waiting in [Database::sync, Database::flush] {
        for seed in 0..20 {
            let io = SimulatedIo::new(1);
            let database = open(&io).unwrap();
            let counts = table(&database);
            write(&database, &counts, 1).wait().unwrap();
            let commit = |n, durability| {
                let mut transaction = database.begin();
                for id in 0..10 {
                    let row = vec![Value::Int64(id), Value::Int64(n)];
                    transaction.upsert(&counts, row).unwrap();
                }
                transaction.set_durability(durability);
                transaction.commit()
            };
            for n in 2..8 {
                commit(n, Durability::Buffered).unwrap();
            }
            io.hold_writes(Some(".mlog"));
            let rule = FaultRule {
                operation: Operation::Sync,
                files: Some(FileKind::Log),
                fault: Fault::Error,
                per_million: 1_000_000,
                lasts: Lasts::Single,
            };
            io.set_faults(FaultPlan {
                seed,
                rules: vec![rule],
                ..FaultPlan::default()
            });
            let pause = || (0..100).for_each(|_| std::thread::yield_now());
            let (written, waited) = std::thread::scope(|scope| {
                let writer = scope.spawn(|| commit(8, Durability::Synced));
                pause();
                let waiting = scope.spawn(|| waiting(&database));
                pause();
                io.hold_writes(None);
                (writer.join().unwrap(), waiting.join().unwrap())
            });
            assert!(written.is_err() || waited.is_err());
            let durable = database.durable_seq() as i64;
            let least = if waited.is_ok() { 7 } else { durable };
            drop(database);
            for style in [CrashStyle::KeepUnsynced, CrashStyle::LoseUnsynced] {
                let found = read(&open(&io.crash(style)).unwrap());
                assert!((least..=8).contains(&found), "{least} ≤ {found}, {style:?}");
            }
        }
    }
}

/// Honest: below level 0 too, with no memory for pages.
#[test]
fn rows_are_read_back_from_files_when_memory_is_short() {
    let io = SimulatedIo::new(1);
    let database = Database::open(
        Path::new("/db"),
        Options {
            memory_budget_bytes: 0,
            ..options(&io)
        },
    )
    .unwrap();
    let counts = table(&database);
    write(&database, &counts, 1).wait().unwrap();
    database.flush().unwrap();
    assert_eq!(read(&database), 1);
    let mut files = io.files().into_iter();
    let (path, len) = files
        .find(|(path, _)| path.to_string_lossy().ends_with(".mdelta"))
        .unwrap();
    let mut named = 0;
    for offset in 0..len {
        io.damage(&path, offset, 1).unwrap();
        match database.snapshot().get(&counts, &[Value::Int64(0)]) {
            Err(Error::Corrupt { path: reported, .. }) => {
                assert_eq!(reported, path);
                named += 1;
            }
            Ok(row) => assert_eq!(row, Some(vec![Value::Int64(0), Value::Int64(1)])),
            Err(other) => panic!("byte {offset}: {other}"),
        }
        io.damage(&path, offset, 1).unwrap();
    }
    assert!(named > len / 2, "{named} of {len}");
}

#[test]
fn a_second_opener_is_refused_and_a_reader_is_not() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(
        Database::open_read_only(folder.path(), Options::unmeasured()),
        Err(Error::Usage(_))
    ));
    let database = Database::open(folder.path(), Options::unmeasured()).unwrap();
    let counts = table(&database);
    write(&database, &counts, 1).wait().unwrap();
    assert!(matches!(
        Database::open(folder.path(), Options::unmeasured()),
        Err(Error::Locked(_))
    ));
    let reader = Database::open_read_only(folder.path(), Options::unmeasured()).unwrap();
    assert_eq!(read(&reader), 1);
    write(&database, &counts, 2).wait().unwrap();
    assert_eq!(read(&reader), 1);
    assert_eq!(
        read(&Database::open_read_only(folder.path(), Options::unmeasured()).unwrap()),
        2
    );
    let reader_counts = reader.table("counts").unwrap();
    let mut refused = reader.begin();
    refused
        .upsert(&reader_counts, vec![Value::Int64(1), Value::Int64(1)])
        .unwrap();
    assert!(matches!(refused.commit(), Err(Error::Usage(_))));
    assert!(
        reader
            .begin_export(&reader_counts, &reader.snapshot())
            .is_err()
    );
    drop(database);
    Database::open(folder.path(), Options::unmeasured()).unwrap();
}

#[test]
fn tables_of_another_database_or_schema_are_refused() {
    let (one, two) = (SimulatedIo::new(1), SimulatedIo::new(2));
    let (one, two) = (open(&one).unwrap(), open(&two).unwrap());
    let counts = table(&one);
    assert!(matches!(
        two.begin().delete(&counts, &[Value::Int64(1)]),
        Err(Error::Usage(_))
    ));
    assert!(matches!(
        two.snapshot().get(&counts, &[Value::Int64(1)]),
        Err(Error::Usage(_))
    ));
    let other = TableSchema::builder("counts")
        .column("id", ColumnType::Int32, false)
        .primary_key(["id"]);
    assert!(matches!(
        one.create_table(other.build().unwrap()),
        Err(Error::Schema(_))
    ));
    assert!(matches!(
        one.begin().delete(&counts, &[]),
        Err(Error::Row(_))
    ));
    assert!(matches!(
        one.begin().delete(&counts, &[Value::Utf8("1".into())]),
        Err(Error::Row(_))
    ));
    let huge = vec![Value::Binary(vec![0; 100_000]), Value::Null];
    let keyed = TableSchema::builder("keyed")
        .column("key", ColumnType::Binary, false)
        .column("value", ColumnType::Binary, true)
        .primary_key(["key"]);
    let keyed = one.create_table(keyed.build().unwrap()).unwrap();
    let mut transaction = one.begin();
    assert!(matches!(
        transaction.upsert(&keyed, huge),
        Err(Error::Row(_))
    ));
    transaction
        .upsert(&keyed, vec![Value::Binary(b"k".to_vec()), Value::Null])
        .unwrap();
    transaction.commit().unwrap();
    assert_eq!(one.snapshot().row_count(&keyed).unwrap(), 1);
}

/// *Honest*: who waited for the log while its last write failed hears of that, and not that the database was closed.
#[test]
fn a_sync_beside_a_write_that_fails_says_so() {
    for seed in 0..30 {
        let io = SimulatedIo::new(seed);
        let database = open(&io).unwrap();
        let table = table(&database);
        io.hold_writes(Some(".mlog"));
        let synced = std::thread::scope(|scope| {
            let write = scope.spawn(|| write(&database, &table, 1).wait());
            let let_go_on = || (0..seed * 20).for_each(|_| std::thread::yield_now());
            let_go_on();
            let sync = scope.spawn(|| database.sync());
            let_go_on();
            io.fail_writes_after(0);
            io.hold_writes(None);
            assert!(matches!(write.join().unwrap(), Err(Error::Poisoned(_))));
            sync.join().unwrap()
        });
        // It may have come first, when there was nothing to sync.
        let is_told = matches!(synced, Ok(()) | Err(Error::Poisoned(_)));
        assert!(is_told, "{synced:?}");
    }
}

/// *Durable*: a part of a write that found no space is cut off for good before another segment begins.
#[test]
fn a_part_of_a_write_without_space_does_not_come_back() {
    for seed in 0..60 {
        let io = SimulatedIo::new(seed);
        let database = open(&io).unwrap();
        let table = table(&database);
        let rows = 1 + seed as i64 % 15;
        for n in 1..=rows {
            write(&database, &table, n).wait().unwrap();
        }
        io.fill_after(Some(0));
        let refused = write(&database, &table, rows + 1).wait();
        assert!(matches!(refused, Err(Error::NoSpace { .. })), "{refused:?}");
        io.fill_after(None);
        // Another segment begins, and the first one is still needed.
        io.hold_writes(Some(".mdelta"));
        let crashed = std::thread::scope(|scope| {
            scope.spawn(|| database.flush());
            while database.log_segments().unwrap().len() < 2 && rows > 8 {
                std::thread::yield_now();
            }
            write(&database, &table, rows + 1).wait().unwrap();
            let crashed = io.crash(CrashStyle::SubsetUnsynced(seed));
            io.hold_writes(None);
            crashed
        });
        assert_eq!(read(&open(&crashed).unwrap()), rows + 1);
    }
}

/// *Durable*: where the end of a segment was cut off by a process whose sync of that failed, the next one does it again
/// before it begins another segment.
#[test]
fn a_cut_whose_sync_failed_is_made_again() {
    for rows in 1..40 {
        let io = SimulatedIo::new(rows);
        let database = open(&io).unwrap();
        let table = table(&database);
        for n in 1..=rows as i64 {
            write(&database, &table, n).wait().unwrap();
        }
        io.fail_syncs(true);
        // It fills the segment, so that its end is cut off.
        assert!(write(&database, &table, 100).wait().is_err());
        let restarted = io.crash(CrashStyle::KeepUnsynced);
        drop(database);
        let database = open(&restarted).unwrap();
        let seq = database.snapshot().seq() as i64;
        let table = database.table("counts").unwrap();
        for n in 1..=20 {
            write(&database, &table, seq + n).wait().unwrap();
        }
        let restarted = restarted.crash(CrashStyle::LoseUnsynced);
        assert_eq!(read(&open(&restarted).unwrap()), seq + 20);
    }
}
