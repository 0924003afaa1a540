//! How an operation ends, and which errors faults explain.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use moonshine_engine::Error;
use moonshine_engine::io::SimulatedIo;

/// Something is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which check found it; shrinking keeps to it.
    pub check: &'static str,
    /// The number of the operation, if it was found by one.
    pub operation: Option<usize>,
    /// What was found, in words.
    pub detail: String,
}

/// Why an operation does not go on.
#[derive(Clone, Debug)]
pub enum Stop {
    /// The process has died.
    Dead,
    /// An injected fault explains an error.
    Explained,
    /// Something is not as it must be.
    Violation(Violation),
}

impl Stop {
    /// A violation.
    pub fn violation(check: &'static str, operation: usize, detail: impl Into<String>) -> Self {
        Stop::Violation(Violation {
            check,
            operation: Some(operation),
            detail: detail.into(),
        })
    }
}

/// What an operation ends in.
pub type Step<T = ()> = Result<T, Stop>;

/// The faults that are at work, and how many there were.
#[derive(Debug, Default)]
pub struct Faults {
    /// The disk is full, or was a moment ago.
    pub is_full: AtomicBool,
    /// Writes or syncs fail.
    pub is_failing: AtomicBool,
    /// Calls may fail by chance, where the disk counts such.
    pub is_faulty: AtomicBool,
    /// Errors that were explained.
    pub explained_count: AtomicU64,
}

impl Faults {
    /// Whether a fault of the disk explains an error. A full disk is told as such, and nothing is lost by it; a write or a
    /// sync that fails ends writing. Nothing explains damage.
    pub fn explain(&self, error: &Error, disk: &SimulatedIo) -> bool {
        let is_injected =
            || self.is_faulty.load(Ordering::SeqCst) && disk.fault_counts().iter().count() > 0;
        let is_explained = match error {
            Error::NoSpace { .. } => self.is_full.load(Ordering::SeqCst) || is_injected(),
            Error::Io { .. } | Error::Poisoned(_) => {
                self.is_failing.load(Ordering::SeqCst) || is_injected()
            }
            _ => false,
        };
        if is_explained {
            self.explained_count.fetch_add(1, Ordering::Relaxed);
        }
        is_explained
    }
}
