//! Finding out what is to be measured, and opening it.
//!
//! The temporary file is made without a name where the file system can (`O_TMPFILE`) and else unlinked before anything is
//! written, so the kernel removes it when the process ends, however it ends.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::fs::{self, FileType, Mode, OFlags, StatVfsMountFlags};
use serde::Serialize;

use super::buffer::Buffer;
use crate::error::ProbeError;
use crate::probe::budget::Budget;
use crate::probe::device::{BLOCK_SIZE_BYTES_MAX, BLOCK_SIZE_BYTES_MIN};

/// File systems in memory, by `statfs`: some let `O_DIRECT` pass, but there is no device below them.
const MEMORY_FILE_SYSTEMS: [u64; 2] = [0x0102_1994, 0x8584_58f6];
/// File systems over a network, and FUSE, by `statfs`.
const REMOTE_FILE_SYSTEMS: [u64; 5] = [0x6969, 0xff53_4d42, 0xfe53_4d42, 0x0102_1997, 0x6573_5546];
/// Least size of a file that is measured: fewer blocks of the greatest size would not be random.
pub(super) const FILE_SIZE_BYTES_MIN: u64 = 16 * BLOCK_SIZE_BYTES_MAX;
/// Share of the free space that a probe takes at most is 1 / this.
const FREE_SPACE_RESERVE: u64 = 2;
/// A file of which less than this share is stored has holes, which are read without I/O.
const STORED_SHARE_MIN: f64 = 0.9;
/// `stat` counts in units of this.
const STAT_BLOCK_BYTES: f64 = 512.0;

/// Whether the page cache stood between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IoMode {
    /// `O_DIRECT`: the device was measured.
    Direct,
    /// Through the page cache: memory was measured as much as a device.
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
    /// What lies under a folder or a file.
    ///
    /// # Errors
    /// The system's, where it can't be asked.
    pub fn of(path: &Path) -> io::Result<Self> {
        // The type is 32 bits; where its field is a signed word it may come sign-extended.
        let kind = fs::statfs(path)?.f_type as u64 & 0xffff_ffff;
        Ok(if MEMORY_FILE_SYSTEMS.contains(&kind) {
            Medium::Memory
        } else if REMOTE_FILE_SYSTEMS.contains(&kind) {
            Medium::Remote
        } else {
            Medium::Local
        })
    }
}

/// Whether a probe may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// A temporary file is written and read.
    ReadWrite,
    /// An existing file is read.
    ReadOnly,
}

/// What a probe will take of a disk, before anything is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DiskUse {
    /// The folder.
    pub folder: PathBuf,
    /// Size of the temporary file at most.
    pub file_size_bytes: u64,
    /// Free space of the file system.
    pub available_bytes: u64,
    /// Time at most, beside the I/O that is under way at its end.
    pub duration: Duration,
}

impl fmt::Display for DiskUse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "measuring {} for at most {} s with a temporary file of at most {} MiB ({} MiB are free); it has no name, and \
             goes when the process ends, however that ends",
            self.folder.display(),
            self.duration.as_secs() + 1,
            self.file_size_bytes >> 20,
            self.available_bytes >> 20,
        )
    }
}

/// What [`measure`](crate::measure) will take of the disk under `folder`. Nothing is written.
///
/// # Errors
/// [`ProbeError::Folder`] where it is no folder or takes no files, [`ProbeError::Space`] where too little is free.
///
/// ```
/// use moonshine_sysprobe::{Budget, probe::disk::disk_use};
/// let folder = std::env::temp_dir();
/// if let Ok(used) = disk_use(&folder, &Budget::quick()) {
///     assert!(used.file_size_bytes <= used.available_bytes / 2);
/// }
/// ```
pub fn disk_use(folder: &Path, budget: &Budget) -> Result<DiskUse, ProbeError> {
    let in_folder = |source: io::Error| ProbeError::Folder {
        folder: folder.to_owned(),
        source,
    };
    if !std::fs::metadata(folder).map_err(in_folder)?.is_dir() {
        return Err(in_folder(io::ErrorKind::NotADirectory.into()));
    }
    let available = fs::statvfs(folder).map_err(|errno| in_folder(errno.into()))?;
    if available.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Err(in_folder(io::ErrorKind::ReadOnlyFilesystem.into()));
    }
    let available_bytes = available.f_bavail.saturating_mul(available.f_frsize);
    let file_size_bytes = budget.file_size_bytes.max(FILE_SIZE_BYTES_MIN);
    let needed_bytes = file_size_bytes.saturating_mul(FREE_SPACE_RESERVE);
    if available_bytes < needed_bytes {
        return Err(ProbeError::Space {
            folder: folder.to_owned(),
            needed_bytes,
            available_bytes,
        });
    }
    Ok(DiskUse {
        folder: folder.to_owned(),
        file_size_bytes,
        available_bytes,
        duration: budget.duration,
    })
}

