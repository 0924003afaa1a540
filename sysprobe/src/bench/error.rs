//! What keeps jobs from running.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::io::EngineError;

/// Why no job ran, or not to its end. An I/O that fails while a job runs is not here: it is in the job's
/// [`JobStats::error`](super::JobStats::error).
#[derive(Debug, Error)]
pub enum BenchError {
    /// Options that contradict each other or the files: change the job.
    #[error("job {job}: {reason}")]
    Options {
        /// The job.
        job: String,
        /// What is wrong, with the names of the options.
        reason: String,
    },
    /// A file that cannot be made, opened or laid out: make room, or give another one.
    #[error("job {job}: {operation} {path}: {source}", path = .path.display())]
    File {
        /// The job.
        job: String,
        /// What was being done.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// An engine that this machine or the options don't allow: use another.
    #[error("job {job}: {source}")]
    Engine {
        /// The job.
        job: String,
        /// What went wrong.
        source: EngineError,
    },
    /// A workload that cannot begin.
    #[error("job {job}: {reason}")]
    Workload {
        /// The job.
        job: String,
        /// What it says.
        reason: String,
    },
    /// The machine gave no thread: use fewer jobs.
    #[error("job {job}: starting a thread: {source}")]
    Thread {
        /// The job.
        job: String,
        /// What went wrong.
        source: io::Error,
    },
}
