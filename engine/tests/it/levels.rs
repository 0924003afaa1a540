//! Below level 0: what flushes and compactions keep, what crashes between their steps leave, and what they give back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use moonshine_engine::io::{CrashStyle, Io, OpenMode, SimulatedIo};
use moonshine_engine::{
    Database, Durability, Error, ExportFile, Keyspace, Options, PendingExport, Placement, Snapshot,
};
use uuid::Uuid;

use crate::wait_until;

const GENERATION_SIZE_BYTES: u64 = 16 << 10;

fn options(io: &SimulatedIo) -> Options {
    Options {
        io: Arc::new(io.clone()),
        profile: moonshine_sysprobe::Profile::given(4096, 4).into(),
        memory_budget_bytes: 256 << 10,
        segment_size_bytes_max: Some(8 << 10),
        generation_size_bytes_max: Some(GENERATION_SIZE_BYTES),
        fragment_size_bytes_max: Some(32 << 10),
        compaction_threads: Some(3),
    }
}

fn open(io: &SimulatedIo) -> Result<(Database, Keyspace), Error> {
    let database = Database::open(Path::new("/db"), options(io))?;
    let keyspace = database.keyspace("pairs")?;
    Ok((database, keyspace))
}

fn key(k: u32) -> Vec<u8> {
    format!("key {k:06}").into_bytes()
}

/// Writes some keys in a commit.
fn write(keyspace: &Keyspace, keys: impl Iterator<Item = u32>, value: &str) -> Result<(), Error> {
    let mut batch = keyspace.batch();
    for k in keys {
        batch.insert(key(k), value)?;
    }
    batch.commit()
}

fn rows(keyspace: &Keyspace, snapshot: &Snapshot) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let all = keyspace.range_at::<&[u8]>(snapshot, ..).unwrap();
    let all = all.map(|pair| pair.map(|(key, value)| (key.to_vec(), value.to_vec())));
    all.collect::<Result<_, _>>().unwrap()
}

fn files(io: &SimulatedIo, ending: &str) -> Vec<(PathBuf, usize)> {
    let mut files = io.files();
    files.retain(|(path, _)| path.to_string_lossy().ends_with(ending));
    files
}

fn size_bytes(io: &SimulatedIo, ending: &str) -> usize {
    files(io, ending).iter().map(|(_, size)| size).sum()
}

/// RowSets of fragments that have children.
fn row_sets_on_their_way(database: &Database) -> u64 {
    let tables = database.statistics().tables;
    let fragments = tables.iter().flat_map(|table| &table.fragments);
    let inner = fragments.filter(|fragment| !fragment.is_leaf);
    inner.map(|fragment| fragment.held.row_sets).sum()
}

/// *Bounded*: what is too little for the leaves does not stay above them, where all that comes next would be held up, but
/// goes down while nobody writes.
#[test]
fn a_small_rest_goes_down_while_nobody_writes() {
    let io = SimulatedIo::new(3);
    let (database, keyspace) = open(&io).unwrap();
    for round in 0..8 {
        write(&keyspace, round * 200..(round + 1) * 200, &"v".repeat(100)).unwrap();
        database.flush().unwrap();
    }
    let table = database.statistics().tables.swap_remove(0);
    assert!(table.levels.len() > 1, "it has divided");
    for rest in 0..5 {
        write(&keyspace, rest..rest + 1, "rest").unwrap();
        database.flush().unwrap();
        wait_until("the rest goes down", || {
            row_sets_on_their_way(&database) == 0
        });
    }
    assert_eq!(rows(&keyspace, &database.snapshot()).len(), 1600);
}

