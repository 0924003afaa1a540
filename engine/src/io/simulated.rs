//! A disk in memory that forgets and fails on schedule.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Result};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::{FileLock, FileMap, Io, IoFile, OpenMode};
use crate::profile::StoredProfile;

/// The unit that a torn write is torn in, in bytes: a device writes a sector whole or not at all.
const SECTOR_SIZE_BYTES: usize = 512;

/// What a look at the clock takes.
const TICK: Duration = Duration::from_micros(1);

/// What becomes of writes that were not synced when the power fails.
///
/// ```
/// use moonshine_engine::io::{CrashStyle, SimulatedIo};
/// use moonshine_engine::{Database, Durability, Options};
/// let io = SimulatedIo::new(1);
/// let open = |io: &SimulatedIo| {
///     let io = std::sync::Arc::new(io.clone());
///     Database::open("/db", Options { io, ..Options::unmeasured() })?.keyspace("pairs")
/// };
/// let pairs = open(&io)?;
/// pairs.insert("synced", "")?;
/// pairs.clone().with_durability(Durability::Buffered).insert("buffered", "")?;
/// let pairs = open(&io.crash(CrashStyle::LoseUnsynced))?;
/// assert!(pairs.contains_key("synced")? && !pairs.contains_key("buffered")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashStyle {
    /// All of them are lost.
    LoseUnsynced,
    /// Each sector of each of them arrived or not, by the random numbers of that seed: torn and reordered.
    TearUnsynced(u64),
    /// The process died and the machine lives: all of them arrived.
    KeepUnsynced,
}

/// A disk in memory. Clones share it, as two openers share a device.
///
/// Its time is simulated too: it passes by a little with each look at the clock, and by sleeping, which takes no real time.
///
/// File creation, renames and removals are durable at once; the bytes of a file only after a sync. Locks are not kept
/// across [`crash`](Self::crash).
///
/// ```
/// use moonshine_engine::io::SimulatedIo;
/// use moonshine_engine::{Database, Error, Options};
/// let io = SimulatedIo::new(1);
/// let options = Options { io: std::sync::Arc::new(io.clone()), ..Options::unmeasured() };
/// let pairs = Database::open("/db", options)?.keyspace("pairs")?;
/// io.fill_after(Some(0));
/// assert!(matches!(pairs.insert("key", "value"), Err(Error::NoSpace { .. })));
/// io.fill_after(None);
/// pairs.insert("key", "value")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct SimulatedIo {
    disk: Arc<Mutex<Disk>>,
    /// Writes go on that were held.
    released: Arc<Condvar>,
}

#[derive(Debug, Default)]
struct Disk {
    files: BTreeMap<PathBuf, Arc<Mutex<Content>>>,
    locks: Vec<(PathBuf, Arc<()>)>,
    random_state: u64,
    now: Duration,
    writes_until_failure: Option<u64>,
    writes_until_full: Option<u64>,
    mapped_write_count: u64,
    /// What every sync fails with.
    sync_failure: Option<ErrorKind>,
    /// Writes to files with this ending don't come to an end.
    held_ending: Option<String>,
    /// How long a write of one byte takes.
    time_a_byte: Duration,
    links_cross: bool,
}

#[derive(Clone, Debug, Default)]
struct Content {
    synced: Vec<u8>,
    current: Vec<u8>,
    /// Bytes that were given back: starts and ends.
    holes: Vec<(usize, usize)>,
    /// Open files that no hole is to come into.
    shares: Arc<()>,
}

impl SimulatedIo {
    /// An empty disk whose random numbers follow from the seed.
    pub fn new(seed: u64) -> Self {
        SimulatedIo {
            disk: Arc::new(Mutex::new(Disk {
                random_state: seed,
                ..Disk::default()
            })),
            released: Arc::default(),
        }
    }

