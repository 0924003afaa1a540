//! Limits of bytes and I/Os a second.

use super::job::JobOptions;
use super::values::{Direction, PerDirection};

/// Says when the next I/O of a direction may begin, so that no more than the rate is done since the measuring began. What
/// was missed may be caught up, as in fio.
#[derive(Clone, Debug)]
pub(super) struct Pacer {
    limits: PerDirection<Option<Limit>>,
    since_ns: u64,
}

#[derive(Clone, Copy, Debug)]
struct Limit {
    bytes_per_s: Option<u64>,
    ios_per_s: Option<u64>,
    bytes: u64,
    ios: u64,
}

impl Pacer {
    /// `None` where the job has no limit.
    pub(super) fn new(job: &JobOptions, now_ns: u64) -> Option<Self> {
        let limit = |direction| {
            let bytes_per_s = (*job.rate_bytes_per_s.get(direction)).filter(|rate| *rate > 0);
            let ios_per_s = (*job.rate_iops.get(direction)).filter(|rate| *rate > 0);
            (bytes_per_s.is_some() || ios_per_s.is_some()).then_some(Limit {
                bytes_per_s,
                ios_per_s,
                bytes: 0,
                ios: 0,
            })
        };
        let limits = PerDirection {
            read: limit(Direction::Read),
            write: limit(Direction::Write),
        };
        let is_limited = limits.read.is_some() || limits.write.is_some();
        is_limited.then_some(Pacer {
            limits,
            since_ns: now_ns,
        })
    }

    /// Forgets what was done, at the end of a ramp.
    pub(super) fn restart(&mut self, now_ns: u64) {
        self.since_ns = now_ns;
        for direction in Direction::ALL {
            if let Some(limit) = self.limits.get_mut(direction) {
                (limit.bytes, limit.ios) = (0, 0);
            }
        }
    }

    /// Counts an I/O that was begun.
    pub(super) fn begun(&mut self, direction: Direction, bytes: u64) {
        if let Some(limit) = self.limits.get_mut(direction) {
            limit.bytes += bytes;
            limit.ios += 1;
        }
    }

    /// When the next one may begin.
    pub(super) fn next_ns(&self, direction: Direction) -> u64 {
        let Some(limit) = self.limits.get(direction) else {
            return 0;
        };
        let time = |done: u64, rate: Option<u64>| {
            rate.map_or(0, |rate| {
                u128::from(done) * 1_000_000_000 / u128::from(rate)
            })
        };
        let spent = time(limit.bytes, limit.bytes_per_s).max(time(limit.ios, limit.ios_per_s));
        self.since_ns
            .saturating_add(u64::try_from(spent).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_waits_for_its_time() {
        let job = JobOptions {
            rate_bytes_per_s: PerDirection {
                read: Some(1 << 20),
                write: None,
            },
            rate_iops: PerDirection {
                read: None,
                write: Some(100),
            },
            ..JobOptions::default()
        };
        let mut pacer = Pacer::new(&job, 1000).unwrap();
        assert_eq!(pacer.next_ns(Direction::Read), 1000);
        for _ in 0..128 {
            pacer.begun(Direction::Read, 4096);
        }
        pacer.begun(Direction::Write, 4096);
        assert_eq!(pacer.next_ns(Direction::Read), 1000 + 500_000_000);
        assert_eq!(pacer.next_ns(Direction::Write), 1000 + 10_000_000);
        pacer.restart(5000);
        assert_eq!(pacer.next_ns(Direction::Read), 5000);
        assert!(Pacer::new(&JobOptions::default(), 0).is_none());
    }
}
