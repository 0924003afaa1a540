//! Locks and condition variables in parking_lot's shape.
//!
//! A lock is parking_lot's own, which is tried; a fiber that doesn't get it waits at its address until somebody lets it go. A condition
//! variable keeps who waits at its address. Who of several goes on is the seed's choice. There are no wake-ups that nobody asked for, as
//! parking_lot has none.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use crate::scheduler::{self, WaitsFor, with_running};
use crate::{Point, point};

fn address(place: &u8) -> WaitsFor {
    WaitsFor::Address(std::ptr::from_ref(place).addr())
}

/// A lock.
#[derive(Default)]
pub struct Mutex<T: ?Sized> {
    /// Something that has an address of its own: that of a lock may be that of what is under it.
    place: u8,
    lock: parking_lot::Mutex<T>,
}

impl<T> Mutex<T> {
    /// A lock that nobody holds.
    pub const fn new(value: T) -> Self {
        Mutex {
            place: 0,
            lock: parking_lot::Mutex::new(value),
        }
    }

    /// What was under the lock.
    pub fn into_inner(self) -> T {
        self.lock.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits for the lock.
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        point(Point::Lock);
        self.lock_at_once()
    }

    #[track_caller]
    fn lock_at_once(&self) -> MutexGuard<'_, T> {
        let guard = if scheduler::current().is_none() {
            self.lock.lock()
        } else {
            loop {
                match self.lock.try_lock() {
                    Some(guard) => break guard,
                    None => {
                        scheduler::wait_for(address(&self.place), None);
                    }
                }
            }
        };
        MutexGuard {
            mutex: self,
            guard: Some(guard),
        }
    }

    /// The lock, if nobody holds it.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let guard = self.lock.try_lock()?;
        Some(MutexGuard {
            mutex: self,
            guard: Some(guard),
        })
    }

    /// What is under a lock that nobody else can know.
    pub fn get_mut(&mut self) -> &mut T {
        self.lock.get_mut()
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lock.fmt(formatter)
    }
}

/// A lock that is held.
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    /// `None` only while it is let go.
    guard: Option<parking_lot::MutexGuard<'a, T>>,
}

/// A guard is without its lock only within calls that have it exclusively.
const HELD: &str = "the lock is held";

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    /// Lets the lock go while `act` runs.
    #[track_caller]
    pub fn unlocked<U>(guard: &mut Self, act: impl FnOnce() -> U) -> U {
        guard.let_go();
        let made = act();
        let mut again = guard.mutex.lock_at_once();
        guard.guard = again.guard.take();
        made
    }

    /// Lets the lock go to who waits for it.
    pub fn unlock_fair(guard: Self) {
        drop(guard);
        if scheduler::current().is_some() {
            scheduler::yield_now();
        }
    }

    fn let_go(&mut self) {
        if self.guard.take().is_some() {
            woken(address(&self.mutex.place));
        }
    }
}

/// A lock was let go: one who waits for it tries again.
fn woken(address: WaitsFor) {
    if scheduler::current().is_some() {
        with_running(|scheduler| scheduler.wake_one(address));
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.guard.as_ref().expect(HELD)
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.guard.as_mut().expect(HELD)
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        if self.guard.is_none() {
            return;
        }
        self.let_go();
        point(Point::Unlock);
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(formatter)
    }
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Whether it was the time.
    pub fn timed_out(self) -> bool {
        self.0
    }
}

/// A condition variable.
#[derive(Debug)]
pub struct Condvar {
    condvar: parking_lot::Condvar,
    /// Something that has an address of its own.
    place: u8,
}

impl Default for Condvar {
    fn default() -> Self {
        Condvar::new()
    }
}

impl Condvar {
    /// A condition variable that nobody waits for.
    pub const fn new() -> Self {
        Condvar {
            condvar: parking_lot::Condvar::new(),
            place: 0,
        }
    }

