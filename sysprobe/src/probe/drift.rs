//! Whether a device kept its speed while it was measured.
//!
//! Measurements of one setting are spread over the whole run, so they should differ by noise alone. For each
//! setting, the last quarter of its measurements is set against the first; the ratios of all settings together show
//! a trend that no single one would. A cloud disk whose burst credit runs out shows as a fall, another tenant as
//! scatter.

use serde::Serialize;

use crate::probe::knee::{Curve, Point, interval_ranks, median_of_sorted, usable};

/// Change between the first and the last quarter of a run that is worth telling.
const CHANGE_SHARE: f64 = 0.15;
/// Ratio of the samples' ninth to their first decile that is worth telling.
const SCATTER_RATIO: f64 = 2.0;
/// Fewer points than this say nothing.
const POINTS_MIN: usize = 6;

/// What a device did while it was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Drift {
    /// The end was slower than the beginning: throttled, or a burst used up.
    Slower {
        /// Speed at the end as a share of that at the beginning.
        share: f64,
    },
    /// The end was faster than the beginning: a cache filled, or another tenant went away.
    Faster {
        /// Speed at the end as a share of that at the beginning.
        share: f64,
    },
    /// No trend, but repeated measurements differ widely.
    Scattered {
        /// The ninth decile of the relative speeds divided by their first.
        ratio: f64,
    },
}

/// Looks for a trend, then for scatter, over curves that were measured together. The order of a point's samples is their
/// order in time.
pub fn drift(curves: &[&Curve]) -> Option<Drift> {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let mut ratios: Vec<f64> = points().filter_map(late_to_early).collect();
    ratios.sort_by(f64::total_cmp);
    if ratios.len() < POINTS_MIN {
        return None;
    }
    let mut relative: Vec<f64> = points().flat_map(to_median).collect();
    relative.sort_by(f64::total_cmp);
    trend(&ratios).or_else(|| scatter(&relative))
}

/// Speed of a point's last measurements as a share of its first ones.
fn late_to_early(point: &Point) -> Option<f64> {
    let count = point.samples.len();
    if count < 2 {
        return None;
    }
    let quarter = (count / 4).max(1);
    let median =
        |samples: &[f64]| median_of_sorted(&usable(samples)).filter(|median| *median > 0.0);
    let early = median(point.samples.get(..quarter)?)?;
    let late = median(point.samples.get(count - quarter..)?)?;
    Some(late / early)
}

/// A point's samples as shares of their median.
fn to_median(point: &Point) -> Vec<f64> {
    let samples = usable(&point.samples);
    match median_of_sorted(&samples) {
        Some(median) if median > 0.0 => samples.iter().map(|sample| sample / median).collect(),
        _ => Vec::new(),
    }
}

fn trend(ratios: &[f64]) -> Option<Drift> {
    let (low, high) = interval_ranks(ratios.len())?;
    let share = median_of_sorted(ratios)?;
    if *ratios.get(high)? < 1.0 && share < 1.0 - CHANGE_SHARE {
        Some(Drift::Slower { share })
    } else if *ratios.get(low)? > 1.0 && share > 1.0 + CHANGE_SHARE {
        Some(Drift::Faster { share })
    } else {
        None
    }
}

fn scatter(relative: &[f64]) -> Option<Drift> {
    let low = *relative.get(relative.len() / 10)?;
    let high = *relative.get(relative.len().checked_sub(1 + relative.len() / 10)?)?;
    let ratio = high / low.max(f64::MIN_POSITIVE);
    (ratio > SCATTER_RATIO).then_some(Drift::Scattered { ratio })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten settings, six rounds; `factor` is the device's speed in a round at a setting.
    fn measured(factor: impl Fn(usize, usize) -> f64) -> Curve {
        let points = (0..10_usize).map(|setting| Point {
            setting: setting as u64,
            samples: (0..6)
                .map(|round| 100.0 * (setting + 1) as f64 * factor(round, setting))
                .collect(),
        });
        Curve {
            points: points.collect(),
        }
    }

    #[test]
    fn a_steady_device_has_no_drift() {
        let noise =
            |round: usize, setting: usize| 1.0 + ((round * 7 + setting * 3) % 5) as f64 / 100.0;
        assert_eq!(drift(&[&measured(noise)]), None);
        assert_eq!(drift(&[]), None);
        assert_eq!(drift(&[&Curve::new([1, 2])]), None);
    }

    #[test]
    fn a_burst_that_ends_is_told() {
        let curve = measured(|round, _| if round < 3 { 1.0 } else { 0.5 });
        assert_eq!(drift(&[&curve]), Some(Drift::Slower { share: 0.5 }));
        let curve = measured(|round, _| if round < 3 { 0.5 } else { 1.0 });
        assert_eq!(drift(&[&curve]), Some(Drift::Faster { share: 2.0 }));
    }

    #[test]
    fn scatter_is_told_apart_from_a_trend() {
        let curve = measured(|round, setting| if (round + setting) % 2 == 0 { 1.0 } else { 0.3 });
        assert!(
            matches!(drift(&[&curve]), Some(Drift::Scattered { .. })),
            "{:?}",
            drift(&[&curve])
        );
    }
}
