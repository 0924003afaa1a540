//! The body of a delta: one transaction's rows, by table, by shard, sorted by primary key.
//!
//! A table part holds the PK hashes of all its rows, the ends of its keys and values, the bits of its tombstones, then
//! the key bytes and the value bytes, so that an index is built without looking at a value.

use crate::Origin;
use crate::codec::{Malformed, Reader, len_u32, put_blob, put_u32, put_u64};

const FLAG_TRUNCATE: u32 = 1;

/// A row of a delta that is being made; key and value lie in the arena of its table part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PendingRow {
    pub(crate) hash: u64,
    pub(crate) key_start: usize,
    /// Where the key ends and the value starts.
    pub(crate) key_end: usize,
    pub(crate) value_end: usize,
    pub(crate) tombstone: bool,
    /// Whether the key must not exist before; not stored.
    pub(crate) insert: bool,
}

/// The rows of one table in a delta that is being made: sorted by (shard, key), each key once.
#[derive(Debug)]
pub(crate) struct PendingTable<'a> {
    pub(crate) table_id: u32,
    pub(crate) truncate: bool,
    pub(crate) arena: &'a [u8],
    pub(crate) rows: Vec<PendingRow>,
}

pub(crate) fn encode_delta(
    origin: Option<&Origin>,
    tables: &[PendingTable<'_>],
    shard_bits: u32,
) -> Vec<u8> {
    let size_bytes = tables
        .iter()
        .map(|table| table.arena.len() + table.rows.len() * 17 + 64)
        .sum();
    let mut out = Vec::with_capacity(size_bytes);
    match origin {
        None => out.push(0),
        Some(origin) => {
            out.push(1);
            put_blob(&mut out, origin.source.as_bytes());
            put_blob(&mut out, origin.position.as_bytes());
        }
    }
    put_u32(&mut out, len_u32(tables.len()));
    for table in tables {
        encode_table(table, shard_bits, &mut out);
    }
    out
}

fn encode_table(table: &PendingTable<'_>, shard_bits: u32, out: &mut Vec<u8>) {
    put_u32(out, table.table_id);
    put_u32(out, if table.truncate { FLAG_TRUNCATE } else { 0 });
    put_u32(out, len_u32(table.rows.len()));
    let rowsets: Vec<_> = table
        .rows
        .chunk_by(|a, b| shard_of(a.hash, shard_bits) == shard_of(b.hash, shard_bits))
        .collect();
    put_u32(out, len_u32(rowsets.len()));
    for rowset in rowsets {
        put_u32(
            out,
            rowset
                .first()
                .map_or(0, |row| shard_of(row.hash, shard_bits)),
        );
        put_u32(out, len_u32(rowset.len()));
    }
    for row in &table.rows {
        put_u64(out, row.hash);
    }
    let mut end = 0;
    for row in &table.rows {
        end += row.key_end - row.key_start;
        put_u32(out, len_u32(end));
    }
    end = 0;
    for row in &table.rows {
        end += row.value_end - row.key_end;
        put_u32(out, len_u32(end));
    }
    for rows in table.rows.chunks(8) {
        out.push(
            rows.iter()
                .enumerate()
                .fold(0, |bits, (i, row)| bits | u8::from(row.tombstone) << i),
        );
    }
    for row in &table.rows {
        out.extend_from_slice(
            table
                .arena
                .get(row.key_start..row.key_end)
                .unwrap_or_default(),
        );
    }
    for row in &table.rows {
        out.extend_from_slice(
            table
                .arena
                .get(row.key_end..row.value_end)
                .unwrap_or_default(),
        );
    }
}

/// The shard of a hash: its first `shard_bits` bits.
pub(crate) fn shard_of(hash: u64, shard_bits: u32) -> u32 {
    if shard_bits == 0 {
        0
    } else {
        (hash >> (64 - shard_bits)) as u32
    }
}

/// A decoded delta, borrowed from its record.
#[derive(Debug)]
pub(crate) struct Delta<'a> {
    pub(crate) origin: Option<Origin>,
    pub(crate) tables: Vec<TablePart<'a>>,
}

