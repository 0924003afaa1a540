//! Scans and keyspaces at snapshots that are put aside while everything below them changes.
//!
//! Defends *ordered* and *bounded*: each goes on where it was, in what it saw at first, though it let go of its memory.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use moonshine_engine::io::SimulatedIo;
use moonshine_engine::{
    Batches, ColumnType, Database, Keyspace, KeyspaceSnapshot, Options, Pairs, Row, Scan,
    ScanOrder, TableSchema, Value,
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

#[test]
fn a_parked_scan_to_arrow_goes_on_where_it_was() {
    let io = SimulatedIo::new(1);
    let (database, _) = open(&io);
    let schema = TableSchema::builder("rows")
        .column("id", ColumnType::Int64, false)
        .column("text", ColumnType::Binary, false)
        .primary_key(["id"]);
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
                transaction.delete(&table, &[Value::Int64(id)]).unwrap();
                rows.remove(&id);
            } else {
                let text = Value::Binary(vec![round as u8; random(60) as usize]);
                let row = vec![Value::Int64(id), text];
                transaction.upsert(&table, row.clone()).unwrap();
                rows.insert(id, row);
            }
        }
        transaction.commit().unwrap();
        match random(10) {
            0 => database.flush().unwrap(),
            1 => database.compact().unwrap(),
            kind @ (2 | 3) => {
                let (order, left) = if kind == 2 {
                    (ScanOrder::Ascending, rows.values().rev().cloned().collect())
                } else {
                    (ScanOrder::Descending, rows.values().cloned().collect())
                };
                let scan = Scan {
                    order,
                    batch_rows: 7,
                    ..Scan::default()
                };
                parked.push((database.snapshot().scan(&table, scan).unwrap(), left));
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
