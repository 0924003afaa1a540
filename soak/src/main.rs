//! `moonshine-soak`: a database under all load at once for as long as asked, and whether it stayed within its limits.
//!
//! [`writer`]s, other [`works`], [`readers`] and the exporter ([`lake`]) run at full speed beside each other over a [`disk`],
//! through the [`phases`]: a steady load, a slow disk, a full one, snapshots that are held. Each second [`samples`] are taken; at the end
//! [`judge`] looks for growth and limits passed, and everything that was acknowledged must be there, before and after a
//! reopen.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a tool for tests, what must not be ends it"
)]

mod content;
mod disk;
mod judge;
mod lake;
mod leak;
mod phases;
mod readers;
mod report;
mod run;
mod samples;
mod soak;
mod tables;
mod works;
mod writer;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::leak::Leak;

/// Moonshine under full load for a long time.
#[derive(Clone, Debug, Parser)]
#[command(name = "moonshine-soak")]
pub(crate) struct Flags {
    /// How long, once the first rows are there.
    #[arg(long, default_value_t = 30.0)]
    pub(crate) minutes: f64,
    /// What is drawn follows from it, but not when a thread runs.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// The memory budget, in MiB.
    #[arg(long, default_value_t = 64)]
    pub(crate) budget_mib: u64,
    /// Writers with keys of their own.
    #[arg(long, default_value_t = 4)]
    pub(crate) writers: usize,
    /// Keys of each; a row has some 400 bytes.
    #[arg(long, default_value_t = 60_000)]
    pub(crate) keys: i64,
    /// Where a folder is made for all of it.
    #[arg(long)]
    pub(crate) folder: Option<PathBuf>,
    /// Without exports: what the process takes is then the engine's and the harness's alone.
    #[arg(long)]
    pub(crate) no_exports: bool,
    /// Pools of the GNU C library's allocator, as the program `moonshine` has them; 0 are as many as it has by itself.
    #[arg(long, default_value_t = 2)]
    pub(crate) allocator_pools: u16,
    /// Prints a line each second.
    #[arg(long)]
    pub(crate) verbose: bool,
    /// A fault for the soak to find.
    #[arg(long)]
    pub(crate) leak: Option<Leak>,
    /// Reads a backup instead, as the run has another process do it.
    #[arg(long, hide = true)]
    pub(crate) read_backup: Option<PathBuf>,
    /// Its commit sequence.
    #[arg(long, hide = true, default_value_t = 0)]
    pub(crate) commit_seq: u64,
    /// Where a line about the run is added, as `target/proof/soak.jsonl`.
    #[arg(long)]
    pub(crate) ledger: Option<PathBuf>,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    if flags.allocator_pools > 0 {
        moonshine_engine::limit_allocator(flags.allocator_pools);
    }
    if let Some(folder) = &flags.read_backup {
        let read = readers::read_backup(folder, flags.writers, flags.commit_seq);
        return match read {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                eprintln!("{why}");
                ExitCode::FAILURE
            }
        };
    }
    match soak::run(&flags).and_then(|outcome| report::report(&flags, &outcome)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
    }
}
