//! An [`Io`] over real files that ends the process at a call, has calls fail, or slows them down.
//!
//! Calls that change nothing are not counted: to die before a read is to die behind the last write.

use std::io::{Error, Result};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use moonshine_engine::StoredProfile;
use moonshine_engine::io::{FileLock, FileMap, Io, IoFile, OpenMode, SyscallIo};
use rustix::process::{Signal, getpid, kill_process};

/// What happens at the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The process ends before it.
    Before,
    /// It ends when the first half of a write is done.
    Half,
    /// It ends when the call is done, before anybody hears of it.
    Behind,
    /// The call fails by that number of an error, and all later ones if it lasts.
    Fails {
        /// As the system numbers it.
        errno: i32,
        /// Whether later calls fail, too.
        lasts: bool,
    },
}

impl Event {
    /// Those that end the process.
    pub const KILLS: [Event; 3] = [Event::Before, Event::Half, Event::Behind];
}

const NAMES: [(&str, Event); 7] = [
    ("before", Event::Before),
    ("half", Event::Half),
    ("behind", Event::Behind),
    ("eio", fails(5, false)),
    ("eio-on", fails(5, true)),
    ("enospc", fails(28, false)),
    ("enospc-on", fails(28, true)),
];

const fn fails(errno: i32, lasts: bool) -> Event {
    Event::Fails { errno, lasts }
}

/// When something happens: `17:before`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// The number of the call, from 1.
    pub call: u64,
    /// What happens there.
    pub event: Event,
}

impl FromStr for Trigger {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let parsed = text.split_once(':').and_then(|(call, name)| {
            let (_, event) = NAMES.iter().find(|(known, _)| *known == name)?;
            Some(Trigger {
                call: call.parse().ok()?,
                event: *event,
            })
        });
        let names = NAMES.map(|(name, _)| name).join(", ");
        parsed.ok_or(format!(
            "'{text}' is not the number of a call, ':' and one of {names}"
        ))
    }
}

impl std::fmt::Display for Trigger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let named = NAMES.iter().find(|(_, event)| *event == self.event);
        write!(f, "{}:{}", self.call, named.map_or("", |(name, _)| name))
    }
}

/// Real files, until the trigger.
#[derive(Clone, Debug, Default)]
pub struct Fuse(Arc<Counter>);

#[derive(Debug, Default)]
struct Counter {
    calls: AtomicU64,
    trigger: Option<Trigger>,
    /// Files whose name ends so are not synced, which is said to be done all the same.
    forgotten_syncs: Option<String>,
    /// Nanoseconds that each KiB takes which is written to a delta file.
    nanos_per_kib: AtomicU64,
    is_full: AtomicBool,
}

impl Fuse {
    /// Real files; without a trigger, the calls are only counted. Syncs of files whose name ends as `forgotten_syncs` does
    /// are left out: whoever looks for crashes must find that.
    pub fn new(trigger: Option<Trigger>, forgotten_syncs: Option<String>) -> Self {
        Fuse(Arc::new(Counter {
            trigger,
            forgotten_syncs,
            ..Counter::default()
        }))
    }

    /// From now on delta files take so many bytes a second from each who writes; `None` for as many as the disk does.
    pub fn slow_down(&self, bytes_per_second: Option<u64>) {
        let nanos_per_kib = bytes_per_second.map_or(0, |rate| (1_000_000_000 << 10) / rate);
        self.0.nanos_per_kib.store(nanos_per_kib, Ordering::SeqCst);
    }

    /// From now on no write finds space, or each does.
    pub fn set_full(&self, is_full: bool) {
        self.0.is_full.store(is_full, Ordering::SeqCst);
    }

    /// What a write has to go through before it is made.
    fn brake(&self, is_slow: bool, size_bytes: usize) -> Result<()> {
        if self.0.is_full.load(Ordering::Relaxed) {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        let nanos_per_kib = self.0.nanos_per_kib.load(Ordering::Relaxed);
        if is_slow && nanos_per_kib > 0 {
            let nanos = (nanos_per_kib * size_bytes as u64) >> 10;
            SyscallIo.sleep(Duration::from_nanos(nanos));
        }
        Ok(())
    }

    fn forgets(&self, path: &Path) -> bool {
        let ending = self.0.forgotten_syncs.as_deref();
        ending.is_some_and(|ending| path.to_string_lossy().ends_with(ending))
    }

    /// How many calls there were.
    pub fn call_count(&self) -> u64 {
        self.0.calls.load(Ordering::Relaxed)
    }

    fn call<T>(&self, call: impl FnOnce() -> Result<T>) -> Result<T> {
        self.write(|| (), call)
    }

    /// Makes a call that can be half done.
    fn write<T>(&self, half: impl FnOnce(), call: impl FnOnce() -> Result<T>) -> Result<T> {
        let number = self.0.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let Some(trigger) = self.0.trigger else {
            return call();
        };
        match trigger.event {
            Event::Fails { errno, lasts }
                if number == trigger.call || lasts && number > trigger.call =>
            {
                half();
                return Err(Error::from_raw_os_error(errno));
            }
            Event::Before if number == trigger.call => die(),
            Event::Half if number == trigger.call => {
                half();
                die();
            }
            Event::Behind if number == trigger.call => {
                let _ = call();
                die();
            }
            _ => {}
        }
        call()
    }
}

/// The process ends as if by `kill -9`.
fn die() -> ! {
    let _ = kill_process(getpid(), Signal::KILL);
    loop {
        std::thread::park();
    }
}

fn half<T>(list: &[T]) -> &[T] {
    &list[..list.len() / 2]
}

impl Io for Fuse {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn IoFile>> {
        let open = || SyscallIo.open(path, mode);
        let inner = match mode {
            OpenMode::Read => open()?,
            OpenMode::Write | OpenMode::CreateNew => self.call(open)?,
        };
        let fuse = self.clone();
        let is_synced = !fuse.forgets(path);
        let is_slow = path.extension().is_some_and(|ending| ending == "mdelta");
        Ok(Arc::new(FusedFile {
            inner,
            fuse,
            is_synced,
            is_slow,
        }))
    }

