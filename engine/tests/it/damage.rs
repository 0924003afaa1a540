//! *Honest*: whatever becomes of stored bytes, the database is as it was, or the damage is named.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use moonshine_engine::io::{CrashStyle, Damage, Damaged, Io, IoFile, OpenMode, SimulatedIo};
use moonshine_engine::{Database, Durability, Error, Options};

use crate::power::{Draw, options, read, state, table, write};

const KINDS: [Damage; 5] = [
    Damage::Flip,
    Damage::Zero,
    Damage::Cut,
    Damage::Swap,
    Damage::Older,
];

/// A database that was closed after so many transactions, flushed and compacted now and then.
fn closed(seed: u64, count: i64) -> SimulatedIo {
    let disk = SimulatedIo::new(seed);
    let mut draw = Draw(seed);
    let database = Database::open("/db", options(&disk)).unwrap();
    let counts = table(&database).unwrap();
    for n in 1..=count {
        let durability = match draw.below(2) {
            0 => Durability::Buffered,
            _ => Durability::Synced,
        };
        write(&database, &counts, n, durability).unwrap();
        match draw.below(12) {
            0 => database.flush().unwrap(),
            1 => database.compact().unwrap(),
            _ => {}
        }
    }
    disk
}

/// Whether bytes are at the end of the log. There, what is missing or as it was before can't be told from what was never
/// written.
fn is_end_of_log(disk: &SimulatedIo, path: &Path) -> bool {
    let is_log = |path: &Path| path.extension().is_some_and(|kind| kind == "mlog");
    let segments = disk.files().into_iter().map(|(path, _)| path);
    segments.filter(|path| is_log(path)).max().as_deref() == Some(path)
}

/// Whether a byte is of the last edit of its file, by the lengths that edits have before them. What is wrong with that one can't
/// be told from what a crash left of it.
fn is_last_edit(disk: &SimulatedIo, path: &Path, offset: u64) -> bool {
    const FILE_HEADER_SIZE_BYTES: usize = 48;
    const RECORD_HEADER_SIZE_BYTES: usize = 16;
    let file = disk.open(path, OpenMode::Read).unwrap();
    let mut bytes = vec![0; file.len_bytes().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let mut next = FILE_HEADER_SIZE_BYTES;
    let mut last = next;
    while next < bytes.len() {
        last = next;
        let len = bytes[next + RECORD_HEADER_SIZE_BYTES - 4..][..4]
            .try_into()
            .unwrap();
        next += RECORD_HEADER_SIZE_BYTES + u32::from_le_bytes(len) as usize;
    }
    offset >= last as u64
}

/// The damaged file is named. Where the end of a log is lost, it is a file that went or goes on by what stood there.
fn check_named(named: &Path, damaged: &Damaged, may_lack_end: bool, seed: u64) {
    assert!(
        may_lack_end || named == damaged.path,
        "seed {seed}: {named:?}, {damaged:?}"
    );
}

#[test]
fn random_damage_is_named_or_harmless() {
    const COUNT: i64 = 45;
    let (mut named, mut harmless, mut older) = (0, 0, 0);
    for seed in 0..25 {
        let disk = closed(seed, COUNT);
        for (kind, damage_seed) in KINDS
            .into_iter()
            .flat_map(|kind| (0..4).map(move |i| (kind, i)))
        {
            let image = disk.crash(CrashStyle::KeepUnsynced);
            let Some(damaged) = image.damage_random(seed * 10 + damage_seed, kind) else {
                continue;
            };
            let is_edits = damaged
                .path
                .extension()
                .is_some_and(|kind| kind == "medits");
            let is_end = is_end_of_log(&disk, &damaged.path);
            let may_lack_end = match kind {
                Damage::Flip => is_edits && is_last_edit(&disk, &damaged.path, damaged.offset),
                _ => is_edits || is_end,
            };
            let opened = Database::open("/db", options(&image));
            let found = opened.and_then(|database| {
                let n = database.snapshot().seq() as i64;
                Ok((n, read(&database)?))
            });
            match found {
                Err(Error::Corrupt { path, .. }) => {
                    check_named(&path, &damaged, may_lack_end, seed);
                    named += 1;
                }
                Ok((n, rows)) => {
                    assert_eq!(
                        rows,
                        state(n, &BTreeSet::new()),
                        "seed {seed}, {kind:?}: {damaged:?}"
                    );
                    match n {
                        COUNT => harmless += 1,
                        _ => {
                            let may_be = is_end && kind != Damage::Flip;
                            assert!(may_be, "seed {seed}, {kind:?}: {n}, {damaged:?}");
                            older += 1;
                        }
                    }
                }
                Err(error) => panic!("seed {seed}, {kind:?}: {damaged:?}: {error}"),
            }
        }
    }
    assert!(named > 200 && harmless > 5, "{named} {harmless} {older}");
}

/// The newest segment may hold one block alone: that says itself that those before it were durable.
#[test]
fn a_segment_that_lacks_its_last_block_is_named() {
    let disk = SimulatedIo::new(1);
    let roomy = || Options {
        segment_size_bytes_max: Some(4096),
        io: Arc::new(disk.clone()),
        ..Options::unmeasured()
    };
    let segments = || {
        let files = disk.files().into_iter().map(|(path, _)| path);
        let is_log = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "mlog");
        files.filter(is_log).collect::<Vec<PathBuf>>()
    };
    let database = Database::open("/db", roomy()).unwrap();
    let counts = table(&database).unwrap();
    let mut n = 0;
    while segments().len() < 2 {
        n += 1;
        write(&database, &counts, n, Durability::Synced).unwrap();
    }
    drop(counts);
    drop(database);
    let [first, second] = [0, 1].map(|i| disk.open(&segments()[i], OpenMode::Write).unwrap());
    let (blocks, behind) = (block_starts(&*first), block_starts(&*second));
    // What stands behind the first block there may be lost; what stands before it may not.
    second.set_len(behind[1]).unwrap();
    first.set_len(blocks[blocks.len() - 2]).unwrap();
    let opened = Database::open("/db", roomy());
    assert!(matches!(opened, Err(Error::Corrupt { .. })), "{opened:?}");
}

