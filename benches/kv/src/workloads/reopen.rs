//! Opening after `kill -9`: one process updates a tenth of the rows and is killed, the next opens and reads.

use std::time::Instant;

use super::{Job, write_rows};
use crate::data::{self, ensure};
use crate::kv::{Kv, Reader, Result};

/// One row in so many is updated before the kill.
const UPDATED: u64 = 10;

/// The file by which the killed process says that everything is durable.
pub(crate) const READY_FILE: &str = "ready";

fn updated_ids(job: &Job) -> Vec<u32> {
    let mut ids = data::shuffled(job.sizes.row_count, job.sizes.seed + 9);
    ids.truncate((job.sizes.row_count / UPDATED) as usize);
    ids
}

/// Updates, syncs, tells the parent, and waits for its end.
pub(super) fn crash<K: Kv>(job: &Job) -> Result<()> {
    let kv: K = job.open()?;
    write_rows(&kv, &updated_ids(job), 1)?;
    std::fs::write(job.folder.with_extension(READY_FILE), "")?;
    loop {
        std::thread::park();
    }
}

/// Measures from before the open to the first row read, then checks that all updates are there.
pub(super) fn reopen<K: Kv>(job: &Job) -> Result<()> {
    let ids = updated_ids(job);
    let started = Instant::now();
    let kv: K = job.open()?;
    let mut reader = kv.reader()?;
    let found = reader.get(&data::key(0), |_| {})?;
    job.figure(
        "open and first get",
        started.elapsed().as_secs_f64() * 1e3,
        "ms",
    );
    ensure(found, || "row 0 is missing".into())?;
    for id in ids.into_iter().map(u64::from) {
        let mut found = None;
        reader.get(&data::key(id), |value| found = data::check_value(value))?;
        ensure(found == Some((id, 1)), || {
            format!("row {id} lost its synced update in the kill")
        })?;
    }
    drop(reader);
    super::check_all_rows(&kv, job.sizes.row_count)
}
