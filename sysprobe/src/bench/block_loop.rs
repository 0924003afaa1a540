//! The hot loop of a thread that reads and writes blocks.
//!
//! Nothing is allocated here for an I/O, and the clock is read twice (synchronous engines) or three times: when it is
//! begun, when its batch is submitted, when it is taken from the completions.

use std::io;

use rustix::io::Errno;

use super::content::Content;
use super::failure::Failure;
use super::job::JobOptions;
use super::limits::{Limits, Wait};
use super::offsets::{Block, BlockPicker};
use super::progress_counters::{RunControl, ThreadState};
use super::queue::{Queue, Slot};
use super::random::Random;
use super::rate::Pacer;
use super::recorder::{Clock, Recorder, Times};
use super::stats::JobStats;
use super::values::Direction;
use crate::io::{IoEngine, Kind, Request};

/// Everything that a thread of blocks works with.
pub(super) struct BlockLoop<'a> {
    pub(super) job: &'a JobOptions,
    pub(super) control: &'a RunControl,
    pub(super) engine: Box<dyn IoEngine>,
    pub(super) is_synchronous: bool,
    pub(super) files: usize,
    pub(super) picker: BlockPicker,
    pub(super) content: Content,
    pub(super) mix: Random,
    pub(super) pacer: Option<Pacer>,
    pub(super) recorder: Recorder,
    pub(super) clock: Clock,
    pub(super) limits: Limits,
    pub(super) now_ns: u64,
    pub(super) queue: Queue,
}

/// Why a pass over the files ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PassEnd {
    /// Everything was done once.
    Done,
    /// Time, bytes or a stop ended the thread.
    Limit,
}

