//! The body of a delta: one transaction's rows.

use super::input::Input;
use super::noise;
use crate::codec::Malformed;
use crate::key_range::{KeyInterval, united};
use crate::log::delta::{Delta, PendingRow, PendingTable, decode_delta, encode_delta, shard_of};
use crate::origins::Origin;

/// The first byte says whether the rest is a body, or what one is made of.
const IS_BODY: u8 = 0;

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let made = noise(6, 300)
        .into_iter()
        .map(|bytes| [&[1], &bytes[..]].concat());
    let made: Vec<_> = made.collect();
    let bodies = made.iter().map(|seed| {
        let body = Made::of(&mut Input::new(&seed[1..])).encode();
        [&[IS_BODY], &body[..]].concat()
    });
    bodies.chain(made.iter().cloned()).collect()
}

pub(super) fn run(bytes: &[u8]) {
    let Some((&kind, rest)) = bytes.split_first() else {
        return;
    };
    if kind == IS_BODY {
        foreign(rest);
    } else {
        round_trip(&Made::of(&mut Input::new(rest)));
    }
}

/// A row as it is compared: key, and value unless it is a tombstone.
type Found<'a> = (u64, &'a [u8], Option<&'a [u8]>);

/// The rows of each table, as far as they can be taken.
fn rows_of<'a>(delta: &Delta<'a>, body: &'a [u8]) -> Result<Vec<Vec<Found<'a>>>, Malformed> {
    let tables = delta.tables.iter().map(|table| {
        let rows = table.rows().map(|row| {
            let row = row?;
            let key_offset = row.key_offset as usize;
            assert_eq!(
                body.get(key_offset..key_offset + row.key.len()),
                Some(row.key)
            );
            let value = row.value_size_bytes.map(|size_bytes| {
                let start = row.value_offset as usize;
                body.get(start..start + size_bytes as usize)
            });
            match value {
                Some(None) => Err(Malformed("a value beyond the end")),
                Some(Some(value)) => Ok((row.hash, row.key, Some(value))),
                None => Ok((row.hash, row.key, None)),
            }
        });
        rows.collect()
    });
    tables.collect()
}

/// Any bytes are refused, or hold rows that make a delta with the same rows.
fn foreign(body: &[u8]) {
    let Ok(delta) = decode_delta(body) else {
        return;
    };
    let Ok(rows) = rows_of(&delta, body) else {
        return;
    };
    let made = Made {
        origin: delta.origin.clone(),
        tables: (delta.tables.iter().zip(&rows))
            .map(|(table, rows)| MadeTable {
                table_id: table.table_id,
                truncate: table.truncate,
                deletes: table.deletes.clone(),
                rows: rows
                    .iter()
                    .map(|(hash, key, value)| (*hash, key.to_vec(), value.map(<[u8]>::to_vec)))
                    .collect(),
            })
            .collect(),
        shard_bits: 3,
    };
    round_trip(&made);
}

/// What a delta is made of.
#[derive(Debug)]
struct Made {
    origin: Option<Origin>,
    tables: Vec<MadeTable>,
    shard_bits: u32,
}

#[derive(Debug)]
struct MadeTable {
    table_id: u32,
    truncate: bool,
    deletes: Vec<KeyInterval>,
    rows: Vec<(u64, Vec<u8>, Option<Vec<u8>>)>,
}

impl Made {
    fn of(input: &mut Input<'_>) -> Self {
        let text = |input: &mut Input<'_>| String::from_utf8_lossy(input.bytes(9)).into_owned();
        let origin = input.bool().then(|| Origin {
            source: text(input),
            position: text(input),
        });
        let shard_bits = input.below(11) as u32;
        let tables = (0..input.below(4)).map(|_| {
            let interval = |input: &mut Input<'_>| KeyInterval {
                start: input.bytes(5).to_vec(),
                end: input.bool().then(|| input.bytes(5).to_vec()),
            };
            let deletes = (0..input.below(3)).map(|_| interval(input)).collect();
            // Lengths may all be the same, which has a form of its own.
            let (key_len, value_len) = (input.below(12), input.below(12));
            let (table_id, truncate) = (input.u8().into(), input.bool());
            let row_count = input.below(20);
            let row = |_| {
                let mut key = input.bytes(11).to_vec();
                let mut value = input.bytes(11).to_vec();
                if key_len > 5 {
                    key.resize(key_len, 7);
                }
                if value_len > 5 {
                    value.resize(value_len, 7);
                }
                (input.u64(), key, (input.below(4) > 0).then_some(value))
            };
            MadeTable {
                table_id,
                truncate,
                deletes: united(deletes),
                rows: (0..row_count).map(row).collect(),
            }
        });
        Made {
            origin,
            tables: tables.collect(),
            shard_bits,
        }
    }

    fn encode(&self) -> std::sync::Arc<[u8]> {
        let arenas: Vec<(Vec<u8>, Vec<PendingRow>)> =
            self.tables.iter().map(MadeTable::arena).collect();
        let tables: Vec<PendingTable<'_>> = (self.tables.iter().zip(&arenas))
            .map(|(table, (arena, rows))| PendingTable {
                table_id: table.table_id,
                truncate: table.truncate,
                deletes: table.deletes.clone(),
                arena,
                rows: rows.clone(),
            })
            .collect();
        encode_delta(self.origin.as_ref(), &tables, self.shard_bits)
    }
}

impl MadeTable {
    fn arena(&self) -> (Vec<u8>, Vec<PendingRow>) {
        let mut arena = Vec::new();
        let rows = self.rows.iter().map(|(hash, key, value)| {
            let key_start = arena.len();
            arena.extend_from_slice(key);
            let key_end = arena.len();
            arena.extend_from_slice(value.as_deref().unwrap_or_default());
            PendingRow {
                hash: *hash,
                key_start,
                key_end,
                value_end: arena.len(),
                tombstone: value.is_none(),
                insert: false,
            }
        });
        let rows = rows.collect();
        (arena, rows)
    }
}

fn round_trip(made: &Made) {
    let body = made.encode();
    let delta = decode_delta(&body).unwrap();
    assert_eq!(delta.origin, made.origin);
    assert_eq!(delta.tables.len(), made.tables.len());
    let found = rows_of(&delta, &body).unwrap();
    for ((table, rows), made_table) in delta.tables.iter().zip(found).zip(&made.tables) {
        assert_eq!(table.table_id, made_table.table_id);
        assert_eq!(table.truncate, made_table.truncate);
        assert_eq!(table.deletes, made_table.deletes);
        let expected = made_table
            .rows
            .iter()
            .map(|(hash, key, value)| (*hash, key.as_slice(), value.as_deref()));
        assert!(rows.iter().copied().eq(expected), "{made:?}");
        for row_set in &table.row_sets {
            let rows = &rows[row_set.row_start..row_set.row_end];
            let is_there = |row: &Found<'_>| shard_of(row.0, made.shard_bits) == row_set.shard;
            assert!(rows.iter().all(is_there), "{made:?}");
        }
    }
}
