//! How often which number came up: times, and sizes of group commits.
//!
//! Four buckets for each power of two, so a quantile is at most a quarter too high. Counted by any thread without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const BUCKETS_PER_OCTAVE_LOG2: u32 = 2;
const BUCKET_COUNT: usize = 63 << BUCKETS_PER_OCTAVE_LOG2;

/// A histogram that threads count into.
#[derive(Debug)]
pub(crate) struct Histogram {
    counts: [AtomicU64; BUCKET_COUNT],
    sum: AtomicU64,
    max: AtomicU64,
}

/// How often which number came up, at one moment.
///
/// ```
/// use moonshine_engine::{Database, Options};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// database.keyspace("settings")?.insert("color", "green")?;
/// let commits = database.statistics().writes.synced_commit_ns;
/// println!("99 of 100 commits took {} ns or less", commits.quantile(0.99));
/// assert_eq!(commits.count, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    /// What was counted.
    pub count: u64,
    /// Of all numbers.
    pub sum: u64,
    /// The largest one; 0 if there is none.
    pub max: u64,
    /// Where a bucket ends, the end included, and how many numbers are in it; only those that have some, ascending.
    pub buckets: Vec<(u64, u64)>,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram {
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            sum: AtomicU64::new(0),
            max: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    /// Counts a number.
    pub(crate) fn record(&self, number: u64) {
        if let Some(count) = self.counts.get(bucket_of(number)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(number, Ordering::Relaxed);
        self.max.fetch_max(number, Ordering::Relaxed);
    }

    /// Counts a time, in nanoseconds.
    pub(crate) fn record_time(&self, time: Duration) {
        self.record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// What was counted so far.
    pub(crate) fn distribution(&self) -> Distribution {
        let counts = self
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<_> = counts
            .enumerate()
            .filter(|(_, count)| *count > 0)
            .map(|(bucket, count)| (bucket_end(bucket), count))
            .collect();
        Distribution {
            count: buckets.iter().map(|(_, count)| count).sum(),
            sum: self.sum.load(Ordering::Relaxed),
            max: self.max.load(Ordering::Relaxed),
            buckets,
        }
    }
}

impl Distribution {
    /// The number that this share of all, 0 to 1, does not exceed: the end of its bucket, and at most the largest one. 0
    /// if nothing was counted.
    pub fn quantile(&self, share: f64) -> u64 {
        let rank = (self.count as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (end, count) in &self.buckets {
            seen += count;
            if seen >= rank {
                return self.max.min(*end);
            }
        }
        self.max
    }

    /// The mean; 0 if nothing was counted.
    pub fn mean(&self) -> f64 {
        super::ratio(self.sum, self.count)
    }
}

fn bucket_of(number: u64) -> usize {
    let octave = number.max(1).ilog2();
    match octave.checked_sub(BUCKETS_PER_OCTAVE_LOG2) {
        None => number as usize,
        Some(shift) => ((shift as usize) << BUCKETS_PER_OCTAVE_LOG2) + (number >> shift) as usize,
    }
}

/// The largest number of a bucket.
fn bucket_end(bucket: usize) -> u64 {
    let per_octave = 1 << BUCKETS_PER_OCTAVE_LOG2;
    let shift = (bucket / per_octave).saturating_sub(1);
    let first = bucket - (shift << BUCKETS_PER_OCTAVE_LOG2);
    u64::try_from(((first as u128 + 1) << shift) - 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_lies_in_its_bucket_and_no_bucket_overlaps() {
        for bucket in 0..BUCKET_COUNT - 1 {
            let end = bucket_end(bucket);
            assert_eq!(bucket_of(end), bucket, "the end {end}");
            if end < u64::MAX {
                assert_eq!(bucket_of(end + 1), bucket + 1, "behind the end {end}");
            }
        }
        assert_eq!(bucket_of(u64::MAX), BUCKET_COUNT - 1);
    }

    #[test]
    fn quantiles_are_off_by_a_quarter_at_most() {
        let histogram = Histogram::default();
        for number in 1..=10_000 {
            histogram.record(number);
        }
        let counted = histogram.distribution();
        assert_eq!(
            (counted.count, counted.sum, counted.max),
            (10_000, 50_005_000, 10_000)
        );
        for (share, exact) in [(0.5, 5_000), (0.99, 9_900), (1.0, 10_000)] {
            let quantile = counted.quantile(share);
            assert!(
                quantile >= exact && quantile <= exact + exact / 4,
                "{share}: {quantile}"
            );
        }
        assert_eq!(Distribution::default().quantile(0.5), 0);
    }
}
