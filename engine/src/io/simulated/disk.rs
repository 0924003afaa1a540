//! What all handles of a disk share: its names, its clock, and the faults that are set.

use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::SimulatedIo;
use super::content::Space;
use super::faults::{Fault, Faults, Operation};
use super::names::Names;
use super::process::Holder;
use super::random::Random;
use crate::sync::{self, Condvar, Mutex, MutexGuard, Point};

/// A disk, however many handles it has. Its lock is taken before that of a file.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) disk: Mutex<Disk>,
    /// Writes go on that were held.
    pub(super) released: Condvar,
    /// Of the last change of any file or name.
    sequence: AtomicU64,
    pub(super) space: Space,
    /// Whether reads need to ask for faults.
    pub(super) may_fail: AtomicBool,
}

#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) names: Names,
    pub(super) locks: Vec<(PathBuf, Weak<Holder>)>,
    pub(super) random: Random,
    pub(super) now: Duration,
    pub(super) faults: Faults,
    pub(super) writes_until_failure: Option<u64>,
    pub(super) writes_until_full: Option<u64>,
    pub(super) mapped_write_count: u64,
    /// What every sync fails with.
    pub(super) sync_failure: Option<ErrorKind>,
    /// Writes to files with this ending don't come to an end.
    pub(super) held_ending: Option<String>,
    /// How long a write of one byte takes.
    pub(super) time_a_byte: Duration,
    pub(super) links_cross: bool,
}

impl Shared {
    pub(super) fn new(disk: Disk, space: Space, sequence: u64) -> Self {
        Shared {
            disk: Mutex::new(disk),
            space,
            sequence: AtomicU64::new(sequence),
            ..Shared::default()
        }
    }

    pub(super) fn next_sequence(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(super) fn sequence(&self) -> u64 {
        self.sequence.load(Ordering::SeqCst)
    }
}

impl SimulatedIo {
    /// Begins a call: fails if the process is dead or a fault strikes that is no more than an error; returns a fault that the
    /// caller is to bring about.
    pub(super) fn begin(
        &self,
        operation: Operation,
        path: &Path,
        size_bytes: usize,
    ) -> Result<Option<Fault>> {
        let is_change = !matches!(
            operation,
            Operation::Read | Operation::List | Operation::Open
        );
        sync::point(match operation {
            Operation::Sync | Operation::SyncFolder => Point::Sync,
            _ => Point::Io,
        });
        self.process.check(is_change)?;
        if !self.shared.may_fail.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let mut disk = self.shared.disk.lock();
        let now = sync::now().unwrap_or(disk.now);
        let mut time = disk.faults.time_of(now, operation, size_bytes);
        let fault = disk.faults.strike(operation, path);
        if let Some(Fault::Hang(longer)) = fault {
            time += longer;
        }
        disk.now += time;
        drop(disk);
        if !time.is_zero() {
            sync::sleep(time);
            self.process.check(false)?;
        }
        match fault {
            Some(Fault::Error | Fault::NoSpace)
                if !matches!(operation, Operation::Write | Operation::Sync) =>
            {
                Err(fault
                    .and_then(Fault::error)
                    .unwrap_or_else(|| ErrorKind::Other.into()))
            }
            other => Ok(other),
        }
    }

    /// Whether a write passes that is not to be held or to fail, with the time that it takes; true if it finds the disk full.
    pub(super) fn admit_write(&self, path: &Path, size_bytes: usize) -> Result<bool> {
        let mut disk = self.shared.disk.lock();
        while let Some(ending) = &disk.held_ending
            && path.to_string_lossy().ends_with(ending)
            && !self.process.is_dead()
        {
            self.shared.released.wait(&mut disk);
        }
        self.process.check(false)?;
        let took = u32::try_from(size_bytes).map(|size| disk.time_a_byte * size);
        let took = took.unwrap_or_default();
        disk.now += took;
        if !took.is_zero() {
            MutexGuard::unlocked(&mut disk, || sync::sleep(took));
            self.process.check(false)?;
        }
        if let Some(left) = &mut disk.writes_until_failure {
            *left = left
                .checked_sub(1)
                .ok_or_else(|| Error::other("simulated write failure"))?;
        }
        Ok(match &mut disk.writes_until_full {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        })
    }
}
