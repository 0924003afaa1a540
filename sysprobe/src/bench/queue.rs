//! The slots of a thread's engine, and what is under way on them.

use super::job::JobOptions;
use crate::io::{Completion, Kind, Request};

/// The slots and what is under way on them.
pub(super) struct Queue {
    pub(super) slots: Vec<Slot>,
    pub(super) free: Vec<usize>,
    /// Queued since the last submit.
    pub(super) unsubmitted: Vec<usize>,
    /// Completions that the engine gave, and how many of them were taken.
    pub(super) done: Vec<Completion>,
    pub(super) taken: usize,
    /// Most to be submitted, least and most to be taken together.
    pub(super) batch_submit: usize,
    pub(super) batch_complete_least: usize,
    pub(super) batch_complete_most: usize,
    /// A full queue drains to this.
    pub(super) low: usize,
    pub(super) writes_since_sync: u64,
    /// The last syncs are not counted, as in fio.
    pub(super) is_ending: bool,
}

/// A request, and when it was begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) request: Request,
    /// Bytes that it was to do at first.
    pub(super) length: u64,
    pub(super) started_ns: u64,
    pub(super) issued_ns: u64,
}

impl Queue {
    pub(super) fn new(job: &JobOptions, is_synchronous: bool) -> Self {
        let depth = if is_synchronous {
            1
        } else {
            job.iodepth.max(1)
        };
        let slot = Slot {
            request: Request {
                kind: Kind::Read,
                offset: 0,
                length: 0,
                file: 0,
            },
            length: 0,
            started_ns: 0,
            issued_ns: 0,
        };
        let least = job.iodepth_batch_complete_min;
        Queue {
            slots: vec![slot; depth],
            free: (0..depth).rev().collect(),
            unsubmitted: Vec::with_capacity(depth),
            done: Vec::with_capacity(2 * depth),
            taken: 0,
            batch_submit: job.iodepth_batch_submit.clamp(1, depth),
            batch_complete_least: least.clamp(1, depth),
            batch_complete_most: job.iodepth_batch_complete_max.unwrap_or(least).max(1),
            low: job.iodepth_low.unwrap_or(depth),
            writes_since_sync: 0,
            is_ending: false,
        }
    }

    pub(super) fn depth(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn under_way(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}
