//! Each kind of fault strikes, is counted, and does what it says; and damage, and the death of a process.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;

use super::tests::{Step, bytes, create, letters, make};
use super::*;

fn plan(operation: Operation, fault: Fault, lasts: Lasts) -> FaultPlan {
    FaultPlan {
        seed: 3,
        rules: vec![FaultRule {
            operation,
            files: None,
            fault,
            per_million: 1_000_000,
            lasts,
        }],
        ..FaultPlan::default()
    }
}

#[test]
fn a_failed_sync_is_told_once_to_each_opener_and_loses_what_it_was_to_keep() {
    let io = SimulatedIo::new(1);
    let file = create(&io, "/a");
    let second = io.open(Path::new("/a"), OpenMode::Write).unwrap();
    file.write_all_at(&[b'a'; 512], 0).unwrap();
    io.set_faults(plan(Operation::Sync, Fault::Error, Lasts::Once));
    assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(5));
    io.set_faults(FaultPlan::default());
    assert_eq!(io.fault_counts().of(Operation::Sync, Fault::Error), 1);
    file.sync_data().unwrap();
    let third = io.open(Path::new("/a"), OpenMode::Write).unwrap();
    third.sync_data().unwrap();
    second.sync_data().unwrap_err();
    second.sync_data().unwrap();
    assert_eq!(letters(&bytes(&io, "/a")), "a");
    let lost = |seed| {
        let io = SimulatedIo::new(1);
        let file = create(&io, "/a");
        file.write_all_at(&[b'a'; 512], 0).unwrap();
        io.set_faults(FaultPlan {
            seed,
            ..plan(Operation::Sync, Fault::Error, Lasts::Once)
        });
        file.sync_data().unwrap_err();
        bytes(&io.crash(CrashStyle::LoseUnsynced), "/a").is_empty()
    };
    let count = (0..100).filter(|seed| lost(*seed)).count();
    assert!((40..100).contains(&count), "{count}");
}

#[test]
fn what_is_lost_on_its_way_is_told_to_the_next_opener_too() {
    let io = SimulatedIo::new(1);
    let file = create(&io, "/a");
    io.set_faults(plan(Operation::Write, Fault::LostLater, Lasts::Once));
    file.write_all_at(&[b'a'; 512], 0).unwrap();
    let later = io.open(Path::new("/a"), OpenMode::Write).unwrap();
    later.sync_data().unwrap_err();
    file.sync_data().unwrap_err();
    assert!(later.sync_data().is_ok() && file.sync_data().is_ok());
}

#[test]
fn each_kind_of_fault_strikes_is_counted_and_does_what_it_says() {
    let path = Path::new("/db/log-00000001.mlog");
    let every = [
        Operation::Read,
        Operation::Write,
        Operation::Sync,
        Operation::SetLen,
        Operation::Open,
        Operation::Create,
        Operation::Rename,
        Operation::Remove,
        Operation::Link,
        Operation::List,
        Operation::PunchHole,
        Operation::CreateFolder,
        Operation::SyncFolder,
    ];
    for operation in every {
        let io = SimulatedIo::new(1);
        let file = create(&io, path.to_str().unwrap());
        file.write_all_at(&[b'a'; 1024], 0).unwrap();
        let call = || match operation {
            Operation::Read => file.read_exact_at(&mut [0; 8], 0),
            Operation::Write => file.write_all_at(&[b'b'; 1024], 0),
            Operation::Sync => file.sync_data(),
            Operation::SetLen => file.set_len(1),
            Operation::Open => io.open(path, OpenMode::Read).map(drop),
            Operation::Create => io
                .open(Path::new("/db/new.mlog"), OpenMode::CreateNew)
                .map(drop),
            Operation::Rename => io.rename(path, Path::new("/db/b")),
            Operation::Remove => io.remove(path),
            Operation::Link => io.hard_link(path, Path::new("/db/b")),
            Operation::List => io.list(Path::new("/db/log")).map(drop),
            Operation::PunchHole => io.punch_hole(path, 0, 512).map(drop),
            Operation::CreateFolder => io.create_folder(Path::new("/db/log")),
            Operation::SyncFolder => io.sync_folder(Path::new("/db/log")),
        };
        let before = (io.files(), bytes(&io, "/db/log-00000001.mlog"));
        let mut of_log = plan(operation, Fault::Error, Lasts::Forever);
        of_log.rules[0].files = Some(FileKind::Log);
        io.set_faults(of_log);
        for count in 1..3 {
            assert_eq!(call().unwrap_err().raw_os_error(), Some(5), "{operation:?}");
            assert_eq!(io.fault_counts().of(operation, Fault::Error), count);
        }
        io.set_faults(plan(
            operation,
            Fault::Hang(Duration::from_secs(9)),
            Lasts::Once,
        ));
        assert_eq!(
            (io.files(), bytes(&io, "/db/log-00000001.mlog")),
            before,
            "{operation:?}"
        );
        let started = io.now();
        assert!(call().is_ok(), "{operation:?}");
        assert!(io.now() - started >= Duration::from_secs(9));
    }
}

