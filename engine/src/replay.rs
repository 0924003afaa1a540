//! Rebuilding the DeltaCache after a start from the part of the log that the fragment tree does not hold.

use std::sync::Arc;

use crate::codec::Malformed;
use crate::error::Error;
use crate::facts::Untaken;
use crate::log::delta::encode_delta;
use crate::log::format::{RecordHeader, RecordKind};
use crate::log::recovery::LogReplay;
use crate::log::segments::OpenSegment;
use crate::shared::Shared;

/// Takes the log's records in order and leaves the shared state as it was.
#[derive(Debug)]
pub(crate) struct Replay<'a> {
    shared: &'a Shared,
    /// The deltas up to it are in the tree.
    flushed_seq: u64,
    /// What other records say up to this block is in the tree, but for exports without an outcome.
    facts_through_block: u64,
    pub(crate) last_seq: u64,
    /// The last delta without rows, which may be of a bulk load.
    pub(crate) last_empty_seq: u64,
    empty_delta: Arc<[u8]>,
    /// Why the log could not be read again for a record.
    unread: Option<Error>,
}

impl<'a> Replay<'a> {
    pub(crate) fn new(shared: &'a Shared, flushed_seq: u64, facts_through_block: u64) -> Self {
        Replay {
            shared,
            flushed_seq,
            facts_through_block,
            last_seq: flushed_seq,
            last_empty_seq: 0,
            empty_delta: encode_delta(None, &[], 0),
            unread: None,
        }
    }

    /// The error that a replay ended with, in place of `error` which it gave for that.
    pub(crate) fn cause(&mut self, error: Error) -> Error {
        self.unread.take().unwrap_or(error)
    }

    fn taken(&mut self, taken: Result<(), Untaken>) -> Result<(), Malformed> {
        taken.map_err(|untaken| match untaken {
            Untaken::Malformed(malformed) => malformed,
            Untaken::Unread(error) => {
                self.unread = Some(error);
                Malformed("the log could not be read again")
            }
        })
    }

    fn contained(
        &self,
        header: RecordHeader,
        block_number: u64,
        body: &[u8],
    ) -> Result<(), Untaken> {
        let facts = &self.shared.facts;
        match header.kind {
            RecordKind::Delta | RecordKind::Table | RecordKind::TableAltered => {}
            RecordKind::ExportKeys => facts.keys(block_number, body.into())?,
            RecordKind::ExportPrepared => {
                facts.prepared(block_number, body, true, |id| self.shared.table_state(id))?;
            }
            RecordKind::ExportResolved => self.shared.resolve(body, true)?,
        }
        Ok(())
    }
}

impl LogReplay for Replay<'_> {
    fn segment(&mut self, segment: &OpenSegment) {
        self.shared.segments.add(segment.clone());
    }

    fn record(
        &mut self,
        block_number: u64,
        header: RecordHeader,
        body: &[u8],
    ) -> Result<(), Malformed> {
        if block_number <= self.facts_through_block {
            if header.kind == RecordKind::Delta && header.seq > self.flushed_seq {
                return Err(Malformed("a delta lies before those that were flushed"));
            }
            let taken = self.contained(header, block_number, body);
            return self.taken(taken);
        }
        let is_delta = header.kind == RecordKind::Delta;
        if is_delta && header.seq != self.last_seq + 1 {
            return Err(Malformed("a commit sequence is missing before this delta"));
        }
        let taken = self.shared.apply(block_number, header, &body.into());
        self.taken(taken)?;
        if is_delta {
            self.shared.pins.publish(header.seq, true);
            self.last_seq = header.seq;
            if *body == *self.empty_delta {
                self.last_empty_seq = header.seq;
            }
        }
        self.shared.generations.note_logged(body.len() as u64);
        Ok(())
    }

    fn block_end(&mut self, block_number: u64) {
        if block_number > self.facts_through_block && !self.shared.read_only {
            self.shared.freeze_if_full(block_number);
        }
    }
}
