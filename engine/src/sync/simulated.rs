//! Those of the simulator.

pub(crate) use std::sync::atomic;
use std::time::Duration;

pub(crate) use moonshine_sim_runtime::sync::{Condvar, Mutex, MutexGuard, RwLock};
pub(crate) use moonshine_sim_runtime::{Point, now, point, thread};

/// Lets time pass on the simulator's clock, where this thread has one. True if it did.
pub(crate) fn sleep(duration: Duration) -> bool {
    let is_simulated = moonshine_sim_runtime::is_simulated();
    if is_simulated {
        moonshine_sim_runtime::sleep(duration);
    }
    is_simulated
}