/// The rows of one table in a delta.
#[derive(Debug)]
pub(crate) struct TablePart<'a> {
    pub(crate) table_id: u32,
    /// Every row of the table from before this delta is gone.
    pub(crate) truncate: bool,
    pub(crate) row_sets: Vec<RowSet>,
    hashes: &'a [u8],
    key_ends: &'a [u8],
    value_ends: &'a [u8],
    tombstones: &'a [u8],
    keys: &'a [u8],
    /// Where the value bytes start in the record's body.
    values_offset: usize,
}

/// Which rows of a table part fall into one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowSet {
    pub(crate) shard: u32,
    pub(crate) row_start: usize,
    pub(crate) row_end: usize,
}

/// A row of a delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeltaRow<'a> {
    pub(crate) hash: u64,
    pub(crate) key: &'a [u8],
    /// Where the key starts in the record's body.
    pub(crate) key_offset: u32,
    /// Where the value starts in the record's body.
    pub(crate) value_offset: u32,
    /// The value's length in bytes; `None` for a tombstone.
    pub(crate) value_size_bytes: Option<u32>,
}

pub(crate) fn decode_delta(body: &[u8]) -> Result<Delta<'_>, Malformed> {
    let mut reader = Reader::new(body);
    let origin = match reader.u8()? {
        0 => None,
        _ => Some(Origin {
            source: reader.text()?.to_owned(),
            position: reader.text()?.to_owned(),
        }),
    };
    let table_count = reader.count(16)?;
    let mut tables = Vec::with_capacity(table_count);
    for _ in 0..table_count {
        tables.push(decode_table(body.len(), &mut reader)?);
    }
    reader.finish()?;
    Ok(Delta { origin, tables })
}

fn decode_table<'a>(body_len: usize, reader: &mut Reader<'a>) -> Result<TablePart<'a>, Malformed> {
    let table_id = reader.u32()?;
    let truncate = reader.u32()? & FLAG_TRUNCATE != 0;
    let row_count = reader.count(0)?;
    let row_set_count = reader.count(8)?;
    let mut row_sets = Vec::with_capacity(row_set_count);
    let mut row_start = 0usize;
    for _ in 0..row_set_count {
        let shard = reader.u32()?;
        let row_end = row_start.saturating_add(reader.u32()? as usize);
        row_sets.push(RowSet {
            shard,
            row_start,
            row_end,
        });
        row_start = row_end;
    }
    if row_start != row_count {
        return Err(Malformed("RowSets don't add up to the rows"));
    }
    let hashes = reader.bytes(row_count.saturating_mul(8))?;
    let key_ends = reader.bytes(row_count.saturating_mul(4))?;
    let value_ends = reader.bytes(row_count.saturating_mul(4))?;
    let tombstones = reader.bytes(row_count.div_ceil(8))?;
    let keys = reader.bytes(last_end(key_ends)?)?;
    let values_offset = body_len - reader.remaining().len();
    reader.bytes(last_end(value_ends)?)?;
    Ok(TablePart {
        table_id,
        truncate,
        row_sets,
        hashes,
        key_ends,
        value_ends,
        tombstones,
        keys,
        values_offset,
    })
}

fn last_end(ends: &[u8]) -> Result<usize, Malformed> {
    match ends.last_chunk::<4>() {
        Some(end) => Ok(u32::from_le_bytes(*end) as usize),
        None => Ok(0),
    }
}

fn end_at(ends: &[u8], i: usize) -> Result<u32, Malformed> {
    let bytes = ends
        .get(i * 4..)
        .and_then(|rest| rest.first_chunk::<4>())
        .ok_or(Malformed("row out of range"))?;
    Ok(u32::from_le_bytes(*bytes))
}

fn span(ends: &[u8], i: usize) -> Result<(u32, u32), Malformed> {
    let start = if i == 0 { 0 } else { end_at(ends, i - 1)? };
    let end = end_at(ends, i)?;
    if start > end {
        Err(Malformed("ends go backwards"))
    } else {
        Ok((start, end))
    }
}

impl<'a> TablePart<'a> {
    /// The rows of a RowSet, in key order.
    pub(crate) fn rows(
        &self,
        row_set: RowSet,
    ) -> impl Iterator<Item = Result<DeltaRow<'a>, Malformed>> + '_ {
        (row_set.row_start..row_set.row_end).map(|i| self.row(i))
    }

