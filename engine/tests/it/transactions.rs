//! What optimistic transactions are protected from, one anomaly at a time, also where the other transaction is flushed or
//! still in the queue.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use moonshine_engine::io::SimulatedIo;
use moonshine_engine::{
    ColumnType, Database, Durability, Error, Isolation, Options, Row, Scan, ScanOrder, Table,
    TableSchema, Transaction, Value,
};

use crate::reading::rows_of;

fn open() -> (Database, Table) {
    let options = Options {
        io: Arc::new(SimulatedIo::new(6)),
        ..Options::unmeasured()
    };
    let database = Database::open(Path::new("/db"), options).unwrap();
    let schema = TableSchema::builder("rows")
        .column("id", ColumnType::Int64, false)
        .column("value", ColumnType::Int64, true)
        .primary_key(["id"])
        .build()
        .unwrap();
    let table = database.create_table(schema).unwrap();
    (database, table)
}

fn row(id: i64, value: i64) -> Row {
    vec![Value::Int64(id), Value::Int64(value)]
}

fn key(id: i64) -> Vec<Value> {
    vec![Value::Int64(id)]
}

fn put(database: &Database, table: &Table, id: i64, value: i64) {
    let mut transaction = database.begin();
    transaction.upsert(table, row(id, value)).unwrap();
    transaction.commit().unwrap();
}

fn is_conflict(result: Result<u64, Error>) -> bool {
    match result {
        Ok(_) => false,
        Err(Error::Conflict { table, .. }) => table == "rows",
        Err(error) => panic!("{error}"),
    }
}

fn ascending(from: i64, to: i64, batch_rows: usize) -> Scan {
    Scan {
        order: ScanOrder::Ascending,
        range: (Bound::Included(key(from)), Bound::Excluded(key(to))),
        batch_rows,
        ..Scan::default()
    }
}

/// What happens to a commit before the next one looks for it.
const WAYS_DOWN: [fn(&Database); 3] = [
    |_| {},
    |database| database.flush().unwrap(),
    |database| {
        database.flush().unwrap();
        database.compact().unwrap();
    },
];

/// *Ordered*: the first of two that write a key wins, wherever its write lies by then.
#[test]
fn no_update_is_lost() {
    for settle in WAYS_DOWN {
        for isolation in [Isolation::Snapshot, Isolation::Serializable] {
            let (database, table) = open();
            put(&database, &table, 1, 10);
            settle(&database);
            let mut first = database.begin_optimistic(isolation);
            let mut second = database.begin_optimistic(isolation);
            let mut other = database.begin_optimistic(isolation);
            for transaction in [&mut first, &mut second] {
                assert_eq!(transaction.get(&table, &key(1)).unwrap(), Some(row(1, 10)));
                transaction.upsert(&table, row(1, 11)).unwrap();
            }
            other.upsert(&table, row(2, 20)).unwrap();
            first.commit().unwrap();
            settle(&database);
            assert_eq!(second.get(&table, &key(1)).unwrap(), Some(row(1, 11)));
            assert!(is_conflict(second.commit()));
            assert!(!is_conflict(other.commit()));
        }
    }
}

fn ids(ids: &[i64]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from(ids.to_vec()));
    RecordBatch::try_from_iter([("id", ids)]).unwrap()
}

/// *Same*: many keys at once are found in their order, with what the transaction wrote, missing ones and keys that are
/// asked for twice; a later commit is not seen.
#[test]
fn many_keys_are_found_at_once() {
    for settle in WAYS_DOWN {
        let (database, table) = open();
        (0..40).for_each(|id| put(&database, &table, id, id));
        settle(&database);
        let snapshot = database.snapshot();
        let mut transaction = database.begin_optimistic(Isolation::Snapshot);
        (0..40).for_each(|id| put(&database, &table, id, -1));
        transaction.upsert(&table, row(100, 1)).unwrap();
        transaction.upsert(&table, row(7, 70)).unwrap();
        transaction.delete(&table, &key(8)).unwrap();
        let asked = [100, 8, 39, 7, 50, 39, 0];
        let keys: Vec<_> = asked.iter().map(|id| key(*id)).collect();
        let rows = [
            Some(row(100, 1)),
            None,
            Some(row(39, 39)),
            Some(row(7, 70)),
            None,
            Some(row(39, 39)),
            Some(row(0, 0)),
        ];
        assert_eq!(transaction.multi_get(&table, &keys).unwrap(), rows);
        let found = transaction.multi_get_batch(&table, &ids(&asked), None);
        let found = found.unwrap();
        assert_eq!(found.places, [0, 2, 3, 5, 6]);
        let rows: Vec<Row> = rows.into_iter().flatten().collect();
        assert_eq!(rows_of(&found.rows, &table), rows);
        let found = snapshot.multi_get_batch(&table, &ids(&asked), Some(&[1, 1]));
        let found = found.unwrap();
        assert_eq!(found.places, [1, 2, 3, 5, 6]);
        let values = Int64Array::from(vec![8, 39, 7, 39, 0]);
        assert_eq!(found.rows.column(0).as_ref(), &values);
        assert_eq!(found.rows.column(1).as_ref(), &values);
        assert_eq!(snapshot.multi_get(&table, &[]).unwrap(), []);
    }
    let (database, table) = open();
    let snapshot = database.snapshot();
    let short = snapshot.multi_get(&table, &[vec![]]);
    assert!(matches!(short, Err(Error::Row(_))));
    let unknown = snapshot.multi_get_batch(&table, &ids(&[1]), Some(&[9]));
    assert!(matches!(unknown, Err(Error::Usage(_))));
    let other: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let other = RecordBatch::try_from_iter([("value", other)]).unwrap();
    let other = snapshot.multi_get_batch(&table, &other, None);
    assert!(matches!(other, Err(Error::Row(_))));
}

