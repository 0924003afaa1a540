//! Churn: every row overwritten twice in random order, then 80 % deleted; what it costs, and what reads cost after it.

use super::{Job, settle, write_rows};
use crate::data::{self, KEY_SIZE_BYTES, ROW_SIZE_BYTES, ensure};
use crate::kv::{Durability, Kv, Reader, Result};
use crate::measure::{Usage, run as run_threads};
use crate::settings::BATCH_ROWS;

/// How often every row is overwritten.
const PASSES: u64 = 2;
/// One row in so many survives the deletes.
const SURVIVORS: u64 = 5;

pub(super) fn run<K: Kv>(job: &Job) -> Result<()> {
    let kv: K = job.open()?;
    let row_count = job.sizes.row_count;
    let before = Usage::now()?;
    for pass in 1..=PASSES {
        write_rows(&kv, &data::shuffled(row_count, job.sizes.seed + pass), pass)?;
    }
    let updates = before.since(PASSES * row_count)?;
    let settled = before.until(settle(&kv)?, PASSES * row_count);
    job.rate("updates", updates);
    job.rate("updates, settled", settled);
    let user_bytes = PASSES * row_count * ROW_SIZE_BYTES;
    job.figure(
        "write amplification of updates, settled",
        settled.written_bytes as f64 / user_bytes as f64,
        "×",
    );
    job.space("space amplification after updates, settled", row_count)?;

    let mut victims = data::shuffled(row_count, job.sizes.seed + PASSES + 1);
    victims.retain(|&id| !survives(u64::from(id)));
    let before = Usage::now()?;
    for ids in victims.chunks(BATCH_ROWS) {
        kv.write(Durability::Buffered, |sink| {
            ids.iter()
                .try_for_each(|&id| sink.delete(&data::key(u64::from(id))))
        })?;
    }
    kv.sync()?;
    let deletes = before.since(victims.len() as u64)?;
    let settled = before.until(settle(&kv)?, victims.len() as u64);
    job.rate("deletes", deletes);
    job.rate("deletes, settled", settled);
    let user_bytes = victims.len() * KEY_SIZE_BYTES;
    job.figure(
        "write amplification of deletes, settled",
        settled.written_bytes as f64 / user_bytes as f64,
        "×",
    );
    let survivors = row_count - victims.len() as u64;
    job.space(
        "space amplification after deleting 80 %, settled",
        survivors,
    )?;
    reads(job, &kv, survivors)
}

fn survives(id: u64) -> bool {
    data::mix(id ^ 0x5eed).is_multiple_of(SURVIVORS)
}

/// Reads among what the deletes left behind: slow where tombstones are in the way.
fn reads<K: Kv>(job: &Job, kv: &K, survivors: u64) -> Result<()> {
    let mut reader = kv.reader()?;
    let before = Usage::now()?;
    let (mut sum, mut expected) = (0u64, 0u64);
    let found = reader.scan(|_, value| sum = sum.wrapping_add(data::check_sum(value)))?;
    job.rate("full scan after deletes", before.since(found)?);
    for id in (0..job.sizes.row_count).filter(|&id| survives(id)) {
        expected = expected.wrapping_add(data::check_sum(&data::value(id, PASSES)));
    }
    ensure(found == survivors && sum == expected, || {
        format!(
            "after the deletes a scan saw {found} rows of {survivors}, or not their newest versions"
        )
    })?;
    drop(reader);
    let survivors: Vec<u64> = (0..job.sizes.row_count)
        .filter(|&id| survives(id))
        .collect();
    let ops = (job.sizes.op_count / 20).max(1);
    let rate = run_threads(
        1,
        job.sizes.phase_limit,
        |thread| super::rng(job, 32, thread),
        |mut rng, deadline| {
            let mut reader = kv.reader()?;
            for i in 0..ops {
                if deadline.passed() {
                    return Ok(crate::measure::Done::of(i, ops));
                }
                let pick = rng.below(survivors.len() as u64) as usize;
                super::reads::check_range(
                    &mut reader,
                    survivors.get(pick).copied().unwrap_or(0),
                    100,
                )?;
            }
            Ok(crate::measure::Done::of(ops, ops))
        },
    )?;
    job.rate("ranges of 100 after deletes, 1 thread", rate);
    Ok(())
}
