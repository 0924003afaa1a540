//! Zeros that are written ahead of the log's end, for small commits to replace.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use moonshine_engine::io::{CrashStyle, Io, OpenMode, SimulatedIo};
use moonshine_engine::{Database, Durability, Error, Keyspace, Options};

fn options(io: &SimulatedIo) -> Options {
    Options {
        io: Arc::new(io.clone()),
        ..Options::unmeasured()
    }
}

fn open(io: &SimulatedIo) -> Result<Keyspace, Error> {
    Database::open("/db", options(io))?.keyspace("pairs")
}

/// Commit n sets the one key to n, in a block of its own.
fn write(pairs: &Keyspace, n: u8) {
    pairs.insert("key", [n; 300]).unwrap();
}

fn read(pairs: &Keyspace) -> u8 {
    pairs.get("key").unwrap().map_or(0, |value| value[0])
}

fn segments(io: &SimulatedIo) -> Vec<(PathBuf, usize)> {
    let is_segment = |path: &Path| path.extension().is_some_and(|ending| ending == "mlog");
    let files = io.files().into_iter();
    files.filter(|(path, _)| is_segment(path)).collect()
}

fn bytes_of(io: &SimulatedIo, (path, len): &(PathBuf, usize)) -> Vec<u8> {
    let mut bytes = vec![0; *len];
    let file = io.open(path, OpenMode::Read).unwrap();
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// A sync that has to bring a new length of the file to the disk costs about twice one that has not.
#[test]
fn synced_commits_don_t_make_the_log_longer() {
    let io = SimulatedIo::new(1);
    let pairs = open(&io).unwrap();
    write(&pairs, 1);
    let with_reserve = segments(&io);
    for n in 2..100 {
        write(&pairs, n);
    }
    assert_eq!(segments(&io), with_reserve);
    drop(pairs);
    let [closed] = segments(&io).try_into().unwrap();
    let bytes = bytes_of(&io, &closed);
    let block_count = bytes.windows(4).filter(|bytes| bytes == b"MBLK").count();
    // The keyspace, 99 commits, and the seal.
    assert_eq!(block_count, 101);
    assert!(
        closed.1 < 101 * 600,
        "{} bytes without the reserve",
        closed.1
    );
    assert_eq!(read(&open(&io).unwrap()), 99);
}

/// Commits that are not synced are copied to where the zeros are mapped. Durable: what a process that dies has copied is
/// there.
#[test]
fn buffered_commits_are_copied_into_zeros() {
    let io = SimulatedIo::new(1);
    let pairs = open(&io).unwrap();
    let buffered = pairs.clone().with_durability(Durability::Buffered);
    write(&buffered, 1);
    let (with_reserve, copied) = (segments(&io), io.mapped_write_count());
    (2..100).for_each(|n| write(&buffered, n));
    assert_eq!(segments(&io), with_reserve);
    assert_eq!(io.mapped_write_count(), copied + 98);
    let died = |io: &SimulatedIo| read(&open(&io.crash(CrashStyle::KeepUnsynced)).unwrap());
    assert_eq!(died(&io), 99);
    // Those that are synced and those that are not take turns, beyond the first zeros.
    for n in 100..250 {
        write(if n % 7 == 0 { &pairs } else { &buffered }, n);
        buffered
            .insert("other", vec![1; 40 * usize::from(n)])
            .unwrap();
        assert_eq!(died(&io), n);
    }
    let lost = io.crash(CrashStyle::LoseUnsynced);
    assert_eq!(read(&open(&lost).unwrap()), 245);
}

/// The same on the system's files: what is copied is read at once, by whoever opens the file.
#[test]
fn what_is_copied_into_zeros_is_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(folder.path(), Options::unmeasured()).unwrap();
    let pairs = database.keyspace("pairs").unwrap();
    let buffered = pairs.with_durability(Durability::Buffered);
    let key = |n: u32| n.to_be_bytes();
    for n in 0..2000 {
        buffered.insert(key(n), [n as u8; 300]).unwrap();
    }
    let beside = Database::open_read_only(folder.path(), Options::unmeasured()).unwrap();
    let found = beside.keyspace("pairs").unwrap();
    for n in 0..2000 {
        assert_eq!(found.get(key(n)).unwrap().unwrap(), [n as u8; 300], "{n}");
    }
}

