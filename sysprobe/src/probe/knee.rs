//! The knee of a curve: the smallest setting that already gives (nearly) the most.
//!
//! A [`Curve`] is a list of settings (block sizes, numbers of threads), each with repeated measurements. Medians stand
//! for the settings, since a shared disk has outliers to one side only; their confidence intervals come from order
//! statistics (a rank interval of the binomial distribution with p = ½; see Conover, *Practical Nonparametric
//! Statistics*, §3.2), so they assume no shape of the noise.

use serde::Serialize;

/// Share of the greatest median from which a setting counts as "the most".
pub const KNEE_SHARE: f64 = 0.95;
/// Share that is enough where the point's interval still holds [`KNEE_SHARE`]: noise must not push the knee up.
const NOISY_KNEE_SHARE: f64 = 0.90;
/// Probability that the median lies outside its interval, where there are enough samples to say so.
const INTERVAL_RISK: f64 = 0.05;
/// With fewer samples than this, the range of the samples misses the median too often to decide by it alone.
const SAMPLES_FOR_INTERVAL: usize = 6;
/// Beyond so many samples ½ to their number is no longer exact, and the normal approximation is.
const BINOMIAL_COUNT_MAX: usize = 500;

/// One setting and what was measured there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// The setting: a block size in bytes, or a number of threads.
    pub setting: u64,
    /// Repeated measurements in the order they were taken, greater is better. What is not finite or is negative is
    /// passed over.
    pub samples: Vec<f64>,
}

/// A median and the interval it is believed to lie in.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The median of the samples.
    pub median: f64,
    /// Lower end of the confidence interval: 95 %, or the least sample where there are fewer than six.
    pub low: f64,
    /// Upper end of the confidence interval: 95 %, or the greatest sample where there are fewer than six.
    pub high: f64,
}

/// Where a curve reaches [`KNEE_SHARE`] of its maximum.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Knee {
    /// The smallest setting whose median reaches the share, or 90 % where its interval reaches the share.
    pub setting: u64,
    /// The smallest setting that may be the knee, by the confidence intervals.
    pub setting_low: u64,
    /// The smallest setting that reaches the share for certain; the setting of the maximum where none does before.
    pub setting_high: u64,
    /// The maximum: the median over all points that noise alone may separate from the greatest one.
    pub maximum: f64,
}

/// Settings, and what was measured at each.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Curve {
    /// One entry a setting.
    pub points: Vec<Point>,
}

impl Point {
    /// The median and its interval; `None` without a usable sample.
    ///
    /// ```
    /// use moonshine_sysprobe::knee::Point;
    /// let point = Point { setting: 4096, samples: vec![3.0, 1.0, f64::NAN, 2.0] };
    /// assert_eq!(point.estimate().unwrap().median, 2.0);
    /// ```
    pub fn estimate(&self) -> Option<Estimate> {
        let sorted = usable(&self.samples);
        let (low, high) = interval_ranks(sorted.len())?;
        Some(Estimate {
            median: median_of_sorted(&sorted)?,
            low: *sorted.get(low)?,
            high: *sorted.get(high)?,
        })
    }
}

impl Curve {
    /// A curve without measurements.
    pub fn new(settings: impl IntoIterator<Item = u64>) -> Self {
        let points = settings.into_iter().map(|setting| Point {
            setting,
            samples: Vec::new(),
        });
        Curve {
            points: points.collect(),
        }
    }

    /// The knee; `None` where nothing was measured or the curve is zero throughout.
    ///
    /// A flat curve has its knee at its smallest setting; a curve that still rises at its end, at its greatest.
    ///
    /// ```
    /// use moonshine_sysprobe::knee::{Curve, Point};
    /// let points = [(4096, 10.0), (8192, 19.0), (16384, 19.6), (32768, 20.0)];
    /// let points = points.map(|(setting, value)| Point { setting, samples: vec![value] });
    /// let curve = Curve { points: points.to_vec() };
    /// assert_eq!(curve.knee().unwrap().setting, 8192);
    /// ```
    pub fn knee(&self) -> Option<Knee> {
        let mut estimates = self.estimates();
        estimates.sort_by_key(|(setting, _)| *setting);
        let (setting_of_maximum, top) = maximum(&estimates)?;
        let maximum = self.plateau(&top);
        let least = maximum * KNEE_SHARE;
        let first = |reaches: &dyn Fn(&Estimate) -> bool| {
            let found = estimates.iter().find(|(_, estimate)| reaches(estimate));
            found.map_or(setting_of_maximum, |(setting, _)| *setting)
        };
        let reaches = |estimate: &Estimate| {
            estimate.high >= least && estimate.median >= maximum * NOISY_KNEE_SHARE
        };
        Some(Knee {
            setting: first(&|estimate| estimate.median >= least || reaches(estimate)),
            setting_low: first(&|estimate| estimate.high >= least),
            setting_high: first(&|estimate| estimate.low >= least).min(setting_of_maximum),
            maximum,
        })
    }