/// The record of a bulk load has no rows. Where the edit that took them into the tree is gone, a later block says that there was one.
#[test]
fn edits_that_lack_a_bulk_load_are_named() {
    let disk = SimulatedIo::new(2);
    let open = |disk: &SimulatedIo| Database::open("/db", options(disk));
    let database = open(&disk).unwrap();
    let rows = database.keyspace("rows").unwrap();
    rows.insert("first", "row").unwrap();
    let mut load = rows.bulk_load().unwrap();
    for i in 0..50_u32 {
        load.insert(i.to_be_bytes(), "loaded").unwrap();
    }
    load.finish().unwrap();
    drop((rows, database));
    let files = disk.files().into_iter();
    let is_edits = |path: &Path| path.extension().is_some_and(|kind| kind == "medits");
    let edits: Vec<_> = files.filter(|(path, _)| is_edits(path)).collect();
    let [(path, size_bytes)] = edits.as_slice() else {
        panic!("{edits:?}");
    };
    let open_read_only = |disk: &SimulatedIo| Database::open_read_only("/db", options(disk));
    for left in (0..*size_bytes).step_by(7) {
        // A reader looks again many times, since a writer may have gone on.
        let is_read_only = left % 10 == 0;
        let image = disk.crash(CrashStyle::KeepUnsynced);
        let file = image.open(path, OpenMode::Write).unwrap();
        file.set_len(left as u64).unwrap();
        let opened = match is_read_only {
            true => open_read_only(&image),
            false => open(&image),
        };
        match opened {
            Err(Error::Corrupt { .. }) => {}
            Err(error) => panic!("{left} bytes: {error}"),
            Ok(database) => {
                let rows = database.keyspace("rows").unwrap();
                assert_eq!(rows.iter().count(), 51, "{left} of {size_bytes} bytes");
            }
        }
    }
}

/// Where the blocks of a segment start, and where the last one ends.
fn block_starts(segment: &dyn IoFile) -> Vec<u64> {
    const FILE_HEADER_SIZE_BYTES: usize = 48;
    const BLOCK_HEADER_SIZE_BYTES: usize = 48;
    let mut bytes = vec![0; segment.len_bytes().unwrap() as usize];
    segment.read_exact_at(&mut bytes, 0).unwrap();
    let mut starts = vec![FILE_HEADER_SIZE_BYTES as u64];
    let mut next = FILE_HEADER_SIZE_BYTES;
    while bytes.get(next..next + 4) == Some(b"MBLK") {
        let size_bytes = bytes[next + 24..][..8].try_into().unwrap();
        next += BLOCK_HEADER_SIZE_BYTES + u64::from_le_bytes(size_bytes) as usize;
        starts.push(next as u64);
    }
    starts
}