    /// The row at a place.
    pub(crate) fn row(&self, i: usize) -> Result<DeltaRow<'a>, Malformed> {
        let hash = self
            .hashes
            .get(i * 8..)
            .and_then(|rest| rest.first_chunk::<8>());
        let (key_start, key_end) = span(self.key_ends, i)?;
        let (value_start, value_end) = span(self.value_ends, i)?;
        let tombstone = self
            .tombstones
            .get(i / 8)
            .ok_or(Malformed("row out of range"))?
            >> (i % 8)
            & 1
            == 1;
        let value_offset =
            u32::try_from(self.values_offset).map_err(|_| Malformed("delta too large"))?;
        // The values follow the keys; the offset of the first key fits since that of the first value does.
        let keys_offset = value_offset - len_u32(self.keys.len());
        Ok(DeltaRow {
            hash: u64::from_le_bytes(*hash.ok_or(Malformed("row out of range"))?),
            key: self
                .keys
                .get(key_start as usize..key_end as usize)
                .ok_or(Malformed("key out of range"))?,
            key_offset: keys_offset + key_start,
            value_offset: value_offset
                .checked_add(value_start)
                .ok_or(Malformed("delta too large"))?,
            value_size_bytes: if tombstone {
                None
            } else {
                Some(value_end - value_start)
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded() -> Vec<u8> {
        let arena = b"k1v1k22vv2k3";
        let rows = vec![
            PendingRow {
                hash: 1,
                key_start: 0,
                key_end: 2,
                value_end: 4,
                tombstone: false,
                insert: false,
            },
            PendingRow {
                hash: 2,
                key_start: 4,
                key_end: 7,
                value_end: 10,
                tombstone: false,
                insert: false,
            },
            PendingRow {
                hash: u64::MAX,
                key_start: 10,
                key_end: 12,
                value_end: 12,
                tombstone: true,
                insert: false,
            },
        ];
        let origin = Origin {
            source: "pg".into(),
            position: "0/1".into(),
        };
        encode_delta(
            Some(&origin),
            &[PendingTable {
                table_id: 5,
                truncate: true,
                arena,
                rows,
            }],
            1,
        )
    }

    #[test]
    fn a_delta_round_trips() {
        let body = encoded();
        let delta = decode_delta(&body).unwrap();
        assert_eq!(
            delta.origin,
            Some(Origin {
                source: "pg".into(),
                position: "0/1".into()
            })
        );
        let table = &delta.tables[0];
        assert_eq!((table.table_id, table.truncate), (5, true));
        assert_eq!(
            table.row_sets,
            [
                RowSet {
                    shard: 0,
                    row_start: 0,
                    row_end: 2
                },
                RowSet {
                    shard: 1,
                    row_start: 2,
                    row_end: 3
                },
            ]
        );
        let rows: Vec<_> = table
            .row_sets
            .iter()
            .flat_map(|set| table.rows(*set))
            .map(Result::unwrap)
            .collect();
        let value = |row: &DeltaRow<'_>| {
            row.value_size_bytes
                .map(|size| body[row.value_offset as usize..][..size as usize].to_vec())
        };
        assert_eq!(
            rows.iter()
                .map(|row| (row.hash, row.key))
                .collect::<Vec<_>>(),
            [(1, &b"k1"[..]), (2, b"k22"), (u64::MAX, b"k3"),]
        );
        assert_eq!(
            rows.iter().map(value).collect::<Vec<_>>(),
            [Some(b"v1".to_vec()), Some(b"vv2".to_vec()), None]
        );
    }

    proptest! {
        #[test]
        fn damaged_bytes_decode_or_are_malformed(position in 0usize..200, byte: u8, cut in 0usize..200) {
            let mut body = encoded();
            let position = position % body.len();
            body[position] = byte;
            body.truncate(cut.max(1));
            if let Ok(delta) = decode_delta(&body) {
                for table in &delta.tables {
                    for set in &table.row_sets {
                        table.rows(*set).for_each(drop);
                    }
                }
            }
        }
    }
}
