//! Embedded key-value engines side by side: Moonshine, RocksDB, fjall, redb, LMDB and sled.
//!
//! # Running it
//!
//! RocksDB is C++ and its bindings are made at build time: `apt-get install g++ libclang-dev`. Then, in `benches/kv`:
//!
//! ```sh
//! cargo run --release -- --quick                          # small sizes, a few minutes: does everything work?
//! cargo run --release -- --rounds 3 --output results      # 1 M rows of 16 + 100 bytes; results.{json,md} and plots
//! cargo run --release -- --workloads reads,ycsb --engines moonshine,rocksdb --rows 5000000
//! ```
//!
//! This crate is no member of the workspace, so nobody builds RocksDB who does not want to. tonbo is not among the peers:
//! its newest release is an alpha on another Arrow and DataFusion than Moonshine's, and reads only asynchronously.
//!
//! # What makes it fair
//!
//! - `settings.rs` holds every setting of every engine: the same memory, no compression, the same durability a row.
//! - Each step of each engine runs in a process of its own (`runner.rs`); engines take turns, and each round begins
//!   with the next engine. Results are medians over rounds.
//! - Every answer is checked (`data.rs`): values carry their row's number, version and a checksum, scans are compared
//!   with the sum over all rows, and what was acknowledged as durable must be there after `kill -9`.
//! - "Settled" means that the engine was asked to write out its memory, and that it and its threads then used no CPU.
//!   No manual compaction is asked for. CPU time includes background threads.
//! - Bytes written are those that the kernel counts for the process (`write_bytes`), size on disk is allocated blocks.
//!
//! What it does not even out: LMDB has no cache of its own but the system's page cache, which is not limited; and the
//! other engines also profit from the page cache under theirs.
//!
//! # Where things are
//!
//! `kv.rs` is the trait that engines implement, `adapters/` one file an engine, `workloads/` one file a kind of work,
//! `measure.rs` clock, CPU and bytes, `runner.rs` the child processes, `report/` tables and plots.

mod adapters;
mod data;
mod kv;
mod machine;
mod measure;
mod report;
mod runner;
mod settings;
mod workloads;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::kv::Result;
use crate::runner::{Plan, Workload};
use crate::settings::Memory;
use crate::workloads::{Engine, Sizes, Step};

/// Measures embedded key-value engines side by side.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArguments,
}

#[derive(Subcommand)]
enum Command {
    /// One step of one engine, in this process: what the runner starts
    #[command(hide = true)]
    Step {
        engine: Engine,
        step: Step,
        folder: PathBuf,
        sizes: String,
    },
    /// Makes tables and plots from a result file again
    Report {
        /// The JSON file of a run
        results: PathBuf,
    },
}

#[derive(Args)]
struct RunArguments {
    /// Rows of 16 + 100 bytes
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// How often everything is measured; results are medians
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    #[arg(long, value_delimiter = ',', default_values_t = Engine::value_variants().to_vec(), value_enum)]
    engines: Vec<Engine>,
    #[arg(long, value_delimiter = ',', default_values_t = Workload::value_variants().to_vec(), value_enum)]
    workloads: Vec<Workload>,
    /// Small sizes and one round, to see that everything works; its figures mean little
    #[arg(long)]
    quick: bool,
    /// Block or page cache of each engine
    #[arg(long, default_value_t = 256)]
    cache_mib: u64,
    /// Write buffer of each engine that has one
    #[arg(long, default_value_t = 64)]
    memtable_mib: u64,
    /// Rows of the larger-than-memory run; four times the memory if left out
    #[arg(long)]
    larger_rows: Option<u64>,
    /// Rows that redb's workload loads
    #[arg(long, default_value_t = 5_000_000)]
    redb_bench_rows: u64,
    /// Longest a phase runs that may end early
    #[arg(long, default_value_t = 20)]
    phase_s: u64,
    /// Longest a step runs before it is given up
    #[arg(long, default_value_t = 1800)]
    step_s: u64,
    /// Where the databases are made: on the disk that is to be measured
    #[arg(long, default_value = "kv-bench-data")]
    folder: PathBuf,
    /// Results go to this name with `.json`, `.md`, and `-*.svg`
    #[arg(long, default_value = "kv-results")]
    output: PathBuf,
}

/// Sizes of `--quick`.
const QUICK_ROWS: u64 = 100_000;
const QUICK_CACHE_MIB: u64 = 4;
const QUICK_MEMTABLE_MIB: u64 = 4;

impl RunArguments {
    fn plan(self) -> Result<Plan> {
        let (row_count, cache_mib, memtable_mib, rounds, phase_s) = if self.quick {
            (QUICK_ROWS, QUICK_CACHE_MIB, QUICK_MEMTABLE_MIB, 1, 1)
        } else {
            (
                self.rows,
                self.cache_mib,
                self.memtable_mib,
                self.rounds,
                self.phase_s,
            )
        };
        if row_count < BATCH_ROWS_MIN || row_count > u64::from(u32::MAX) {
            return Err(format!("--rows must be from {BATCH_ROWS_MIN} to {}", u32::MAX).into());
        }
        let memory = Memory {
            cache_bytes: cache_mib << 20,
            memtable_bytes: memtable_mib << 20,
        };
        let sizes = Sizes {
            row_count,
            op_count: row_count,
            larger_row_count: self
                .larger_rows
                .unwrap_or((4 * memory.total_bytes()).div_ceil(data::ROW_SIZE_BYTES)),
            redb_bench_row_count: if self.quick {
                QUICK_ROWS
            } else {
                self.redb_bench_rows
            },
            memory,
            redb_bench_memory: Memory {
                cache_bytes: 4 << 30,
                memtable_bytes: 64 << 20,
            },
            threads: std::thread::available_parallelism()?.get(),
            phase_limit: Duration::from_secs(phase_s),
            durable_phase: Duration::from_millis(if self.quick { 500 } else { 4000 }),
            seed: 42,
        };
        Ok(Plan {
            engines: self.engines,
            workloads: self.workloads,
            rounds,
            sizes,
            folder: self.folder,
            step_limit: Duration::from_secs(self.step_s),
        })
    }
}

/// Fewest rows with which every workload has something to do.
const BATCH_ROWS_MIN: u64 = 50_000;

fn main() -> Result<()> {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Step {
            engine,
            step,
            folder,
            sizes,
        }) => {
            let records = workloads::run(engine, step, &folder, serde_json::from_str(&sizes)?)?;
            println!("{}", serde_json::to_string(&records)?);
            Ok(())
        }
        Some(Command::Report { results }) => {
            let stored = report::Stored::read(&results)?;
            report::write(&stored, &results.with_extension(""))
        }
        None => {
            let output = cli.run.output.clone();
            let plan = cli.run.plan()?;
            // A folder of our own within, as it is deleted in the end.
            let plan = Plan {
                folder: plan.folder.join(format!("run-{}", std::process::id())),
                ..plan
            };
            std::fs::create_dir_all(&plan.folder)?;
            let mut machine = machine::machine(&plan.folder)?;
            let outcome = runner::run(&plan)?;
            machine.load_after = machine::load()?;
            std::fs::remove_dir_all(&plan.folder)?;
            let stored = report::Stored::new(machine, &plan, outcome);
            stored.write(&output.with_extension("json"))?;
            report::write(&stored, &output)
        }
    }
}
