//! Delta files that are open, and when they and their parts go.
//!
//! A file goes when no tree names a RowSet of it any more; a RowSet that goes before gives its bytes back as a hole. Both
//! wait for the last reader, and happen only after the edit is durable that took the RowSet out of the tree.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::state::Described;
use crate::error::{Error, Result};
use crate::io::Io;
use crate::row_set::file::DeltaFile;
use crate::row_set::meta::RowSetMeta;
use crate::row_set::page_cache::PageCache;
use crate::row_set::patch::{PatchMeta, Replaced};
use crate::row_set::reader::RowSet;

/// A delta file that somebody reads. When no tree names it any more, it is removed with its last reader.
#[derive(Debug)]
pub(crate) struct HeldFile {
    pub(crate) file: Arc<DeltaFile>,
    io: Arc<dyn Io>,
    retired: AtomicBool,
}

/// The bytes of a RowSet in its file. Whoever reads the RowSet holds them.
#[derive(Debug)]
pub(crate) struct Extent {
    file: Arc<HeldFile>,
    offset: u64,
    size_bytes: u64,
    retired: AtomicBool,
}

/// A RowSet of a tree. While it is held its file stays, and its bytes.
#[derive(Debug)]
pub(crate) struct HeldRowSet {
    pub(crate) row_set: RowSet,
    pub(crate) file: Arc<HeldFile>,
    extent: Arc<Extent>,
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
    /// A RowSet of a file that is open, with the file of its patch.
    ///
    /// # Errors
    /// [`Error::Usage`] where the RowSet lies in another file.
    pub(crate) fn open(
        meta: RowSetMeta,
        file: &Arc<HeldFile>,
        patch_file: Option<Arc<HeldFile>>,
        cache: &Arc<PageCache>,
    ) -> Result<Self> {
        let extent = Arc::new(Extent {
            file: file.clone(),
            offset: meta.offset,
            size_bytes: meta.size_bytes,
            retired: AtomicBool::new(false),
        });
        Ok(HeldRowSet {
            row_set: RowSet::open(meta, file.file.clone(), cache)?,
            file: file.clone(),
            extent,
            patch_file,
        })
    }

    /// The bytes that it lies in. They are the same for all that stand for one RowSet.
    pub(crate) fn extent(&self) -> &Arc<Extent> {
        &self.extent
    }

    /// The same RowSet with a patch, which lies in that file.
    pub(crate) fn with_patch(&self, patch: PatchMeta, patch_file: Arc<HeldFile>) -> Self {
        HeldRowSet {
            row_set: self.row_set.with_patch(Arc::new(patch)),
            file: self.file.clone(),
            extent: self.extent.clone(),
            patch_file: Some(patch_file),
        }
    }

    /// Marks which rows of an older RowSet it replaces, as far as its patch says so.
    pub(crate) fn mark_replaced(&self, older: &RowSetMeta, marks: &mut Replaced) -> Result<()> {
        match (&self.row_set.meta().patch, &self.patch_file) {
            (Some(patch), Some(held)) => patch.mark(&held.file, older, marks),
            _ => Ok(()),
        }
    }

    /// The error for a row that is not what its place says.
    pub(crate) fn corrupt(&self, reason: &str) -> Error {
        self.file.file.corrupt(self.row_set.meta().offset, reason)
    }
}

impl Extent {
    /// Says that no tree names the RowSet any more, and none will.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }
}

impl Drop for Extent {
    fn drop(&mut self) {
        if *self.retired.get_mut() && !self.file.retired.load(Ordering::Relaxed) {
            punch_hole(
                &*self.file.io,
                self.file.file.path(),
                (self.offset, self.size_bytes),
            );
        }
    }
}

/// Gives the bytes of a file that nobody needs back to the file system: offset and length.
pub(crate) fn punch_hole(io: &dyn Io, path: &Path, (offset, size_bytes): (u64, u64)) {
    match io.punch_hole(path, offset, size_bytes) {
        Ok(true) => {}
        Ok(false) => tracing::debug!(path = %path.display(), offset, size_bytes, "no hole here"),
        // The space comes back with the file.
        Err(error) => tracing::debug!(path = %path.display(), %error, "no hole here"),
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
