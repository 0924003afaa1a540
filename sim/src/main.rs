//! `moonshine-sim`: runs seeds of the simulation, and says how to repeat the one that fails.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use moonshine_sim::plan::Selection;
use moonshine_sim::plan::operation::Kind;
use moonshine_sim::run::{Request, Totals, command, run};

/// Simulates Moonshine with faults and crashes that follow from a seed, and holds it against a reference model.
#[derive(Debug, Parser)]
#[command(name = "moonshine-sim")]
struct Flags {
    /// The one seed to run; without it, seeds from --from on.
    #[arg(long)]
    seed: Option<u64>,
    /// The first of several seeds.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// How many seeds to run; without it, as many as there is time for, or one.
    #[arg(long)]
    seeds: Option<u64>,
    /// How many seconds to run.
    #[arg(long)]
    seconds: Option<u64>,
    /// How many seeds to run at once.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Only these operations of the plan, as `0-12,15`.
    #[arg(long)]
    operations: Option<String>,
    /// Without these kinds of operations, separated by commas.
    #[arg(long)]
    without: Option<String>,
    /// With a lake and an exporter into it; only in a build that has them, as `cargo xtask sim --lake` makes it.
    #[arg(long)]
    lake: bool,
    /// At most so many clients side by side.
    #[arg(long)]
    clients: Option<usize>,
    /// Leaves out syncs of files whose name ends so: the simulation must find that.
    #[arg(long)]
    forget_syncs: Option<String>,
    /// How many seconds a failing plan is made smaller.
    #[arg(long, default_value_t = 60)]
    shrink_seconds: u64,
    /// Writes each step to stderr, and the engine's warnings.
    #[arg(long)]
    verbose: bool,
    /// Runs each seed twice, which must be the same; only in a build of its own, as `cargo xtask sim` makes it.
    #[arg(long)]
    check_determinism: bool,
    /// Where a line about the run is added, as `target/proof/sim.jsonl`.
    #[arg(long)]
    ledger: Option<PathBuf>,
}

fn selection(flags: &Flags) -> Result<Selection, String> {
    let kind = |name: &str| Kind::named(name).ok_or(format!("there is no kind '{name}'"));
    let without = flags.without.iter().flat_map(|names| names.split(','));
    let without: Result<BTreeSet<Kind>, String> = without.map(kind).collect();
    let operations = flags.operations.as_deref().map(Selection::parse_numbers);
    if flags.lake && !cfg!(feature = "lake") {
        return Err("this build has no lake".into());
    }
    Ok(Selection {
        has_lake: flags.lake,
        operations: operations.transpose()?,
        without: without?,
        clients_max: flags.clients,
        forgotten_syncs: flags
            .forget_syncs
            .clone()
            .map(|ending| &*Box::leak(ending.into_boxed_str())),
    })
}

fn request(flags: &Flags) -> Result<Request, String> {
    let seed_count = match (flags.seed, flags.seeds, flags.seconds) {
        (_, Some(seeds), _) => seeds,
        (None, None, Some(_)) => u64::MAX,
        _ => 1,
    };
    Ok(Request {
        first_seed: flags.seed.unwrap_or(flags.from),
        seed_count,
        time_max: flags.seconds.map(Duration::from_secs),
        workers: flags.workers.max(1),
        selection: selection(flags)?,
        shrink_time_max: Duration::from_secs(flags.shrink_seconds),
        is_verbose: flags.verbose,
        checks_determinism: flags.check_determinism,
    })
}

/// The commit that is tested, as far as git is there to say so.
fn commit() -> String {
    let asked = std::process::Command::new("git")
        .args(["rev-parse", "--short", "HEAD"])
        .output();
    let text = asked.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_default()
}

fn add_to_ledger(path: &Path, totals: &Totals, is_lake: bool) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let line = serde_json::json!({
        "kind": if is_lake { "sim --lake" } else { "sim" },
        "commit": commit(),
        "seeds": totals.seeds,
        "seconds": totals.elapsed.as_secs_f64(),
        "failed_seed": totals.failure.as_ref().map(|failure| failure.seed),
        "counts": totals.counts,
    });
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)?;
    writeln!(file, "{line}")
}

fn write_trace(path: &Path, steps: &[String]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, steps.join("\n"))
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    let request = match request(&flags) {
        Ok(request) => request,
        Err(reason) => {
            eprintln!("{reason}");
            return ExitCode::from(2);
        }
    };
    let totals = run(&request);
    let seconds = totals.elapsed.as_secs_f64();
    let seeds_an_hour = totals.seeds as f64 / seconds * 3600.0;
    println!(
        "{} seeds in {seconds:.1} s, {seeds_an_hour:.0} an hour",
        totals.seeds
    );
    let counts = totals.counts.iter();
    let counts: Vec<String> = counts.map(|(name, n)| format!("{name} {n}")).collect();
    println!("{}", counts.join(", "));
    if let Some(ledger) = &flags.ledger
        && let Err(error) = add_to_ledger(ledger, &totals, flags.lake)
    {
        eprintln!("{}: {error}", ledger.display());
    }
    let Some(failure) = &totals.failure else {
        return ExitCode::SUCCESS;
    };
    let violation = &failure.violation;
    println!("seed {} failed: {}", failure.seed, violation.check);
    if let Some(operation) = violation.operation {
        println!("at operation {operation}");
    }
    println!("{}", violation.detail);
    let trace = PathBuf::from(format!("target/sim/seed-{}.trace", failure.seed));
    match write_trace(&trace, &failure.steps) {
        Ok(()) => println!("its last steps are in {}", trace.display()),
        Err(error) => eprintln!("{}: {error}", trace.display()),
    }
    println!(
        "to repeat it:\n{}",
        command(failure.seed, &failure.selection)
    );
    ExitCode::FAILURE
}
