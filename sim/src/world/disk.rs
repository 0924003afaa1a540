//! The disk of one process, which dies at a chosen call.
//!
//! It counts the calls that change something. At the one that was chosen it takes the image that the next start will find,
//! before the call, half-way through it or behind it; from then on the process has no disk any more: every call fails and
//! changes nothing.

use std::io::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::plan::config::Crash;
use moonshine_engine::StoredProfile;
use moonshine_engine::io::{FileLock, FileMap, Io, IoFile, OpenMode, SimulatedIo};
use moonshine_sim_runtime::sync::Mutex;

use super::acknowledged::{Acknowledged, Promise};
use crate::trace::Trace;

/// When in a call the process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Nothing of the call happens.
    Before,
    /// Of a write a part happens; of anything else nothing.
    Within,
    /// The call happens, and nobody hears of it.
    Behind,
}

/// A crash that is to come.
#[derive(Clone, Copy, Debug)]
pub struct Death {
    /// At which call from now on.
    pub calls: u64,
    /// When in it.
    pub moment: Moment,
    /// What becomes of what was not synced.
    pub crash: Crash,
}

/// What is left of a process that died.
#[derive(Debug)]
pub struct Remains {
    /// What the next start finds.
    pub image: SimulatedIo,
    /// What it must find there at least.
    pub promise: Promise,
    /// How it died.
    pub crash: Crash,
}

/// Hears of the end of a process, at the moment of it.
pub trait Survivor: std::fmt::Debug + Send + Sync {
    /// The process has died.
    fn bereave(&self);
}

/// A disk and what is planned for it.
#[derive(Debug)]
struct Process {
    disk: SimulatedIo,
    acknowledged: Arc<Acknowledged>,
    trace: Arc<Trace>,
    calls: AtomicU64,
    is_dead: AtomicBool,
    death: Mutex<Option<(u64, Death)>>,
    remains: Mutex<Option<Remains>>,
    /// Every sync of a file with this ending is left out, though it is said to be done: to see that checks find it.
    forgotten_syncs: Option<&'static str>,
    survivor: Mutex<Option<Arc<dyn Survivor>>>,
}

/// The disk as one process sees it. Clones are the same.
#[derive(Clone, Debug)]
pub struct ProcessDisk(Arc<Process>);

impl ProcessDisk {
    /// A process on a disk.
    pub fn new(
        disk: SimulatedIo,
        acknowledged: Arc<Acknowledged>,
        trace: Arc<Trace>,
        forgotten_syncs: Option<&'static str>,
    ) -> Self {
        ProcessDisk(Arc::new(Process {
            disk,
            acknowledged,
            trace,
            calls: AtomicU64::new(0),
            is_dead: AtomicBool::new(false),
            death: Mutex::new(None),
            remains: Mutex::new(None),
            forgotten_syncs,
            survivor: Mutex::new(None),
        }))
    }

    /// Who hears of the end of the process.
    pub fn tell(&self, survivor: Arc<dyn Survivor>) {
        *self.0.survivor.lock() = Some(survivor);
    }

    /// The disk itself.
    pub fn disk(&self) -> &SimulatedIo {
        &self.0.disk
    }

    /// Plans the death of the process, or that it lives.
    pub fn plan(&self, death: Option<Death>) {
        let calls = self.0.calls.load(Ordering::SeqCst);
        *self.0.death.lock() = death.map(|death| (calls + death.calls, death));
    }

    /// Ends the process now, if it lives.
    pub fn kill(&self, crash: Crash) {
        let _planned = self.0.death.lock();
        self.0.die(crash);
    }

    /// Whether the process has died.
    pub fn is_dead(&self) -> bool {
        self.0.is_dead.load(Ordering::SeqCst)
    }

    /// What is left of it, once.
    pub fn take_remains(&self) -> Option<Remains> {
        let _dying = self.0.death.lock();
        self.0.remains.lock().take()
    }

    /// Calls that changed something.
    pub fn call_count(&self) -> u64 {
        self.0.calls.load(Ordering::SeqCst)
    }
}

impl Process {
    fn die(&self, crash: Crash) {
        if self.is_dead.load(Ordering::SeqCst) {
            return;
        }
        // What is acknowledged from now on, nobody hears of.
        let promise = self.acknowledged.promise(crash.style);
        // Before the image is made, so that what is seen of a process that is not dead is in it.
        self.is_dead.store(true, Ordering::SeqCst);
        let image = self.disk.crash_image(crash.style, crash.names);
        *self.remains.lock() = Some(Remains {
            image,
            promise,
            crash,
        });
        let survivor = self.survivor.lock().take();
        if let Some(survivor) = survivor {
            survivor.bereave();
        }
    }

    fn check(&self) -> Result<()> {
        match self.is_dead.load(Ordering::SeqCst) {
            true => Err(Error::other("the process is gone")),
            false => Ok(()),
        }
    }

    /// Makes a call that changes something, or dies at it. `half` is as much of it as may happen before a death.
    fn change<T>(
        &self,
        (name, path, place): (&str, &Path, Option<(u64, usize)>),
        half: impl FnOnce(),
        call: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        self.check()?;
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        let (offset, size_bytes) = place.unwrap_or_default();
        let path = path.display();
        self.trace.note(format!(
            "call {number}: {name} {path} {offset} {size_bytes}"
        ));
        let mut planned = self.death.lock();
        let Some((_, death)) = planned.take_if(|(at, _)| number >= *at) else {
            drop(planned);
            let answer = call();
            // Nobody is left to hear of what was under way.
            self.check()?;
            return answer;
        };
        match death.moment {
            Moment::Before => {}
            Moment::Within => half(),
            Moment::Behind => drop(call()),
        }
        self.die(death.crash);
        self.check()?;
        Err(Error::other("the process is gone"))
    }
}

