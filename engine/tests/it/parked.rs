//! Scans and keyspaces at snapshots that are put aside while everything below them changes.
//!
//! Defends *ordered* and *bounded*: each goes on where it was, in what it saw at first, though it let go of its memory.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use moonshine_engine::io::SimulatedIo;
use moonshine_engine::{
    Batches, ColumnType, Database, Isolation, KeyPredicate, Keyspace, KeyspaceSnapshot, Options,
    Pairs, Row, Scan, ScanOrder, ShardKey, TableSchema, Value,
};

use crate::backpressure::wait_until_nothing_is_kept;
use crate::reading::rows_of;

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

fn open(io: &SimulatedIo) -> (Database, Keyspace) {
    let options = Options {
        io: Arc::new(io.clone()),
        profile: moonshine_sysprobe::Profile::given(4096, 4).into(),
        memory_budget_bytes: 512 << 10,
        generation_size_bytes_max: Some(16 << 10),
        fragment_size_bytes_max: Some(32 << 10),
        ..Options::unmeasured()
    };
    let database = Database::open(Path::new("/db"), options).unwrap();
    let keyspace = database.keyspace("pairs").unwrap();
    (database, keyspace)
}

/// A scan that is gone through from both ends by turns, and what it still has to give.
struct Parked {
    scan: Pairs,
    left: Rows,
    reader: KeyspaceSnapshot,
    all: Rows,
}

impl Parked {
    fn step(&mut self, from_the_back: bool) {
        let (given, expected) = if from_the_back {
            (self.scan.next_back(), self.left.pop_last())
        } else {
            (self.scan.next(), self.left.pop_first())
        };
        let given = given.map(|pair| {
            let (key, value) = pair.unwrap();
            (key.to_vec(), value.to_vec())
        });
        assert_eq!(given, expected);
    }
}

/// SplitMix64, as in the simulated disk.
fn random(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (z ^ (z >> 27)) % below
}

#[test]
fn a_parked_scan_goes_on_where_it_was() {
    let io = SimulatedIo::new(1);
    let (database, keyspace) = open(&io);
    let mut rows = Rows::new();
    let mut parked: Vec<Parked> = Vec::new();
    let mut state = 7_u64;
    let mut random = |below: u64| random(&mut state, below);
    for round in 0..400_u32 {
        let mut batch = keyspace.batch();
        for _ in 0..20 {
            let key = format!("key {:03}", random(300)).into_bytes();
            if random(4) == 0 {
                batch.remove(&key).unwrap();
                rows.remove(&key);
            } else {
                let value = vec![round as u8; random(60) as usize];
                batch.insert(&key, &value).unwrap();
                rows.insert(key, value);
            }
        }
        batch.commit().unwrap();
        match random(10) {
            0 => database.flush().unwrap(),
            1 => database.compact().unwrap(),
            2 | 3 => parked.push(Parked {
                scan: keyspace.iter(),
                left: rows.clone(),
                reader: keyspace.snapshot(),
                all: rows.clone(),
            }),
            _ => {}
        }
        for one in &mut parked {
            for _ in 0..random(6) {
                one.step(random(2) == 0);
            }
            let key = format!("key {:03}", random(300)).into_bytes();
            let found = one.reader.get(&key).unwrap().map(|value| value.to_vec());
            assert_eq!(found.as_ref(), one.all.get(&key));
        }
        parked.retain(|one| !one.left.is_empty());
    }
    assert!(database.statistics().flushes.count > 20);
    assert!(parked.len() > 5, "{}", parked.len());
    database.flush().unwrap();
    // Nobody is at work, so nothing is kept.
    wait_until_nothing_is_kept(&database);
    for mut one in parked {
        while !one.left.is_empty() {
            one.step(random(2) == 0);
        }
        one.step(false);
        one.step(true);
    }
}

/// Its first column tells nothing that the second doesn't.
fn key(id: i64) -> [Value; 2] {
    [Value::Int64(id / 10), Value::Int64(id)]
}

fn row(id: i64, text: Vec<u8>) -> Row {
    let mut row = key(id).to_vec();
    row.push(Value::Binary(text));
    row
}

