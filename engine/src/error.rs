//! The engine's error: variants say what the caller should do.

use std::path::{Path, PathBuf};

/// What every fallible call of the engine returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed. The variants are grouped by remedy, the text names the place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The schema is not acceptable; mend it.
    #[error("schema: {0}")]
    Schema(String),
    /// The row or key does not fit its table; mend the input.
    #[error("row: {0}")]
    Row(String),
    /// The call does not fit the state of the database (unknown table, read-only, exceeded limit); mend the call.
    #[error("{0}")]
    Usage(String),
    /// Another process has the database open; close it or open read-only.
    #[error("database {} is in use by another process", .0.display())]
    Locked(PathBuf),
    /// Stored bytes are damaged; restore the file. Nothing of it was used.
    #[error("corrupt: {}, byte {offset}: {reason}", path.display())]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// Where in it, in bytes from its start.
        offset: u64,
        /// What was found.
        reason: String,
    },
    /// A newer build of the engine wrote the database; open it with one that knows its format.
    #[error(
        "{} is of format version {version}, this build reads up to version {version_max}: use a newer one",
        path.display()
    )]
    NewerFormat {
        /// The file that says so.
        path: PathBuf,
        /// Its format version.
        version: u32,
        /// The newest version that this build reads.
        version_max: u32,
    },
    /// The operating system refused an operation on a file.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// An earlier write failed, so the database takes no more; reads go on. Reopen it once the cause is gone.
    #[error("the database stopped taking writes: {0}")]
    Poisoned(String),
}

impl Error {
    pub(crate) fn io(operation: &'static str, path: &Path, source: std::io::Error) -> Self {
        Error::Io {
            operation,
            path: path.to_owned(),
            source,
        }
    }
}
