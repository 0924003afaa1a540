//! What jobs came to, with everything that fio's reports hold.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::values::{Direction, PerDirection};
use crate::latency::{Histogram, Moments};

/// Lower bounds of the classes of [`JobStats::depth_level`]. Those of submits and completes begin at 0, 1, 5, 9, 17, 33
/// and 65 and are called 0, 4, 8, 16, 32, 64 and >=64.
pub const DEPTH_CLASSES: [u64; 7] = [1, 2, 4, 8, 16, 32, 64];
/// Upper bounds of the latency classes below 1 µs, in nanoseconds.
pub const LATENCY_CLASSES_NS: [u64; 10] = [2, 4, 10, 20, 50, 100, 250, 500, 750, 1000];
/// Upper bounds of the latency classes below 1 ms, in microseconds.
pub const LATENCY_CLASSES_US: [u64; 10] = [2, 4, 10, 20, 50, 100, 250, 500, 750, 1000];
/// Upper bounds of the latency classes from 1 ms, in milliseconds; one more class, `>=2000`, has none.
pub const LATENCY_CLASSES_MS: [u64; 11] = [2, 4, 10, 20, 50, 100, 250, 500, 750, 1000, 2000];

/// Least share of a class of latency that holds anything, in percent.
const LATENCY_SHARE_MIN: f64 = 0.01;

/// Shares of seven classes of depth, in percent. As in fio, what is there but below 0.1 % is 0.1.
pub type DepthShares = [f64; 7];

/// Shares of the classes of latency, in percent, in order of the bounds above.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct LatencyShares {
    /// By [`LATENCY_CLASSES_NS`].
    pub ns: [f64; 10],
    /// By [`LATENCY_CLASSES_US`].
    pub us: [f64; 10],
    /// By [`LATENCY_CLASSES_MS`], and `>=2000`.
    pub ms: [f64; 12],
}

/// What one run came to.
#[derive(Clone, Debug)]
pub struct RunReport {
    /// When it began.
    pub started: SystemTime,
    /// How long it took with everything.
    pub elapsed: Duration,
    /// One for each thread, in order of the jobs and their threads.
    pub threads: Vec<JobStats>,
    /// Disks below the files, since before the first thread began.
    pub disk_util: Vec<DiskUtil>,
}

impl RunReport {
    /// The statistics as they are to be reported: threads of a job with `group_reporting` are joined, within their group,
    /// into the first of them.
    pub fn reported(&self) -> Vec<JobStats> {
        let mut reported: Vec<JobStats> = Vec::new();
        for thread in &self.threads {
            let last = reported.last_mut().filter(|last| {
                last.group_reporting && thread.group_reporting && last.group == thread.group
            });
            match last {
                Some(last) => last.add(thread),
                None => reported.push(thread.clone()),
            }
        }
        reported
    }
}