/// *Bounded*: the log, the memory and the space for rows that were replaced all end somewhere.
#[test]
fn the_log_the_memory_and_dead_rows_stay_under_their_limits() {
    let io = SimulatedIo::new(1);
    let (database, keyspace) = open(&io).unwrap();
    let keyspace = keyspace.with_durability(Durability::Buffered);
    let value = "v".repeat(200);
    for round in 0..400 {
        write(
            &keyspace,
            (0..40).map(|k| (round * 7 + k * 13) % 500),
            &value,
        )
        .unwrap();
        let (generations, pages) = database.memory_used_bytes();
        // Four generations, the one that is written beyond its end by a commit.
        assert!(
            generations <= 5 * GENERATION_SIZE_BYTES + 40_000,
            "{generations}"
        );
        assert!(
            pages <= 256 << 10,
            "{pages} bytes of pages in round {round}"
        );
    }
    database.flush().unwrap();
    database.compact().unwrap();
    let log = size_bytes(&io, ".mlog");
    assert!(log < 100_000, "a log of {log} bytes");
    let live = 500 * (10 + 200);
    let stored = size_bytes(&io, ".mdelta");
    // 32 times as much was written. A leaf may have 8 RowSets with the same keys, and one RowSet keeps its file.
    assert!(stored < 12 * live, "{stored} bytes for {live}");
    assert_eq!(keyspace.iter().count(), 500);
    let listed = database.log_segments().unwrap();
    assert_eq!(listed.len(), files(&io, ".mlog").len());
    drop((database, keyspace));
    let (_, keyspace) = open(&io).unwrap();
    assert_eq!(keyspace.iter().count(), 500);
}

/// *Ordered*: a snapshot keeps what it sees through flushes, merges and divisions, and what it kept goes after it.
#[test]
fn held_snapshots_keep_what_they_see() {
    let io = SimulatedIo::new(2);
    let (database, keyspace) = open(&io).unwrap();
    let mut held = Vec::new();
    for round in 0..30_u32 {
        write(
            &keyspace,
            (0..60).map(|k| (k * 7 + round * 31) % 400),
            &format!("{round} {}", "x".repeat(100)),
        )
        .unwrap();
        for k in 0..10 {
            keyspace.remove(key((round * 17 + k) % 400)).unwrap();
        }
        if round % 11 == 7 {
            let mut transaction = database.begin();
            transaction.truncate(keyspace.table()).unwrap();
            transaction.commit().unwrap();
        }
        let snapshot = database.snapshot();
        let seen = rows(&keyspace, &snapshot);
        held.push((snapshot, seen));
        if round % 3 == 0 {
            database.flush().unwrap();
        }
        if round % 5 == 0 {
            database.compact().unwrap();
        }
        if round % 4 == 3 {
            held.remove(round as usize % held.len());
        }
        for (snapshot, seen) in &held {
            assert_eq!(rows(&keyspace, snapshot), *seen);
            for k in (0..400).step_by(37) {
                let found = keyspace.get_at(snapshot, key(k)).unwrap();
                assert_eq!(found.as_deref(), seen.get(&key(k)).map(Vec::as_slice));
            }
        }
    }
    let last = rows(&keyspace, &database.snapshot());
    drop(held);
    for _ in 0..10 {
        write(&keyspace, std::iter::once(999), "more").unwrap();
        database.flush().unwrap();
    }
    database.compact().unwrap();
    let stored = size_bytes(&io, ".mdelta");
    assert!(stored < 400_000, "{stored}");
    let mut now = rows(&keyspace, &database.snapshot());
    now.remove(&key(999));
    assert_eq!(now, last);
}

/// *Durable*: whichever write is the last one of a flush and its compactions, nothing is lost and no file is left over.
#[test]
fn a_crash_at_each_write_of_a_flush_loses_nothing() {
    let base = SimulatedIo::new(3);
    let (database, keyspace) = open(&base).unwrap();
    for round in 0..40_u32 {
        write(
            &keyspace,
            (0..20).map(|k| (k * 11 + round * 3) % 300),
            &format!("{round}{}", "y".repeat(60)),
        )
        .unwrap();
    }
    let expected = rows(&keyspace, &database.snapshot());
    drop((database, keyspace));
    for writes in 0..60 {
        let io = base.crash(CrashStyle::LoseUnsynced);
        let (database, keyspace) = open(&io).unwrap();
        assert_eq!(rows(&keyspace, &database.snapshot()), expected);
        io.fail_writes_after(writes);
        let done = database.flush().and_then(|()| database.compact());
        // Reading goes on, whatever failed.
        assert_eq!(rows(&keyspace, &database.snapshot()), expected);
        let style = match writes % 3 {
            0 => CrashStyle::LoseUnsynced,
            1 => CrashStyle::KeepUnsynced,
            _ => CrashStyle::TearUnsynced(writes),
        };
        let after = io.crash(style);
        drop((database, keyspace));
        let (database, keyspace) = open(&after).unwrap();
        assert_eq!(
            rows(&keyspace, &database.snapshot()),
            expected,
            "{writes} writes"
        );
        database.flush().unwrap();
        database.compact().unwrap();
        write(&keyspace, std::iter::once(0), "goes on").unwrap();
        drop((database, keyspace));
        let (before, (database, _)) = (files(&after, ".mdelta"), open(&after).unwrap());
        assert_eq!(files(&after, ".mdelta"), before, "files that no edit names");
        drop((database, done));
    }
}

