//! The engine's files with a count of what it reads, writes and syncs.

use std::io::Result;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moonshine_engine::StoredProfile;
use moonshine_engine::io::{FileLock, Io, IoFile, OpenMode, SyscallIo};

/// What went through, since the database was opened.
#[derive(Debug, Default)]
struct Counters {
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    syncs: AtomicU64,
}

/// What went through at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct IoCounts {
    pub(super) read_bytes: u64,
    pub(super) written_bytes: u64,
    pub(super) syncs: u64,
}

impl IoCounts {
    pub(super) fn since(self, earlier: IoCounts) -> IoCounts {
        IoCounts {
            read_bytes: self.read_bytes - earlier.read_bytes,
            written_bytes: self.written_bytes - earlier.written_bytes,
            syncs: self.syncs - earlier.syncs,
        }
    }
}

/// The system's files, counted.
#[derive(Debug, Default)]
pub(super) struct CountingIo {
    system: SyscallIo,
    counters: Arc<Counters>,
}

impl CountingIo {
    pub(super) fn counts(&self) -> IoCounts {
        IoCounts {
            read_bytes: self.counters.read_bytes.load(Ordering::Relaxed),
            written_bytes: self.counters.written_bytes.load(Ordering::Relaxed),
            syncs: self.counters.syncs.load(Ordering::Relaxed),
        }
    }
}

impl Io for CountingIo {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn IoFile>> {
        Ok(Arc::new(CountingFile {
            file: self.system.open(path, mode)?,
            counters: self.counters.clone(),
        }))
    }

    fn create_folder(&self, path: &Path) -> Result<()> {
        self.system.create_folder(path)
    }

    fn list(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        self.system.list(folder)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.system.rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.system.remove(path)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<()> {
        self.system.hard_link(from, to)
    }

    fn remove_folder(&self, path: &Path) -> Result<()> {
        self.system.remove_folder(path)
    }

    fn free_bytes(&self, folder: &Path) -> Result<Option<u64>> {
        self.system.free_bytes(folder)
    }

    fn sync_folder(&self, folder: &Path) -> Result<()> {
        self.system.sync_folder(folder)
    }

    fn try_lock(&self, path: &Path) -> Result<Option<Box<dyn FileLock>>> {
        self.system.try_lock(path)
    }

    fn measure_profile(&self, folder: &Path) -> Result<StoredProfile> {
        self.system.measure_profile(folder)
    }

    fn random_u128(&self) -> u128 {
        self.system.random_u128()
    }

    fn now(&self) -> Duration {
        self.system.now()
    }

    fn sleep(&self, duration: Duration) {
        self.system.sleep(duration);
    }
}

#[derive(Debug)]
struct CountingFile {
    file: Arc<dyn IoFile>,
    counters: Arc<Counters>,
}

impl IoFile for CountingFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let size_bytes = buffer.len() as u64;
        self.counters
            .read_bytes
            .fetch_add(size_bytes, Ordering::Relaxed);
        self.file.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let size_bytes = bytes.len() as u64;
        self.counters
            .written_bytes
            .fetch_add(size_bytes, Ordering::Relaxed);
        self.file.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> Result<()> {
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        self.file.sync_data()
    }

    fn len_bytes(&self) -> Result<u64> {
        self.file.len_bytes()
    }

    fn set_len(&self, len_bytes: u64) -> Result<()> {
        self.file.set_len(len_bytes)
    }
}
