//! A real device: a temporary file without a name, `pread` and `pwrite` from threads.
//!
//! The file is made without a name where the file system can (`O_TMPFILE`) and else unlinked before anything is written,
//! so the kernel removes it when the process ends, however it ends. Buffers are aligned by over-allocating, which needs
//! no unsafe code.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::RwLock;
use std::time::{Duration, Instant};

use rustix::fd::OwnedFd;
use rustix::fs::{self, FallocateFlags, Mode, OFlags};
use serde::Serialize;

use crate::error::ProbeError;
use crate::latency::Histogram;
use crate::probe::device::{
    BLOCK_SIZE_BYTES_MAX, BLOCK_SIZE_BYTES_MIN, Device, Load, Measurement, Operation, Pattern,
};

/// File systems in memory, by `statfs`: some let `O_DIRECT` pass, but there is no device below them.
const MEMORY_FILE_SYSTEMS: [u64; 2] = [0x0102_1994, 0x8584_58f6];
/// File systems over a network, and FUSE, by `statfs`.
const REMOTE_FILE_SYSTEMS: [u64; 5] = [0x6969, 0xff53_4d42, 0xfe53_4d42, 0x0102_1997, 0x6573_5546];
/// Least part of the file that must be filled: fewer blocks of the greatest size would not be random.
const FILLED_BYTES_MIN: u64 = 16 * BLOCK_SIZE_BYTES_MAX;
/// Share of the free space that a probe takes at most is 1 / this.
const FREE_SPACE_RESERVE: u64 = 2;

/// Whether the page cache stood between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IoMode {
    /// `O_DIRECT`: the device was measured.
    Direct,
    /// Through the page cache, since the file system refuses `O_DIRECT`: memory was measured as much as a device.
    Buffered,
}

/// What lies under a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Medium {
    /// A block device of this machine, as far as can be told.
    Local,
    /// Memory: tmpfs, ramfs.
    Memory,
    /// A network file system or FUSE.
    Remote,
}

impl Medium {
    /// What lies under a folder that exists. Writes nothing.
    ///
    /// # Errors
    /// As the system answers.
    pub fn of(folder: &Path) -> io::Result<Self> {
        medium(folder)
    }
}

/// The device under a folder, reached by a temporary file.
#[derive(Debug)]
pub struct Disk {
    file: OwnedFd,
    folder: PathBuf,
    io_mode: IoMode,
    medium: Medium,
    filled_bytes: u64,
    /// What is written: made once, since it takes longer than writing it.
    content: Buffer,
    started: Instant,
}

impl Disk {
    /// Makes and fills the temporary file: at most `size_bytes`, and what can be written in `fill_time`.
    ///
    /// # Errors
    /// [`ProbeError::Folder`] and [`ProbeError::Space`] before anything is written; [`ProbeError::Io`] where writing
    /// fails; [`ProbeError::TooSlow`] where hardly anything was written in ten times `fill_time`.
    pub fn open(folder: &Path, size_bytes: u64, fill_time: Duration) -> Result<Self, ProbeError> {
        let started = Instant::now();
        let in_folder = |source: io::Error| ProbeError::Folder {
            folder: folder.to_owned(),
            source,
        };
        let available = fs::statvfs(folder).map_err(|errno| in_folder(errno.into()))?;
        let available_bytes = available.f_bavail.saturating_mul(available.f_frsize);
        let size_bytes = size_bytes.max(FILLED_BYTES_MIN);
        let needed_bytes = size_bytes.saturating_mul(FREE_SPACE_RESERVE);
        if available_bytes < needed_bytes {
            return Err(ProbeError::Space {
                folder: folder.to_owned(),
                needed_bytes,
                available_bytes,
            });
        }
        let medium = medium(folder).map_err(in_folder)?;
        let (file, io_mode) = temporary_file(folder, medium).map_err(in_folder)?;
        let mut disk = Disk {
            file,
            folder: folder.to_owned(),
            io_mode,
            medium,
            filled_bytes: 0,
            content: Buffer::random(BLOCK_SIZE_BYTES_MAX),
            started,
        };
        disk.fill(size_bytes, fill_time)?;
        Ok(disk)
    }