/// A file without a name, past the page cache where there is a device and the file system allows.
pub(super) fn temporary_file(folder: &Path, medium: Medium) -> io::Result<(OwnedFd, IoMode)> {
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

/// A file that exists, opened for reading alone.
#[derive(Debug)]
pub(super) struct Existing {
    pub(super) file: OwnedFd,
    pub(super) path: PathBuf,
    pub(super) io_mode: IoMode,
    pub(super) medium: Medium,
    pub(super) size_bytes: u64,
    /// Whether parts of it are not stored, so that reading them is no I/O.
    pub(super) has_holes: bool,
}

/// Opens a file or a block device, or the largest file that lies directly in a folder, for reading alone.
///
/// # Errors
/// [`ProbeError::Unreadable`], or [`ProbeError::TooSmall`].
pub(super) fn existing(path: &Path) -> Result<Existing, ProbeError> {
    let unreadable = |source: io::Error| ProbeError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let path = if std::fs::metadata(path).map_err(unreadable)?.is_dir() {
        largest_file(path).map_err(unreadable)?
    } else {
        path.to_owned()
    };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let open = |more: OFlags| fs::open(&path, flags | more, Mode::empty()).map_err(io::Error::from);
    let medium = Medium::of(&path).map_err(unreadable)?;
    let (file, io_mode) = match open(OFlags::DIRECT).and_then(can_be_read) {
        Ok(file) if medium != Medium::Memory => (file, IoMode::Direct),
        _ => (open(OFlags::empty()).map_err(unreadable)?, IoMode::Buffered),
    };
    let stat = fs::fstat(&file).map_err(|errno| unreadable(errno.into()))?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if !matches!(kind, FileType::RegularFile | FileType::BlockDevice) {
        let reason = "it is neither a file nor a block device";
        return Err(unreadable(io::Error::new(
            io::ErrorKind::InvalidInput,
            reason,
        )));
    }
    let end = fs::seek(&file, fs::SeekFrom::End(0)).map_err(|errno| unreadable(errno.into()))?;
    let size_bytes = end / BLOCK_SIZE_BYTES_MAX * BLOCK_SIZE_BYTES_MAX;
    if size_bytes < FILE_SIZE_BYTES_MIN {
        return Err(ProbeError::TooSmall {
            path,
            size_bytes: end,
            size_bytes_min: FILE_SIZE_BYTES_MIN,
        });
    }
    let stored = stat.st_blocks as f64 * STAT_BLOCK_BYTES;
    Ok(Existing {
        file,
        io_mode,
        medium,
        size_bytes,
        has_holes: kind == FileType::RegularFile && stored < end as f64 * STORED_SHARE_MIN,
        path,
    })
}

/// Some file systems open a file with `O_DIRECT` and refuse the I/O.
fn can_be_read(file: OwnedFd) -> io::Result<OwnedFd> {
    let mut buffer = Buffer::new(BLOCK_SIZE_BYTES_MIN);
    rustix::io::pread(&file, buffer.block_mut(), 0)?;
    Ok(file)
}

fn largest_file(folder: &Path) -> io::Result<PathBuf> {
    let files = std::fs::read_dir(folder)?.filter_map(Result::ok);
    let sizes = files.filter_map(|entry| {
        let metadata = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
        Some((metadata.len(), entry.path()))
    });
    match sizes.max() {
        Some((_, path)) => Ok(path),
        None => Err(io::Error::new(
            io::ErrorKind::NotFound,
            "no file lies in the folder; name one",
        )),
    }
}
