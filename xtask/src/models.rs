//! Models of what threads do to each other, which have a build of the engine of their own.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::mutants::output;
use crate::sim::PROFILE;
use crate::{cargo, exit_code, target_folder};

/// Builds the models and runs them with these arguments; their exit code.
///
/// # Errors
/// In words, where cargo or the program can't be started, or the build fails.
pub(crate) fn run(arguments: impl Iterator<Item = String>) -> Result<ExitCode, String> {
    let program = build(Path::new("."), &target_folder())?;
    let ran = Command::new(&program)
        .arg("--ledger")
        .arg(target_folder().join("proof").join("models.jsonl"))
        .args(arguments)
        .status()
        .map_err(|error| format!("{} does not start: {error}", program.display()))?;
    Ok(exit_code(ran))
}

/// In how many orders of its steps a model of a tree failed, if it did within so many.
///
/// # Errors
/// In words, where the tree can't be built.
pub(crate) fn search(
    tree: &Path,
    target: &Path,
    model: &str,
    orders: u64,
) -> Result<Option<u64>, String> {
    let program = build(tree, target)?;
    let ran = output(
        Command::new(program)
            .args(["--model", model, "--orders", &orders.to_string()])
            .args(["--workers", "1"]),
    )?;
    if ran.status.success() {
        return Ok(None);
    }
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    let count = said.lines().find_map(|line| {
        let rest = line.strip_prefix("after ")?;
        rest.split_once(" orders")?.0.parse().ok()
    });
    Ok(Some(count.unwrap_or(orders)))
}

/// Builds the models of a tree; where the program is.
fn build(tree: &Path, target: &Path) -> Result<PathBuf, String> {
    let target = std::path::absolute(target).map_err(|error| error.to_string())?;
    let built = cargo()
        .args(["build", "--quiet", "--package", "moonshine-models"])
        .args(["--profile", PROFILE])
        .arg("--target-dir")
        .arg(&target)
        .current_dir(tree)
        .status()
        .map_err(|error| format!("cargo does not start: {error}"))?;
    if !built.success() {
        return Err("the models were not built".into());
    }
    Ok(target.join(PROFILE).join("moonshine-models"))
}
