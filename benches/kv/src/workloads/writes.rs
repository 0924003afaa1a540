//! Upserts of rows that exist: batches with and without sync, and single rows that are durable on return.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::{Job, rng, settle};
use crate::data::{self, ensure};
use crate::kv::{Durability, Kv, Reader, Result};
use crate::measure::{Done, run as run_threads};
use crate::settings::BATCH_ROWS;

/// The threads of single durable writes.
const WRITER_COUNTS: [usize; 3] = [1, 16, 64];

pub(super) fn run<K: Kv>(job: &Job) -> Result<()> {
    let kv: K = job.open()?;
    batches(job, &kv, Durability::Buffered, "batches of 1000, buffered")?;
    settle(&kv)?;
    batches(job, &kv, Durability::Synced, "batches of 1000, synced")?;
    settle(&kv)?;
    for (phase, threads) in WRITER_COUNTS.into_iter().enumerate() {
        single_rows(job, &kv, phase as u64, threads)?;
    }
    settle(&kv)?;
    super::check_all_rows(&kv, job.sizes.row_count)
}

fn batches<K: Kv>(job: &Job, kv: &K, durability: Durability, row: &str) -> Result<()> {
    let (row_count, ops) = (job.sizes.row_count, job.sizes.op_count);
    let limit = match durability {
        Durability::Buffered => job.sizes.phase_limit,
        Durability::Synced => job.sizes.durable_phase,
    };
    // How long a writer is held up at worst: stalls don't show in a mean.
    let slowest_us = AtomicU64::new(0);
    let rate = run_threads(
        1,
        limit,
        |_| rng(job, 5, 0),
        |mut rng, deadline| {
            let mut done = 0;
            while done < ops && !deadline.passed() {
                let started = Instant::now();
                kv.write(durability, |sink| {
                    (0..BATCH_ROWS).try_for_each(|_| {
                        let id = rng.below(row_count);
                        sink.put(&data::key(id), &data::value(id, 1))
                    })
                })?;
                done += BATCH_ROWS as u64;
                let micros = started.elapsed().as_micros() as u64;
                slowest_us.fetch_max(micros, Ordering::Relaxed);
            }
            kv.sync()?;
            Ok(Done::of(done, ops))
        },
    )?;
    job.rate(row, rate);
    let slowest_ms = slowest_us.into_inner() as f64 / 1e3;
    job.figure(format!("{row}, slowest"), slowest_ms, "ms");
    Ok(())
}

/// Each thread writes rows of its own, so that it knows the newest version of each; then all are read back.
fn single_rows<K: Kv>(job: &Job, kv: &K, phase: u64, threads: usize) -> Result<()> {
    let (row_count, writers) = (job.sizes.row_count, threads as u64);
    let written = std::sync::Mutex::new(HashMap::new());
    let rate = run_threads(
        threads,
        job.sizes.durable_phase,
        |thread| (thread, rng(job, 6 + phase, thread)),
        |(thread, mut rng), deadline| {
            let mut newest = HashMap::new();
            let mut done = 0;
            while !deadline.passed() {
                let id = rng.below(row_count / writers) * writers + thread;
                let version = (phase + 2) << 32 | done;
                kv.put(
                    &data::key(id),
                    &data::value(id, version),
                    Durability::Synced,
                )?;
                newest.insert(id, version);
                done += 1;
            }
            written
                .lock()
                .map_err(|_| "a thread ended in a panic")?
                .extend(newest);
            Ok(Done::of(done, done))
        },
    )?;
    job.rate(
        format!(
            "single durable rows, {threads} thread{}",
            if threads == 1 { "" } else { "s" }
        ),
        rate,
    );
    let mut reader = kv.reader()?;
    for (id, version) in written
        .into_inner()
        .map_err(|_| "a thread ended in a panic")?
    {
        let mut found = None;
        reader.get(&data::key(id), |value| found = data::check_value(value))?;
        ensure(found == Some((id, version)), || {
            format!("row {id} is not at the version that was acknowledged")
        })?;
    }
    Ok(())
}
