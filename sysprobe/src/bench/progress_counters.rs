//! What a progress line may read while jobs run, and how they are stopped.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::values::{Direction, PerDirection};

/// Stands for no goal in bytes.
const NO_GOAL: u64 = u64::MAX;

/// Stops a run and lets others see how far it is. Shared by the run, a signal handler's thread and a progress line.
#[derive(Debug, Default)]
pub struct RunControl {
    stop: AtomicBool,
    threads: Mutex<Vec<Arc<ThreadCounters>>>,
}

impl RunControl {
    /// Nothing runs yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks all threads to end after the I/Os that are under way. What was measured till then is reported.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked to stop.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// How far each thread is now.
    pub fn snapshot(&self) -> Snapshot {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        Snapshot {
            at: Instant::now(),
            threads: threads.iter().map(|counters| counters.snapshot()).collect(),
        }
    }

    pub(super) fn register(&self, counters: Arc<ThreadCounters>) {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.push(counters);
    }
}

/// How far a run is at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When it was taken; two of them give the bandwidth between.
    pub at: Instant,
    /// All threads, in order of the jobs.
    pub threads: Vec<ThreadSnapshot>,
}

impl Snapshot {
    /// Time until the last thread that runs or has not begun is expected to end, as far as can be told: what is left of
    /// the greatest `runtime`, or of the bytes at the speed so far.
    pub fn time_left(&self) -> Option<Duration> {
        self.threads
            .iter()
            .filter(|thread| thread.state != ThreadState::Ended)
            .map(|thread| thread.time_left)
            .max()
            .flatten()
    }

    /// Bytes done, counted from the beginning, with the ramp.
    pub fn bytes(&self) -> PerDirection<u64> {
        self.sum(|thread| thread.bytes)
    }

    /// I/Os done, counted from the beginning, with the ramp.
    pub fn ios(&self) -> PerDirection<u64> {
        self.sum(|thread| thread.ios)
    }

    fn sum(&self, value: impl Fn(&ThreadSnapshot) -> PerDirection<u64>) -> PerDirection<u64> {
        let mut sum = PerDirection::both(0);
        for thread in &self.threads {
            let one = value(thread);
            sum.read += one.read;
            sum.write += one.write;
        }
        sum
    }
}

/// What a thread is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum ThreadState {
    /// Waits for its `startdelay` or for jobs before a `stonewall`.
    #[default]
    Waiting,
    /// Is in its ramp.
    Ramp,
    /// Is measured.
    Running,
    /// Is in its last `fsync`.
    Syncing,
    /// Has ended.
    Ended,
}

impl ThreadState {
    const ALL: [ThreadState; 5] = [
        ThreadState::Waiting,
        ThreadState::Ramp,
        ThreadState::Running,
        ThreadState::Syncing,
        ThreadState::Ended,
    ];
}

/// How far a thread is at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadSnapshot {
    /// Index of its job among those given.
    pub job: usize,
    /// What it is doing.
    pub state: ThreadState,
    /// Directions that it does, by the job's `rw`, for the letter of the progress line.
    pub directions: PerDirection<bool>,
    /// Whether it goes to random places.
    pub is_random: bool,
    /// Bytes done, with the ramp.
    pub bytes: PerDirection<u64>,
    /// I/Os done, with the ramp.
    pub ios: PerDirection<u64>,
    /// Bytes after which it ends; `None` where only time ends it.
    pub bytes_goal: Option<u64>,
    /// Time since it began; `None` before.
    pub elapsed: Option<Duration>,
    /// Expected time until it ends; `None` where it cannot be told yet.
    pub time_left: Option<Duration>,
}

/// One thread's live counters: written by it alone, on a cache line of its own.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct ThreadCounters {
    bytes: [AtomicU64; 2],
    ios: [AtomicU64; 2],
    state: AtomicU8,
    /// Nanoseconds from `origin` to its beginning; 0 before.
    began_ns: AtomicU64,
    /// Bytes after which it ends; [`NO_GOAL`] where none are known.
    bytes_goal: AtomicU64,
    origin: Instant,
    plan: ThreadPlan,
}

