//! One clean export of a large table: rows out of the database, into Parquet, into one Iceberg commit.
//!
//! `cargo bench -p moonshine-export --bench append -- load DATABASE ROWS` makes a database with one table of 16 columns;
//! `… -- export DATABASE WAREHOUSE` exports it and prints one JSON object: rows, bytes, seconds of wall clock and of CPU, and the
//! latter with the flush behind the export too. Nothing is exported yet in a database that was only loaded, so each measurement is
//! made of a copy. `… -- scan DATABASE` reads the rows as an export does, and prints seconds of CPU. `benches/export/append.py`
//! calls it, and has DuckDB and pyarrow write the same rows.

#![allow(
    clippy::disallowed_methods,
    reason = "a benchmark looks at the clock and at what the kernel counts"
)]

mod common;
mod process;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float64Array,
    Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use common::{Result, arguments, open};
use moonshine_engine::{ColumnType, Database, Options, Table, TableSchema, Value};
use process::cpu_s;
use serde_json::json;

/// Rows of a batch that is loaded.
const BATCH_ROWS: i64 = 8192;
const STATUSES: [&str; 5] = ["new", "paid", "packed", "shipped", "returned"];

fn schema() -> Result<TableSchema> {
    let money = ColumnType::Decimal {
        precision: 12,
        scale: 2,
    };
    Ok(TableSchema::builder("shop.orders")
        .column("id", ColumnType::Int64, false)
        .column("customer", ColumnType::Int64, false)
        .column("product", ColumnType::Int32, false)
        .column("quantity", ColumnType::Int32, true)
        .column("price", money, false)
        .column("discount", ColumnType::Float64, true)
        .column("weight", ColumnType::Float64, false)
        .column("status", ColumnType::Utf8, false)
        .column("country", ColumnType::Utf8, false)
        .column("created_at", ColumnType::TimestampTz, false)
        .column("changed_at", ColumnType::Timestamp, true)
        .column("due", ColumnType::Date, false)
        .column("email", ColumnType::Utf8, false)
        .column("note", ColumnType::Utf8, true)
        .column("is_gift", ColumnType::Boolean, false)
        .column("session", ColumnType::Uuid, false)
        .primary_key(["id"])
        .build()?)
}

/// A number that looks random, made of a row's id and the column (splitmix64).
fn scattered(id: i64, column: u64) -> u64 {
    let mut bits = (id as u64).wrapping_add(column.wrapping_mul(0xd6e8_feb8_6659_fd93));
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

fn rows(table: &Table, ids: std::ops::Range<i64>) -> Result<RecordBatch> {
    let each = |column: u64| ids.clone().map(move |id| scattered(id, column));
    let int = |column, below: u64| each(column).map(move |bits| (bits % below) as i32);
    let text = |column, below: u64, name: &'static str| {
        StringArray::from_iter_values(each(column).map(|bits| format!("{name} {}", bits % below)))
    };
    let created = ids
        .clone()
        .map(|id| 1_700_000_000_000_000 + id * 1500 + (scattered(id, 9) % 1000) as i64);
    let changed = ids.clone().map(|id| {
        (!scattered(id, 10).is_multiple_of(3))
            .then(|| 1_710_000_000_000_000 + (scattered(id, 11) % 10_000_000_000_000) as i64)
    });
    let price = Decimal128Array::from_iter_values(each(4).map(|bits| i128::from(bits % 100_000)));
    let session = ids.clone().map(|id| {
        let halves = [scattered(id, 15), scattered(id, 16)].map(u64::to_be_bytes);
        halves.concat()
    });
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(ids.clone())),
        Arc::new(Int64Array::from_iter_values(
            each(1).map(|bits| (bits % 1_000_000) as i64),
        )),
        Arc::new(Int32Array::from_iter_values(int(2, 50_000))),
        Arc::new(
            int(3, 20)
                .map(|quantity| (quantity > 0).then_some(quantity))
                .collect::<Int32Array>(),
        ),
        Arc::new(price.with_precision_and_scale(12, 2)?),
        Arc::new(
            each(5)
                .map(|bits| (bits % 4 > 0).then(|| (bits % 30) as f64 / 100.0))
                .collect::<Float64Array>(),
        ),
        Arc::new(Float64Array::from_iter_values(
            each(6).map(|bits| bits as f64 / 1e17),
        )),
        Arc::new(StringArray::from_iter_values(
            each(7).filter_map(|bits| STATUSES.get((bits % 5) as usize)),
        )),
        Arc::new(text(8, 60, "country")),
        Arc::new(TimestampMicrosecondArray::from_iter_values(created).with_timezone("+00:00")),
        Arc::new(changed.collect::<TimestampMicrosecondArray>()),
        Arc::new(Date32Array::from_iter_values(
            ids.clone().map(|id| 19_000 + (id / 60_000) as i32),
        )),
        Arc::new(StringArray::from_iter_values(
            each(12).map(|bits| format!("{:x}@example.org", bits >> 20)),
        )),
        Arc::new(
            each(13)
                .map(|bits| {
                    (bits % 5 > 0)
                        .then(|| format!("left with neighbour {} at the door", bits % 100_000))
                })
                .collect::<StringArray>(),
        ),
        Arc::new(
            each(14)
                .map(|bits| Some(bits % 10 == 0))
                .collect::<BooleanArray>(),
        ),
        Arc::new(FixedSizeBinaryArray::try_from_iter(session)?),
    ];
    Ok(RecordBatch::try_new(
        table.schema().arrow_schema().clone(),
        columns,
    )?)
}

