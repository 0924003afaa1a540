//! A real device, reached by a file: `pread` and `pwrite` from threads, or a queue of io_uring from one.
//!
//! `target.rs` says beforehand what will be used and opens the file: a temporary one without a name, or an existing one
//! for reading alone. `offsets.rs` says where I/Os go, `buffer.rs` is the memory they use, `queue.rs` keeps a ring
//! filled.

mod buffer;
mod offsets;
mod queue;
mod target;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::RwLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{self, FallocateFlags};
use rustix::io::{Errno, ReadWriteFlags};

use self::buffer::Buffer;
use self::offsets::Offsets;
pub use self::target::{Access, DiskUse, IoMode, Medium, disk_use};
use self::target::{FILE_SIZE_BYTES_MIN, existing, temporary_file};
use crate::error::ProbeError;
use crate::latency::Histogram;
use crate::probe::budget::Budget;
use crate::probe::device::{
    BLOCK_SIZE_BYTES_MAX, Device, Load, Measurement, Operation, Pattern, Submission, SyncMethod,
};

/// Bytes that writes take their content from: more than a core's cache, as content is that was just made.
const CONTENT_BYTES: u64 = 8 * BLOCK_SIZE_BYTES_MAX;

/// The device under a file.
#[derive(Debug)]
pub struct Disk {
    file: File,
    path: PathBuf,
    access: Access,
    io_mode: IoMode,
    medium: Medium,
    size_bytes: u64,
    has_holes: bool,
    /// Why no queue can be kept; `None` where one can.
    queue_refused: Option<String>,
    /// What is written: made once, since it takes longer than writing it.
    content: Buffer,
    /// Measurements so far.
    turn: AtomicU64,
    started: Instant,
}

impl Disk {
    /// Makes and fills a temporary file in `folder`, of the size and in the time that the budget allows.
    ///
    /// # Errors
    /// [`ProbeError::Folder`] and [`ProbeError::Space`] before anything is written; [`ProbeError::Io`] where writing
    /// fails; [`ProbeError::TooSlow`] where hardly anything was written in ten times the time for filling.
    pub fn open(folder: &Path, budget: &Budget) -> Result<Self, ProbeError> {
        let started = Instant::now();
        let size_bytes = disk_use(folder, budget)?.file_size_bytes;
        let in_folder = |source: io::Error| ProbeError::Folder {
            folder: folder.to_owned(),
            source,
        };
        let medium = Medium::of(folder).map_err(in_folder)?;
        let (file, io_mode) = temporary_file(folder, medium).map_err(in_folder)?;
        let mut disk = Disk {
            file: file.into(),
            path: folder.to_owned(),
            access: Access::ReadWrite,
            io_mode,
            medium,
            size_bytes: 0,
            has_holes: false,
            queue_refused: None,
            content: Buffer::random(CONTENT_BYTES),
            turn: AtomicU64::new(0),
            started,
        };
        disk.fill(size_bytes, budget.fill_time())?;
        disk.queue_refused = queue::refused(&disk.file);
        Ok(disk)
    }

    /// Opens an existing file or block device, or the largest file directly in a folder, and will only read it.
    ///
    /// # Errors
    /// [`ProbeError::Unreadable`] and [`ProbeError::TooSmall`].
    pub fn open_read_only(path: &Path) -> Result<Self, ProbeError> {
        let started = Instant::now();
        let existing = existing(path)?;
        let mut disk = Disk {
            file: existing.file.into(),
            path: existing.path,
            access: Access::ReadOnly,
            io_mode: existing.io_mode,
            medium: existing.medium,
            size_bytes: existing.size_bytes,
            has_holes: existing.has_holes,
            queue_refused: None,
            content: Buffer::new(0),
            turn: AtomicU64::new(0),
            started,
        };
        disk.queue_refused = queue::refused(&disk.file);
        Ok(disk)
    }

    /// The folder of the temporary file, or the file that is read.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is written to.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Whether the page cache stands between.
    pub fn io_mode(&self) -> IoMode {
        self.io_mode
    }

