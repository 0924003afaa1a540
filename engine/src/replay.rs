//! Rebuilding the DeltaCache from the log after a start.

use std::collections::HashMap;

use uuid::Uuid;

use crate::cache::record_store::{OpenSegment, RecordEntry};
use crate::cache::table::{ExportEffect, TableState};
use crate::codec::Malformed;
use crate::export::PendingRecord;
use crate::log::fact::{ExportKeys, ExportPrepared, ExportResolved, decode_table};
use crate::log::format::{RecordHeader, RecordKind};
use crate::log::recovery::LogReplay;
use crate::shared::{Shared, Table};

/// Takes the log's records in order and leaves the shared state as it was.
#[derive(Debug)]
pub(crate) struct Replay<'a> {
    shared: &'a Shared,
    /// Keys of exports that are not prepared yet: (placed, cleared).
    keys: HashMap<Uuid, Keys>,
    pending: Vec<PendingRecord>,
    pub(crate) last_seq: u64,
}

#[derive(Debug, Default)]
struct Keys {
    placed: Vec<Box<[u8]>>,
    cleared: Vec<Box<[u8]>>,
}

impl<'a> Replay<'a> {
    pub(crate) fn new(shared: &'a Shared) -> Self {
        Replay {
            shared,
            keys: HashMap::new(),
            pending: Vec::new(),
            last_seq: 0,
        }
    }

    /// Ends the replay: what was prepared and not resolved is pending.
    pub(crate) fn finish(self) -> u64 {
        for record in self.pending {
            self.shared.add_pending(record);
        }
        self.last_seq
    }

    fn delta(&mut self, entry: RecordEntry, seq: u64, body: &[u8]) -> Result<(), Malformed> {
        if seq != self.last_seq + 1 {
            return Err(Malformed("a commit sequence is missing before this delta"));
        }
        self.shared.apply_delta(seq, entry, body.into())?;
        self.shared.pins.publish(seq, true);
        self.last_seq = seq;
        Ok(())
    }

    fn table(&mut self, body: &[u8]) -> Result<(), Malformed> {
        let (id, schema) = decode_table(body)?;
        if id as usize != self.shared.tables.read().len() {
            return Err(Malformed("a table is missing before this one"));
        }
        self.shared.add_table(TableState::new(
            self.shared.database_id,
            id,
            schema,
            self.shared.shard_bits,
        ));
        Ok(())
    }

    fn prepared(&mut self, body: &[u8]) -> Result<(), Malformed> {
        let prepared = ExportPrepared::decode(body)?;
        let table = self
            .shared
            .tables
            .read()
            .get(prepared.table_id as usize)
            .cloned();
        let keys = self.keys.remove(&prepared.commit_id).unwrap_or_default();
        let row_count: u64 = prepared.files.iter().map(|file| file.row_count).sum();
        if row_count != keys.placed.len() as u64 {
            return Err(Malformed(
                "an export of another number of rows than its files hold",
            ));
        }
        self.pending.push(PendingRecord {
            table: Table {
                state: table.ok_or(Malformed("an export of an unknown table"))?,
            },
            commit_id: prepared.commit_id,
            from_seq: prepared.from_seq,
            effect: ExportEffect {
                to_seq: prepared.to_seq,
                files: prepared.files,
                placed: keys.placed,
                cleared: keys.cleared,
            },
            settling: false,
        });
        Ok(())
    }

    fn resolved(&mut self, body: &[u8]) -> Result<(), Malformed> {
        let resolved = ExportResolved::decode(body)?;
        let i = self
            .pending
            .iter()
            .position(|record| record.commit_id == resolved.commit_id);
        let record = self
            .pending
            .remove(i.ok_or(Malformed("the outcome of an export that was not prepared"))?);
        if let Some(token) = resolved.token {
            record
                .table
                .state
                .apply_export(&record.effect, token, self.shared.pins.horizon_seq());
        }
        Ok(())
    }
}

impl LogReplay for Replay<'_> {
    fn segment(&mut self, segment: &OpenSegment) {
        self.shared.records.add_segment(segment.clone());
    }

    fn record(
        &mut self,
        entry: RecordEntry,
        header: RecordHeader,
        body: &[u8],
    ) -> Result<(), Malformed> {
        match header.kind {
            RecordKind::Delta => self.delta(entry, header.seq, body),
            RecordKind::Table => self.table(body),
            RecordKind::ExportKeys => {
                let record = ExportKeys::decode(body)?;
                let keys = self.keys.entry(record.commit_id).or_default();
                let list = if record.cleared {
                    &mut keys.cleared
                } else {
                    &mut keys.placed
                };
                list.extend(record.keys.into_iter().map(Box::from));
                Ok(())
            }
            RecordKind::ExportPrepared => self.prepared(body),
            RecordKind::ExportResolved => self.resolved(body),
        }
    }
}