    /// What a machine finds on this disk after a crash now. The disk itself goes on.
    pub fn crash(&self, style: CrashStyle) -> SimulatedIo {
        let disk = self.disk.lock();
        let mut random_state = match style {
            CrashStyle::TearUnsynced(seed) => seed,
            _ => disk.random_state,
        };
        let files = disk
            .files
            .iter()
            .map(|(path, content)| {
                let content = content.lock();
                let bytes = match style {
                    CrashStyle::LoseUnsynced => content.synced.clone(),
                    CrashStyle::KeepUnsynced => content.current.clone(),
                    CrashStyle::TearUnsynced(_) => torn(&content, &mut random_state),
                };
                let synced = match style {
                    // The page cache has it all, the device what was synced.
                    CrashStyle::KeepUnsynced => content.synced.clone(),
                    _ => bytes.clone(),
                };
                (
                    path.clone(),
                    Arc::new(Mutex::new(Content {
                        synced,
                        current: bytes,
                        holes: content.holes.clone(),
                        shares: Arc::default(),
                    })),
                )
            })
            .collect();
        SimulatedIo {
            disk: Arc::new(Mutex::new(Disk {
                files,
                random_state,
                ..Disk::default()
            })),
            released: Arc::default(),
        }
    }

    /// Lets that many writes pass, then fails every one, as a broken device does.
    pub fn fail_writes_after(&self, writes: u64) {
        self.disk.lock().writes_until_failure = Some(writes);
    }

    /// Lets that many writes pass; then the disk is full: of every write a part arrives, and no file can be made. `None`
    /// is space again.
    pub fn fill_after(&self, writes: Option<u64>) {
        self.disk.lock().writes_until_full = writes;
    }

    /// Makes every hard link fail as one to another file system does, or work again.
    pub fn refuse_links(&self, refuse: bool) {
        self.disk.lock().links_cross = refuse;
    }

    /// Makes every sync fail, or work again.
    pub fn fail_syncs(&self, fail: bool) {
        self.fail_syncs_with(fail.then_some(ErrorKind::Other));
    }

    /// Makes every sync fail with that kind of error, as a disk that finds only then that it is full, or work again.
    pub fn fail_syncs_with(&self, kind: Option<ErrorKind>) {
        self.disk.lock().sync_failure = kind;
    }

    /// How often a part of a file was written to as memory.
    pub fn mapped_write_count(&self) -> u64 {
        self.disk.lock().mapped_write_count
    }

    /// Makes writes to files with that ending wait, as a device that hangs, until it is called with another one or `None`.
    pub fn hold_writes(&self, ending: Option<&str>) {
        self.disk.lock().held_ending = ending.map(str::to_owned);
        self.released.notify_all();
    }

    /// Makes each write take simulated time, by its bytes.
    pub fn set_write_time(&self, time_a_byte: Duration) {
        self.disk.lock().time_a_byte = time_a_byte;
    }

    /// Flips bits of a stored byte, as a failing device does.
    ///
    /// # Errors
    /// `NotFound` where the file or the byte does not exist.
    pub fn damage(&self, path: &Path, offset: usize, flip: u8) -> Result<()> {
        let content = self.content(path)?;
        let mut content = content.lock();
        let Content {
            synced, current, ..
        } = &mut *content;
        for bytes in [synced, current] {
            *bytes.get_mut(offset).ok_or(ErrorKind::NotFound)? ^= flip;
        }
        Ok(())
    }

    /// The paths and lengths in bytes of all files.
    pub fn files(&self) -> Vec<(PathBuf, usize)> {
        self.disk
            .lock()
            .files
            .iter()
            .map(|(path, content)| (path.clone(), content.lock().current.len()))
            .collect()
    }

    /// The holes in a file: their starts and ends, in bytes.
    ///
    /// # Errors
    /// `NotFound` where the file does not exist.
    pub fn holes(&self, path: &Path) -> Result<Vec<(usize, usize)>> {
        Ok(self.content(path)?.lock().holes.clone())
    }

    fn content(&self, path: &Path) -> Result<Arc<Mutex<Content>>> {
        self.disk
            .lock()
            .files
            .get(path)
            .cloned()
            .ok_or_else(|| ErrorKind::NotFound.into())
    }
}