/// What one thread of a job, or several joined, came to.
#[derive(Clone, Debug, Default)]
pub struct JobStats {
    /// The job's name.
    pub name: String,
    /// Index of the job among those given.
    pub job: usize,
    /// Reporting group, from 0.
    pub group: usize,
    /// Whether the threads of the group are to be joined.
    pub group_reporting: bool,
    /// How many threads are joined here.
    pub threads: u64,
    /// The operating system's id of the (first) thread.
    pub thread_id: i64,
    /// The options that were given for this job, as written.
    pub options_given: Vec<(String, String)>,
    /// The job's `iodepth`.
    pub iodepth: u64,
    /// `errno` of the first failed I/O; 0 where none failed.
    pub error: i32,
    /// The same in words, with the place.
    pub error_text: Option<String>,
    /// When it ended.
    pub ended: Option<SystemTime>,
    /// Seconds from the run's beginning to its end, rounded up.
    pub elapsed_s: u64,
    /// Reads and writes.
    pub directions: PerDirection<DirectionStats>,
    /// `fsync` and `fdatasync`, without those at the end.
    pub sync: SyncStats,
    /// Measured time in milliseconds, summed over the threads.
    pub job_runtime_ms: u64,
    /// CPU time in user mode while it was measured.
    pub user_time: Duration,
    /// CPU time in the kernel while it was measured.
    pub system_time: Duration,
    /// Context switches.
    pub context_switches: u64,
    /// Page faults that needed I/O.
    pub major_faults: u64,
    /// Page faults that did not.
    pub minor_faults: u64,
    /// I/Os and syncs by how many were under way when they were submitted; classes as in [`DEPTH_CLASSES`].
    pub depth_level: [u64; 7],
    /// Submits by how many I/Os they submitted.
    pub depth_submit: [u64; 7],
    /// Waits by how many I/Os they completed.
    pub depth_complete: [u64; 7],
    /// Percentiles to be reported.
    pub percentile_list: Vec<f64>,
    /// Whether those of the completion latency are.
    pub clat_percentiles: bool,
    /// Whether those of the whole latency are.
    pub lat_percentiles: bool,
    /// Lines that the job's workload adds.
    pub report_lines: Vec<String>,
}

/// One direction of a job.
#[derive(Clone, Debug, Default)]
pub struct DirectionStats {
    /// Bytes.
    pub io_bytes: u64,
    /// I/Os.
    pub total_ios: u64,
    /// I/Os that did less than they were asked to.
    pub short_ios: u64,
    /// Measured time in milliseconds; 0 where there was no I/O.
    pub runtime_ms: u64,
    /// From the decision to do an I/O until it was submitted; empty for synchronous engines.
    pub slat: Moments,
    /// From submission to completion.
    pub clat: Histogram,
    /// Both.
    pub lat: Histogram,
    /// KiB a second in windows of half a second.
    pub bandwidth_kib_per_s: SampleStats,
    /// I/Os a second in the same windows.
    pub iops: SampleStats,
}

/// Syncs of a job.
#[derive(Clone, Debug, Default)]
pub struct SyncStats {
    /// How many.
    pub total_ios: u64,
    /// How long each took.
    pub lat: Histogram,
}

/// Least, greatest, mean and deviation of samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct SampleStats {
    /// Least; 0 where there is no sample.
    pub min: f64,
    /// Greatest.
    pub max: f64,
    /// Mean.
    pub mean: f64,
    /// Sum of the squares of the distances to the mean.
    pub squares: f64,
    /// How many.
    pub samples: u64,
}

/// What a disk did while the run lasted, as `/proc/diskstats` counts it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DiskUtil {
    /// The block device, such as `nvme0n1`.
    pub name: String,
    /// Reads.
    pub read_ios: u64,
    /// Writes.
    pub write_ios: u64,
    /// Reads that were merged with others.
    pub read_merges: u64,
    /// Writes that were merged with others.
    pub write_merges: u64,
    /// Milliseconds spent on reads, summed over them.
    pub read_ticks: u64,
    /// Milliseconds spent on writes, summed over them.
    pub write_ticks: u64,
    /// Milliseconds spent on all, summed over them.
    pub in_queue: u64,
    /// Percent of the time during which it was busy.
    pub util: f64,
}

impl Default for RunReport {
    fn default() -> Self {
        RunReport {
            started: SystemTime::now(),
            elapsed: Duration::ZERO,
            threads: Vec::new(),
            disk_util: Vec::new(),
        }
    }
}

impl SampleStats {
    /// Counts one sample.
    pub fn record(&mut self, value: f64) {
        if self.samples == 0 {
            self.min = value;
        }
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.samples += 1;
        let distance = value - self.mean;
        self.mean += distance / self.samples as f64;
        self.squares += distance * (value - self.mean);
    }

    /// Standard deviation of a sample; 0 below two samples.
    pub fn stddev(&self) -> f64 {
        if self.samples < 2 {
            return 0.0;
        }
        (self.squares / (self.samples - 1) as f64).sqrt()
    }

