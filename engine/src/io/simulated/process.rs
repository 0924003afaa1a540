//! Processes that use a disk, and their deaths.

use std::io::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What every call of a process that was killed fails with, within a [`std::io::Error`].
///
/// ```
/// use std::path::Path;
///
/// use moonshine_engine::io::{Io, OpenMode, ProcessGone, SimulatedIo};
/// let disk = SimulatedIo::new(1);
/// let process = disk.of_process(7);
/// let lock = process.try_lock(Path::new("/LOCK"))?;
/// process.kill();
/// let refused = process.open(Path::new("/a"), OpenMode::CreateNew).unwrap_err();
/// assert!(ProcessGone::is_in(&refused));
/// // Its locks went with it.
/// assert!(lock.is_some() && disk.try_lock(Path::new("/LOCK"))?.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("process {process} is gone")]
pub struct ProcessGone {
    /// Its number.
    pub process: u64,
}

impl ProcessGone {
    /// Whether that is why a call failed.
    pub fn is_in(error: &Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }
}

/// A process that uses a disk.
#[derive(Debug)]
pub(super) struct Process {
    number: u64,
    is_dead: AtomicBool,
    /// Calls that changed something, and how many of them there will be.
    change_count: AtomicU64,
    changes_max: AtomicU64,
    pub(super) open_files: AtomicU64,
}

impl Process {
    pub(super) fn new(number: u64) -> Arc<Self> {
        Arc::new(Process {
            number,
            is_dead: AtomicBool::new(false),
            change_count: AtomicU64::new(0),
            changes_max: AtomicU64::new(u64::MAX),
            open_files: AtomicU64::new(0),
        })
    }

    pub(super) fn is_dead(&self) -> bool {
        self.is_dead.load(Ordering::SeqCst)
    }

    pub(super) fn kill(&self) {
        self.is_dead.store(true, Ordering::SeqCst);
    }

    /// Lets it live for so many calls that change something.
    pub(super) fn limit(&self, changes: u64) {
        let max = self.change_count().saturating_add(changes);
        self.changes_max.store(max, Ordering::SeqCst);
    }

    pub(super) fn change_count(&self) -> u64 {
        self.change_count.load(Ordering::SeqCst)
    }

    /// Whether it lives to make a call.
    pub(super) fn check(&self, is_change: bool) -> Result<()> {
        if is_change {
            let before = self.change_count.fetch_add(1, Ordering::SeqCst);
            if before >= self.changes_max.load(Ordering::SeqCst) {
                self.kill();
            }
        }
        if self.is_dead() {
            return Err(Error::other(ProcessGone {
                process: self.number,
            }));
        }
        Ok(())
    }
}

/// Who has a lock or a share: counted by the disk, which forgets it with its process.
#[derive(Debug)]
pub(super) struct Holder(pub(super) Arc<Process>);

impl Holder {
    pub(super) fn is_alive(&self) -> bool {
        !self.0.is_dead()
    }
}
