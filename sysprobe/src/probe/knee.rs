//! The knee of a curve: the smallest setting that already gives (nearly) the most.
//!
//! A [`Curve`] is a list of settings (block sizes, I/Os under way), each with repeated measurements. What else a machine
//! does takes bandwidth away far more often than a cache or a burst adds some, so a setting's *level* is the 90th percentile
//! of its measurements, not their median. How far the measurements can be trusted comes from order statistics (a rank interval of the
//! binomial distribution with p = ½; see Conover, *Practical Nonparametric Statistics*, §3.2), so it assumes no shape of
//! the noise.
//!
//! Near its maximum a curve is so flat that a few percent of noise move the first setting at 95 % by several steps. So the
//! measurements only bound the knee: from the first setting that may reach the share to the first that does for certain.
//! Within these bounds the law decides that all points together follow (`model.rs`).

use serde::Serialize;

use super::model;

/// Share of the greatest level from which a setting counts as "the most".
pub const KNEE_SHARE: f64 = 0.95;
/// The level that stands for a point: this quantile of its measurements.
const LEVEL_QUANTILE: f64 = 0.9;
/// Levels are not believed beyond this share, however well they repeat: where the file and the buffers happen to lie
/// stays the same during a run and differs from one to the next.
const SYSTEMATIC_SHARE: f64 = 0.04;
/// A point may exceed the law's maximum by this share and still be the maximum.
const EXCESS_SHARE: f64 = 0.08;
/// Probability that the median lies outside its interval, where there are enough samples to say so.
const INTERVAL_RISK: f64 = 0.05;
/// How far a knee is decided shows when any one of this many parts of the measurements is left out.
const PARTS: usize = 4;
/// A setting is taken for the exact one up to this share below it: what rounding leaves of equality.
const ROUNDING: f64 = 0.999;
/// Beyond so many samples ½ to their number is no longer exact, and the normal approximation is.
const BINOMIAL_COUNT_MAX: usize = 500;

/// One setting and what was measured there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// The setting: a block size in bytes, or a number of I/Os under way.
    pub setting: u64,
    /// Repeated measurements in the order they were taken, greater is better. What is not finite or is negative is
    /// passed over.
    pub samples: Vec<f64>,
}

/// What the measurements of a setting come to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The median of the samples.
    pub median: f64,
    /// Their 90th percentile: what the setting gives when nobody interferes. Knees are taken from it.
    pub level: f64,
    /// Lower end of the median's confidence interval: 95 %, or the least sample where there are fewer than six.
    pub low: f64,
    /// Upper end of the median's confidence interval: 95 %, or the greatest sample where there are fewer than six.
    pub high: f64,
}

/// Where a curve reaches [`KNEE_SHARE`] of its maximum.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Knee {
    /// The smallest setting that reaches the share, by the law that all points follow, within the bounds below.
    pub setting: u64,
    /// The smallest setting that may reach the share, by the measurements.
    pub setting_low: u64,
    /// The smallest setting that reaches the share for certain; the greatest that may be the maximum where none does.
    pub setting_high: u64,
    /// The maximum: the greatest level, unless it stands out from what all other points say.
    pub maximum: f64,
}

/// Settings, and what was measured at each.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Curve {
    /// One entry a setting.
    pub points: Vec<Point>,
}

impl Point {
    /// What the samples come to; `None` without a usable one.
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
            level: quantile_of_sorted(&sorted, LEVEL_QUANTILE)?,
            low: *sorted.get(low)?,
            high: *sorted.get(high)?,
        })
    }

    /// The point without every [`PARTS`]th sample, beginning at `part`; whole where that would leave nothing.
    fn without(&self, part: usize) -> Point {
        let kept = self.samples.iter().enumerate();
        let kept = kept.filter(|(index, _)| self.samples.len() < 2 || index % PARTS != part);
        Point {
            setting: self.setting,
            samples: kept.map(|(_, sample)| *sample).collect(),
        }
    }
}

impl Estimate {
    /// The least that the level may be, by the interval around the median.
    fn level_low(&self) -> f64 {
        self.level * share_of(self.low, self.median).min(1.0 - SYSTEMATIC_SHARE)
    }

    /// The most that it may be.
    fn level_high(&self) -> f64 {
        self.level * share_of(self.high, self.median).max(1.0 + SYSTEMATIC_SHARE)
    }
}

