//! I/O engines: the ways in which one thread hands reads and writes to the kernel, behind one trait.
//!
//! [`open_engine`] gives a thread its own [`IoEngine`] over open files. The thread owns `depth` slots, each with a
//! page-aligned buffer. It fills a slot's buffer where it writes, [`queue`](IoEngine::queue)s a [`Request`] on the slot,
//! [`submit`](IoEngine::submit)s what is queued, and [`complete`](IoEngine::complete) hands back the slots that are done.
//! Synchronous engines (`psync`, `pvsync2`, `mmap`) carry the request out while it is queued; the others
//! (`io_uring`, `tokio_uring`) have up to `depth` of them under way. Everything unsafe lies below, in `raw`.

mod mmap;
mod psync;
mod tokio_uring;
mod uring;

use std::fs::File;
use std::io;

use serde::Serialize;
use thiserror::Error;

/// How a thread hands its I/O to the kernel. The names are those of fio.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineName {
    /// `pread` and `pwrite`.
    Psync,
    /// `preadv2` and `pwritev2`, which also take flags such as polling.
    Pvsync2,
    /// Copies from and to a memory map of the file.
    Mmap,
    /// A ring of submissions and completions shared with the kernel.
    IoUring,
    /// The same, driven by the runtime of the crate `tokio-uring`.
    TokioUring,
}

impl EngineName {
    /// All engines.
    pub const ALL: [EngineName; 5] = [
        EngineName::Psync,
        EngineName::Pvsync2,
        EngineName::Mmap,
        EngineName::IoUring,
        EngineName::TokioUring,
    ];

    /// The name in job files.
    pub fn name(self) -> &'static str {
        match self {
            EngineName::Psync => "psync",
            EngineName::Pvsync2 => "pvsync2",
            EngineName::Mmap => "mmap",
            EngineName::IoUring => "io_uring",
            EngineName::TokioUring => "tokio_uring",
        }
    }

    /// The engine of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|engine| engine.name() == name)
    }

    /// Whether a request is carried out while it is queued, so that more than one is never under way.
    pub fn is_synchronous(self) -> bool {
        !matches!(self, EngineName::IoUring | EngineName::TokioUring)
    }
}

/// What a thread's engine is told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// Slots: requests that may be under way at once.
    pub depth: usize,
    /// Size of each slot's buffer: the greatest request.
    pub buffer_size_bytes: usize,
    /// Whether the files were opened with `O_DIRECT`.
    pub direct: bool,
    /// Registers the buffers with the ring, so that their pages are pinned once.
    pub registered_buffers: bool,
    /// Registers the files with the ring, so that they are looked up once.
    pub registered_files: bool,
    /// Lets a thread of the kernel poll the submission queue.
    pub sqpoll: bool,
    /// The core of that thread.
    pub sqpoll_cpu: Option<u32>,
    /// Polls the device for completions instead of waiting for interrupts.
    pub hipri: bool,
    /// Whether requests write: a memory map must then be writable.
    pub writes: bool,
    /// Whether requests go to random places, which a memory map tells the kernel.
    pub random: bool,
}

impl EngineOptions {
    /// One request at a time, buffers of that size, nothing registered, no polling; reads and writes at random
    /// places.
    pub fn new(depth: usize, buffer_size_bytes: usize) -> Self {
        EngineOptions {
            depth,
            buffer_size_bytes,
            direct: false,
            registered_buffers: false,
            registered_files: false,
            sqpoll: false,
            sqpoll_cpu: None,
            hipri: false,
            writes: true,
            random: true,
        }
    }
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Reads into the slot's buffer.
    Read,
    /// Writes the slot's buffer.
    Write,
    /// `fsync`.
    Sync,
    /// `fdatasync`.
    DataSync,
}

/// One I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What it does.
    pub kind: Kind,
    /// Byte in the file where it begins.
    pub offset: u64,
    /// Bytes; 0 for the two syncs.
    pub length: usize,
    /// Index into the files that the engine was opened with.
    pub file: usize,
}

