//! Measures a device along axes: one setting varies, the rest of the load stays.
//!
//! Rounds go over all points of all axes, in another order each time, so that the measurements of a point are spread over
//! the whole time and over the states that other points left the device in. After the least number of rounds, only axes
//! whose knee is not yet settled are measured again.

use std::time::Duration;

use serde::Serialize;

use crate::error::ProbeError;
use crate::latency::Histogram;
use crate::probe::budget::Budget;
use crate::probe::device::{Device, Load};
use crate::probe::knee::Curve;

/// Fewer points of a curve than this say nothing of its knee.
pub const POINTS_MIN: usize = 4;

/// What varies along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Varies {
    /// [`Load::block_size_bytes`].
    BlockSize,
    /// [`Load::in_flight`].
    InFlight,
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
    /// When each measurement was taken, in the order of the points and of their samples.
    pub taken_at: Vec<Vec<Duration>>,
}

impl Axis {
    /// An axis over these settings, without measurements.
    pub fn new(varies: Varies, load: Load, settings: impl IntoIterator<Item = u64>) -> Self {
        let curve = Curve::new(settings);
        Axis {
            varies,
            load,
            latencies: vec![Histogram::default(); curve.points.len()],
            taken_at: vec![Vec::new(); curve.points.len()],
            curve,
        }
    }

    /// The load of a setting.
    pub fn load_at(&self, setting: u64) -> Load {
        let mut load = self.load;
        match self.varies {
            Varies::BlockSize => load.block_size_bytes = setting,
            Varies::InFlight => load.in_flight = setting,
        }
        load
    }

    /// Whether enough points were measured for the curve to have a shape.
    pub(crate) fn has_shape(&self) -> bool {
        let points = self.curve.points.iter();
        let measured = points.filter(|point| !point.samples.is_empty()).count();
        measured >= POINTS_MIN.min(self.curve.points.len())
    }

    /// Drops the measurements from before a moment, unless a point would have fewer than `least` left.
    pub(crate) fn forget_before(&mut self, moment: Duration, least: usize) {
        let late = |times: &Vec<Duration>| times.iter().filter(|at| **at >= moment).count();
        if self.taken_at.iter().any(|times| late(times) < least) {
            return;
        }
        for (point, times) in self.curve.points.iter_mut().zip(&mut self.taken_at) {
            let early = times.len() - late(times);
            point.samples.drain(..early.min(point.samples.len()));
            times.drain(..early);
        }
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
        let at = device.now();
        let measured = device.run(&self.load_at(setting), window)?;
        if let (Some(point), Some(latencies), Some(taken_at)) = (
            self.curve.points.get_mut(index),
            self.latencies.get_mut(index),
            self.taken_at.get_mut(index),
        ) {
            point.samples.push(measured.bytes_per_second);
            latencies.add(&measured.latencies);
            taken_at.push(at);
        }
        Ok(())
    }
}

/// When a sweep has to end, by the device's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// Where all axes have [`POINTS_MIN`] points.
    pub usual: Duration,
    /// In any case.
    pub latest: Duration,
}

/// Measures all points of `axes` until their knees are settled or the time is over. Points that the time did not reach
/// stay without a measurement.
///
/// # Errors
/// Those of [`Device::run`].
pub fn sweep(
    device: &impl Device,
    axes: &mut [Axis],
    budget: &Budget,
    deadline: Deadline,
) -> Result<(), ProbeError> {
    for round in 0..budget.rounds_max {
        let points = round_of(axes, round, budget.rounds_min);
        if points.is_empty() {
            break;
        }
        for (axis, point) in points {
            let now = device.now();
            if now >= deadline.latest || now >= deadline.usual && axes.iter().all(Axis::has_shape) {
                return Ok(());
            }
            if let Some(axis) = axes.get_mut(axis) {
                axis.measure(point, device, budget.window)?;
            }
        }
    }
    Ok(())
}

