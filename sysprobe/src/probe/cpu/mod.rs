//! What the cores do in a second, of the work that an engine has most of.
//!
//! `work.rs` makes the input of each kind of work and does it once; here it is repeated, on one core and on all at once.

mod rows;
mod work;

use std::num::NonZeroUsize;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use serde::Serialize;

use self::work::prepare;
pub use self::work::{Unit, Work};

/// How fast a kind of work goes, in its unit a second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CpuSpeed {
    /// The work.
    pub work: Work,
    /// On one core.
    pub one_core_per_second: f64,
    /// On all cores at once, together.
    pub all_cores_per_second: f64,
}

/// The cores that this process may use: the machine's, less those that its affinity or its control group takes away.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// Measures every kind of work on one core and on all, each for about `window`.
pub fn cpu_speeds(window: Duration) -> Vec<CpuSpeed> {
    let speed = |work| CpuSpeed {
        work,
        one_core_per_second: on_threads(work, 1, window),
        all_cores_per_second: on_threads(work, cores(), window),
    };
    Work::ALL.into_iter().map(speed).collect()
}

fn on_threads(work: Work, threads: usize, window: Duration) -> f64 {
    // Making the input takes longer for some than for others: all begin together.
    let ready = Barrier::new(threads);
    std::thread::scope(|scope| {
        let ready = &ready;
        let threads: Vec<_> = (0..threads)
            .map(|_| scope.spawn(move || on_one(work, threads, window, ready)))
            .collect();
        // A thread that failed did no work.
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or(0.0))
            .sum()
    })
}

/// Units of work a second of one thread.
fn on_one(work: Work, threads: usize, window: Duration, ready: &Barrier) -> f64 {
    let (units, mut once) = prepare(work, threads);
    // The first time finds cold caches and untouched memory.
    once();
    ready.wait();
    let begun = Instant::now();
    let (mut times, mut idle) = (0_u64, Duration::ZERO);
    while times == 0 || begun.elapsed() < window {
        idle += once();
        times += 1;
    }
    let spent = begun.elapsed().saturating_sub(idle);
    times as f64 * units as f64 / spent.as_secs_f64().max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_work_is_measured() {
        let speeds = cpu_speeds(Duration::from_micros(1));
        assert_eq!(speeds.len(), Work::ALL.len());
        for speed in speeds {
            assert!(
                speed.one_core_per_second > 0.0 && speed.all_cores_per_second > 0.0,
                "{speed:?}"
            );
        }
    }
}
