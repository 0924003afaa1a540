//! Jobs on small databases, through the seam that the harness uses.

use std::collections::BTreeMap;
use std::path::Path;

use moonshine_engine::{ColumnType, Database, Options, TableSchema, Value};
use moonshine_sysprobe::bench::{
    DatabaseOptions, DatabaseWorkload, Direction, Distribution, JobOptions, SyncMode,
};

use super::dataset::TABLE_NAME;
use super::job_state::OperationCounts;
use super::record::{RecordFormat, ValueHead};
use super::*;

const KEY_SIZE: usize = 12;
const VALUE_SIZE: usize = 40;
const RECORD_SIZE: u64 = (KEY_SIZE + VALUE_SIZE) as u64;

fn job(folder: &Path, workload: DatabaseWorkload, records: u64) -> JobOptions {
    JobOptions {
        name: "job".into(),
        directory: Some(folder.to_owned()),
        database: DatabaseOptions {
            workload,
            records,
            key_size_bytes: KEY_SIZE as u64,
            value_size_bytes: Some(VALUE_SIZE as u64),
            scan_rows_max: if workload.is_ycsb() { 100 } else { 10 },
            ..DatabaseOptions::default()
        },
        ..JobOptions::default()
    }
}

/// A job for a workload that takes no scans.
fn plain(folder: &Path, workload: DatabaseWorkload, records: u64) -> JobOptions {
    let mut job = job(folder, workload, records);
    job.database.scan_rows_max = 100;
    job
}

/// What a job came to.
struct Ran {
    counts: OperationCounts,
    /// Bytes by direction, as the harness was told.
    read_bytes: u64,
    write_bytes: u64,
    lines: Vec<String>,
}

/// Runs `steps` operations on each of `threads`, in the order in which the harness calls.
fn run(job: &JobOptions, threads: usize, steps: u64) -> Ran {
    let factory = MoonshineFactory::new();
    factory.prepare(job, &RunControl::new()).unwrap();
    let (read_bytes, write_bytes) = steps_of(&factory, job, threads, steps).unwrap();
    let counts = factory.job(job).unwrap().counts();
    let lines = factory.finish(job).unwrap();
    Ran {
        counts,
        read_bytes,
        write_bytes,
        lines,
    }
}

fn steps_of(
    factory: &MoonshineFactory,
    job: &JobOptions,
    threads: usize,
    steps: u64,
) -> Result<(u64, u64), String> {
    let one = &|thread| -> Result<(u64, u64), String> {
        let mut workload = factory.thread(job, thread)?;
        let (mut read, mut write) = (0, 0);
        for _ in 0..steps {
            let done = workload.step()?;
            match done.direction {
                Direction::Read => read += done.bytes,
                Direction::Write => write += done.bytes,
            }
        }
        Ok((read, write))
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || one(thread)))
            .collect();
        let mut sum = (0, 0);
        for thread in threads {
            let (read, write) = thread.join().unwrap()?;
            sum = (sum.0 + read, sum.1 + write);
        }
        Ok(sum)
    })
}

/// The stamps of all records in a job's database, by number.
fn stamps(job: &JobOptions) -> BTreeMap<u64, u64> {
    let database = Database::open(plan::folder(job).unwrap(), Options::default()).unwrap();
    let table = database.table(TABLE_NAME).unwrap();
    let plan = Plan::of(job).unwrap();
    let format = RecordFormat::new(plan.key_size, plan.value_size, &plan.content);
    let mut stamps = BTreeMap::new();
    let snapshot = database.snapshot();
    for batch in snapshot
        .scan(&table, moonshine_engine::Scan::default())
        .unwrap()
    {
        let batch = batch.unwrap();
        let keys = dataset::binary(&batch, 0).unwrap();
        let values = dataset::binary(&batch, 1).unwrap();
        for (key, value) in keys.iter().zip(values) {
            let number = format.number(key.unwrap()).unwrap();
            let head = format.check(number, value.unwrap()).unwrap();
            stamps.insert(number, head.stamp);
        }
    }
    stamps
}

fn assert_numbers(stamps: &BTreeMap<u64, u64>, records: u64) {
    assert!(stamps.keys().copied().eq(0..records), "{:?}", stamps.keys());
}

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
fn a_record_that_is_missing_or_anothers_ends_the_job() {
    let folder = tempfile::tempdir().unwrap();
    let job = plain(folder.path(), DatabaseWorkload::Get, 10);
    let factory = MoonshineFactory::new();
    factory.prepare(&job, &RunControl::new()).unwrap();
    steps_of(&factory, &job, 1, 100).unwrap();
    let dataset = factory.job(&job).unwrap().dataset.clone();
    let mut transaction = dataset.database.begin();
    let mut row = dataset.row(ValueHead {
        number: 3,
        stamp: 0,
    });
    row[0] = Value::Binary(dataset.format.key(4));
    transaction.upsert(&dataset.table, row).unwrap();
    transaction.commit().unwrap();
    let error = steps_of(&factory, &job, 1, 1000).unwrap_err();
    assert!(
        error.contains("record 4 has the value of record 3"),
        "{error}"
    );

    let mut transaction = dataset.database.begin();
    let key = [Value::Binary(dataset.format.key(4))];
    transaction.delete(&dataset.table, &key).unwrap();
    transaction.commit().unwrap();
    let error = steps_of(&factory, &job, 1, 1000).unwrap_err();
    assert!(error.contains("record 4 is not there"), "{error}");
    drop(dataset);
    factory.finish(&job).unwrap();

    let error = factory.prepare(&job, &RunControl::new()).unwrap_err();
    assert!(error.contains("lacks 1 of 10 records"), "{error}");
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

#[test]
fn a_report_says_what_was_loaded_done_and_written() {
    let folder = tempfile::tempdir().unwrap();
    let lines = run(&plain(folder.path(), DatabaseWorkload::Put, 500), 1, 300).lines;
    let text = lines.join("\n");
    assert!(text.contains("0 records found, 500 loaded in"), "{text}");
    assert!(text.contains("update=300"), "{text}");
    let amplification = text.split("write amplification ").nth(1).unwrap();
    assert!(amplification.parse::<f64>().unwrap() >= 1.0, "{text}");
    let lines = run(&plain(folder.path(), DatabaseWorkload::Get, 500), 1, 300).lines;
    let text = lines.join("\n");
    assert!(text.contains("500 records found\n"), "{text}");
    assert!(!text.contains("amplification"), "{text}");
}

#[test]
fn a_stopped_run_loads_no_more_and_the_next_one_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let job = plain(folder.path(), DatabaseWorkload::Get, 100);
    let (factory, control) = (MoonshineFactory::new(), RunControl::new());
    control.stop();
    factory.prepare(&job, &control).unwrap();
    let lines = factory.finish(&job).unwrap();
    assert!(lines[0].ends_with("0 records found"), "{lines:?}");
    let lines = run(&job, 1, 10).lines;
    assert!(lines[0].contains("100 loaded"), "{lines:?}");
}

