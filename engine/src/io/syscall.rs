//! Files by plain system calls.

#![allow(
    clippy::disallowed_methods,
    reason = "this is the place that the ban points to"
)]

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

use moonshine_sysprobe::disk::Medium;
use moonshine_sysprobe::{Budget, measure};
use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock, statvfs};
use rustix::io::{Errno, pwritev};

use super::{FileLock, FileMap, Io, IoFile, OpenMode};
use crate::profile::StoredProfile;
use crate::raw::MappedPart;

/// What the process's time is counted from.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Parts of a write that Linux takes in one call (`IOV_MAX`).
const IO_SLICES_MAX: usize = 1024;

/// The operating system's files through the page cache, its clock, and its random numbers.
///
/// ```
/// use std::sync::Arc;
///
/// use moonshine_engine::Options;
/// use moonshine_engine::io::SyscallIo;
/// let options = Options { io: Arc::new(SyscallIo), ..Options::default() };
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct SyscallIo;

impl Io for SyscallIo {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn IoFile>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => {}
            OpenMode::Write => {
                options.write(true);
            }
            OpenMode::CreateNew => {
                options.write(true).create_new(true);
            }
        }
        Ok(Arc::new(SyscallFile(options.open(path)?)))
    }

    fn create_folder(&self, path: &Path) -> Result<()> {
        std::fs::create_dir_all(path)
    }

    fn list(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        std::fs::read_dir(folder)?
            .map(|entry| Ok(entry?.path()))
            .collect()
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        std::fs::remove_file(path)
    }

    fn punch_hole(&self, path: &Path, offset: u64, size_bytes: u64) -> Result<bool> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        }
        if file.metadata()?.nlink() > 1 {
            return Ok(false);
        }
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(&file, punch, offset, size_bytes) {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<()> {
        std::fs::hard_link(from, to)
    }

    fn remove_folder(&self, path: &Path) -> Result<()> {
        std::fs::remove_dir(path)
    }

    fn free_bytes(&self, folder: &Path) -> Result<Option<u64>> {
        let found = statvfs(folder)?;
        Ok(Some(found.f_bavail.saturating_mul(found.f_frsize)))
    }

    fn sync_folder(&self, folder: &Path) -> Result<()> {
        File::open(folder)?.sync_all()
    }

    fn try_lock(&self, path: &Path) -> Result<Option<Box<dyn FileLock>>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Box::new(SyscallLock(file)))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    fn measure_profile(&self, folder: &Path) -> Result<StoredProfile> {
        if Medium::of(folder)? == Medium::Memory {
            let reason = "the folder lies in memory, there is no device below it";
            return Err(Error::new(ErrorKind::Unsupported, reason));
        }
        let budget = Budget::quick();
        tracing::info!(
            folder = %folder.display(),
            seconds_max = budget.duration.as_secs() + 1,
            file_size_mib_max = budget.file_size_bytes >> 20,
            "measuring the device of a new database, once"
        );
        let report = measure(folder, &budget).map_err(Error::other)?;
        tracing::info!(
            folder = %folder.display(),
            seconds = report.duration_s,
            s_size_bytes = report.profile.s_size_bytes,
            s_paral = report.profile.s_paral,
            "measured"
        );
        Ok(StoredProfile::from(&report))
    }

    fn random_u128(&self) -> u128 {
        uuid::Uuid::new_v4().as_u128()
    }

    fn now(&self) -> Duration {
        START.elapsed()
    }

    fn unix_time(&self) -> Duration {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.unwrap_or_default()
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

/// The lock of the open file, which a child process shares from its fork until its exec.
#[derive(Debug)]
struct SyscallLock(File);

impl FileLock for SyscallLock {}

impl Drop for SyscallLock {
    fn drop(&mut self) {
        // Closing the file would leave the lock with a child that this process is starting just now. Should the call
        // fail, closing is what is left to do.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

#[derive(Debug)]
struct SyscallFile(File);

impl IoFile for SyscallFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn write_all_parts_at(&self, parts: &[&[u8]], offset: u64) -> Result<()> {
        let mut slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut left = slices.as_mut_slice();
        let mut offset = offset;
        // What is empty would be taken for the end of the device.
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            let at_once = left.get(..IO_SLICES_MAX).unwrap_or(left);
            match pwritev(&self.0, at_once, offset) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    offset += written as u64;
                    IoSlice::advance_slices(&mut left, written);
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn map(&self, offset: u64, size_bytes: usize) -> Result<Option<Box<dyn FileMap>>> {
        let map = MappedPart::open(&self.0, offset, size_bytes)?;
        Ok(map.map(|map| Box::new(map) as Box<dyn FileMap>))
    }

    fn sync_data(&self) -> Result<()> {
        self.0.sync_data()
    }

    fn len_bytes(&self) -> Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len_bytes: u64) -> Result<()> {
        self.0.set_len(len_bytes)
    }

    fn share(&self) -> Result<()> {
        Ok(flock(&self.0, FlockOperation::LockShared)?)
    }
}

impl FileMap for MappedPart {
    fn write_all_parts_at(&mut self, parts: &[&[u8]], offset: u64) -> Result<()> {
        self.write_all_parts_at(parts, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_with_its_holder_though_a_forked_child_still_has_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("LOCK");
        let file = File::create(&path).unwrap();
        flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        let in_child = file.try_clone().unwrap();
        let lock = SyscallLock(file);
        assert!(SyscallIo.try_lock(&path).unwrap().is_none());
        drop(lock);
        assert!(SyscallIo.try_lock(&path).unwrap().is_some());
        drop(in_child);
    }

    /// *Space*: a hole gives its blocks back and leaves the rest as it is; not while somebody else has the file, by a lock or
    /// by another name.
    #[test]
    fn a_hole_gives_blocks_back_unless_others_have_the_file() {
        const SIZE: usize = 1 << 20;
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("file"), folder.path().join("link"));
        let file = SyscallIo.open(&path, OpenMode::CreateNew).unwrap();
        file.write_all_at(&[7; SIZE], 0).unwrap();
        // Blocks are given with the sync at the latest.
        file.sync_data().unwrap();
        let allocated_bytes = || std::fs::metadata(&path).unwrap().blocks() * 512;
        let (start, end) = (SIZE / 4, SIZE / 2);
        let punch = || {
            SyscallIo
                .punch_hole(&path, start as u64, (end - start) as u64)
                .unwrap()
        };
        let before = allocated_bytes();
        assert!(before >= SIZE as u64);
        let reader = SyscallIo.open(&path, OpenMode::Read).unwrap();
        reader.share().unwrap();
        assert!(!punch(), "somebody reads it");
        drop(reader);
        SyscallIo.hard_link(&path, &link).unwrap();
        assert!(!punch(), "it has another name");
        SyscallIo.remove(&link).unwrap();
        assert_eq!(allocated_bytes(), before);
        let mut found = vec![0; SIZE];
        file.read_exact_at(&mut found, 0).unwrap();
        assert!(found.iter().all(|byte| *byte == 7));
        assert!(punch());
        assert!(allocated_bytes() <= before - (end - start) as u64);
        assert_eq!(file.len_bytes().unwrap(), SIZE as u64);
        file.read_exact_at(&mut found, 0).unwrap();
        for (i, byte) in found.into_iter().enumerate() {
            let expected = if (start..end).contains(&i) { 0 } else { 7 };
            assert_eq!(byte, expected, "byte {i}");
        }
    }
}
