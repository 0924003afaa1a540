//! Histories of real threads, checked by a foreign program's rules (`engine/tests/histories`).

use std::path::Path;

use crate::cargo;
use crate::mutants::output;

/// Which run of a test found a fault of a tree, if one did within so many.
///
/// # Errors
/// In words, where the tree can't be built.
pub(crate) fn search(
    tree: &Path,
    target: &Path,
    test: &str,
    runs: u64,
) -> Result<Option<u64>, String> {
    let target = std::path::absolute(target).map_err(|error| error.to_string())?;
    let with = |arguments: &[&str], seed: u64| {
        let mut command = cargo();
        command
            .args(["test", "--quiet", "--package", "moonshine-engine"])
            .args(["--test", "histories"])
            .args(arguments)
            .arg("--target-dir")
            .arg(&target)
            .env("MOONSHINE_TEST_SEED", seed.to_string())
            .current_dir(tree);
        output(&mut command)
    };
    let built = with(&["--no-run"], 0)?;
    if !built.status.success() {
        return Err(String::from_utf8_lossy(&built.stderr).into_owned());
    }
    for run in 1..=runs {
        if !with(&["--", test], run)?.status.success() {
            return Ok(Some(run));
        }
    }
    Ok(None)
}
