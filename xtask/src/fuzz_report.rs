//! What a run of a fuzz target came to, from what libFuzzer says.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Lines of a failed run that are shown.
const LAST_LINES: usize = 40;

/// A run of a target.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) target: String,
    pub(crate) is_good: bool,
    executions: u64,
    /// Blocks of code that were reached.
    edges: u64,
    /// Inputs that reach something that no other one does.
    corpus_count: u64,
    /// The input that failed.
    pub(crate) input: Option<String>,
    pub(crate) last_lines: String,
}

impl Ran {
    /// Reads what libFuzzer wrote.
    pub(crate) fn of(target: &str, log: &str, is_good: bool) -> Self {
        let number = |text: &str| text.split('/').next().and_then(|first| first.parse().ok());
        // In lines as `#8192 pulse cov: 551 ft: 1309 corp: 92/7205b lim: 4096 exec/s: 4096 rss: 48Mb`.
        let last = |name: &str| {
            let mut words = log.split_whitespace().rev();
            let mut behind = None;
            for word in words.by_ref() {
                if word == name {
                    return behind.and_then(number);
                }
                behind = Some(word);
            }
            None
        };
        let counted = log.lines().rev().find_map(|line| {
            let line = line.strip_prefix('#')?;
            line.split_whitespace().next()?.parse().ok()
        });
        let artifact = log
            .lines()
            .find_map(|line| line.split_once("Test unit written to "));
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(LAST_LINES);
        Ran {
            target: target.to_owned(),
            is_good,
            executions: last("stat::number_of_executed_units:")
                .or(counted)
                .unwrap_or(0),
            edges: last("cov:").unwrap_or(0),
            corpus_count: last("corp:").unwrap_or(0),
            input: artifact.map(|(_, path)| path.to_owned()),
            last_lines: lines.get(from..).unwrap_or_default().join("\n"),
        }
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ran {
            target,
            executions,
            edges,
            corpus_count,
            ..
        } = self;
        let end = if self.is_good { "" } else { ", FAILED" };
        write!(
            f,
            "{target}: {executions} executions, {edges} edges, {corpus_count} inputs{end}"
        )
    }
}

/// Appends a line of JSON about runs, in the form of those of the crash harness.
///
/// # Errors
/// As the system answers.
pub(crate) fn append(path: &Path, runs: &[Ran], took: Duration) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let asked = Command::new("git")
        .args(["rev-parse", "--short", "HEAD"])
        .output();
    let commit = asked.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let counts: BTreeMap<String, u64> = runs
        .iter()
        .map(|ran| (format!("executions of {}", ran.target), ran.executions))
        .collect();
    // In a list, since `totals` sums up what stands by a name.
    let reached: Vec<_> = runs
        .iter()
        .map(|ran| serde_json::json!([ran.target, ran.edges, ran.corpus_count]))
        .collect();
    let violation = runs.iter().find(|ran| !ran.is_good).map(|ran| &ran.target);
    let line = serde_json::json!({
        "kind": "fuzz",
        "commit": commit.unwrap_or_default(),
        "seconds": took.as_secs_f64(),
        "counts": counts,
        "edges_and_inputs": reached,
        "violation": violation,
    });
    let mut file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)?;
    writeln!(file, "{line}")
}