fn load(folder: &Path, row_count: i64) -> Result<()> {
    let database = Database::open(folder, Options::unmeasured())?;
    let table = database.create_table(schema()?)?;
    let mut load = database.bulk_load(&table)?;
    let mut next = 0;
    while next < row_count {
        let end = row_count.min(next + BATCH_ROWS);
        load.upsert_batch(&rows(&table, next..end)?)?;
        next = end;
    }
    println!("{} rows", load.finish()?);
    Ok(())
}

/// The most memory that this process has had, in bytes; proc(5), `VmHWM` of `status`.
fn peak_memory_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib.ok_or("no peak of memory")?.parse::<u64>()? * 1024)
}

async fn export(folder: &Path, warehouse: &Path) -> Result<()> {
    let (database, _, mut exporter) = open(folder, warehouse, schema()?, json!({})).await?;
    let snapshot = database.snapshot();
    let (start, cpu_before_s) = (Instant::now(), cpu_s()?);
    let exports = exporter.tick(&snapshot).await?;
    let (wall_s, cpu_s) = (start.elapsed().as_secs_f64(), cpu_s()? - cpu_before_s);
    let peak_memory_bytes = peak_memory_bytes()?;
    let export = exports.first().ok_or("nothing was exported")?;
    // The record of where each row lies goes below level 0 in the background, with the next commit.
    let table = database.table("shop.orders").ok_or("there is no table")?;
    let mut transaction = database.begin();
    transaction.delete(&table, &[Value::Int64(-1)])?;
    transaction.commit()?;
    database.flush()?;
    let settled_cpu_s = self::cpu_s()? - cpu_before_s;
    println!(
        "{}",
        json!({
            "rows": export.rows_written, "files": export.data_files, "bytes": export.bytes_written,
            "wall_s": wall_s, "cpu_s": cpu_s, "settled_cpu_s": settled_cpu_s,
            "peak_memory_bytes": peak_memory_bytes,
        })
    );
    Ok(())
}

/// Reads the rows as an export does.
fn scan(folder: &Path) -> Result<()> {
    let database = Database::open(folder, Options::unmeasured())?;
    let table = database.table("shop.orders").ok_or("there is no table")?;
    let changes = database.changes(&table, &database.snapshot())?;
    let cpu_before_s = cpu_s()?;
    let mut row_count = 0;
    for batch in changes.batches(None, BATCH_ROWS as usize)? {
        row_count += batch?.num_rows();
    }
    let cpu_s = cpu_s()? - cpu_before_s;
    println!("{}", json!({ "rows": row_count, "cpu_s": cpu_s }));
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    match arguments()
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["load", folder, rows] => load(Path::new(folder), rows.parse()?),
        ["scan", folder] => scan(Path::new(folder)),
        ["export", folder, warehouse] => export(Path::new(folder), Path::new(warehouse)).await,
        // `cargo test --benches` runs it without arguments.
        _ => {
            println!("append load DATABASE ROWS | export DATABASE WAREHOUSE | scan DATABASE");
            Ok(())
        }
    }
}
