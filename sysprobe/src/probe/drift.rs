//! Whether a device kept its speed while it was measured.
//!
//! Measurements of one setting are spread over the whole run, so they should differ by noise alone. All measurements,
//! each as a share of its setting's median and in the order of time, show what no single setting would: a moment at
//! which the device fell (a cloud disk's burst credit was used up), a trend, or mere scatter (another tenant).

use std::time::Duration;

use serde::Serialize;

use crate::probe::knee::{interval_ranks, median_of_sorted, usable};
use crate::probe::sweep::Axis;

/// Change that is worth telling, between the first and the last quarter of a run or before and after a fall.
const CHANGE_SHARE: f64 = 0.15;
/// A fall leaves at most this share of the speed: less is a trend.
const FALL_SHARE: f64 = 0.75;
/// What a provider allows is steady: the quartiles of the speeds after a fall are at most this far apart. Where they are
/// further, somebody else has come, who may go again.
const STEADY_RATIO: f64 = 1.3;
/// A fall shows in settings that give at least this share of the greatest: a limit does not slow down what lies below it.
const LIMITED_SHARE: f64 = 0.5;
/// Ratio of the samples' ninth to their first decile that is worth telling.
const SCATTER_RATIO: f64 = 2.0;
/// Fewer measurements than this say nothing.
const SAMPLES_MIN: usize = 24;
/// One measurement counts no more than this, as a logarithm, in the search for a fall.
const OUTLIER: f64 = 1.0;

/// What a device did while it was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Drift {
    /// It fell at one moment and stayed there: throttled, or a burst used up.
    Throttled {
        /// When, after the beginning, in seconds.
        after_s: f64,
        /// Speed from then on as a share of that before.
        share: f64,
    },
    /// The end was slower than the beginning.
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

/// Looks for a fall, a trend, then scatter, over axes that were measured together.
pub fn drift(axes: &[Axis]) -> Option<Drift> {
    let in_time = |least_share: f64| {
        let mut relative = relative_speeds(axes, least_share);
        relative.sort_by_key(|(at, _)| *at);
        relative
    };
    let relative = in_time(0.0);
    if relative.len() < SAMPLES_MIN {
        return None;
    }
    fall(&in_time(LIMITED_SHARE))
        .or_else(|| trend(&relative))
        .or_else(|| scatter(&relative))
}

/// When each measurement was taken, and its share of its setting's median; of settings whose median is at least that share
/// of their axis's greatest.
fn relative_speeds(axes: &[Axis], least_share: f64) -> Vec<(Duration, f64)> {
    let mut relative = Vec::new();
    for axis in axes {
        let medians = axis.curve.points.iter();
        let medians = medians.filter_map(|point| median_of_sorted(&usable(&point.samples)));
        let least = medians.max_by(f64::total_cmp).unwrap_or(0.0) * least_share;
        for (point, times) in axis.curve.points.iter().zip(&axis.taken_at) {
            let median = median_of_sorted(&usable(&point.samples));
            let Some(median) = median
                .filter(|median| *median > 0.0 && *median >= least && point.samples.len() > 1)
            else {
                continue;
            };
            let shares = point.samples.iter().map(|sample| sample / median);
            relative.extend(times.iter().copied().zip(shares));
        }
    }
    relative.retain(|(_, share)| share.is_finite() && *share > 0.0);
    relative
}

fn sorted_shares(relative: &[(Duration, f64)]) -> Vec<f64> {
    usable(&relative.iter().map(|(_, share)| *share).collect::<Vec<_>>())
}

/// The moment that divides the run best, by the greatest cumulative sum of deviations from the mean (Page, *Continuous
/// inspection schemes*, 1954), if the quartiles of the two sides lie apart.
fn fall(relative: &[(Duration, f64)]) -> Option<Drift> {
    let clipped: Vec<f64> = relative
        .iter()
        .map(|(_, share)| share.ln().clamp(-OUTLIER, OUTLIER))
        .collect();
    let mean = clipped.iter().sum::<f64>() / clipped.len() as f64;
    let mut sum = 0.0;
    let sums = clipped.iter().map(|one| {
        sum += one - mean;
        sum
    });
    let (last_before, _) = sums
        .enumerate()
        .max_by(|(_, left), (_, right)| left.total_cmp(right))?;
    let (before, after) = relative.split_at_checked(last_before + 1)?;
    if before.len().min(after.len()) < SAMPLES_MIN / 2 {
        return None;
    }
    let (first, (moment, _)) = (before.first()?.0, after.first()?);
    let (before, after) = (sorted_shares(before), sorted_shares(after));
    let share = median_of_sorted(&after)? / median_of_sorted(&before)?;
    let (low, high) = (
        *after.get(after.len() / 4)?,
        *after.get(after.len() * 3 / 4)?,
    );
    let apart = high < *before.get(before.len() / 4)?;
    let steady = high <= low * STEADY_RATIO;
    (apart && steady && share < FALL_SHARE).then_some(Drift::Throttled {
        after_s: (*moment - first).as_secs_f64(),
        share,
    })
}

