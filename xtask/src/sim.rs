//! The simulator has a build of its own: locks and threads are other ones in it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::{cargo, exit_code, target_folder};

/// The profile that it is built with, in the workspace's `Cargo.toml`.
pub(crate) const PROFILE: &str = "sim";
/// What asks for a lake, which takes several times as long to build.
pub(crate) const LAKE: &str = "--lake";

/// Builds the simulator and runs it with these arguments; its exit code.
///
/// # Errors
/// In words, where cargo or the simulator can't be started, or the build fails.
pub(crate) fn run(arguments: impl Iterator<Item = String>) -> Result<ExitCode, String> {
    let arguments: Vec<String> = arguments.collect();
    let has_lake = arguments.iter().any(|argument| argument == LAKE);
    let program = build(Path::new("."), &folder(), has_lake)?;
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
pub(crate) fn build(tree: &Path, target: &Path, has_lake: bool) -> Result<PathBuf, String> {
    let target = std::path::absolute(target).map_err(|error| error.to_string())?;
    let mut flags = env::var("RUSTFLAGS").unwrap_or_default();
    flags.push_str(" --cfg moonshine_sim");
    let built = cargo()
        .args(["build", "--quiet", "--package", "moonshine-sim"])
        .args(["--profile", PROFILE])
        .args((!has_lake).then_some("--no-default-features"))
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
