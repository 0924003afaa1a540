//! The probe: from a device to the two numbers.
//!
//! 1. Bandwidth over block size, at random places, by [`THREADS_FOR_BLOCK_SIZE`] threads: the knees of reading and of
//!    writing, the greater of them, are S-Size. Places are random, since that is where an engine's fragments lie.
//! 2. Bandwidth over threads, in blocks of S-Size: the greater knee is the threads that the device needs, and S-Paral is
//!    that or the number of cores, whichever is greater, rounded up to a power of two.
//! 3. Synced writes of growing size: what a commit costs, and how much may share one for little more.

use std::time::Duration;

use serde::Serialize;

use crate::error::ProbeError;
use crate::latency::Latency;
use crate::probe::budget::Budget;
use crate::probe::device::{
    BLOCK_SIZE_BYTES_MAX, BLOCK_SIZE_BYTES_MIN, Device, Load, Operation, Pattern, THREADS_MAX,
};
use crate::probe::drift::{Drift, drift};
use crate::probe::knee::Knee;
use crate::probe::sweep::{Axis, Swept, Varies, sweep};

/// Enough to hide the latency of most devices, so that block size alone is what varies.
pub const THREADS_FOR_BLOCK_SIZE: u64 = 16;
/// Most memory for the threads' buffers.
const BUFFERS_BYTES_MAX: u64 = 256 << 20;
/// A commit may take this many times as long as the smallest one, for the bytes that share it.
const COMMIT_LATENCY_RATIO: f64 = 2.0;
/// Shares of the time, in percent, after which each part has to end.
const BLOCK_SIZES_END_PERCENT: u32 = 60;
const THREADS_END_PERCENT: u32 = 94;

/// What was measured of a device.
#[derive(Clone, Debug)]
pub struct Probed {
    /// All axes, those of the block size first.
    pub axes: Vec<Axis>,
    /// S-Size in bytes.
    pub s_size_bytes: u64,
    /// Threads that the device needs for its greatest bandwidth in blocks of S-Size.
    pub io_threads: u64,
    /// Synced writes by size.
    pub synced: Vec<Synced>,
    /// What the device did meanwhile.
    pub drift: Option<Drift>,
    /// Whether the time ran out before every point was decided.
    pub out_of_time: bool,
}

/// Writes of one size, each made durable.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Synced {
    /// Size of the write.
    pub block_size_bytes: u64,
    /// Write and `fdatasync` together.
    pub latency: Latency,
}

impl Probed {
    /// The greatest write whose commit takes at most twice as long as the smallest one.
    pub fn commit_batch_bytes(&self) -> Option<u64> {
        let least = self.synced.first()?.latency.p50_us;
        let cheap = |synced: &&Synced| synced.latency.p50_us <= least * COMMIT_LATENCY_RATIO;
        self.synced
            .iter()
            .take_while(cheap)
            .last()
            .map(|synced| synced.block_size_bytes)
    }
}

/// Measures a device; `None` where the time ran out before every point had a measurement.
///
/// # Errors
/// Those of the device.
pub fn probe(device: &impl Device, budget: &Budget) -> Result<Option<Probed>, ProbeError> {
    let started = device.now();
    // What was spent before, on filling the file, is part of the budget.
    let time = budget.duration.saturating_sub(started);
    let end = |percent: u32| started + time * percent / 100;

    let mut axes = block_size_axes(budget);
    let block_sizes = sweep(device, &mut axes, budget, end(BLOCK_SIZES_END_PERCENT))?;
    let Some(s_size_bytes) = greatest_knee(&axes) else {
        return Ok(None);
    };
    let mut by_threads = threads_axes(budget, s_size_bytes);
    let threads = sweep(device, &mut by_threads, budget, end(THREADS_END_PERCENT))?;
    let in_s_size: Vec<Axis> = by_threads
        .iter()
        .filter(|axis| axis.load.block_size_bytes == s_size_bytes)
        .cloned()
        .collect();
    let Some(io_threads) = greatest_knee(&in_s_size) else {
        return Ok(None);
    };
    if [block_sizes, threads].contains(&Swept::Incomplete) {
        return Ok(None);
    }
    // Each sweep by itself: points of one were not measured at the time of the other.
    let unsteady = |axes: &[Axis]| drift(&axes.iter().map(|axis| &axis.curve).collect::<Vec<_>>());
    let drift = unsteady(&axes).or_else(|| unsteady(&by_threads));
    axes.extend(by_threads);
    let mut synced = Vec::new();
    for block_size_bytes in [4, 16, 64, 256, 1024].map(|kib| kib * 1024) {
        if let Some(latency) = device
            .run_synced(block_size_bytes, budget.window)?
            .latency()
        {
            synced.push(Synced {
                block_size_bytes,
                latency,
            });
        }
    }
    Ok(Some(Probed {
        drift,
        s_size_bytes,
        io_threads,
        synced,
        out_of_time: [block_sizes, threads].contains(&Swept::OutOfTime),
        axes,
    }))
}

