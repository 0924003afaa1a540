//! Flushes that several threads write, and a close in the middle of one or of a compaction.

use std::path::Path;
use std::sync::Arc;

use moonshine_engine::io::{CrashStyle, Io, SimulatedIo};
use moonshine_engine::{Database, Durability, Error, Keyspace, Options};

use crate::disk_full::with_space;
use crate::wait_until;

const ROW_COUNT: u64 = 12_000;

fn open(io: &SimulatedIo) -> (Database, Keyspace) {
    open_with(io, 64 << 20)
}

fn open_with(io: &SimulatedIo, generation_size_bytes: u64) -> (Database, Keyspace) {
    open_sized(io, generation_size_bytes, 8 << 20)
}

/// With that much in a generation, and in a leaf.
fn open_sized(
    io: &SimulatedIo,
    generation_size_bytes: u64,
    fragment_size_bytes: u64,
) -> (Database, Keyspace) {
    let options = Options {
        io: Arc::new(io.clone()),
        profile: moonshine_sysprobe::Profile::given(4096, 4).into(),
        memory_budget_bytes: 256 << 20,
        segment_size_bytes_max: None,
        generation_size_bytes_max: Some(generation_size_bytes),
        fragment_size_bytes_max: Some(fragment_size_bytes),
        compaction_threads: Some(4),
    };
    let database = Database::open(Path::new("/db"), options).unwrap();
    let rows = database.keyspace("rows").unwrap();
    (database, rows.with_durability(Durability::Buffered))
}

fn value(id: u64, round: u64) -> Vec<u8> {
    (id * 10 + round).to_string().repeat(200).into_bytes()
}

/// Every third row deleted, every other one written twice.
fn write(rows: &Keyspace) {
    for round in 0..2 {
        let mut batch = rows.batch();
        for id in 0..ROW_COUNT {
            let key = id.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
            if round == 1 && id % 3 == 0 {
                batch.remove(key).unwrap();
            } else if round == 0 || id % 2 == 0 {
                batch.insert(key, value(id, round)).unwrap();
            }
        }
        batch.commit().unwrap();
    }
}

fn check(rows: &Keyspace) {
    let left = (0..ROW_COUNT).filter(|id| id % 3 != 0).count();
    assert_eq!(rows.iter().count(), left);
    let pairs: Vec<_> = rows.iter().map(|pair| pair.unwrap().0.to_vec()).collect();
    assert!(pairs.is_sorted());
    for id in 0..ROW_COUNT {
        let key = id.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        let expected = (id % 3 != 0).then(|| value(id, u64::from(id % 2 == 0)));
        assert_eq!(
            rows.get(key).unwrap().as_deref(),
            expected.as_deref(),
            "{id}"
        );
    }
}

fn delta_file_count(io: &SimulatedIo) -> usize {
    let files = io.list(Path::new("/db/tree")).unwrap();
    let is_delta = |path: &&std::path::PathBuf| path.extension().is_some_and(|one| one == "mdelta");
    files.iter().filter(is_delta).count()
}

/// *Ordered*, *Atomic*: the files of a flush hold each row once, the newest, and count together, also after a crash.
#[test]
fn the_files_of_a_flush_count_together() {
    let io = SimulatedIo::new(11);
    let (database, rows) = open(&io);
    write(&rows);
    database.sync().unwrap();
    check(&rows);
    assert_eq!(delta_file_count(&io), 0);
    let before = io.crash(CrashStyle::LoseUnsynced);
    database.flush().unwrap();
    assert!(delta_file_count(&io) > 1, "the threads write a file each");
    check(&rows);
    for crashed in [before, io.crash(CrashStyle::LoseUnsynced)] {
        let (_database, rows) = open(&crashed);
        check(&rows);
    }
}

