//! Delta files that are open, and when they go.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::state::Described;
use crate::error::{Error, Result};
use crate::io::Io;
use crate::row_set::file::DeltaFile;
use crate::row_set::meta::RowSetMeta;
use crate::row_set::patch::PatchMeta;
use crate::row_set::reader::RowSet;

/// A delta file that somebody reads. When no tree names it any more, it is removed with its last reader.
#[derive(Debug)]
pub(crate) struct HeldFile {
    pub(crate) file: Arc<DeltaFile>,
    io: Arc<dyn Io>,
    retired: AtomicBool,
}

/// A RowSet of a tree. While it is held its file stays.
#[derive(Debug)]
pub(crate) struct HeldRowSet {
    pub(crate) row_set: RowSet,
    pub(crate) file: Arc<HeldFile>,
    /// The file of its patch, if it has one.
    pub(crate) patch_file: Option<Arc<HeldFile>>,
}

impl HeldFile {
    pub(crate) fn new(file: Arc<DeltaFile>, io: Arc<dyn Io>) -> Arc<Self> {
        Arc::new(HeldFile {
            file,
            io,
            retired: AtomicBool::new(false),
        })
    }

    /// Says that no tree names it any more, and none will.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }
}

impl HeldRowSet {
    /// The same RowSet with a patch, which lies in that file.
    pub(crate) fn with_patch(&self, patch: PatchMeta, patch_file: Arc<HeldFile>) -> Self {
        HeldRowSet {
            row_set: self.row_set.with_patch(Arc::new(patch)),
            file: self.file.clone(),
            patch_file: Some(patch_file),
        }
    }

    /// The error for a row that is not what its place says.
    pub(crate) fn corrupt(&self, reason: &str) -> Error {
        self.file.file.corrupt(self.row_set.meta().offset, reason)
    }
}

impl Drop for HeldFile {
    fn drop(&mut self) {
        if *self.retired.get_mut()
            && let Err(error) = self.io.remove(self.file.path())
            && error.kind() != std::io::ErrorKind::NotFound
        {
            // The next start removes what no edit names.
            tracing::warn!(path = %self.file.path().display(), %error, "a file of no use is left");
        }
    }
}

impl Described for Arc<HeldRowSet> {
    fn meta(&self) -> &RowSetMeta {
        self.row_set.meta()
    }
}

/// The number in a delta file's name; `None` for any other file.
pub(crate) fn delta_file_number(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    name.strip_prefix("delta-")?
        .strip_suffix(".mdelta")?
        .parse()
        .ok()
}

/// The delta files of a folder.
pub(crate) fn delta_files(io: &dyn Io, folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let files = io
        .list(folder)
        .map_err(|source| Error::io("list", folder, source))?;
    Ok(files
        .into_iter()
        .filter_map(|path| Some((delta_file_number(&path)?, path)))
        .collect())
}
