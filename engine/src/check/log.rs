//! The log behind what the tree holds.

use std::path::{Path, PathBuf};

use super::Checking;
use super::tree::NamedState;
use crate::codec::Malformed;
use crate::codec::key::hash_key;
use crate::error::{Error, Result};
use crate::io::OpenMode;
use crate::log::delta::{TablePart, decode_delta};
use crate::log::export_keys::ExportKeys;
use crate::log::fact::{ExportPrepared, ExportResolved, decode_table};
use crate::log::format::{
    BLOCK_HEADER_SIZE_BYTES, BlockHeader, RecordHeader, RecordKind, SEGMENT_HEADER_SIZE_BYTES,
};
use crate::log::recovery::{LogFolder, LogReplay, replay_log};
use crate::log::segment::segment_number;
use crate::log::segments::LogStart;
use crate::log::segments::OpenSegment;
use crate::recovery::log_folder;

impl Checking<'_> {
    /// Checks the segments from the log start on.
    pub(super) fn check_log(&self, state: &NamedState) -> Result<()> {
        let folder = log_folder(self.folder);
        let files = self.io.list(&folder);
        let files = files.map_err(|source| Error::io("list", &folder, source))?;
        let mut segments: Vec<(u64, PathBuf)> = files
            .into_iter()
            .filter_map(|path| Some((segment_number(&path)?, path)))
            .collect();
        segments.sort();
        let (mut start, mut flushed_seq) = (state.log_start, state.flushed_seq);
        if state.flushed_seq == 0
            && state.tables.is_empty()
            && let Some((first, path)) = segments.first()
        {
            // Where the edits can't be read, from the first that there is.
            start = self.start_at(*first, path).unwrap_or(start);
            flushed_seq = u64::MAX;
        }
        let needed = segments.partition_point(|(number, _)| *number < start.segment_number);
        let unnamed = segments.drain(..needed).map(|(_, path)| path);
        self.found.lock().unnamed_files.extend(unnamed);
        let mut content = Content::new(state);
        let mut last_block_number = None;
        loop {
            let log = LogFolder {
                io: &**self.io,
                folder: &folder,
                database_id: self.database_id,
                layout: &self.layout,
                start,
                flushed_seq,
            };
            match replay_log(&log, false, &mut content) {
                Ok(end) => last_block_number = Some(end.last_block_number),
                Err(error) => self.note(error),
            }
            // Behind what is damaged: from the next segment on that can be begun with.
            let next = content.segment_number.max(start.segment_number) + 1;
            let found = segments.iter().filter(|(number, _)| *number >= next);
            let found = found.filter_map(|(number, path)| self.start_at(*number, path));
            match (
                last_block_number,
                found.min_by_key(|start| start.segment_number),
            ) {
                (None, Some(next)) => start = next,
                _ => break,
            }
            content.last_seq = None;
        }
        if last_block_number.is_some_and(|last| last < state.facts_through_block) {
            self.note(Error::Corrupt {
                path: folder,
                offset: 0,
                reason: "the log ends before what was flushed from it".into(),
            });
        }
        let mut found = self.found.lock();
        found.commit_seq = state.flushed_seq.max(content.last_seq.unwrap_or(0));
        found.log_segments = content.segments;
        found.log_records = content.records;
        found.log_rows = content.rows;
        found.checked_bytes += content.bytes;
        Ok(())
    }

    /// A start of the log at a segment whose first block can be read.
    fn start_at(&self, number: u64, path: &Path) -> Option<LogStart> {
        let mut header = [0; BLOCK_HEADER_SIZE_BYTES];
        let file = self.io.open(path, OpenMode::Read).ok()?;
        let at = SEGMENT_HEADER_SIZE_BYTES as u64;
        file.read_exact_at(&mut header, at).ok()?;
        let block = BlockHeader::decode(&header, self.database_id).ok()?;
        Some(LogStart {
            segment_number: number,
            block_number: block.block_number,
        })
    }
}

/// What the log says, checked as it comes.
struct Content {
    /// The first delta that is not in the tree follows this one, and the others one after the other.
    last_seq: Option<u64>,
    facts_through_block: u64,
    segment_number: u64,
    segments: u64,
    records: u64,
    rows: u64,
    bytes: u64,
}

impl Content {
    fn new(state: &NamedState) -> Self {
        Content {
            last_seq: Some(state.flushed_seq),
            facts_through_block: state.facts_through_block,
            segment_number: 0,
            segments: 0,
            records: 0,
            rows: 0,
            bytes: 0,
        }
    }

    fn delta(&mut self, block_number: u64, seq: u64, body: &[u8]) -> Result<(), Malformed> {
        let delta = decode_delta(body)?;
        for part in &delta.tables {
            check_part(part)?;
            self.rows += part.row_sets.last().map_or(0, |last| last.row_end as u64);
        }
        if block_number <= self.facts_through_block {
            return Ok(());
        }
        if self.last_seq.is_some_and(|last_seq| seq != last_seq + 1) {
            return Err(Malformed("a commit sequence is missing before this delta"));
        }
        self.last_seq = Some(seq);
        Ok(())
    }
}

