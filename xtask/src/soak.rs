//! The soak: full load for a long time.

use std::process::ExitCode;

use crate::{cargo, exit_code, target_folder};

/// Builds the soak and runs it with these arguments; its exit code. `--profile NAME` is cargo's: by default it is as fast as the
/// simulator, with every check of debug builds.
///
/// # Errors
/// In words, where cargo can't be started.
pub(crate) fn run(arguments: impl Iterator<Item = String>) -> Result<ExitCode, String> {
    let mut arguments: Vec<String> = arguments.collect();
    let mut profile = "sim".to_owned();
    if let Some(at) = arguments.iter().position(|word| word == "--profile") {
        let mut words = arguments.drain(at..(at + 2).min(arguments.len()));
        profile = words.nth(1).ok_or("--profile wants a name")?;
    }
    let ran = cargo()
        .args([
            "run",
            "--quiet",
            "--package",
            "moonshine-soak",
            "--profile",
            &profile,
            "--",
        ])
        .arg("--ledger")
        .arg(target_folder().join("proof").join("soak.jsonl"))
        .args(arguments)
        .status()
        .map_err(|error| format!("cargo does not start: {error}"))?;
    Ok(exit_code(ran))
}
