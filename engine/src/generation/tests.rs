use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::table::Found;
use super::*;
use crate::log::delta::{PendingRow, PendingTable, decode_delta, encode_delta, shard_of};

const SHARD_BITS: u32 = 2;

/// One transaction's writes; `None` deletes.
#[derive(Clone, Debug)]
pub(crate) struct Writes {
    pub(crate) truncate: bool,
    pub(crate) rows: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

/// What a table holds below: nothing known, known to be gone, or a value.
type Known = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

fn body_of(writes: &Writes) -> Arc<[u8]> {
    let mut arena = Vec::new();
    let mut rows: Vec<PendingRow> = Vec::new();
    for (key, value) in &writes.rows {
        let key_start = arena.len();
        arena.extend_from_slice(key);
        let key_end = arena.len();
        arena.extend_from_slice(value.as_deref().unwrap_or_default());
        rows.push(PendingRow {
            hash: xxh3_64(key),
            key_start,
            key_end,
            value_end: arena.len(),
            tombstone: value.is_none(),
            insert: false,
        });
    }
    rows.sort_by_key(|row| shard_of(row.hash, SHARD_BITS));
    let table = PendingTable {
        table_id: 1,
        truncate: writes.truncate,
        deletes: Vec::new(),
        arena: &arena,
        rows,
    };
    encode_delta(None, &[table], SHARD_BITS)
}

pub(crate) fn write(generation: &Generation, seq: u64, writes: &Writes) {
    let body = body_of(writes);
    let number = generation.add_body(body.clone()).unwrap();
    for part in &decode_delta(&body).unwrap().tables {
        generation.write(seq, number, part).unwrap();
    }
}

fn value_of(generation: &Generation, found: Found) -> Option<Option<Vec<u8>>> {
    match found {
        Found::Nothing => None,
        Found::Deleted => Some(None),
        Found::Row {
            body,
            value_start,
            value_len,
        } => Some(Some(
            generation
                .bodies()
                .slice(body, value_start, value_len)
                .to_vec(),
        )),
    }
}

pub(crate) fn get(generation: &Generation, key: &[u8], seq: u64) -> Option<Option<Vec<u8>>> {
    let table = generation.table(1)?;
    value_of(
        generation,
        table.get(generation.bodies(), xxh3_64(key), key, seq),
    )
}

/// The rows of a range at a commit sequence, in key order or against it.
fn rows(
    generation: &Arc<Generation>,
    from: &[u8],
    after_seq: u64,
    seq: u64,
    descending: bool,
) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let mut cursor = GenerationCursor::new(generation, 1, (after_seq, 0), seq, descending).unwrap();
    cursor.skip_below(from, false);
    let next = || {
        cursor.advance();
        let row = cursor.row()?;
        Some((row.key.to_vec(), row.value.map(<[u8]>::to_vec)))
    };
    std::iter::from_fn(next).collect()
}

fn any_writes() -> impl Strategy<Value = Writes> {
    // Few keys, some of them beginning alike beyond eight bytes, some empty.
    let key = (0..12_u8, any::<bool>()).prop_map(|(k, long)| match (k, long) {
        (0, _) => Vec::new(),
        (k, true) => [b"0123456789".as_slice(), &[k]].concat(),
        (k, false) => vec![k],
    });
    let value = prop::option::weighted(0.7, prop::collection::vec(any::<u8>(), 0..4));
    let rows = prop::collection::btree_map(key, value, 0..8);
    (prop::bool::weighted(0.1), rows).prop_map(|(truncate, rows)| Writes { truncate, rows })
}