fn share_of(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 1.0 }
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
    /// let points = [(4096, 10.0), (8192, 19.0), (16384, 19.8), (32768, 20.0)];
    /// let points = points.map(|(setting, value)| Point { setting, samples: vec![value] });
    /// let curve = Curve { points: points.to_vec() };
    /// assert_eq!(curve.knee().unwrap().setting, 16384);
    /// ```
    pub fn knee(&self) -> Option<Knee> {
        let mut estimates: Vec<(u64, Estimate)> = self
            .points
            .iter()
            .filter_map(|point| Some((point.setting, point.estimate()?)))
            .filter(|(_, estimate)| estimate.level > 0.0)
            .collect();
        estimates.sort_by_key(|(setting, _)| *setting);
        let levels = estimates.iter().map(|(_, estimate)| estimate.level);
        let greatest = levels.max_by(f64::total_cmp)?;
        let points: Vec<(f64, f64)> = estimates
            .iter()
            .map(|(setting, one)| (*setting as f64, one.level / greatest))
            .collect();
        let law = model::fitted(&points, KNEE_SHARE);
        // One point that stands out from all others is luck, and no bandwidth that the device has.
        let believed = law.map_or(1.0, |law| law.maximum * (1.0 + EXCESS_SHARE));
        let maximum = greatest * believed.min(1.0);
        let least = maximum * KNEE_SHARE;
        let setting_of = |found: Option<&(u64, Estimate)>| found.map(|(setting, _)| *setting);
        let first = |reaches: &dyn Fn(&Estimate) -> bool| {
            setting_of(estimates.iter().find(|(_, one)| reaches(one)))
        };
        let may_be_most = |one: &&(u64, Estimate)| one.1.level_high() >= maximum;
        let setting_low = first(&|one| one.level_high() >= least)?;
        let setting_high = first(&|one| one.level_low() >= least)
            .or_else(|| setting_of(estimates.iter().rfind(may_be_most)))?
            .max(setting_low);
        let at_law = |law: model::Fitted| {
            let reached = |one: &&(u64, Estimate)| one.0 as f64 >= law.setting * ROUNDING;
            setting_of(estimates.iter().find(reached)).unwrap_or(setting_high)
        };
        let setting = match law {
            Some(law) => at_law(law),
            None => first(&|one| one.level >= least)?,
        };
        Some(Knee {
            setting: setting.clamp(setting_low, setting_high),
            setting_low,
            setting_high,
            maximum,
        })
    }

    /// By which factor the knee moves at most when a quarter of the measurements is left out, whichever it is; `None` where
    /// they are too few to say so. Measurements are taken in rounds, so leaving some out also leaves out what happened
    /// while they were taken.
    pub fn uncertainty(&self) -> Option<f64> {
        let enough = |point: &Point| point.samples.len() >= PARTS;
        let knee = self.knee().filter(|_| self.points.iter().all(enough))?;
        let factors = (0..PARTS).map(|part| {
            let points = self.points.iter().map(|point| point.without(part));
            let left = Curve {
                points: points.collect(),
            };
            let left = left.knee().map_or(0.0, |left| left.setting as f64);
            let knee = knee.setting as f64;
            (knee / left).max(left / knee)
        });
        factors.max_by(f64::total_cmp)
    }

    /// Whether no quarter of the measurements moves the knee: more of them would hardly change it.
    pub fn is_settled(&self) -> bool {
        self.uncertainty().is_some_and(|factor| factor <= 1.0)
    }

    /// Whether no quarter of the measurements moves the knee by more than a step (factor two).
    pub fn is_decided(&self) -> bool {
        self.uncertainty().is_some_and(|factor| factor <= 2.0)
    }
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

/// A quantile of ascending samples, between its two neighbours.
fn quantile_of_sorted(sorted: &[f64], quantile: f64) -> Option<f64> {
    let rank = quantile * sorted.len().checked_sub(1)? as f64;
    let lower = *sorted.get(rank.floor() as usize)?;
    let upper = *sorted.get(rank.ceil() as usize)?;
    // Shares first: the difference of two great numbers may not be one.
    Some(lower * (1.0 - rank.fract()) + upper * rank.fract())
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