    /// What lies under the file.
    pub fn medium(&self) -> Medium {
        self.medium
    }

    /// Bytes of the file that are measured.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Whether parts of an existing file are not stored, so that reading them is no I/O.
    pub fn has_holes(&self) -> bool {
        self.has_holes
    }

    /// Why no queue can be kept; `None` where one can.
    pub fn queue_refused(&self) -> Option<&str> {
        self.queue_refused.as_deref()
    }

    /// Blocks that were never written read as zeros without I/O, and their first write changes metadata: write them all.
    fn fill(&mut self, size_bytes: u64, fill_time: Duration) -> Result<(), ProbeError> {
        // Not every file system can; writing will tell where there is no room.
        let allocated = fs::fallocate(&self.file, FallocateFlags::empty(), 0, size_bytes);
        if let Err(errno @ (Errno::NOSPC | Errno::DQUOT)) = allocated {
            return Err(self.failed("preallocating", errno));
        }
        let begun = Instant::now();
        while self.size_bytes < size_bytes {
            let spent = begun.elapsed();
            if spent > fill_time && self.size_bytes >= FILE_SIZE_BYTES_MIN {
                break;
            }
            if spent > fill_time * 10 {
                return Err(ProbeError::TooSlow {
                    path: self.path.clone(),
                    budget_s: (fill_time * 10).as_secs(),
                });
            }
            self.write(BLOCK_SIZE_BYTES_MAX, self.size_bytes)?;
            self.size_bytes += BLOCK_SIZE_BYTES_MAX;
        }
        fs::fdatasync(&self.file).map_err(|errno| self.failed("fdatasync", errno))
    }

    fn write(&self, size_bytes: u64, offset: u64) -> Result<(), ProbeError> {
        let block = self.content_at(size_bytes, offset);
        let written = rustix::io::retry_on_intr(|| rustix::io::pwrite(&self.file, block, offset));
        self.whole("write", written, block.len())
    }

    fn write_durably(
        &self,
        method: SyncMethod,
        size_bytes: u64,
        offset: u64,
    ) -> Result<(), ProbeError> {
        match method {
            SyncMethod::Fdatasync => {
                self.write(size_bytes, offset)?;
                fs::fdatasync(&self.file).map_err(|errno| self.failed("fdatasync", errno))
            }
            SyncMethod::ODsync => {
                let block = self.content_at(size_bytes, offset);
                // What O_DSYNC does for all writes to a file, for this one.
                let written = rustix::io::retry_on_intr(|| {
                    let parts = [io::IoSlice::new(block)];
                    rustix::io::pwritev2(&self.file, &parts, offset, ReadWriteFlags::DSYNC)
                });
                self.whole("write with O_DSYNC", written, block.len())
            }
        }
    }

    /// Which content goes to an offset changes with each measurement.
    fn content_at(&self, size_bytes: u64, offset: u64) -> &[u8] {
        let mut place = offset ^ self.turn.load(Ordering::Relaxed);
        self.content.part(size_bytes, offsets::random(&mut place))
    }

    fn read(&self, block: &mut [u8], offset: u64) -> Result<(), ProbeError> {
        let length = block.len();
        let read = rustix::io::retry_on_intr(|| rustix::io::pread(&self.file, &mut *block, offset));
        self.whole("read", read, length)
    }

    fn whole(
        &self,
        operation: &'static str,
        done: rustix::io::Result<usize>,
        length: usize,
    ) -> Result<(), ProbeError> {
        match done {
            Ok(done) if done == length => Ok(()),
            Ok(_) => Err(self.failed(operation, Errno::IO)),
            Err(errno) => Err(self.failed(operation, errno)),
        }
    }

    fn failed(&self, operation: &'static str, errno: Errno) -> ProbeError {
        ProbeError::Io {
            operation,
            path: self.path.clone(),
            source: errno.into(),
        }
    }

