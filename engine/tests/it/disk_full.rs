//! A disk that fills up: writers are told, readers go on, and writing resumes by itself when there is space again.
//!
//! Defends *durable* (what was acknowledged is there), *atomic* and *honest* (what failed for lack of space is not there,
//! neither now nor after a crash) at every write that may be the one that finds no space.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use moonshine_engine::io::{CrashStyle, Io, OpenMode, SimulatedIo, SyscallIo};
use moonshine_engine::{
    ColumnType, CommitHandle, Database, Durability, Error, ExportFile, Options, Scan, Table,
    TableSchema, Value,
};
use uuid::Uuid;

fn open(io: &SimulatedIo) -> Database {
    let options = Options {
        io: Arc::new(io.clone()),
        segment_size_bytes_max: Some(2048),
        generation_size_bytes_max: Some(4096),
        fragment_size_bytes_max: Some(8192),
        ..Options::unmeasured()
    };
    Database::open(Path::new("/db"), options).unwrap()
}

fn table(database: &Database) -> Table {
    let schema = TableSchema::builder("rows")
        .column("id", ColumnType::Int64, false)
        .column("text", ColumnType::Utf8, false)
        .primary_key(["id"])
        .build()
        .unwrap();
    database.create_table(schema).unwrap()
}

/// Transaction n has rows 2n and 2n + 1: one without the other is half a transaction.
fn submit(database: &Database, table: &Table, n: i64) -> Result<CommitHandle, Error> {
    let mut transaction = database.begin();
    for id in [2 * n, 2 * n + 1] {
        let text = format!("{n} {}", "x".repeat(100));
        transaction
            .upsert(table, vec![Value::Int64(id), Value::Utf8(text)])
            .unwrap();
    }
    transaction.submit()
}

/// The transactions that are there.
fn found(database: &Database) -> BTreeSet<i64> {
    let table = table(database);
    let mut ids = Vec::new();
    for batch in database.snapshot().scan(&table, Scan::default()).unwrap() {
        let batch = batch.unwrap();
        let column = batch.column(0).as_any();
        let column = column.downcast_ref::<arrow_array::Int64Array>().unwrap();
        ids.extend(column.values().iter().copied());
    }
    let found: BTreeSet<i64> = ids.iter().map(|id| id / 2).collect();
    assert_eq!(ids.len(), 2 * found.len(), "half a transaction: {ids:?}");
    found
}

fn is_no_space<T>(result: &Result<T, Error>) -> bool {
    match result {
        Ok(_) => false,
        Err(Error::NoSpace { .. }) => true,
        Err(error) => panic!("{error}"),
    }
}

/// Does what waited for space. A try that began before there was any may fail after.
pub(crate) fn with_space(act: impl Fn() -> Result<(), Error>) {
    while is_no_space(&act()) {}
}

/// Writes without waiting while the disk is full: either it is queued, or it is refused.
fn submit_to(database: &Database, rows: &Table, n: i64, queued: &mut BTreeSet<i64>) {
    let submitted = submit(database, rows, n);
    if !is_no_space(&submitted) {
        queued.insert(n);
    }
}

#[test]
fn full_at_any_write_and_then_space_again() {
    let mut failed_count = 0;
    for writes in 0..70 {
        let io = SimulatedIo::new(writes);
        let database = open(&io);
        let rows = table(&database);
        let (mut there, mut queued) = (BTreeSet::new(), BTreeSet::new());
        io.fill_after(Some(writes));
        for n in 0..60 {
            if n % 7 == 3 {
                submit_to(&database, &rows, n, &mut queued);
                continue;
            }
            let committed = submit(&database, &rows, n).and_then(CommitHandle::wait);
            if is_no_space(&committed) {
                failed_count += 1;
            } else {
                there.insert(n);
                // What was queued before it is written before it.
                there.append(&mut queued);
            }
            if n % 20 == 19 {
                is_no_space(&database.flush());
                is_no_space(&database.compact());
            }
        }
        let while_full = found(&database);
        assert!(while_full.is_superset(&there) && while_full.is_subset(&(&there | &queued)));
        for style in [
            CrashStyle::LoseUnsynced,
            CrashStyle::KeepUnsynced,
            CrashStyle::TearUnsynced(writes),
        ] {
            let after = found(&open(&io.crash(style)));
            assert!(
                after.is_superset(&there),
                "{writes} {style:?}: rows are lost"
            );
            assert!(after.is_subset(&(&there | &queued)), "{writes} {style:?}");
        }
        io.fill_after(None);
        // The generations that wait are flushed first; nothing has to be reopened.
        with_space(|| database.flush());
        submit(&database, &rows, 1000).unwrap().wait().unwrap();
        there.append(&mut queued);
        there.insert(1000);
        with_space(|| database.compact());
        assert_eq!(found(&database), there, "{writes}");
        let after = open(&io.crash(CrashStyle::LoseUnsynced));
        assert_eq!(found(&after), there, "{writes}");
        drop(database);
        assert_eq!(found(&open(&io)), there, "{writes}");
    }
    assert!(failed_count > 100, "{failed_count}");
}

