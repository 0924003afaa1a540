//! What the cores do in a second, of the work that an engine has most of.

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes that are hashed at a time: they stay in a core's cache, as a block that was just read does.
const HASH_BYTES: usize = 64 * 1024;
/// Keys that are sorted at a time.
const SORT_KEYS: usize = 64 * 1024;
/// Bytes that are copied at a time: more than a core's share of the last cache.
const COPY_BYTES: usize = 32 << 20;

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// xxh3 over blocks of 64 KiB, in bytes: hashes and checksums.
    Hash,
    /// Sorting runs of 65,536 keys of 64 bits, in keys.
    Sort,
    /// Copying 32 MiB from memory to memory, in bytes copied: half of what the memory moves.
    Copy,
}

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

/// The cores that this process may use.
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
    [Work::Hash, Work::Sort, Work::Copy].map(speed).to_vec()
}

fn on_threads(work: Work, threads: usize, window: Duration) -> f64 {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|_| scope.spawn(move || on_one(work, window)))
            .collect();
        // A thread that failed did no work.
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or(0.0))
            .sum()
    })
}

fn on_one(work: Work, window: Duration) -> f64 {
    match work {
        Work::Hash => {
            let bytes = vec![7_u8; HASH_BYTES];
            repeat(window, HASH_BYTES, || {
                black_box(xxh3_64(black_box(&bytes)));
                Duration::ZERO
            })
        }
        Work::Sort => {
            let multiplier = 0x9e37_79b9_7f4a_7c15_u64;
            let drawn: Vec<u64> = (1..=SORT_KEYS as u64)
                .map(|key| key.wrapping_mul(multiplier))
                .collect();
            let mut keys = drawn.clone();
            repeat(window, SORT_KEYS, || {
                let begun = Instant::now();
                keys.copy_from_slice(black_box(&drawn));
                let copying = begun.elapsed();
                keys.sort_unstable();
                black_box(&keys);
                copying
            })
        }
        Work::Copy => {
            let from = vec![7_u8; COPY_BYTES];
            let mut to = vec![1_u8; COPY_BYTES];
            repeat(window, COPY_BYTES, || {
                to.copy_from_slice(black_box(&from));
                black_box(&to);
                Duration::ZERO
            })
        }
    }
}

/// Units of work a second; `once` does `units` and says how much of its time was not work.
fn repeat(window: Duration, units: usize, mut once: impl FnMut() -> Duration) -> f64 {
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
        assert_eq!(speeds.len(), 3);
        for speed in speeds {
            assert!(
                speed.one_core_per_second > 0.0 && speed.all_cores_per_second > 0.0,
                "{speed:?}"
            );
        }
    }

    #[test]
    fn time_that_was_not_work_does_not_count() {
        let slow = repeat(Duration::from_millis(1), 1, || Duration::ZERO);
        let fast = repeat(Duration::from_millis(1), 1, || Duration::from_secs(3600));
        assert!(fast > slow, "{fast} and {slow}");
    }
}
