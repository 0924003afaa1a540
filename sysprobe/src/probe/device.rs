//! What can be measured: a device that carries out loads.

use std::time::Duration;

use serde::Serialize;

use crate::error::ProbeError;
use crate::latency::Histogram;

/// Smallest block size that is measured, and the alignment of every I/O.
pub const BLOCK_SIZE_BYTES_MIN: u64 = 4 * 1024;
/// Greatest block size that is measured.
pub const BLOCK_SIZE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Most threads that are measured.
pub const THREADS_MAX: u64 = 128;

/// Reading or writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// `pread`.
    Read,
    /// `pwrite`.
    Write,
}

/// Where the I/Os go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pattern {
    /// Each thread goes through a range of its own, block after block.
    Sequential,
    /// Each I/O goes to a block drawn at random.
    Random,
}

/// One way to keep a device busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Load {
    /// Reading or writing.
    pub operation: Operation,
    /// Where.
    pub pattern: Pattern,
    /// Size of each I/O: a power of two within the limits above.
    pub block_size_bytes: u64,
    /// Threads, each with one I/O under way.
    pub threads: u64,
}

/// What a load came to.
#[derive(Clone, Debug, Default)]
pub struct Measurement {
    /// All bytes, over the time until the last I/O ended.
    pub bytes_per_second: f64,
    /// How long each I/O took.
    pub latencies: Histogram,
}

/// Something that carries out loads, and the clock that goes with it.
pub trait Device {
    /// Keeps the device busy for about `window`, at least one I/O a thread.
    ///
    /// # Errors
    /// [`ProbeError::Io`] where an I/O fails.
    fn run(&self, load: &Load, window: Duration) -> Result<Measurement, ProbeError>;

    /// Writes blocks one after the other for about `window`, each followed by `fdatasync`. The file is preallocated.
    ///
    /// # Errors
    /// [`ProbeError::Io`] where an I/O fails.
    fn run_synced(&self, block_size_bytes: u64, window: Duration) -> Result<Histogram, ProbeError>;

    /// Time since some fixed moment; what a budget is counted by.
    fn now(&self) -> Duration;
}