/// *Once*: who waits for a sequence, as a connector does before it acknowledges, is not told that it is durable.
#[test]
fn what_nobody_waits_for_is_kept_and_written_by_itself() {
    let io = SimulatedIo::new(1);
    let database = open(&io);
    let rows = table(&database);
    io.fill_after(Some(0));
    let first = submit(&database, &rows, 1).unwrap();
    let (first_seq, failed) = (first.seq(), submit(&database, &rows, 2).unwrap());
    let last = submit(&database, &rows, 3).unwrap();
    let last_seq = last.seq();
    drop((first, last));
    // In the middle of those that stay: its sequence stays too.
    assert!(is_no_space(&failed.wait()));
    assert!(is_no_space(&database.wait_durable(first_seq)));
    assert!(database.durable_seq() < first_seq);
    assert_eq!(found(&database), BTreeSet::new());
    io.fill_after(None);
    with_space(|| database.wait_durable(last_seq));
    assert_eq!(found(&database), BTreeSet::from([1, 3]));
    assert_eq!(database.durable_seq(), last_seq);
    assert_eq!(
        found(&open(&io.crash(CrashStyle::LoseUnsynced))),
        BTreeSet::from([1, 3])
    );
}

/// *Honest*: a key does not exist because of a row that found no space.
#[test]
fn what_found_no_space_refuses_nobody() {
    let io = SimulatedIo::new(1);
    let database = open(&io);
    let rows = table(&database);
    let insert = |text: &str| {
        let mut transaction = database.begin();
        let row = vec![Value::Int64(2), Value::Utf8(text.to_owned())];
        transaction.insert(&rows, row).unwrap();
        transaction.submit()
    };
    io.fill_after(Some(0));
    let (first, second) = (insert("first").unwrap(), insert("second").unwrap());
    assert!(is_no_space(&first.wait()));
    io.fill_after(None);
    assert_eq!(second.wait().unwrap(), 2);
    let found = database.snapshot().get(&rows, &[Value::Int64(2)]).unwrap();
    assert_eq!(found.unwrap()[1], Value::Utf8("second".into()));
    // While what is there refuses.
    assert!(matches!(insert("third"), Err(Error::Exists { .. })));
}

/// *Bounded*: commits that fail leave nothing in memory, and the queue of those that nobody waits for has a limit.
#[test]
fn a_full_disk_bounds_what_is_queued() {
    let io = SimulatedIo::new(1);
    let database = open(&io);
    let rows = table(&database);
    io.fill_after(Some(0));
    for n in 0..1000 {
        assert!(is_no_space(
            &submit(&database, &rows, n).and_then(CommitHandle::wait)
        ));
    }
    // Nothing of them holds a sequence.
    let handle = submit(&database, &rows, 1).unwrap();
    assert_eq!(handle.seq(), database.durable_seq() + 1);
    drop(handle);
    let refused = (0..1_000_000).any(|n| is_no_space(&submit(&database, &rows, n)));
    assert!(refused, "the queue grows without bound");
}

