//! What was run, one line of JSON each.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{Request, Totals, Violation};

/// The commit that is checked out, as git abbreviates it; empty where git does not say.
pub fn commit() -> String {
    let asked = Command::new("git")
        .args(["rev-parse", "--short", "HEAD"])
        .output();
    let text = asked.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_default()
}

/// Appends the line of a run.
///
/// # Errors
/// As the system answers.
pub fn append(
    path: &Path,
    kind: &str,
    request: &Request,
    totals: &Totals,
    took: Duration,
    violation: Option<&Violation>,
) -> std::io::Result<()> {
    let line = serde_json::json!({
        "kind": kind,
        "commit": commit(),
        "seed": request.seed,
        "seconds": took.as_secs_f64(),
        "counts": totals.counts,
        "acknowledged": totals.acknowledged,
        "violation": violation.map(|violation| &violation.what),
    });
    append_line(path, &line)
}

/// Appends one line, to a file that is made with the folders above it where there is none.
///
/// # Errors
/// As the system answers.
pub fn append_line(path: &Path, line: &serde_json::Value) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)?;
    writeln!(file, "{line}")
}
