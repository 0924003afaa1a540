//! The threads that flush generations and compact fragments.

use std::sync::Arc;

use super::compact::{Compacted, Failed, run};
use super::flush::{Flushed, flush};
use crate::commit::committer;
use crate::error::Error;
use crate::schedule::Depth;
use crate::shared::Shared;
use crate::space::RetryPause;
use crate::sync::thread::{self, Builder, JoinHandle};

/// Ends writing if the thread ends in a panic, so that nobody waits for it.
struct Working<'a>(&'a Shared);

impl Drop for Working<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let reason = "a thread that flushes or compacts ended in a panic";
            committer::stop(self.0, &Error::Usage(reason.into()));
        }
    }
}

/// Starts the threads; they end when the database is closed or takes no more writes.
pub(crate) fn start(shared: &Arc<Shared>) -> std::io::Result<Vec<JoinHandle<()>>> {
    let mut threads = Vec::new();
    let started = start_into(shared, &mut threads);
    if let Err(error) = started {
        shared.stop_background();
        for thread in threads {
            // It ends now; a panic in it was logged.
            let _ = thread.join();
        }
        return Err(error);
    }
    Ok(threads)
}

fn start_into(shared: &Arc<Shared>, threads: &mut Vec<JoinHandle<()>>) -> std::io::Result<()> {
    let flushing = shared.clone();
    let flusher = Builder::new().name("moonshine-flush".into());
    threads.push(flusher.spawn(move || flush_all(&flushing))?);
    for number in 0..shared.tree_sizes.compaction_threads {
        let compacting = shared.clone();
        let compactor = Builder::new().name(format!("moonshine-compact-{number}"));
        threads.push(compactor.spawn(move || {
            if number == 0 {
                compacting.store.punch_gaps(&*compacting.io);
            }
            compact_all(&compacting);
        })?);
    }
    shared.look_at_all(Depth::Regular);
    Ok(())
}

fn flush_all(shared: &Shared) {
    let _working = Working(shared);
    let mut pause = RetryPause::default();
    while let Some(frozen) = shared.generations.next_frozen() {
        match flush(shared, &frozen) {
            Ok(Flushed::Done) => {
                pause.reset();
                shared.look_at_all(Depth::Regular);
                shared.give_memory_back();
            }
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
    while let Some(mut job) = shared.scheduler.next(shared) {
        match run(shared, &mut job) {
            Ok(Compacted::Done) => {
                pause.reset();
                shared.scheduler.finish(job);
                shared.give_memory_back();
            }
            Ok(Compacted::Cancelled) => return,
            Err(Failed::Rows(error @ Error::NoSpace { .. })) => {
                tracing::warn!(%error, "a compaction waits for space");
                shared.scheduler.pause(&job, &error, &mut pause);
            }
            Err(Failed::Rows(error)) => {
                // The tree is as it was. The next flush has it tried again.
                tracing::warn!(%error, "a compaction failed");
                shared.scheduler.give_up(&job);
            }
            Err(Failed::Edit(error)) => {
                committer::stop(shared, &error);
                return;
            }
        }
    }
}
