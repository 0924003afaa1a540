//! What one thread counts while it runs.

use std::sync::Arc;
use std::time::Instant;

use super::job::JobOptions;
use super::progress_counters::{ThreadCounters, ThreadState};
use super::stats::{DirectionStats, JobStats, SyncStats};
use super::values::{Direction, PerDirection};
use crate::latency::Histogram;
use crate::raw::ThreadUsage;

/// Length of the windows of the bandwidth and IOPS samples: fio's `bwavgtime` and `iopsavgtime`.
const WINDOW_NS: u64 = 500_000_000;

/// Nanoseconds since a run began, the same for all its threads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Clock {
            origin: Instant::now(),
        }
    }

    #[inline]
    pub(super) fn now_ns(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }
}

/// When an I/O was decided on, when it was submitted, when it had completed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) started_ns: u64,
    pub(super) issued_ns: u64,
    pub(super) done_ns: u64,
}

/// A thread's statistics. What ends within the ramp is not counted.
pub(super) struct Recorder {
    counters: Arc<ThreadCounters>,
    /// Bytes and I/Os with the ramp, for the progress line.
    totals: PerDirection<(u64, u64)>,
    /// When measuring begins: the end of the ramp.
    measured_from_ns: u64,
    is_measuring: bool,
    /// Synchronous engines submit and complete at once, so that they have no submission latency.
    is_synchronous: bool,
    directions: PerDirection<DirectionStats>,
    sync: SyncStats,
    depth_level: [u64; 7],
    depth_submit: [u64; 7],
    depth_complete: [u64; 7],
    window: Window,
    usage: ThreadUsage,
}

#[derive(Clone, Copy, Debug, Default)]
struct Window {
    began_ns: u64,
    bytes: PerDirection<u64>,
    ios: PerDirection<u64>,
}

impl Recorder {
    /// Begins now; measures when the job's ramp is over.
    pub(super) fn begin(
        job: &JobOptions,
        counters: Arc<ThreadCounters>,
        is_synchronous: bool,
        now_ns: u64,
    ) -> Self {
        let ramp_ns = u64::try_from(job.ramp_time.as_nanos()).unwrap_or(u64::MAX);
        let direction = || DirectionStats {
            clat: Histogram::preallocated(),
            lat: Histogram::preallocated(),
            ..DirectionStats::default()
        };
        let mut recorder = Recorder {
            counters,
            totals: PerDirection::default(),
            measured_from_ns: now_ns.saturating_add(ramp_ns),
            is_measuring: false,
            is_synchronous,
            directions: PerDirection {
                read: direction(),
                write: direction(),
            },
            sync: SyncStats {
                total_ios: 0,
                lat: Histogram::preallocated(),
            },
            depth_level: [0; 7],
            depth_submit: [0; 7],
            depth_complete: [0; 7],
            window: Window::default(),
            usage: ThreadUsage::default(),
        };
        recorder.counters.set_state(ThreadState::Ramp);
        recorder.keep_measuring(now_ns);
        recorder
    }

    /// Whether the ramp ended just now: rates then begin anew.
    #[inline]
    pub(super) fn ramp_ended(&mut self, now_ns: u64) -> bool {
        !self.is_measuring && self.keep_measuring(now_ns)
    }

    /// Counts a read or write; `asked` is what it was to do in bytes.
    #[inline]
    pub(super) fn io_done(&mut self, direction: Direction, bytes: u64, times: Times) {
        let (total_bytes, total_ios) = self.totals.get_mut(direction);
        *total_bytes += bytes;
        *total_ios += 1;
        self.counters.publish(direction, *total_bytes, *total_ios);
        if !self.is_measuring && !self.keep_measuring(times.done_ns) {
            return;
        }
        let stats = self.directions.get_mut(direction);
        stats.io_bytes += bytes;
        stats.total_ios += 1;
        stats
            .clat
            .record_ns(times.done_ns.saturating_sub(times.issued_ns));
        if !self.is_synchronous {
            stats
                .slat
                .record_ns(times.issued_ns.saturating_sub(times.started_ns));
            stats
                .lat
                .record_ns(times.done_ns.saturating_sub(times.started_ns));
        }
        if times.done_ns.saturating_sub(self.window.began_ns) >= WINDOW_NS {
            self.close_window(times.done_ns);
        }
    }

    /// Counts an I/O that did less than it was asked to.
    pub(super) fn io_was_short(&mut self, direction: Direction) {
        if self.is_measuring {
            self.directions.get_mut(direction).short_ios += 1;
        }
    }

    /// Counts a sync.
    pub(super) fn sync_done(&mut self, times: Times) {
        if self.is_measuring || self.keep_measuring(times.done_ns) {
            self.sync.total_ios += 1;
            let latency = times.done_ns.saturating_sub(times.issued_ns);
            self.sync.lat.record_ns(latency);
        }
    }

    /// Counts I/Os by how many were under way, with them, when they were submitted.
    #[inline]
    pub(super) fn at_depth(&mut self, depth: usize, ios: usize) {
        let class = depth.checked_ilog2().unwrap_or(0).min(6);
        if let Some(count) = self.depth_level.get_mut(class as usize) {
            *count += ios as u64;
        }
    }

    /// Counts a submit of that many.
    #[inline]
    pub(super) fn submitted(&mut self, ios: usize) {
        count(&mut self.depth_submit, class_of_batch(ios));
    }

    /// Counts a wait that brought that many.
    #[inline]
    pub(super) fn completed(&mut self, ios: usize) {
        count(&mut self.depth_complete, class_of_batch(ios));
    }

    /// Says what the thread does now.
    pub(super) fn set_state(&self, state: ThreadState) {
        self.counters.set_state(state);
    }