/// *Ordered*: write skew is what snapshot isolation allows and serializability does not.
#[test]
fn write_skew_is_refused_on_request() {
    for settle in WAYS_DOWN {
        for (isolation, refused) in [
            (Isolation::Snapshot, false),
            (Isolation::Serializable, true),
        ] {
            let (database, table) = open();
            put(&database, &table, 1, 1);
            put(&database, &table, 2, 1);
            let mut first = database.begin_optimistic(isolation);
            let mut second = database.begin_optimistic(isolation);
            let sum = |transaction: &mut Transaction| {
                let keys = [key(1), key(2)];
                let rows = transaction.multi_get(&table, &keys).unwrap();
                rows.iter().flatten().count()
            };
            let count = |transaction: &mut Transaction| {
                let found = transaction.multi_get_batch(&table, &ids(&[1, 2]), None);
                found.unwrap().rows.num_rows()
            };
            assert_eq!((sum(&mut first), count(&mut second)), (2, 2));
            first.delete(&table, &key(1)).unwrap();
            second.delete(&table, &key(2)).unwrap();
            first.commit().unwrap();
            settle(&database);
            assert_eq!(is_conflict(second.commit()), refused);
        }
    }
}

/// *Ordered*: what was not there counts as read, in a range as far as it was gone through.
#[test]
fn phantoms_are_refused_on_request() {
    for settle in WAYS_DOWN {
        for (id, refused) in [(4, true), (5, true), (6, false), (8, false)] {
            let (database, table) = open();
            for id in [1, 3, 5, 7, 9] {
                put(&database, &table, id, 0);
            }
            let mut reader = database.begin_optimistic(Isolation::Serializable);
            let mut batches = reader.scan(&table, ascending(2, 8, 2)).unwrap();
            let rows = rows_of(&batches.next().unwrap().unwrap(), &table);
            assert_eq!(rows, [row(3, 0), row(5, 0)]);
            assert_eq!(reader.get(&table, &key(10)).unwrap(), None);
            reader.upsert(&table, row(20, 0)).unwrap();
            put(&database, &table, id, 1);
            settle(&database);
            assert_eq!(is_conflict(reader.commit()), refused, "{id}");
        }
        let (database, table) = open();
        let mut reader = database.begin_optimistic(Isolation::Serializable);
        assert_eq!(reader.get(&table, &key(10)).unwrap(), None);
        reader.upsert(&table, row(20, 0)).unwrap();
        put(&database, &table, 10, 1);
        settle(&database);
        assert!(is_conflict(reader.commit()));
    }
}

/// *Ordered*: a truncate is a write of every key.
#[test]
fn a_truncate_conflicts_with_every_key() {
    for settle in WAYS_DOWN {
        let (database, table) = open();
        put(&database, &table, 1, 1);
        let mut writer = database.begin_optimistic(Isolation::Snapshot);
        let mut truncater = database.begin_optimistic(Isolation::Snapshot);
        writer.upsert(&table, row(5, 5)).unwrap();
        truncater.truncate(&table).unwrap();
        let mut truncate = database.begin();
        truncate.truncate(&table).unwrap();
        truncate.commit().unwrap();
        settle(&database);
        assert!(is_conflict(writer.commit()));
        assert!(is_conflict(truncater.commit()));
        let mut truncater = database.begin_optimistic(Isolation::Snapshot);
        truncater.truncate(&table).unwrap();
        put(&database, &table, 3, 3);
        settle(&database);
        assert!(is_conflict(truncater.commit()));
    }
}

