//! Counts what goes through another [`Io`], by what the files are for.

use std::io::Result;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{FileLock, FileMap, Io, IoFile, OpenMode};
use crate::counting::histogram::Histogram;
use crate::counting::striped::Striped;
use crate::profile::StoredProfile;

/// What went through since the database was opened.
#[derive(Debug, Default)]
pub(crate) struct IoCounters {
    /// Segments of the log.
    pub(crate) log: FileCounters,
    /// Delta files.
    pub(crate) delta: FileCounters,
    /// The log of edits and all else.
    pub(crate) other: FileCounters,
    pub(crate) open_files: AtomicU64,
}

#[derive(Debug, Default)]
pub(crate) struct FileCounters {
    /// How many reads, and their bytes.
    pub(crate) reads: Striped<2>,
    pub(crate) written_bytes: AtomicU64,
    /// How long syncs took, in nanoseconds.
    pub(crate) sync_ns: Histogram,
}

impl IoCounters {
    fn of(&self, purpose: Purpose) -> &FileCounters {
        match purpose {
            Purpose::Log => &self.log,
            Purpose::Delta => &self.delta,
            Purpose::Other => &self.other,
        }
    }
}

/// What a file is for.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    Log,
    Delta,
    Other,
}

impl Purpose {
    fn of(path: &Path) -> Self {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("mlog") => Purpose::Log,
            Some("mdelta") => Purpose::Delta,
            _ => Purpose::Other,
        }
    }
}

/// Another [`Io`], counted.
#[derive(Debug)]
pub(crate) struct MeteredIo {
    inner: Arc<dyn Io>,
    counters: Arc<IoCounters>,
}

#[derive(Debug)]
struct MeteredFile {
    inner: Arc<dyn IoFile>,
    io: Arc<dyn Io>,
    purpose: Purpose,
    counters: Arc<IoCounters>,
}

impl MeteredIo {
    pub(crate) fn new(inner: Arc<dyn Io>, counters: Arc<IoCounters>) -> Self {
        MeteredIo { inner, counters }
    }
}

impl Io for MeteredIo {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn IoFile>> {
        let inner = self.inner.open(path, mode)?;
        self.counters.open_files.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(MeteredFile {
            inner,
            io: self.inner.clone(),
            purpose: Purpose::of(path),
            counters: self.counters.clone(),
        }))
    }

    fn create_folder(&self, path: &Path) -> Result<()> {
        self.inner.create_folder(path)
    }

    fn list(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        self.inner.list(folder)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.inner.remove(path)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<()> {
        self.inner.hard_link(from, to)
    }

    fn remove_folder(&self, path: &Path) -> Result<()> {
        self.inner.remove_folder(path)
    }

    fn free_bytes(&self, folder: &Path) -> Result<Option<u64>> {
        self.inner.free_bytes(folder)
    }

    fn punch_hole(&self, path: &Path, offset: u64, size_bytes: u64) -> Result<bool> {
        self.inner.punch_hole(path, offset, size_bytes)
    }

    fn sync_folder(&self, folder: &Path) -> Result<()> {
        self.inner.sync_folder(folder)
    }

    fn try_lock(&self, path: &Path) -> Result<Option<Box<dyn FileLock>>> {
        self.inner.try_lock(path)
    }

    fn measure_profile(&self, folder: &Path) -> Result<StoredProfile> {
        self.inner.measure_profile(folder)
    }

    fn random_u128(&self) -> u128 {
        self.inner.random_u128()
    }

    fn now(&self) -> Duration {
        self.inner.now()
    }

    fn unix_time(&self) -> Duration {
        self.inner.unix_time()
    }

    fn sleep(&self, duration: Duration) {
        self.inner.sleep(duration);
    }
}

impl MeteredFile {
    fn counters(&self) -> &FileCounters {
        self.counters.of(self.purpose)
    }
}

impl IoFile for MeteredFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.inner.read_exact_at(buffer, offset)?;
        let counters = self.counters();
        counters.reads.add([1, buffer.len() as u64]);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.inner.write_all_at(bytes, offset)?;
        let written = bytes.len() as u64;
        let counters = self.counters();
        counters.written_bytes.fetch_add(written, Ordering::Relaxed);
        Ok(())
    }

    fn write_all_parts_at(&self, parts: &[&[u8]], offset: u64) -> Result<()> {
        self.inner.write_all_parts_at(parts, offset)?;
        let written = parts.iter().map(|part| part.len() as u64).sum();
        let counters = self.counters();
        counters.written_bytes.fetch_add(written, Ordering::Relaxed);
        Ok(())
    }

    /// What is written by it is not counted: it replaces bytes that were.
    fn map(&self, offset: u64, size_bytes: usize) -> Result<Option<Box<dyn FileMap>>> {
        self.inner.map(offset, size_bytes)
    }

    fn sync_data(&self) -> Result<()> {
        let start = self.io.now();
        self.inner.sync_data()?;
        let took = self.io.now().saturating_sub(start);
        self.counters().sync_ns.record_time(took);
        Ok(())
    }

    fn len_bytes(&self) -> Result<u64> {
        self.inner.len_bytes()
    }

    fn set_len(&self, len_bytes: u64) -> Result<()> {
        self.inner.set_len(len_bytes)
    }

    fn share(&self) -> Result<()> {
        self.inner.share()
    }
}

impl Drop for MeteredFile {
    fn drop(&mut self) {
        self.counters.open_files.fetch_sub(1, Ordering::Relaxed);
    }
}
