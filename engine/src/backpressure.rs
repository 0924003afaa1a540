//! Slowing writers down before they would have to stand still.
//!
//! *Pressure* x, from 0 to 1, says how near a limit is: of generations that wait to be flushed, or of memory that nothing
//! can be taken from. From 0 on, all writers together may write at the rate R · (1 − x) / x, where R is the rate at which
//! generations were flushed lately. So writers that are as fast as the flush settle at x = ½, whatever they ask for; a
//! short burst costs little, and near the limit next to nothing passes. At the limit itself they wait until the flush is
//! done. Memory that scans keep and what compactions owe slow writers down too, but never stop them: a thread may write
//! while it scans, and snapshots may keep RowSets apart for as long as they like.
//!
//! The rate holds for all writers together: each commit is let in when the bytes of those before it, and its own, have
//! been paid for (the virtual scheduling of ATM's generic cell rate algorithm, ITU-T I.371).

use std::time::Duration;

use crate::statistics::figures::StallReason;
use crate::sync::Mutex;

/// Generations that wait, the active one by its share, from where on writers are slowed down. Less is normal: one is
/// flushed while the next one fills.
pub(crate) const GENERATIONS_EASY: f64 = 1.5;
/// The share of the memory budget that nothing can be taken from, from where on writers are slowed down.
pub(crate) const MEMORY_EASY: f64 = 0.75;
/// RowSets of a leaf, while compactions are at work, from where on writers are slowed down, and by the most.
pub(crate) const ROW_SETS_EASY: f64 = 24.0;
pub(crate) const ROW_SETS_MOST: f64 = 96.0;
/// The most pressure that compactions exert.
pub(crate) const COMPACTION_PRESSURE_MAX: f64 = 0.9;
/// No commit is delayed for longer by the rate: past it the limits themselves are what holds.
const DELAY_MAX: Duration = Duration::from_secs(1);

/// What slows writers down.
#[derive(Debug, Default)]
pub(crate) struct Backpressure {
    /// When all that was let in is paid for.
    paid_at: Mutex<Duration>,
}

/// How near a limit is, 0 to 1, and which.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pressure {
    pub(crate) x: f64,
    pub(crate) reason: StallReason,
}

impl Backpressure {
    /// When a commit of that size is let in.
    pub(crate) fn admission(&self, now: Duration, size_bytes: u64, rate: f64) -> Duration {
        let cost = Duration::try_from_secs_f64(size_bytes as f64 / rate).unwrap_or(DELAY_MAX);
        let mut paid_at = self.paid_at.lock();
        *paid_at = (*paid_at).max(now) + cost.min(DELAY_MAX);
        // Many that wait at once don't wait for longer each.
        (*paid_at).min(now + DELAY_MAX)
    }
}

/// Bytes that writers may write in a second, all together; `None` for as many as they like. The flush's rate is 0 before
/// the first one.
pub(crate) fn rate(flush_rate: u64, pressure: f64) -> Option<f64> {
    (pressure > 0.0 && flush_rate > 0).then(|| flush_rate as f64 * (1.0 - pressure) / pressure)
}

/// From 0 at `easy` to 1 at `limit`.
pub(crate) fn between(value: f64, easy: f64, limit: f64) -> f64 {
    ((value - easy) / (limit - easy)).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_falls_to_that_of_the_flush_in_the_middle_and_to_nothing_at_the_limit() {
        assert_eq!(rate(0, 0.9), None, "nothing is known yet");
        assert_eq!(rate(1_000_000, 0.0), None);
        assert_eq!(rate(1_000_000, 0.5), Some(1_000_000.0));
        assert_eq!(rate(1_000_000, 1.0), Some(0.0));
        let rates: Vec<f64> = (1..=100)
            .map(|x| rate(1_000_000, f64::from(x) / 100.0).unwrap())
            .collect();
        assert!(rates.is_sorted_by(|a, b| a > b));
        // Without a step: each hundredth takes a part of what is left.
        assert!(rates[0] > 50.0 * rates[49]);
    }

    #[test]
    fn a_delay_is_proportional_to_the_bytes_and_shared_by_all_writers() {
        let backpressure = Backpressure::default();
        let now = Duration::from_secs(100);
        let first = backpressure.admission(now, 1_000, 10_000.0);
        assert_eq!(first - now, Duration::from_millis(100));
        let second = backpressure.admission(now, 2_000, 10_000.0);
        assert_eq!(second - first, Duration::from_millis(200));
        // Time that passed counts as paid, and no more than that is owed afterwards.
        let later = Duration::from_secs(200);
        let third = backpressure.admission(later, 1_000, 10_000.0);
        assert_eq!(third - later, Duration::from_millis(100));
        let never = backpressure.admission(later, 1 << 30, 0.0);
        assert_eq!(never - later, DELAY_MAX);
    }

    #[test]
    fn pressure_begins_at_the_easy_value_and_ends_at_the_limit() {
        assert_eq!(between(1.0, 1.5, 3.0), 0.0);
        assert_eq!(between(2.25, 1.5, 3.0), 0.5);
        assert_eq!(between(9.0, 1.5, 3.0), 1.0);
    }
}
