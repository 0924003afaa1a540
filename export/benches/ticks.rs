//! Upsert ticks: how long an export takes that changes a share of a table's rows, and what it leaves for readers.
//!
//! `cargo bench -p moonshine-export --bench ticks -- FOLDER ROWS TICKS SHARE FORMAT_VERSION`
//!
//! Makes a database and a warehouse in FOLDER, loads ROWS rows by one export, and then TICKS times changes SHARE of them (0.01 is
//! 1 %), exports that, and does the maintenance that is due. At the end the same rows are exported once more, by one export into a warehouse of their own
//! (`clean`), to be read beside the first. Prints one JSON object. `benches/export/ticks.py` calls it, reads both tables by
//! DuckDB, and has PyIceberg make the same ticks; the rows are made by the same formulas there.

#![allow(clippy::disallowed_methods, reason = "a benchmark looks at the clock")]

mod common;
mod process;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow_array::{
    ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch,
    StringArray, TimestampMicrosecondArray,
};
use common::{Result, arguments, open};
use moonshine_engine::{ColumnType, Database, Scan, Table, TableSchema};
use process::cpu_s;
use serde_json::json;

/// Rows of a transaction.
const BATCH_ROWS: usize = 8192;
/// Spreads the rows that a tick changes over the table.
const STRIDE: u64 = 999_999_937;

struct Workload {
    rows: u64,
    ticks: u64,
    changed_rows: u64,
}

fn schema() -> Result<TableSchema> {
    let total = ColumnType::Decimal {
        precision: 12,
        scale: 2,
    };
    Ok(TableSchema::builder("shop.orders")
        .column("id", ColumnType::Int64, false)
        .column("customer", ColumnType::Utf8, true)
        .column("total", total, true)
        .column("quantity", ColumnType::Int32, true)
        .column("is_paid", ColumnType::Boolean, true)
        .column("ordered_at", ColumnType::TimestampTz, true)
        .column("note", ColumnType::Utf8, true)
        .column("weight", ColumnType::Float64, true)
        .primary_key(["id"])
        .build()?)
}

/// Rows with these ids as a tick leaves them; the load is tick 0.
fn rows(table: &Table, ids: &[i64], tick: i64) -> Result<RecordBatch> {
    let each = |of: fn(i64, i64) -> i64| ids.iter().map(move |&id| of(id, tick));
    let total = Decimal128Array::from_iter_values(
        each(|id, tick| (id * 31 + tick) % 1_000_000).map(i128::from),
    );
    let at = TimestampMicrosecondArray::from_iter_values(each(|id, tick| {
        1_700_000_000_000_000 + id * 1000 + tick
    }));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(ids.to_vec())),
        Arc::new(StringArray::from_iter_values(
            each(|id, tick| (id * 7919 + tick) % 100_000).map(|n| format!("customer {n}")),
        )),
        Arc::new(total.with_precision_and_scale(12, 2)?),
        Arc::new(Int32Array::from_iter_values(
            each(|id, tick| (id + tick) % 100).map(|n| n as i32),
        )),
        Arc::new(
            ids.iter()
                .map(|id| Some((id + tick) % 2 == 0))
                .collect::<BooleanArray>(),
        ),
        Arc::new(at.with_timezone("+00:00")),
        Arc::new(StringArray::from_iter_values(
            ids.iter()
                .map(|id| format!("note {} of tick {tick}", id % 1000)),
        )),
        Arc::new(Float64Array::from_iter_values(
            ids.iter().map(|&id| id as f64 * 0.5 + tick as f64),
        )),
    ];
    Ok(RecordBatch::try_new(
        table.schema().arrow_schema().clone(),
        columns,
    )?)
}

fn upsert(database: &Database, table: &Table, ids: &[i64], tick: i64) -> Result<()> {
    for ids in ids.chunks(BATCH_ROWS) {
        let mut transaction = database.begin();
        transaction.upsert_batch(table, &rows(table, ids, tick)?)?;
        transaction.commit()?;
    }
    Ok(())
}

async fn ticks(
    workload: &Workload,
    folder: &Path,
    format_version: u8,
) -> Result<(Database, serde_json::Value)> {
    let (data, warehouse) = (folder.join("data"), folder.join("ticks"));
    let settings = json!({ "format_version": format_version });
    let (database, table, mut exporter) = open(&data, &warehouse, schema()?, settings).await?;
    let all: Vec<i64> = (0..workload.rows as i64).collect();
    let (mut write_s, mut export_s, mut maintain_s) = (Vec::new(), Vec::new(), Vec::new());
    let (mut export_cpu_s, mut maintain_cpu_s) = (Vec::new(), Vec::new());
    for tick in 0..=workload.ticks {
        let changed =
            (0..workload.changed_rows).map(|n| ((n * STRIDE + tick * 7) % workload.rows) as i64);
        let ids: Vec<i64> = match tick {
            0 => all.clone(),
            _ => changed.collect(),
        };
        let start = Instant::now();
        upsert(&database, &table, &ids, tick as i64)?;
        write_s.push(start.elapsed().as_secs_f64());
        let (start, cpu_before_s) = (Instant::now(), cpu_s()?);
        exporter.tick(&database.snapshot()).await?;
        export_s.push(start.elapsed().as_secs_f64());
        export_cpu_s.push(cpu_s()? - cpu_before_s);
        // A sync does so beside the exports.
        let (start, cpu_before_s) = (Instant::now(), cpu_s()?);
        exporter.maintainer().run_due().await;
        maintain_s.push(start.elapsed().as_secs_f64());
        maintain_cpu_s.push(cpu_s()? - cpu_before_s);
    }
    let times = json!({
        "write_s": write_s, "export_s": export_s, "maintain_s": maintain_s,
        "export_cpu_s": export_cpu_s, "maintain_cpu_s": maintain_cpu_s,
    });
    Ok((database, times))
}

/// The rows that the database holds, by one export of a database of their own.
async fn clean(database: &Database, folder: &Path, format_version: u8) -> Result<()> {
    let source = database.table("shop.orders").ok_or("there is no table")?;
    let (data, warehouse) = (folder.join("clean-data"), folder.join("clean"));
    let settings = json!({ "format_version": format_version });
    let (copy, table, mut exporter) = open(&data, &warehouse, schema()?, settings).await?;
    for batch in database.snapshot().scan(&source, Scan::default())? {
        let mut transaction = copy.begin();
        transaction.upsert_batch(&table, &batch?)?;
        transaction.commit()?;
    }
    exporter.tick(&copy.snapshot()).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = arguments();
    let [folder, rows, ticks_wanted, share, format_version] = arguments.as_slice() else {
        // `cargo test --benches` runs it without arguments.
        println!("ticks FOLDER ROWS TICKS SHARE FORMAT_VERSION");
        return Ok(());
    };
    let rows: u64 = rows.parse()?;
    let share: f64 = share.parse()?;
    let workload = Workload {
        rows,
        ticks: ticks_wanted.parse()?,
        changed_rows: (rows as f64 * share) as u64,
    };
    let format_version = format_version.parse()?;
    let folder = Path::new(folder);
    let (database, times) = ticks(&workload, folder, format_version).await?;
    clean(&database, folder, format_version).await?;
    println!("{times}");
    Ok(())
}