    fn create_folder(&self, path: &Path) -> Result<()> {
        self.call(|| SyscallIo.create_folder(path))
    }

    fn list(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        SyscallIo.list(folder)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.call(|| SyscallIo.rename(from, to))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.call(|| SyscallIo.remove(path))
    }

    fn punch_hole(&self, path: &Path, offset: u64, size_bytes: u64) -> Result<bool> {
        self.call(|| SyscallIo.punch_hole(path, offset, size_bytes))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<()> {
        self.call(|| SyscallIo.hard_link(from, to))
    }

    fn remove_folder(&self, path: &Path) -> Result<()> {
        self.call(|| SyscallIo.remove_folder(path))
    }

    fn free_bytes(&self, folder: &Path) -> Result<Option<u64>> {
        SyscallIo.free_bytes(folder)
    }

    fn sync_folder(&self, folder: &Path) -> Result<()> {
        self.call(|| SyscallIo.sync_folder(folder))
    }

    fn try_lock(&self, path: &Path) -> Result<Option<Box<dyn FileLock>>> {
        self.call(|| SyscallIo.try_lock(path))
    }

    fn measure_profile(&self, folder: &Path) -> Result<StoredProfile> {
        SyscallIo.measure_profile(folder)
    }

    fn random_u128(&self) -> u128 {
        SyscallIo.random_u128()
    }

    fn now(&self) -> Duration {
        SyscallIo.now()
    }

    fn unix_time(&self) -> Duration {
        SyscallIo.unix_time()
    }

    fn sleep(&self, duration: Duration) {
        SyscallIo.sleep(duration);
    }
}

#[derive(Debug)]
struct FusedFile {
    inner: Arc<dyn IoFile>,
    fuse: Fuse,
    is_synced: bool,
    /// Whether the brake slows it down.
    is_slow: bool,
}

impl IoFile for FusedFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.inner.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.fuse.brake(self.is_slow, bytes.len())?;
        self.fuse.write(
            || drop(self.inner.write_all_at(half(bytes), offset)),
            || self.inner.write_all_at(bytes, offset),
        )
    }

    fn write_all_parts_at(&self, parts: &[&[u8]], offset: u64) -> Result<()> {
        let size_bytes = parts.iter().map(|part| part.len()).sum();
        self.fuse.brake(self.is_slow, size_bytes)?;
        self.fuse.write(
            || drop(self.inner.write_all_at(half(&parts.concat()), offset)),
            || self.inner.write_all_parts_at(parts, offset),
        )
    }

    fn map(&self, offset: u64, size_bytes: usize) -> Result<Option<Box<dyn FileMap>>> {
        let map = self.fuse.call(|| self.inner.map(offset, size_bytes))?;
        let fuse = self.fuse.clone();
        Ok(map.map(|inner| Box::new(FusedMap { inner, fuse }) as Box<dyn FileMap>))
    }

    fn sync_data(&self) -> Result<()> {
        self.fuse.call(|| match self.is_synced {
            true => self.inner.sync_data(),
            false => Ok(()),
        })
    }

    fn len_bytes(&self) -> Result<u64> {
        self.inner.len_bytes()
    }

    fn set_len(&self, len_bytes: u64) -> Result<()> {
        self.fuse.call(|| self.inner.set_len(len_bytes))
    }

    fn share(&self) -> Result<()> {
        self.inner.share()
    }
}

#[derive(Debug)]
struct FusedMap {
    inner: Box<dyn FileMap>,
    fuse: Fuse,
}

impl FileMap for FusedMap {
    fn write_all_parts_at(&mut self, parts: &[&[u8]], offset: u64) -> Result<()> {
        let whole = parts.concat();
        // One of the two runs at most; both want the map.
        let map = std::cell::RefCell::new(&mut self.inner);
        let write = |bytes: &[u8]| map.borrow_mut().write_all_parts_at(&[bytes], offset);
        self.fuse
            .write(|| drop(write(half(&whole))), || write(&whole))
    }
}
