//! Everything beside the axes that decide: each block size × I/Os under way × pattern × operation × submission, one short
//! measurement each.
//!
//! The points come in a shuffled order, those with the most bytes under way last; where the time ends early, what is
//! missing lies anywhere among the rest. A point whose I/O
//! alone would outlast the time, at the bandwidth that the axes saw, is passed over.

use std::time::Duration;

use crate::error::ProbeError;
use crate::probe::budget::Budget;
use crate::probe::derive::{BUFFERS_BYTES_MAX, operations, powers_of_two};
use crate::probe::device::{
    BLOCK_SIZE_BYTES_MAX, BLOCK_SIZE_BYTES_MIN, Device, IN_FLIGHT_MAX, Load, Measurement, Pattern,
    Submission,
};
use crate::probe::sweep::{Axis, shuffle};

/// Loads with more bytes under way come last: they take long, and hardly anybody has them.
const BYTES_IN_FLIGHT_USUAL: u64 = 32 << 20;
/// A load takes about this many times as long as its bytes under way, beside its window: buffers are made before, and the
/// last I/Os end after it.
const DRAINS: f64 = 2.0;
/// Less than this says nothing.
const WINDOW_MIN: Duration = Duration::from_millis(4);
/// Of the order of the points.
const GRID_SEED: u64 = 1;

/// One point of the grid.
#[derive(Clone, Debug)]
pub struct GridPoint {
    /// The load.
    pub load: Load,
    /// What it came to.
    pub measurement: Measurement,
}

/// What was measured of the grid.
#[derive(Clone, Debug, Default)]
pub struct Grid {
    /// The points that were reached.
    pub points: Vec<GridPoint>,
    /// How many there are.
    pub planned: usize,
}

/// Measures all points that no axis holds, until it is `deadline` by the device's clock.
///
/// # Errors
/// Those of [`Device::run`].
pub fn measure_grid(
    device: &impl Device,
    axes: &[Axis],
    budget: &Budget,
    deadline: Duration,
) -> Result<Grid, ProbeError> {
    let mut loads = loads(device);
    loads.retain(|load| !axes.iter().any(|axis| holds(axis, load)));
    shuffle(&mut loads, GRID_SEED);
    loads.sort_by_key(|load| load.bytes_in_flight() > BYTES_IN_FLIGHT_USUAL);
    let mut grid = Grid {
        points: Vec::new(),
        planned: loads.len(),
    };
    let bandwidth = least_maximum(axes);
    let drain_s = |load: &Load| load.bytes_in_flight() as f64 / bandwidth;
    let mut drains_s: f64 = loads.iter().map(drain_s).sum();
    for (load, left) in loads.iter().zip((1..=loads.len()).rev()) {
        let rest = deadline.saturating_sub(device.now());
        if rest.is_zero() {
            break;
        }
        let window = window(rest, drains_s, left).min(budget.window);
        drains_s -= drain_s(load);
        if drain_s(load) > rest.as_secs_f64() {
            continue;
        }
        let measurement = device.run(load, window)?;
        grid.points.push(GridPoint {
            load: *load,
            measurement,
        });
    }
    Ok(grid)
}

/// What is left of the time is shared out evenly, less what it takes to begin and end with so many bytes under way.
fn window(rest: Duration, drains_s: f64, points_left: usize) -> Duration {
    let to_share_s = rest.as_secs_f64() - drains_s * DRAINS;
    let share_s = to_share_s / points_left.max(1) as f64;
    Duration::try_from_secs_f64(share_s)
        .unwrap_or_default()
        .max(WINDOW_MIN)
}

fn loads(device: &impl Device) -> Vec<Load> {
    let mut loads = Vec::new();
    let submissions = [Submission::Threads, Submission::Queue];
    for submission in submissions
        .into_iter()
        .filter(|one| *one == Submission::Threads || device.queues())
    {
        for operation in operations(device) {
            for pattern in [Pattern::Random, Pattern::Sequential] {
                for block_size_bytes in powers_of_two(BLOCK_SIZE_BYTES_MIN, BLOCK_SIZE_BYTES_MAX) {
                    for in_flight in powers_of_two(1, IN_FLIGHT_MAX) {
                        loads.push(Load {
                            operation,
                            pattern,
                            block_size_bytes,
                            submission,
                            in_flight,
                        });
                    }
                }
            }
        }
    }
    loads.retain(|load| load.bytes_in_flight() <= BUFFERS_BYTES_MAX);
    loads
}

fn holds(axis: &Axis, load: &Load) -> bool {
    let measured = |point: &crate::probe::knee::Point| !point.samples.is_empty();
    let points = axis.curve.points.iter().filter(|point| measured(point));
    points
        .into_iter()
        .any(|point| axis.load_at(point.setting) == *load)
}

/// The greatest bandwidth of the slowest axis.
fn least_maximum(axes: &[Axis]) -> f64 {
    let maxima = axes.iter().filter_map(|axis| axis.curve.knee());
    maxima
        .map(|knee| knee.maximum)
        .min_by(f64::total_cmp)
        .unwrap_or(f64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::simulated::SimulatedDevice;

    #[test]
    fn all_points_are_measured_where_there_is_time() {
        let device = SimulatedDevice::steady();
        let grid = measure_grid(&device, &[], &Budget::full(), Duration::from_secs(3600)).unwrap();
        assert_eq!(grid.points.len(), grid.planned);
        // 11 sizes × 8 depths, less 4 MiB × 128, × 2 patterns × 2 operations × 2 submissions.
        assert_eq!(grid.planned, (11 * 8 - 1) * 8);
    }

    #[test]
    fn the_deadline_cuts_windows_short_and_then_points_off() {
        let device = SimulatedDevice::steady();
        let deadline = Duration::from_secs(7);
        let grid = measure_grid(&device, &[], &Budget::full(), deadline).unwrap();
        assert!(
            device.now() <= deadline + Budget::full().window,
            "{:?}",
            device.now()
        );
        assert!(
            grid.points.len() > grid.planned / 2,
            "{}",
            grid.points.len()
        );
    }

    #[test]
    fn a_device_that_is_only_read_has_no_writes_in_its_grid() {
        let device = SimulatedDevice {
            writes: false,
            queues: false,
            ..SimulatedDevice::steady()
        };
        let loads = loads(&device);
        assert_eq!(loads.len(), (11 * 8 - 1) * 2);
    }
}
