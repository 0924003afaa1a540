//! A disk in memory that forgets and fails as real ones do, by a seed.
//!
//! `content` has the bytes of a file: what readers see, what the device has, and the writes that lie between. `names` has
//! what files are called, and which changes of that are durable. `crash` draws from both what a machine finds after its power
//! failed. `faults` says which calls fail, at random, `damage` spoils what is stored, and a `process` can be killed while
//! the disk goes on. `file` and this page bring it together behind [`Io`] and [`IoFile`](super::IoFile); what the handles of
//! a disk share is its `disk`.
//!
//! To follow a crash: [`SimulatedIo::crash_image`], then `crash::image`.

mod content;
mod crash;
mod damage;
mod disk;
#[cfg(test)]
mod fault_tests;
mod faults;
mod file;
mod names;
mod process;
mod random;
#[cfg(test)]
mod tests;

use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub use self::crash::CrashStyle;
pub use self::damage::{Damage, Damaged};
pub use self::faults::{
    Fault, FaultCounts, FaultPlan, FaultRule, FileKind, Lasts, Latency, Operation,
};
pub use self::names::NamesStyle;
pub use self::process::ProcessGone;

use self::content::Space;
use self::disk::{Disk, Shared};
use self::faults::Faults;
use self::file::SimulatedFile;
use self::names::{File, NameChange};
use self::process::{Holder, Process};
use self::random::Random;
use super::{FileLock, Io, IoFile, OpenMode};
use crate::profile::StoredProfile;
use crate::sync;

/// What a look at the clock takes.
const TICK: Duration = Duration::from_micros(1);
/// Linux's number of the error for too many open files.
const EMFILE: i32 = 24;

/// A disk in memory. Clones share it, as two openers share a device.
///
/// Its time is simulated too: it passes by a little with each look at the clock, and by sleeping, which takes no real time.
///
/// The bytes of a file are durable after a sync of it, its name after a sync of its folder. Locks are not kept across a crash.
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
    shared: Arc<Shared>,
    process: Arc<Process>,
}

impl SimulatedIo {
    /// An empty disk whose random numbers follow from the seed.
    pub fn new(seed: u64) -> Self {
        let disk = Disk {
            random: Random::new(seed),
            ..Disk::default()
        };
        Self::of(disk, Space::default(), 0)
    }

    fn of(disk: Disk, space: Space, sequence: u64) -> Self {
        SimulatedIo {
            shared: Arc::new(Shared::new(disk, space, sequence)),
            process: Process::new(0),
        }
    }

    /// What a machine finds on this disk after a crash now, with all names kept. The disk itself goes on.
    pub fn crash(&self, style: CrashStyle) -> SimulatedIo {
        self.crash_image(style, NamesStyle::Kept)
    }

    /// What a machine finds on this disk after a crash now. The disk itself goes on, without faults on the new one. Where only
    /// the process dies, names stay as they are.
    pub fn crash_image(&self, style: CrashStyle, names: NamesStyle) -> SimulatedIo {
        let disk = self.shared.disk.lock();
        let space = Space::default();
        let image = Disk {
            names: crash::image(&disk, style, names, &space),
            random: disk.random.clone(),
            now: disk.now,
            ..Disk::default()
        };
        Self::of(image, space, self.shared.sequence())
    }

    /// The disk as a process sees it, which can be killed. Clones of the handle are the same process.
    pub fn of_process(&self, number: u64) -> SimulatedIo {
        SimulatedIo {
            shared: self.shared.clone(),
            process: Process::new(number),
        }
    }

    /// Ends this handle's process: every later call by it, and by its files, maps and locks, fails with [`ProcessGone`] and
    /// changes nothing; its locks are free.
    pub fn kill(&self) {
        self.process.kill();
        let _disk = self.shared.disk.lock();
        self.shared.released.notify_all();
    }

    /// Ends this handle's process at the call after so many that change something.
    pub fn kill_after(&self, changes: u64) {
        self.process.limit(changes);
    }

    /// Whether this handle's process was killed.
    pub fn is_dead(&self) -> bool {
        self.process.is_dead()
    }

    /// How many calls of this handle's process changed something, or tried to.
    pub fn change_count(&self) -> u64 {
        self.process.change_count()
    }

    /// Lets things go wrong by chance, instead of what was set before.
    pub fn set_faults(&self, plan: FaultPlan) {
        let mut disk = self.shared.disk.lock();
        self.shared.space.limit(plan.capacity_bytes);
        disk.faults = Faults::new(plan, std::mem::take(&mut disk.faults.counts));
        self.shared.may_fail.store(true, Ordering::Relaxed);
    }

    /// How often each fault was injected that was set by [`set_faults`](Self::set_faults).
    pub fn fault_counts(&self) -> FaultCounts {
        self.shared.disk.lock().faults.counts.clone()
    }

