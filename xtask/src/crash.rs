//! Crashes on real files.

use std::process::ExitCode;

use crate::{cargo, exit_code, target_folder};

/// Builds the harness and runs it with these arguments; its exit code.
///
/// # Errors
/// In words, where cargo can't be started.
pub(crate) fn run(kind: &str, arguments: impl Iterator<Item = String>) -> Result<ExitCode, String> {
    let ran = cargo()
        .args(["run", "--quiet", "--package", "moonshine-crash", "--"])
        .arg(kind)
        .arg("--ledger")
        .arg(target_folder().join("proof").join(format!("{kind}.jsonl")))
        .args(arguments)
        .status()
        .map_err(|error| format!("cargo does not start: {error}"))?;
    Ok(exit_code(ran))
}