/// Many at once: each is told what became of its own.
#[test]
fn concurrent_writers_are_each_told() {
    let io = SimulatedIo::new(1);
    let database = open(&io);
    let rows = table(&database);
    let (done, committed_count) = (AtomicBool::new(false), AtomicU64::new(0));
    let there: BTreeSet<i64> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|thread| {
                let (database, rows, done, count) = (&database, &rows, &done, &committed_count);
                scope.spawn(move || {
                    let mut there = BTreeSet::new();
                    for n in (thread * 1_000_000..).take_while(|_| !done.load(Ordering::Relaxed)) {
                        let committed = submit(database, rows, n).and_then(CommitHandle::wait);
                        if !is_no_space(&committed) {
                            there.insert(n);
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    there
                })
            })
            .collect();
        let mut round = 0;
        while committed_count.load(Ordering::Relaxed) < 500 {
            round += 1;
            io.fill_after(Some(round % 5));
            is_no_space(&database.flush());
            io.fill_after(None);
            is_no_space(&database.flush());
        }
        done.store(true, Ordering::Relaxed);
        let joined = writers.into_iter().map(|writer| writer.join().unwrap());
        joined.flatten().collect()
    });
    assert!(!there.is_empty());
    assert_eq!(found(&database), there);
    assert_eq!(found(&open(&io.crash(CrashStyle::LoseUnsynced))), there);
}

#[test]
fn a_table_and_an_export_wait_for_space_too() {
    let io = SimulatedIo::new(1);
    let database = open(&io);
    let rows = table(&database);
    submit(&database, &rows, 1).unwrap().wait().unwrap();
    io.fill_after(Some(0));
    let schema = TableSchema::builder("more")
        .column("id", ColumnType::Int64, false)
        .primary_key(["id"])
        .build()
        .unwrap();
    assert!(is_no_space(&database.create_table(schema.clone())));
    assert!(database.table("more").is_none());
    let files = [ExportFile {
        path: "one".into(),
        row_count: 2,
    }];
    let mut export = database.begin_export(&rows, &database.snapshot()).unwrap();
    assert!(is_no_space(&export.prepare(Uuid::from_u128(1), &files)));
    drop(export);
    assert!(database.pending_exports().is_empty());
    io.fill_after(None);
    let mut export = database.begin_export(&rows, &database.snapshot()).unwrap();
    export.prepare(Uuid::from_u128(2), &files).unwrap();
    io.fill_after(Some(0));
    assert!(is_no_space(&export.commit("token".into())));
    let pending = database.pending_exports().pop().unwrap();
    assert!(is_no_space(&pending.commit("token".into())));
    io.fill_after(None);
    let pending = database.pending_exports().pop().unwrap();
    assert_eq!(pending.commit_id(), Uuid::from_u128(2));
    pending.commit("token".into()).unwrap();
    assert_eq!(database.exported(&rows).unwrap().token, "token");
    database.create_table(schema).unwrap();
    let after = open(&io.crash(CrashStyle::LoseUnsynced));
    assert!(after.table("more").is_some());
    assert!(after.pending_exports().is_empty());
    assert!(after.exported(&rows_of(&after)).is_some());
}

fn rows_of(database: &Database) -> Table {
    database.table("rows").unwrap()
}

/// Commits a row of its own.
fn write(
    database: &Database,
    table: &Table,
    id: i64,
    size_bytes: usize,
    durability: Durability,
) -> Result<u64, Error> {
    let mut transaction = database.begin();
    transaction.set_durability(durability);
    let row = vec![Value::Int64(id), Value::Utf8("x".repeat(size_bytes))];
    transaction.upsert(table, row).unwrap();
    transaction.commit()
}

/// What is left of a large block must not stand behind the smaller one that comes next.
#[test]
fn nothing_of_a_failed_block_stays_in_the_log() {
    let io = SimulatedIo::new(1);
    let database = open(&io);
    let rows = table(&database);
    let write = |id, size_bytes, durability| write(&database, &rows, id, size_bytes, durability);
    write(0, 10, Durability::Synced).unwrap();
    io.fill_after(Some(0));
    assert!(is_no_space(&write(1, 1400, Durability::Synced)));
    io.fill_after(None);
    // Without zeros, which would cover what is left.
    write(2, 10, Durability::Buffered).unwrap();
    // It begins the next segment.
    write(3, 1900, Durability::Synced).unwrap();
    let options = Options {
        io: Arc::new(io.crash(CrashStyle::KeepUnsynced)),
        ..Options::unmeasured()
    };
    assert_eq!(Database::check("/db", &options).unwrap().problems, []);
    let after = Database::open("/db", options).unwrap();
    assert_eq!(after.snapshot().row_count(&rows_of(&after)).unwrap(), 3);
}

