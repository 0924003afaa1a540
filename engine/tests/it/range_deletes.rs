//! Range deletes, many at once and under held snapshots.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use moonshine_engine::io::{CrashStyle, SimulatedIo};
use moonshine_engine::{
    ColumnType, Database, Durability, Options, Scan, ScanOrder, Table, TableSchema, Value,
};

use crate::reading::rows_of;

const IDS: i64 = 3000;

fn open(io: &SimulatedIo) -> (Database, Table) {
    let options = Options {
        io: Arc::new(io.clone()),
        generation_size_bytes_max: Some(60_000),
        fragment_size_bytes_max: Some(40_000),
        memory_budget_bytes: 1_000_000,
        ..Options::unmeasured()
    };
    let database = Database::open(Path::new("/db"), options).unwrap();
    let schema = TableSchema::builder("rows")
        .column("id", ColumnType::Int64, false)
        .column("text", ColumnType::Utf8, false)
        .primary_key(["id"])
        .build()
        .unwrap();
    let table = database.create_table(schema).unwrap();
    (database, table)
}

fn fill(database: &Database, table: &Table) {
    for start in (0..IDS).step_by(100) {
        let mut transaction = database.begin();
        transaction.set_durability(Durability::Buffered);
        for id in start..start + 100 {
            let row = vec![Value::Int64(id), Value::Utf8(format!("row number {id}"))];
            transaction.upsert(table, row).unwrap();
        }
        transaction.commit().unwrap();
    }
}

fn delete(database: &Database, table: &Table, from: i64, to: i64) {
    let mut transaction = database.begin();
    transaction.set_durability(Durability::Buffered);
    let bound = |id| vec![Value::Int64(id)];
    let range = (Bound::Included(bound(from)), Bound::Excluded(bound(to)));
    transaction.delete_range(table, &range).unwrap();
    transaction.commit().unwrap();
}

fn ids(snapshot: &moonshine_engine::Snapshot, table: &Table, order: ScanOrder) -> Vec<i64> {
    let scan = Scan {
        order,
        ..Scan::default()
    };
    let batches = snapshot.scan(table, scan).unwrap();
    let rows = batches.flat_map(|batch| rows_of(&batch.unwrap(), table));
    let mut ids: Vec<i64> = rows
        .map(|row| match row[0] {
            Value::Int64(id) => id,
            ref other => panic!("{other:?}"),
        })
        .collect();
    ids.sort_unstable();
    ids
}

/// *Ordered*, *durable*: thousands of ranges hide what lay in them, and nothing else, from who reads after them, through
/// flushes, compactions and a crash.
#[test]
fn thousands_of_ranges_hide_what_lies_in_them() {
    let io = SimulatedIo::new(31);
    let (database, table) = open(&io);
    fill(&database, &table);
    database.flush().unwrap();
    let before = database.snapshot();
    // Every other id by a range of its own, twice; then one for all up to some, again and again.
    for round in 0..2 {
        for id in (round..IDS).step_by(4) {
            delete(&database, &table, id, id + 1);
        }
    }
    for id in 0..500 {
        delete(&database, &table, 0, id);
    }
    let is_left = |id: &i64| *id >= 499 && id % 4 > 1;
    let expected: Vec<i64> = (0..IDS).filter(is_left).collect();
    let check = |database: &Database, table: &Table| {
        let snapshot = database.snapshot();
        for order in [
            ScanOrder::Ascending,
            ScanOrder::Descending,
            ScanOrder::Unordered,
        ] {
            assert_eq!(ids(&snapshot, table, order), expected);
        }
        assert_eq!(snapshot.row_count(table).unwrap(), expected.len() as u64);
        for id in 0..IDS {
            let found = snapshot.get(table, &[Value::Int64(id)]).unwrap();
            assert_eq!(found.is_some(), is_left(&id), "{id}");
        }
    };
    check(&database, &table);
    database.flush().unwrap();
    database.compact().unwrap();
    check(&database, &table);
    assert_eq!(ids(&before, &table, ScanOrder::Ascending).len() as i64, IDS);
    drop(before);
    database.compact().unwrap();
    check(&database, &table);
    database.sync().unwrap();
    drop(database);
    let (database, table) = open(&io.crash(CrashStyle::LoseUnsynced));
    check(&database, &table);
    fill(&database, &table);
    assert_eq!(database.snapshot().row_count(&table).unwrap() as i64, IDS);
}

/// *Bounded*: what lies in a deleted range gives its space back once nobody reads it, without being read itself.
#[test]
fn ranges_give_their_space_back() {
    let io = SimulatedIo::new(32);
    let (database, table) = open(&io);
    fill(&database, &table);
    database.flush().unwrap();
    database.compact().unwrap();
    let bytes = || -> usize {
        let mut files = io.files();
        files.retain(|(path, _)| path.extension().is_some_and(|one| one == "mdelta"));
        files.iter().map(|(_, size)| size).sum()
    };
    let full = bytes();
    let held = database.snapshot();
    delete(&database, &table, -1, IDS);
    database.flush().unwrap();
    database.compact().unwrap();
    assert_eq!(ids(&held, &table, ScanOrder::Ascending).len() as i64, IDS);
    drop(held);
    database.compact().unwrap();
    assert!(bytes() < full / 10, "{} of {full}", bytes());
}
