//! One clean export of a large table: rows out of the database, into Parquet, into one Iceberg commit.
//!
//! `cargo bench -p moonshine-export --bench append -- load DATABASE ROWS` makes a database with one table of 16 columns;
//! `… -- export DATABASE WAREHOUSE` exports it and prints one JSON object: rows, seconds of wall clock and of CPU, bytes. Nothing
//! is exported yet in a database that was only loaded, so each measurement is made of a copy. `benches/export/append.py` calls it, and
//! has DuckDB and pyarrow write the same rows.

#![allow(
    clippy::disallowed_methods,
    reason = "a benchmark looks at the clock and at what the kernel counts"
)]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float64Array,
    Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use common::{Result, arguments, open};
use moonshine_engine::{ColumnType, Database, Options, Table, TableSchema};
use serde_json::json;

/// Rows of a batch that is loaded.
const BATCH_ROWS: i64 = 8192;
/// What the kernel counts CPU time in, a second.
const TICKS_PER_SECOND: f64 = 100.0;

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

/// The CPU time that this process has used, in seconds; proc(5), fields 14 and 15 of `stat`.
fn cpu_s() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no process name")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let field =
        |index: usize| -> Result<f64> { Ok(fields.get(index).ok_or("no such field")?.parse()?) };
    Ok((field(11)? + field(12)?) / TICKS_PER_SECOND)
}

async fn export(folder: &Path, warehouse: &Path) -> Result<()> {
    let (database, _, mut exporter) = open(folder, warehouse, schema()?, json!({})).await?;
    let snapshot = database.snapshot();
    let (start, cpu_before_s) = (Instant::now(), cpu_s()?);
    let exports = exporter.tick(&snapshot).await?;
    let (wall_s, cpu_s) = (start.elapsed().as_secs_f64(), cpu_s()? - cpu_before_s);
    let export = exports.first().ok_or("nothing was exported")?;
    println!(
        "{}",
        json!({
            "rows": export.rows_written, "files": export.data_files, "bytes": export.bytes_written,
            "wall_s": wall_s, "cpu_s": cpu_s,
        })
    );
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
        ["export", folder, warehouse] => export(Path::new(folder), Path::new(warehouse)).await,
        // `cargo test --benches` runs it without arguments.
        _ => {
            println!("append load DATABASE ROWS | append export DATABASE WAREHOUSE");
            Ok(())
        }
    }
}