/// A sync that fails is not taken for a full disk: what it covered is in an unknown state.
#[test]
fn a_failed_sync_poisons_also_beside_a_full_disk() {
    let io = SimulatedIo::new(1);
    let database = open(&io);
    let rows = table(&database);
    io.fail_syncs_with(Some(ErrorKind::StorageFull));
    let failed = submit(&database, &rows, 1).unwrap().wait();
    assert!(matches!(failed, Err(Error::Poisoned(_))));
    io.fail_syncs(false);
    assert!(matches!(
        submit(&database, &rows, 2),
        Err(Error::Poisoned(_))
    ));
    assert_eq!(found(&database), BTreeSet::new());
}

/// *Durable*: the sync that a full segment ends with covers buffered commits too, so it counts as any other.
#[test]
fn a_failed_sync_at_the_end_of_a_segment_poisons() {
    let io = SimulatedIo::new(1);
    let options = Options {
        io: Arc::new(io.clone()),
        segment_size_bytes_max: Some(2048),
        ..Options::unmeasured()
    };
    // Nothing is flushed meanwhile, which would sync too.
    let database = Database::open("/db", options).unwrap();
    let rows = table(&database);
    // It leaves zeros, which are cut when the segment is full.
    write(&database, &rows, 0, 10, Durability::Synced).unwrap();
    let seq = write(&database, &rows, 1, 10, Durability::Buffered).unwrap();
    io.fail_syncs_with(Some(ErrorKind::StorageFull));
    let failed = write(&database, &rows, 2, 1900, Durability::Buffered);
    assert!(matches!(failed, Err(Error::Poisoned(_))), "{failed:?}");
    io.fail_syncs(false);
    assert!(database.sync().is_err());
    assert!(database.durable_seq() < seq);
}

/// The same on a real file system: one in memory, in a mount namespace of its own, that is as small as the test needs.
/// Where the system does not let this process make one, there is nothing to see here; in CI, which skips nothing, that fails.
#[test]
fn a_real_file_system_that_is_full() {
    const FOLDER: &str = "MOONSHINE_TEST_SMALL_FILE_SYSTEM";
    if let Ok(folder) = std::env::var(FOLDER) {
        return fill_and_free(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let mount = "mount -t tmpfs -o size=3m tmpfs \"$1\" || exit 75; exec \"$2\" --exact \
                 disk_full::a_real_file_system_that_is_full";
    let status = std::process::Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", mount, "sh"])
        .arg(folder.path())
        .arg(std::env::current_exe().unwrap())
        .env(FOLDER, folder.path())
        .status();
    match status.map(|status| status.code()) {
        Ok(Some(0)) => {}
        // Not permitted, or there is no such program.
        Ok(Some(1 | 75)) | Err(_) => {
            let reason = "no small file system can be mounted here: it takes `unshare` of util-linux, and a system that lets \
                          a process have user and mount namespaces of its own";
            assert!(std::env::var_os("CI").is_none(), "{reason}");
            eprintln!("{reason}");
        }
        Ok(code) => panic!("the test within ended with {code:?}"),
    }
}

fn fill_and_free(folder: &Path) {
    let small = Options {
        segment_size_bytes_max: Some(64 << 10),
        generation_size_bytes_max: Some(128 << 10),
        ..Options::unmeasured()
    };
    let database = Database::open(folder.join("db"), small.clone()).unwrap();
    let rows = table(&database);
    let ballast = folder.join("ballast");
    let file = SyscallIo.open(&ballast, OpenMode::CreateNew).unwrap();
    file.write_all_at(&vec![1; 1 << 20], 0).unwrap();
    drop(file);
    let (mut there, mut failed) = (BTreeSet::new(), 0);
    for n in 0.. {
        let committed = submit(&database, &rows, n).and_then(CommitHandle::wait);
        if is_no_space(&committed) {
            failed += 1;
            if failed == 50 {
                break;
            }
        } else {
            there.insert(n);
        }
    }
    assert_eq!(found(&database), there, "while it is full");
    SyscallIo.remove(&ballast).unwrap();
    with_space(|| submit(&database, &rows, 1_000_000)?.wait().map(|_| ()));
    there.insert(1_000_000);
    assert_eq!(found(&database), there);
    drop(database);
    assert_eq!(
        found(&Database::open(folder.join("db"), small).unwrap()),
        there
    );
}
