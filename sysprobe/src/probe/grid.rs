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
use crate::probe::sweep::{Axis, Deadline, shuffle};

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

/// What was measured of the grid, and what is yet to be.
#[derive(Clone, Debug, Default)]
pub struct Grid {
    /// The points that were reached.
    pub points: Vec<GridPoint>,
    /// Those that were not.
    pub left: Vec<Load>,
    /// What the slowest axis gives at most, in bytes a second.
    bandwidth: f64,
}

impl Grid {
    /// All points that no axis holds.
    pub fn plan(device: &impl Device, axes: &[Axis]) -> Self {
        let mut left = loads(device);
        left.retain(|load| !axes.iter().any(|axis| holds(axis, load)));
        shuffle(&mut left, GRID_SEED);
        left.sort_by_key(|load| load.bytes_in_flight() > BYTES_IN_FLIGHT_USUAL);
        Grid {
            points: Vec::new(),
            left,
            bandwidth: least_maximum(axes),
        }
    }

    /// How many points there are.
    pub fn planned(&self) -> usize {
        self.points.len() + self.left.len()
    }

    /// Measures the points that are left until it is `deadline` by the device's clock.
    ///
    /// # Errors
    /// Those of [`Device::run`].
    pub fn measure(
        &mut self,
        device: &impl Device,
        budget: &Budget,
        deadline: Deadline,
    ) -> Result<(), ProbeError> {
        let drain_s = |load: &Load| load.bytes_in_flight() as f64 / self.bandwidth;
        let mut drains_s: f64 = self.left.iter().map(drain_s).sum();
        let mut passed_over = Vec::new();
        for (index, load) in self.left.iter().enumerate() {
            let rest = deadline.latest.saturating_sub(device.now());
            // Part of the points now, the rest later.
            if device.now() >= deadline.usual || rest.is_zero() {
                passed_over.extend(self.left.get(index..).unwrap_or_default());
                break;
            }
            let window = window(rest, drains_s, self.left.len() - index).min(budget.window);
            drains_s -= drain_s(load);
            if drain_s(load) > rest.as_secs_f64() {
                passed_over.push(*load);
                continue;
            }
            let measurement = device.run(load, window)?;
            self.points.push(GridPoint {
                load: *load,
                measurement,
            });
        }
        self.left = passed_over;
        Ok(())
    }
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

    fn at(usual: Duration, latest: Duration) -> Deadline {
        Deadline { usual, latest }
    }

    #[test]
    fn all_points_are_measured_where_there_is_time_if_need_be_in_parts() {
        let device = SimulatedDevice::steady();
        let mut grid = Grid::plan(&device, &[]);
        // 11 sizes × 8 depths, less 4 MiB × 128, × 2 patterns × 2 operations × 2 submissions.
        assert_eq!(grid.planned(), (11 * 8 - 1) * 8);
        let hour = Duration::from_secs(3600);
        let first = at(Duration::from_secs(5), hour);
        grid.measure(&device, &Budget::full(), first).unwrap();
        assert!(!grid.points.is_empty() && !grid.left.is_empty());
        grid.measure(&device, &Budget::full(), at(hour, hour))
            .unwrap();
        assert_eq!((grid.points.len(), grid.left.len()), (grid.planned(), 0));
        assert_eq!(grid.planned(), (11 * 8 - 1) * 8);
    }

    #[test]
    fn the_deadline_cuts_windows_short_and_then_points_off() {
        let device = SimulatedDevice::steady();
        let deadline = Duration::from_secs(7);
        let mut grid = Grid::plan(&device, &[]);
        grid.measure(&device, &Budget::full(), at(deadline, deadline))
            .unwrap();
        assert!(
            device.now() <= deadline + Duration::from_millis(200),
            "{:?}",
            device.now()
        );
        assert!(grid.points.len() > grid.left.len(), "{}", grid.left.len());
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
