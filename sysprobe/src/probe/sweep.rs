//! Measures a device along axes: one setting varies, the rest of the load stays.
//!
//! Rounds go over all points of all axes, forth and back in turn, so that the measurements of a point are spread over
//! the whole time and over the state that the points before left the device in. After the least number of rounds, only
//! points that could still move their knee are measured again.

use std::time::Duration;

use serde::Serialize;

use crate::error::ProbeError;
use crate::latency::Histogram;
use crate::probe::budget::Budget;
use crate::probe::device::{Device, Load};
use crate::probe::knee::Curve;

/// What varies along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Varies {
    /// [`Load::block_size_bytes`].
    BlockSize,
    /// [`Load::threads`].
    Threads,
}

/// One axis and what was measured along it.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What varies.
    pub varies: Varies,
    /// The load; of the setting that varies, the value here means nothing.
    pub load: Load,
    /// Bandwidths, in bytes a second.
    pub curve: Curve,
    /// Latencies of all measurements of each point, in the order of the points.
    pub latencies: Vec<Histogram>,
}

impl Axis {
    /// An axis over these settings, without measurements.
    pub fn new(varies: Varies, load: Load, settings: impl IntoIterator<Item = u64>) -> Self {
        let curve = Curve::new(settings);
        Axis {
            varies,
            load,
            latencies: vec![Histogram::default(); curve.points.len()],
            curve,
        }
    }

    /// The load of a setting.
    pub fn load_at(&self, setting: u64) -> Load {
        let mut load = self.load;
        match self.varies {
            Varies::BlockSize => load.block_size_bytes = setting,
            Varies::Threads => load.threads = setting,
        }
        load
    }

    fn measure(
        &mut self,
        index: usize,
        device: &impl Device,
        window: Duration,
    ) -> Result<(), ProbeError> {
        let Some(setting) = self.curve.points.get(index).map(|point| point.setting) else {
            return Ok(());
        };
        let measured = device.run(&self.load_at(setting), window)?;
        if let (Some(point), Some(latencies)) = (
            self.curve.points.get_mut(index),
            self.latencies.get_mut(index),
        ) {
            point.samples.push(measured.bytes_per_second);
            latencies.add(&measured.latencies);
        }
        Ok(())
    }
}

/// Whether a sweep came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swept {
    /// Every point is decided, or was measured as often as the budget allows.
    Whole,
    /// The time ran out; every point has at least one measurement.
    OutOfTime,
    /// The time ran out before every point had one.
    Incomplete,
}

/// Measures all points of `axes` until they are decided or it is `deadline` by the device's clock.
///
/// # Errors
/// Those of [`Device::run`].
pub fn sweep(
    device: &impl Device,
    axes: &mut [Axis],
    budget: &Budget,
    deadline: Duration,
) -> Result<Swept, ProbeError> {
    for round in 0..budget.rounds_max {
        let points = round_of(axes, round, budget.rounds_min);
        if points.is_empty() {
            break;
        }
        for (axis, point) in points {
            if device.now() >= deadline {
                let measured = |axis: &Axis| {
                    axis.curve
                        .points
                        .iter()
                        .all(|point| !point.samples.is_empty())
                };
                return Ok(if axes.iter().all(measured) {
                    Swept::OutOfTime
                } else {
                    Swept::Incomplete
                });
            }
            if let Some(axis) = axes.get_mut(axis) {
                axis.measure(point, device, budget.window)?;
            }
        }
    }
    Ok(Swept::Whole)
}

/// The points (axis, index) of one round, in order.
fn round_of(axes: &[Axis], round: usize, rounds_min: usize) -> Vec<(usize, usize)> {
    let points_max = axes
        .iter()
        .map(|axis| axis.curve.points.len())
        .max()
        .unwrap_or(0);
    let mut points = Vec::new();
    for point in 0..points_max {
        for (index, axis) in axes.iter().enumerate() {
            let there = point < axis.curve.points.len();
            if there && (round < rounds_min || axis.curve.undecided(point)) {
                points.push((index, point));
            }
        }
    }
    if round % 2 == 1 {
        points.reverse();
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::device::{Operation, Pattern};
    use crate::probe::simulated::SimulatedDevice;

    const LOAD: Load = Load {
        operation: Operation::Write,
        pattern: Pattern::Random,
        block_size_bytes: 4096,
        threads: 4,
    };

    fn axes() -> Vec<Axis> {
        let sizes = || (0..11).map(|step| 4096_u64 << step);
        let read = Load {
            operation: Operation::Read,
            ..LOAD
        };
        vec![
            Axis::new(Varies::BlockSize, LOAD, sizes()),
            Axis::new(Varies::BlockSize, read, sizes()),
        ]
    }

    #[test]
    fn decided_points_are_left_alone() {
        let device = SimulatedDevice::steady();
        let (mut axes, budget) = (axes(), Budget::full());
        assert_eq!(
            sweep(&device, &mut axes, &budget, Duration::MAX).unwrap(),
            Swept::Whole
        );
        let counts: Vec<usize> = axes[0]
            .curve
            .points
            .iter()
            .map(|point| point.samples.len())
            .collect();
        assert_eq!(counts[0], budget.rounds_min, "{counts:?}");
        assert!(
            counts
                .iter()
                .all(|count| (budget.rounds_min..=budget.rounds_max).contains(count))
        );
    }

    #[test]
    fn rounds_go_forth_and_back_over_all_axes() {
        let forth = round_of(&axes(), 0, 3);
        assert_eq!(forth.len(), 22);
        assert_eq!(forth[..3], [(0, 0), (1, 0), (0, 1)]);
        let mut back = round_of(&axes(), 1, 3);
        back.reverse();
        assert_eq!(back, forth);
    }

    #[test]
    fn the_clock_ends_a_sweep() {
        let device = SimulatedDevice::steady();
        let budget = Budget::full();
        let mut few = axes();
        let swept = sweep(&device, &mut few, &budget, budget.window * 5).unwrap();
        assert_eq!(swept, Swept::Incomplete);
        let mut most = axes();
        let deadline = device.now() + budget.window * 30;
        assert_eq!(
            sweep(&device, &mut most, &budget, deadline).unwrap(),
            Swept::OutOfTime
        );
    }
}