    /// Whether the page cache stands between.
    pub fn io_mode(&self) -> IoMode {
        self.io_mode
    }

    /// What lies under the folder.
    pub fn medium(&self) -> Medium {
        self.medium
    }

    /// Bytes of the temporary file that are measured.
    pub fn filled_bytes(&self) -> u64 {
        self.filled_bytes
    }

    /// Blocks that were never written read as zeros without I/O, and their first write changes metadata: write them all.
    fn fill(&mut self, size_bytes: u64, fill_time: Duration) -> Result<(), ProbeError> {
        // Not every file system can; writing will tell where there is no room.
        let allocated = fs::fallocate(&self.file, FallocateFlags::empty(), 0, size_bytes);
        if let Err(errno @ (rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT)) = allocated {
            return Err(self.failed("preallocating", errno));
        }
        let begun = Instant::now();
        while self.filled_bytes < size_bytes {
            let spent = begun.elapsed();
            if spent > fill_time && self.filled_bytes >= FILLED_BYTES_MIN {
                break;
            }
            if spent > fill_time * 10 {
                return Err(ProbeError::TooSlow {
                    folder: self.folder.clone(),
                    budget_s: (fill_time * 10).as_secs(),
                });
            }
            self.write(BLOCK_SIZE_BYTES_MAX, self.filled_bytes)?;
            self.filled_bytes += BLOCK_SIZE_BYTES_MAX;
        }
        fs::fdatasync(&self.file).map_err(|errno| self.failed("fdatasync", errno))
    }

