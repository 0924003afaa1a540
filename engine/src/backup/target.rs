//! The folder of a backup: empty before, whole or empty after.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Backup;
use super::copy::{Copied, copy_bytes};
use crate::error::{Error, Result};
use crate::io::{FileLock, Io, OpenMode};
use crate::manifest::Manifest;
use crate::open::lock_folder;
use crate::recovery::{log_folder, sync_folders, tree_folder};

/// A folder that a database is copied to. Unless it is finished, all that was put there is removed again.
#[derive(Debug)]
pub(super) struct Target {
    io: Arc<dyn Io>,
    folder: PathBuf,
    /// Whether the folder is made by this.
    is_new: bool,
    is_finished: bool,
    /// Nobody takes the folder for one to make a database in.
    lock: Option<Box<dyn FileLock>>,
}

impl Target {
    pub(super) fn begin(io: &Arc<dyn Io>, folder: &Path) -> Result<Self> {
        let is_new = match io.list(folder) {
            Ok(found) => {
                let lock_path = folder.join("LOCK");
                let parts = [&lock_path, &log_folder(folder), &tree_folder(folder)];
                check_empty(folder, found, &parts.map(PathBuf::as_path))?;
                false
            }
            Err(_) => true,
        };
        let lock = lock_folder(&**io, folder)?;
        for part in [log_folder(folder), tree_folder(folder)] {
            io.create_folder(&part)
                .map_err(|source| Error::io("create", &part, source))?;
            let found = io.list(&part);
            let found = found.map_err(|source| Error::io("list", &part, source))?;
            check_empty(folder, found, &[])?;
        }
        Ok(Target {
            io: io.clone(),
            folder: folder.to_owned(),
            is_new,
            is_finished: false,
            lock: Some(lock),
        })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes all that was put there.
    ///
    /// # Errors
    /// [`Error::Io`] with the first file that is left.
    pub(super) fn clear(mut self) -> Result<()> {
        self.is_finished = true;
        self.remove_all()
    }

    fn remove_all(&mut self) -> Result<()> {
        let io = self.io.clone();
        let mut removed = Ok(());
        let mut remove = |path: &Path| {
            if let Err(error) = io.remove(path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "a file of no use is left");
                if removed.is_ok() {
                    removed = Err(Error::io("remove", path, error));
                }
            }
        };
        // The manifest first: what is left is no database.
        remove(&Manifest::path(&self.folder));
        remove(&self.folder.join("MANIFEST.new"));
        for part in [log_folder(&self.folder), tree_folder(&self.folder)] {
            for path in io.list(&part).unwrap_or_default() {
                remove(&path);
            }
            // Where folders can't be removed, empty ones stay, and the next try takes them.
            let _ = io.remove_folder(&part);
        }
        drop(self.lock.take());
        remove(&self.folder.join("LOCK"));
        if self.is_new {
            let _ = io.remove_folder(&self.folder);
        }
        removed
    }

    /// Makes all that was put there durable, and then a database by its manifest.
    pub(super) fn finish(mut self, manifest_path: &Path, copied: Copied) -> Result<Backup> {
        let (io, folder) = (&*self.io, &self.folder);
        for part in [&log_folder(folder), &tree_folder(folder), folder] {
            io.sync_folder(part)
                .map_err(|source| Error::io("sync", part, source))?;
        }
        let (path, new_path) = (Manifest::path(folder), folder.join("MANIFEST.new"));
        let manifest = io
            .open(manifest_path, OpenMode::Read)
            .map_err(|source| Error::io("open", manifest_path, source))?;
        let len_bytes = manifest
            .len_bytes()
            .map_err(|source| Error::io("read", manifest_path, source))?;
        copy_bytes(io, (&*manifest, manifest_path), &new_path, len_bytes)?;
        io.rename(&new_path, &path)
            .map_err(|source| Error::io("rename", &new_path, source))?;
        Manifest::read(io, folder)?;
        sync_folders(io, folder)?;
        self.is_finished = true;
        Ok(Backup {
            folder: self.folder.clone(),
            commit_seq: copied.commit_seq,
            linked_files: copied.linked_files,
            linked_bytes: copied.linked_bytes,
            copied_files: copied.copied_files + 1,
            copied_bytes: copied.copied_bytes + len_bytes,
        })
    }
}

fn check_empty(folder: &Path, found: Vec<PathBuf>, allowed: &[&Path]) -> Result<()> {
    match found.iter().find(|path| !allowed.contains(&path.as_path())) {
        None => Ok(()),
        Some(path) => Err(Error::Usage(format!(
            "{} is not empty, {} is there; name a folder that is empty or does not exist",
            folder.display(),
            path.display()
        ))),
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.is_finished {
            // What could not be removed is in the log of events.
            let _left = self.remove_all();
        }
    }
}
