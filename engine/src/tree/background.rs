//! The threads that flush generations and compact fragments.

use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use super::compact::{Compacted, Failed, compact_once};
use super::flush::{Flushed, flush};
use crate::error::{Error, Result};
use crate::log::committer;
use crate::shared::Shared;
use crate::space::RetryPause;

/// Ends writing if the thread ends in a panic, so that nobody waits for it.
struct Working<'a>(&'a Shared);

impl Drop for Working<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let reason = "a thread that flushes or compacts ended in a panic";
            committer::stop(self.0, &Error::Usage(reason.into()));
        }
    }
}

/// Starts the threads; they end when the database is closed or takes no more writes.
pub(crate) fn start(shared: &Arc<Shared>) -> std::io::Result<Vec<JoinHandle<()>>> {
    let (flushing, compacting) = (shared.clone(), shared.clone());
    let flusher = Builder::new()
        .name("moonshine-flush".into())
        .spawn(move || flush_all(&flushing))?;
    let compactor = Builder::new()
        .name("moonshine-compact".into())
        .spawn(move || compact_all(&compacting));
    match compactor {
        Ok(compactor) => Ok(vec![flusher, compactor]),
        Err(error) => {
            shared.generations.stop();
            // It ends now; a panic in it was logged.
            let _ = flusher.join();
            Err(error)
        }
    }
}

fn flush_all(shared: &Shared) {
    let _working = Working(shared);
    let mut pause = RetryPause::default();
    while let Some(frozen) = shared.generations.next_frozen() {
        match flush(shared, &frozen) {
            Ok(Flushed::Done) => pause.reset(),
            Ok(Flushed::Cancelled) => return,
            Err(error @ Error::NoSpace { .. }) => {
                // The generation is in memory and its log on disk: nothing is lost by waiting.
                tracing::warn!(%error, "a flush waits for space");
                shared.generations.pause_flush(&error, &mut pause);
            }
            Err(error) => {
                committer::stop(shared, &error);
                return;
            }
        }
    }
}

fn compact_all(shared: &Shared) {
    let _working = Working(shared);
    let mut pause = RetryPause::default();
    while let Some(tree_changes) = shared.generations.wait_unsettled() {
        match compact_until_settled(shared) {
            Ok(true) => {
                pause.reset();
                shared.generations.settle(tree_changes);
            }
            Ok(false) => return,
            Err(error @ Error::NoSpace { .. }) => {
                tracing::warn!(%error, "a compaction waits for space");
                shared.generations.pause_compact(&error, &mut pause);
            }
            Err(error) => {
                committer::stop(shared, &error);
                return;
            }
        }
    }
}

/// Does what is due; false if the database is being closed. After [`Error::NoSpace`] the tree is as it was.
fn compact_until_settled(shared: &Shared) -> Result<bool> {
    loop {
        match compact_once(shared) {
            Ok(Compacted::Done) => {}
            Ok(Compacted::Nothing) => return Ok(true),
            Ok(Compacted::Cancelled) => return Ok(false),
            Err(Failed::Rows(error @ Error::NoSpace { .. })) => return Err(error),
            Err(Failed::Rows(error)) => {
                // The tree is as it was. The next flush has it tried again.
                tracing::warn!(%error, "a compaction failed");
                return Ok(true);
            }
            Err(Failed::Edit(error)) => return Err(error),
        }
    }
}
