//! What is counted while the database works.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::figures::{StallReason, StallStatistics};
use super::stalls::{Stall, Stalls};
use crate::counting::histogram::Histogram;
use crate::counting::striped::Striped;
use crate::io::Io;
use crate::io::metered::IoCounters;
use crate::sync::Mutex;

/// Of buffered commits, which take microseconds, one in so many is timed.
const COMMITS_PER_TIMED: u64 = 16;

/// All counters of an open database.
#[derive(Debug)]
pub(crate) struct Counters {
    clock: Arc<dyn Io>,
    opened_at: Duration,
    pub(crate) io: Arc<IoCounters>,
    /// Commits, rows and their bytes.
    writes: Striped<3>,
    /// Gets, and generations that were there for them.
    gets: Striped<2>,
    pub(crate) block_records: Histogram,
    pub(crate) synced_commit_ns: Histogram,
    pub(crate) buffered_commit_ns: Histogram,
    pub(crate) flushes: WorkCounters,
    compacting: AtomicU64,
    compactions: Mutex<BTreeMap<&'static str, Arc<WorkCounters>>>,
    stalls: [Stalls; StallReason::ALL.len()],
}

/// Work in the background.
#[derive(Debug, Default)]
pub(crate) struct WorkCounters {
    pub(crate) failed: AtomicU64,
    pub(crate) read_bytes: AtomicU64,
    pub(crate) written_bytes: AtomicU64,
    pub(crate) time_ns: Histogram,
    /// Bytes that went in a second, lately; 0 at first.
    rate: AtomicU64,
}

impl Counters {
    pub(crate) fn new(clock: Arc<dyn Io>, io: Arc<IoCounters>) -> Self {
        Counters {
            opened_at: clock.now(),
            clock,
            io,
            writes: Striped::default(),
            gets: Striped::default(),
            block_records: Histogram::default(),
            synced_commit_ns: Histogram::default(),
            buffered_commit_ns: Histogram::default(),
            flushes: WorkCounters::default(),
            compacting: AtomicU64::new(0),
            compactions: Mutex::default(),
            stalls: Default::default(),
        }
    }

    /// How long the database has been open.
    pub(crate) fn uptime(&self) -> Duration {
        self.clock.now().saturating_sub(self.opened_at)
    }

    /// Counts lookups of keys, each in so many generations.
    #[inline]
    pub(crate) fn count_gets(&self, gets: usize, generations: usize) {
        self.gets.add([gets as u64, (gets * generations) as u64]);
    }

    /// Counts a commit that was submitted.
    pub(crate) fn count_commit(&self, rows: u64, size_bytes: u64) {
        self.writes.add([1, rows, size_bytes]);
    }

    /// Commits, rows and their bytes.
    pub(crate) fn writes(&self) -> [u64; 3] {
        self.writes.totals()
    }

    /// Gets, and generations that were there for them.
    pub(crate) fn gets(&self) -> [u64; 2] {
        self.gets.totals()
    }

    /// Does a commit, and notes how long it took: of each one that is synced, and of some that are not.
    pub(crate) fn time_commit<T>(
        &self,
        is_synced: bool,
        seq: u64,
        commit: impl FnOnce() -> T,
    ) -> T {
        if !is_synced && !seq.is_multiple_of(COMMITS_PER_TIMED) {
            return commit();
        }
        let start = self.clock.now();
        let done = commit();
        let took = self.clock.now().saturating_sub(start);
        if is_synced {
            self.synced_commit_ns.record_time(took);
        } else {
            self.buffered_commit_ns.record_time(took);
        }
        done
    }

    /// A writer waits, until what this returns is dropped.
    pub(crate) fn stall(&self, reason: StallReason) -> Stall<'_> {
        self.stalls_of(reason).begin(self.clock.as_ref())
    }

    /// The waits of writers, by reason.
    pub(crate) fn stalls(&self) -> [StallStatistics; StallReason::ALL.len()] {
        StallReason::ALL.map(|reason| {
            let stalls = self.stalls_of(reason);
            stalls.statistics(reason, self.clock.as_ref())
        })
    }

    fn stalls_of(&self, reason: StallReason) -> &Stalls {
        let [log, flush, compaction, memory] = &self.stalls;
        match reason {
            StallReason::Log => log,
            StallReason::Flush => flush,
            StallReason::Compaction => compaction,
            StallReason::Memory => memory,
        }
    }

    /// Does a compaction of a kind; as [`time_work`](Self::time_work).
    pub(crate) fn time_compaction<E>(
        &self,
        kind: &'static str,
        read_bytes: u64,
        work: impl FnOnce() -> Result<Option<u64>, E>,
    ) -> Result<Option<u64>, E> {
        let counters = self.compactions.lock().entry(kind).or_default().clone();
        self.compacting.fetch_add(1, Ordering::Relaxed);
        let done = self.time_work(&counters, read_bytes, work);
        self.compacting.fetch_sub(1, Ordering::Relaxed);
        done
    }

    /// Whether a compaction is at work.
    pub(crate) fn is_compacting(&self) -> bool {
        self.compacting.load(Ordering::Relaxed) > 0
    }

    /// All kinds of compaction that there were.
    pub(crate) fn compactions(&self) -> BTreeMap<&'static str, Arc<WorkCounters>> {
        self.compactions.lock().clone()
    }

    /// Does a piece of work in the background, and notes what it took. `work` returns the bytes that it wrote, `None` if
    /// it was cancelled.
    pub(crate) fn time_work<E>(
        &self,
        counters: &WorkCounters,
        read_bytes: u64,
        work: impl FnOnce() -> Result<Option<u64>, E>,
    ) -> Result<Option<u64>, E> {
        let start = self.clock.now();
        let done = work();
        let took = self.clock.now().saturating_sub(start);
        match done {
            Ok(Some(written_bytes)) => counters.note_done(read_bytes, written_bytes, took),
            Ok(None) => {}
            Err(_) => {
                counters.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        done
    }
}

impl WorkCounters {
    fn note_done(&self, read_bytes: u64, written_bytes: u64, took: Duration) {
        self.time_ns.record_time(took);
        self.read_bytes.fetch_add(read_bytes, Ordering::Relaxed);
        self.written_bytes
            .fetch_add(written_bytes, Ordering::Relaxed);
        let rate = read_bytes as f64 / took.as_secs_f64().max(1e-6);
        let before = self.rate() as f64;
        let smoothed = if before == 0.0 {
            rate
        } else {
            before * 0.75 + rate * 0.25
        };
        self.rate.store((smoothed as u64).max(1), Ordering::Relaxed);
    }

    /// Bytes that went in a second, lately; 0 before the first time.
    pub(crate) fn rate(&self) -> u64 {
        self.rate.load(Ordering::Relaxed)
    }
}
