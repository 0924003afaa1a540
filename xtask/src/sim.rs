//! The simulator has a build of its own: locks and threads are other ones in it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::{cargo, exit_code, target_folder};

/// The profile that it is built with, in the workspace's `Cargo.toml`.
pub(crate) const PROFILE: &str = "sim";

/// Builds the simulator and runs it with these arguments; its exit code.
///
/// # Errors
/// In words, where cargo or the simulator can't be started, or the build fails.
pub(crate) fn run(arguments: impl Iterator<Item = String>) -> Result<ExitCode, String> {
    let program = build(Path::new("."), &folder())?;
    let ran = Command::new(&program)
        .args(arguments)
        .status()
        .map_err(|error| format!("{} does not start: {error}", program.display()))?;
    Ok(exit_code(ran))
}

/// Builds the simulator of a tree; where the program is.
///
/// # Errors
/// In words, where cargo can't be started or the build fails.
pub(crate) fn build(tree: &Path, target: &Path) -> Result<PathBuf, String> {
    let target = std::path::absolute(target).map_err(|error| error.to_string())?;
    let mut flags = env::var("RUSTFLAGS").unwrap_or_default();
    flags.push_str(" --cfg moonshine_sim");
    let built = cargo()
        .args(["build", "--quiet", "--package", "moonshine-sim"])
        // The world drives the engine alone; the lake has tests of its own, which need no other locks.
        .args(["--no-default-features", "--profile", PROFILE])
        .arg("--target-dir")
        .arg(&target)
        .env("RUSTFLAGS", flags)
        .current_dir(tree)
        .status()
        .map_err(|error| format!("cargo does not start: {error}"))?;
    if !built.success() {
        return Err("the simulator was not built".into());
    }
    Ok(target.join(PROFILE).join("moonshine-sim"))
}

/// Within the target folder, so that it is found and removed with it.
pub(crate) fn folder() -> PathBuf {
    target_folder().join("sim")
}
