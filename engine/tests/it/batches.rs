//! Arrow batches in and out: what one table gives out, another takes in, and is *same*.

use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use moonshine_engine::io::SimulatedIo;
use moonshine_engine::{
    ColumnType, Database, Error, Options, Scan, ScanOrder, SchemaChange, Table, TableSchema, Value,
};

fn open() -> (Database, Table) {
    let options = Options {
        io: Arc::new(SimulatedIo::new(1)),
        ..Options::unmeasured()
    };
    let database = Database::open(Path::new("/db"), options).unwrap();
    let table = table(&database, "shop.notes");
    (database, table)
}

fn table(database: &Database, name: &str) -> Table {
    let schema = TableSchema::builder(name)
        .column("note", ColumnType::Utf8, true)
        .column("id", ColumnType::Int64, false)
        .column("shop", ColumnType::Utf8, false)
        .primary_key(["shop", "id"])
        .build()
        .unwrap();
    database.create_table(schema).unwrap()
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter(columns).unwrap()
}

fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn numbers(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn rows(database: &Database, table: &Table) -> Vec<RecordBatch> {
    let scan = Scan {
        order: ScanOrder::Ascending,
        ..Scan::default()
    };
    let batches = database.snapshot().scan(table, scan).unwrap();
    batches.map(Result::unwrap).collect()
}

#[test]
fn a_batch_is_written_deleted_and_copied() {
    let (database, table_one) = open();
    let mut transaction = database.begin();
    let whole = batch(vec![
        ("id", numbers(&[3, 1, 2, 1])),
        ("shop", texts(&["b", "a", "b", "a"])),
        ("note", texts(&["x", "first", "y", "second"])),
    ]);
    transaction.upsert_batch(&table_one, &whole).unwrap();
    let seen = transaction
        .get(&table_one, &[Value::Utf8("a".into()), Value::Int64(1)])
        .unwrap();
    assert_eq!(seen.unwrap()[0], Value::Utf8("second".into()));
    transaction.commit().unwrap();
    let mut transaction = database.begin();
    let keys = batch(vec![("shop", texts(&["b", "c"])), ("id", numbers(&[3, 3]))]);
    transaction.delete_batch(&table_one, &keys).unwrap();
    // Without the column that may be null.
    let bare = batch(vec![("shop", texts(&["d"])), ("id", numbers(&[9]))]);
    transaction.upsert_batch(&table_one, &bare).unwrap();
    transaction.commit().unwrap();

    let found = rows(&database, &table_one);
    let notes: StringArray = vec![Some("second"), Some("y"), None].into();
    let expected = batch(vec![
        ("note", Arc::new(notes)),
        ("id", numbers(&[1, 2, 9])),
        ("shop", texts(&["a", "b", "d"])),
    ]);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].columns(), expected.columns());

    let copy = table(&database, "shop.copy");
    let mut transaction = database.begin();
    for batch in &found {
        transaction.upsert_batch(&copy, batch).unwrap();
    }
    transaction.commit().unwrap();
    assert_eq!(rows(&database, &copy), found);
}

#[test]
fn a_batch_that_does_not_fit_leaves_nothing() {
    let (database, table) = open();
    let mut transaction = database.begin();
    let kept = batch(vec![("shop", texts(&["a"])), ("id", numbers(&[1]))]);
    transaction.upsert_batch(&table, &kept).unwrap();
    let long = "s".repeat(70_000);
    let too_long = batch(vec![
        ("shop", texts(&["b", &long])),
        ("id", numbers(&[1, 2])),
    ]);
    assert!(matches!(
        transaction.upsert_batch(&table, &too_long),
        Err(Error::Row(_))
    ));
    assert!(matches!(
        transaction.delete_batch(&table, &too_long),
        Err(Error::Row(_))
    ));
    assert_eq!(transaction.row_count(), 1);
    let key = |shop: &str| [Value::Utf8(shop.into()), Value::Int64(1)];
    assert!(transaction.get(&table, &key("a")).unwrap().is_some());
    assert!(transaction.get(&table, &key("b")).unwrap().is_none());
    transaction.commit().unwrap();
    assert_eq!(database.snapshot().row_count(&table).unwrap(), 1);
}

/// *Same*: a column with a default that a batch lacks is filled with it, whether or not it may be null; a null that the
/// batch holds stays one.
#[test]
fn a_batch_that_lacks_a_column_gets_its_default() {
    let (database, table) = open();
    let add = |name: &str, nullable, default| SchemaChange::AddColumn {
        name: name.into(),
        column_type: ColumnType::Int64,
        nullable,
        default: Some(Value::Int64(default)),
    };
    let changes = [add("count", false, 7), add("size", true, 8)];
    let table = database.alter_table(&table, &changes).unwrap();
    let mut transaction = database.begin();
    let without = batch(vec![("id", numbers(&[1])), ("shop", texts(&["a"]))]);
    transaction.upsert_batch(&table, &without).unwrap();
    let null: ArrayRef = Arc::new(Int64Array::from(vec![None]));
    let with = batch(vec![
        ("id", numbers(&[2])),
        ("shop", texts(&["a"])),
        ("count", numbers(&[3])),
        ("size", null),
    ]);
    transaction.upsert_batch(&table, &with).unwrap();
    transaction.commit().unwrap();
    let row = |id, count, size| {
        let text = Value::Utf8("a".into());
        vec![
            Value::Null,
            Value::Int64(id),
            text,
            Value::Int64(count),
            size,
        ]
    };
    let key = |id| vec![Value::Utf8("a".into()), Value::Int64(id)];
    let found = database.snapshot().multi_get(&table, &[key(1), key(2)]);
    let expected = [
        Some(row(1, 7, Value::Int64(8))),
        Some(row(2, 3, Value::Null)),
    ];
    assert_eq!(found.unwrap(), expected);
}
