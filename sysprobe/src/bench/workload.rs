//! The seam for engines that are not made of blocks.

use super::job::JobOptions;
use super::values::Direction;

/// One operation that a workload carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperationDone {
    /// As what it is counted.
    pub direction: Direction,
    /// Bytes that it read or wrote.
    pub bytes: u64,
}

/// One thread's work of a job whose engine is not made of blocks. The runner times each step and counts it as one I/O.
pub trait Workload: Send {
    /// Carries out the next operation.
    ///
    /// # Errors
    /// Says what went wrong; the job ends.
    fn step(&mut self) -> Result<OperationDone, String>;

    /// Makes durable what was written, for `fsync`, `fdatasync` and `end_fsync`.
    ///
    /// # Errors
    /// Says what went wrong; the job ends.
    fn sync(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// Makes the workloads of all threads; the runner is given one for each engine name.
pub trait WorkloadFactory: Sync {
    /// The name that `ioengine` gives.
    fn name(&self) -> &'static str;

    /// Called once a job before any of its threads begins, outside of all measured time: opens and fills what the
    /// threads share.
    ///
    /// # Errors
    /// Says what went wrong; no job of the run then goes on.
    fn prepare(&self, job: &JobOptions) -> Result<(), String>;

    /// What `size` is where the job does not give it, and what its `io_size` in percent is a share of: bytes that one
    /// thread does in all. Asked when the job is prepared; `None` where only a limit that the job gives ends it.
    fn size_bytes(&self, job: &JobOptions) -> Option<u64> {
        let _ = job;
        None
    }

    /// The work of one thread of a prepared job; `thread` counts from 0 to `numjobs`.
    ///
    /// # Errors
    /// Says what went wrong; no job of the run then goes on.
    fn thread(&self, job: &JobOptions, thread: usize) -> Result<Box<dyn Workload>, String>;

    /// Called once a job when all its threads have ended: closes what they shared and returns lines for the report.
    ///
    /// # Errors
    /// Says what went wrong; it becomes the error of the job.
    fn finish(&self, job: &JobOptions) -> Result<Vec<String>, String> {
        let _ = job;
        Ok(Vec::new())
    }
}
