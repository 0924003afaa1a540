//! Moonshine as the sink of a change stream of your own: `cargo run --example embed_cdc_sink -p moonshine-engine`.
//!
//! The stream's position is stored in the transaction that it belongs to, so after a crash the stream goes on exactly
//! behind what the database holds: nothing twice, nothing left out.

use moonshine_engine::{
    ColumnType, Database, Error, Options, Origin, Table, TableSchema, Transaction, Value,
};

/// A change as some stream delivers it, at a position that only grows.
enum Change {
    Put(i64, &'static str),
    Delete(i64),
}

const STREAM: [(u64, Change); 5] = [
    (1, Change::Put(1, "new")),
    (2, Change::Put(2, "new")),
    (3, Change::Put(1, "paid")),
    (4, Change::Delete(2)),
    (5, Change::Put(3, "new")),
];

fn apply(transaction: &mut Transaction, orders: &Table, change: &Change) -> Result<(), Error> {
    match change {
        Change::Put(id, state) => {
            let row = vec![Value::Int64(*id), Value::Utf8((*state).into())];
            transaction.upsert(orders, row)
        }
        Change::Delete(id) => transaction.delete(orders, &[Value::Int64(*id)]),
    }
}

/// Takes the stream up to a position, as a process that ends there does; returns how many changes it took.
fn follow(database: &Database, orders: &Table, until: u64) -> Result<usize, Error> {
    let origin = database.origin("shop");
    let done: u64 = origin.map_or(0, |origin| origin.position.parse().unwrap_or(0));
    let mut taken = 0;
    for (position, change) in STREAM
        .iter()
        .filter(|(position, _)| (done + 1..=until).contains(position))
    {
        let mut transaction = database.begin();
        apply(&mut transaction, orders, change)?;
        transaction.set_origin(Origin {
            source: "shop".into(),
            position: position.to_string(),
        });
        // Not waited for: the database writes what gathered while it synced. Acknowledge `database.durable_seq()`.
        drop(transaction.submit()?);
        taken += 1;
    }
    Ok(taken)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let open = || -> Result<(Database, Table), Error> {
        let database = Database::open(folder.path(), Options::unmeasured())?;
        let schema = TableSchema::builder("shop.orders")
            .column("id", ColumnType::Int64, false)
            .column("state", ColumnType::Utf8, false)
            .primary_key(["id"])
            .build()?;
        let orders = database.create_table(schema)?;
        Ok((database, orders))
    };
    let (database, orders) = open()?;
    assert_eq!(follow(&database, &orders, 3)?, 3);
    drop((database, orders));

    let (database, orders) = open()?;
    assert_eq!(follow(&database, &orders, 5)?, 2);
    // What an exporter writes to its table: the net change since it last came.
    database.sync()?;
    let snapshot = database.snapshot();
    let changes = database.changes(&orders, &snapshot)?;
    println!(
        "{} rows to write, {} to delete",
        changes.row_count(),
        changes.removed().row_count()
    );
    assert_eq!(changes.row_count(), 2);
    Ok(())
}