/// *Honest*: a flipped bit in the edits or in a file of rows is named, or changes nothing.
#[test]
fn damage_below_level_0_is_named() {
    let io = SimulatedIo::new(4);
    let (database, keyspace) = open(&io).unwrap();
    for round in 0..4 {
        write(&keyspace, (0..30).map(|k| k * 2 + round), "value").unwrap();
        database.flush().unwrap();
    }
    database.compact().unwrap();
    let expected = rows(&keyspace, &database.snapshot());
    drop((database, keyspace));
    let mut named = 0;
    for ending in [".medits", ".mdelta"] {
        for (path, len) in files(&io, ending) {
            for offset in (0..len).step_by(3) {
                let damaged = io.crash(CrashStyle::KeepUnsynced);
                damaged.damage(&path, offset, 1 << (offset % 8)).unwrap();
                let read = open(&damaged).and_then(|(database, keyspace)| {
                    let all = keyspace.range_at::<&[u8]>(&database.snapshot(), ..)?;
                    let all =
                        all.map(|pair| pair.map(|(key, value)| (key.to_vec(), value.to_vec())));
                    let all = all.collect::<Result<BTreeMap<_, _>, _>>()?;
                    // By ordinal too: what is replaced is in the patches.
                    let mut by_ordinal = BTreeMap::new();
                    keyspace.snapshot().for_each(|key, value| {
                        let twice = by_ordinal.insert(key.to_vec(), value.to_vec());
                        assert_eq!(twice, None, "{} byte {offset}", path.display());
                    })?;
                    assert_eq!(by_ordinal, all, "{} byte {offset}", path.display());
                    Ok(all)
                });
                match read {
                    Ok(rows) => assert_eq!(rows, expected, "{} byte {offset}", path.display()),
                    Err(Error::Corrupt { path: reported, .. }) => {
                        // A cut-off edit shows in the log, which is too short for it, or in a file that is missing.
                        let known = reported == path || ending == ".medits";
                        assert!(known, "{} for {}", reported.display(), path.display());
                        named += 1;
                    }
                    Err(other) => panic!("{} byte {offset}: {other}", path.display()),
                }
            }
        }
    }
    assert!(named > 500, "{named}");
}

fn pending(database: &Database) -> PendingExport {
    let mut pending = database.pending_exports();
    assert_eq!(pending.len(), 1);
    pending.remove(0)
}

/// *Once*: an export whose outcome comes late is what it was, through flushes, compactions, crashes and a truncate.
#[test]
fn a_pending_export_outlives_flushes_and_crashes() {
    for truncates in [false, true] {
        for committed in [false, true] {
            export_pending(truncates, committed);
        }
    }
}

fn export_pending(truncates: bool, committed: bool) {
    let io = SimulatedIo::new(5);
    let (database, keyspace) = open(&io).unwrap();
    write(&keyspace, 0..100, "first").unwrap();
    let mut export = database
        .begin_export(keyspace.table(), &database.snapshot())
        .unwrap();
    write(&keyspace, 50..150, "during").unwrap();
    let file = ExportFile {
        path: "one".into(),
        row_count: 100,
    };
    export.prepare(Uuid::from_u128(1), &[file]).unwrap();
    drop((export, database, keyspace));
    let mut io = io;
    for round in 0..4_u32 {
        io = io.crash(CrashStyle::LoseUnsynced);
        let (database, keyspace) = open(&io).unwrap();
        assert_eq!(pending(&database).commit_id(), Uuid::from_u128(1));
        write(&keyspace, 90 + round * 10..160, "later").unwrap();
        if truncates && round == 1 {
            let mut transaction = database.begin();
            transaction.truncate(keyspace.table()).unwrap();
            transaction.commit().unwrap();
        }
        database.flush().unwrap();
        database.compact().unwrap();
    }
    let (database, keyspace) = open(&io.crash(CrashStyle::LoseUnsynced)).unwrap();
    if committed {
        pending(&database).commit("token".into()).unwrap();
    } else {
        pending(&database).abort().unwrap();
    }
    for _ in 0..2 {
        let snapshot = database.snapshot();
        let changes = database.changes(keyspace.table(), &snapshot).unwrap();
        let live = rows(&keyspace, &snapshot);
        // Of the exported keys 0 to 99, those from 50 on were written again; a truncate takes all of them.
        let first_removed = if truncates { 0 } else { 50 };
        let removed: Vec<Placement> = (first_removed..100)
            .map(|position| Placement {
                file: "one".into(),
                position,
            })
            .collect();
        let expected = if committed { removed } else { Vec::new() };
        assert!(changes.removed().iter().eq(expected));
        let kept = if committed && !truncates { 50 } else { 0 };
        assert_eq!(changes.row_count(), live.len() as u64 - kept);
        database.flush().unwrap();
        database.compact().unwrap();
    }
}