    /// Lets that many writes pass, then fails every one, as a broken device does.
    pub fn fail_writes_after(&self, writes: u64) {
        self.shared.disk.lock().writes_until_failure = Some(writes);
    }

    /// Lets that many writes pass; then the disk is full: of every write a part arrives, and no file can be made. `None`
    /// is space again.
    pub fn fill_after(&self, writes: Option<u64>) {
        self.shared.disk.lock().writes_until_full = writes;
    }

    /// Makes every hard link fail as one to another file system does, or work again.
    pub fn refuse_links(&self, refuse: bool) {
        self.shared.disk.lock().links_cross = refuse;
    }

    /// Makes every sync fail, or work again. What such a sync was to make durable is lost, see [`Fault::Error`].
    pub fn fail_syncs(&self, fail: bool) {
        self.fail_syncs_with(fail.then_some(ErrorKind::Other));
    }

    /// Makes every sync fail with that kind of error, as a disk that finds only then that it is full, or work again.
    pub fn fail_syncs_with(&self, kind: Option<ErrorKind>) {
        self.shared.disk.lock().sync_failure = kind;
    }

    /// How often a part of a file was written to as memory.
    pub fn mapped_write_count(&self) -> u64 {
        self.shared.disk.lock().mapped_write_count
    }

    /// Makes writes to files with that ending wait, as a device that hangs, until it is called with another one or `None`.
    pub fn hold_writes(&self, ending: Option<&str>) {
        self.shared.disk.lock().held_ending = ending.map(str::to_owned);
        self.shared.released.notify_all();
    }

    /// Makes each write take simulated time, by its bytes.
    pub fn set_write_time(&self, time_a_byte: Duration) {
        self.shared.disk.lock().time_a_byte = time_a_byte;
    }

    /// Flips bits of a stored byte, as a failing device does.
    ///
    /// # Errors
    /// `NotFound` where the file or the byte does not exist.
    pub fn damage(&self, path: &Path, offset: usize, flip: u8) -> Result<()> {
        self.content(path)?.lock().flip(offset, flip)
    }

    /// The paths and lengths in bytes of all files.
    pub fn files(&self) -> Vec<(PathBuf, usize)> {
        let disk = self.shared.disk.lock();
        let files = disk.names.current.files.iter();
        files
            .map(|(path, file)| (path.clone(), file.lock().current.len()))
            .collect()
    }

    /// The holes in a file: their starts and ends, in bytes.
    ///
    /// # Errors
    /// `NotFound` where the file does not exist.
    pub fn holes(&self, path: &Path) -> Result<Vec<(usize, usize)>> {
        Ok(self.content(path)?.lock().holes.clone())
    }

    fn content(&self, path: &Path) -> Result<File> {
        self.shared.disk.lock().names.current.file(path)
    }

    /// Takes a name from a file.
    fn unname(&self, file: &File) {
        let mut content = file.lock();
        content.name_count -= 1;
        content.free_if_gone(&self.shared.space);
    }

    fn create(&self, path: &Path) -> Result<File> {
        let mut disk = self.shared.disk.lock();
        if disk.names.current.files.contains_key(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        if disk.writes_until_full == Some(0) || self.shared.space.free_bytes() == Some(0) {
            return Err(ErrorKind::StorageFull.into());
        }
        let file = File::default();
        let sequence = self.shared.next_sequence();
        {
            let mut content = file.lock();
            content.created = sequence;
            content.name_count = 1;
        }
        let named = vec![NameChange::Set(path.to_owned(), file.clone())];
        disk.names.change(sequence, folder_of(path), named);
        Ok(file)
    }
}

/// The folder that a file is in.
fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

fn position(offset: u64) -> Result<usize> {
    usize::try_from(offset).map_err(|_| ErrorKind::InvalidInput.into())
}

impl Io for SimulatedIo {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn IoFile>> {
        let operation = match mode {
            OpenMode::CreateNew => Operation::Create,
            OpenMode::Read | OpenMode::Write => Operation::Open,
        };
        self.begin(operation, path, 0)?;
        {
            let mut disk = self.shared.disk.lock();
            let open_files = self.process.open_files.load(Ordering::Relaxed);
            if disk
                .faults
                .plan
                .open_files_max
                .is_some_and(|max| open_files >= max)
            {
                disk.faults.counts.count(operation, "too many open files");
                return Err(Error::from_raw_os_error(EMFILE));
            }
        }
        let file = match mode {
            OpenMode::CreateNew => self.create(path)?,
            OpenMode::Read | OpenMode::Write => self.content(path)?,
        };
        Ok(Arc::new(SimulatedFile::new(self, path, file)))
    }

    fn create_folder(&self, path: &Path) -> Result<()> {
        self.begin(Operation::CreateFolder, path, 0)?;
        let mut disk = self.shared.disk.lock();
        disk.names
            .make_folders(path, || self.shared.next_sequence());
        Ok(())
    }

