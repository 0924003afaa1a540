//! What operations do to the records.

use std::collections::BTreeMap;

use moonshine_sysprobe::bench::{DatabaseWorkload, RunControl, SyncMode};

use super::*;

#[test]
fn puts_replace_records_and_leave_the_last_one_of_each() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = plain(folder.path(), DatabaseWorkload::Put, 50);
    job.database.batch = 3;
    let ran = run(&job, 1, 40);
    assert_eq!((ran.counts.updates, ran.counts.reads), (40, 0));
    assert_eq!((ran.read_bytes, ran.write_bytes), (0, 120 * RECORD_SIZE));
    assert_eq!(ran.counts.written_bytes, ran.write_bytes);

    // The same draws again say which records were written last, and by which put.
    let mut random = Random::of_thread(&job, 0);
    let mut chooser = Plan::of(&job).unwrap().chooser(50, &mut random);
    let mut expected: BTreeMap<u64, u64> = (0..50).map(|number| (number, 0)).collect();
    let mut puts = 0;
    for _ in 0..40 {
        random.draw();
        for _ in 0..3 {
            puts += 1;
            expected.insert(chooser.choose(50, &mut random), puts << 16);
        }
    }
    assert_eq!(stamps(&job), expected);
}

#[test]
fn a_seed_repeats_a_run_and_threads_differ() {
    let stamps_of = |seed, thread_count| {
        let folder = tempfile::tempdir().unwrap();
        let mut job = plain(folder.path(), DatabaseWorkload::Put, 1000);
        job.randseed = seed;
        job.randrepeat = seed.is_some();
        run(&job, thread_count, 30);
        stamps(&job)
    };
    let once = stamps_of(Some(7), 1);
    assert_eq!(once, stamps_of(Some(7), 1));
    assert_ne!(once, stamps_of(Some(8), 1));
    assert_ne!(stamps_of(None, 1), stamps_of(None, 1));
    // Two threads that drew the same would leave no more records changed than one.
    let changed = |stamps: &BTreeMap<u64, u64>| stamps.values().filter(|&&stamp| stamp > 0).count();
    assert!(changed(&stamps_of(Some(7), 2)) > changed(&once) + 10);
}

#[test]
fn inserts_of_many_threads_leave_no_record_out_and_a_second_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = plain(folder.path(), DatabaseWorkload::Insert, 0);
    job.database.batch = 4;
    let ran = run(&job, 4, 25);
    assert_eq!(ran.counts.inserts, 100);
    assert_eq!(ran.write_bytes, 400 * RECORD_SIZE);
    assert_numbers(&stamps(&job), 400);

    job.sync = SyncMode::Dsync;
    let ran = run(&job, 3, 10);
    assert!(
        ran.lines[0].contains("400 records found"),
        "{:?}",
        ran.lines
    );
    assert_numbers(&stamps(&job), 520);
}

#[test]
fn gets_find_what_is_there_and_miss_their_share() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = plain(folder.path(), DatabaseWorkload::Get, 100);
    job.database.miss_percent = 25;
    let ran = run(&job, 2, 1000);
    assert_eq!(ran.counts.reads, 2000);
    // 500 expected, with a standard deviation of 19.
    assert!((380..620).contains(&ran.counts.missed), "{:?}", ran.counts);
    let hits = 2000 - ran.counts.missed;
    assert_eq!(
        ran.read_bytes,
        hits * RECORD_SIZE + ran.counts.missed * KEY_SIZE as u64
    );
    assert_eq!(ran.write_bytes, 0);
    assert!(stamps(&job).values().all(|&stamp| stamp == 0));
    job.database.miss_percent = 100;
    assert_eq!(run(&job, 1, 50).counts.missed, 50);
}

#[test]
fn scans_return_as_many_rows_as_there_are_up_to_their_length() {
    let folder = tempfile::tempdir().unwrap();
    let ran = run(&job(folder.path(), DatabaseWorkload::Scan, 200), 2, 50);
    assert_eq!(ran.counts.scans, 100);
    assert_eq!(ran.read_bytes, ran.counts.scanned_rows * RECORD_SIZE);
    // Only a scan that begins at one of the last nine of 200 keys is shorter than 10.
    assert!(
        (800..=1000).contains(&ran.counts.scanned_rows),
        "{:?}",
        ran.counts
    );

    let mut job = job(folder.path(), DatabaseWorkload::Scan, 200);
    job.database.scan_rows_max = 1000;
    let ran = run(&job, 1, 100);
    // From a random key to the end: half of all on average, with a standard deviation of 6.
    let mean = ran.counts.scanned_rows / 100;
    assert!((60..140).contains(&mean), "{:?}", ran.counts);
}