impl BlockLoop<'_> {
    /// Runs to the end of the job; what was measured is given also where it failed.
    pub(super) fn run(mut self) -> (JobStats, Option<Failure>) {
        let mut ended = self.passes();
        let drained = self.drain();
        ended = ended.and(drained);
        if ended.is_ok() && self.job.end_fsync && self.job.rw.writes() {
            self.recorder.set_state(ThreadState::Syncing);
            ended = self.sync_all_files();
        }
        let stats = self.recorder.finish(self.clock.now_ns());
        (stats, ended.err())
    }

    fn passes(&mut self) -> Result<(), Failure> {
        let most_bytes = {
            let sizes = &self.job.block_sizes;
            sizes.read.most_bytes.max(sizes.write.most_bytes)
        };
        let mut loops_left = self.job.loops.max(1);
        loop {
            let before = self.limits.bytes_begun;
            if self.pass()? == PassEnd::Limit || self.limits.bytes_begun == before {
                return Ok(());
            }
            loops_left = loops_left.saturating_sub(1);
            let bytes_left = self.limits.bytes_left();
            if loops_left == 0 && bytes_left.is_none_or(|left| left < most_bytes) {
                return Ok(());
            }
            self.drain()?;
            self.picker.restart(self.job.randrepeat);
        }
    }

    /// Goes once over what the picker gives.
    fn pass(&mut self) -> Result<PassEnd, Failure> {
        self.limits.begin_pass();
        loop {
            if self.control.is_stopped() || self.limits.is_over(self.now_ns) {
                return Ok(PassEnd::Limit);
            }
            if self.limits.is_pass_over() {
                return Ok(PassEnd::Done);
            }
            if let Some(kind) = self.due_sync() {
                self.begin(kind, None)?;
            } else {
                let Some(direction) = self.next_direction()? else {
                    return Ok(PassEnd::Limit);
                };
                let Some(block) = self.picker.next(direction) else {
                    return Ok(PassEnd::Done);
                };
                let kind = match direction {
                    Direction::Read => Kind::Read,
                    Direction::Write => Kind::Write,
                };
                self.begin(kind, Some(block))?;
            }
            if self.queue.free.is_empty() {
                self.take_completions()?;
                while self.queue.under_way() > self.queue.low {
                    self.take_completions()?;
                }
            }
            if !self.job.thinktime.is_zero() && self.limits.is_time_to_think(self.job) {
                self.drain()?;
                self.now_ns = Wait::think(self.job, self.control, self.clock);
            }
        }
    }

    /// The sync that has to come before the next write.
    #[inline]
    fn due_sync(&mut self) -> Option<Kind> {
        let writes = self.queue.writes_since_sync;
        if writes == 0 {
            return None;
        }
        let is_due = |every: u64| every > 0 && self.limits.writes_begun.is_multiple_of(every);
        let kind = if is_due(self.job.fsync) {
            Kind::Sync
        } else if is_due(self.job.fdatasync) {
            Kind::DataSync
        } else {
            return None;
        };
        self.queue.writes_since_sync = 0;
        Some(kind)
    }

    /// Reading or writing, when the rate lets it; `None` where the thread ends meanwhile.
    #[inline]
    fn next_direction(&mut self) -> Result<Option<Direction>, Failure> {
        let rw = self.job.rw;
        let is_mixed = rw.reads() && rw.writes();
        let direction = match (rw.reads(), rw.writes()) {
            (true, true) => match self.mix.below(100) < u64::from(self.job.rwmix_read_percent) {
                true => Direction::Read,
                false => Direction::Write,
            },
            (_, true) => Direction::Write,
            _ => Direction::Read,
        };
        let Some(pacer) = &self.pacer else {
            return Ok(Some(direction));
        };
        let (direction, next_ns) = Wait::allowed(pacer, direction, is_mixed, self.now_ns);
        if next_ns <= self.now_ns {
            return Ok(Some(direction));
        }
        self.drain()?;
        let until_ns = next_ns.min(self.limits.ends_ns());
        self.now_ns = Wait::until(until_ns, self.control, self.clock);
        let is_over = self.control.is_stopped() || self.limits.is_over(self.now_ns);
        Ok((!is_over).then_some(direction))
    }

    /// Queues an I/O on a free slot, and submits when a batch is full.
    #[inline]
    fn begin(&mut self, kind: Kind, block: Option<Block>) -> Result<(), Failure> {
        let Some(number) = self.queue.free.pop() else {
            return Err(Failure::broken());
        };
        let block = block.unwrap_or(Block {
            file: 0,
            offset: 0,
            length: 0,
        });
        let request = Request {
            kind,
            offset: block.offset,
            length: usize::try_from(block.length).unwrap_or(usize::MAX),
            file: block.file,
        };
        if kind == Kind::Write && self.content.changes() {
            let buffer = self.engine.buffer_mut(number);
            let part = buffer.get_mut(..request.length).unwrap_or_default();
            self.content.before_write(part, block.offset, self.now_ns);
        }
        self.count_begun(kind, block.length);
        let started_ns = self.clock.now_ns();
        let Some(slot) = self.queue.slots.get_mut(number) else {
            return Err(Failure::broken());
        };
        *slot = Slot {
            request,
            length: block.length,
            started_ns,
            issued_ns: started_ns,
        };
        if let Err(error) = self.engine.queue(number, &request) {
            self.queue.free.push(number);
            return Err(Failure::of(&request, &error));
        }
        if self.is_synchronous {
            self.recorder.at_depth(1, 1);
            self.recorder.submitted(1);
            return Ok(());
        }
        self.queue.unsubmitted.push(number);
        if self.queue.unsubmitted.len() >= self.queue.batch_submit {
            self.submit()?;
        }
        Ok(())
    }

    #[inline]
    fn count_begun(&mut self, kind: Kind, bytes: u64) {
        let direction = match kind {
            Kind::Read => Direction::Read,
            Kind::Write => Direction::Write,
            Kind::Sync | Kind::DataSync => return,
        };
        if direction == Direction::Write {
            self.queue.writes_since_sync += 1;
        }
        self.limits.begun(direction, bytes);
        if let Some(pacer) = &mut self.pacer {
            pacer.begun(direction, bytes);
        }
    }

    #[inline]
    fn submit(&mut self) -> Result<(), Failure> {
        let queued = self.queue.unsubmitted.len();
        if queued == 0 {
            return Ok(());
        }
        self.recorder.at_depth(self.queue.under_way(), queued);
        let mut taken = self
            .engine
            .submit()
            .map_err(|error| Failure::at("submitting", &error))?;
        self.recorder.submitted(taken);
        while taken < queued {
            // The kernel is short of memory or wants completions to be reaped.
            self.complete(0)?;
            std::thread::yield_now();
            taken += self
                .engine
                .submit()
                .map_err(|error| Failure::at("submitting", &error))?;
        }
        self.now_ns = self.clock.now_ns();
        for number in self.queue.unsubmitted.drain(..) {
            if let Some(slot) = self.queue.slots.get_mut(number) {
                slot.issued_ns = self.now_ns;
            }
        }
        Ok(())
    }

    fn complete(&mut self, least: usize) -> Result<(), Failure> {
        self.engine
            .complete(least, &mut self.queue.done)
            .map_err(|error| Failure::at("waiting for completions", &error))
    }

    /// Waits for completions, takes as many as the job takes together and says how many those were.
    #[inline]
    fn take_completions(&mut self) -> Result<usize, Failure> {
        self.submit()?;
        let least = self.queue.batch_complete_least.min(self.queue.under_way());
        let there = self.queue.done.len() - self.queue.taken;
        if there < least {
            self.complete(least - there)?;
        }
        self.now_ns = self.clock.now_ns();
        if self.recorder.ramp_ended(self.now_ns)
            && let Some(pacer) = &mut self.pacer
        {
            pacer.restart(self.now_ns);
        }
        let there = self.queue.done.len() - self.queue.taken;
        let takes = there.min(self.queue.batch_complete_most);
        for _ in 0..takes {
            let Some(completion) = self.queue.done.get_mut(self.queue.taken) else {
                break;
            };
            let number = completion.slot;
            let result = std::mem::replace(&mut completion.result, Ok(0));
            self.queue.taken += 1;
            self.take_one(number, result)?;
        }
        if self.queue.taken == self.queue.done.len() {
            self.queue.done.clear();
            self.queue.taken = 0;
        }
        self.recorder.completed(takes);
        Ok(takes)
    }

    #[inline]
    fn take_one(&mut self, number: usize, result: io::Result<usize>) -> Result<(), Failure> {
        let Some(slot) = self.queue.slots.get_mut(number) else {
            return Err(Failure::broken());
        };
        let times = Times {
            started_ns: slot.started_ns,
            issued_ns: slot.issued_ns,
            done_ns: self.now_ns,
        };
        let done = match result {
            Ok(done) => done,
            Err(error) => {
                let request = slot.request;
                self.queue.free.push(number);
                return Err(Failure::of(&request, &error));
            }
        };
        let direction = match slot.request.kind {
            Kind::Read => Direction::Read,
            Kind::Write => Direction::Write,
            Kind::Sync | Kind::DataSync => {
                self.queue.free.push(number);
                if !self.queue.is_ending {
                    self.recorder.sync_done(times);
                }
                return Ok(());
            }
        };
        if done < slot.request.length {
            return self.go_on_with(number, direction, done);
        }
        let length = slot.length;
        self.queue.free.push(number);
        self.recorder.io_done(direction, length, times);
        Ok(())
    }

    /// Does the rest of an I/O that did less than it was asked to; all of it is one I/O in the end.
    #[cold]
    fn go_on_with(
        &mut self,
        number: usize,
        direction: Direction,
        done: usize,
    ) -> Result<(), Failure> {
        let Some(slot) = self.queue.slots.get_mut(number) else {
            return Err(Failure::broken());
        };
        if done == 0 {
            let request = slot.request;
            self.queue.free.push(number);
            let error = io::Error::from(Errno::IO);
            return Err(Failure::of(&request, &error));
        }
        self.recorder.io_was_short(direction);
        slot.request.offset += done as u64;
        slot.request.length -= done;
        let request = slot.request;
        if let Err(error) = self.engine.queue(number, &request) {
            self.queue.free.push(number);
            return Err(Failure::of(&request, &error));
        }
        self.engine
            .submit()
            .map_err(|error| Failure::at("submitting", &error))?;
        Ok(())
    }

    /// Takes all that is under way; gives the first failure.
    fn drain(&mut self) -> Result<(), Failure> {
        let mut drained = Ok(());
        while self.queue.under_way() > 0 {
            let before = self.queue.under_way();
            let taken = self.take_completions();
            let is_stuck = match taken {
                Ok(taken) => taken == 0,
                Err(_) => self.queue.under_way() == before,
            };
            drained = drained.and(taken.map(drop));
            if is_stuck {
                return drained.and(Err(Failure::broken()));
            }
        }
        drained
    }

    fn sync_all_files(&mut self) -> Result<(), Failure> {
        self.queue.is_ending = true;
        for file in 0..self.files {
            let block = Block {
                file,
                offset: 0,
                length: 0,
            };
            self.begin(Kind::Sync, Some(block))?;
            self.drain()?;
        }
        Ok(())
    }
}