/// *Ordered*: one that only reads sees one snapshot and is never refused.
#[test]
fn who_only_reads_is_never_refused() {
    let (database, table) = open();
    put(&database, &table, 1, 1);
    let mut reader = database.begin_optimistic(Isolation::Serializable);
    put(&database, &table, 1, 2);
    assert_eq!(reader.get(&table, &key(1)).unwrap(), Some(row(1, 1)));
    let seq = reader.snapshot().unwrap().seq();
    assert_eq!(reader.commit().unwrap(), seq);
}

/// *Atomic*: of an insert that comes too late nothing takes effect, and the error names table and key.
#[test]
fn an_insert_of_a_key_that_exists_fails_whole() {
    for settle in WAYS_DOWN {
        let (database, table) = open();
        put(&database, &table, 1, 1);
        put(&database, &table, 2, 1);
        let mut delete = database.begin();
        delete.delete(&table, &key(2)).unwrap();
        delete.commit().unwrap();
        settle(&database);
        let mut insert = database.begin();
        insert.insert(&table, row(2, 2)).unwrap();
        insert.commit().unwrap();
        settle(&database);
        let mut insert = database.begin();
        insert.upsert(&table, row(3, 3)).unwrap();
        insert.insert(&table, row(1, 2)).unwrap();
        match insert.commit() {
            Err(Error::Exists { table, key }) => {
                assert_eq!((table.as_str(), key), ("rows", vec![Value::Int64(1)]));
            }
            other => panic!("{other:?}"),
        }
        let snapshot = database.snapshot();
        assert_eq!(snapshot.get(&table, &key(3)).unwrap(), None);
        assert_eq!(snapshot.get(&table, &key(2)).unwrap(), Some(row(2, 2)));
    }
    let (database, table) = open();
    let mut twice = database.begin();
    twice.insert(&table, row(1, 1)).unwrap();
    twice.insert(&table, row(1, 2)).unwrap();
    assert!(matches!(twice.commit(), Err(Error::Exists { .. })));
    let mut again = database.begin();
    again.delete(&table, &key(1)).unwrap();
    again.insert(&table, row(1, 3)).unwrap();
    again.commit().unwrap();
}

/// *Ordered*: also among transactions that wait in the queue exactly one of those that insert a key wins, and of those
/// that read and write it those that nobody came in between of.
#[test]
fn transactions_in_the_queue_count() {
    let (database, table) = open();
    for round in 0..300 {
        let inserts: Vec<_> = (0..6)
            .filter_map(|i| {
                let mut insert = database.begin();
                insert.set_durability(Durability::Buffered);
                insert.insert(&table, row(round, i)).unwrap();
                insert.submit().ok()
            })
            .collect();
        let won = inserts.into_iter().filter_map(|handle| handle.wait().ok());
        assert_eq!(won.count(), 1);
        let mut updates: Vec<_> = (0..6)
            .map(|i| {
                let mut update = database.begin_optimistic(Isolation::Serializable);
                update.set_durability(Durability::Buffered);
                update.upsert(&table, row(-1 - round - i % 2, i)).unwrap();
                if i % 2 == 0 {
                    let mut batches = update.scan(&table, ascending(-1000, -500, 1)).unwrap();
                    assert!(batches.next().is_none());
                }
                update
            })
            .collect();
        let mut blind = database.begin();
        blind.upsert(&table, row(-600 + round, 1)).unwrap();
        let blind = (round < 100).then(|| blind.submit().unwrap());
        let updates: Vec<_> = updates.drain(..).map(Transaction::submit).collect();
        let won = updates.into_iter().flatten();
        let won = won.filter_map(|handle| handle.wait().ok()).count();
        assert_eq!(won, if blind.is_some() { 1 } else { 2 }, "round {round}");
        if blind.is_some() {
            let mut delete = database.begin();
            delete.delete(&table, &key(-600 + round)).unwrap();
            delete.commit().unwrap();
        }
    }
}

/// The helper begins again on the newest state, and gives the errors of its body as they are.
#[test]
fn transact_begins_again() {
    let (database, table) = open();
    let mut attempts = 0;
    let value = database.transact(Isolation::Snapshot, |transaction| {
        attempts += 1;
        let found = transaction.get(&table, &key(1))?;
        if attempts == 1 {
            put(&database, &table, 1, 41);
        }
        let value = match found.as_deref() {
            Some([_, Value::Int64(value)]) => value + 1,
            _ => 1,
        };
        transaction.upsert(&table, row(1, value))?;
        Ok::<_, Error>(value)
    });
    assert_eq!((value.unwrap(), attempts), (42, 2));
    let refused: Result<(), Error> =
        database.transact(Isolation::Snapshot, |_| Err(Error::Usage("no".into())));
    assert!(matches!(refused, Err(Error::Usage(text)) if text == "no"));
}