/// *Atomic*, *Durable*: where a file of several finds no space the others go too, and the flush is made once there is space.
#[test]
fn a_flush_counts_whole_or_not_at_all_on_a_full_disk() {
    for writes in [1, 2, 4] {
        let io = SimulatedIo::new(writes);
        let (database, rows) = open(&io);
        write(&rows);
        database.sync().unwrap();
        io.fill_after(Some(writes));
        let full = database.flush();
        assert!(
            matches!(full, Err(Error::NoSpace { .. })),
            "{writes}: {full:?}"
        );
        assert_eq!(delta_file_count(&io), 0, "{writes}");
        let crashed = io.crash(CrashStyle::LoseUnsynced);
        check(&open(&crashed).1);
        check(&rows);
        io.fill_after(None);
        with_space(|| database.flush());
        assert!(delta_file_count(&io) > 1);
        check(&open(&io.crash(CrashStyle::LoseUnsynced)).1);
    }
}

/// *Durable*, *Atomic*: a crash between the files of a flush and its edit leaves files that nobody names, which the next
/// start removes, and the rows in the log.
#[test]
fn a_crash_before_the_edit_leaves_the_rows_in_the_log() {
    let mut last_failed = None;
    for writes in 0.. {
        let io = SimulatedIo::new(writes);
        let (database, rows) = open(&io);
        write(&rows);
        database.sync().unwrap();
        io.fail_writes_after(writes);
        if database.flush().is_ok() {
            break;
        }
        last_failed = Some(io);
    }
    // The edit is the last write of a flush.
    let io = last_failed.unwrap();
    assert!(delta_file_count(&io) > 1, "the files are whole");
    for style in [
        CrashStyle::LoseUnsynced,
        CrashStyle::TearUnsynced(5),
        CrashStyle::KeepUnsynced,
    ] {
        let crashed = io.crash(style);
        let (database, rows) = open(&crashed);
        assert_eq!(delta_file_count(&crashed), 0, "{style:?}");
        check(&rows);
        database.flush().unwrap();
        check(&rows);
    }
}

/// *Durable*, *Atomic*: a close while several threads write a flush ends it, whole or not at all.
#[test]
fn a_close_during_a_flush_loses_nothing() {
    for seed in 0..4 {
        let io = SimulatedIo::new(seed);
        let (database, rows) = open_with(&io, 16 << 20);
        io.hold_writes(Some(".mdelta"));
        write(&rows);
        database.sync().unwrap();
        // All threads are at their files.
        wait_until("several threads write files", || delta_file_count(&io) >= 2);
        std::thread::scope(|scope| {
            scope.spawn(move || drop((database, rows)));
            (0..seed * 1000).for_each(|_| std::thread::yield_now());
            io.hold_writes(None);
        });
        assert_ne!(delta_file_count(&io), 1, "{seed}");
        for style in [CrashStyle::LoseUnsynced, CrashStyle::KeepUnsynced] {
            check(&open(&io.crash(style)).1);
        }
    }
}

/// *Atomic*, *Durable*: a close while a compaction writes ends it there; what it wrote goes, no row does, and the next start does
/// it anew.
#[test]
fn a_close_during_a_compaction_drops_what_it_wrote() {
    // Whether the close comes before the compaction's end is up to the system; mostly it does.
    let ended_early = (0..20).any(|seed| {
        let io = SimulatedIo::new(seed);
        let (database, rows) = open_sized(&io, 64 << 20, 1 << 30);
        write(&rows);
        database.flush().unwrap();
        database.compact().unwrap();
        assert_eq!(database.statistics().tables[0].fragments.len(), 1);
        drop((database, rows));
        let before = delta_file_count(&io);
        // Too much for one leaf now: it divides at once.
        io.hold_writes(Some(".mdelta"));
        let (database, rows) = open_sized(&io, 64 << 20, 1 << 20);
        while delta_file_count(&io) == before {
            std::thread::yield_now();
        }
        std::thread::scope(|scope| {
            scope.spawn(move || drop((database, rows)));
            (0..100_000).for_each(|_| std::thread::yield_now());
            io.hold_writes(None);
        });
        let (database, rows) = open_sized(&io, 64 << 20, 1 << 30);
        check(&rows);
        let ended_early = database.statistics().tables[0].fragments.len() == 1;
        drop((database, rows));
        assert!(!ended_early || delta_file_count(&io) == before);
        let (database, rows) = open_sized(&io, 64 << 20, 1 << 20);
        database.compact().unwrap();
        assert!(database.statistics().tables[0].fragments.len() > 1);
        check(&rows);
        ended_early
    });
    assert!(ended_early, "no compaction ends before it is done");
}
