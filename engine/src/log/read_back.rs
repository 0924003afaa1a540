//! Reading single records of the log again while it goes on, by the blocks that they are in.

use std::ops::RangeInclusive;
use std::sync::Arc;

use uuid::Uuid;

use super::format::{
    BLOCK_HEADER_SIZE_BYTES, BlockHeader, RECORD_HEADER_SIZE_BYTES, RecordHeader, RecordKind,
    SEGMENT_HEADER_SIZE_BYTES,
};
use super::segments::{LogSegments, OpenSegment};
use crate::codec::Malformed;
use crate::error::{Error, Result};

/// The log of a database, to be read from where it is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogReader<'a> {
    pub(crate) segments: &'a LogSegments,
    pub(crate) database_id: Uuid,
}

impl LogReader<'_> {
    /// Hands out the bodies of all records of a kind in some blocks, in their order. The log has to hold them all, and blocks of
    /// others are stepped over.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Corrupt`] for what does not verify; or what `take` answers, whose errors those become.
    pub(crate) fn each_record<E: From<Error>>(
        &self,
        kind: RecordKind,
        blocks: RangeInclusive<u64>,
        mut take: impl FnMut(Arc<[u8]>) -> Result<(), E>,
    ) -> Result<(), E> {
        let gone = || Error::Usage(format!("the log does not hold block {}", blocks.start()));
        let held = self.segments.hold();
        let start = self.segments.start_of(*blocks.start()).ok_or_else(gone)?;
        let segments = held.segments_from(start);
        let mut block_number = start.block_number;
        let mut following = segments.iter().skip(1);
        for segment in &segments {
            let next_segment = following.next().map(|next| next.first_block_number);
            let last = next_segment.map_or(*blocks.end(), |next| (next - 1).min(*blocks.end()));
            let mut offset = SEGMENT_HEADER_SIZE_BYTES as u64;
            while block_number <= last {
                let block = Block::read(segment, self.database_id, offset, block_number)?;
                if blocks.contains(&block_number) {
                    block.each_record(kind, self.database_id, &mut take)?;
                }
                offset = block.end;
                block_number += 1;
            }
        }
        match block_number > *blocks.end() {
            true => Ok(()),
            false => Err(gone().into()),
        }
    }
}

/// A block of a segment.
struct Block<'s> {
    segment: &'s OpenSegment,
    start: u64,
    end: u64,
}

impl<'s> Block<'s> {
    fn read(segment: &'s OpenSegment, database_id: Uuid, start: u64, number: u64) -> Result<Self> {
        let bytes: [u8; BLOCK_HEADER_SIZE_BYTES] = read(segment, start)?;
        let header = BlockHeader::decode(&bytes, database_id);
        let header = header.map_err(|malformed| corrupt(segment, start, malformed))?;
        if header.block_number != number {
            return Err(corrupt(
                segment,
                start,
                Malformed("another block lies here"),
            ));
        }
        let end = start + BLOCK_HEADER_SIZE_BYTES as u64 + header.body_size_bytes;
        Ok(Block {
            segment,
            start,
            end,
        })
    }

    fn each_record<E: From<Error>>(
        &self,
        kind: RecordKind,
        database_id: Uuid,
        take: &mut impl FnMut(Arc<[u8]>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut offset = self.start + BLOCK_HEADER_SIZE_BYTES as u64;
        while offset < self.end {
            let corrupt = |malformed| corrupt(self.segment, offset, malformed);
            let bytes: [u8; RECORD_HEADER_SIZE_BYTES] = read(self.segment, offset)?;
            let header = RecordHeader::decode(&bytes).map_err(corrupt)?;
            let body_start = offset + RECORD_HEADER_SIZE_BYTES as u64;
            let body_end = body_start + u64::from(header.body_size_bytes);
            if body_end > self.end {
                return Err(corrupt(Malformed("record ends early")).into());
            }
            if header.kind == kind {
                let mut body = vec![0; header.body_size_bytes as usize];
                fill(self.segment, &mut body, body_start)?;
                header.verify(&body, database_id).map_err(corrupt)?;
                take(body.into())?;
            }
            offset = body_end;
        }
        Ok(())
    }
}

fn read<const SIZE: usize>(segment: &OpenSegment, offset: u64) -> Result<[u8; SIZE]> {
    let mut bytes = [0; SIZE];
    fill(segment, &mut bytes, offset)?;
    Ok(bytes)
}

fn fill(segment: &OpenSegment, bytes: &mut [u8], offset: u64) -> Result<()> {
    let filled = segment.file.read_exact_at(bytes, offset);
    filled.map_err(|source| Error::io("read", &segment.path, source))
}

fn corrupt(segment: &OpenSegment, offset: u64, malformed: Malformed) -> Error {
    Error::Corrupt {
        path: segment.path.clone(),
        offset,
        reason: malformed.0.to_owned(),
    }
}
