//! The hot loop of a thread whose engine is not made of blocks.

use super::failure::Failure;
use super::job::JobOptions;
use super::limits::{Limits, Wait};
use super::progress_counters::{RunControl, ThreadState};
use super::rate::Pacer;
use super::recorder::{Clock, Recorder, Times};
use super::stats::JobStats;
use super::values::Direction;
use super::workload::Workload;

/// Everything that a thread of a workload works with.
pub(super) struct WorkloadLoop<'a> {
    pub(super) job: &'a JobOptions,
    pub(super) control: &'a RunControl,
    pub(super) workload: Box<dyn Workload>,
    pub(super) pacer: Option<Pacer>,
    pub(super) recorder: Recorder,
    pub(super) clock: Clock,
    pub(super) limits: Limits,
    pub(super) now_ns: u64,
}

impl WorkloadLoop<'_> {
    /// Runs to the end of the job; what was measured is given also where it failed.
    pub(super) fn run(mut self) -> (JobStats, Option<Failure>) {
        let mut ended = self.steps();
        if ended.is_ok() && self.job.end_fsync && self.limits.writes_begun > 0 {
            self.recorder.set_state(ThreadState::Syncing);
            // It is not counted, as in fio.
            ended = self.sync_once();
        }
        let stats = self.recorder.finish(self.clock.now_ns());
        (stats, ended.err())
    }

    fn steps(&mut self) -> Result<(), Failure> {
        while !self.control.is_stopped() && !self.limits.is_over(self.now_ns) {
            let started_ns = self.clock.now_ns();
            let done = self
                .workload
                .step()
                .map_err(|reason| Failure::at("an operation", &reason))?;
            self.now_ns = self.clock.now_ns();
            let times = Times {
                started_ns,
                issued_ns: started_ns,
                done_ns: self.now_ns,
            };
            self.recorder.at_depth(1, 1);
            self.recorder.submitted(1);
            self.recorder.completed(1);
            if self.recorder.ramp_ended(self.now_ns)
                && let Some(pacer) = &mut self.pacer
            {
                pacer.restart(self.now_ns);
            }
            self.recorder.io_done(done.direction, done.bytes, times);
            self.limits.begun(done.direction, done.bytes);
            self.wait(done.direction, done.bytes)?;
        }
        Ok(())
    }

    /// Syncs, thinks and keeps the rate after an operation.
    fn wait(&mut self, direction: Direction, bytes: u64) -> Result<(), Failure> {
        let is_due = |every: u64| every > 0 && self.limits.writes_begun.is_multiple_of(every);
        let syncs = is_due(self.job.fsync) || is_due(self.job.fdatasync);
        if direction == Direction::Write && syncs {
            self.sync()?;
        }
        if !self.job.thinktime.is_zero() && self.limits.is_time_to_think(self.job) {
            self.now_ns = Wait::think(self.job, self.control, self.clock);
        }
        if let Some(pacer) = &mut self.pacer {
            // Which direction comes next is the workload's affair: both have to be within their rates.
            pacer.begun(direction, bytes);
            let next_ns = pacer
                .next_ns(Direction::Read)
                .max(pacer.next_ns(Direction::Write));
            let until_ns = next_ns.min(self.limits.ends_ns());
            if until_ns > self.now_ns {
                self.now_ns = Wait::until(until_ns, self.control, self.clock);
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Failure> {
        let started_ns = self.clock.now_ns();
        self.sync_once()?;
        self.now_ns = self.clock.now_ns();
        self.recorder.sync_done(Times {
            started_ns,
            issued_ns: started_ns,
            done_ns: self.now_ns,
        });
        Ok(())
    }

    fn sync_once(&mut self) -> Result<(), Failure> {
        self.workload
            .sync()
            .map_err(|reason| Failure::at("a sync", &reason))
    }
}