#[test]
fn read_modify_writes_that_wait_are_all_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = job(folder.path(), DatabaseWorkload::YcsbF, 20);
    job.sync = SyncMode::Sync;
    let ran = run(&job, 1, 200);
    let changes = ran.counts.read_modify_writes;
    assert_eq!(ran.counts.reads + changes, 200);
    assert!((50..150).contains(&changes));
    assert_eq!(ran.write_bytes, changes * RECORD_SIZE);
    assert_eq!(stamps(&job).values().sum::<u64>(), changes);
}

#[test]
fn the_mix_is_that_of_the_workload() {
    let folder = tempfile::tempdir().unwrap();
    use DatabaseWorkload::{Mixed, YcsbA, YcsbB, YcsbC, YcsbD, YcsbE};
    // Shares of 400 operations, within six standard deviations.
    for (workload, reads, updates, inserts, scans) in [
        (YcsbA, 140..=260, 140..=260, 0..=0, 0..=0),
        (YcsbB, 354..=399, 1..=46, 0..=0, 0..=0),
        (YcsbC, 400..=400, 0..=0, 0..=0, 0..=0),
        (YcsbD, 354..=399, 0..=0, 1..=46, 0..=0),
        (YcsbE, 0..=0, 0..=0, 1..=46, 354..=399),
        (Mixed, 60..=180, 220..=340, 0..=0, 0..=0),
    ] {
        let mut job = plain(folder.path(), workload, 60);
        if workload == Mixed {
            job.rwmix_read_percent = 30;
        }
        let counts = run(&job, 1, 400).counts;
        assert!(reads.contains(&counts.reads), "{workload:?}: {counts:?}");
        assert!(
            updates.contains(&counts.updates),
            "{workload:?}: {counts:?}"
        );
        assert!(
            inserts.contains(&counts.inserts),
            "{workload:?}: {counts:?}"
        );
        assert!(scans.contains(&counts.scans), "{workload:?}: {counts:?}");
    }
}

#[test]
fn reads_of_the_latest_find_what_other_threads_insert() {
    for sync in [SyncMode::None, SyncMode::Dsync] {
        for workload in [DatabaseWorkload::YcsbD, DatabaseWorkload::YcsbE] {
            let folder = tempfile::tempdir().unwrap();
            let mut job = job(folder.path(), workload, 10);
            job.sync = sync;
            let ran = run(&job, 4, 300);
            assert!(ran.counts.inserts > 0);
            assert_numbers(&stamps(&job), 10 + ran.counts.inserts);
        }
    }
}

#[test]
fn a_sync_makes_durable_what_was_only_submitted() {
    let folder = tempfile::tempdir().unwrap();
    let job = plain(folder.path(), DatabaseWorkload::Put, 10);
    let factory = MoonshineFactory::new();
    factory.prepare(&job, &RunControl::new()).unwrap();
    let database = factory.job(&job).unwrap().dataset.database.clone();
    let loaded_seq = database.durable_seq();
    let mut workload = factory.thread(&job, 0).unwrap();
    for _ in 0..20 {
        workload.step().unwrap();
    }
    workload.sync().unwrap();
    assert_eq!(database.durable_seq(), loaded_seq + 20);
    drop((workload, database));
    factory.finish(&job).unwrap();
}

#[test]
fn writes_that_wait_are_durable_after_each_step() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = plain(folder.path(), DatabaseWorkload::Put, 10);
    job.sync = SyncMode::Dsync;
    let factory = MoonshineFactory::new();
    factory.prepare(&job, &RunControl::new()).unwrap();
    let state = factory.job(&job).unwrap();
    let mut workload = factory.thread(&job, 0).unwrap();
    for step in 1..=20 {
        let before = state.dataset.database.durable_seq();
        workload.step().unwrap();
        assert_eq!(state.dataset.database.durable_seq(), before + 1);
        assert!(state.dataset.written().0.syncs >= step);
    }
    drop((workload, state));
    let lines = factory.finish(&job).unwrap();
    assert!(lines[2].contains("write amplification"), "{lines:?}");
}
