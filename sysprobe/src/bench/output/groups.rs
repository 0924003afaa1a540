//! What the reports of a group came to together.

use super::super::stats::{DirectionStats, JobStats};
use super::super::values::{Direction, PerDirection};

/// Both directions of a group.
#[derive(Clone, Debug, Default)]
pub(super) struct GroupStats {
    pub(super) directions: PerDirection<GroupDirection>,
}

/// One direction of a group; all zero where there was no I/O.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct GroupDirection {
    pub(super) io_bytes: u64,
    pub(super) runtime_ms_min: u64,
    pub(super) runtime_ms_max: u64,
    pub(super) bytes_per_s_min: u64,
    pub(super) bytes_per_s_max: u64,
    /// All bytes over the longest runtime.
    pub(super) bytes_per_s: u64,
}

/// All groups, by their number.
pub(super) fn groups(jobs: &[JobStats]) -> Vec<GroupStats> {
    let count = jobs.iter().map(|job| job.group + 1).max().unwrap_or(0);
    let mut groups = vec![GroupStats::default(); count];
    for job in jobs {
        let Some(group) = groups.get_mut(job.group) else {
            continue;
        };
        for direction in Direction::ALL {
            add(
                group.directions.get_mut(direction),
                job.direction(direction),
            );
        }
    }
    groups
}

fn add(group: &mut GroupDirection, job: &DirectionStats) {
    if job.runtime_ms == 0 {
        return;
    }
    let bytes_per_s = whole_bytes_per_s(job.io_bytes, job.runtime_ms);
    if group.runtime_ms_max == 0 {
        group.runtime_ms_min = job.runtime_ms;
        group.bytes_per_s_min = bytes_per_s;
    }
    group.runtime_ms_min = group.runtime_ms_min.min(job.runtime_ms);
    group.runtime_ms_max = group.runtime_ms_max.max(job.runtime_ms);
    group.bytes_per_s_min = group.bytes_per_s_min.min(bytes_per_s);
    group.bytes_per_s_max = group.bytes_per_s_max.max(bytes_per_s);
    group.io_bytes += job.io_bytes;
    group.bytes_per_s = whole_bytes_per_s(group.io_bytes, group.runtime_ms_max);
}

/// Rounded down, as fio counts; 0 without time.
pub(super) fn whole_bytes_per_s(bytes: u64, runtime_ms: u64) -> u64 {
    let per_s = u128::from(bytes) * 1000 / u128::from(runtime_ms.max(1));
    if runtime_ms == 0 {
        return 0;
    }
    u64::try_from(per_s).unwrap_or(u64::MAX)
}

impl GroupDirection {
    /// The share of a job's mean bandwidth in that of its group, in percent.
    pub(super) fn share_percent(&self, mean_kib_per_s: f64) -> f64 {
        if self.bytes_per_s <= 1024 {
            return 100.0;
        }
        (mean_kib_per_s.trunc() * 100.0 / (self.bytes_per_s as f64 / 1024.0)).min(100.0)
    }
}