#[test]
fn jobs_share_the_database_that_they_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut readers = plain(folder.path(), DatabaseWorkload::Get, 100);
    readers.filenames = vec!["shared".into()];
    let mut writers = plain(folder.path(), DatabaseWorkload::Put, 100);
    writers.filenames = readers.filenames.clone();
    writers.unlink = true;
    let mut greedy = readers.clone();
    greedy.database.records = 101;
    let factory = MoonshineFactory::new();
    factory.prepare(&readers, &RunControl::new()).unwrap();
    factory.prepare(&writers, &RunControl::new()).unwrap();
    let error = factory.prepare(&greedy, &RunControl::new()).unwrap_err();
    assert!(error.contains("stonewall"), "{error}");
    steps_of(&factory, &readers, 2, 50).unwrap();
    steps_of(&factory, &writers, 2, 50).unwrap();
    factory.finish(&readers).unwrap();
    assert!(folder.path().join("shared").exists());
    factory.finish(&writers).unwrap();
    assert!(!folder.path().join("shared").exists());
    // Alone it may load what it lacks.
    factory.prepare(&greedy, &RunControl::new()).unwrap();
    factory.finish(&greedy).unwrap();
}

#[test]
fn folders_that_hold_something_else_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let job = plain(folder.path(), DatabaseWorkload::Put, 10);
    let prepare = || {
        MoonshineFactory::new()
            .prepare(&job, &RunControl::new())
            .unwrap_err()
    };
    let path = folder.path().join("job");
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("letter.txt"), "dear").unwrap();
    let error = prepare();
    assert!(error.contains("holds files and no database"), "{error}");
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 1);
    std::fs::remove_file(path.join("letter.txt")).unwrap();

    let database = Database::open(&path, Options::default()).unwrap();
    let schema = TableSchema::builder("shop.orders")
        .column("id", ColumnType::Int64, false)
        .primary_key(["id"])
        .build()
        .unwrap();
    database.create_table(schema).unwrap();
    drop(database);
    let error = prepare();
    assert!(error.contains("'shop.orders'"), "{error}");

    let mut nowhere = job.clone();
    nowhere.directory = Some(folder.path().join("nowhere"));
    let error = MoonshineFactory::new()
        .prepare(&nowhere, &RunControl::new())
        .unwrap_err();
    assert!(
        error.contains("nowhere") && error.contains("No such file"),
        "{error}"
    );
}

#[test]
fn a_database_of_other_records_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let job = plain(folder.path(), DatabaseWorkload::Get, 10);
    run(&job, 1, 1);
    let mut other_values = job.clone();
    other_values.database.value_size_bytes = Some(50);
    let error = MoonshineFactory::new()
        .prepare(&other_values, &RunControl::new())
        .unwrap_err();
    assert!(error.contains("40 bytes instead of 50"), "{error}");
    let mut other_keys = job.clone();
    other_keys.database.key_size_bytes = 20;
    let error = MoonshineFactory::new()
        .prepare(&other_keys, &RunControl::new())
        .unwrap_err();
    assert!(error.contains("keys"), "{error}");
}

#[test]
fn options_that_mean_nothing_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let base = plain(folder.path(), DatabaseWorkload::Get, 10);
    type Change = fn(&mut JobOptions);
    let changes: [(&str, Change); 11] = [
        ("direct", |job| job.direct = true),
        ("rwmixread", |job| job.rwmix_read_percent = 70),
        ("scan_length", |job| job.database.scan_rows_max = 7),
        ("batch", |job| job.database.batch = 7),
        ("records=0", |job| job.database.records = 0),
        ("key_size=7", |job| job.database.key_size_bytes = 7),
        ("value_size=15", |job| {
            job.database.value_size_bytes = Some(15);
        }),
        ("miss", |job| job.database.miss_percent = 101),
        ("miss", |job| {
            job.database.workload = DatabaseWorkload::YcsbC;
            job.database.miss_percent = 1;
        }),
        ("random_distribution", |job| {
            job.database.workload = DatabaseWorkload::YcsbC;
            job.random_distribution = Distribution::Zipf {
                theta: 1.2,
                center: None,
            };
        }),
        ("filename", |job| {
            job.filenames = vec!["a".into(), "b".into()];
        }),
    ];
    for (option, change) in changes {
        let mut job = base.clone();
        change(&mut job);
        let error = MoonshineFactory::new()
            .prepare(&job, &RunControl::new())
            .unwrap_err();
        assert!(error.contains(option), "{option}: {error}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
