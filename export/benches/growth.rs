//! Whether a tick costs what its changes cost, however many rows are exported: the time of ticks that change the same number of
//! rows, spread over all keys, of a small and of a large table.
//!
//! `cargo bench -p moonshine-export --bench growth -- [rows small] [rows large] [changes a tick] [ticks]`

#![allow(clippy::disallowed_methods, reason = "a benchmark looks at the clock")]

use std::error::Error;
use std::time::Instant;

use moonshine_engine::{ColumnType, Database, Options, Table, TableSchema, Value};
use moonshine_export::{Exporter, IcebergConfig};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Rows that are loaded and exported at once.
const ROWS_PER_LOAD: u64 = 1_000_000;
/// Ticks before those that count.
const WARM_UP_TICKS: usize = 3;

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

struct Exported {
    database: Database,
    table: Table,
    exporter: Exporter,
    row_count: u64,
    changed: u64,
}

impl Exported {
    async fn grow(&mut self, row_count: u64) -> Result<()> {
        while self.row_count < row_count {
            let end = row_count.min(self.row_count + ROWS_PER_LOAD);
            let mut load = self.database.bulk_load(&self.table)?;
            for id in self.row_count..end {
                load.upsert(row(id, 0))?;
            }
            load.finish()?;
            self.row_count = end;
            self.exporter.tick(&self.database.snapshot()).await?;
        }
        self.database.flush()?;
        Ok(())
    }

    /// Seconds of the ticks, ascending.
    async fn ticks(&mut self, changes: u64, count: usize) -> Result<Vec<f64>> {
        let mut seconds = Vec::with_capacity(count);
        for number in 0..WARM_UP_TICKS + count {
            let mut transaction = self.database.begin();
            for _ in 0..changes {
                self.changed += 1;
                let id = mixed(self.changed) % self.row_count;
                transaction.upsert(&self.table, row(id, self.changed))?;
            }
            transaction.commit()?;
            let snapshot = self.database.snapshot();
            let start = Instant::now();
            let exports = self.exporter.tick(&snapshot).await?;
            let elapsed_s = start.elapsed().as_secs_f64();
            if exports.len() != 1 {
                return Err("a tick exported nothing".into());
            }
            if number >= WARM_UP_TICKS {
                seconds.push(elapsed_s);
            }
        }
        seconds.sort_by(f64::total_cmp);
        Ok(seconds)
    }
}

async fn compare(sizes: [u64; 2], changes: u64, ticks: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let database = Database::open(folder.path().join("database"), Options::unmeasured())?;
    let schema = TableSchema::builder("bench.rows")
        .column("id", ColumnType::Int64, false)
        .column("amount", ColumnType::Int64, false)
        .column("name", ColumnType::Utf8, true)
        .primary_key(["id"]);
    let table = database.create_table(schema.build()?)?;
    let config = serde_json::json!({ "warehouse_path": folder.path().join("warehouse") });
    let config: IcebergConfig = serde_json::from_value(config)?;
    let exporter = Exporter::open(database.clone(), &config).await?;
    let mut exported = Exported {
        database,
        table,
        exporter,
        row_count: 0,
        changed: 0,
    };
    let mut medians = Vec::new();
    for row_count in sizes {
        exported.grow(row_count).await?;
        let seconds = exported.ticks(changes, ticks).await?;
        let at = |share: f64| {
            let position = (seconds.len() as f64 * share) as usize;
            seconds.get(position).copied().unwrap_or(f64::NAN) * 1e3
        };
        println!(
            "{row_count:>11} rows exported, {changes} changes a tick: median {:.1} ms, 90 % {:.1} ms",
            at(0.5),
            at(0.9)
        );
        medians.push(at(0.5));
    }
    if let [small, large] = medians[..] {
        println!("large / small: {:.2}", large / small);
    }
    Ok(())
}

fn main() -> Result<()> {
    let arguments = std::env::args().skip(1);
    let mut numbers = arguments.filter_map(|argument| argument.parse::<u64>().ok());
    let mut number = |default| numbers.next().unwrap_or(default);
    let sizes = [number(200_000), number(2_000_000)];
    let (changes, ticks) = (number(1_000), usize::try_from(number(20))?);
    tokio::runtime::Runtime::new()?.block_on(compare(sizes, changes, ticks))
}
