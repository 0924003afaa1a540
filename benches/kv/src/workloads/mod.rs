//! The work, one file a kind. A *step* is what one child process does with one engine.
//!
//! `load` makes the database that most others start from; those that change it get a copy. Every step checks what it
//! reads and ends with an error if an answer is wrong, so an engine gains nothing by not answering.

mod churn;
mod larger;
mod load;
mod reads;
mod redb_bench;
mod reopen;
mod writes;
mod ycsb;

pub(crate) use reopen::READY_FILE;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::adapters;
use crate::data::{self, Rng};
use crate::kv::{Durability, Kv, Reader, Result};
use crate::measure::{self, Measured, Rate, Record, Usage};
use crate::settings::{BATCH_ROWS, Memory};

/// An engine that takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Engine {
    Moonshine,
    /// Moonshine with a keyspace that is divided by range instead of by hash.
    #[serde(rename = "moonshine-range")]
    MoonshineRange,
    Rocksdb,
    Fjall,
    Redb,
    Lmdb,
    Sled,
}

impl Engine {
    /// Whether it is one that others are compared with.
    pub(crate) fn is_peer(self) -> bool {
        !matches!(self, Engine::Moonshine | Engine::MoonshineRange)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Engine::Moonshine => "moonshine",
            Engine::MoonshineRange => "moonshine-range",
            Engine::Rocksdb => "rocksdb",
            Engine::Fjall => "fjall",
            Engine::Redb => "redb",
            Engine::Lmdb => "lmdb",
            Engine::Sled => "sled",
        }
    }
}

/// What one child process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Step {
    Load,
    Reads,
    Writes,
    Ycsb,
    Churn,
    /// Writes, says so, and waits to be killed.
    Crash,
    /// Opens what a killed process left.
    Reopen,
    Larger,
    RedbBench,
}

/// How much work, the same for every engine.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Sizes {
    pub(crate) row_count: u64,
    /// Operations of a phase, unless the time limit comes first.
    pub(crate) op_count: u64,
    pub(crate) larger_row_count: u64,
    pub(crate) redb_bench_row_count: u64,
    pub(crate) memory: Memory,
    /// What the redb benchmark gives its engines.
    pub(crate) redb_bench_memory: Memory,
    /// Threads of the rows "all cores".
    pub(crate) threads: usize,
    /// Longest a phase runs that may end early.
    pub(crate) phase_limit: Duration,
    /// How long single durable writes run.
    pub(crate) durable_phase: Duration,
    pub(crate) seed: u64,
}

/// What a step works with.
pub(crate) struct Job {
    pub(crate) sizes: Sizes,
    /// The database's folder.
    pub(crate) folder: PathBuf,
    records: Mutex<Vec<Record>>,
    section: &'static str,
}

impl Job {
    fn open<K: Kv>(&self) -> Result<K> {
        K::open(&self.folder, self.sizes.memory)
    }

    fn rate(&self, row: impl Into<String>, rate: Rate) {
        self.record(row, Measured::Rate(rate));
    }

    /// A number of which less is better.
    fn figure(&self, row: impl Into<String>, value: f64, unit: &str) {
        self.record(
            row,
            Measured::Figure {
                value,
                unit: unit.into(),
            },
        );
    }

    fn record(&self, row: impl Into<String>, measured: Measured) {
        let record = Record {
            section: self.section.into(),
            row: row.into(),
            measured,
        };
        self.records
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(record);
    }

    /// Size on disk as a multiple of the bytes of the rows that live.
    fn space(&self, row: &str, live_rows: u64) -> Result<()> {
        let disk_bytes = measure::disk_bytes(&self.folder)?;
        self.figure(
            row,
            disk_bytes as f64 / (live_rows * data::ROW_SIZE_BYTES) as f64,
            "×",
        );
        Ok(())
    }
}

/// Runs one step with one engine in this process; returns what it measured.
pub(crate) fn run(engine: Engine, step: Step, folder: &Path, sizes: Sizes) -> Result<Vec<Record>> {
    let mut job = Job {
        sizes,
        folder: folder.to_owned(),
        records: Mutex::default(),
        section: section(step),
    };
    match engine {
        Engine::Moonshine => run_step::<adapters::moonshine::ByHash>(step, &job)?,
        Engine::MoonshineRange => run_step::<adapters::moonshine::ByRange>(step, &job)?,
        Engine::Rocksdb => run_step::<adapters::rocksdb::RocksDb>(step, &job)?,
        Engine::Fjall => run_step::<adapters::fjall::Fjall>(step, &job)?,
        Engine::Redb => run_step::<adapters::redb::Redb>(step, &job)?,
        Engine::Lmdb => run_step::<adapters::lmdb::Lmdb>(step, &job)?,
        Engine::Sled => run_step::<adapters::sled::Sled>(step, &job)?,
    }
    job.section = "peak memory";
    job.figure(
        format!("{}, with mapped files", section(step)),
        mib(measure::peak_memory_bytes()?),
        "MiB",
    );
    Ok(job
        .records
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner))
}

/// The part of the report that a step's rows stand in.
pub(crate) fn section(step: Step) -> &'static str {
    match step {
        Step::Load => "bulk load",
        Step::Reads => "reads",
        Step::Writes => "writes",
        Step::Ycsb => "YCSB",
        Step::Churn => "churn",
        Step::Crash | Step::Reopen => "reopen after kill -9",
        Step::Larger => "larger than memory",
        Step::RedbBench => "redb-bench",
    }
}

fn run_step<K: Kv>(step: Step, job: &Job) -> Result<()> {
    match step {
        Step::Load => load::run::<K>(job),
        Step::Reads => reads::run::<K>(job),
        Step::Writes => writes::run::<K>(job),
        Step::Ycsb => ycsb::run::<K>(job),
        Step::Churn => churn::run::<K>(job),
        Step::Crash => reopen::crash::<K>(job),
        Step::Reopen => reopen::reopen::<K>(job),
        Step::Larger => larger::run::<K>(job),
        Step::RedbBench => redb_bench::run::<K>(job),
    }
}

pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// How long background work may take to end before a step goes on anyway.
const SETTLE_LIMIT: Duration = Duration::from_secs(600);

/// Waits until the engine has nothing left to do; returns what was used up to then.
fn settle<K: Kv>(kv: &K) -> Result<Usage> {
    kv.settle()?;
    measure::wait_until_idle(SETTLE_LIMIT)
}

/// Writes these rows at a version in buffered batches, in their order, and syncs at the end.
fn write_rows<K: Kv>(kv: &K, ids: &[u32], version: u64) -> Result<Rate> {
    let before = Usage::now()?;
    for ids in ids.chunks(BATCH_ROWS) {
        kv.write(Durability::Buffered, |sink| {
            ids.iter()
                .map(|&id| u64::from(id))
                .try_for_each(|id| sink.put(&data::key(id), &data::value(id, version)))
        })?;
    }
    kv.sync()?;
    before.since(ids.len() as u64)
}

/// Checks that a scan of everything sees so many rows, each whole and under its own key.
fn check_all_rows<K: Kv>(kv: &K, row_count: u64) -> Result<()> {
    let mut wrong = 0u64;
    let found = kv
        .reader()?
        .scan(|key, value| wrong += u64::from(!data::is_row(key, value)))?;
    data::ensure(found == row_count && wrong == 0, || {
        format!(
            "{found} rows of {row_count} found, {wrong} of them with another's or a damaged value"
        )
    })
}

fn rng(job: &Job, phase: u64, thread: u64) -> Rng {
    Rng::new(job.sizes.seed ^ (phase << 32) ^ thread)
}
