//! The engine's only way to the outside: files, their device's speed, time and randomness, through one small trait.
//!
//! [`SyscallIo`] is the operating system by plain system calls. [`SimulatedIo`] is a disk in memory that forgets what
//! was not synced, tears writes and fails on a seeded schedule, for tests of recovery. An open database puts its own
//! `metered` layer on top, which counts what goes through. Nothing else in the crate names `std::fs`, a clock or a random
//! source; clippy holds it to that.

pub(crate) mod metered;
mod simulated;
mod syscall;

use std::io::Result;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use simulated::{
    CrashStyle, Damage, Damaged, Fault, FaultCounts, FaultPlan, FaultRule, FileKind, Lasts,
    Latency, NamesStyle, Operation, ProcessGone, SimulatedIo,
};
pub use syscall::SyscallIo;

use crate::profile::StoredProfile;

/// How to open a file.
///
/// ```
/// use std::path::Path;
///
/// use moonshine_engine::io::{Io, OpenMode, SimulatedIo};
/// let io = SimulatedIo::new(1);
/// io.create_folder(Path::new("/db"))?;
/// assert!(io.open(Path::new("/db/a"), OpenMode::Read).is_err());
/// io.open(Path::new("/db/a"), OpenMode::CreateNew)?;
/// assert!(io.open(Path::new("/db/a"), OpenMode::CreateNew).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, to read.
    Read,
    /// An existing file, to read and write.
    Write,
    /// A new file, to read and write; it must not exist.
    CreateNew,
}

/// Files, time, randomness: everything that is not computation.
///
/// Paths are passed through as they are. Every call may block.
///
/// ```
/// use std::path::Path;
/// use std::sync::Arc;
///
/// use moonshine_engine::io::{Io, SimulatedIo};
/// use moonshine_engine::{Database, Options};
/// let io: Arc<dyn Io> = Arc::new(SimulatedIo::new(1));
/// let options = Options { io: io.clone(), ..Options::unmeasured() };
/// let database = Database::open("/db", options)?;
/// assert!(!io.list(Path::new("/db"))?.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Io: Send + Sync + std::fmt::Debug {
    /// Opens a file.
    ///
    /// # Errors
    /// As the system answers: not found, exists already, no permission, too many open files.
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn IoFile>>;
    /// Creates a folder and those above it that are missing.
    ///
    /// # Errors
    /// As the system answers.
    fn create_folder(&self, path: &Path) -> Result<()>;
    /// The files of a folder, in no order.
    ///
    /// # Errors
    /// As the system answers.
    fn list(&self, folder: &Path) -> Result<Vec<PathBuf>>;
    /// Gives a file another name, over one that has it; atomic, durable after [`sync_folder`](Self::sync_folder).
    ///
    /// # Errors
    /// As the system answers.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;
    /// Removes a file; durable after [`sync_folder`](Self::sync_folder).
    ///
    /// # Errors
    /// As the system answers.
    fn remove(&self, path: &Path) -> Result<()>;
    /// Gives bytes of a file back to the file system; they read as zeros from then on. False, and nothing done, where the
    /// file system has no holes, where the file has a second name (a hard link, of a backup perhaps), and while somebody
    /// [`share`](IoFile::share)s it.
    ///
    /// # Errors
    /// As the system answers.
    fn punch_hole(&self, path: &Path, offset: u64, size_bytes: u64) -> Result<bool>;
    /// Gives a file a second name; both are the same file from then on. Durable after
    /// [`sync_folder`](Self::sync_folder).
    ///
    /// # Errors
    /// As the system answers: `CrossesDevices` for a name on another file system, `Unsupported` or no permission where it
    /// knows no such names.
    fn hard_link(&self, from: &Path, to: &Path) -> Result<()> {
        let _ = (from, to);
        Err(std::io::ErrorKind::Unsupported.into())
    }
    /// Removes an empty folder.
    ///
    /// # Errors
    /// As the system answers.
    fn remove_folder(&self, path: &Path) -> Result<()> {
        let _ = path;
        Err(std::io::ErrorKind::Unsupported.into())
    }
    /// Bytes that can still be written in a folder's file system; `None` where that is not known.
    ///
    /// # Errors
    /// As the system answers.
    fn free_bytes(&self, folder: &Path) -> Result<Option<u64>> {
        let _ = folder;
        Ok(None)
    }
    /// Makes the folder's list of files durable.
    ///
    /// # Errors
    /// As the system answers.
    fn sync_folder(&self, folder: &Path) -> Result<()>;
    /// Takes the exclusive lock that the file at this path stands for, creating it if need be. `None` while another
    /// holder has it. Dropping the guard, or the death of the process, releases it.
    ///
    /// # Errors
    /// As the system answers.
    fn try_lock(&self, path: &Path) -> Result<Option<Box<dyn FileLock>>>;
    /// Measures the device under a folder, for a database that is created there. It may take ten seconds.
    ///
    /// # Errors
    /// In words, why it can't be measured; the database then takes safe defaults.
    fn measure_profile(&self, folder: &Path) -> Result<StoredProfile>;
    /// 128 random bits.
    fn random_u128(&self) -> u128;
    /// The time since some moment; never less than it was before.
    fn now(&self) -> Duration;
    /// The time since 1970 as far as the machine knows it: for what outlives the process. It may go back.
    fn unix_time(&self) -> Duration {
        self.now()
    }
    /// Lets that much time pass.
    fn sleep(&self, duration: Duration);
}