/// A reader beside a writer sees a whole state, while files come and go under it.
#[test]
fn a_reader_beside_a_writer_finds_its_files() {
    let io = SimulatedIo::new(6);
    let (database, keyspace) = open(&io).unwrap();
    write(&keyspace, 0..100, "0").unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 1..60 {
                write(&keyspace, 0..100, &round.to_string()).unwrap();
                database.flush().unwrap();
                if round % 10 == 0 {
                    database.compact().unwrap();
                }
            }
        });
        while !writer.is_finished() {
            let other = Database::open_read_only(Path::new("/db"), options(&io)).unwrap();
            let Some(table) = other.table("pairs") else {
                continue;
            };
            let snapshot = other.snapshot();
            let batches = snapshot
                .scan(&table, moonshine_engine::Scan::default())
                .unwrap();
            let mut values = Vec::new();
            for batch in batches {
                use arrow_array::cast::AsArray;
                let batch = batch.unwrap();
                let column = batch.column(1).as_binary::<i32>();
                values.extend(column.iter().map(|value| value.unwrap().to_vec()));
            }
            assert_eq!(values.len(), 100);
            assert!(
                values.iter().all(|value| *value == values[0]),
                "half a transaction"
            );
        }
    });
}

/// *Durable*: a crash between an edit and the removal of what it replaced leaves files that the next start passes over
/// and removes.
#[test]
fn files_that_an_edit_replaced_do_no_harm() {
    let io = SimulatedIo::new(7);
    let (database, keyspace) = open(&io).unwrap();
    let mut seen = BTreeMap::new();
    for round in 0..60_u32 {
        let keys = (0..40).map(|k| (k * 3 + round) % 100);
        write(&keyspace, keys, &format!("{round} {}", "z".repeat(50))).unwrap();
        if round % 3 == 0 {
            database.flush().unwrap();
        }
        for (path, len) in io.files() {
            // It may be gone by now.
            let Ok(file) = io.open(&path, OpenMode::Read) else {
                continue;
            };
            let mut bytes = vec![0; len];
            if file.read_exact_at(&mut bytes, 0).is_ok() {
                seen.insert(path, bytes);
            }
        }
    }
    database.flush().unwrap();
    database.compact().unwrap();
    let expected = rows(&keyspace, &database.snapshot());
    drop((database, keyspace));
    let left = io.files();
    let is_gone = |path: &PathBuf| !left.iter().any(|(other, _)| other == path);
    let gone: Vec<_> = seen.into_iter().filter(|(path, _)| is_gone(path)).collect();
    let of = |ending: &str| {
        let ends = |(path, _): &&(PathBuf, Vec<u8>)| path.to_string_lossy().ends_with(ending);
        gone.iter().filter(ends).count()
    };
    assert!(
        of(".mlog") > 2 && of(".mdelta") > 2,
        "what there is to bring back"
    );
    for (path, bytes) in &gone {
        let file = io.open(path, OpenMode::CreateNew).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file.sync_data().unwrap();
    }
    let (database, keyspace) = open(&io).unwrap();
    assert_eq!(rows(&keyspace, &database.snapshot()), expected);
    let now: Vec<_> = io.files().into_iter().map(|(path, _)| path).collect();
    assert!(gone.iter().all(|(path, _)| !now.contains(path)));
}
