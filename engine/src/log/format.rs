//! The fixed headers of the DeltaLog: segment, block, record.

use uuid::Uuid;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::codec::{Malformed, Reader, encode_file_header, put_u32, put_u64};

/// The version of segments, and of all that is in them, that this build writes.
pub(crate) const SEGMENT_VERSION: u32 = 6;
/// The oldest that it reads.
const SEGMENT_VERSION_MIN: u32 = 1;

pub(crate) const SEGMENT_HEADER_SIZE_BYTES: usize = 48;
pub(crate) const BLOCK_HEADER_SIZE_BYTES: usize = 48;
pub(crate) const RECORD_HEADER_SIZE_BYTES: usize = 24;

const SEGMENT_MAGIC: &[u8; 8] = b"MOONLOG\n";
pub(crate) const BLOCK_MAGIC: &[u8; 4] = b"MBLK";

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordKind {
    /// A transaction's rows.
    Delta,
    /// A table's schema, from this commit sequence on.
    Table,
    /// The next version of a table's schema, from this commit sequence on.
    TableAltered,
    /// Keys of an export, in the order of its files.
    ExportKeys,
    /// An export whose files are written and whose catalog commit is about to be tried.
    ExportPrepared,
    /// The outcome of a prepared export.
    ExportResolved,
}

impl RecordKind {
    fn code(self) -> u32 {
        match self {
            RecordKind::Delta => 1,
            RecordKind::Table => 2,
            RecordKind::ExportKeys => 3,
            RecordKind::ExportPrepared => 4,
            RecordKind::ExportResolved => 5,
            RecordKind::TableAltered => 6,
        }
    }

    fn from_code(code: u32) -> Result<Self, Malformed> {
        Ok(match code {
            1 => RecordKind::Delta,
            2 => RecordKind::Table,
            3 => RecordKind::ExportKeys,
            4 => RecordKind::ExportPrepared,
            5 => RecordKind::ExportResolved,
            6 => RecordKind::TableAltered,
            _ => return Err(Malformed("unknown kind of record")),
        })
    }
}

/// The first bytes of a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) version: u32,
    pub(crate) database_id: Uuid,
    pub(crate) segment_number: u64,
}

impl SegmentHeader {
    pub(crate) fn encode(self) -> Vec<u8> {
        encode_file_header(
            SEGMENT_MAGIC,
            self.version,
            self.database_id,
            self.segment_number,
        )
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        if &reader.array::<8>()? != SEGMENT_MAGIC {
            return Err(Malformed("not a segment of a DeltaLog"));
        }
        let version = reader.u32()?;
        if !(SEGMENT_VERSION_MIN..=SEGMENT_VERSION).contains(&version) {
            return Err(Malformed("a format version that this build does not read"));
        }
        reader.u32()?;
        let header = SegmentHeader {
            version,
            database_id: Uuid::from_bytes(reader.array()?),
            segment_number: reader.u64()?,
        };
        let checksum = reader.u64()?;
        match bytes.get(..SEGMENT_HEADER_SIZE_BYTES - 8) {
            Some(covered) if xxh3_64(covered) == checksum => Ok(header),
            _ => Err(Malformed("segment header fails its checksum")),
        }
    }
}

/// The first bytes of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockHeader {
    /// Counts the blocks of the database, from 1.
    pub(crate) block_number: u64,
    /// All blocks up to this number were durable when this one was written. This is what tells a damaged block from
    /// one that a crash tore.
    pub(crate) durable_block_number: u64,
    /// All deltas up to this commit sequence were durably below level 0. This is what tells a log of edits whose end is gone from
    /// one that had come no further. 0 in segments of version 4 and older.
    pub(crate) flushed_seq: u64,
    /// Bytes of all records, with their headers.
    pub(crate) body_size_bytes: u64,
    pub(crate) record_count: u32,
}

impl BlockHeader {
    pub(crate) fn encode(self, database_id: Uuid, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(BLOCK_MAGIC);
        put_u32(out, self.record_count);
        put_u64(out, self.block_number);
        put_u64(out, self.durable_block_number);
        put_u64(out, self.body_size_bytes);
        put_u64(out, self.flushed_seq);
        let checksum = xxh3_64_with_seed(out.get(start..).unwrap_or_default(), seed(database_id));
        put_u64(out, checksum);
    }

