//! Why a probe or a profile failed.

use std::io;
use std::path::PathBuf;

/// Why a device was not measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// No file can be made in the folder: name another, or mend its permissions.
    #[error("{}: no temporary file can be made here: {source}", .folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Too little room: free some, or name another folder.
    #[error(
        "{}: the temporary file needs {needed_bytes} bytes free and {available_bytes} are; nothing was written",
        .folder.display()
    )]
    Space {
        /// The folder.
        folder: PathBuf,
        /// What must be free, with a reserve for everybody else.
        needed_bytes: u64,
        /// What is.
        available_bytes: u64,
    },
    /// A file that is only to be read can't be: name another, or mend its permissions.
    #[error("{}: can't be read: {source}", .path.display())]
    Unreadable {
        /// The file, device or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file that is only to be read is too small to measure a device by: name a greater one.
    #[error("{}: has {size_bytes} bytes, and it takes {size_bytes_min} to measure the device below it", .path.display())]
    TooSmall {
        /// The file.
        path: PathBuf,
        /// Its size.
        size_bytes: u64,
        /// The least size.
        size_bytes_min: u64,
    },
    /// An I/O failed while measuring: look after the device.
    #[error("{}: {operation}: {source}", .path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The folder of the temporary file, or the file that is read.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The device is so slow that the budget of time was spent before there was enough to go by.
    #[error("{}: too slow to be measured in {budget_s} s; allow it more time", .path.display())]
    TooSlow {
        /// The folder of the temporary file, or the file that is read.
        path: PathBuf,
        /// The budget, in seconds.
        budget_s: u64,
    },
}

/// Why a profile file is not used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// The file can't be read or written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is not what `moonshine probe` wrote: measure again.
    #[error("{}: damaged profile: {reason}; measure again with 'moonshine probe --profile'", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A later release wrote the file: use that one, or measure again.
    #[error("{}: profile version {version} is newer than {supported}, the newest this release reads", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
        /// The newest version that this release reads.
        supported: u32,
    },
    /// The file was measured on another machine: measure again on this one.
    #[error("{}: measured on another machine ({theirs}; this one is {ours}); measure again with 'moonshine probe --profile', or delete it", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The machine of the file.
        theirs: String,
        /// This machine.
        ours: String,
    },
}
