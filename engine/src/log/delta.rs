//! The body of a delta: one transaction's rows, by table, by shard, sorted by primary key.
//!
//! A table part holds the PK hashes of all its rows, the ends of its keys and values, the bits of its tombstones, then
//! the key bytes and the value bytes, so that an index is built without looking at a value.

use std::sync::Arc;

use crate::codec::{Malformed, Reader, len_u32, put_blob, put_u32};
use crate::deletes::{decode_interval, encode_interval};
use crate::key_range::{KeyInterval, united};
use crate::origins::Origin;

const FLAG_TRUNCATE: u32 = 1;
const FLAG_DELETES: u32 = 2;
const FLAG_KEYS_OF_ONE_LENGTH: u32 = 4;
const FLAG_VALUES_OF_ONE_LENGTH: u32 = 8;
const FLAGS: u32 =
    FLAG_TRUNCATE | FLAG_DELETES | FLAG_KEYS_OF_ONE_LENGTH | FLAG_VALUES_OF_ONE_LENGTH;

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
    /// Ranges of which every older row is gone; ascending and disjoint.
    pub(crate) deletes: Vec<KeyInterval>,
    pub(crate) arena: &'a [u8],
    pub(crate) rows: Vec<PendingRow>,
}

/// The body of a delta's record, written in place.
pub(crate) fn encode_delta(
    origin: Option<&Origin>,
    tables: &[PendingTable<'_>],
    shard_bits: u32,
) -> Arc<[u8]> {
    let mut head = Vec::with_capacity(8);
    match origin {
        None => head.push(0),
        Some(origin) => {
            head.push(1);
            put_blob(&mut head, origin.source.as_bytes());
            put_blob(&mut head, origin.position.as_bytes());
        }
    }
    put_u32(&mut head, len_u32(tables.len()));
    let parts: Vec<_> = tables
        .iter()
        .map(|table| PartLayout::new(table, shard_bits))
        .collect();
    let size_bytes = head.len() + parts.iter().map(PartLayout::size_bytes).sum::<usize>();
    let mut body: Arc<[u8]> = std::iter::repeat_n(0, size_bytes).collect();
    if let Some(mut out) = Arc::get_mut(&mut body) {
        take(&mut out, head.len()).copy_from_slice(&head);
        for (part, table) in parts.iter().zip(tables) {
            part.fill(table, &mut out);
        }
    }
    body
}

/// What is known of a table part before its bytes are written.
struct PartLayout {
    /// Everything up to the hashes.
    head: Vec<u8>,
    row_count: usize,
    /// The length of all keys, if they have one; then their ends are left out.
    key_len: Option<u32>,
    value_len: Option<u32>,
    key_bytes: usize,
    value_bytes: usize,
}

impl PartLayout {
    fn new(table: &PendingTable<'_>, shard_bits: u32) -> Self {
        let key_lens = || table.rows.iter().map(|row| row.key_end - row.key_start);
        let value_lens = || table.rows.iter().map(|row| row.value_end - row.key_end);
        let (key_len, value_len) = (one_length(key_lens()), one_length(value_lens()));
        let flag = |flag, is_set| if is_set { flag } else { 0 };
        let mut head = Vec::with_capacity(32);
        put_u32(&mut head, table.table_id);
        let flags = flag(FLAG_TRUNCATE, table.truncate)
            | flag(FLAG_DELETES, !table.deletes.is_empty())
            | flag(FLAG_KEYS_OF_ONE_LENGTH, key_len.is_some())
            | flag(FLAG_VALUES_OF_ONE_LENGTH, value_len.is_some());
        put_u32(&mut head, flags);
        if !table.deletes.is_empty() {
            put_u32(&mut head, len_u32(table.deletes.len()));
            let deletes = table.deletes.iter();
            deletes.for_each(|interval| encode_interval(interval, &mut head));
        }
        put_u32(&mut head, len_u32(table.rows.len()));
        let row_sets = table
            .rows
            .chunk_by(|a, b| shard_of(a.hash, shard_bits) == shard_of(b.hash, shard_bits));
        put_u32(&mut head, len_u32(row_sets.clone().count()));
        for row_set in row_sets {
            let first = row_set.first();
            put_u32(
                &mut head,
                first.map_or(0, |row| shard_of(row.hash, shard_bits)),
            );
            put_u32(&mut head, len_u32(row_set.len()));
        }
        PartLayout {
            head,
            row_count: table.rows.len(),
            key_len,
            value_len,
            key_bytes: key_lens().sum(),
            value_bytes: value_lens().sum(),
        }
    }

    fn ends_size_bytes(&self, len: Option<u32>) -> usize {
        4 * len.map_or(self.row_count, |_| 1)
    }

    fn size_bytes(&self) -> usize {
        self.head.len()
            + 8 * self.row_count
            + self.ends_size_bytes(self.key_len)
            + self.ends_size_bytes(self.value_len)
            + self.row_count.div_ceil(8)
            + self.key_bytes
            + self.value_bytes
    }

    fn fill(&self, table: &PendingTable<'_>, out: &mut &mut [u8]) {
        let rows = &table.rows;
        take(out, self.head.len()).copy_from_slice(&self.head);
        let hashes = take(out, 8 * self.row_count).as_chunks_mut::<8>().0;
        for (place, row) in hashes.iter_mut().zip(rows) {
            *place = row.hash.to_le_bytes();
        }
        let ends = take(out, self.ends_size_bytes(self.key_len));
        put_ends(
            ends,
            self.key_len,
            rows.iter().map(|row| row.key_end - row.key_start),
        );
        let ends = take(out, self.ends_size_bytes(self.value_len));
        put_ends(
            ends,
            self.value_len,
            rows.iter().map(|row| row.value_end - row.key_end),
        );
        let tombstones = take(out, self.row_count.div_ceil(8));
        for (place, rows) in tombstones.iter_mut().zip(rows.chunks(8)) {
            *place = rows
                .iter()
                .enumerate()
                .fold(0, |bits, (i, row)| bits | u8::from(row.tombstone) << i);
        }
        let mut keys = take(out, self.key_bytes);
        let mut values = take(out, self.value_bytes);
        for row in rows {
            let bytes = table.arena.get(row.key_start..row.value_end);
            let (key, value) = bytes
                .unwrap_or_default()
                .split_at(row.key_end - row.key_start);
            take(&mut keys, key.len()).copy_from_slice(key);
            take(&mut values, value.len()).copy_from_slice(value);
        }
    }
}

/// The first bytes of what is left to write.
fn take<'o>(out: &mut &'o mut [u8], len: usize) -> &'o mut [u8] {
    out.split_off_mut(..len).unwrap_or_default()
}