    /// One thread's part of a load: its latencies, and when its last I/O ended.
    fn work(
        &self,
        load: &Load,
        thread: u64,
        window: Duration,
        gate: &RwLock<()>,
    ) -> Result<(Histogram, Instant), ProbeError> {
        let mut buffer = match load.operation {
            Operation::Read => Buffer::new(load.block_size_bytes),
            Operation::Write => Buffer::new(0),
        };
        let mut offsets = self.offsets(load, thread);
        let mut latencies = Histogram::default();
        drop(gate.read());
        let begun = Instant::now();
        let mut now = begun;
        while latencies.count() == 0 || now - begun < window {
            let offset = offsets.next();
            match load.operation {
                Operation::Read => self.read(buffer.block_mut(), offset)?,
                Operation::Write => self.write(load.block_size_bytes, offset)?,
            }
            let after = Instant::now();
            latencies.record(after - now);
            now = after;
        }
        Ok((latencies, now))
    }

    fn offsets(&self, load: &Load, thread: u64) -> Offsets {
        let turn = self.turn.load(Ordering::Relaxed);
        Offsets::new(load, thread, self.size_bytes, turn)
    }

    fn run_threads(&self, load: &Load, window: Duration) -> Result<Measurement, ProbeError> {
        let gate = RwLock::new(());
        let (begun, parts) = std::thread::scope(|scope| -> Result<_, ProbeError> {
            // Nobody begins before all are there; however this scope is left, the gate opens.
            let closed = gate.write();
            let mut threads = Vec::new();
            for thread in 0..load.in_flight {
                let gate = &gate;
                let work = move || self.work(load, thread, window, gate);
                let spawned = std::thread::Builder::new().spawn_scoped(scope, work);
                threads.push(spawned.map_err(|source| ProbeError::Io {
                    operation: "starting threads",
                    path: self.path.clone(),
                    source,
                })?);
            }
            let begun = Instant::now();
            drop(closed);
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| match thread.join() {
                Ok(part) => part,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            let parts: Vec<Result<_, ProbeError>> = threads.into_iter().map(join).collect();
            Ok((begun, parts))
        })?;
        let (mut latencies, mut ended) = (Histogram::default(), begun);
        for part in parts {
            let (part, end) = part?;
            latencies.add(&part);
            ended = ended.max(end);
        }
        Ok(measured(load, latencies, ended - begun))
    }
}

/// All bytes in the time until the last I/O ended. The sum of the threads' own bandwidths would be too great: they leave
/// the device to each other at the end.
fn measured(load: &Load, latencies: Histogram, spent: Duration) -> Measurement {
    let bytes = latencies.count() as f64 * load.block_size_bytes as f64;
    Measurement {
        bytes_per_second: bytes / spent.as_secs_f64().max(1e-9),
        latencies,
    }
}

impl Device for Disk {
    fn run(&self, load: &Load, window: Duration) -> Result<Measurement, ProbeError> {
        self.turn.fetch_add(1, Ordering::Relaxed);
        match load.submission {
            Submission::Threads => self.run_threads(load, window),
            Submission::Queue => queue::run(self, load, window),
        }
    }

    fn run_synced(
        &self,
        method: SyncMethod,
        block_size_bytes: u64,
        window: Duration,
    ) -> Result<Histogram, ProbeError> {
        self.turn.fetch_add(1, Ordering::Relaxed);
        let load = Load {
            operation: Operation::Write,
            pattern: Pattern::Sequential,
            block_size_bytes,
            submission: Submission::Threads,
            in_flight: 1,
        };
        let mut offsets = self.offsets(&load, 0);
        let mut latencies = Histogram::default();
        // What was written before is not to be paid for here.
        fs::fdatasync(&self.file).map_err(|errno| self.failed("fdatasync", errno))?;
        let begun = Instant::now();
        while latencies.count() == 0 || begun.elapsed() < window {
            let before = Instant::now();
            self.write_durably(method, block_size_bytes, offsets.next())?;
            latencies.record(before.elapsed());
        }
        Ok(latencies)
    }

    fn writes(&self) -> bool {
        self.access == Access::ReadWrite
    }

    fn queues(&self) -> bool {
        self.queue_refused.is_none()
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }
}

#[cfg(test)]
mod tests;