    /// Ends at that time and gives all that was counted.
    pub(super) fn finish(mut self, now_ns: u64) -> JobStats {
        self.counters.set_state(ThreadState::Ended);
        let usage = match self.is_measuring {
            true => ThreadUsage::now().since(&self.usage),
            false => ThreadUsage::default(),
        };
        let measured_ns = now_ns.saturating_sub(self.measured_from_ns);
        let runtime_ms = (measured_ns + 500_000) / 1_000_000;
        for direction in Direction::ALL {
            let stats = self.directions.get_mut(direction);
            if stats.total_ios > 0 {
                stats.runtime_ms = runtime_ms.max(1);
            }
            if self.is_synchronous {
                stats.lat = stats.clat.clone();
            }
        }
        JobStats {
            threads: 1,
            directions: self.directions,
            sync: self.sync,
            job_runtime_ms: if self.is_measuring {
                runtime_ms.max(1)
            } else {
                0
            },
            user_time: usage.user_time,
            system_time: usage.system_time,
            context_switches: usage.context_switches,
            major_faults: usage.major_faults,
            minor_faults: usage.minor_faults,
            depth_level: self.depth_level,
            depth_submit: self.depth_submit,
            depth_complete: self.depth_complete,
            ..JobStats::default()
        }
    }

    /// Whether it measures, beginning to where the ramp is over.
    #[cold]
    fn keep_measuring(&mut self, now_ns: u64) -> bool {
        if self.is_measuring || now_ns < self.measured_from_ns {
            return self.is_measuring;
        }
        self.is_measuring = true;
        self.measured_from_ns = now_ns;
        self.window.began_ns = now_ns;
        self.usage = ThreadUsage::now();
        self.depth_level = [0; 7];
        self.depth_submit = [0; 7];
        self.depth_complete = [0; 7];
        self.counters.set_state(ThreadState::Running);
        true
    }

    #[cold]
    fn close_window(&mut self, now_ns: u64) {
        let length_ns = now_ns.saturating_sub(self.window.began_ns).max(1);
        let per_second = |count: u64| (count as f64 * 1e9 / length_ns as f64).floor();
        for direction in Direction::ALL {
            let stats = self.directions.get_mut(direction);
            let bytes = stats.io_bytes - self.window.bytes.get(direction);
            let ios = stats.total_ios - self.window.ios.get(direction);
            if bytes > 0 {
                stats.bandwidth_kib_per_s.record(per_second(bytes / 1024));
            }
            if ios > 0 {
                stats.iops.record(per_second(ios));
            }
            *self.window.bytes.get_mut(direction) = stats.io_bytes;
            *self.window.ios.get_mut(direction) = stats.total_ios;
        }
        self.window.began_ns = now_ns;
    }
}

#[inline]
fn count(classes: &mut [u64; 7], class: u32) {
    if let Some(count) = classes.get_mut(class as usize) {
        *count += 1;
    }
}

/// 0, 1 to 4, 5 to 8, 9 to 16, 17 to 32, 33 to 64, more.
#[inline]
fn class_of_batch(ios: usize) -> u32 {
    match ios {
        0 => 0,
        1..=4 => 1,
        _ => (ios - 1).ilog2().min(6),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::progress_counters::ThreadPlan;

    fn recorder(job: &JobOptions) -> Recorder {
        let counters = ThreadCounters::new(ThreadPlan {
            job: 0,
            directions: PerDirection::both(true),
            is_random: false,
            time_goal: None,
        });
        Recorder::begin(job, Arc::new(counters), false, 0)
    }

    fn done(recorder: &mut Recorder, done_ns: u64) {
        let times = Times {
            started_ns: done_ns - 1000,
            issued_ns: done_ns - 900,
            done_ns,
        };
        recorder.io_done(Direction::Read, 4096, times);
    }

    #[test]
    fn the_ramp_is_not_counted() {
        let mut recorder = recorder(&JobOptions {
            ramp_time: Duration::from_secs(1),
            ..JobOptions::default()
        });
        for millisecond in 1..=3000 {
            recorder.at_depth(1, 1);
            done(&mut recorder, millisecond * 1_000_000);
        }
        let stats = recorder.finish(3_000_000_000);
        let read = &stats.directions.read;
        assert_eq!(
            (read.total_ios, read.io_bytes, read.runtime_ms),
            (2001, 2001 * 4096, 2000)
        );
        assert_eq!((read.clat.count(), read.slat.count()), (2001, 2001));
        assert_eq!(
            (read.clat.moments().max_ns(), read.slat.max_ns()),
            (900, 100)
        );
        assert_eq!(read.lat.moments().max_ns(), 1000);
        assert_eq!(stats.depth_level[0], 2000);
        assert_eq!(stats.directions.write.runtime_ms, 0);
    }

    #[test]
    fn windows_of_half_a_second_are_sampled() {
        let mut recorder = recorder(&JobOptions::default());
        for millisecond in 1..=2200 {
            done(&mut recorder, millisecond * 1_000_000);
        }
        let read = recorder.finish(2_200_000_000).directions.read;
        assert_eq!((read.iops.samples, read.iops.mean), (4, 1000.0));
        assert_eq!(read.bandwidth_kib_per_s.mean, 4000.0);
        assert_eq!(read.ios_per_second(), 1000.0);
    }

    #[test]
    fn depths_fall_into_the_classes_of_fio() {
        let batches = [0, 1, 4, 5, 8, 9, 16, 17, 32, 33, 64, 65, 1000];
        let classes = [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6];
        assert_eq!(batches.map(class_of_batch), classes);
    }
}