/// Bounded: a disk that is full when the zeros are used up refuses commits, and takes them again once there is space.
#[test]
fn a_full_disk_refuses_what_zeros_have_no_place_for() {
    let io = SimulatedIo::new(1);
    let pairs = open(&io).unwrap();
    let buffered = pairs.clone().with_durability(Durability::Buffered);
    write(&buffered, 1);
    io.fill_after(Some(3));
    (2..=4).for_each(|n| write(&buffered, n));
    for n in 5..10 {
        let refused = buffered.insert("key", [n; 300]);
        assert!(matches!(refused, Err(Error::NoSpace { .. })), "{refused:?}");
    }
    assert_eq!(read(&pairs), 4);
    io.fill_after(None);
    (10..200).for_each(|n| write(&buffered, n));
    let after = io.crash(CrashStyle::KeepUnsynced);
    assert_eq!(read(&open(&after).unwrap()), 199);
}

/// Durable: a segment goes on whose zeros were cut for a next one that found no space; nothing is copied to where they were.
#[test]
fn a_segment_goes_on_without_the_zeros_that_were_cut() {
    let io = SimulatedIo::new(1);
    let options = Options {
        segment_size_bytes_max: Some(64 << 10),
        ..options(&io)
    };
    let database = Database::open("/db", options).unwrap();
    let pairs = database.keyspace("pairs").unwrap();
    let buffered = pairs.with_durability(Durability::Buffered);
    (1..100).for_each(|n| write(&buffered, n));
    io.fill_after(Some(0));
    let flushed = database.flush();
    assert!(matches!(flushed, Err(Error::NoSpace { .. })), "{flushed:?}");
    io.fill_after(None);
    (100..200).for_each(|n| write(&buffered, n));
    let after = io.crash(CrashStyle::KeepUnsynced);
    assert_eq!(read(&open(&after).unwrap()), 199);
}

/// Durable, atomic: a write that a crash keeps from replacing its zeros ends the log, and what came behind it is gone for
/// good, however the lengths fit.
#[test]
fn a_crash_among_zeros_leaves_all_commits_up_to_one() {
    let mut seen = [0; 5];
    for seed in 0..200 {
        let io = SimulatedIo::new(seed);
        let pairs = open(&io).unwrap();
        write(&pairs, 1);
        let buffered = pairs.clone().with_durability(Durability::Buffered);
        (2..=4).for_each(|n| write(&buffered, n));

        let after = io.crash(CrashStyle::TearUnsynced(seed));
        let check = Database::check("/db", &options(&after)).unwrap();
        assert_eq!(check.problems, [], "seed {seed}");
        let pairs = open(&after).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let found = read(&pairs);
        assert!((1..=4).contains(&found), "seed {seed}: {found}");
        seen[usize::from(found)] += 1;

        let buffered = pairs.clone().with_durability(Durability::Buffered);
        write(&buffered, 50);
        let once_more = after.crash(CrashStyle::KeepUnsynced);
        assert_eq!(read(&open(&once_more).unwrap()), 50, "seed {seed}");
    }
    assert!(
        seen[1] > 0 && seen[2] + seen[3] > 0 && seen[4] > 0,
        "{seen:?}"
    );
}

