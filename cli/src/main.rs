//! The `moonshine` program.
//!
//! [`args`] says which commands and flags there are; [`config`] reads the configuration file that most of them name;
//! [`sync`] runs sources and exporter side by side, [`query`] answers SQL, [`export`] and [`publish`] are for single exported tables, [`probe`] measures the machine, [`mod@bench`] runs
//! jobs of I/O, [`inspect`] says what a database was laid out from, [`maintenance`] checks, compacts and copies it, [`maintain`] looks after the exported tables. Whatever stops a command is one line on standard
//! error and an exit status: 2 for what the user has to mend (arguments, configuration, SQL), 1 for the rest.

mod args;
mod bench;
mod config;
mod error;
mod export;
mod inspect;
mod log;
mod maintain;
mod maintenance;
mod probe;
mod publish;
mod query;
mod sync;
mod units;

use std::process::ExitCode;

use args::{Arguments, Command};
use clap::Parser;
use error::CliError;

/// Threads come and go with each export, and what each of them leaves behind in a pool of its own is memory beyond the budget: with
/// these few the soak's process takes a third of what it takes with the C library's eight for each processor, and writes no less.
const ALLOCATOR_POOLS: u16 = 2;

fn main() -> ExitCode {
    moonshine_engine::limit_allocator(ALLOCATOR_POOLS);
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let message = error.to_string().replace('\n', " ");
            eprintln!("error: {message}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(arguments: Arguments) -> Result<(), CliError> {
    if let Command::ConfigSchema = arguments.command {
        let schema = config::schema::text().map_err(|error| CliError::Output(error.to_string()))?;
        print!("{schema}");
        return Ok(());
    }
    if let Command::Probe(arguments) = &arguments.command {
        return probe::run(arguments);
    }
    if let Command::Bench(arguments) = &arguments.command {
        return bench::run(&arguments.flags);
    }
    if let Command::Inspect(arguments) = &arguments.command {
        return inspect::run(arguments);
    }
    match &arguments.command {
        Command::Check(arguments) => return maintenance::check(arguments),
        Command::Compact(arguments) => return maintenance::compact(arguments),
        Command::Backup(arguments) => return maintenance::backup(arguments),
        Command::Restore(arguments) => return maintenance::restore(arguments),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime =
        runtime.map_err(|error| CliError::Output(format!("starting threads: {error}")))?;
    runtime.block_on(async {
        match arguments.command {
            Command::Export(arguments) => export::run(arguments).await,
            Command::Publish(arguments) => publish::run(arguments).await,
            Command::Sync(arguments) => sync::run(arguments).await,
            Command::Query(arguments) => query::run(arguments).await,
            Command::Maintain(arguments) => maintain::run(arguments).await,
            // These need no threads, and were run above.
            _ => Ok(()),
        }
    })
}
