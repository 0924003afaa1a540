//! How jobs begin, share databases, are reported and fail.

use std::time::Duration;

use moonshine_engine::{ColumnType, Database, Options, TableSchema, Value};
use moonshine_sysprobe::bench::{
    DatabaseWorkload, Distribution, Extent, JobEngine, JobOptions, JobStats, run_jobs,
};

use super::super::record::ValueHead;
use super::*;

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

/// Runs a job as the command does.
fn run_by_harness(job: &JobOptions) -> JobStats {
    let job = JobOptions {
        ioengine: JobEngine::Workload(ENGINE_NAME.into()),
        group_reporting: true,
        ..job.clone()
    };
    let factory = MoonshineFactory::new();
    let report = run_jobs(&[job], &[&factory], &RunControl::new(), &()).unwrap();
    assert!(factory.state().datasets.is_empty());
    report.reported().remove(0)
}

#[test]
fn the_harness_counts_syncs_and_ends_a_job_after_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = plain(folder.path(), DatabaseWorkload::Put, 30);
    job.numjobs = 3;
    job.fdatasync = 2;
    let stats = run_by_harness(&job);
    // As much as the records have, on each thread.
    assert_eq!(stats.directions.write.total_ios, 90);
    assert_eq!(stats.directions.write.io_bytes, 90 * RECORD_SIZE);
    assert_eq!(stats.sync.total_ios, 45);
    job.size = Some(Extent::Percent(50));
    assert_eq!(run_by_harness(&job).directions.write.total_ios, 45);
    job.size = None;
    job.number_ios = Some(50);
    assert_eq!(run_by_harness(&job).directions.write.total_ios, 150);
}

#[test]
fn operations_of_the_ramp_are_done_and_not_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = plain(folder.path(), DatabaseWorkload::Get, 30);
    job.ramp_time = Duration::from_millis(100);
    job.runtime = Some(Duration::from_millis(100));
    job.time_based = true;
    let stats = run_by_harness(&job);
    let counted = stats.directions.read.total_ios;
    let line = stats.report_lines[1]
        .strip_prefix("operations: read=")
        .unwrap();
    let done: u64 = line.parse().unwrap();
    assert!(counted > 0 && counted < done, "{counted} of {done}");
}

#[test]
fn a_read_that_fails_is_the_jobs_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = plain(folder.path(), DatabaseWorkload::Get, 10);
    job.number_ios = Some(1000);
    run(&job, 1, 1);
    let path = plan::folder(&job).unwrap();
    let database = Database::open(path, Options::default()).unwrap();
    let table = database.table(TABLE_NAME).unwrap();
    let format = RecordFormat::new(KEY_SIZE, VALUE_SIZE, &job.buffer_content);
    let mut transaction = database.begin();
    let row = vec![Value::Binary(format.key(4)), Value::Binary(vec![0; 40])];
    transaction.upsert(&table, row).unwrap();
    transaction.commit().unwrap();
    drop((table, database));
    let stats = run_by_harness(&job);
    assert_ne!(stats.error, 0);
    let text = stats.error_text.unwrap();
    assert!(
        text.contains("record 4 has the value of record 0"),
        "{text}"
    );
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
fn a_database_larger_than_its_memory_is_read_from_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = plain(folder.path(), DatabaseWorkload::Get, 2000);
    job.database.value_size_bytes = Some(1000);
    let read_bytes = |job: &JobOptions| {
        let factory = MoonshineFactory::new();
        factory.prepare(job, &RunControl::new()).unwrap();
        steps_of(&factory, job, 1, 500).unwrap();
        let (io, _) = factory.job(job).unwrap().dataset.written();
        factory.finish(job).unwrap();
        io.read_bytes
    };
    assert_eq!(read_bytes(&job), 0);
    job.database.memory_budget_bytes = Some(100_000);
    assert!(read_bytes(&job) > 0);
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
