//! Segments of the DeltaLog: what was written is read back, and whatever is damaged, never anything else than that.

use std::path::Path;
use std::sync::LazyLock;

use super::input::{Input, damaged};
use super::{DATABASE, noise};
use crate::codec::Malformed;
use crate::error::Error;
use crate::io::{Io, OpenMode, SimulatedIo};
use crate::layout::Layout;
use crate::log::format::{
    BLOCK_HEADER_SIZE_BYTES, BlockHeader, RecordHeader, RecordKind, SEGMENT_HEADER_SIZE_BYTES,
    SEGMENT_VERSION, SegmentHeader, hash_body,
};
use crate::log::recovery::{LogFolder, LogReplay, replay_log};
use crate::log::segment::segment_path;
use crate::log::segments::{LogStart, OpenSegment};
use crate::profile::StoredProfile;

const KINDS: [RecordKind; 6] = [
    RecordKind::Delta,
    RecordKind::Table,
    RecordKind::TableAltered,
    RecordKind::ExportKeys,
    RecordKind::ExportPrepared,
    RecordKind::ExportResolved,
];
static LAYOUT: LazyLock<Layout> =
    LazyLock::new(|| Layout::of(&StoredProfile::safe_defaults("fuzzing")));

pub(super) fn seeds() -> Vec<Vec<u8>> {
    noise(24, 96)
}

/// A record as it is compared: number of its block, kind, sequence, body.
type Record = (u64, RecordKind, u64, Vec<u8>);

/// A block, by where its bytes lie in which segment.
#[derive(Debug)]
struct Block {
    segment: usize,
    start: usize,
    number: u64,
    durable_number: u64,
}

#[derive(Debug, Default)]
struct Log {
    segments: Vec<Vec<u8>>,
    blocks: Vec<Block>,
    records: Vec<Record>,
}

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let log = Log::of(&mut input);
    let mut segments = log.segments.clone();
    let last = segments.len() - 1;
    // Behind the end there may be zeros, which the next blocks would have replaced.
    let padded_len = segments[last].len() + input.below(3) * 40;
    segments[last].resize(padded_len, 0);
    let which = input.below(segments.len());
    let before = segments[which].clone();
    for _ in 0..input.below(4) {
        segments[which] = damaged(&segments[which], &mut input);
    }
    let is_damaged = before != segments[which];
    let io = SimulatedIo::new(1);
    put(&io, &segments);
    let read = replay(&io, false);
    let Ok(found) = read else {
        assert!(is_damaged, "a log that nothing happened to: {read:?}");
        return;
    };
    log.check(&found, which, is_damaged, &segments);
    // What a start leaves is what it found, and nothing else is ever found in it.
    assert_eq!(replay(&io, true).unwrap(), found);
    assert_eq!(replay(&io, true).unwrap(), found);
}

impl Log {
    fn of(input: &mut Input<'_>) -> Self {
        let mut log = Log::default();
        let (mut number, mut seq, mut durable_number) = (0, 0, 0);
        for segment in 0..1 + input.below(2) {
            let header = SegmentHeader {
                version: SEGMENT_VERSION,
                database_id: DATABASE,
                segment_number: segment as u64 + 1,
            };
            let mut bytes = header.encode();
            for _ in 0..input.below(4) {
                number += 1;
                // The first block of a segment is written when those before it are durable.
                durable_number = match input.bool() || bytes.len() == SEGMENT_HEADER_SIZE_BYTES {
                    true => number - 1,
                    false => durable_number,
                };
                log.blocks.push(Block {
                    segment,
                    start: bytes.len(),
                    number,
                    durable_number,
                });
                log.put_block(input, number, durable_number, &mut seq, &mut bytes);
            }
            log.segments.push(bytes);
        }
        log
    }