fn torn(content: &Content, random_state: &mut u64) -> Vec<u8> {
    let keep_len = next_random(random_state) & 1 == 0;
    let len = if keep_len {
        content.current.len()
    } else {
        content.synced.len()
    };
    let mut bytes = content.synced.clone();
    bytes.resize(len, 0);
    let sectors = bytes
        .chunks_mut(SECTOR_SIZE_BYTES)
        .zip(content.current.chunks(SECTOR_SIZE_BYTES));
    for (kept, written) in sectors {
        if next_random(random_state) & 1 == 0 {
            for (kept, written) in kept.iter_mut().zip(written) {
                *kept = *written;
            }
        }
    }
    bytes
}

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Io for SimulatedIo {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn IoFile>> {
        let mut disk = self.disk.lock();
        let content = match (mode, disk.files.get(path)) {
            (OpenMode::CreateNew, Some(_)) => return Err(ErrorKind::AlreadyExists.into()),
            (OpenMode::CreateNew, None) => {
                if disk.writes_until_full == Some(0) {
                    return Err(ErrorKind::StorageFull.into());
                }
                let content = Arc::new(Mutex::new(Content::default()));
                disk.files.insert(path.to_owned(), content.clone());
                content
            }
            (_, Some(content)) => content.clone(),
            (_, None) => return Err(ErrorKind::NotFound.into()),
        };
        Ok(Arc::new(SimulatedFile {
            path: path.to_owned(),
            content,
            simulated: self.clone(),
            share: Arc::default(),
        }))
    }

    fn create_folder(&self, _path: &Path) -> Result<()> {
        Ok(())
    }

    fn list(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        Ok(self
            .disk
            .lock()
            .files
            .keys()
            .filter(|path| path.parent() == Some(folder))
            .cloned()
            .collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let mut disk = self.disk.lock();
        let content = disk.files.remove(from).ok_or(ErrorKind::NotFound)?;
        disk.files.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.disk
            .lock()
            .files
            .remove(path)
            .map(|_| ())
            .ok_or_else(|| ErrorKind::NotFound.into())
    }

    /// Durable at once, the worst that may happen: a hole must not come before what makes the bytes needless is durable.
    fn punch_hole(&self, path: &Path, offset: u64, size_bytes: u64) -> Result<bool> {
        let content = self.content(path)?;
        let has_second_name = {
            let disk = self.disk.lock();
            let names = disk.files.values();
            names.filter(|other| Arc::ptr_eq(other, &content)).count() > 1
        };
        let mut content = content.lock();
        if has_second_name || Arc::strong_count(&content.shares) > 1 {
            return Ok(false);
        }
        let (start, end) = (position(offset)?, position(offset + size_bytes)?);
        let Content {
            synced, current, ..
        } = &mut *content;
        for bytes in [synced, current] {
            let len = bytes.len();
            let punched = bytes.get_mut(start.min(len)..end.min(len));
            punched.ok_or(ErrorKind::InvalidInput)?.fill(0);
        }
        content.holes.push((start, end));
        Ok(true)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<()> {
        let mut disk = self.disk.lock();
        if disk.links_cross {
            return Err(ErrorKind::CrossesDevices.into());
        }
        if disk.files.contains_key(to) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let content = disk.files.get(from).cloned().ok_or(ErrorKind::NotFound)?;
        disk.files.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove_folder(&self, _path: &Path) -> Result<()> {
        Ok(())
    }

    fn free_bytes(&self, _folder: &Path) -> Result<Option<u64>> {
        let is_full = self.disk.lock().writes_until_full == Some(0);
        Ok(is_full.then_some(0))
    }

    fn sync_folder(&self, _folder: &Path) -> Result<()> {
        Ok(())
    }

    fn try_lock(&self, path: &Path) -> Result<Option<Box<dyn FileLock>>> {
        let mut disk = self.disk.lock();
        disk.locks
            .retain(|(_, holder)| Arc::strong_count(holder) > 1);
        if disk.locks.iter().any(|(locked, _)| locked == path) {
            return Ok(None);
        }
        let holder = Arc::new(());
        disk.locks.push((path.to_owned(), holder.clone()));
        Ok(Some(Box::new(SimulatedLock(holder))))
    }

    fn measure_profile(&self, _folder: &Path) -> Result<StoredProfile> {
        let reason = "a simulated disk has no speed to measure";
        Err(Error::new(ErrorKind::Unsupported, reason))
    }

    fn random_u128(&self) -> u128 {
        let mut disk = self.disk.lock();
        let high = next_random(&mut disk.random_state);
        let low = next_random(&mut disk.random_state);
        u128::from(high) << 64 | u128::from(low)
    }

    fn now(&self) -> Duration {
        let mut disk = self.disk.lock();
        disk.now += TICK;
        disk.now
    }

    fn sleep(&self, duration: Duration) {
        self.disk.lock().now += duration;
        // Whoever is waited for gets a chance.
        std::thread::yield_now();
    }
}

/// Counted by the disk: while it lives the path is locked.
#[derive(Debug)]
struct SimulatedLock(#[allow(dead_code, reason = "held, never read")] Arc<()>);

impl FileLock for SimulatedLock {}

#[derive(Clone, Debug)]
struct SimulatedFile {
    path: PathBuf,
    content: Arc<Mutex<Content>>,
    simulated: SimulatedIo,
    share: Arc<Mutex<Option<Arc<()>>>>,
}

impl SimulatedFile {
    /// Whether a write passes, with the time that it takes; true if it finds the disk full.
    fn admit_write(&self, size_bytes: usize) -> Result<bool> {
        let mut disk = self.simulated.disk.lock();
        while let Some(ending) = &disk.held_ending
            && self.path.to_string_lossy().ends_with(ending)
        {
            self.simulated.released.wait(&mut disk);
        }
        let took = u32::try_from(size_bytes).map(|size| disk.time_a_byte * size);
        disk.now += took.unwrap_or_default();
        if let Some(left) = &mut disk.writes_until_failure {
            *left = left
                .checked_sub(1)
                .ok_or_else(|| Error::other("simulated write failure"))?;
        }
        Ok(match &mut disk.writes_until_full {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        })
    }
}

fn position(offset: u64) -> Result<usize> {
    usize::try_from(offset).map_err(|_| ErrorKind::InvalidInput.into())
}

impl IoFile for SimulatedFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let content = self.content.lock();
        let start = position(offset)?;
        let stored = content
            .current
            .get(start..start.saturating_add(buffer.len()));
        buffer.copy_from_slice(stored.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let is_full = self.admit_write(bytes.len())?;
        let (arrives, _) = bytes.split_at(if is_full {
            bytes.len() / 2
        } else {
            bytes.len()
        });
        let mut content = self.content.lock();
        let start = position(offset)?;
        let end = start + arrives.len();
        if content.current.len() < end {
            content.current.resize(end, 0);
        }
        content
            .current
            .get_mut(start..end)
            .ok_or(ErrorKind::InvalidInput)?
            .copy_from_slice(arrives);
        if is_full {
            return Err(ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn map(&self, offset: u64, size_bytes: usize) -> Result<Option<Box<dyn FileMap>>> {
        let end = offset + size_bytes as u64;
        if end > self.len_bytes()? {
            return Ok(None);
        }
        Ok(Some(Box::new(SimulatedMap {
            file: self.clone(),
            part: offset..end,
        })))
    }

    fn sync_data(&self) -> Result<()> {
        if let Some(kind) = self.simulated.disk.lock().sync_failure {
            return Err(Error::new(kind, "simulated sync failure"));
        }
        let mut content = self.content.lock();
        let Content {
            synced, current, ..
        } = &mut *content;
        synced.clone_from(current);
        Ok(())
    }

    fn len_bytes(&self) -> Result<u64> {
        Ok(self.content.lock().current.len() as u64)
    }

    fn set_len(&self, len_bytes: u64) -> Result<()> {
        self.content.lock().current.resize(position(len_bytes)?, 0);
        Ok(())
    }

    fn share(&self) -> Result<()> {
        *self.share.lock() = Some(self.content.lock().shares.clone());
        Ok(())
    }
}

/// Written to as the file is: it fails when writes do.
#[derive(Debug)]
struct SimulatedMap {
    file: SimulatedFile,
    part: Range<u64>,
}

impl FileMap for SimulatedMap {
    fn write_all_parts_at(&mut self, parts: &[&[u8]], offset: u64) -> Result<()> {
        let bytes = parts.concat();
        let end = offset + bytes.len() as u64;
        if offset < self.part.start || end > self.part.end {
            return Err(ErrorKind::InvalidInput.into());
        }
        assert!(
            end <= self.file.len_bytes()?,
            "a file is written by a map of what was cut off"
        );
        self.file.simulated.disk.lock().mapped_write_count += 1;
        self.file.write_all_at(&bytes, offset)
    }
}