    /// Joins those of a thread that ran at the same time: rates add up, as in fio.
    pub fn add_concurrent(&mut self, other: &SampleStats) {
        self.min += other.min;
        self.max += other.max;
        self.mean += other.mean;
        self.squares += other.squares;
        self.samples += other.samples;
    }
}

impl DirectionStats {
    /// Bytes a second over the measured time.
    pub fn bytes_per_second(&self) -> f64 {
        per_second(self.io_bytes as f64, self.runtime_ms)
    }

    /// I/Os a second over the measured time.
    pub fn ios_per_second(&self) -> f64 {
        per_second(self.total_ios as f64, self.runtime_ms)
    }

    /// Joins those of a thread that ran at the same time.
    pub fn add(&mut self, other: &DirectionStats) {
        self.io_bytes += other.io_bytes;
        self.total_ios += other.total_ios;
        self.short_ios += other.short_ios;
        self.runtime_ms = self.runtime_ms.max(other.runtime_ms);
        self.slat.add(&other.slat);
        self.clat.add(&other.clat);
        self.lat.add(&other.lat);
        self.bandwidth_kib_per_s
            .add_concurrent(&other.bandwidth_kib_per_s);
        self.iops.add_concurrent(&other.iops);
    }
}

impl JobStats {
    /// One direction.
    pub fn direction(&self, direction: Direction) -> &DirectionStats {
        self.directions.get(direction)
    }

    /// CPU time in user mode, in percent of the measured time.
    pub fn user_cpu_percent(&self) -> f64 {
        self.percent_of_runtime(self.user_time)
    }

    /// CPU time in the kernel, in percent of the measured time.
    pub fn system_cpu_percent(&self) -> f64 {
        self.percent_of_runtime(self.system_time)
    }

    /// Shares of [`Self::depth_level`] among all I/Os.
    pub fn depth_level_shares(&self) -> DepthShares {
        let ios = self.directions.read.total_ios + self.directions.write.total_ios;
        shares(&self.depth_level, ios)
    }

    /// Shares of [`Self::depth_submit`].
    pub fn depth_submit_shares(&self) -> DepthShares {
        shares(&self.depth_submit, self.depth_submit.iter().sum())
    }

    /// Shares of [`Self::depth_complete`].
    pub fn depth_complete_shares(&self) -> DepthShares {
        shares(&self.depth_complete, self.depth_complete.iter().sum())
    }

    /// Shares of the classes of the completion latency among all I/Os; the borders between classes are as exact as the
    /// [`Histogram`]. As in fio, what is there but below 0.01 % is 0.01.
    pub fn latency_shares(&self) -> LatencyShares {
        let mut shares = LatencyShares::default();
        let (read, write) = (&self.directions.read, &self.directions.write);
        let total = (read.total_ios + write.total_ios).max(1) as f64;
        for (nanoseconds, count) in read.clat.buckets().chain(write.clat.buckets()) {
            if let Some(share) = shares.class_of(nanoseconds) {
                *share += count as f64 * 100.0 / total;
            }
        }
        let LatencyShares { ns, us, ms } = &mut shares;
        for share in ns.iter_mut().chain(us).chain(ms) {
            if *share > 0.0 {
                *share = share.max(LATENCY_SHARE_MIN);
            }
        }
        shares
    }

    /// Joins those of another thread of the group.
    pub fn add(&mut self, other: &JobStats) {
        self.threads += other.threads;
        if self.error == 0 && self.error_text.is_none() {
            self.error = other.error;
            self.error_text.clone_from(&other.error_text);
        }
        self.ended = self.ended.max(other.ended);
        self.elapsed_s = self.elapsed_s.max(other.elapsed_s);
        self.directions.read.add(&other.directions.read);
        self.directions.write.add(&other.directions.write);
        self.sync.total_ios += other.sync.total_ios;
        self.sync.lat.add(&other.sync.lat);
        self.job_runtime_ms += other.job_runtime_ms;
        self.user_time += other.user_time;
        self.system_time += other.system_time;
        self.context_switches += other.context_switches;
        self.major_faults += other.major_faults;
        self.minor_faults += other.minor_faults;
        for (mine, theirs) in [
            (&mut self.depth_level, &other.depth_level),
            (&mut self.depth_submit, &other.depth_submit),
            (&mut self.depth_complete, &other.depth_complete),
        ] {
            for (mine, theirs) in mine.iter_mut().zip(theirs) {
                *mine += theirs;
            }
        }
        self.report_lines.extend(other.report_lines.iter().cloned());
    }