/// A full disk refuses a commit where there is no space for the commit itself, not for its zeros.
#[test]
fn zeros_that_find_no_space_are_left_out() {
    let io = SimulatedIo::new(1);
    let pairs = open(&io).unwrap();
    let buffered = pairs.clone().with_durability(Durability::Buffered);
    // Beyond the zeros that there are.
    buffered.insert("large", vec![1_u8; 100 << 10]).unwrap();
    let [before] = segments(&io).try_into().unwrap();
    io.fill_after(Some(1));
    write(&pairs, 1);
    let [full] = segments(&io).try_into().unwrap();
    assert!(full.1 < before.1 + 600, "{before:?} {full:?}");
    let refused = pairs.insert("key", [2; 300]);
    assert!(matches!(refused, Err(Error::NoSpace { .. })), "{refused:?}");
    let after = io.crash(CrashStyle::LoseUnsynced);
    assert_eq!(read(&open(&after).unwrap()), 1);
    io.fill_after(None);
    write(&pairs, 3);
    let after = io.crash(CrashStyle::LoseUnsynced);
    assert_eq!(read(&open(&after).unwrap()), 3);
}

/// Honest: zeros where a synced block was are damage, since the blocks behind them say that it was there.
#[test]
fn zeros_in_place_of_a_block_are_named() {
    let io = SimulatedIo::new(1);
    let pairs = open(&io).unwrap();
    (1..=4).for_each(|n| write(&pairs, n));
    let damaged = io.crash(CrashStyle::KeepUnsynced);
    let [segment] = segments(&damaged).try_into().unwrap();
    let bytes = bytes_of(&damaged, &segment);
    let starts: Vec<_> = (0..bytes.len())
        .filter(|at| bytes[*at..].starts_with(b"MBLK"))
        .collect();
    let file = damaged.open(&segment.0, OpenMode::Write).unwrap();
    let zeros = vec![0; starts[3] - starts[2]];
    file.write_all_at(&zeros, starts[2] as u64).unwrap();
    match open(&damaged) {
        Err(Error::Corrupt { path, offset, .. }) => {
            assert_eq!((path, offset), (segment.0, starts[2] as u64));
        }
        other => panic!("{other:?}"),
    }
}

/// Honest: only the newest segment may end in zeros; those before it were cut.
#[test]
fn zeros_behind_an_older_segment_are_named() {
    let io = SimulatedIo::new(1);
    let options = || Options {
        segment_size_bytes_max: Some(1024),
        ..options(&io)
    };
    let pairs = Database::open("/db", options())
        .unwrap()
        .keyspace("pairs")
        .unwrap();
    (1..=20).for_each(|n| write(&pairs, n));
    let segments = segments(&io);
    assert!(segments.len() > 2);
    let (newest, older) = segments.split_last().unwrap();
    assert_eq!(newest.1, 1024);
    for segment in older {
        assert_ne!(bytes_of(&io, segment).last(), Some(&0), "{segment:?}");
    }
    drop(pairs);
    let (path, len) = &older[0];
    let file = io.open(path, OpenMode::Write).unwrap();
    file.set_len(*len as u64 + 100).unwrap();
    match Database::open("/db", options()).map(drop) {
        Err(Error::Corrupt {
            path: named,
            offset,
            ..
        }) => assert_eq!((&named, offset), (path, *len as u64)),
        other => panic!("{other:?}"),
    }
}

/// A segment for whose header there was no space, and whose removal a power loss took back, follows the one that went on.
#[test]
fn a_segment_without_a_header_may_follow_zeros() {
    for header in [&b""[..], b"MOONLOG", &[0; 48]] {
        let io = SimulatedIo::new(1);
        let pairs = open(&io).unwrap();
        write(&pairs, 1);
        let after = io.crash(CrashStyle::LoseUnsynced);
        let [(path, _)] = segments(&after).try_into().unwrap();
        let next = path.with_file_name("log-00000002.mlog");
        let file = after.open(&next, OpenMode::CreateNew).unwrap();
        file.write_all_at(header, 0).unwrap();
        let check = Database::check("/db", &options(&after)).unwrap();
        assert_eq!(check.problems, []);
        let pairs = open(&after).unwrap();
        assert_eq!(read(&pairs), 1);
        write(&pairs, 2);
        drop(pairs);
        assert_eq!(read(&open(&after).unwrap()), 2);
    }
}