    pub(crate) fn decode(bytes: &[u8], database_id: Uuid) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        if &reader.array::<4>()? != BLOCK_MAGIC {
            return Err(Malformed("no block starts here"));
        }
        let record_count = reader.u32()?;
        let block_number = reader.u64()?;
        let durable_block_number = reader.u64()?;
        let body_size_bytes = reader.u64()?;
        let flushed_seq = reader.u64()?;
        let checksum = reader.u64()?;
        match bytes.get(..BLOCK_HEADER_SIZE_BYTES - 8) {
            Some(covered) if xxh3_64_with_seed(covered, seed(database_id)) == checksum => {
                Ok(BlockHeader {
                    block_number,
                    durable_block_number,
                    flushed_seq,
                    body_size_bytes,
                    record_count,
                })
            }
            _ => Err(Malformed("block header fails its checksum")),
        }
    }
}

/// The first bytes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) kind: RecordKind,
    pub(crate) body_size_bytes: u32,
    /// The commit sequence, which orders records of all kinds.
    pub(crate) seq: u64,
    checksum: u64,
}

impl RecordHeader {
    /// `body_hash` is [`hash_body`] of the body, taken before the sequence is known.
    pub(crate) fn new(kind: RecordKind, body_size_bytes: u32, seq: u64, body_hash: u64) -> Self {
        RecordHeader {
            kind,
            body_size_bytes,
            seq,
            checksum: checksum(kind, body_size_bytes, seq, body_hash),
        }
    }

    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        put_u64(out, self.checksum);
        put_u32(out, self.body_size_bytes);
        put_u32(out, self.kind.code());
        put_u64(out, self.seq);
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let checksum = reader.u64()?;
        let body_size_bytes = reader.u32()?;
        let kind = RecordKind::from_code(reader.u32()?)?;
        Ok(RecordHeader {
            kind,
            body_size_bytes,
            seq: reader.u64()?,
            checksum,
        })
    }

    /// Checks the body that follows this header.
    pub(crate) fn verify(&self, body: &[u8], database_id: Uuid) -> Result<(), Malformed> {
        let found = checksum(
            self.kind,
            self.body_size_bytes,
            self.seq,
            hash_body(body, database_id),
        );
        if found == self.checksum {
            Ok(())
        } else {
            Err(Malformed("record fails its checksum"))
        }
    }
}

/// Hashes a record's body. The database's id seeds it, so that bytes of another database never pass for ours.
pub(crate) fn hash_body(body: &[u8], database_id: Uuid) -> u64 {
    xxh3_64_with_seed(body, seed(database_id))
}

fn checksum(kind: RecordKind, body_size_bytes: u32, seq: u64, body_hash: u64) -> u64 {
    let mut covered = Vec::with_capacity(24);
    put_u64(&mut covered, body_hash);
    put_u32(&mut covered, body_size_bytes);
    put_u32(&mut covered, kind.code());
    put_u64(&mut covered, seq);
    xxh3_64(&covered)
}

fn seed(database_id: Uuid) -> u64 {
    database_id.as_u64_pair().0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_trip_and_every_flipped_bit_is_seen() {
        let database_id = Uuid::from_u128(7);
        let segment = SegmentHeader {
            version: SEGMENT_VERSION,
            database_id,
            segment_number: 3,
        };
        let bytes = segment.encode();
        assert_eq!(bytes.len(), SEGMENT_HEADER_SIZE_BYTES);
        assert_eq!(SegmentHeader::decode(&bytes), Ok(segment));
        flip_each_bit(&bytes, |bytes| SegmentHeader::decode(bytes).is_err());

        let block = BlockHeader {
            block_number: 9,
            durable_block_number: 8,
            flushed_seq: 5,
            body_size_bytes: 100,
            record_count: 2,
        };
        let mut bytes = Vec::new();
        block.encode(database_id, &mut bytes);
        assert_eq!(bytes.len(), BLOCK_HEADER_SIZE_BYTES);
        assert_eq!(BlockHeader::decode(&bytes, database_id), Ok(block));
        assert!(BlockHeader::decode(&bytes, Uuid::from_u128(8 << 64)).is_err());
        flip_each_bit(&bytes, |bytes| {
            BlockHeader::decode(bytes, database_id).is_err()
        });

        let body = b"rows";
        let record = RecordHeader::new(RecordKind::Delta, 4, 17, hash_body(body, database_id));
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        assert_eq!(bytes.len(), RECORD_HEADER_SIZE_BYTES);
        bytes.extend_from_slice(body);
        flip_each_bit(&bytes, |bytes| {
            let (header, body) = bytes.split_at(RECORD_HEADER_SIZE_BYTES);
            RecordHeader::decode(header)
                .and_then(|header| header.verify(body, database_id))
                .is_err()
        });
        assert_eq!(
            RecordHeader::decode(&bytes)
                .unwrap()
                .verify(body, database_id),
            Ok(())
        );
    }

    fn flip_each_bit(bytes: &[u8], seen: impl Fn(&[u8]) -> bool) {
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(seen(&damaged), "bit {bit} flipped unseen");
        }
    }
}