fn block_size_axes(budget: &Budget) -> Vec<Axis> {
    let sizes = powers_of_two(BLOCK_SIZE_BYTES_MIN, BLOCK_SIZE_BYTES_MAX);
    let mut axes = Vec::new();
    for pattern in [Pattern::Random, Pattern::Sequential] {
        if pattern == Pattern::Sequential && !budget.all_curves {
            continue;
        }
        for operation in [Operation::Read, Operation::Write] {
            let load = Load {
                operation,
                pattern,
                block_size_bytes: 0,
                threads: THREADS_FOR_BLOCK_SIZE,
            };
            axes.push(Axis::new(Varies::BlockSize, load, sizes.iter().copied()));
        }
    }
    axes
}

fn threads_axes(budget: &Budget, s_size_bytes: u64) -> Vec<Axis> {
    let mut axes = Vec::new();
    for block_size_bytes in [s_size_bytes, BLOCK_SIZE_BYTES_MIN] {
        let is_s_size = axes.is_empty();
        if !is_s_size && (!budget.all_curves || block_size_bytes == s_size_bytes) {
            continue;
        }
        let threads_max = THREADS_MAX.min(BUFFERS_BYTES_MAX / block_size_bytes.max(1));
        for operation in [Operation::Read, Operation::Write] {
            let load = Load {
                operation,
                pattern: Pattern::Random,
                block_size_bytes,
                threads: 0,
            };
            axes.push(Axis::new(
                Varies::Threads,
                load,
                powers_of_two(1, threads_max),
            ));
        }
    }
    axes
}

/// The greatest knee of the axes at random places.
fn greatest_knee(axes: &[Axis]) -> Option<u64> {
    let random = axes
        .iter()
        .filter(|axis| axis.load.pattern == Pattern::Random);
    let knees: Option<Vec<Knee>> = random.map(|axis| axis.curve.knee()).collect();
    knees?.iter().map(|knee| knee.setting).max()
}

fn powers_of_two(least: u64, most: u64) -> Vec<u64> {
    std::iter::successors(Some(least), |one| one.checked_mul(2))
        .take_while(|one| *one <= most)
        .collect()
}

/// Time of each measurement of the cores, so that all of them fit in a tenth of the budget.
pub(crate) fn cpu_window(budget: &Budget) -> Duration {
    budget.duration / 90
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::simulated::SimulatedDevice;

    fn budget() -> Budget {
        // A simulated clock goes no further than the windows.
        Budget {
            duration: Duration::from_secs(3600),
            ..Budget::full()
        }
    }

    #[test]
    fn the_two_numbers_are_those_of_the_device() {
        let probed = probe(&SimulatedDevice::steady(), &budget())
            .unwrap()
            .unwrap();
        assert_eq!((probed.s_size_bytes, probed.io_threads), (16 * 1024, 16));
        assert_eq!(probed.drift, None);
        assert!(!probed.out_of_time);
        // 64 KiB take 133 µs and 256 KiB 231 µs, beside 102 µs for 4 KiB.
        assert_eq!(probed.commit_batch_bytes(), Some(64 * 1024));
        assert_eq!(probed.axes.len(), 8);
    }

    #[test]
    fn noise_moves_the_numbers_by_more_than_a_step_in_one_run_of_ten_at_most() {
        let within_a_step = |seed: u64| {
            let device = SimulatedDevice {
                noise_share: 0.15,
                ..SimulatedDevice::steady()
            };
            device.seed.set(seed * 1_000_003);
            let probed = probe(&device, &budget()).unwrap().unwrap();
            (8 * 1024..=32 * 1024).contains(&probed.s_size_bytes)
        };
        let far = (1..=50).filter(|seed| !within_a_step(*seed)).count();
        assert!(far <= 5, "{far} of 50");
    }

    #[test]
    fn a_throttled_device_keeps_its_numbers_and_is_told() {
        let device = SimulatedDevice {
            throttled_from: Duration::from_secs(5),
            ..SimulatedDevice::steady()
        };
        let probed = probe(&device, &budget()).unwrap().unwrap();
        assert_eq!(probed.s_size_bytes, 16 * 1024);
        assert!(
            matches!(probed.drift, Some(Drift::Slower { .. })),
            "{:?}",
            probed.drift
        );
    }

    #[test]
    fn too_little_time_gives_no_numbers() {
        let budget = Budget {
            duration: Duration::from_secs(1),
            ..Budget::full()
        };
        assert!(
            probe(&SimulatedDevice::steady(), &budget)
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn buffers_of_many_threads_fit_in_memory() {
        for axis in threads_axes(&budget(), BLOCK_SIZE_BYTES_MAX) {
            for point in &axis.curve.points {
                assert!(point.setting * axis.load.block_size_bytes <= BUFFERS_BYTES_MAX);
            }
        }
    }
}