proptest! {
    /// *Ordered*: at every commit sequence a generation knows what the replay of the deltas up to it says.
    #[test]
    fn every_sequence_is_the_replay_of_its_deltas(
        history in prop::collection::vec(any_writes(), 0..40),
        sort_at in prop::collection::vec(any::<bool>(), 40),
    ) {
        let generation = Arc::new(Generation::default());
        let mut states = vec![(0, Known::new())];
        for (i, writes) in history.iter().enumerate() {
            let seq = i as u64 + 10;
            write(&generation, seq, writes);
            let (mut truncate_seq, mut known) = states.last().unwrap().clone();
            if writes.truncate {
                truncate_seq = seq;
                known.clear();
            }
            known.extend(writes.rows.clone());
            states.push((truncate_seq, known));
            // Runs that were sorted early are merged later.
            if sort_at[i] && generation.table(1).is_some() {
                rows(&generation, &[], 0, seq, false);
            }
        }
        let Some(table) = generation.table(1) else { return Ok(()) };
        let all_keys: Vec<Vec<u8>> = history.iter().flat_map(|writes| writes.rows.keys().cloned()).collect();
        for (i, (truncate_seq, known)) in states.iter().enumerate() {
            let seq = i as u64 + 9;
            prop_assert_eq!(table.truncate_seq(seq), *truncate_seq);
            for key in &all_keys {
                let expected = match known.get(key) {
                    None if *truncate_seq > 0 => Some(None),
                    found => found.cloned(),
                };
                prop_assert_eq!(get(&generation, key, seq), expected);
            }
            let mut sorted: Vec<_> = known.clone().into_iter().collect();
            prop_assert_eq!(&rows(&generation, &[], 0, seq, false), &sorted);
            sorted.reverse();
            prop_assert_eq!(&rows(&generation, &[], 0, seq, true), &sorted);
            let after = seq / 2 + 5;
            let written: Known = history.iter().zip(10..=seq).filter(|(_, at)| *at > after && *at >= *truncate_seq).flat_map(|(writes, _)| writes.rows.clone()).collect();
            prop_assert_eq!(rows(&generation, &[], after, seq, false), written.into_iter().collect::<Vec<_>>());
            if let Some(from) = all_keys.get(i) {
                let tail: Known = rows(&generation, from, 0, seq, true).into_iter().collect();
                prop_assert_eq!(tail, known.range(from.clone()..).map(|(k, v)| (k.clone(), v.clone())).collect::<Known>());
            }
        }
    }
}

/// *Ordered* under concurrency: a reader that knows a published sequence sees everything up to it, while the index grows.
#[test]
fn readers_see_what_is_published() {
    let generation = Generation::default();
    let visible = AtomicU64::new(0);
    let key_of = |seq: u64| (seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16).to_be_bytes();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut probe = 1_u64;
                loop {
                    let seq = visible.load(Ordering::Acquire);
                    probe = probe
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    if seq > 0 {
                        let written = probe % seq + 1;
                        let expected = Some(Some(written.to_le_bytes().to_vec()));
                        assert_eq!(get(&generation, &key_of(written), seq), expected);
                        assert_eq!(get(&generation, &key_of(written), written - 1), None);
                    }
                    if seq == 20_000 {
                        return;
                    }
                }
            });
        }
        for seq in 1..=20_000_u64 {
            let rows = BTreeMap::from([(key_of(seq).to_vec(), Some(seq.to_le_bytes().to_vec()))]);
            write(
                &generation,
                seq,
                &Writes {
                    truncate: false,
                    rows,
                },
            );
            visible.store(seq, Ordering::Release);
        }
    });
}

