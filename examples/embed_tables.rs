//! Moonshine as an embedded store of typed tables: `cargo run --example embed_tables -p moonshine-engine`.

use std::ops::Bound;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use moonshine_engine::{
    ColumnType, Database, Error, Isolation, Options, Scan, ScanOrder, Table, TableSchema, Value,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let database = Database::open(folder.path(), Options::unmeasured())?;
    let orders = database.create_table(
        TableSchema::builder("shop.orders")
            .column("customer", ColumnType::Int64, false)
            .column("number", ColumnType::Int64, false)
            .column("note", ColumnType::Utf8, true)
            .primary_key(["customer", "number"])
            .build()?,
    )?;
    let stock = database.create_table(
        TableSchema::builder("shop.stock")
            .column("article", ColumnType::Utf8, false)
            .column("pieces", ColumnType::Int32, false)
            .primary_key(["article"])
            .build()?,
    )?;

    // A transaction over both tables: all of it or none, durable when `commit` returns.
    let mut transaction = database.begin();
    transaction.upsert(
        &orders,
        vec![Value::Int64(7), Value::Int64(1), Value::Utf8("gift".into())],
    )?;
    transaction.upsert(&stock, vec![Value::Utf8("lamp".into()), Value::Int32(41)])?;
    transaction.commit()?;

    // Many rows at once, as an Arrow batch. The column that it lacks is null.
    let rows = RecordBatch::try_from_iter([
        (
            "customer",
            Arc::new(Int64Array::from(vec![7, 7, 8])) as ArrayRef,
        ),
        ("number", Arc::new(Int64Array::from(vec![2, 3, 1]))),
    ])?;
    let mut transaction = database.begin();
    transaction.upsert_batch(&orders, &rows)?;
    transaction.commit()?;

    sell_a_lamp(&database, &orders, &stock)?;
    forget_customer(&database, &orders, 8)?;
    assert_eq!(database.snapshot().row_count(&orders)?, 3);

    // One customer's orders, newest first: a bound may name the key's first columns alone.
    let of_customer = || vec![Value::Int64(7)];
    let scan = Scan {
        projection: Some(vec![1, 2]),
        order: ScanOrder::Descending,
        range: (
            Bound::Included(of_customer()),
            Bound::Included(of_customer()),
        ),
        ..Scan::default()
    };
    let snapshot = database.snapshot();
    let batches = snapshot
        .scan(&orders, scan)?
        .collect::<Result<Vec<_>, _>>()?;
    let numbers = batches
        .first()
        .and_then(|batch| batch.column(0).as_any().downcast_ref::<Int64Array>());
    assert_eq!(numbers, Some(&Int64Array::from(vec![3, 2, 1])));
    let notes = batches
        .first()
        .and_then(|batch| batch.column(1).as_any().downcast_ref::<StringArray>());
    assert_eq!(
        notes,
        Some(&StringArray::from(vec![None, None, Some("gift")]))
    );
    println!(
        "customer 7 has {} orders",
        numbers.map_or(0, |numbers| numbers.values().len())
    );
    Ok(())
}

/// Read and write in one: nobody else takes the same lamp, and the order must be new.
fn sell_a_lamp(database: &Database, orders: &Table, stock: &Table) -> Result<(), Error> {
    database.transact(Isolation::Serializable, |transaction| {
        let lamp = || Value::Utf8("lamp".into());
        let pieces = match transaction.get(stock, &[lamp()])?.as_deref() {
            Some([_, Value::Int32(pieces)]) => *pieces,
            _ => 0,
        };
        transaction.upsert(stock, vec![lamp(), Value::Int32(pieces - 1)])?;
        transaction.insert(orders, vec![Value::Int64(8), Value::Int64(2), Value::Null])
    })
}

/// All orders of a customer, however many, are deleted at the cost of one.
fn forget_customer(database: &Database, orders: &Table, customer: i64) -> Result<(), Error> {
    let of_customer = || Bound::Included(vec![Value::Int64(customer)]);
    let mut transaction = database.begin();
    transaction.delete_range(orders, &(of_customer(), of_customer()))?;
    transaction.commit().map(|_| ())
}