    fn list(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        self.begin(Operation::List, folder, 0)?;
        let mut disk = self.shared.disk.lock();
        let mut found = disk.names.current.list(folder);
        if disk.faults.plan.shuffles_lists {
            for last in (1..found.len()).rev() {
                found.swap(last, disk.faults.random.below(last + 1));
            }
        }
        Ok(found)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.begin(Operation::Rename, from, 0)?;
        let mut disk = self.shared.disk.lock();
        let file = disk.names.current.file(from)?;
        let replaced = disk.names.current.file(to);
        let changes = vec![
            NameChange::Unset(from.to_owned()),
            NameChange::Set(to.to_owned(), file),
        ];
        let sequence = self.shared.next_sequence();
        disk.names.change(sequence, folder_of(to), changes);
        if let Ok(replaced) = replaced {
            self.unname(&replaced);
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.begin(Operation::Remove, path, 0)?;
        let mut disk = self.shared.disk.lock();
        let file = disk.names.current.file(path)?;
        let removed = vec![NameChange::Unset(path.to_owned())];
        let sequence = self.shared.next_sequence();
        disk.names.change(sequence, folder_of(path), removed);
        self.unname(&file);
        Ok(())
    }

    fn punch_hole(&self, path: &Path, offset: u64, size_bytes: u64) -> Result<bool> {
        self.begin(Operation::PunchHole, path, 0)?;
        let file = self.content(path)?;
        let mut content = file.lock();
        if content.name_count > 1 || content.is_shared() {
            return Ok(false);
        }
        let hole = position(offset)?..position(offset + size_bytes)?;
        content.punch(hole, self.shared.next_sequence(), &self.shared.space);
        Ok(true)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<()> {
        self.begin(Operation::Link, from, 0)?;
        let mut disk = self.shared.disk.lock();
        if disk.links_cross {
            return Err(ErrorKind::CrossesDevices.into());
        }
        if disk.names.current.files.contains_key(to) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let file = disk.names.current.file(from)?;
        file.lock().name_count += 1;
        let sequence = self.shared.next_sequence();
        let named = vec![NameChange::Set(to.to_owned(), file)];
        disk.names.change(sequence, folder_of(to), named);
        Ok(())
    }

    fn remove_folder(&self, path: &Path) -> Result<()> {
        self.begin(Operation::Remove, path, 0)?;
        let mut disk = self.shared.disk.lock();
        if !disk.names.current.list(path).is_empty() {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        let removed = vec![NameChange::RemoveFolder(path.to_owned())];
        let sequence = self.shared.next_sequence();
        disk.names.change(sequence, folder_of(path), removed);
        Ok(())
    }

    fn free_bytes(&self, _folder: &Path) -> Result<Option<u64>> {
        self.process.check(false)?;
        let is_full = self.shared.disk.lock().writes_until_full == Some(0);
        Ok(match is_full {
            true => Some(0),
            false => self.shared.space.free_bytes(),
        })
    }

    fn sync_folder(&self, folder: &Path) -> Result<()> {
        self.begin(Operation::SyncFolder, folder, 0)?;
        self.shared.disk.lock().names.sync_folder(folder);
        Ok(())
    }

    fn try_lock(&self, path: &Path) -> Result<Option<Box<dyn FileLock>>> {
        self.process.check(false)?;
        let mut disk = self.shared.disk.lock();
        disk.locks
            .retain(|(_, holder)| holder.upgrade().is_some_and(|holder| holder.is_alive()));
        if disk.locks.iter().any(|(locked, _)| locked == path) {
            return Ok(None);
        }
        let holder = Arc::new(Holder(self.process.clone()));
        disk.locks.push((path.to_owned(), Arc::downgrade(&holder)));
        Ok(Some(Box::new(SimulatedLock(holder))))
    }

    fn measure_profile(&self, _folder: &Path) -> Result<StoredProfile> {
        let reason = "a simulated disk has no speed to measure";
        Err(Error::new(ErrorKind::Unsupported, reason))
    }

    fn random_u128(&self) -> u128 {
        let mut disk = self.shared.disk.lock();
        let high = disk.random.next();
        let low = disk.random.next();
        u128::from(high) << 64 | u128::from(low)
    }

    fn now(&self) -> Duration {
        sync::now().unwrap_or_else(|| {
            let mut disk = self.shared.disk.lock();
            disk.now += TICK;
            disk.now
        })
    }

    fn sleep(&self, duration: Duration) {
        if !sync::sleep(duration) {
            self.shared.disk.lock().now += duration;
            // Whoever is waited for gets a chance.
            sync::thread::yield_now();
        }
    }
}

/// While it lives, and its process does, the path is locked.
#[derive(Debug)]
struct SimulatedLock(#[allow(dead_code, reason = "held, never read")] Arc<Holder>);

impl FileLock for SimulatedLock {}
