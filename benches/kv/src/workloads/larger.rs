//! The same with at least four times as many bytes of rows as the engine may hold in memory.
//!
//! The system's page cache is not limited: what an engine leaves to it, as LMDB does with everything, it has.

use super::{Job, rng, settle};
use crate::data::{self, Picks, ROW_SIZE_BYTES};
use crate::kv::{Durability, Kv, Result};
use crate::measure::Usage;
use crate::settings::BATCH_ROWS;

pub(super) fn run<K: Kv>(job: &Job) -> Result<()> {
    let row_count = job.sizes.larger_row_count;
    let kv: K = job.open()?;
    super::load::load(job, &kv, &data::shuffled(row_count, job.sizes.seed))?;
    let uniform = Picks::Uniform { row_count };
    for (threads, label) in [(1, "1 thread"), (job.sizes.threads, "all cores")] {
        super::reads::hits(
            job,
            &kv,
            threads,
            &uniform,
            format!("get, hit, uniform, {label}"),
        )?;
    }
    super::reads::ranges(job, &kv, row_count, 1, "ranges of 100, 1 thread".into())?;
    updates(job, &kv, row_count)?;
    super::check_all_rows(&kv, row_count)
}

/// Random updates of a quarter of the rows, until the engine has settled.
fn updates<K: Kv>(job: &Job, kv: &K, row_count: u64) -> Result<()> {
    let (batch_count, mut rng) = (row_count / 4 / BATCH_ROWS as u64, rng(job, 40, 0));
    let ops = batch_count * BATCH_ROWS as u64;
    let before = Usage::now()?;
    for _ in 0..batch_count {
        kv.write(Durability::Buffered, |sink| {
            (0..BATCH_ROWS).try_for_each(|_| {
                let id = rng.below(row_count);
                sink.put(&data::key(id), &data::value(id, 1))
            })
        })?;
    }
    kv.sync()?;
    let settled = before.until(settle(kv)?, ops);
    job.rate("updates of a quarter, settled", settled);
    let user_bytes = (ops * ROW_SIZE_BYTES).max(1);
    job.figure(
        "write amplification of updates, settled",
        settled.written_bytes as f64 / user_bytes as f64,
        "×",
    );
    job.space("space amplification after updates, settled", row_count)
}