/// The points (axis, index) of one round, in an order of its own.
fn round_of(axes: &[Axis], round: usize, rounds_min: usize) -> Vec<(usize, usize)> {
    let open = |axis: &&(usize, &Axis)| round < rounds_min || !axis.1.curve.is_settled();
    let axes: Vec<(usize, &Axis)> = axes.iter().enumerate().collect();
    let points = axes
        .iter()
        .filter(open)
        .flat_map(|(index, axis)| (0..axis.curve.points.len()).map(move |point| (*index, point)));
    let mut points: Vec<(usize, usize)> = points.collect();
    shuffle(&mut points, round as u64);
    points
}

/// Fisher and Yates's shuffle, the same for the same seed.
pub(crate) fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut state = seed;
    for last in (1..items.len()).rev() {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let other = (state >> 33) as usize % (last + 1);
        items.swap(last, other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::device::{Operation, Pattern, Submission};
    use crate::probe::simulated::SimulatedDevice;

    const FOREVER: Deadline = Deadline {
        usual: Duration::MAX,
        latest: Duration::MAX,
    };
    const LOAD: Load = Load {
        operation: Operation::Write,
        pattern: Pattern::Random,
        block_size_bytes: 4096,
        submission: Submission::Threads,
        in_flight: 4,
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

    fn counts(axes: &[Axis]) -> Vec<usize> {
        let points = axes.iter().flat_map(|axis| &axis.curve.points);
        points.map(|point| point.samples.len()).collect()
    }

    #[test]
    fn a_settled_axis_is_left_alone() {
        let device = SimulatedDevice::steady();
        let (mut axes, budget) = (axes(), Budget::full());
        sweep(&device, &mut axes, &budget, FOREVER).unwrap();
        assert_eq!(counts(&axes), [budget.rounds_min; 22]);
    }

    #[test]
    fn an_unsettled_one_is_measured_until_the_end() {
        let device = SimulatedDevice {
            noise_share: 0.95,
            ..SimulatedDevice::steady()
        };
        let budget = Budget {
            rounds_min: 4,
            rounds_max: 6,
            ..Budget::full()
        };
        let mut axes = axes();
        sweep(&device, &mut axes, &budget, FOREVER).unwrap();
        let counts = counts(&axes);
        assert!(
            counts.iter().all(|count| (4..=6).contains(count)),
            "{counts:?}"
        );
        assert!(counts.iter().any(|count| *count > 4), "{counts:?}");
    }

    #[test]
    fn every_round_has_all_points_in_an_order_of_its_own() {
        let (first, second) = (round_of(&axes(), 0, 3), round_of(&axes(), 1, 3));
        assert_ne!(first, second);
        let sorted = |mut points: Vec<(usize, usize)>| {
            points.sort_unstable();
            points
        };
        assert_eq!(sorted(first).len(), 22);
        assert_eq!(sorted(round_of(&axes(), 0, 3)), sorted(second));
    }

    #[test]
    fn the_clock_ends_a_sweep_once_every_axis_has_a_shape() {
        let device = SimulatedDevice::steady();
        let budget = Budget::full();
        let mut few = axes();
        let deadline = Deadline {
            usual: Duration::ZERO,
            latest: budget.window * 3,
        };
        sweep(&device, &mut few, &budget, deadline).unwrap();
        assert_eq!(counts(&few).iter().sum::<usize>(), 3);
        let mut enough = axes();
        let deadline = Deadline {
            usual: Duration::ZERO,
            ..FOREVER
        };
        sweep(&device, &mut enough, &budget, deadline).unwrap();
        assert!(enough.iter().all(Axis::has_shape));
        let counts = counts(&enough);
        assert!(counts.iter().sum::<usize>() < 22, "{counts:?}");
    }

    #[test]
    fn what_came_before_a_moment_is_forgotten_unless_too_little_would_be_left() {
        let device = SimulatedDevice::steady();
        let mut axes = axes();
        sweep(&device, &mut axes, &Budget::full(), FOREVER).unwrap();
        let moment = device.now() / 2;
        axes[0].forget_before(moment, 100);
        assert_eq!(counts(&axes), [10; 22]);
        axes[0].forget_before(moment, 2);
        assert!(axes[0].taken_at.iter().flatten().all(|at| *at >= moment));
        let left = counts(&axes[..1]);
        assert!(left.iter().all(|count| (2..10).contains(count)), "{left:?}");
    }
}