/// The length that all of them have.
fn one_length(mut lens: impl Iterator<Item = usize>) -> Option<u32> {
    let first = lens.next()?;
    lens.all(|len| len == first).then(|| len_u32(first))
}

/// Writes one length, or where each of the lengths ends.
fn put_ends(out: &mut [u8], len: Option<u32>, lens: impl Iterator<Item = usize>) {
    let places = out.as_chunks_mut::<4>().0;
    if let (Some(len), [place]) = (len, &mut *places) {
        *place = len.to_le_bytes();
        return;
    }
    let mut end = 0;
    for (place, len) in places.iter_mut().zip(lens) {
        end += len;
        *place = len_u32(end).to_le_bytes();
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
    /// Ranges of which every row from before this delta is gone; ascending and disjoint.
    pub(crate) deletes: Vec<KeyInterval>,
    pub(crate) row_sets: Vec<RowSet>,
    hashes: &'a [u8],
    key_ends: Ends<'a>,
    value_ends: Ends<'a>,
    tombstones: &'a [u8],
    keys: &'a [u8],
    /// Where the value bytes start in the record's body.
    values_offset: usize,
}

/// Where keys or values lie among those of their table part.
#[derive(Clone, Copy, Debug)]
enum Ends<'a> {
    /// All have this length.
    OneLength(u32),
    /// Where each ends, four bytes each.
    Each(&'a [u8]),
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
    let flags = reader.u32()?;
    if flags & !FLAGS != 0 {
        return Err(Malformed("a table part with flags of a later version"));
    }
    let mut deletes = Vec::new();
    if flags & FLAG_DELETES != 0 {
        for _ in 0..reader.count(5)? {
            deletes.push(decode_interval(reader)?);
        }
    }
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
    let key_ends = Ends::read(reader, row_count, flags & FLAG_KEYS_OF_ONE_LENGTH != 0)?;
    let value_ends = Ends::read(reader, row_count, flags & FLAG_VALUES_OF_ONE_LENGTH != 0)?;
    let tombstones = reader.bytes(row_count.div_ceil(8))?;
    let keys = reader.bytes(key_ends.last(row_count))?;
    let values_offset = body_len - reader.remaining().len();
    reader.bytes(value_ends.last(row_count))?;
    Ok(TablePart {
        table_id,
        truncate: flags & FLAG_TRUNCATE != 0,
        deletes: united(deletes),
        row_sets,
        hashes,
        key_ends,
        value_ends,
        tombstones,
        keys,
        values_offset,
    })
}

impl<'a> Ends<'a> {
    fn read(
        reader: &mut Reader<'a>,
        row_count: usize,
        is_one_length: bool,
    ) -> Result<Self, Malformed> {
        if is_one_length {
            reader.u32().map(Ends::OneLength)
        } else {
            reader.bytes(row_count.saturating_mul(4)).map(Ends::Each)
        }
    }

    /// Where the last of so many ends.
    fn last(self, count: usize) -> usize {
        match self {
            Ends::OneLength(len) => (len as usize).saturating_mul(count),
            Ends::Each(ends) => ends
                .last_chunk::<4>()
                .map_or(0, |end| u32::from_le_bytes(*end) as usize),
        }
    }

    /// Where one starts and ends.
    fn span(self, i: usize) -> Result<(u32, u32), Malformed> {
        let ends = match self {
            Ends::OneLength(len) => {
                let start = u64::from(len) * i as u64;
                let end = u32::try_from(start + u64::from(len));
                // It fits, since the start is not behind it.
                return end
                    .map(|end| (start as u32, end))
                    .map_err(|_| Malformed("row out of range"));
            }
            Ends::Each(ends) => ends.as_chunks::<4>().0,
        };
        let at = |i: usize| ends.get(i).map(|end| u32::from_le_bytes(*end));
        let start = i.checked_sub(1).map_or(Some(0), at);
        match start.zip(at(i)) {
            None => Err(Malformed("row out of range")),
            Some((start, end)) if start > end => Err(Malformed("ends go backwards")),
            Some(span) => Ok(span),
        }
    }
}

impl<'a> TablePart<'a> {
    /// How many rows there are.
    pub(crate) fn row_count(&self) -> usize {
        self.row_sets.last().map_or(0, |last| last.row_end)
    }

    /// All rows, in the order of their RowSets.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Result<DeltaRow<'a>, Malformed>> + '_ {
        (0..self.row_count()).map(|i| self.row(i))
    }

    /// The row at a place.
    pub(crate) fn row(&self, i: usize) -> Result<DeltaRow<'a>, Malformed> {
        let hash = self
            .hashes
            .get(i * 8..)
            .and_then(|rest| rest.first_chunk::<8>());
        let (key_start, key_end) = self.key_ends.span(i)?;
        let (value_start, value_end) = self.value_ends.span(i)?;
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

    fn encoded() -> Arc<[u8]> {
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
                deletes: Vec::new(),
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
        let rows: Vec<_> = table.rows().map(Result::unwrap).collect();
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
            let mut body = encoded().to_vec();
            let position = position % body.len();
            body[position] = byte;
            body.truncate(cut.max(1));
            if let Ok(delta) = decode_delta(&body) {
                for table in &delta.tables {
                    table.rows().for_each(drop);
                }
            }
        }
    }
}
