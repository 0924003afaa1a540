//! Latencies, counted by size.

use std::time::Duration;

use serde::Serialize;

/// Buckets for each power of two, so a quantile is at most 1/64 too low.
const BUCKETS_PER_OCTAVE_LOG2: u32 = 6;
const BUCKETS_PER_OCTAVE: u64 = 1 << BUCKETS_PER_OCTAVE_LOG2;

/// How many I/Os took how long: exact below 64 ns, within 1.6 % above.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    counts: Vec<u64>,
    count: u64,
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

impl Histogram {
    /// Counts one I/O.
    pub fn record(&mut self, latency: Duration) {
        let index = bucket(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
        if index >= self.counts.len() {
            self.counts.resize(index + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(index) {
            *count += 1;
            self.count += 1;
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
        self.count += other.count;
    }

    /// Number of I/Os.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The three quantiles; `None` when nothing was counted.
    pub fn latency(&self) -> Option<Latency> {
        Some(Latency {
            p50_us: self.quantile_us(0.5)?,
            p99_us: self.quantile_us(0.99)?,
            p999_us: self.quantile_us(0.999)?,
        })
    }

    fn quantile_us(&self, share: f64) -> Option<f64> {
        let rank = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let index = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(lower_bound_ns(index as u64) as f64 / 1000.0)
    }
}

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
                let bound = lower_bound_ns(bucket(nanoseconds) as u64);
                assert!(bound <= nanoseconds, "{nanoseconds} ns");
                assert!(
                    nanoseconds - bound <= nanoseconds / 64,
                    "{nanoseconds} ns lies in {bound}"
                );
            }
        }
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_latencies() {
        let (mut even, mut odd) = (Histogram::default(), Histogram::default());
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
        assert_eq!(Histogram::default().latency(), None);
    }
}
