//! Backups: whole or not there, of one commit sequence, beside whatever else goes on.
//!
//! Defends *durable* and *atomic* for the copy: it holds every transaction up to one, and what was visible before it began.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use moonshine_engine::io::{
    CrashStyle, Fault, FaultPlan, FaultRule, Io, Lasts, NamesStyle, Operation, SimulatedIo,
};
use moonshine_engine::{
    ColumnType, Database, Durability, Error, Options, Scan, Table, TableSchema, Value,
};

const ROW_COUNT: i64 = 40;

fn options(io: &SimulatedIo) -> Options {
    Options {
        io: Arc::new(io.clone()),
        segment_size_bytes_max: Some(4096),
        generation_size_bytes_max: Some(8192),
        fragment_size_bytes_max: Some(8192),
        ..Options::unmeasured()
    }
}

fn open(io: &SimulatedIo, folder: &str) -> Result<Database, Error> {
    Database::open(Path::new(folder), options(io))
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

/// Transaction n sets all rows to n.
fn write(database: &Database, n: i64, durability: Durability) -> u64 {
    let table = table(database);
    let mut transaction = database.begin();
    for id in 0..ROW_COUNT {
        transaction
            .upsert(&table, vec![Value::Int64(id), Value::Int64(n)])
            .unwrap();
    }
    transaction.set_durability(durability);
    transaction.commit().unwrap()
}

/// The transaction that all rows are of.
fn read(database: &Database) -> i64 {
    let table = table(database);
    let mut counts = Vec::new();
    for batch in database.snapshot().scan(&table, Scan::default()).unwrap() {
        let batch = batch.unwrap();
        let column = batch.column(1).as_any();
        let column = column.downcast_ref::<arrow_array::Int64Array>().unwrap();
        counts.extend(column.values().iter().copied());
    }
    assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
    match counts.len() as i64 {
        0 => 0,
        ROW_COUNT => counts[0],
        other => panic!("{other} rows"),
    }
}

fn files_in(io: &SimulatedIo, folder: &str) -> Vec<PathBuf> {
    let files = io.files().into_iter().map(|(path, _)| path);
    files.filter(|path| path.starts_with(folder)).collect()
}

/// A database with rows in fragments, in frozen generations and in the log, and commits that are not synced.
fn filled(io: &SimulatedIo) -> Database {
    let database = open(io, "/db").unwrap();
    for n in 1..=30 {
        write(&database, n, Durability::Synced);
    }
    database.flush().unwrap();
    database.compact().unwrap();
    for n in 31..=33 {
        write(&database, n, Durability::Buffered);
    }
    database
}

#[test]
fn a_backup_is_a_database_of_its_own() {
    for refuse_links in [false, true] {
        let io = SimulatedIo::new(1);
        let database = filled(&io);
        io.refuse_links(refuse_links);
        let backup = database.backup("/copy").unwrap();
        assert_eq!(backup.commit_seq, 33);
        assert_eq!(backup.linked_files == 0, refuse_links);
        write(&database, 34, Durability::Synced);
        // Also after a crash of the machine: the copy is synced, though the commits were not.
        let copy = open(&io.crash(CrashStyle::LoseUnsynced), "/copy").unwrap();
        assert_eq!(read(&copy), 33);
        assert_eq!(copy.id(), database.id());
        drop(copy);
        let copy = open(&io, "/copy").unwrap();
        // Each goes its own way, and what one lets go of stays with the other.
        for n in 100..160 {
            write(&copy, n, Durability::Synced);
            write(&database, n + 1000, Durability::Synced);
        }
        copy.flush().unwrap();
        copy.compact().unwrap();
        database.flush().unwrap();
        database.compact().unwrap();
        drop((copy, database));
        assert_eq!(read(&open(&io, "/copy").unwrap()), 159);
        assert_eq!(read(&open(&io, "/db").unwrap()), 1159);
    }
}

#[test]
fn an_empty_database_and_a_read_only_one_can_be_copied() {
    let io = SimulatedIo::new(1);
    let database = open(&io, "/db").unwrap();
    assert_eq!(database.backup("/empty").unwrap().commit_seq, 0);
    assert_eq!(open(&io, "/empty").unwrap().tables().len(), 0);
    drop(database);
    let database = filled(&io);
    let reader = Database::open_read_only("/db", options(&io)).unwrap();
    // It takes what there is now, not what the reader sees.
    write(&database, 34, Durability::Synced);
    assert_eq!(reader.backup("/copy").unwrap().commit_seq, 34);
    assert_eq!(read(&open(&io, "/copy").unwrap()), 34);
}

#[test]
fn a_folder_that_is_not_empty_is_refused_and_left_as_it_is() {
    let io = SimulatedIo::new(1);
    let database = filled(&io);
    database.backup("/copy").unwrap();
    let in_copy = || {
        let files = io.files().into_iter();
        files
            .filter(|(path, _)| path.starts_with("/copy"))
            .collect::<Vec<_>>()
    };
    let before = in_copy();
    for folder in ["/copy", "/db"] {
        assert!(matches!(
            database.backup(folder),
            Err(Error::Usage(_) | Error::Locked(_))
        ));
        let restored = Database::restore("/db", folder, &options(&io));
        assert!(matches!(restored, Err(Error::Usage(_) | Error::Locked(_))));
    }
    assert!(matches!(
        Database::restore("/nowhere", "/new", &options(&io)),
        Err(Error::Usage(_))
    ));
    assert_eq!(in_copy(), before);
    assert_eq!(files_in(&io, "/new"), Vec::<PathBuf>::new());
}

/// *Atomic*, at every write of the backup: if there is no space for it, nothing of it is left and the database goes on.
#[test]
fn a_backup_that_finds_no_space_leaves_nothing() {
    let io = SimulatedIo::new(1);
    let database = filled(&io);
    io.refuse_links(true);
    let mut failed = 0;
    for writes in 0.. {
        io.fill_after(Some(writes));
        let made = database.backup("/copy");
        io.fill_after(None);
        match made {
            Ok(_) => break,
            Err(Error::NoSpace { .. }) => failed += 1,
            Err(error) => panic!("{error}"),
        }
        assert_eq!(files_in(&io, "/copy"), Vec::<PathBuf>::new());
    }
    assert!(failed > 5, "{failed}");
    assert_eq!(read(&open(&io, "/copy").unwrap()), 33);
    write(&database, 34, Durability::Synced);
    assert_eq!(read(&database), 34);
}

/// *Atomic*: whatever a crash leaves of a backup is a whole database or none.
#[test]
fn a_backup_that_a_crash_cut_short_is_no_database() {
    let io = SimulatedIo::new(1);
    let database = filled(&io);
    let (mut whole, mut halves) = (0, 0);
    for links in [true, false] {
        io.refuse_links(!links);
        for steps in 0..60 {
            // The machine stops at a call; what the backup would have removed stays.
            let disk = io.crash(CrashStyle::KeepUnsynced);
            disk.refuse_links(!links);
            let process = disk.of_process(1);
            process.kill_after(steps);
            let made = Database::restore("/db", "/copy", &options(&process)).is_ok();
            for seed in 0..12 {
                let style = match seed % 4 {
                    0 => CrashStyle::LoseUnsynced,
                    1 => CrashStyle::KeepUnsynced,
                    _ => CrashStyle::TearUnsynced(seed),
                };
                let names = match seed % 3 {
                    0 => NamesStyle::Kept,
                    1 => NamesStyle::Ordered(seed),
                    _ => NamesStyle::Any(seed),
                };
                let after = disk.crash_image(style, names);
                let has_manifest = files_in(&after, "/copy").contains(&"/copy/MANIFEST".into());
                match open(&after, "/copy") {
                    Ok(copy) if has_manifest => {
                        assert_eq!(read(&copy), 33);
                        whole += 1;
                    }
                    // There was not even a file of it.
                    Ok(copy) => assert!(copy.tables().is_empty() && !made),
                    Err(Error::Corrupt { .. }) => {
                        assert!(!made && !has_manifest);
                        halves += 1;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
    drop(database);
    assert!(whole > 10 && halves > 10, "{whole} {halves}");
}

/// Ends the writer, also when the test fails.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// *Ordered*: beside writers, flushes and compactions each backup is the database at one moment, by links, by copies, and
/// from another process.
#[test]
fn backups_beside_writers_are_consistent() {
    let io = SimulatedIo::new(1);
    let larger = Options {
        generation_size_bytes_max: Some(128 << 10),
        ..options(&io)
    };
    let database = Database::open("/db", larger).unwrap();
    let (done, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    table(&database);
    std::thread::scope(|scope| {
        let _ending = Ending(&done);
        scope.spawn(|| {
            for n in (1..).take_while(|_| !done.load(Ordering::Relaxed)) {
                acknowledged.store(write(&database, n, Durability::Synced), Ordering::Relaxed);
            }
        });
        for round in 0..30 {
            io.refuse_links(round % 2 == 0);
            let before = acknowledged.load(Ordering::Relaxed);
            let folder = format!("/copy-{round}");
            let backup = match round % 3 {
                0 => Database::restore("/db", &folder, &options(&io)).unwrap(),
                _ => database.backup(&folder).unwrap(),
            };
            assert!(backup.commit_seq >= before);
            let copy = open(&io, &folder).unwrap();
            assert_eq!(read(&copy) as u64, backup.commit_seq, "round {round}");
            copy.compact().unwrap();
            assert_eq!(read(&copy) as u64, backup.commit_seq, "round {round}");
        }
    });
    // No backup holds the log back any more.
    let before = database.log_segments().unwrap().len();
    for n in 0..40 {
        write(&database, n, Durability::Synced);
    }
    database.flush().unwrap();
    assert!(database.log_segments().unwrap().len() <= before.max(3));
}

/// *Honest*: what is damaged is not copied for whole; what takes no more writes can still be saved.
#[test]
fn damage_is_named_and_a_poisoned_database_can_be_saved() {
    let io = SimulatedIo::new(1);
    let database = filled(&io);
    // Else most of what is damaged goes by itself.
    database.compact().unwrap();
    let (mut named, mut tried) = (0, 0);
    for (path, len) in io.files() {
        if path.extension().is_none_or(|kind| kind != "mdelta") {
            continue;
        }
        for offset in (0..len).step_by(211) {
            // A compaction may take the file away at any time.
            if io.damage(&path, offset, 1).is_err() {
                break;
            }
            tried += 1;
            match Database::restore("/db", "/copy", &options(&io)) {
                Err(Error::Corrupt { path: at, .. }) => {
                    assert_eq!(at, path);
                    assert_eq!(files_in(&io, "/copy"), Vec::<PathBuf>::new());
                    named += 1;
                }
                // What is damaged is of no use any more, and no reader finds it.
                Ok(_) => {
                    assert_eq!(read(&open(&io, "/copy").unwrap()), 33);
                    for path in files_in(&io, "/copy") {
                        io.remove(&path).unwrap();
                    }
                }
                Err(error) => panic!("{error}"),
            }
            if io.damage(&path, offset, 1).is_err() {
                break;
            }
        }
    }
    assert!(named > tried / 4, "{named} of {tried}");
    io.fail_writes_after(0);
    let mut transaction = database.begin();
    transaction
        .upsert(&table(&database), vec![Value::Int64(0), Value::Int64(34)])
        .unwrap();
    assert!(matches!(transaction.commit(), Err(Error::Poisoned(_))));
    io.fail_writes_after(u64::MAX);
    assert_eq!(database.backup("/saved").unwrap().commit_seq, 33);
    assert_eq!(read(&open(&io, "/saved").unwrap()), 33);
}

#[test]
fn real_files_are_linked_and_restored_by_copy() {
    let parent = tempfile::tempdir().unwrap();
    let (folder, target) = (parent.path().join("db"), parent.path().join("a/b/copy"));
    let small = Options {
        generation_size_bytes_max: Some(8192),
        ..Options::unmeasured()
    };
    let database = Database::open(&folder, small.clone()).unwrap();
    for n in 1..=30 {
        write(&database, n, Durability::Synced);
    }
    database.flush().unwrap();
    let backup = database.backup(&target).unwrap();
    assert!(backup.linked_files > 0 && backup.linked_bytes > 0);
    assert!(matches!(database.backup(&target), Err(Error::Usage(_))));
    write(&database, 31, Durability::Synced);
    let restored = parent.path().join("restored");
    let copied = Database::restore(&target, &restored, &small).unwrap();
    assert_eq!((copied.linked_files, copied.commit_seq), (0, 30));
    drop(database);
    assert_eq!(read(&Database::open(&target, small.clone()).unwrap()), 30);
    assert_eq!(read(&Database::open(&restored, small.clone()).unwrap()), 30);
    assert_eq!(read(&Database::open(&folder, small).unwrap()), 31);
}

/// The record of the load is in the log, and the edit that puts its rows into the tree is not written yet. *Atomic*: at its
/// commit sequence a backup has the rows too.
#[test]
fn a_backup_beside_a_bulk_load_has_its_rows_at_its_commit_sequence() {
    let io = SimulatedIo::new(1);
    let database = open(&io, "/db").unwrap();
    write(&database, 1, Durability::Synced);
    database.flush().unwrap();
    io.hold_writes(Some(".medits"));
    let is_copied = AtomicBool::new(false);
    let backup = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut load = database.bulk_load(&table(&database)).unwrap();
            for id in 0..ROW_COUNT {
                load.upsert(vec![Value::Int64(id), Value::Int64(2)])
                    .unwrap();
            }
            load.finish().unwrap()
        });
        let logged_seq = || {
            let reader = Database::open_read_only("/db", options(&io)).unwrap();
            reader.snapshot().seq()
        };
        while logged_seq() < 2 {
            std::thread::yield_now();
        }
        let backup = scope.spawn(|| {
            let backup = database.backup("/backup").unwrap();
            is_copied.store(true, Ordering::SeqCst);
            backup
        });
        // Whether or not it waits, it has had the time to be wrong.
        for _ in 0..2000 {
            if is_copied.load(Ordering::SeqCst) {
                break;
            }
            std::thread::yield_now();
        }
        io.hold_writes(None);
        assert_eq!(load.join().unwrap(), 2);
        backup.join().unwrap()
    });
    let copy = open(&io, "/backup").unwrap();
    assert_eq!(read(&copy), backup.commit_seq as i64);
}

/// *Honest*: a copy that fails and leaves files behind that can't be removed says what failed, and not that the caller's folder was
/// not empty; nor that a file is damaged which it does not find: that may have gone meanwhile, and it can't look again.
#[test]
fn a_copy_that_can_remove_nothing_says_what_failed() {
    for is_missing in [false, true] {
        let io = SimulatedIo::new(1);
        drop(filled(&io));
        if is_missing {
            let files = files_in(&io, "/db/tree").into_iter();
            for file in files.filter(|path| path.extension().is_some_and(|kind| kind == "mdelta")) {
                io.remove(&file).unwrap();
            }
        }
        let always = |operation| FaultRule {
            operation,
            files: None,
            fault: Fault::Error,
            per_million: 1_000_000,
            lasts: Lasts::Forever,
        };
        let fails: &[Operation] = match is_missing {
            true => &[Operation::Remove],
            false => &[Operation::Remove, Operation::Sync],
        };
        io.set_faults(FaultPlan {
            rules: fails.iter().copied().map(always).collect(),
            ..FaultPlan::default()
        });
        let failed = Database::restore("/db", "/copy", &options(&io)).unwrap_err();
        let text = failed.to_string();
        assert!(matches!(failed, Error::Io { .. }), "{text}");
        assert_eq!(text.contains("is missing"), is_missing, "{text}");
    }
}
