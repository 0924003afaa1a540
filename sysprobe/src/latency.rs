//! Latencies, counted by size.

use std::time::Duration;

use serde::Serialize;

/// Buckets for each power of two, so a quantile is at most 1/64 too low.
const BUCKETS_PER_OCTAVE_LOG2: u32 = 6;
const BUCKETS_PER_OCTAVE: u64 = 1 << BUCKETS_PER_OCTAVE_LOG2;
/// Buckets up to 17 s: as many as are made in advance, so that hardly any I/O makes more.
const BUCKETS_IN_ADVANCE: usize = 29 * BUCKETS_PER_OCTAVE as usize;

/// How many I/Os took how long: exact below 64 ns, within 1.6 % above. Least, greatest, mean and deviation are exact.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    counts: Vec<u64>,
    moments: Moments,
}

/// Count, least, greatest, mean and standard deviation of latencies, all exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moments {
    count: u64,
    min_ns: u64,
    max_ns: u64,
    sum_ns: u128,
    squares_ns: u128,
}

/// The quantiles that are reported, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// Half of the I/Os were at least this fast.
    pub p50_us: f64,
    /// 99 % were.
    pub p99_us: f64,
    /// 99.9 % were.
    pub p999_us: f64,
}

impl Default for Moments {
    fn default() -> Self {
        Moments {
            count: 0,
            min_ns: u64::MAX,
            max_ns: 0,
            sum_ns: 0,
            squares_ns: 0,
        }
    }
}

impl Moments {
    /// Counts one I/O.
    #[inline]
    pub fn record_ns(&mut self, nanoseconds: u64) {
        self.count += 1;
        self.min_ns = self.min_ns.min(nanoseconds);
        self.max_ns = self.max_ns.max(nanoseconds);
        self.sum_ns += u128::from(nanoseconds);
        self.squares_ns += u128::from(nanoseconds) * u128::from(nanoseconds);
    }

    /// Adds what another one counted.
    pub fn add(&mut self, other: &Moments) {
        self.count += other.count;
        self.min_ns = self.min_ns.min(other.min_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
        self.sum_ns += other.sum_ns;
        self.squares_ns += other.squares_ns;
    }

    /// Number of I/Os.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The shortest, in nanoseconds; 0 where there is none.
    pub fn min_ns(&self) -> u64 {
        if self.count == 0 { 0 } else { self.min_ns }
    }

    /// The longest, in nanoseconds; 0 where there is none.
    pub fn max_ns(&self) -> u64 {
        self.max_ns
    }

    /// The mean, in nanoseconds; 0 where there is none.
    pub fn mean_ns(&self) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        self.sum_ns as f64 / self.count as f64
    }

    /// The standard deviation of a sample, in nanoseconds; 0 below two I/Os.
    pub fn stddev_ns(&self) -> f64 {
        if self.count < 2 {
            return 0.0;
        }
        let count = u128::from(self.count);
        // Exact in integers as long as it fits; floats would cancel out where all I/Os take the same.
        let spread = match (
            self.squares_ns.checked_mul(count),
            self.sum_ns.checked_mul(self.sum_ns),
        ) {
            (Some(squares), Some(sums)) => squares.saturating_sub(sums) as f64 / count as f64,
            _ => self.squares_ns as f64 - self.mean_ns() * self.sum_ns as f64,
        };
        (spread.max(0.0) / (count - 1) as f64).sqrt()
    }
}

impl Histogram {
    /// Empty, with room for all usual latencies, so that counting allocates nothing.
    pub fn preallocated() -> Self {
        Histogram {
            counts: vec![0; BUCKETS_IN_ADVANCE],
            moments: Moments::default(),
        }
    }

    /// Counts one I/O.
    pub fn record(&mut self, latency: Duration) {
        self.record_ns(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Counts one I/O by its nanoseconds.
    #[inline]
    pub fn record_ns(&mut self, nanoseconds: u64) {
        let index = bucket(nanoseconds);
        match self.counts.get_mut(index) {
            Some(count) => *count += 1,
            None => self.grow_to(index),
        }
        self.moments.record_ns(nanoseconds);
    }

    #[cold]
    fn grow_to(&mut self, index: usize) {
        self.counts.resize(index + 1, 0);
        if let Some(count) = self.counts.get_mut(index) {
            *count += 1;
        }
    }

    /// Adds what another one counted.
    pub fn add(&mut self, other: &Histogram) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.moments.add(&other.moments);
    }

    /// Number of I/Os.
    pub fn count(&self) -> u64 {
        self.moments.count
    }

    /// Least, greatest, mean and deviation.
    pub fn moments(&self) -> &Moments {
        &self.moments
    }

    /// The three quantiles; `None` when nothing was counted.
    pub fn latency(&self) -> Option<Latency> {
        Some(Latency {
            p50_us: self.quantile_us(0.5)?,
            p99_us: self.quantile_us(0.99)?,
            p999_us: self.quantile_us(0.999)?,
        })
    }

    /// The latency that `percent` of the I/Os did not exceed, in nanoseconds: the middle of its bucket, as fio gives it,
    /// but at most the longest. `None` when nothing was counted.
    pub fn percentile_ns(&self, percent: f64) -> Option<u64> {
        let index = self.rank_bucket(percent / 100.0)?;
        let (least, width) = (lower_bound_ns(index), bucket_width_ns(index));
        Some((least + width / 2).min(self.moments.max_ns))
    }

    /// The buckets that hold something, in order: the middle of each in nanoseconds, and how many I/Os it holds.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        self.counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
            .map(|(index, count)| {
                let index = index as u64;
                (lower_bound_ns(index) + bucket_width_ns(index) / 2, *count)
            })
    }

