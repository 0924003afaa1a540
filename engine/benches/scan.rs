//! How fast a keyspace and a table of typed columns are scanned: rows a second and CPU time a row, as pairs and as Arrow batches, by one thread and by
//! several; settled, and with rows that are replaced.
//!
//! `cargo bench -p moonshine-engine --bench scan -- [rows] [threads]`

#![allow(clippy::disallowed_methods, reason = "a benchmark looks at the clock")]

use std::error::Error;
use std::time::Instant;

use arrow_array::RecordBatch;
use moonshine_engine::{
    Batches, ColumnType, Database, Durability, Keyspace, Options, Scan, Table, TableSchema, Value,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const VALUE_SIZE_BYTES: usize = 100;
const ROWS_PER_COMMIT: u64 = 1000;
const ROUNDS: usize = 5;

/// Keys in random order.
fn key(i: u64) -> [u8; 16] {
    let mixed = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut key = [0; 16];
    let (front, back) = key.split_at_mut(8);
    front.copy_from_slice(&(mixed ^ mixed >> 29).to_be_bytes());
    back.copy_from_slice(&i.to_be_bytes());
    key
}

fn write(keyspace: &Keyspace, keys: impl Iterator<Item = u64>) -> Result<()> {
    let keys: Vec<u64> = keys.collect();
    for chunk in keys.chunks(ROWS_PER_COMMIT as usize) {
        let mut batch = keyspace.batch();
        for i in chunk {
            batch.insert(key(*i), [*i as u8; VALUE_SIZE_BYTES])?;
        }
        batch.commit()?;
    }
    Ok(())
}

/// CPU time of the process in seconds, from `/proc`.
fn cpu_s() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no process name")?;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: f64 = ticks.map(|field| field.parse::<f64>().unwrap_or(0.0)).sum();
    Ok(ticks / 100.0)
}

fn measure(name: &str, rows: u64, mut scan: impl FnMut() -> Result<u64>) -> Result<()> {
    let mut best_s = f64::MAX;
    let cpu_before = cpu_s()?;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let found = scan()?;
        best_s = best_s.min(start.elapsed().as_secs_f64());
        if found != rows {
            return Err(format!("{name}: {found} rows of {rows}").into());
        }
    }
    let cpu_ns = (cpu_s()? - cpu_before) / (ROUNDS as f64 * rows as f64) * 1e9;
    println!(
        "{name:30} {:7.1} M rows/s  {cpu_ns:6.1} ns CPU a row",
        rows as f64 / best_s / 1e6
    );
    Ok(())
}

fn count(batches: Batches) -> Result<u64> {
    let count = |batch: moonshine_engine::Result<RecordBatch>| Ok(batch?.num_rows() as u64);
    batches.map(count).sum()
}

fn scans(database: &Database, keyspace: &Keyspace, rows: u64, threads: usize) -> Result<()> {
    let snapshot = database.snapshot();
    let table = keyspace.table();
    measure("row_count", rows, || Ok(snapshot.row_count(table)?))?;
    measure("pairs, 1 thread", rows, || {
        let mut seen = 0;
        keyspace.at(&snapshot)?.for_each(|key, value| {
            seen += u64::from(key.len() + value.len() == 16 + VALUE_SIZE_BYTES);
        })?;
        Ok(seen)
    })?;
    measure("Arrow, 1 thread", rows, || {
        count(snapshot.scan(table, Scan::default())?)
    })?;
    let keys = Scan {
        projection: Some(vec![0]),
        ..Scan::default()
    };
    measure("Arrow, keys alone, 1 thread", rows, || {
        count(snapshot.scan(table, keys.clone())?)
    })?;
    measure(&format!("Arrow, {threads} threads"), rows, || {
        let parts = snapshot.scan_parts(table, &Scan::default(), threads)?;
        std::thread::scope(|scope| {
            let readers: Vec<_> = parts
                .into_iter()
                .map(|part| scope.spawn(|| count(part).map_err(|error| error.to_string())))
                .collect();
            let mut found = 0;
            for reader in readers {
                found += reader.join().map_err(|_| "a thread panicked")??;
            }
            Ok(found)
        })
    })
}

/// Orders: numbers, text, a decimal and a time, some of them null.
fn orders(database: &Database, rows: u64) -> Result<Table> {
    let price = ColumnType::Decimal {
        precision: 18,
        scale: 2,
    };
    let schema = TableSchema::builder("orders")
        .column("id", ColumnType::Int64, false)
        .column("customer", ColumnType::Int32, false)
        .column("at", ColumnType::TimestampTz, false)
        .column("price", price, true)
        .column("weight", ColumnType::Float64, true)
        .column("status", ColumnType::Utf8, false)
        .column("note", ColumnType::Utf8, true)
        .column("is_paid", ColumnType::Boolean, false)
        .primary_key(["id"]);
    let table = database.create_table(schema.build()?)?;
    for start in (0..rows).step_by(ROWS_PER_COMMIT as usize) {
        let mut transaction = database.begin();
        transaction.set_durability(Durability::Buffered);
        for i in start..rows.min(start + ROWS_PER_COMMIT) {
            let id = i as i64;
            let note = match i % 4 {
                0 => Value::Utf8(format!("leave it at the door of number {i}")),
                _ => Value::Null,
            };
            transaction.upsert(
                &table,
                vec![
                    Value::Int64(id.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64)),
                    Value::Int32(id as i32 % 10_000),
                    Value::TimestampTz(id * 1_000_000),
                    Value::Decimal(i128::from(i % 100_000)),
                    Value::Float64(id as f64 / 7.0),
                    Value::Utf8(if i % 3 == 0 { "new" } else { "delivered" }.into()),
                    note,
                    Value::Boolean(i % 5 > 0),
                ],
            )?;
        }
        transaction.commit()?;
    }
    Ok(table)
}

fn typed_scans(database: &Database, rows: u64) -> Result<()> {
    let table = orders(database, rows)?;
    database.compact()?;
    println!("{rows} rows of eight typed columns, settled");
    let snapshot = database.snapshot();
    for (name, projection) in [
        ("Arrow, all columns", None),
        ("Arrow, three numbers", Some(vec![0, 2, 4])),
        ("Arrow, the key alone", Some(vec![0])),
        ("Arrow, one text", Some(vec![5])),
    ] {
        let scan = Scan {
            projection,
            ..Scan::default()
        };
        measure(name, rows, || count(snapshot.scan(&table, scan.clone())?))?;
    }
    Ok(())
}

fn main() -> Result<()> {
    // Cargo adds a flag of its own.
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with('-'));
    let rows: u64 = args.next().map_or(Ok(1_000_000), |arg| arg.parse())?;
    let threads: usize = args.next().map_or(Ok(4), |arg| arg.parse())?;
    let folder = tempfile::tempdir()?;
    let database = Database::open(folder.path(), Options::default())?;
    let keyspace = database
        .keyspace("rows")?
        .with_durability(Durability::Buffered);
    write(&keyspace, 0..rows)?;
    database.flush()?;
    database.compact()?;
    println!("{rows} rows of 16 + {VALUE_SIZE_BYTES} bytes, settled");
    scans(&database, &keyspace, rows, threads)?;
    write(&keyspace, (0..rows).step_by(10))?;
    database.flush()?;
    println!("a tenth written again, not compacted");
    scans(&database, &keyspace, rows, threads)?;
    database.compact()?;
    println!("compacted");
    scans(&database, &keyspace, rows, threads)?;
    typed_scans(&database, rows)
}
