//! The workload of redb's published comparison, in its order and sizes: keys of 24 bytes, values of 150.
//!
//! Its own generator makes the rows, inside the clock as there; its own adapters are not used, so that settings are
//! those of this harness, but for the 4 GiB cache that it gives every engine.

use std::time::Instant;

use super::{Job, mib};
use crate::data::{Rng, ensure};
use crate::kv::{Durability, Kv, Reader, Result, Sink};
use crate::measure::{self, Done, Rate, Usage, run as run_threads};

const INDIVIDUAL_WRITES: u64 = 1_000;
const BATCH_COUNT: u64 = 100;
const BATCH_ROWS: u64 = 1_000;
const NOSYNC_WRITES: u64 = 50_000;
const SCAN_ROWS: u64 = 10;
const READ_THREADS: [usize; 4] = [4, 8, 16, 32];
/// What the published run has; fewer rows than this scale the numbers of reads down with them.
const PUBLISHED_ROWS: u64 = 5_000_000;
const PUBLISHED_READS: u64 = 1_000_000;
const PUBLISHED_SCANS: u64 = 500_000;

/// The rows in their order, from the same start each time. Each has a seed of its own, so that a thread can start in
/// the middle of them.
struct Rows {
    next: u64,
    key: [u8; 24],
    value: [u8; 150],
}

impl Rows {
    fn from(start: u64) -> Self {
        Rows {
            next: start,
            key: [0; 24],
            value: [0; 150],
        }
    }

    fn advance(&mut self) {
        let mut rng = Rng::new(self.next);
        rng.fill(&mut self.key);
        rng.fill(&mut self.value);
        self.next += 1;
    }

    fn put(&mut self, sink: &mut dyn Sink) -> Result<()> {
        self.advance();
        sink.put(&self.key, &self.value)
    }
}

pub(super) fn run<K: Kv>(job: &Job) -> Result<()> {
    let mut kv = K::open(&job.folder, job.sizes.redb_bench_memory)?;
    let row_count = writes(job, &kv)?;
    reads(job, &kv, row_count)?;
    for threads in READ_THREADS {
        threaded_reads(job, &kv, row_count, threads)?;
    }
    let removed = row_count / 2;
    let before = Usage::now()?;
    let mut rows = Rows::from(0);
    kv.write(Durability::Synced, |sink| {
        (0..removed).try_for_each(|_| {
            rows.advance();
            sink.delete(&rows.key)
        })
    })?;
    job.rate("removals", before.since(removed)?);
    let left = kv.reader()?.len()?;
    ensure(left == row_count - removed, || {
        format!("{left} rows are left of {}", row_count - removed)
    })?;
    job.figure(
        "uncompacted size",
        mib(measure::disk_bytes(&job.folder)?),
        "MiB",
    );
    if kv.compact()? {
        // Some engines free space only at the next commit; the published run makes one too.
        kv.write(Durability::Synced, |sink| Rows::from(row_count).put(sink))?;
        job.figure(
            "compacted size",
            mib(measure::disk_bytes(&job.folder)?),
            "MiB",
        );
    }
    Ok(())
}

/// Loads and writes; returns how many rows there are then.
fn writes<K: Kv>(job: &Job, kv: &K) -> Result<u64> {
    let mut rows = Rows::from(0);
    let bulk = job.sizes.redb_bench_row_count;
    let before = Usage::now()?;
    kv.write(Durability::Synced, |sink| {
        (0..bulk).try_for_each(|_| rows.put(sink))
    })?;
    job.rate("bulk load, one transaction", before.since(bulk)?);
    let before = Usage::now()?;
    for _ in 0..INDIVIDUAL_WRITES {
        rows.advance();
        kv.put(&rows.key, &rows.value, Durability::Synced)?;
    }
    job.rate("individual writes", before.since(INDIVIDUAL_WRITES)?);
    let before = Usage::now()?;
    for _ in 0..BATCH_COUNT {
        kv.write(Durability::Synced, |sink| {
            (0..BATCH_ROWS).try_for_each(|_| rows.put(sink))
        })?;
    }
    job.rate("batch writes", before.since(BATCH_COUNT * BATCH_ROWS)?);
    let nosync = NOSYNC_WRITES.min(bulk / 10);
    let (before, started, mut done) = (Usage::now()?, Instant::now(), 0);
    while done < nosync && started.elapsed() < job.sizes.phase_limit {
        rows.advance();
        kv.put(&rows.key, &rows.value, Durability::Buffered)?;
        done += 1;
    }
    let rate = Rate {
        planned_ops: nosync,
        ..before.since(done)?
    };
    job.rate("nosync writes", rate);
    // What follows needs all rows, whatever the engine's speed.
    kv.write(Durability::Synced, |sink| {
        (done..nosync).try_for_each(|_| rows.put(sink))
    })?;
    Ok(bulk + INDIVIDUAL_WRITES + BATCH_COUNT * BATCH_ROWS + nosync)
}

fn reads<K: Kv>(job: &Job, kv: &K, row_count: u64) -> Result<()> {
    let mut reader = kv.reader()?;
    let before = Usage::now()?;
    let found = reader.len()?;
    job.rate("len()", before.since(1)?);
    ensure(found == row_count, || {
        format!("len() is {found}, {row_count} rows were written")
    })?;
    drop(reader);
    let scaled =
        |published: u64| (published * job.sizes.redb_bench_row_count / PUBLISHED_ROWS).max(1);
    for round in 1..=2 {
        gets(
            job,
            kv,
            1,
            scaled(PUBLISHED_READS),
            format!("random reads, round {round}"),
        )?;
    }
    let scans = scaled(PUBLISHED_SCANS);
    for round in 1..=2 {
        let rate = run_threads(
            1,
            job.sizes.phase_limit,
            |_| Rows::from(0),
            |mut rows, deadline| {
                let mut reader = kv.reader()?;
                for i in 0..scans {
                    if deadline.passed() {
                        return Ok(Done::of(i, scans));
                    }
                    rows.advance();
                    let mut first = None;
                    reader.range(&rows.key, SCAN_ROWS, |_, value| {
                        first.get_or_insert(value.first() == rows.value.first());
                    })?;
                    ensure(first == Some(true), || {
                        "a range does not start with the row it was asked from".into()
                    })?;
                }
                Ok(Done::of(scans, scans))
            },
        )?;
        job.rate(
            format!("random range reads of {SCAN_ROWS}, round {round}"),
            rate,
        );
    }
    Ok(())
}

fn threaded_reads<K: Kv>(job: &Job, kv: &K, row_count: u64, threads: usize) -> Result<()> {
    gets(
        job,
        kv,
        threads,
        row_count,
        format!("random reads, {threads} threads"),
    )
}

/// Reads the first rows that were written, in that order, each thread its part.
fn gets<K: Kv>(job: &Job, kv: &K, threads: usize, count: u64, row: String) -> Result<()> {
    let count_each = count / threads as u64;
    let rate = run_threads(
        threads,
        job.sizes.phase_limit,
        |thread| Rows::from(thread * count_each),
        |mut rows, deadline| {
            let mut reader = kv.reader()?;
            for i in 0..count_each {
                if deadline.passed_at(i as usize) {
                    return Ok(Done::of(i, count_each));
                }
                rows.advance();
                let mut right = false;
                reader.get(&rows.key, |value| right = value == rows.value)?;
                ensure(right, || {
                    format!("row {} is missing or another's", rows.next - 1)
                })?;
            }
            Ok(Done::of(count_each, count_each))
        },
    )?;
    job.rate(row, rate);
    Ok(())
}
