//! Bulk load: all rows in random key order, in buffered batches, synced at the end.

use super::{Job, mib, settle, write_rows};
use crate::data::{self, ROW_SIZE_BYTES};
use crate::kv::{Kv, Result};
use crate::measure::{self, Usage};

pub(super) fn run<K: Kv>(job: &Job) -> Result<()> {
    let row_count = job.sizes.row_count;
    let ids = data::shuffled(row_count, job.sizes.seed);
    let kv: K = job.open()?;
    load(job, &kv, &ids)?;
    job.figure(
        "size on disk",
        mib(measure::disk_bytes(&job.folder)?),
        "MiB",
    );
    super::check_all_rows(&kv, row_count)?;
    drop(kv);
    past_the_log::<K>(job, &ids)
}

/// The same rows by the engine's way for many at once, where the adapter has one: a row of its own, as the peers' have none.
/// They go to a database of their own, since others start from the one that was loaded.
fn past_the_log<K: Kv>(job: &Job, ids: &[u32]) -> Result<()> {
    let row_count = ids.len() as u64;
    let folder = job.folder.with_extension("past-the-log");
    let kv = K::open(&folder, job.sizes.memory)?;
    let before = Usage::now()?;
    let is_loaded = kv.bulk_load(|sink| {
        let mut ids = ids.iter().map(|&id| u64::from(id));
        ids.try_for_each(|id| sink.put(&data::key(id), &data::value(id, 0)))
    })?;
    if is_loaded {
        let loaded = before.until(settle(&kv)?, row_count);
        job.rate("bulk load past the log, settled", loaded);
        let found = kv.bulk_loaded_len()?;
        data::ensure(found == row_count, || {
            format!("{found} rows of {row_count} found after a bulk load")
        })?;
    }
    drop(kv);
    Ok(std::fs::remove_dir_all(folder)?)
}

/// Loads and settles, and records what it took; also the first half of the larger-than-memory run.
pub(super) fn load<K: Kv>(job: &Job, kv: &K, ids: &[u32]) -> Result<()> {
    let row_count = ids.len() as u64;
    let before = Usage::now()?;
    let loaded = write_rows(kv, ids, 0)?;
    let settled = before.until(settle(kv)?, row_count);
    job.rate("bulk load", loaded);
    job.rate("bulk load, settled", settled);
    let user_bytes = row_count * ROW_SIZE_BYTES;
    job.figure(
        "write amplification, settled",
        settled.written_bytes as f64 / user_bytes as f64,
        "×",
    );
    job.space("space amplification, settled", row_count)
}