/// A lock that is held until this is dropped.
///
/// ```
/// use std::path::Path;
///
/// use moonshine_engine::io::{Io, SimulatedIo};
/// let io = SimulatedIo::new(1);
/// io.create_folder(Path::new("/db"))?;
/// let lock = io.try_lock(Path::new("/db/LOCK"))?;
/// assert!(lock.is_some() && io.try_lock(Path::new("/db/LOCK"))?.is_none());
/// drop(lock);
/// assert!(io.try_lock(Path::new("/db/LOCK"))?.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait FileLock: Send + Sync + std::fmt::Debug {}

/// An open file. Offsets and lengths are in bytes.
///
/// ```
/// use std::path::Path;
///
/// use moonshine_engine::io::{Io, OpenMode, SimulatedIo};
/// let io = SimulatedIo::new(1);
/// io.create_folder(Path::new("/db"))?;
/// let file = io.open(Path::new("/db/a"), OpenMode::CreateNew)?;
/// file.write_all_at(b"moonshine", 0)?;
/// file.sync_data()?;
/// let mut word = [0; 5];
/// file.read_exact_at(&mut word, 4)?;
/// assert_eq!(&word, b"shine");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait IoFile: Send + Sync + std::fmt::Debug {
    /// Fills the buffer from that offset.
    ///
    /// # Errors
    /// `UnexpectedEof` where the file ends before the buffer is full; else as the system answers.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()>;
    /// Writes all bytes at that offset. Durable only after [`sync_data`](Self::sync_data).
    ///
    /// # Errors
    /// As the system answers; a part may have been written.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()>;
    /// Writes all bytes of the parts at that offset, one behind the other, as [`write_all_at`](Self::write_all_at) does.
    ///
    /// # Errors
    /// As [`write_all_at`](Self::write_all_at).
    fn write_all_parts_at(&self, parts: &[&[u8]], offset: u64) -> Result<()> {
        self.write_all_at(&parts.concat(), offset)
    }
    /// Bytes that the file has already as memory, to be written without a call of the system. `None` where that can't be, or
    /// where a write to them might find no space. It must not be written to once the file was cut before its end.
    ///
    /// # Errors
    /// As the system answers.
    fn map(&self, offset: u64, size_bytes: usize) -> Result<Option<Box<dyn FileMap>>> {
        let _ = (offset, size_bytes);
        Ok(None)
    }
    /// Makes what was written durable, with the file's length.
    ///
    /// # Errors
    /// As the system answers. What was written since the last sync is then in an unknown state for good.
    fn sync_data(&self) -> Result<()>;
    /// The file's length.
    ///
    /// # Errors
    /// As the system answers.
    fn len_bytes(&self) -> Result<u64>;
    /// Cuts the file, or lengthens it with zeros.
    ///
    /// # Errors
    /// As the system answers.
    fn set_len(&self, len_bytes: u64) -> Result<()>;
    /// Keeps others from punching holes into it for as long as it is open: for a reader beside a process that writes.
    ///
    /// # Errors
    /// As the system answers.
    fn share(&self) -> Result<()>;
}

/// A part of a file as memory. What is written to it is in the file at once, for every reader, and survives the end of the
/// process; it is durable after [`IoFile::sync_data`].
///
/// ```
/// use std::path::Path;
///
/// use moonshine_engine::io::{Io, OpenMode, SimulatedIo};
/// let io = SimulatedIo::new(1);
/// io.create_folder(Path::new("/db"))?;
/// let file = io.open(Path::new("/db/a"), OpenMode::CreateNew)?;
/// file.write_all_at(&[0; 16], 0)?;
/// let mut map = file.map(4, 12)?.expect("the simulated disk can");
/// map.write_all_parts_at(&[b"moon", b"shine"], 4)?;
/// let mut word = [0; 5];
/// file.read_exact_at(&mut word, 8)?;
/// assert_eq!(&word, b"shine");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait FileMap: Send + Sync + std::fmt::Debug {
    /// Writes all bytes of the parts at that offset of the file, one behind the other.
    ///
    /// # Errors
    /// `InvalidInput` where they are not within the part that is mapped; nothing is written then. A disk that can say so
    /// without ending the process fails as [`IoFile::write_all_at`] does.
    fn write_all_parts_at(&mut self, parts: &[&[u8]], offset: u64) -> Result<()>;
}