    fn write(&self, size_bytes: u64, offset: u64) -> Result<(), ProbeError> {
        let size = usize::try_from(size_bytes).unwrap_or(usize::MAX);
        let block = self.content.block().get(..size).unwrap_or_default();
        let written = rustix::io::retry_on_intr(|| rustix::io::pwrite(&self.file, block, offset));
        self.whole("write", written, size)
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
            Ok(_) => Err(self.failed(operation, rustix::io::Errno::IO)),
            Err(errno) => Err(self.failed(operation, errno)),
        }
    }

    fn failed(&self, operation: &'static str, errno: rustix::io::Errno) -> ProbeError {
        ProbeError::Io {
            operation,
            folder: self.folder.clone(),
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
        let mut offsets = Offsets::new(load, thread, self.filled_bytes);
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
}

impl Device for Disk {
    fn run(&self, load: &Load, window: Duration) -> Result<Measurement, ProbeError> {
        let gate = RwLock::new(());
        let (begun, parts) = std::thread::scope(|scope| -> Result<_, ProbeError> {
            // Nobody begins before all are there; however this scope is left, the gate opens.
            let closed = gate.write();
            let mut threads = Vec::new();
            for thread in 0..load.threads {
                let gate = &gate;
                let work = move || self.work(load, thread, window, gate);
                let spawned = std::thread::Builder::new().spawn_scoped(scope, work);
                threads.push(spawned.map_err(|source| ProbeError::Io {
                    operation: "starting threads",
                    folder: self.folder.clone(),
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
        // All bytes in the time until the last I/O ended. The sum of the threads' own bandwidths would be too great: they
        // leave the device to each other at the end.
        let bytes = latencies.count() as f64 * load.block_size_bytes as f64;
        Ok(Measurement {
            bytes_per_second: bytes / (ended - begun).as_secs_f64().max(1e-9),
            latencies,
        })
    }

    fn run_synced(&self, block_size_bytes: u64, window: Duration) -> Result<Histogram, ProbeError> {
        let load = Load {
            operation: Operation::Write,
            pattern: Pattern::Sequential,
            block_size_bytes,
            threads: 1,
        };
        let mut offsets = Offsets::new(&load, 0, self.filled_bytes);
        let mut latencies = Histogram::default();
        // What was written before is not to be paid for here.
        fs::fdatasync(&self.file).map_err(|errno| self.failed("fdatasync", errno))?;
        let begun = Instant::now();
        while latencies.count() == 0 || begun.elapsed() < window {
            let before = Instant::now();
            self.write(block_size_bytes, offsets.next())?;
            fs::fdatasync(&self.file).map_err(|errno| self.failed("fdatasync", errno))?;
            latencies.record(before.elapsed());
        }
        Ok(latencies)
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }
}

fn medium(folder: &Path) -> io::Result<Medium> {
    // The type is 32 bits; where its field is a signed word it may come sign-extended.
    let kind = fs::statfs(folder)?.f_type as u64 & 0xffff_ffff;
    Ok(if MEMORY_FILE_SYSTEMS.contains(&kind) {
        Medium::Memory
    } else if REMOTE_FILE_SYSTEMS.contains(&kind) {
        Medium::Remote
    } else {
        Medium::Local
    })
}

/// A file without a name, past the page cache where the file system allows.
fn temporary_file(folder: &Path, medium: Medium) -> io::Result<(OwnedFd, IoMode)> {
    if medium != Medium::Memory
        && let Ok(file) = nameless(folder, OFlags::DIRECT)
    {
        let buffer = Buffer::new(BLOCK_SIZE_BYTES_MIN);
        // Some file systems open such a file and refuse the I/O.
        if rustix::io::pwrite(&file, buffer.block(), 0).is_ok() {
            return Ok((file, IoMode::Direct));
        }
    }
    Ok((nameless(folder, OFlags::empty())?, IoMode::Buffered))
}

fn nameless(folder: &Path, direct: OFlags) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | direct;
    let mode = Mode::RUSR | Mode::WUSR;
    if let Ok(file) = fs::open(folder, flags | OFlags::TMPFILE, mode) {
        return Ok(file);
    }
    let clock = std::time::UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| since.as_nanos());
    let path = folder.join(format!(".moonshine-probe-{}-{clock}", std::process::id()));
    let file = fs::open(&path, flags | OFlags::CREATE | OFlags::EXCL, mode)?;
    fs::unlink(&path)?;
    Ok(file)
}

/// The offsets that a thread goes to.
struct Offsets {
    block_size_bytes: u64,
    /// Blocks of the file.
    blocks: u64,
    /// The next block of a sequence, or the state of the generator.
    state: u64,
    pattern: Pattern,
}

impl Offsets {
    fn new(load: &Load, thread: u64, filled_bytes: u64) -> Self {
        let blocks = (filled_bytes / load.block_size_bytes).max(1);
        Offsets {
            block_size_bytes: load.block_size_bytes,
            blocks,
            state: match load.pattern {
                Pattern::Sequential => thread * blocks / load.threads.max(1),
                Pattern::Random => thread,
            },
            pattern: load.pattern,
        }
    }

    fn next(&mut self) -> u64 {
        let block = match self.pattern {
            Pattern::Sequential => {
                self.state += 1;
                self.state - 1
            }
            Pattern::Random => random(&mut self.state),
        };
        block % self.blocks * self.block_size_bytes
    }
}

/// SplitMix64 (Steele, Lea, Flood: *Fast splittable pseudorandom number generators*, 2014).
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A block at an address that `O_DIRECT` takes.
#[derive(Debug)]
struct Buffer {
    bytes: Vec<u8>,
    from: usize,
    to: usize,
}

impl Buffer {
    fn new(size_bytes: u64) -> Self {
        let size = usize::try_from(size_bytes).unwrap_or(usize::MAX);
        let alignment = usize::try_from(BLOCK_SIZE_BYTES_MIN).unwrap_or(usize::MAX);
        // Not zeros: those have no memory behind them before they are written to, which an I/O would have to wait for.
        let bytes = vec![1; size.saturating_add(alignment)];
        let from = bytes.as_ptr().align_offset(alignment).min(alignment);
        Buffer {
            bytes,
            from,
            to: from + size,
        }
    }

    /// Bytes that no device compresses.
    fn random(size_bytes: u64) -> Self {
        let mut buffer = Buffer::new(size_bytes);
        let mut state = size_bytes;
        for word in buffer.block_mut().chunks_exact_mut(8) {
            word.copy_from_slice(&random(&mut state).to_le_bytes());
        }
        buffer
    }

    fn block(&self) -> &[u8] {
        self.bytes.get(self.from..self.to).unwrap_or_default()
    }

    fn block_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.from..self.to).unwrap_or_default()
    }
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