    fn percent_of_runtime(&self, time: Duration) -> f64 {
        if self.job_runtime_ms == 0 {
            return 0.0;
        }
        time.as_secs_f64() * 100_000.0 / self.job_runtime_ms as f64
    }
}

impl LatencyShares {
    fn class_of(&mut self, nanoseconds: u64) -> Option<&mut f64> {
        let class = |bounds: &[u64], unit: u64| {
            bounds
                .iter()
                .position(|bound| nanoseconds < bound * unit)
                .unwrap_or(bounds.len())
        };
        if nanoseconds < 1000 {
            self.ns.get_mut(class(&LATENCY_CLASSES_NS, 1))
        } else if nanoseconds < 1_000_000 {
            self.us.get_mut(class(&LATENCY_CLASSES_US, 1000))
        } else {
            self.ms.get_mut(class(&LATENCY_CLASSES_MS, 1_000_000))
        }
    }
}

fn per_second(amount: f64, runtime_ms: u64) -> f64 {
    if runtime_ms == 0 {
        return 0.0;
    }
    amount * 1000.0 / runtime_ms as f64
}

fn shares(counts: &[u64; 7], total: u64) -> DepthShares {
    counts.map(|count| match (count, total) {
        (0, _) | (_, 0) => 0.0,
        _ => (count as f64 * 100.0 / total as f64).max(0.1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_fall_into_the_classes_of_fio() {
        let mut stats = JobStats::default();
        let read = &mut stats.directions.read;
        for nanoseconds in [3, 999, 1_900, 110_000, 1_500_000, 5_000_000_000] {
            read.clat.record_ns(nanoseconds);
            read.total_ios += 1;
        }
        let shares = stats.latency_shares();
        let sixth = 100.0 / 6.0;
        assert_eq!((shares.ns[1], shares.ns[9]), (sixth, sixth));
        assert_eq!((shares.us[0], shares.us[6]), (sixth, sixth));
        assert_eq!((shares.ms[0], shares.ms[11]), (sixth, sixth));
    }

    #[test]
    fn samples_have_mean_and_deviation_and_those_of_threads_add_up() {
        let mut one = SampleStats::default();
        for value in [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0] {
            one.record(value);
        }
        assert_eq!((one.min, one.max, one.mean), (2.0, 9.0, 5.0));
        assert!((one.stddev() - (32.0_f64 / 7.0).sqrt()).abs() < 1e-9);
        let mut both = one;
        both.add_concurrent(&one);
        assert_eq!((both.min, both.mean, both.samples), (4.0, 10.0, 16));
    }

    #[test]
    fn threads_of_a_group_are_joined_and_others_are_not() {
        let thread = |group, group_reporting| JobStats {
            group,
            group_reporting,
            threads: 1,
            job_runtime_ms: 1000,
            user_time: Duration::from_millis(100),
            ..JobStats::default()
        };
        let report = RunReport {
            threads: vec![
                thread(0, true),
                thread(0, true),
                thread(1, true),
                thread(1, false),
            ],
            ..RunReport::default()
        };
        let joined = report.reported();
        let threads: Vec<u64> = joined.iter().map(|stats| stats.threads).collect();
        assert_eq!(threads, [2, 1, 1]);
        assert_eq!(joined[0].user_cpu_percent(), 10.0);
    }
}