/// What is known of a thread before it begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct ThreadPlan {
    pub(super) job: usize,
    pub(super) directions: PerDirection<bool>,
    pub(super) is_random: bool,
    /// Ramp and runtime.
    pub(super) time_goal: Option<Duration>,
}

impl ThreadCounters {
    pub(super) fn new(plan: ThreadPlan) -> Self {
        ThreadCounters {
            bytes: Default::default(),
            ios: Default::default(),
            state: AtomicU8::new(0),
            began_ns: AtomicU64::new(0),
            bytes_goal: AtomicU64::new(NO_GOAL),
            origin: Instant::now(),
            plan,
        }
    }

    /// Says after how many bytes the thread ends, where bytes end it.
    pub(super) fn set_bytes_goal(&self, bytes: Option<u64>) {
        self.bytes_goal
            .store(bytes.unwrap_or(NO_GOAL), Ordering::Relaxed);
    }

    fn bytes_goal(&self) -> Option<u64> {
        Some(self.bytes_goal.load(Ordering::Relaxed)).filter(|goal| *goal != NO_GOAL)
    }

    pub(super) fn set_state(&self, state: ThreadState) {
        let begins = matches!(state, ThreadState::Ramp | ThreadState::Running);
        if begins && self.began_ns.load(Ordering::Relaxed) == 0 {
            let nanoseconds = u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.began_ns.store(nanoseconds.max(1), Ordering::Relaxed);
        }
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// The thread's own totals. Only this thread writes, so that no read-modify-write is needed.
    #[inline]
    pub(super) fn publish(&self, direction: Direction, bytes: u64, ios: u64) {
        let [read_bytes, write_bytes] = &self.bytes;
        let [read_ios, write_ios] = &self.ios;
        let (to_bytes, to_ios) = match direction {
            Direction::Read => (read_bytes, read_ios),
            Direction::Write => (write_bytes, write_ios),
        };
        to_bytes.store(bytes, Ordering::Relaxed);
        to_ios.store(ios, Ordering::Relaxed);
    }

    fn snapshot(&self) -> ThreadSnapshot {
        let both = |[read, write]: &[AtomicU64; 2]| PerDirection {
            read: read.load(Ordering::Relaxed),
            write: write.load(Ordering::Relaxed),
        };
        let state = usize::from(self.state.load(Ordering::Relaxed));
        let state = ThreadState::ALL.get(state).copied().unwrap_or_default();
        let began = Duration::from_nanos(self.began_ns.load(Ordering::Relaxed));
        let elapsed = (!began.is_zero()).then(|| self.origin.elapsed().saturating_sub(began));
        let bytes = both(&self.bytes);
        ThreadSnapshot {
            job: self.plan.job,
            state,
            directions: self.plan.directions,
            is_random: self.plan.is_random,
            bytes,
            ios: both(&self.ios),
            bytes_goal: self.bytes_goal(),
            elapsed,
            time_left: self.time_left(state, bytes.read + bytes.write, elapsed),
        }
    }

    fn time_left(
        &self,
        state: ThreadState,
        done: u64,
        elapsed: Option<Duration>,
    ) -> Option<Duration> {
        if state == ThreadState::Ended {
            return Some(Duration::ZERO);
        }
        let by_time = self
            .plan
            .time_goal
            .map(|goal| goal.saturating_sub(elapsed.unwrap_or_default()));
        let by_bytes = match (self.bytes_goal(), elapsed) {
            (Some(goal), Some(elapsed)) if done > 0 => {
                let left = goal.saturating_sub(done) as f64 / done as f64;
                Duration::try_from_secs_f64(elapsed.as_secs_f64() * left).ok()
            }
            _ => None,
        };
        match (by_time, by_bytes) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }
}
