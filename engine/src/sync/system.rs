//! The real ones.

pub(crate) use std::sync::atomic;
use std::time::Duration;

pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};

pub(crate) mod thread {
    #![allow(
        clippy::disallowed_methods,
        reason = "the place where threads enter this crate"
    )]

    pub(crate) use std::hint::spin_loop;
    pub(crate) use std::thread::{
        Builder, JoinHandle, Thread, available_parallelism, current, panicking, park, yield_now,
    };
}

/// A place at which the simulator may have another thread go on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Point {
    /// A call of the disk.
    Io,
    /// A sync of the disk.
    Sync,
    /// Where a reader could meet a change that is half done.
    Publish,
}

/// Nothing: threads go on as they like.
#[inline(always)]
pub(crate) fn point(_: Point) {}

/// The simulator's clock: there is none.
#[inline(always)]
pub(crate) fn now() -> Option<Duration> {
    None
}

/// Lets time pass on the simulator's clock: there is none, so it does nothing. True if it did.
#[inline(always)]
pub(crate) fn sleep(_: Duration) -> bool {
    false
}
