//! Input that does not fit is refused where it is given, by an error that says what to mend, and costs nothing else.
//!
//! Defends *atomic*: a transaction that was given something wrong still commits all that was right, and none of the wrong.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use moonshine_engine::io::SimulatedIo;
use moonshine_engine::{
    ColumnType, Database, Error, Export, ExportFile, Options, Placement, Row, SchemaChange, Table,
    TableSchema, Value,
};

/// Longer than a key may be, and than a row may be.
const KEY_TOO_LONG: usize = (64 << 10) + 1;
const ROW_TOO_LONG: usize = (256 << 20) + 1;

fn options(io: &SimulatedIo) -> Options {
    Options {
        io: Arc::new(io.clone()),
        ..Options::unmeasured()
    }
}

fn open(io: &SimulatedIo) -> (Database, Table) {
    let database = Database::open(Path::new("/db"), options(io)).unwrap();
    let decimal = ColumnType::Decimal {
        precision: 4,
        scale: 2,
    };
    let schema = TableSchema::builder("shop.goods")
        .column("name", ColumnType::Utf8, false)
        .column("price", decimal, true)
        .column("stock", ColumnType::Int64, false)
        .primary_key(["name"])
        .build()
        .unwrap();
    let table = database.create_table(schema).unwrap();
    (database, table)
}

fn row(name: &str, price: i128, stock: i64) -> Row {
    let name = Value::Utf8(name.into());
    vec![name, Value::Decimal(price), Value::Int64(stock)]
}

fn key(name: &str) -> Vec<Value> {
    vec![Value::Utf8(name.into())]
}