    /// The height of the plateau that `top` is the highest point of. The greatest of many noisy medians is too great, the
    /// more so the more there are; the median over all points that may be as high as `top` is not.
    fn plateau(&self, top: &Estimate) -> f64 {
        let least = top.low.max(top.median * NOISY_KNEE_SHARE);
        let as_high = |point: &&Point| point.estimate().is_some_and(|one| one.median >= least);
        let on_it = self.points.iter().filter(as_high);
        let samples: Vec<f64> = on_it
            .flat_map(|point| point.samples.iter().copied())
            .collect();
        let height = median_of_sorted(&usable(&samples)).unwrap_or(top.median);
        if height > 0.0 {
            height.min(top.median)
        } else {
            top.median
        }
    }

    /// Whether more measurements of the point at `index` could still change the knee: its interval holds the limit that
    /// separates "reaches the maximum" from "does not", or is that of the maximum itself and wider than what the limit
    /// leaves. A point without a measurement always could.
    pub fn undecided(&self, index: usize) -> bool {
        let cautious = |point: &Point| {
            let mut estimate = point.estimate()?;
            if point.samples.len() < SAMPLES_FOR_INTERVAL {
                let range = estimate.high - estimate.low;
                estimate.low -= range;
                estimate.high += range;
            }
            Some(estimate)
        };
        let Some(estimate) = self.points.get(index).and_then(cautious) else {
            return self.points.get(index).is_some();
        };
        let top = self.estimates();
        let top = maximum(&top).map(|(setting, _)| setting);
        let top = self.points.iter().find(|point| Some(point.setting) == top);
        let Some(top) = top.and_then(cautious) else {
            return false;
        };
        let (least, most) = (top.low * KNEE_SHARE, top.high * KNEE_SHARE);
        estimate.low < most && estimate.high >= least
    }

    fn estimates(&self) -> Vec<(u64, Estimate)> {
        let points = self.points.iter();
        points
            .filter_map(|point| Some((point.setting, point.estimate()?)))
            .collect()
    }
}

/// The greatest median above zero; of equal ones the smallest setting.
fn maximum(estimates: &[(u64, Estimate)]) -> Option<(u64, Estimate)> {
    let above_zero = estimates.iter().filter(|(_, one)| one.median > 0.0);
    let top = above_zero.max_by(|(left_setting, left), (right_setting, right)| {
        left.median
            .total_cmp(&right.median)
            .then(right_setting.cmp(left_setting))
    });
    top.copied()
}

/// The samples that mean something, in ascending order.
pub(crate) fn usable(samples: &[f64]) -> Vec<f64> {
    let mut sorted: Vec<f64> = samples
        .iter()
        .copied()
        .filter(|sample| sample.is_finite() && *sample >= 0.0)
        .collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The median of ascending samples.
pub(crate) fn median_of_sorted(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *sorted.get(sorted.len() / 2 - 1)?;
    // Halves first: the sum of two great numbers may not be one.
    Some(lower / 2.0 + upper / 2.0)
}

/// The ranks, from 0, of the samples that enclose the median of `count` samples; all of them where they are too few.
pub(crate) fn interval_ranks(count: usize) -> Option<(usize, usize)> {
    let last = count.checked_sub(1)?;
    if count > BINOMIAL_COUNT_MAX {
        // The normal approximation: the standard deviation of B is √count / 2.
        let rank = (count as f64 / 2.0 - 0.98 * (count as f64).sqrt()) as usize;
        return Some((rank, last - rank));
    }
    // The tail P(B ≤ rank), B ~ binomial(count, ½), grows by the next coefficient at each rank.
    let mut probability = 0.5_f64.powi(i32::try_from(count).unwrap_or(i32::MAX));
    let (mut tail, mut rank) = (probability, 0_usize);
    while rank < last / 2 {
        let next = probability * (count - rank) as f64 / (rank + 1) as f64;
        if tail + next > INTERVAL_RISK / 2.0 {
            break;
        }
        probability = next;
        tail += next;
        rank += 1;
    }
    Some((rank, last - rank))
}

#[cfg(test)]
#[path = "knee_tests.rs"]
mod tests;
