//! Group commit: the records of concurrent commits become one block, one durable write.
//!
//! Submitting assigns the commit sequence and queues the record. The committer takes all that is queued for one block;
//! while it writes that, the next block gathers.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use uuid::Uuid;

use super::format::{RecordHeader, RecordKind, hash_body};
use crate::error::{Error, Result};
use crate::layout::Layout;

/// What a submitted record is waited for by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    /// The record's commit sequence; that of the delta before it for a record that is no delta.
    pub(crate) seq: u64,
    /// Counts all records of this process.
    pub(crate) number: u64,
}

#[derive(Debug)]
pub(crate) struct CommitQueue {
    database_id: Uuid,
    /// Most bytes that wait to be written; past it, submitting waits.
    queue_size_bytes_max: usize,
    /// Most bytes of records in one block, unless one record alone is larger.
    block_size_bytes_max: usize,
    state: Mutex<State>,
    submitted: Condvar,
    taken: Condvar,
    done: Condvar,
}

#[derive(Debug)]
struct State {
    waiting: VecDeque<Queued>,
    waiting_bytes: usize,
    last_seq: u64,
    last_number: u64,
    done_number: u64,
    closing: bool,
    failed: Option<String>,
}

/// A record that waits to be written.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) ticket: Ticket,
    pub(crate) header: RecordHeader,
    pub(crate) body: Arc<[u8]>,
}

impl CommitQueue {
    pub(crate) fn new(database_id: Uuid, last_seq: u64, layout: &Layout) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            last_seq,
            last_number: 0,
            done_number: 0,
            closing: false,
            failed: None,
        };
        CommitQueue {
            database_id,
            queue_size_bytes_max: layout.commit_queue_size_bytes.as_usize(),
            block_size_bytes_max: layout.commit_block_size_bytes.as_usize(),
            state: Mutex::new(state),
            submitted: Condvar::new(),
            taken: Condvar::new(),
            done: Condvar::new(),
        }
    }

    /// Queues a record; waits only while the queue is full.
    pub(crate) fn submit(&self, kind: RecordKind, body: Vec<u8>) -> Result<Ticket> {
        let body_size_bytes = u32::try_from(body.len()).map_err(|_| {
            Error::Usage(format!(
                "a transaction of {} bytes, at most 4 GiB are supported; split it",
                body.len()
            ))
        })?;
        let body_hash = hash_body(&body, self.database_id);
        let body: Arc<[u8]> = body.into();
        let mut state = self.state.lock();
        while state.failed.is_none() && state.waiting_bytes > self.queue_size_bytes_max {
            self.taken.wait(&mut state);
        }
        if let Some(reason) = &state.failed {
            return Err(Error::Poisoned(reason.clone()));
        }
        if state.closing {
            // An export that outlives its database.
            return Err(Error::Usage("the database is closed".into()));
        }
        if kind == RecordKind::Delta {
            state.last_seq += 1;
        }
        state.last_number += 1;
        let ticket = Ticket {
            seq: state.last_seq,
            number: state.last_number,
        };
        let header = RecordHeader::new(kind, body_size_bytes, ticket.seq, body_hash);
        state.waiting_bytes += body.len();
        state.waiting.push_back(Queued {
            ticket,
            header,
            body,
        });
        self.submitted.notify_one();
        Ok(ticket)
    }

    /// Waits until a submitted record is durable and, if it is a delta, visible.
    pub(crate) fn wait(&self, ticket: Ticket) -> Result<()> {
        let mut state = self.state.lock();
        while state.done_number < ticket.number {
            if let Some(reason) = &state.failed {
                return Err(Error::Poisoned(reason.clone()));
            }
            self.done.wait(&mut state);
        }
        Ok(())
    }

    /// Why writing stopped, if it did.
    pub(crate) fn failure(&self) -> Option<String> {
        self.state.lock().failed.clone()
    }

    /// Lets the committer end once the queue is empty.
    pub(crate) fn close(&self) {
        self.state.lock().closing = true;
        self.submitted.notify_one();
    }

    /// Waits for records and takes as many as fit a block; `None` once the queue is closed and empty.
    pub(crate) fn take(&self) -> Option<Vec<Queued>> {
        let mut state = self.state.lock();
        while state.waiting.is_empty() {
            if state.closing {
                return None;
            }
            self.submitted.wait(&mut state);
        }
        let mut taken = Vec::new();
        let mut size_bytes = 0;
        while let Some(record) = state.waiting.front()
            && (taken.is_empty() || size_bytes + record.body.len() <= self.block_size_bytes_max)
        {
            size_bytes += record.body.len();
            taken.extend(state.waiting.pop_front());
        }
        state.waiting_bytes -= size_bytes;
        self.taken.notify_all();
        Some(taken)
    }

    /// Says that everything up to that record is durable and applied.
    pub(crate) fn finish(&self, number: u64) {
        self.state.lock().done_number = number;
        self.done.notify_all();
    }

    /// Ends writing, and says why.
    pub(crate) fn fail(&self, reason: &str) {
        let mut state = self.state.lock();
        state.failed.get_or_insert_with(|| reason.to_owned());
        state.waiting.clear();
        self.done.notify_all();
        self.taken.notify_all();
    }
}