    /// Lets the lock go and waits to be notified.
    #[track_caller]
    pub fn wait<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>) {
        self.wait_at_most(guard, None);
    }

    /// Lets the lock go and waits to be notified, or for so long.
    #[track_caller]
    pub fn wait_for<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        timeout: Duration,
    ) -> WaitTimeoutResult {
        WaitTimeoutResult(self.wait_at_most(guard, Some(timeout)))
    }

    #[track_caller]
    fn wait_at_most<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        timeout: Option<Duration>,
    ) -> bool {
        if scheduler::current().is_some() {
            guard.let_go();
            let timed_out = scheduler::wait_for(address(&self.place), timeout);
            guard.guard = guard.mutex.lock_at_once().guard.take();
            return timed_out;
        }
        let guard = guard.guard.as_mut().expect(HELD);
        match timeout {
            Some(timeout) => self.condvar.wait_for(guard, timeout).timed_out(),
            None => {
                self.condvar.wait(guard);
                false
            }
        }
    }

    /// Lets one who waits go on. Whether one did.
    pub fn notify_one(&self) -> bool {
        if scheduler::current().is_none() {
            return self.condvar.notify_one();
        }
        let notified = with_running(|scheduler| scheduler.wake_one(address(&self.place)));
        scheduler::come_to(Point::Notify);
        notified
    }

    /// Lets all who wait go on. How many did.
    pub fn notify_all(&self) -> usize {
        if scheduler::current().is_none() {
            return self.condvar.notify_all();
        }
        let count = with_running(|scheduler| scheduler.wake_all(address(&self.place)));
        scheduler::come_to(Point::Notify);
        count
    }
}

/// A lock of one writer or many readers.
#[derive(Default)]
pub struct RwLock<T: ?Sized> {
    place: u8,
    lock: parking_lot::RwLock<T>,
}

impl<T> RwLock<T> {
    /// A lock that nobody holds.
    pub const fn new(value: T) -> Self {
        RwLock {
            place: 0,
            lock: parking_lot::RwLock::new(value),
        }
    }

    /// What was under the lock.
    pub fn into_inner(self) -> T {
        self.lock.into_inner()
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Waits until nobody writes.
    #[track_caller]
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        let guard = self.acquire(parking_lot::RwLock::try_read, parking_lot::RwLock::read);
        RwLockReadGuard {
            place: &self.place,
            guard: Some(guard),
        }
    }

    /// Waits until nobody reads or writes.
    #[track_caller]
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        let guard = self.acquire(parking_lot::RwLock::try_write, parking_lot::RwLock::write);
        RwLockWriteGuard {
            place: &self.place,
            guard: Some(guard),
        }
    }

    #[track_caller]
    fn acquire<'a, G>(
        &'a self,
        try_acquire: impl Fn(&'a parking_lot::RwLock<T>) -> Option<G>,
        acquire: impl Fn(&'a parking_lot::RwLock<T>) -> G,
    ) -> G {
        if scheduler::current().is_none() {
            return acquire(&self.lock);
        }
        scheduler::come_to(Point::Lock);
        loop {
            if let Some(guard) = try_acquire(&self.lock) {
                return guard;
            }
            scheduler::wait_for(address(&self.place), None);
        }
    }

    /// What is under a lock that nobody else can know.
    pub fn get_mut(&mut self) -> &mut T {
        self.lock.get_mut()
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lock.fmt(formatter)
    }
}

/// Lets all who wait for a lock try again, and others go on.
fn released(address: WaitsFor) {
    if scheduler::current().is_some() {
        with_running(|scheduler| scheduler.wake_all(address));
        scheduler::come_to(Point::Unlock);
    }
}

/// A lock that is held for reading.
#[derive(Debug)]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    place: &'a u8,
    guard: Option<parking_lot::RwLockReadGuard<'a, T>>,
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.guard.as_ref().expect(HELD)
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    fn drop(&mut self) {
        self.guard = None;
        released(address(self.place));
    }
}

/// A lock that is held for writing.
#[derive(Debug)]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    place: &'a u8,
    guard: Option<parking_lot::RwLockWriteGuard<'a, T>>,
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.guard.as_ref().expect(HELD)
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.guard.as_mut().expect(HELD)
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    fn drop(&mut self) {
        self.guard = None;
        released(address(self.place));
    }
}
