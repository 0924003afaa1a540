//! Counters that a source keeps and a progress display reads.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// What a source is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Connecting, or looking for where to go on.
    Starting,
    /// Copying the rows that existed before the stream. Nothing of this source's tables is to be exported yet.
    Copying,
    /// Following the stream.
    Streaming,
    /// Done.
    Finished,
}

/// How far a source is. All counts are since the source started in this process.
#[derive(Debug, Default)]
pub struct Progress {
    phase: AtomicU8,
    rows: AtomicU64,
    bytes: AtomicU64,
    transactions: AtomicU64,
    lag_bytes: AtomicU64,
    total_bytes: AtomicU64,
}

/// The counters of a [`Progress`] at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgressReading {
    /// What the source is doing.
    pub phase: Phase,
    /// Row changes read.
    pub rows: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Transactions submitted.
    pub transactions: u64,
    /// Bytes of the source that are known and not yet read.
    pub lag_bytes: u64,
    /// Bytes that the current phase has to read in all; 0 where that is not known.
    pub total_bytes: u64,
}

impl Progress {
    /// Sets what the source is doing.
    pub fn set_phase(&self, phase: Phase) {
        let code = match phase {
            Phase::Starting => 0,
            Phase::Copying => 1,
            Phase::Streaming => 2,
            Phase::Finished => 3,
        };
        self.phase.store(code, Ordering::Release);
    }

    /// Counts one submitted transaction of that many row changes, read from that many bytes.
    pub fn count_transaction(&self, rows: u64, bytes: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.transactions.fetch_add(1, Ordering::Relaxed);
    }

    /// Sets how many known bytes are not yet read.
    pub fn set_lag_bytes(&self, lag_bytes: u64) {
        self.lag_bytes.store(lag_bytes, Ordering::Relaxed);
    }

    /// Sets how many bytes the current phase has to read in all.
    pub fn set_total_bytes(&self, total_bytes: u64) {
        self.total_bytes.store(total_bytes, Ordering::Relaxed);
    }

    /// The counters now.
    pub fn read(&self) -> ProgressReading {
        ProgressReading {
            phase: match self.phase.load(Ordering::Acquire) {
                0 => Phase::Starting,
                1 => Phase::Copying,
                2 => Phase::Streaming,
                _ => Phase::Finished,
            },
            rows: self.rows.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            transactions: self.transactions.load(Ordering::Relaxed),
            lag_bytes: self.lag_bytes.load(Ordering::Relaxed),
            total_bytes: self.total_bytes.load(Ordering::Relaxed),
        }
    }
}