impl Io for ProcessDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn IoFile>> {
        let open = || self.0.disk.open(path, mode);
        let inner = match mode {
            OpenMode::CreateNew => self.0.change(("create", path, None), || (), open)?,
            _ => self.0.check().and_then(|()| open())?,
        };
        let is_forgotten = self
            .0
            .forgotten_syncs
            .is_some_and(|ending| path.to_string_lossy().ends_with(ending));
        Ok(Arc::new(ProcessFile {
            process: self.0.clone(),
            path: path.into(),
            inner,
            is_forgotten,
        }))
    }

    fn create_folder(&self, path: &Path) -> Result<()> {
        self.0.change(
            ("create folder", path, None),
            || (),
            || self.0.disk.create_folder(path),
        )
    }

    fn list(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        self.0.check()?;
        self.0.disk.list(folder)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.0.change(
            ("rename to", to, None),
            || (),
            || self.0.disk.rename(from, to),
        )
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.0
            .change(("remove", path, None), || (), || self.0.disk.remove(path))
    }

    fn punch_hole(&self, path: &Path, offset: u64, size_bytes: u64) -> Result<bool> {
        let punch = || self.0.disk.punch_hole(path, offset, size_bytes);
        self.0.change(
            ("punch", path, Some((offset, size_bytes as usize))),
            || (),
            punch,
        )
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<()> {
        self.0.change(
            ("link", to, None),
            || (),
            || self.0.disk.hard_link(from, to),
        )
    }

    fn remove_folder(&self, path: &Path) -> Result<()> {
        self.0.change(
            ("remove folder", path, None),
            || (),
            || self.0.disk.remove_folder(path),
        )
    }

    fn free_bytes(&self, folder: &Path) -> Result<Option<u64>> {
        self.0.check()?;
        self.0.disk.free_bytes(folder)
    }

    fn sync_folder(&self, folder: &Path) -> Result<()> {
        self.0.change(
            ("sync folder", folder, None),
            || (),
            || self.0.disk.sync_folder(folder),
        )
    }

    fn try_lock(&self, path: &Path) -> Result<Option<Box<dyn FileLock>>> {
        self.0.check()?;
        self.0.disk.try_lock(path)
    }

    fn measure_profile(&self, folder: &Path) -> Result<StoredProfile> {
        self.0.disk.measure_profile(folder)
    }

    fn random_u128(&self) -> u128 {
        self.0.disk.random_u128()
    }

    fn now(&self) -> Duration {
        self.0.disk.now()
    }

    fn sleep(&self, duration: Duration) {
        self.0.disk.sleep(duration);
    }
}

#[derive(Debug)]
struct ProcessFile {
    process: Arc<Process>,
    path: Arc<Path>,
    inner: Arc<dyn IoFile>,
    is_forgotten: bool,
}

/// The part of a write that happens before the process dies within it.
fn half(bytes: &[u8]) -> &[u8] {
    bytes.split_at(bytes.len() / 2).0
}

impl IoFile for ProcessFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.process.check()?;
        self.inner.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let part = || drop(self.inner.write_all_at(half(bytes), offset));
        let whole = || self.inner.write_all_at(bytes, offset);
        let what = ("write", &*self.path, Some((offset, bytes.len())));
        self.process.change(what, part, whole)
    }

    fn map(&self, offset: u64, size_bytes: usize) -> Result<Option<Box<dyn FileMap>>> {
        self.process.check()?;
        let map = self.inner.map(offset, size_bytes)?;
        Ok(map.map(|inner| {
            let process = self.process.clone();
            let path = self.path.clone();
            Box::new(ProcessMap {
                process,
                path,
                inner,
            }) as Box<dyn FileMap>
        }))
    }

    fn sync_data(&self) -> Result<()> {
        let sync = || match self.is_forgotten {
            true => Ok(()),
            false => self.inner.sync_data(),
        };
        self.process.change(("sync", &self.path, None), || (), sync)
    }

    fn len_bytes(&self) -> Result<u64> {
        self.process.check()?;
        self.inner.len_bytes()
    }

    fn set_len(&self, len_bytes: u64) -> Result<()> {
        self.process.change(
            ("set length of", &self.path, Some((len_bytes, 0))),
            || (),
            || self.inner.set_len(len_bytes),
        )
    }

    fn share(&self) -> Result<()> {
        self.process.check()?;
        self.inner.share()
    }
}

#[derive(Debug)]
struct ProcessMap {
    process: Arc<Process>,
    path: Arc<Path>,
    inner: Box<dyn FileMap>,
}

impl FileMap for ProcessMap {
    fn write_all_parts_at(&mut self, parts: &[&[u8]], offset: u64) -> Result<()> {
        let bytes = parts.concat();
        let inner = Mutex::new(&mut self.inner);
        let part = || drop(inner.lock().write_all_parts_at(&[half(&bytes)], offset));
        let whole = || inner.lock().write_all_parts_at(&[&bytes], offset);
        let what = ("write mapped", &*self.path, Some((offset, bytes.len())));
        self.process.change(what, part, whole)
    }
}
