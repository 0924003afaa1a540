//! Commands for who works on Moonshine: `cargo xtask COMMAND`.
//!
//! What runs for long or needs a build of its own starts here; `scripts/test` passes the tests.

mod crash;
mod fuzz;
mod fuzz_report;
mod histories;
mod models;
mod mutants;
mod sim;
mod soak;
mod totals;

use std::env;
use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus};

const USAGE: &str = "usage: cargo xtask COMMAND

  sim [--help | OPTION…]    builds the simulator and runs it; its options are its own
  models [--help | OPTION…] runs the models of what threads do to each other, under shuttle; the options are their own
  mutants [WORD…]           plants the faults of sim/planted_faults.toml one at a time, or those whose name has one of the words,
                            and has the simulator, a model, or the histories of real threads find each
  crash [--help | OPTION…]  kills processes that write to a database; the options are the harness's own
  power [--help | OPTION…]  has file systems lose power below such processes; as root
  soak [--help | OPTION…]   has a database under full load for 30 minutes; with --profile NAME as cargo builds it so
  fuzz [--help | OPTION…]   gives any bytes to whatever decodes some, and histories to the engine
  totals [--keep]           sums up what all such runs noted in target/proof and docs/proof.jsonl; puts the sums into the latter";

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let ran = match arguments.next().as_deref() {
        Some(kind @ ("crash" | "power")) => crash::run(kind, arguments),
        Some("fuzz") => fuzz::run(arguments),
        Some("sim") => sim::run(arguments),
        Some("models") => models::run(arguments),
        Some("soak") => soak::run(arguments),
        Some("mutants") => mutants::run(arguments),
        Some("totals") => totals::run(arguments),
        _ => Err(USAGE.to_owned()),
    };
    match ran {
        Ok(code) => code,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

/// The cargo that runs this.
fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Where cargo builds to.
fn target_folder() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from)
}

/// What a program ended with; without a code a signal ended it.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.unwrap_or(1))
}
