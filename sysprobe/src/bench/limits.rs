//! What ends a thread, and what makes it wait.

use std::time::Duration;

use super::job::JobOptions;
use super::progress_counters::RunControl;
use super::rate::Pacer;
use super::recorder::Clock;
use super::values::{Direction, Extent};

/// Longest sleep before the stop token is looked at again.
const NAP: Duration = Duration::from_millis(50);

/// The bounds of a thread's work.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    ends_ns: u64,
    /// Bytes of one pass, and of all; `None` where time alone ends the thread.
    bytes_of_pass: Option<u64>,
    bytes_of_all: Option<u64>,
    ios_of_all: u64,
    pass_began_bytes: u64,
    /// Bytes of the I/Os begun.
    pub(super) bytes_begun: u64,
    /// I/Os begun.
    ios_begun: u64,
    /// Writes begun.
    pub(super) writes_begun: u64,
    thought_at_ios: u64,
}

/// Bytes that a thread does in all, where bytes end it; `size` is what one pass does.
pub(super) fn bytes_goal(job: &JobOptions, size: Option<u64>) -> Option<u64> {
    if job.time_based {
        return None;
    }
    let once = match (job.io_size, size) {
        (Some(Extent::Bytes(bytes)), _) => bytes,
        (Some(percent), Some(size)) => percent.of(size),
        (_, size) => size?,
    };
    Some(once.saturating_mul(job.loops.max(1)))
}

impl Limits {
    pub(super) fn new(job: &JobOptions, size: Option<u64>, now_ns: u64) -> Self {
        let runs = job.runtime.map(|runtime| runtime + job.ramp_time);
        let runs_ns = runs.map(|runs| u64::try_from(runs.as_nanos()).unwrap_or(u64::MAX));
        Limits {
            ends_ns: now_ns.saturating_add(runs_ns.unwrap_or(u64::MAX)),
            bytes_of_pass: size.filter(|_| !job.time_based),
            bytes_of_all: bytes_goal(job, size),
            ios_of_all: job.number_ios.unwrap_or(u64::MAX),
            pass_began_bytes: 0,
            bytes_begun: 0,
            ios_begun: 0,
            writes_begun: 0,
            thought_at_ios: 0,
        }
    }

    pub(super) fn ends_ns(&self) -> u64 {
        self.ends_ns
    }

    pub(super) fn begin_pass(&mut self) {
        self.pass_began_bytes = self.bytes_begun;
    }

    #[inline]
    pub(super) fn begun(&mut self, direction: Direction, bytes: u64) {
        self.bytes_begun += bytes;
        self.ios_begun += 1;
        self.writes_begun += u64::from(direction == Direction::Write);
    }

    /// Whether the thread has to end.
    #[inline]
    pub(super) fn is_over(&self, now_ns: u64) -> bool {
        now_ns >= self.ends_ns
            || self.ios_begun >= self.ios_of_all
            || self.bytes_of_all.is_some_and(|all| self.bytes_begun >= all)
    }

    /// Whether a pass did its bytes.
    #[inline]
    pub(super) fn is_pass_over(&self) -> bool {
        self.bytes_of_pass
            .is_some_and(|pass| self.bytes_begun - self.pass_began_bytes >= pass)
    }

    /// Bytes until the goal; `None` where there is none.
    pub(super) fn bytes_left(&self) -> Option<u64> {
        Some(self.bytes_of_all?.saturating_sub(self.bytes_begun))
    }

    /// Whether `thinktime_blocks` I/Os were begun since the last pause.
    pub(super) fn is_time_to_think(&mut self, job: &JobOptions) -> bool {
        let is_time = self.ios_begun - self.thought_at_ios >= job.thinktime_blocks.max(1);
        if is_time {
            self.thought_at_ios = self.ios_begun;
        }
        is_time
    }
}

/// Ways to wait; all end early where the run is stopped, and return the time.
pub(super) struct Wait;

impl Wait {
    /// Sleeps until that time.
    pub(super) fn until(until_ns: u64, control: &RunControl, clock: Clock) -> u64 {
        loop {
            let now_ns = clock.now_ns();
            if now_ns >= until_ns || control.is_stopped() {
                return now_ns;
            }
            std::thread::sleep(Duration::from_nanos(until_ns - now_ns).min(NAP));
        }
    }

    /// Thinks as long as the job says: first busily, then asleep.
    pub(super) fn think(job: &JobOptions, control: &RunControl, clock: Clock) -> u64 {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let began_ns = clock.now_ns();
        let spins_ns = nanoseconds(job.thinktime_spin.min(job.thinktime));
        while clock.now_ns() - began_ns < spins_ns && !control.is_stopped() {
            std::hint::spin_loop();
        }
        Self::until(
            began_ns.saturating_add(nanoseconds(job.thinktime)),
            control,
            clock,
        )
    }

    /// The direction that may begin first, and when: the wanted one, unless a mixed job may do the other one before.
    pub(super) fn allowed(
        pacer: &Pacer,
        wanted: Direction,
        is_mixed: bool,
        now_ns: u64,
    ) -> (Direction, u64) {
        let wanted_ns = pacer.next_ns(wanted);
        if wanted_ns <= now_ns || !is_mixed {
            return (wanted, wanted_ns);
        }
        let other = match wanted {
            Direction::Read => Direction::Write,
            Direction::Write => Direction::Read,
        };
        let other_ns = pacer.next_ns(other);
        if other_ns < wanted_ns {
            (other, other_ns)
        } else {
            (wanted, wanted_ns)
        }
    }
}
