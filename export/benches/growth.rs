//! Whether a tick costs what its changes cost, however many rows are exported: the time of ticks that change the same number of
//! rows, in tables of several sizes.
//!
//! `cargo bench -p moonshine-export --bench growth -- FORMAT_VERSION CHANGES TICKS FILE_MB ROWS…`
//!
//! Loads a table of each size ROWS, and exports it at once to data files of about FILE_MB, so that all have as many
//! snapshots. Then each gets TICKS ticks that change CHANGES rows, the tables taking turns: of changed keys that are *spread* over all
//! keys, so that as many data files as can be have deleted rows, and *near* each other, as new rows' often are. Prints a Markdown table; what it says of the largest and the smallest table is the
//! ratio of their medians, and of the mean CPU time of all cores.
//! Locations of rows that the database's memory does not hold are read for each change; `MEMORY_BUDGET_MB` gives it more.

#![allow(clippy::disallowed_methods, reason = "a benchmark looks at the clock")]

mod common;
mod process;

use std::path::Path;
use std::time::Instant;

use common::{Result, arguments, open};
use moonshine_engine::{ColumnType, Database, Table, TableSchema, Value};
use moonshine_export::Exporter;
use process::cpu_s;
use serde_json::json;

/// Rows that are loaded at once.
const ROWS_PER_LOAD: u64 = 1_000_000;
/// Ticks before those that count.
const WARM_UP_TICKS: usize = 3;

#[derive(Clone, Copy)]
enum Keys {
    Spread,
    Near,
}

struct Workload {
    format_version: u8,
    changes: u64,
    ticks: usize,
    file_mb: u64,
}

/// A table of one size.
struct Sized {
    database: Database,
    table: Table,
    exporter: Exporter,
    row_count: u64,
    /// Rows that were changed so far.
    changed: u64,
    file_count: u64,
}

/// What was measured of one table with one kind of keys.
#[derive(Default)]
struct Measured {
    /// Of each tick, on the clock and of all cores.
    seconds: Vec<f64>,
    cpu_seconds: Vec<f64>,
    delete_files: u64,
}

fn row(id: u64, amount: u64) -> Vec<Value> {
    vec![
        Value::Int64(id.cast_signed()),
        Value::Int64(amount.cast_signed()),
        Value::Utf8(format!("row {id}")),
    ]
}

/// Numbers that look random, the same each time.
fn mixed(number: u64) -> u64 {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

impl Sized {
    async fn load(folder: &Path, row_count: u64, workload: &Workload) -> Result<Sized> {
        let schema = TableSchema::builder("bench.rows")
            .column("id", ColumnType::Int64, false)
            .column("amount", ColumnType::Int64, false)
            .column("name", ColumnType::Utf8, true)
            .primary_key(["id"])
            .build()?;
        let folder = folder.join(row_count.to_string());
        let settings = json!({
            "format_version": workload.format_version, "target_file_size_mb": workload.file_mb,
        });
        let (data, warehouse) = (folder.join("data"), folder.join("warehouse"));
        let opened = open(&data, &warehouse, schema, settings).await?;
        let (database, table, mut exporter) = opened;
        let mut next = 0;
        while next < row_count {
            let end = row_count.min(next + ROWS_PER_LOAD);
            let mut load = database.bulk_load(&table)?;
            for id in next..end {
                load.upsert(row(id, 0))?;
            }
            load.finish()?;
            next = end;
        }
        let exports = exporter.tick(&database.snapshot()).await?;
        let file_count = exports.iter().map(|export| export.data_files).sum();
        database.flush()?;
        Ok(Sized {
            database,
            table,
            exporter,
            row_count,
            changed: 0,
            file_count,
        })
    }

    async fn tick(&mut self, keys: Keys, changes: u64, measured: &mut Measured) -> Result<()> {
        let first = mixed(self.changed);
        let mut transaction = self.database.begin();
        for number in 0..changes {
            self.changed += 1;
            let id = match keys {
                Keys::Spread => mixed(self.changed),
                Keys::Near => (first % self.row_count) + number,
            };
            transaction.upsert(&self.table, row(id % self.row_count, self.changed))?;
        }
        transaction.commit()?;
        let snapshot = self.database.snapshot();
        let (start, cpu_before_s) = (Instant::now(), cpu_s()?);
        let exports = self.exporter.tick(&snapshot).await?;
        measured.seconds.push(start.elapsed().as_secs_f64());
        measured.cpu_seconds.push(cpu_s()? - cpu_before_s);
        let export = exports.first().ok_or("a tick exported nothing")?;
        measured.delete_files += export.delete_files;
        Ok(())
    }
}

impl Measured {
    /// The time that a share of the ticks took at most, in milliseconds.
    fn at(&self, share: f64) -> f64 {
        let mut seconds = self.seconds.clone();
        seconds.sort_by(f64::total_cmp);
        let position = (seconds.len() as f64 * share) as usize;
        seconds.get(position).copied().unwrap_or(f64::NAN) * 1e3
    }

    /// The mean, in milliseconds: the system counts a process's time in steps of several milliseconds.
    fn cpu(&self) -> f64 {
        self.cpu_seconds.iter().sum::<f64>() / self.cpu_seconds.len() as f64 * 1e3
    }
}

async fn compare(folder: &Path, sizes: &[u64], workload: &Workload) -> Result<()> {
    let mut tables = Vec::new();
    for row_count in sizes {
        tables.push(Sized::load(folder, *row_count, workload).await?);
    }
    println!(
        "| rows exported | data files | changed keys | delete files a tick | median, ms | 90 %, ms | CPU, ms |"
    );
    println!("|---:|---:|---|---:|---:|---:|---:|");
    for (keys, name) in [(Keys::Near, "near"), (Keys::Spread, "spread")] {
        let mut measured: Vec<Measured> = tables.iter().map(|_| Measured::default()).collect();
        for number in 0..WARM_UP_TICKS + workload.ticks {
            for (table, measured) in tables.iter_mut().zip(&mut measured) {
                if number == WARM_UP_TICKS {
                    *measured = Measured::default();
                }
                table.tick(keys, workload.changes, measured).await?;
            }
        }
        for (table, measured) in tables.iter().zip(&measured) {
            println!(
                "| {} | {} | {name} | {:.1} | {:.1} | {:.1} | {:.1} |",
                table.row_count,
                table.file_count,
                measured.delete_files as f64 / workload.ticks as f64,
                measured.at(0.5),
                measured.at(0.9),
                measured.cpu()
            );
        }
        if let [smallest, .., largest] = measured.as_slice() {
            let ratio = largest.at(0.5) / smallest.at(0.5);
            let cpu_ratio = largest.cpu() / smallest.cpu();
            println!("| largest / smallest | | {name} | | {ratio:.2} | | {cpu_ratio:.2} |");
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = arguments();
    let numbers: std::result::Result<Vec<u64>, _> =
        arguments.iter().map(|argument| argument.parse()).collect();
    match numbers?.as_slice() {
        [format_version, changes, ticks, file_mb, sizes @ ..] if !sizes.is_empty() => {
            let workload = Workload {
                format_version: u8::try_from(*format_version)?,
                changes: *changes,
                ticks: usize::try_from(*ticks)?,
                file_mb: *file_mb,
            };
            let folder = tempfile::tempdir()?;
            compare(folder.path(), sizes, &workload).await
        }
        // `cargo test --benches` runs it without arguments.
        _ => {
            println!("growth FORMAT_VERSION CHANGES TICKS FILE_MB ROWS…");
            Ok(())
        }
    }
}
