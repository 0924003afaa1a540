//! Locks, condition variables and threads, from one place, so that the simulator can own them.
//!
//! Normally they are parking_lot's and the standard library's own, by another name (`system`). Built with
//! `--cfg moonshine_sim` they are those of `moonshine-sim-runtime` (`simulated`): every thread of the engine is a fiber of one
//! thread then, and the seed of the run chooses which of them goes on wherever one could. A cfg and not a Cargo feature, since features
//! of one package are those of every other in a build.
//!
//! [`point`], [`now`] and [`sleep`] let the simulated disk take part in it. Built with `--cfg moonshine_models`, as the crate
//! `models` does, they are shuttle's (`modelled`), and so are the atomics of [`atomic`], by which threads tell each other
//! things; those that only count are the standard library's everywhere.

#[cfg(moonshine_models)]
mod modelled;
#[cfg(all(moonshine_sim, not(moonshine_models)))]
mod simulated;
#[cfg(not(any(moonshine_sim, moonshine_models)))]
mod system;

#[cfg(moonshine_models)]
use modelled as chosen;
#[cfg(all(moonshine_sim, not(moonshine_models)))]
use simulated as chosen;
#[cfg(not(any(moonshine_sim, moonshine_models)))]
use system as chosen;

pub(crate) use chosen::{
    Condvar, Mutex, MutexGuard, Point, RwLock, atomic, now, point, sleep, thread,
};