fn trend(relative: &[(Duration, f64)]) -> Option<Drift> {
    let quarter = relative.len() / 4;
    let early = sorted_shares(relative.get(..quarter)?);
    let late = sorted_shares(relative.get(relative.len() - quarter..)?);
    let share = median_of_sorted(&late)? / median_of_sorted(&early)?;
    let interval = |sorted: &[f64]| {
        let (low, high) = interval_ranks(sorted.len())?;
        Some((*sorted.get(low)?, *sorted.get(high)?))
    };
    let (early, late) = (interval(&early)?, interval(&late)?);
    if share < 1.0 - CHANGE_SHARE && late.1 < early.0 {
        Some(Drift::Slower { share })
    } else if share > 1.0 + CHANGE_SHARE && late.0 > early.1 {
        Some(Drift::Faster { share })
    } else {
        None
    }
}

fn scatter(relative: &[(Duration, f64)]) -> Option<Drift> {
    let sorted = sorted_shares(relative);
    let low = *sorted.get(sorted.len() / 10)?;
    let high = *sorted.get(sorted.len().checked_sub(1 + sorted.len() / 10)?)?;
    let ratio = high / low.max(f64::MIN_POSITIVE);
    (ratio > SCATTER_RATIO).then_some(Drift::Scattered { ratio })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::device::{Load, Operation, Pattern, Submission};
    use crate::probe::sweep::Varies;

    /// Ten settings, eight rounds of a second each; `factor` is the device's speed in a round at a setting.
    fn measured(factor: impl Fn(usize, usize) -> f64) -> [Axis; 1] {
        let load = Load {
            operation: Operation::Read,
            pattern: Pattern::Random,
            block_size_bytes: 0,
            submission: Submission::Threads,
            in_flight: 1,
        };
        let mut axis = Axis::new(Varies::BlockSize, load, 0..10);
        for round in 0..8 {
            for setting in 0..10 {
                let sample = 100.0 * (setting + 1) as f64 * factor(round, setting);
                axis.curve.points[setting].samples.push(sample);
                let at = Duration::from_millis((round * 1000 + setting * 100) as u64);
                axis.taken_at[setting].push(at);
            }
        }
        [axis]
    }

    #[test]
    fn a_steady_device_has_no_drift() {
        let noise =
            |round: usize, setting: usize| 1.0 + ((round * 7 + setting * 3) % 5) as f64 / 100.0;
        assert_eq!(drift(&measured(noise)), None);
        assert_eq!(drift(&[]), None);
        assert_eq!(drift(&measured(|_, _| f64::NAN)), None);
    }

    #[test]
    fn a_burst_that_ends_is_told_with_its_moment() {
        let axes = measured(|round, setting| if round * 10 + setting < 34 { 1.0 } else { 0.5 });
        let Some(Drift::Throttled { after_s, share }) = drift(&axes) else {
            panic!("{:?}", drift(&axes));
        };
        // Among the settings that a limit would slow down, to a round.
        assert!((after_s - 3.4).abs() < 0.7, "{after_s} s");
        assert!((share - 0.5).abs() < 0.05, "{share}");
    }

    #[test]
    fn a_limit_is_told_that_slows_only_what_is_above_it() {
        let axes = measured(|round, setting| if round < 4 || setting < 4 { 1.0 } else { 0.5 });
        assert!(
            matches!(drift(&axes), Some(Drift::Throttled { .. })),
            "{:?}",
            drift(&axes)
        );
    }

    #[test]
    fn somebody_who_comes_is_no_limit() {
        let axes = measured(|round, setting| {
            if round < 4 {
                1.0
            } else {
                0.2 + 0.1 * ((round * 3 + setting * 7) % 5) as f64
            }
        });
        assert!(
            matches!(drift(&axes), Some(Drift::Slower { .. })),
            "{:?}",
            drift(&axes)
        );
    }

    #[test]
    fn trends_are_told() {
        let axes = measured(|round, _| 1.0 - 0.035 * round as f64);
        assert!(matches!(drift(&axes), Some(Drift::Slower { share }) if share < 0.85));
        let axes = measured(|round, _| if round < 4 { 0.5 } else { 1.0 });
        assert!(matches!(drift(&axes), Some(Drift::Faster { share }) if share > 1.9));
    }

    #[test]
    fn scatter_is_told_apart_from_a_trend() {
        let axes = measured(|round, setting| if (round + setting) % 2 == 0 { 1.0 } else { 0.3 });
        assert!(
            matches!(drift(&axes), Some(Drift::Scattered { .. })),
            "{:?}",
            drift(&axes)
        );
    }
}