fn batch(names: &[&str], column: &str, values: &[Option<i64>]) -> RecordBatch {
    let names: ArrayRef = Arc::new(StringArray::from(names.to_vec()));
    let values: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
    let columns = [("name", names, true), (column, values, true)];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

/// It is the input that is to be mended, and the text says in which table.
fn assert_refused<T: std::fmt::Debug>(result: Result<T, Error>) {
    match result {
        Err(Error::Row(text)) => assert!(text.contains("'shop.goods'"), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_transaction_outlives_what_it_refuses() {
    let io = SimulatedIo::new(1);
    let (database, table) = open(&io);
    let long = "n".repeat(KEY_TOO_LONG);
    let mut transaction = database.begin();
    transaction.upsert(&table, row("apple", 100, 1)).unwrap();
    assert_refused(transaction.upsert(&table, row(&long, 1, 1)));
    assert_refused(transaction.upsert(&table, row("pear", 10_000, 1)));
    assert_refused(transaction.upsert(&table, key("pear")));
    let wrong_type = vec![Value::Int64(1), Value::Null, Value::Int64(1)];
    assert_refused(transaction.upsert(&table, wrong_type));
    let null = vec![Value::Utf8("pear".into()), Value::Null, Value::Null];
    assert_refused(transaction.insert(&table, null));
    assert_refused(transaction.delete(&table, &key(&long)));
    assert_refused(transaction.delete(&table, &[]));
    assert_refused(transaction.get(&table, &[Value::Int64(1)]));
    let range = (Bound::Included(vec![Value::Null]), Bound::Unbounded);
    assert_refused(transaction.delete_range(&table, &range));
    // Of a batch that is refused at its last row nothing is written.
    let last_is_long = batch(&["pear", &long], "stock", &[Some(1), Some(2)]);
    assert_refused(transaction.upsert_batch(&table, &last_is_long));
    assert_refused(transaction.delete_batch(&table, &last_is_long));
    let has_null = batch(&["pear", "fig"], "stock", &[Some(1), None]);
    assert_refused(transaction.insert_batch(&table, &has_null));
    let lacks_stock = batch(&["pear"], "price", &[Some(1)]);
    assert_refused(transaction.upsert_batch(&table, &lacks_stock));
    let unknown = batch(&["pear"], "colour", &[Some(1)]);
    assert_refused(transaction.upsert_batch(&table, &unknown));
    transaction.upsert(&table, row("cherry", 2, 2)).unwrap();
    assert_eq!(
        (transaction.row_count(), transaction.is_empty()),
        (2, false)
    );
    transaction.commit().unwrap();
    drop((database, table));

    let (database, table) = open(&io);
    let snapshot = database.snapshot();
    assert_eq!(snapshot.row_count(&table).unwrap(), 2);
    let found = snapshot.multi_get(&table, &[key("apple"), key("cherry"), key("pear")]);
    let expected = [Some(row("apple", 100, 1)), Some(row("cherry", 2, 2)), None];
    assert_eq!(found.unwrap(), expected);
}

#[test]
fn a_row_beyond_the_limit_is_refused() {
    let database = Database::open(Path::new("/db"), options(&SimulatedIo::new(1))).unwrap();
    let keyspace = database.keyspace("pairs").unwrap();
    let mut batch = keyspace.batch();
    batch.insert("before", "1").unwrap();
    match batch.insert("long", vec![0; ROW_TOO_LONG]) {
        Err(Error::Row(text)) => assert!(text.contains("'pairs'"), "{text}"),
        other => panic!("{other:?}"),
    }
    batch.insert("behind", "2").unwrap();
    batch.commit().unwrap();
    let keys: Vec<_> = keyspace
        .iter()
        .map(|pair| pair.unwrap().0.to_vec())
        .collect();
    assert_eq!(keys, [b"before", b"behind"]);
}

/// Whatever writes is refused by who was opened to read, and reading goes on.
#[test]
fn a_reader_refuses_every_write() {
    let io = SimulatedIo::new(1);
    let (database, table) = open(&io);
    let mut transaction = database.begin();
    transaction.upsert(&table, row("apple", 100, 1)).unwrap();
    transaction.commit().unwrap();
    let reader = Database::open_read_only(Path::new("/db"), options(&io)).unwrap();
    let table = reader.table("shop.goods").unwrap();
    let mut transaction = reader.begin();
    transaction.upsert(&table, row("pear", 1, 1)).unwrap();
    let rename = SchemaChange::RenameColumn {
        name: "stock".into(),
        new_name: "count".into(),
    };
    let refused: [(&str, Result<(), Error>); 8] = [
        ("commit", transaction.commit().map(|_| ())),
        ("keyspace", reader.keyspace("pairs").map(|_| ())),
        ("alter", reader.alter_table(&table, &[rename]).map(|_| ())),
        ("flush", reader.flush()),
        ("compact", reader.compact()),
        ("sync", reader.sync()),
        ("load", reader.bulk_load(&table).map(|_| ())),
        (
            "export",
            reader.begin_export(&table, &reader.snapshot()).map(|_| ()),
        ),
    ];
    for (what, result) in refused {
        assert!(matches!(result, Err(Error::Usage(_))), "{what}: {result:?}");
    }
    assert_eq!(
        reader.snapshot().get(&table, &key("apple")).unwrap(),
        Some(row("apple", 100, 1))
    );
    assert_eq!(reader.snapshot().row_count(&table).unwrap(), 1);
}

/// *Once*: files with other numbers of rows than of keys leave nothing behind: the next export takes the rows.
#[test]
fn files_without_the_keys_of_their_rows_are_refused() {
    let io = SimulatedIo::new(1);
    let (database, table) = open(&io);
    let mut transaction = database.begin();
    for name in ["apple", "pear", "plum"] {
        transaction.upsert(&table, row(name, 1, 1)).unwrap();
    }
    transaction.commit().unwrap();
    let file = |path: &str, row_count| ExportFile {
        path: path.into(),
        row_count,
    };
    let begin = || database.begin_export(&table, &database.snapshot()).unwrap();
    let rows = |export: &Export| export.batches(None, 8).unwrap().next().unwrap().unwrap();
    let keys = |export: &Export, numbers: &[usize]| {
        let mut keys = export.file_keys();
        for number in numbers {
            keys.add(&rows(export).slice(*number, 1), None).unwrap();
        }
        keys
    };
    let id = uuid::Uuid::from_u128(1);
    for (row_count, numbers) in [
        (3, &[0, 1][..]),
        (2, &[0, 1]),
        (2, &[0, 1, 2]),
        (4, &[0, 1, 2, 2]),
    ] {
        let mut export = begin();
        let files = vec![(file("f", row_count), keys(&export, numbers))];
        let refused = export.prepare_files(id, files);
        assert!(matches!(refused, Err(Error::Usage(_))), "{refused:?}");
        drop(export);
        assert!(database.pending_exports().is_empty());
    }
    let mut export = begin();
    let all = rows(&export);
    let ids = |ids: &[i64]| Int64Array::from(ids.to_vec());
    let refused = export.file_keys().add(&all, Some(&ids(&[1, 2])));
    assert!(matches!(refused, Err(Error::Usage(_))), "{refused:?}");
    let refused = export.file_keys().add(&all, Some(&ids(&[1, -1, 2])));
    assert!(matches!(refused, Err(Error::Usage(_))), "{refused:?}");
    let refused = export.file_keys().add(&all.project(&[1]).unwrap(), None);
    assert!(matches!(refused, Err(Error::Row(_))), "{refused:?}");
    let files = [
        (file("f", 2), keys(&export, &[2, 0])),
        (file("g", 1), keys(&export, &[1])),
    ];
    let id = uuid::Uuid::from_u128(2);
    export.prepare_files(id, files.into()).unwrap();
    export.commit("1".into()).unwrap();
    let mut transaction = database.begin();
    transaction.delete(&table, &key("plum")).unwrap();
    transaction.commit().unwrap();
    let changes = database.changes(&table, &database.snapshot()).unwrap();
    let removed = Placement {
        file: "f".into(),
        position: 0,
    };
    assert!(changes.removed().iter().eq([removed]));
}
