//! Jobs on small databases, through the seam that the harness uses: what [`operations`] do to the records, and how
//! [`jobs`] begin, share databases, are reported and fail.

mod jobs;
mod operations;

use std::collections::BTreeMap;
use std::path::Path;

use moonshine_engine::{Database, Options};
use moonshine_sysprobe::bench::{DatabaseOptions, DatabaseWorkload, Direction, JobOptions};

use super::dataset::TABLE_NAME;
use super::job_state::OperationCounts;
use super::record::RecordFormat;
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