/// An I/O that is done.
#[derive(Debug)]
pub struct Completion {
    /// Slot whose request it was.
    pub slot: usize,
    /// Bytes read or written, which may be fewer than asked for; 0 for the two syncs.
    pub result: io::Result<usize>,
}

/// An engine that cannot be opened.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The kernel or a container forbids it, or the kernel does not know it: use another engine.
    #[error(
        "the kernel does not let this process use {engine}: {source}; it may be switched off (sysctl \
         kernel.io_uring_disabled), filtered by a container, or out of locked memory (ulimit -l)",
        engine = .engine.name()
    )]
    Forbidden {
        /// Which.
        engine: EngineName,
        /// What the kernel said.
        source: io::Error,
    },
    /// Options that the engine cannot follow here: change them.
    #[error("{engine}: {operation}: {source}", engine = .engine.name())]
    Setup {
        /// Which.
        engine: EngineName,
        /// What was being done.
        operation: &'static str,
        /// What went wrong.
        source: io::Error,
    },
}

/// One thread's way to do I/O. Slots are numbered from 0 to the depth.
pub trait IoEngine {
    /// Puts a request on a slot that has none; synchronous engines carry it out here.
    ///
    /// # Errors
    /// Where it cannot be queued. What goes wrong with the I/O itself is in its [`Completion`].
    fn queue(&mut self, slot: usize, request: &Request) -> io::Result<()>;

    /// Hands what is queued to the kernel; returns how many requests that were.
    ///
    /// # Errors
    /// Where the kernel does not take them.
    fn submit(&mut self) -> io::Result<usize>;

    /// Waits for at least `least` completions of submitted requests and appends all there are.
    ///
    /// # Errors
    /// Where waiting fails.
    fn complete(&mut self, least: usize, done: &mut Vec<Completion>) -> io::Result<()>;

    /// The slot's buffer; empty where there is no such slot or the kernel has its buffer just now.
    fn buffer_mut(&mut self, slot: usize) -> &mut [u8];
}

/// Opens an engine for one thread. Each thread should give files that it opened itself: threads that share one open file
/// slow each other down. The thread must not hand it to another: it is not [`Send`].
///
/// # Errors
/// [`EngineError::Forbidden`] where the machine does not allow the engine, [`EngineError::Setup`] where the options or
/// the files don't fit.
pub fn open_engine(
    name: EngineName,
    files: &[File],
    options: &EngineOptions,
) -> Result<Box<dyn IoEngine>, EngineError> {
    let unsupported = |operation| EngineError::Setup {
        engine: name,
        operation,
        source: io::ErrorKind::Unsupported.into(),
    };
    let ring_only = options.registered_buffers || options.registered_files || options.sqpoll;
    if ring_only && name != EngineName::IoUring {
        return Err(unsupported("fixedbufs, registerfiles or sqthread_poll"));
    }
    if options.hipri && !matches!(name, EngineName::IoUring | EngineName::Pvsync2) {
        return Err(unsupported("hipri"));
    }
    Ok(match name {
        EngineName::Psync | EngineName::Pvsync2 => {
            Box::new(psync::PsyncEngine::open(name, files, options)?)
        }
        EngineName::Mmap => Box::new(mmap::MmapEngine::open(files, options)?),
        EngineName::IoUring => Box::new(uring::UringEngine::open(files, options)?),
        EngineName::TokioUring => Box::new(tokio_uring::TokioUringEngine::open(files, options)?),
    })
}

/// Whether that error of `io_uring_setup` says that this process may not or cannot have a ring at all.
fn is_forbidding(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let Some(errno) = Errno::from_io_error(error) else {
        return false;
    };
    [
        Errno::PERM,
        Errno::ACCESS,
        Errno::NOSYS,
        Errno::NOMEM,
        Errno::OPNOTSUPP,
    ]
    .contains(&errno)
}

#[cfg(test)]
mod tests;
