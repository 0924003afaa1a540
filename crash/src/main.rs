//! `moonshine-crash`: ends processes that write to a database, and says what it found that must not be.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};
use moonshine_crash::child;
use moonshine_crash::fuse::Trigger;
use moonshine_crash::harness::{Request, Totals, Violation, calls, kills, ledger, power, strace};

/// Crashes of Moonshine on real files.
#[derive(Debug, Parser)]
#[command(name = "moonshine-crash")]
struct Flags {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Kills processes and has their calls fail.
    Crash(Crash),
    /// Has file systems lose power; needs root.
    Power(Power),
    /// The process that is to die.
    #[command(hide = true)]
    Child(child::Flags),
}

#[derive(Debug, clap::Args)]
struct Crash {
    /// Kills at random moments; a hundred, where nothing else is asked for.
    #[arg(long)]
    kills: Option<u64>,
    /// Kills at every call of a small workload, and has each fail.
    #[arg(long)]
    every_call: bool,
    /// The first call of those.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// At one call only, as `17:before`; `half`, `behind`, `eio`, `eio-on`, `enospc`, `enospc-on`.
    #[arg(long)]
    at: Option<Trigger>,
    /// Kills and errors within the system's calls, by strace.
    #[arg(long)]
    strace: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Power {
    /// How many.
    #[arg(long, default_value_t = 24)]
    losses: u64,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Common {
    /// All else follows from it, but for the moment at which a thread runs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the databases, or the images of file systems, are made.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Leaves out syncs of files whose name ends so, as `mlog`: a loss of power must find that.
    #[arg(long)]
    forget_syncs: Option<String>,
    /// Has children tell that a transaction is done before it is: the harness must find that.
    #[arg(long)]
    early: bool,
    /// Tells what goes on.
    #[arg(long)]
    verbose: bool,
    /// Where a line about the run is added, as `target/proof/crash.jsonl`.
    #[arg(long)]
    ledger: Option<PathBuf>,
}

impl Crash {
    fn run(&self, request: &Request, totals: &mut Totals) -> Result<(), Box<Violation>> {
        if let Some(at) = self.at {
            calls::at(request, at, totals)?;
        }
        let is_all = self.at.is_none() && !self.every_call && !self.strace;
        let kills = self.kills.unwrap_or(if is_all { 100 } else { 0 });
        kills::run(request, kills, totals)?;
        if self.every_call {
            let every = calls::Calls {
                first: self.first,
                step: 1,
                count_max: u64::MAX,
            };
            calls::run(request, every, totals)?;
        }
        if self.strace {
            match strace::is_missing() {
                Some(why) => eprintln!("SKIPPED: {why}"),
                None => strace::run(request, totals)?,
            }
        }
        Ok(())
    }
}

fn report(
    kind: &str,
    common: &Common,
    run: impl FnOnce(&Request, &mut Totals) -> Result<(), Box<Violation>>,
) -> Result<ExitCode, String> {
    let start = Instant::now();
    let said = |error: std::io::Error| error.to_string();
    let place = match &common.folder {
        Some(folder) => tempfile::tempdir_in(folder),
        None => tempfile::tempdir(),
    };
    let place = place.map_err(said)?;
    let request = Request {
        program: std::env::current_exe().map_err(said)?,
        folder: place.path().to_owned(),
        kept_in: std::env::temp_dir(),
        seed: common.seed,
        early: common.early,
        forget_syncs: common.forget_syncs.clone(),
        is_verbose: common.verbose,
    };
    let mut totals = Totals::default();
    let violation = run(&request, &mut totals).err();
    let took = start.elapsed();
    for (kind, count) in &totals.counts {
        println!("{count} {kind}");
    }
    let seconds = took.as_secs_f64();
    println!("{} acknowledged, {seconds:.1} s", totals.acknowledged);
    if let Some(path) = &common.ledger {
        ledger::append(path, kind, &request, &totals, took, violation.as_deref()).map_err(said)?;
    }
    let Some(violation) = violation else {
        return Ok(ExitCode::SUCCESS);
    };
    println!("VIOLATED: {}", violation.what);
    if let Some(kept) = &violation.kept {
        println!("the folder is kept in {}", kept.display());
    }
    println!("to repeat it:\n{}", violation.command);
    Ok(ExitCode::FAILURE)
}

fn main() -> ExitCode {
    let done = match Flags::parse().command {
        Command::Child(flags) => return ExitCode::from(child::run(flags)),
        Command::Crash(crash) => report("crash", &crash.common, |request, totals| {
            crash.run(request, totals)
        }),
        Command::Power(power) => report("power", &power.common, |request, totals| {
            power::run(request, power.losses, totals)
        }),
    };
    done.unwrap_or_else(|why| {
        eprintln!("{why}");
        ExitCode::from(2)
    })
}
