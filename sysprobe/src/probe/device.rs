//! What can be measured: a device that carries out loads.

use std::time::Duration;

use serde::Serialize;

use crate::error::ProbeError;
use crate::latency::Histogram;

/// Smallest block size that is measured, and the alignment of every I/O.
pub const BLOCK_SIZE_BYTES_MIN: u64 = 4 * 1024;
/// Greatest block size that is measured.
pub const BLOCK_SIZE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Most I/Os under way that are measured: threads, or the depth of a queue.
pub const IN_FLIGHT_MAX: u64 = 128;

/// Reading or writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Reading.
    Read,
    /// Writing.
    Write,
}

/// Where the I/Os go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pattern {
    /// Each thread goes through a range of its own, block after block; a queue goes through the whole file.
    Sequential,
    /// Each I/O goes to a block drawn at random.
    Random,
}

/// How several I/Os come to be under way at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Submission {
    /// Synchronous: `pread` and `pwrite`, one thread for each I/O under way.
    Threads,
    /// Asynchronous: one thread keeps a queue of that depth filled, by io_uring.
    Queue,
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
    /// How.
    pub submission: Submission,
    /// I/Os under way at once: the number of threads, or the depth of the queue.
    pub in_flight: u64,
}

impl Load {
    /// Bytes under way at once.
    pub fn bytes_in_flight(&self) -> u64 {
        self.block_size_bytes.saturating_mul(self.in_flight)
    }
}

/// How a write is made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncMethod {
    /// A write, then `fdatasync`.
    Fdatasync,
    /// A write to a file that was opened with `O_DSYNC`.
    ODsync,
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
    /// Keeps the device busy for about `window`, at least one I/O for each that may be under way.
    ///
    /// # Errors
    /// [`ProbeError::Io`] where an I/O fails.
    fn run(&self, load: &Load, window: Duration) -> Result<Measurement, ProbeError>;

    /// Writes blocks one after the other for about `window`, each made durable. The file is preallocated.
    ///
    /// # Errors
    /// [`ProbeError::Io`] where an I/O fails.
    fn run_synced(
        &self,
        method: SyncMethod,
        block_size_bytes: u64,
        window: Duration,
    ) -> Result<Histogram, ProbeError>;

    /// Whether it may be written to.
    fn writes(&self) -> bool;

    /// Whether it takes loads of [`Submission::Queue`].
    fn queues(&self) -> bool;

    /// Time since some fixed moment; what a budget is counted by.
    fn now(&self) -> Duration;
}