    fn rank_bucket(&self, share: f64) -> Option<u64> {
        let rank = ((self.count() as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let index = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(index as u64)
    }

    fn quantile_us(&self, share: f64) -> Option<f64> {
        Some(lower_bound_ns(self.rank_bucket(share)?) as f64 / 1000.0)
    }
}

#[inline]
fn bucket(nanoseconds: u64) -> usize {
    let octave = nanoseconds
        .checked_ilog2()
        .unwrap_or(0)
        .saturating_sub(BUCKETS_PER_OCTAVE_LOG2);
    let index = u64::from(octave) * BUCKETS_PER_OCTAVE + (nanoseconds >> octave);
    usize::try_from(index).unwrap_or(usize::MAX)
}

fn lower_bound_ns(index: u64) -> u64 {
    if index < 2 * BUCKETS_PER_OCTAVE {
        return index;
    }
    let octave = index / BUCKETS_PER_OCTAVE - 1;
    (index - octave * BUCKETS_PER_OCTAVE) << octave
}

fn bucket_width_ns(index: u64) -> u64 {
    1 << (index / BUCKETS_PER_OCTAVE).saturating_sub(1)
}

#[cfg(test)]
impl Moments {
    /// Those of latencies that are known only by these numbers.
    pub(crate) fn from_parts(
        count: u64,
        (min_ns, max_ns): (u64, u64),
        mean: f64,
        stddev: f64,
    ) -> Self {
        let sum = mean * count as f64;
        let squares = stddev * stddev * count.saturating_sub(1) as f64 + mean * sum;
        Moments {
            count,
            min_ns,
            max_ns,
            sum_ns: sum.round() as u128,
            squares_ns: squares.round() as u128,
        }
    }
}

#[cfg(test)]
impl Histogram {
    /// Buckets as [`Self::buckets`] gives them, with moments that are known otherwise.
    pub(crate) fn from_buckets(
        buckets: impl Iterator<Item = (u64, u64)>,
        moments: Moments,
    ) -> Self {
        let mut histogram = Histogram::default();
        for (nanoseconds, count) in buckets {
            for _ in 0..count {
                histogram.record_ns(nanoseconds);
            }
        }
        histogram.moments = moments;
        histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_begins_at_most_a_64th_below_its_values() {
        for exponent in 0..64 {
            for nanoseconds in [
                1_u64 << exponent,
                (1 << exponent) + (1 << exponent) / 3,
                u64::MAX >> exponent,
            ] {
                let index = bucket(nanoseconds) as u64;
                let bound = lower_bound_ns(index);
                assert!(bound <= nanoseconds, "{nanoseconds} ns");
                assert!(
                    nanoseconds - bound <= nanoseconds / 64,
                    "{nanoseconds} ns lies in {bound}"
                );
                assert!(nanoseconds - bound < bucket_width_ns(index));
            }
        }
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_latencies() {
        let (mut even, mut odd) = (Histogram::default(), Histogram::preallocated());
        for microseconds in 1..=1000_u64 {
            let half = if microseconds % 2 == 0 {
                &mut even
            } else {
                &mut odd
            };
            half.record(Duration::from_micros(microseconds));
        }
        even.add(&odd);
        let latency = even.latency().unwrap();
        assert_eq!(even.count(), 1000);
        for (found, exact) in [
            (latency.p50_us, 500.0),
            (latency.p99_us, 990.0),
            (latency.p999_us, 999.0),
        ] {
            assert!(
                found <= exact && found > exact * 0.98,
                "{found} for {exact}"
            );
        }
        for (percent, exact) in [(50.0, 500_000.0), (99.0, 990_000.0), (100.0, 1_000_000.0)] {
            let found = even.percentile_ns(percent).unwrap() as f64;
            assert!((found / exact - 1.0).abs() < 0.01, "{found} for {exact}");
        }
        assert_eq!(Histogram::default().latency(), None);
        assert_eq!(Histogram::default().percentile_ns(50.0), None);
    }

    #[test]
    fn moments_are_exact() {
        let mut moments = Moments::default();
        assert_eq!((moments.min_ns(), moments.max_ns()), (0, 0));
        for nanoseconds in [2, 4, 4, 4, 5, 5, 7, 9] {
            moments.record_ns(1_000_000_000_000 + nanoseconds);
        }
        assert_eq!(moments.mean_ns(), 1_000_000_000_005.0);
        assert!((moments.stddev_ns() - (32.0_f64 / 7.0).sqrt()).abs() < 1e-6);
        assert_eq!(moments.min_ns(), 1_000_000_000_002);
        assert_eq!(moments.max_ns(), 1_000_000_000_009);
    }
}