    fn put_block(
        &mut self,
        input: &mut Input<'_>,
        number: u64,
        durable_number: u64,
        seq: &mut u64,
        out: &mut Vec<u8>,
    ) {
        let mut body = Vec::new();
        let record_count = input.below(4);
        for _ in 0..record_count {
            *seq += 1;
            let kind = KINDS[input.below(KINDS.len())];
            let record = match input.below(4) {
                // A row may hold bytes of this very log.
                0 => out[input.place(out.len())..]
                    .iter()
                    .copied()
                    .take(200)
                    .collect(),
                _ => input.bytes(40).to_vec(),
            };
            let hash = hash_body(&record, DATABASE);
            RecordHeader::new(kind, record.len() as u32, *seq, hash).encode(&mut body);
            body.extend_from_slice(&record);
            self.records.push((number, kind, *seq, record));
        }
        let header = BlockHeader {
            block_number: number,
            durable_block_number: durable_number,
            flushed_seq: 0,
            body_size_bytes: body.len() as u64,
            record_count: record_count as u32,
        };
        header.encode(DATABASE, out);
        out.extend_from_slice(&body);
    }

    /// What was found is the beginning of what was written, and nothing is missing that a later block calls durable.
    fn check(&self, found: &Found, which: usize, is_damaged: bool, segments: &[Vec<u8>]) {
        let block_count = found.last_block_number;
        let expected = self.records.iter().filter(|record| record.0 <= block_count);
        assert!(expected.eq(&found.records), "{found:?} of {self:?}");
        if !is_damaged {
            assert_eq!(block_count, self.blocks.len() as u64);
        }
        // Where one follows without a block, nothing tells that blocks at the end were cut off.
        let is_cut = self.segments[which].starts_with(&segments[which]);
        let has_blocks = self.blocks.iter().any(|block| block.segment == which + 1);
        let is_followed = which + 1 < segments.len() && (has_blocks || !is_cut);
        assert!(
            !is_damaged || !is_followed,
            "damage before another segment: {self:?}"
        );
        let is_missing = |block: &&Block| block.number > block_count;
        for block in self.blocks.iter().filter(is_missing) {
            let end = block.start + BLOCK_HEADER_SIZE_BYTES;
            let original = &self.segments[block.segment][block.start..end];
            let is_whole = segments[block.segment].get(block.start..end) == Some(original);
            // The first that is missing says nothing of those behind it.
            if is_whole && block.number > block_count + 1 {
                assert!(block.durable_number <= block_count, "{found:?} of {self:?}");
            }
        }
    }
}

fn put(io: &SimulatedIo, segments: &[Vec<u8>]) {
    io.create_folder(folder()).unwrap();
    for (number, bytes) in (1..).zip(segments) {
        let file = io.open(&segment_path(folder(), number), OpenMode::CreateNew);
        file.unwrap().write_all_at(bytes, 0).unwrap();
    }
}

fn folder() -> &'static Path {
    Path::new("/log")
}

/// What a start found.
#[derive(Debug, Default, PartialEq)]
struct Found {
    records: Vec<Record>,
    last_block_number: u64,
}

impl LogReplay for Found {
    fn segment(&mut self, _segment: &OpenSegment) {}

    fn record(
        &mut self,
        block_number: u64,
        header: RecordHeader,
        body: &[u8],
    ) -> Result<(), Malformed> {
        // As a start does with deltas, whose sequences have no gaps: a block does not say which records are its own.
        let before = self.records.last().map_or(0, |record| record.2);
        if header.seq != before + 1 {
            return Err(Malformed("a sequence is missing before this record"));
        }
        self.records
            .push((block_number, header.kind, header.seq, body.to_vec()));
        Ok(())
    }

    fn block_end(&mut self, _block_number: u64) {}
}

fn replay(io: &SimulatedIo, repair: bool) -> Result<Found, Error> {
    let log = LogFolder {
        io,
        folder: folder(),
        database_id: DATABASE,
        layout: &LAYOUT,
        start: LogStart {
            segment_number: 1,
            block_number: 1,
        },
        flushed_seq: u64::MAX,
    };
    let mut found = Found::default();
    found.last_block_number = replay_log(&log, repair, &mut found)?.last_block_number;
    Ok(found)
}