/// Hashes are those of the keys, and rows sorted by shard and key, each key once.
fn check_part(part: &TablePart<'_>) -> Result<(), Malformed> {
    for row_set in &part.row_sets {
        let mut before: Option<&[u8]> = None;
        for place in row_set.row_start..row_set.row_end {
            let row = part.row(place)?;
            if row.hash != hash_key(row.key) {
                return Err(Malformed("a row's hash is not that of its key"));
            }
            if before.is_some_and(|before| before >= row.key) {
                return Err(Malformed("the rows of a delta are out of order"));
            }
            before = Some(row.key);
        }
    }
    Ok(())
}

impl LogReplay for Content {
    fn segment(&mut self, segment: &OpenSegment) {
        self.segment_number = segment.number;
        self.segments += 1;
        self.bytes += segment.file.len_bytes().unwrap_or(0);
    }

    fn record(
        &mut self,
        block_number: u64,
        header: RecordHeader,
        body: &[u8],
    ) -> Result<(), Malformed> {
        self.records += 1;
        match header.kind {
            RecordKind::Delta => self.delta(block_number, header.seq, body),
            RecordKind::Table | RecordKind::TableAltered => decode_table(body).map(|_| ()),
            RecordKind::ExportKeys => {
                ExportKeys::decode(body.into()).and_then(|keys| keys.seen().map(drop))
            }
            RecordKind::ExportPrepared => ExportPrepared::decode(body).map(|_| ()),
            RecordKind::ExportResolved => ExportResolved::decode(body).map(|_| ()),
        }
    }

    fn block_end(&mut self, _: u64) {}
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::log::delta::{PendingRow, PendingTable, encode_delta};
    use crate::log::format::hash_body;

    /// A delta of such keys, each with a hash that may be another one's.
    fn delta(rows: &[(&str, u64)]) -> Vec<u8> {
        let arena: String = rows.iter().map(|(key, _)| *key).collect();
        let mut end = 0;
        let rows = rows.iter().map(|&(key, hash)| {
            let key_start = end;
            end += key.len();
            PendingRow {
                hash,
                key_start,
                key_end: end,
                value_end: end,
                tombstone: false,
                insert: false,
            }
        });
        let table = PendingTable {
            table_id: 0,
            truncate: false,
            deletes: Vec::new(),
            arena: arena.as_bytes(),
            rows: rows.collect(),
        };
        encode_delta(None, &[table], 0).to_vec()
    }

    fn right(keys: &[&str]) -> Vec<u8> {
        let rows: Vec<_> = keys
            .iter()
            .map(|key| (*key, hash_key(key.as_bytes())))
            .collect();
        delta(&rows)
    }

    fn record(
        content: &mut Content,
        (kind, block_number, seq): (RecordKind, u64, u64),
        body: &[u8],
    ) -> Result<(), &'static str> {
        let hash = hash_body(body, Uuid::nil());
        let header = RecordHeader::new(kind, body.len() as u32, seq, hash);
        let taken = content.record(block_number, header, body);
        taken.map_err(|malformed| malformed.0)
    }

    fn one(body: &[u8]) -> Result<(), &'static str> {
        let mut content = Content::new(&NamedState::default());
        record(&mut content, (RecordKind::Delta, 1, 1), body)
    }

    /// *Honest*: rows that are not found where their hash leads, or not where they stand.
    #[test]
    fn rows_of_a_wrong_hash_or_order_are_named() {
        assert_eq!(one(&right(&["ant", "bee", "cat"])), Ok(()));
        let hash = hash_key(b"ant");
        let found = one(&delta(&[("ant", hash), ("bee", hash)]));
        assert_eq!(found, Err("a row's hash is not that of its key"));
        for keys in [["bee", "ant"], ["ant", "ant"]] {
            let found = one(&right(&keys));
            assert_eq!(found, Err("the rows of a delta are out of order"));
        }
    }

    /// *Atomic*: between two deltas none is missing, and none comes twice.
    #[test]
    fn a_missing_commit_sequence_is_named() {
        let missing = Err("a commit sequence is missing before this delta");
        let mut state = NamedState::default();
        (state.flushed_seq, state.facts_through_block) = (10, 5);
        let body = right(&["ant"]);
        let mut content = Content::new(&state);
        let mut delta = |block_number, seq| {
            let at = (RecordKind::Delta, block_number, seq);
            record(&mut content, at, &body)
        };
        // In a block that the tree holds.
        assert_eq!(delta(5, 9), Ok(()));
        assert_eq!(delta(6, 12), missing);
        assert_eq!(delta(6, 10), missing);
        assert_eq!(delta(6, 11), Ok(()));
        assert_eq!(delta(6, 11), missing);
        assert_eq!(delta(7, 13), missing);
        assert_eq!(delta(7, 12), Ok(()));
    }

    /// *Honest*: a body that is not what its record says.
    #[test]
    fn a_record_of_another_kind_is_named() {
        for kind in [
            RecordKind::Delta,
            RecordKind::Table,
            RecordKind::TableAltered,
            RecordKind::ExportKeys,
            RecordKind::ExportPrepared,
            RecordKind::ExportResolved,
        ] {
            let mut content = Content::new(&NamedState::default());
            let found = record(&mut content, (kind, 1, 1), &[0xff; 5]);
            assert!(found.is_err(), "{kind:?}");
        }
    }
}