#[test]
fn writes_fail_in_part_and_reads_return_flipped_bits() {
    let after = |fault| {
        let io = SimulatedIo::new(1);
        let file = create(&io, "/a");
        io.set_faults(plan(Operation::Write, fault, Lasts::Once));
        let kind = file
            .write_all_at(&[b'a'; 1024], 0)
            .map_err(|error| error.kind());
        (kind.err(), letters(&bytes(&io, "/a")))
    };
    assert_eq!(after(Fault::Short).1, "a");
    assert_eq!(after(Fault::AfterArrival).1, "aa");
    assert_eq!(
        after(Fault::NoSpace),
        (Some(ErrorKind::StorageFull), "a".into())
    );
    assert_eq!(after(Fault::LostLater), (None, "aa".into()));
    for (fault, is_stored) in [(Fault::FlipRead, false), (Fault::FlipStored, true)] {
        let io = SimulatedIo::new(1);
        create(&io, "/a").write_all_at(&[0; 64], 0).unwrap();
        io.set_faults(plan(Operation::Read, fault, Lasts::Once));
        let ones = |bytes: Vec<u8>| bytes.iter().map(|byte| byte.count_ones()).sum::<u32>();
        assert_eq!(ones(bytes(&io, "/a")), 1);
        io.set_faults(FaultPlan::default());
        assert_eq!(ones(bytes(&io, "/a")), u32::from(is_stored));
    }
}

#[test]
fn a_file_that_broke_stays_broken_and_others_do_not() {
    let io = SimulatedIo::new(1);
    let (one, other) = (create(&io, "/one"), create(&io, "/other"));
    let mut rare = plan(Operation::Write, Fault::Error, Lasts::File);
    rare.rules[0].per_million = 100_000;
    io.set_faults(rare);
    while one.write_all_at(b"a", 0).is_ok() {}
    assert!((0..50).all(|_| one.write_all_at(b"a", 0).is_err()));
    assert!((0..50).any(|_| other.write_all_at(b"a", 0).is_ok()));
}

#[test]
fn space_is_taken_by_blocks_and_given_back() {
    const BLOCK: usize = 4096;
    let io = SimulatedIo::new(1);
    let file = create(&io, "/a");
    file.write_all_at(&[1; BLOCK], 0).unwrap();
    let capacity_bytes = Some(4 * BLOCK as u64);
    io.set_faults(FaultPlan {
        capacity_bytes,
        ..FaultPlan::default()
    });
    let free = |io: &SimulatedIo| io.free_bytes(Path::new("/")).unwrap().unwrap() / BLOCK as u64;
    assert_eq!(free(&io), 3);
    let full = file.write_all_at(&[2; 5 * BLOCK], 0).unwrap_err();
    assert_eq!((full.kind(), free(&io)), (ErrorKind::StorageFull, 0));
    assert_eq!(
        file.len_bytes().unwrap(),
        4 * BLOCK as u64,
        "what has space arrives"
    );
    let refused = io.open(Path::new("/b"), OpenMode::CreateNew).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::StorageFull);
    // What has space is written over.
    file.write_all_at(&[3; 4 * BLOCK], 0).unwrap();
    io.punch_hole(Path::new("/a"), 1, 2 * BLOCK as u64).unwrap();
    assert_eq!(free(&io), 1);
    file.set_len(BLOCK as u64).unwrap();
    assert_eq!(free(&io), 3);
    io.remove(Path::new("/a")).unwrap();
    assert_eq!(free(&io), 3, "it is open");
    drop(file);
    assert_eq!(free(&io), 4);
}

#[test]
fn a_process_has_so_many_files_open_and_lists_come_in_no_order() {
    let io = SimulatedIo::new(1);
    let files: Vec<_> = (0..5).map(|i| create(&io, &format!("/{i}"))).collect();
    io.set_faults(FaultPlan {
        open_files_max: Some(5),
        shuffles_lists: true,
        ..FaultPlan::default()
    });
    let open = |io: &SimulatedIo| io.open(Path::new("/1"), OpenMode::Read);
    assert_eq!(open(&io).unwrap_err().raw_os_error(), Some(24));
    open(&io.of_process(1)).unwrap();
    drop(files);
    open(&io).unwrap();
    let lists: BTreeSet<Vec<PathBuf>> = (0..50).map(|_| io.list(Path::new("/")).unwrap()).collect();
    assert!(lists.len() > 10 && lists.iter().all(|list| list.len() == 5));
}

