//! Those of shuttle, in parking_lot's shape: its scheduler chooses who goes on at each lock, notification, atomic and
//! [`point`]. They work within a model only (`models`).
//!
//! A wait never comes to the end of its time: progress that needs a time-out is found as a deadlock.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{PoisonError, TryLockError};
use std::time::Duration;

pub(crate) use shuttle::sync::atomic;

/// A place at which another thread may go on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Point {
    /// A call of the disk. Its locks are points already.
    Io,
    /// A sync of the disk.
    Sync,
    /// Where a reader could meet a change that is half done.
    Publish,
}

/// May have another thread go on.
pub(crate) fn point(point: Point) {
    match point {
        Point::Io => {}
        Point::Sync | Point::Publish => shuttle::thread::sleep(Duration::ZERO),
    }
}

/// The scheduler's clock: there is none.
pub(crate) fn now() -> Option<Duration> {
    None
}

/// Lets time pass on the scheduler's clock: there is none, so it does nothing. True if it did.
pub(crate) fn sleep(_: Duration) -> bool {
    false
}

/// A lock.
#[derive(Default)]
pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Mutex(shuttle::sync::Mutex::new(value))
    }

    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard {
            mutex: self,
            guard: Some(self.0.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let guard = match self.0.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(MutexGuard {
            mutex: self,
            guard: Some(guard),
        })
    }
}

impl<T: fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A lock that is held.
pub(crate) struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    /// `None` only while it is let go, within calls that have the guard exclusively.
    guard: Option<shuttle::sync::MutexGuard<'a, T>>,
}

impl<T> MutexGuard<'_, T> {
    /// Lets the lock go while `act` runs.
    pub(crate) fn unlocked<U>(guard: &mut Self, act: impl FnOnce() -> U) -> U {
        guard.guard = None;
        let made = act();
        guard.guard = guard.mutex.lock().guard.take();
        made
    }

    /// Lets the lock go to who waits for it.
    pub(crate) fn unlock_fair(guard: Self) {
        drop(guard);
        thread::yield_now();
    }
}

/// A guard is without its lock only within calls that have it exclusively.
const HELD: &str = "the lock is held";

#[allow(clippy::expect_used, reason = "a model fails by a panic")]
impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.guard.as_ref().expect(HELD)
    }
}

#[allow(clippy::expect_used, reason = "a model fails by a panic")]
impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.guard.as_mut().expect(HELD)
    }
}

/// What ended a wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WaitTimeoutResult;

impl WaitTimeoutResult {
    /// Whether it was the time: it never is.
    pub(crate) fn timed_out(self) -> bool {
        false
    }
}

/// A condition variable.
#[derive(Debug, Default)]
pub(crate) struct Condvar(shuttle::sync::Condvar);

impl Condvar {
    pub(crate) fn new() -> Self {
        Condvar::default()
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        if let Some(held) = guard.guard.take() {
            let held = self.0.wait(held).unwrap_or_else(PoisonError::into_inner);
            guard.guard = Some(held);
        }
    }

    pub(crate) fn wait_for<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        _: Duration,
    ) -> WaitTimeoutResult {
        self.wait(guard);
        WaitTimeoutResult
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// A lock of one writer or many readers.
#[derive(Debug, Default)]
pub(crate) struct RwLock<T>(shuttle::sync::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) fn read(&self) -> shuttle::sync::RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> shuttle::sync::RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) mod thread {
    use std::io;
    use std::num::NonZeroUsize;
    use std::thread::{Scope, ScopedJoinHandle};

    pub(crate) use shuttle::hint::spin_loop;
    pub(crate) use shuttle::thread::{JoinHandle, Thread, current, panicking, park, yield_now};

    /// Deep enough for flushes and compactions.
    const STACK_SIZE_BYTES: usize = 1 << 20;

    /// As many as a commit queue needs to have threads watch.
    #[allow(clippy::unnecessary_wraps, reason = "the standard library's signature")]
    pub(crate) fn available_parallelism() -> io::Result<NonZeroUsize> {
        Ok(NonZeroUsize::MIN.saturating_add(3))
    }

    /// Starts threads.
    #[derive(Debug)]
    pub(crate) struct Builder(shuttle::thread::Builder);

    impl Builder {
        pub(crate) fn new() -> Self {
            Builder(shuttle::thread::Builder::new().stack_size(STACK_SIZE_BYTES))
        }

        pub(crate) fn name(self, name: String) -> Self {
            Builder(self.0.name(name))
        }

        pub(crate) fn spawn<T: Send + 'static>(
            self,
            body: impl FnOnce() -> T + Send + 'static,
        ) -> io::Result<JoinHandle<T>> {
            self.0.spawn(body)
        }

        /// There are none: a scope is one of the thread that all of a model's threads share.
        pub(crate) fn spawn_scoped<'scope, T: Send + 'scope>(
            self,
            _: &'scope Scope<'scope, '_>,
            _: impl FnOnce() -> T + Send + 'scope,
        ) -> io::Result<ScopedJoinHandle<'scope, T>> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }
}
