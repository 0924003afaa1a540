//! Threads, locks, waiting and time for a program whose every run is to follow from a seed.
//!
//! [`run`] runs a closure as the first *fiber* of a fresh thread. What it starts through [`thread::Builder`] are more
//! fibers of that one thread; one of them goes on at a time, until it waits or comes to a [`point`] at which the seed has another go on.
//! [`sync`] holds locks and condition variables in the shape of parking_lot's, [`thread`] what is used of `std::thread`.
//! Time passes by a little at each step, and jumps to the next timer when every fiber waits; when there is no timer either, the run ends
//! as a deadlock that names who waits where.
//!
//! Off a fiber all of it is the real thing, so that code built on it runs outside of a simulation too.
//!
//! The scheduler (`scheduler`) owns the fibers, the clock and the trace. Everything else asks it by a few calls, none of which
//! holds on to its state while another fiber runs.

#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a tool of tests: what it did not expect ends the run"
)]

mod entropy;
mod future;
mod random;
mod scheduler;
pub mod sync;
pub mod thread;
mod trace;

use std::time::Duration;

pub use entropy::seed_this_thread;
pub use future::block_on;
pub use random::Random;
pub use scheduler::{Config, End, Point, Policy, Run, SwitchRates, Waiting, run};

use scheduler::with_running;

/// Whether this is a fiber of a run.
///
/// ```
/// use moonshine_sim_runtime::{Config, End, is_simulated, run};
/// assert!(!is_simulated());
/// assert_eq!(run(Config::of_seed(1), || assert!(is_simulated())).end, End::Done);
/// ```
pub fn is_simulated() -> bool {
    scheduler::current().is_some()
}

/// The run's clock; `None` off a fiber.
///
/// ```
/// use std::time::Duration;
///
/// use moonshine_sim_runtime::{Config, now, run, sleep};
/// let run = run(Config::of_seed(1), || {
///     let before = now().unwrap();
///     sleep(Duration::from_secs(3600));
///     assert!(now().unwrap() - before >= Duration::from_secs(3600));
/// });
/// assert!(run.simulated >= Duration::from_secs(3600));
/// ```
pub fn now() -> Option<Duration> {
    scheduler::current()?;
    Some(with_running(|scheduler| scheduler.now()))
}

/// Lets so much time of the run's clock pass; off a fiber, of the real one.
pub fn sleep(duration: Duration) {
    if scheduler::current().is_some() {
        scheduler::wait_until(duration);
    } else {
        std::thread::sleep(duration);
    }
}

/// A place at which another fiber may go on, by the rate of its kind. Nothing off a fiber.
pub fn point(point: Point) {
    if scheduler::current().is_some() {
        scheduler::come_to(point);
    }
}

/// Puts what happened into the run's trace: into its hash, and among the last notes that a failure is reported with. Numbers have to follow
/// from the seed: no addresses, no real time.
pub fn note(kind: &'static str, numbers: &[u64]) {
    if scheduler::current().is_some() {
        with_running(|scheduler| scheduler.note(kind, numbers));
    }
}

/// Runs `act` as that process: what it starts belongs to it, too. Zero is the process of a run's first fiber.
pub fn in_process<T>(process: u64, act: impl FnOnce() -> T) -> T {
    let Some(task) = scheduler::current() else {
        return act();
    };
    let before = with_running(|scheduler| scheduler.set_process(task, process));
    let made = act();
    with_running(|scheduler| scheduler.set_process(task, before));
    made
}

/// Keeps the fibers of a process from going on, as a machine does that hangs, or lets them.
pub fn suspend(process: u64, suspend: bool) {
    if scheduler::current().is_some() {
        with_running(|scheduler| scheduler.suspend(process, suspend));
    }
}