#[test]
fn slow_episodes_come_and_go_in_simulated_time() {
    let io = SimulatedIo::new(1);
    let file = create(&io, "/a");
    io.set_faults(FaultPlan {
        latency: Latency {
            call: Duration::from_millis(1),
            byte: Duration::from_micros(1),
            episodes_per_million: 20_000,
            episode: Duration::from_millis(500),
            episode_factor: 100,
        },
        ..FaultPlan::default()
    });
    let mut times: BTreeMap<u128, u64> = BTreeMap::new();
    for _ in 0..1000 {
        let before = io.now();
        file.write_all_at(&[1; 1000], 0).unwrap();
        *times.entry((io.now() - before).as_millis()).or_default() += 1;
    }
    assert!(times[&2] > 500 && times[&200] > 5, "{times:?}");
}

#[test]
fn a_killed_process_changes_nothing_more() {
    let disk = SimulatedIo::new(1);
    let (process, other) = (disk.of_process(1), disk.of_process(2));
    let file = process.open(Path::new("/a"), OpenMode::CreateNew).unwrap();
    file.write_all_at(&[b'a'; 512], 0).unwrap();
    let mut map = file.map(0, 512).unwrap().unwrap();
    file.share().unwrap();
    let _lock = process.try_lock(Path::new("/LOCK")).unwrap().unwrap();
    assert!(other.try_lock(Path::new("/LOCK")).unwrap().is_none());
    assert!(!other.punch_hole(Path::new("/a"), 0, 512).unwrap());
    process.kill_after(2);
    file.write_all_at(&[b'b'; 512], 0).unwrap();
    file.sync_data().unwrap();
    let refused = [
        file.write_all_at(&[b'c'; 512], 0),
        file.sync_data(),
        file.set_len(0),
        file.read_exact_at(&mut [0; 8], 0),
        map.write_all_parts_at(&[b"c"], 0),
        process.remove(Path::new("/a")),
        process.rename(Path::new("/a"), Path::new("/b")),
        process.sync_folder(Path::new("/")),
        process.list(Path::new("/")).map(drop),
    ];
    for result in refused {
        assert!(ProcessGone::is_in(&result.unwrap_err()));
    }
    assert!(process.is_dead() && !other.is_dead());
    assert_eq!(letters(&bytes(&other, "/a")), "b");
    assert!(other.try_lock(Path::new("/LOCK")).unwrap().is_some());
    assert!(other.punch_hole(Path::new("/a"), 0, 512).unwrap());
}

#[test]
fn damage_is_where_it_is_said_to_be() {
    let kinds = [
        Damage::Flip,
        Damage::Zero,
        Damage::Cut,
        Damage::Swap,
        Damage::Older,
    ];
    for (kind, seed) in kinds
        .into_iter()
        .flat_map(|kind| (0..50).map(move |seed| (kind, seed)))
    {
        let steps = [
            Step::Write(0, 3, 'a'),
            Step::Write(1, 1, 'b'),
            Step::Sync,
            Step::Write(2, 1, 'c'),
            Step::Sync,
        ];
        let io = make(&steps);
        let before = bytes(&io, "/a");
        let Some(damaged) = io.damage_random(seed, kind) else {
            assert_eq!(kind, Damage::Swap);
            continue;
        };
        let after = bytes(&io.crash(CrashStyle::LoseUnsynced), "/a");
        let differs = |i: &usize| before.get(*i) != after.get(*i);
        let changed: Vec<usize> = (0..before.len()).filter(differs).collect();
        let (first, last) = (changed[0] as u64, changed[changed.len() - 1] as u64);
        assert_eq!(
            (damaged.offset, damaged.size_bytes),
            (first, last + 1 - first),
            "{kind:?}"
        );
    }
}

#[test]
fn the_same_seed_is_the_same_outcome() {
    let run = |seed: u64| {
        let io = SimulatedIo::new(seed);
        let mut rules = plan(Operation::Write, Fault::Short, Lasts::Once).rules;
        rules[0].per_million = 300_000;
        io.set_faults(FaultPlan {
            seed,
            rules,
            shuffles_lists: true,
            ..FaultPlan::default()
        });
        let mut outcome = Vec::new();
        for i in 0..20_u8 {
            let file = create(&io, &format!("/{i}"));
            outcome.push(file.write_all_at(&[i; 2000], 0).is_ok());
        }
        let after = io.crash_image(CrashStyle::TearUnsynced(seed), NamesStyle::Any(seed));
        let files: Vec<_> = after
            .files()
            .into_iter()
            .map(|(path, _)| bytes(&after, path.to_str().unwrap()))
            .collect();
        (
            outcome,
            files,
            io.fault_counts(),
            io.list(Path::new("/")).unwrap(),
        )
    };
    for seed in 0..50 {
        assert_eq!(run(seed), run(seed));
        assert_ne!(run(seed), run(seed + 1));
    }
}
