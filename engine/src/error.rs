//! The engine's error: variants say what the caller should do.

use std::path::{Path, PathBuf};

use crate::value::Value;

/// What every fallible call of the engine returns.
///
/// ```
/// fn count(database: &moonshine_engine::Database) -> moonshine_engine::Result<u64> {
///     database.tables().iter().map(|table| database.snapshot().row_count(table)).sum()
/// }
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed. The variants are grouped by remedy, the text names the place.
///
/// ```
/// use moonshine_engine::{Database, Error, Options};
/// let refused = Database::open_read_only("/nowhere", Options::unmeasured());
/// match refused {
///     Ok(_) => println!("open"),
///     Err(Error::Conflict { .. }) => println!("begin the transaction again"),
///     Err(Error::NoSpace { .. }) => println!("free space and try again"),
///     Err(Error::Poisoned(_)) => println!("open the database anew"),
///     Err(Error::Corrupt { path, offset, .. }) => println!("restore {}, byte {offset}", path.display()),
///     Err(error) => println!("mend the call: {error}"),
/// }
/// ```
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
    /// Another transaction wrote what this one read or wrote, so nothing of this one took effect. Begin it again, on a new
    /// snapshot: [`Database::transact`](crate::Database::transact) does.
    #[error("conflict: table '{table}', key {key:?}: another transaction wrote it meanwhile")]
    Conflict {
        /// The table.
        table: String,
        /// The key that was written, in primary-key order; empty if all of the table was.
        key: Vec<Value>,
    },
    /// A row that was to be inserted exists already, so nothing of the transaction took effect. Take another key, or
    /// upsert.
    #[error("table '{table}': a row with the key {key:?} exists")]
    Exists {
        /// The table.
        table: String,
        /// The key, in primary-key order.
        key: Vec<Value>,
    },
    /// The columns of the table were changed since this [`Table`](crate::Table) was taken. Take it anew with
    /// [`Database::table`](crate::Database::table), and begin the transaction again.
    #[error("table '{table}' was changed since it was taken; take it anew")]
    SchemaChanged {
        /// The table.
        table: String,
    },
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
    /// The device, or a quota on it, has no room for a write. Nothing of it was kept, and what was read can be read on.
    /// Free space and try again; there is no need to reopen the database.
    #[error("{operation} {}: {reason}; free space and try again", path.display())]
    NoSpace {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// The system's answer.
        reason: String,
    },
    /// An earlier write failed, so the database takes no more; reads go on. Reopen it once the cause is gone.
    #[error("the database stopped taking writes: {0}")]
    Poisoned(String),
}

impl Error {
    /// The error for what the system answered. A sync that failed is never one to try again after, whatever the reason:
    /// what it was to make durable is in an unknown state.
    pub(crate) fn io(operation: &'static str, path: &Path, source: std::io::Error) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        let path = path.to_owned();
        if matches!(source.kind(), StorageFull | QuotaExceeded) && operation != "sync" {
            let reason = source.to_string();
            return Error::NoSpace {
                operation,
                path,
                reason,
            };
        }
        Error::Io {
            operation,
            path,
            source,
        }
    }

    /// The same error once more, if it is one of missing space, which many may wait for.
    pub(crate) fn no_space(&self) -> Option<Self> {
        match self {
            Error::NoSpace {
                operation,
                path,
                reason,
            } => Some(Error::NoSpace {
                operation,
                path: path.clone(),
                reason: reason.clone(),
            }),
            _ => None,
        }
    }

    /// Takes back what a write left behind that found no space, so that it can be tried again. Where that fails, it can't.
    pub(crate) fn undone(self, undo: impl FnOnce() -> std::io::Result<()>) -> Self {
        let Error::NoSpace { path, reason, .. } = &self else {
            return self;
        };
        match undo() {
            Ok(()) => self,
            Err(source) => Error::Io {
                operation: "undo a write to",
                path: path.clone(),
                source: std::io::Error::other(format!("{source}, after: {reason}")),
            },
        }
    }
}
