//! Group commit: the records of concurrent commits become one block, one durable write.
//!
//! Submitting assigns the commit sequence and queues the record; the [`Committer`], on a thread of its own, takes all
//! that is queued, writes it as one block, applies the deltas to the DeltaCache in order, and makes them visible. While
//! it writes, the next block gathers.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::format::{RECORD_HEADER_SIZE_BYTES, RecordHeader, RecordKind, hash_body};
use super::segment::SegmentWriter;
use crate::cache::record_store::RecordEntry;
use crate::codec::len_u32;
use crate::database::Shared;
use crate::error::{Error, Result};

/// Most bytes that wait to be written; past it, submitting waits.
const QUEUE_SIZE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most bytes of records in one block, unless one record alone is larger.
const BLOCK_SIZE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a submitted record is waited for by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    /// The record's commit sequence; that of the delta before it for a record that is no delta.
    pub(crate) seq: u64,
    /// Counts all records of this process.
    number: u64,
}

#[derive(Debug)]
pub(crate) struct CommitQueue {
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

#[derive(Debug)]
struct Queued {
    ticket: Ticket,
    header: RecordHeader,
    body: Arc<[u8]>,
}

impl CommitQueue {
    pub(crate) fn new(last_seq: u64) -> Self {
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
            state: Mutex::new(state),
            submitted: Condvar::new(),
            taken: Condvar::new(),
            done: Condvar::new(),
        }
    }

    /// Queues a record; waits only while the queue is full.
    pub(crate) fn submit(
        &self,
        shared: &Shared,
        kind: RecordKind,
        body: Vec<u8>,
    ) -> Result<Ticket> {
        let body_size_bytes = u32::try_from(body.len()).map_err(|_| {
            Error::Usage(format!(
                "a transaction of {} bytes, at most 4 GiB are supported; split it",
                body.len()
            ))
        })?;
        let body_hash = hash_body(&body, shared.database_id);
        let body: Arc<[u8]> = body.into();
        let mut state = self.state.lock();
        while state.failed.is_none() && state.waiting_bytes > QUEUE_SIZE_BYTES_MAX {
            self.taken.wait(&mut state);
        }
        if let Some(reason) = &state.failed {
            return Err(Error::Poisoned(reason.clone()));
        }
        assert!(
            !state.closing,
            "a database that is being closed has no writers left"
        );
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
    fn take(&self) -> Option<Vec<Queued>> {
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
            && (taken.is_empty() || size_bytes + record.body.len() <= BLOCK_SIZE_BYTES_MAX)
        {
            size_bytes += record.body.len();
            taken.extend(state.waiting.pop_front());
        }
        state.waiting_bytes -= size_bytes;
        self.taken.notify_all();
        Some(taken)
    }

    fn finish(&self, number: u64) {
        self.state.lock().done_number = number;
        self.done.notify_all();
    }

    fn fail(&self, reason: &str) {
        let mut state = self.state.lock();
        state.failed.get_or_insert_with(|| reason.to_owned());
        state.waiting.clear();
        self.done.notify_all();
        self.taken.notify_all();
    }
}

/// The one writer of the log.
#[derive(Debug)]
pub(crate) struct Committer {
    shared: Arc<Shared>,
    writer: SegmentWriter,
}

impl Committer {
    pub(crate) fn new(shared: Arc<Shared>, writer: SegmentWriter) -> Self {
        Committer { shared, writer }
    }

    /// Commits until the queue is closed or a write fails.
    pub(crate) fn run(mut self) {
        while let Some(records) = self.shared.queue.take() {
            if let Err(error) = self.commit(&records) {
                let reason = error.to_string();
                tracing::error!(%reason, "the database stops taking writes");
                self.shared.queue.fail(&reason);
                self.shared.pins.stop(&reason);
                return;
            }
        }
        if let Err(error) = self.writer.seal(&self.shared.records) {
            tracing::warn!(%error, "the log could not be sealed");
        }
        self.shared.pins.stop("the database was closed");
    }

    fn commit(&mut self, records: &[Queued]) -> Result<()> {
        let size_bytes = records
            .iter()
            .map(|record| RECORD_HEADER_SIZE_BYTES + record.body.len())
            .sum();
        let mut body = Vec::with_capacity(size_bytes);
        for record in records {
            record.header.encode(&mut body);
            body.extend_from_slice(&record.body);
        }
        let place = self
            .writer
            .append(&body, len_u32(records.len()), &self.shared.records)?;
        let mut offset = place.body_offset;
        for record in records {
            if record.header.kind == RecordKind::Delta {
                let entry = RecordEntry {
                    segment: place.segment,
                    offset,
                    body_size_bytes: record.header.body_size_bytes,
                };
                let applied =
                    self.shared
                        .apply_delta(record.ticket.seq, entry, record.body.clone());
                applied.map_err(|malformed| {
                    Error::Usage(format!("a delta of our own is malformed: {}", malformed.0))
                })?;
                self.shared.pins.publish(record.ticket.seq);
            }
            offset += (RECORD_HEADER_SIZE_BYTES + record.body.len()) as u64;
        }
        if let Some(last) = records.last() {
            self.shared.queue.finish(last.ticket.number);
        }
        Ok(())
    }
}
