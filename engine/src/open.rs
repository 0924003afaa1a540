//! A database that is open: its state, its threads, and the lock on its folder.

use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::io::{FileLock, Io};
use crate::shared::Shared;
use crate::sync::Mutex;
use crate::sync::thread::JoinHandle;

/// Makes a folder if there is none, and locks it against every other process.
///
/// # Errors
/// [`Error::Locked`] if another has it, [`Error::Io`] if the system refuses.
pub(crate) fn lock_folder(io: &dyn Io, folder: &Path) -> Result<Box<dyn FileLock>> {
    io.create_folder(folder)
        .map_err(|source| Error::io("create", folder, source))?;
    let lock_path = folder.join("LOCK");
    let lock = io
        .try_lock(&lock_path)
        .map_err(|source| Error::io("lock", &lock_path, source))?;
    lock.ok_or_else(|| Error::Locked(folder.to_owned()))
}

/// What lives until the last clone of a [`Database`](crate::Database) is dropped.
#[derive(Debug)]
pub(crate) struct OpenDatabase {
    pub(crate) shared: Arc<Shared>,
    pub(crate) committer: Option<JoinHandle<()>>,
    /// The threads that flush and compact.
    pub(crate) background: Vec<JoinHandle<()>>,
    /// One creation of a table at a time.
    pub(crate) creating: Mutex<()>,
    pub(crate) _lock: Option<Box<dyn FileLock>>,
}

impl Drop for OpenDatabase {
    fn drop(&mut self) {
        self.shared.stop_background();
        for thread in self.background.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread that flushes or compacts ended in a panic");
            }
        }
        self.shared.queue.close();
        if let Some(committer) = self.committer.take()
            && committer.join().is_err()
        {
            tracing::error!("the thread that writes the log ended in a panic");
        }
    }
}