/// Conditions on the key, and which ids they want.
fn conditions(kind: u64) -> (Vec<KeyPredicate>, fn(i64) -> bool) {
    let tens = |tens| vec![Value::Int64(tens)];
    match kind {
        0 => (Vec::new(), |_| true),
        // One interval.
        1 => {
            let range = (
                Bound::Included(Value::Int64(2)),
                Bound::Excluded(Value::Int64(25)),
            );
            let between = KeyPredicate::Between { column: 0, range };
            (vec![between], |id| (20..250).contains(&id))
        }
        // Some intervals.
        2 => {
            let ranges = KeyPredicate::Ranges(vec![
                (Bound::Unbounded, Bound::Included(tens(9))),
                (Bound::Included(tens(12)), Bound::Included(tens(12))),
                (
                    Bound::Excluded(key(150).to_vec()),
                    Bound::Included(key(280).to_vec()),
                ),
            ]);
            (vec![ranges], |id| {
                id < 100 || (120..130).contains(&id) || (151..=280).contains(&id)
            })
        }
        // What only the keys tell.
        _ => {
            let values = (0..=300).filter(|id| id % 3 > 0).map(Value::Int64);
            let values = values.collect();
            let listed = KeyPredicate::In { column: 1, values };
            (vec![listed], |id| id % 3 > 0)
        }
    }
}

#[test]
fn a_parked_scan_to_arrow_goes_on_where_it_was() {
    for shard_key in [ShardKey::PrimaryKey, ShardKey::Range] {
        park_scans_to_arrow(shard_key);
    }
}

fn park_scans_to_arrow(shard_key: ShardKey) {
    let io = SimulatedIo::new(1);
    let (database, _) = open(&io);
    let schema = TableSchema::builder("rows")
        .column("tens", ColumnType::Int64, false)
        .column("id", ColumnType::Int64, false)
        .column("text", ColumnType::Binary, false)
        .primary_key(["tens", "id"])
        .shard_key(shard_key);
    let table = database.create_table(schema.build().unwrap()).unwrap();
    let mut rows: BTreeMap<i64, Row> = BTreeMap::new();
    // Scans, and what they still have to give.
    let mut parked: Vec<(Batches, Vec<Row>)> = Vec::new();
    let mut state = 9_u64;
    let mut random = |below: u64| random(&mut state, below);
    for round in 0..300_u32 {
        let mut transaction = database.begin();
        for _ in 0..20 {
            let id = random(300) as i64;
            if random(4) == 0 {
                transaction.delete(&table, &key(id)).unwrap();
                rows.remove(&id);
            } else {
                let row = row(id, vec![round as u8; random(60) as usize]);
                transaction.upsert(&table, row.clone()).unwrap();
                rows.insert(id, row);
            }
        }
        transaction.commit().unwrap();
        match random(10) {
            0 => database.flush().unwrap(),
            1 => database.compact().unwrap(),
            kind @ (2 | 3) => {
                let (predicates, is_wanted) = conditions(random(4));
                // Some of the rows are of the transaction that reads.
                let mut seen = rows.clone();
                let mut reader = database.begin_optimistic(Isolation::Snapshot);
                if random(2) == 0 {
                    for id in [random(300) as i64, random(300) as i64] {
                        reader.delete(&table, &key(id)).unwrap();
                        seen.remove(&id);
                        let own = row(id + 1, b"own".to_vec());
                        reader.upsert(&table, own.clone()).unwrap();
                        seen.insert(id + 1, own);
                    }
                }
                seen.retain(|id, _| is_wanted(*id));
                let mut left: Vec<Row> = seen.into_values().collect();
                let order = if kind == 2 {
                    left.reverse();
                    ScanOrder::Ascending
                } else {
                    ScanOrder::Descending
                };
                let scan = Scan {
                    order,
                    predicates,
                    batch_rows: 7,
                    ..Scan::default()
                };
                parked.push((reader.scan(&table, scan).unwrap(), left));
            }
            _ => {}
        }
        for (scan, left) in &mut parked {
            if random(3) == 0 {
                step(scan, left, &table);
            }
        }
        parked.retain(|(_, left)| !left.is_empty());
    }
    assert!(database.statistics().flushes.count > 20);
    assert!(parked.len() > 5, "{}", parked.len());
    database.flush().unwrap();
    wait_until_nothing_is_kept(&database);
    for (mut scan, mut left) in parked {
        while !left.is_empty() {
            step(&mut scan, &mut left, &table);
        }
        assert!(scan.next().is_none());
    }
}

/// Takes a batch of what a scan has to give, the next row last.
fn step(scan: &mut Batches, left: &mut Vec<Row>, table: &moonshine_engine::Table) {
    let batch = scan.next().unwrap().unwrap();
    let expected = left.split_off(left.len().saturating_sub(7));
    let given = rows_of(&batch, table);
    assert!(
        given.iter().eq(expected.iter().rev()),
        "{given:?} {expected:?}"
    );
}
