//! Locks, condition variables and threads, from one place, so that the simulator can own them.
//!
//! Normally they are parking_lot's and the standard library's own, by another name (`system`). Built with
//! `--cfg moonshine_sim` they are those of `moonshine-sim-runtime` (`simulated`): every thread of the engine is a fiber of one
//! thread then, and the seed of the run chooses which of them goes on wherever one could. A cfg and not a Cargo feature, since features
//! of one package are those of every other in a build.
//!
//! [`point`], [`now`] and [`sleep`] let the simulated disk take part in it.

#[cfg(moonshine_sim)]
mod simulated;
#[cfg(not(moonshine_sim))]
mod system;

#[cfg(moonshine_sim)]
use simulated as chosen;
#[cfg(not(moonshine_sim))]
use system as chosen;

pub(crate) use chosen::{Condvar, Mutex, MutexGuard, Point, RwLock, now, point, sleep, thread};