/// *Ordered* under concurrency: a cursor at a published sequence goes through each key up to it once, while others are written
/// and others sort.
#[test]
fn cursors_see_what_is_published() {
    const SEQ_MAX: u64 = 5_000;
    let generation = Arc::new(Generation::default());
    let visible = AtomicU64::new(0);
    let key_of = |seq: u64| (seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16).to_be_bytes();
    let check = |seq: u64, descending: bool| {
        let mut cursor = GenerationCursor::new(&generation, 1, (0, 0), seq, descending).unwrap();
        let (mut count, mut last) = (0, None);
        loop {
            cursor.advance();
            let Some(row) = cursor.row() else {
                break;
            };
            let key = row.key.to_vec();
            assert!(last.is_none_or(|last| (last < key) != descending));
            (count, last) = (count + 1, Some(key));
        }
        assert_eq!(count, seq);
    };
    std::thread::scope(|scope| {
        for reader in 0..3_u64 {
            let (visible, check) = (&visible, &check);
            scope.spawn(move || {
                let mut round = reader;
                loop {
                    let seq = visible.load(Ordering::Acquire);
                    if seq > 0 {
                        check(seq, round % 2 == 0);
                    }
                    if seq == SEQ_MAX {
                        return;
                    }
                    round += 1;
                }
            });
        }
        for seq in 1..=SEQ_MAX {
            let rows = BTreeMap::from([(key_of(seq).to_vec(), Some(seq.to_le_bytes().to_vec()))]);
            let truncate = false;
            write(&generation, seq, &Writes { truncate, rows });
            visible.store(seq, Ordering::Release);
        }
    });
}

fn numbered(numbers: std::ops::Range<u32>) -> Writes {
    let rows = numbers.map(|n| (n.to_be_bytes().to_vec(), Some(vec![1])));
    Writes {
        truncate: false,
        rows: rows.collect(),
    }
}

/// *Bounded*: what is new since a sequence is brought into order without what is older, which is counted once.
#[test]
fn what_is_new_is_ordered_by_itself() {
    let budget = MemoryBudget::new(1 << 30);
    let generation = Arc::new(Generation::counted(0, Some(budget.clone())));
    write(&generation, 1, &numbered(0..1000));
    for (seq, new, most) in [(2, 0..10, 10), (3, 995..1025, 30), (4, 500..510, 30)] {
        write(&generation, seq, &numbered(new.clone()));
        for descending in [false, true, false] {
            let found = rows(&generation, &[], seq - 1, seq, descending);
            let mut expected: Vec<_> = numbered(new.clone()).rows.into_iter().collect();
            if descending {
                expected.reverse();
            }
            assert_eq!(found, expected);
        }
        assert_eq!(budget.used_bytes(), generation.size_bytes() + most * 16);
    }
}

/// *Bounded*: the order that a scan brings a generation into is memory of the budget, for as long as the generation.
#[test]
fn the_order_of_scans_is_counted() {
    let budget = MemoryBudget::new(1 << 30);
    let generation = Arc::new(Generation::counted(0, Some(budget.clone())));
    write(&generation, 1, &numbered(0..1000));
    let written_bytes = budget.used_bytes();
    assert_eq!(written_bytes, generation.size_bytes());
    for _ in 0..2 {
        assert_eq!(rows(&generation, &[], 0, 1, false).len(), 1000);
        assert_eq!(budget.used_bytes(), written_bytes + 1000 * 16);
    }
    assert_eq!(generation.size_bytes(), written_bytes);
    write(&generation, 2, &numbered(1000..1100));
    let size_bytes = generation.size_bytes();
    assert_eq!(rows(&generation, &[], 0, 2, true).len(), 1100);
    assert_eq!(budget.used_bytes(), size_bytes + 1100 * 16);
    drop(generation);
    assert_eq!(budget.used_bytes(), 0);
}

/// A transaction's rows come by the first bits of their hashes: its first rows must not crowd into a part of the index.
#[test]
fn rows_of_a_large_transaction_are_near_their_places() {
    let generation = Generation::new(1);
    let rows = (0..20_000_u32).map(|n| (n.to_be_bytes().to_vec(), Some(vec![1])));
    let writes = Writes {
        truncate: false,
        rows: rows.collect(),
    };
    write(&generation, 1, &writes);
    let displacement_max = generation.table(1).unwrap().displacement_max();
    assert!(displacement_max < 100, "{displacement_max}");
}
