//! What was run so far to prove that no invariant breaks: the sums of what each kind of run noted of itself.
//!
//! Each run of the simulator, the crash harness, the fuzzers, the models and the soak may add a line to a file in
//! `target/proof`. Here they are summed by kind, together with those of `docs/proof.jsonl`, where `--keep` puts the sums, so
//! that they outlive the target folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Map, Value};

use crate::target_folder;

const KEPT: &str = "docs/proof.jsonl";

/// The sums of one kind of run.
#[derive(Debug, Default)]
struct Totals {
    runs: u64,
    seconds: f64,
    violations: u64,
    /// What else the lines count, by name.
    counts: BTreeMap<String, u64>,
}

/// Prints the totals as tables; with `--keep` they are kept in the tree and the lines that they were made of removed.
///
/// # Errors
/// In words, where a line is no line of a run, or a file can't be read or written.
pub(crate) fn run(mut arguments: impl Iterator<Item = String>) -> Result<ExitCode, String> {
    let keeps = match arguments.next().as_deref() {
        None => false,
        Some("--keep") => true,
        Some(other) => return Err(format!("there is no option '{other}'")),
    };
    let mut kinds: BTreeMap<String, Totals> = BTreeMap::new();
    let fresh = fresh_files()?;
    let kept = Path::new(KEPT);
    for path in fresh
        .iter()
        .map(PathBuf::as_path)
        .chain(kept.exists().then_some(kept))
    {
        let failed = |reason: String| format!("{}: {reason}", path.display());
        let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        for line in text.lines() {
            let line: Map<String, Value> =
                serde_json::from_str(line).map_err(|error| failed(error.to_string()))?;
            let kind = line.get("kind").and_then(Value::as_str);
            let kind = kind.ok_or_else(|| failed("a line without a kind".into()))?;
            kinds.entry(kind.to_owned()).or_default().add(&line);
        }
    }
    print(&kinds);
    if keeps {
        let lines = kinds.iter().map(|(kind, totals)| totals.line(kind) + "\n");
        fs::write(kept, lines.collect::<String>()).map_err(|error| format!("{KEPT}: {error}"))?;
        for path in fresh {
            fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn fresh_files() -> Result<Vec<PathBuf>, String> {
    let folder = target_folder().join("proof");
    let Ok(entries) = fs::read_dir(&folder) else {
        return Ok(Vec::new());
    };
    let paths: Result<Vec<PathBuf>, _> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut paths =
        paths.map_err(|error: std::io::Error| format!("{}: {error}", folder.display()))?;
    paths.retain(|path| path.extension().is_some_and(|kind| kind == "jsonl"));
    paths.sort();
    Ok(paths)
}

impl Totals {
    fn add(&mut self, line: &Map<String, Value>) {
        // A line of a single run does not say that it is one.
        self.runs += line.get("runs").and_then(Value::as_u64).unwrap_or(1);
        for (name, value) in line {
            match (name.as_str(), value) {
                ("runs" | "seed" | "kind" | "commit", _) | (_, Value::Null) => {}
                ("seconds", value) => self.seconds += value.as_f64().unwrap_or_default(),
                ("violations", value) => self.violations += value.as_u64().unwrap_or_default(),
                ("violation" | "failed_seed", _) => self.violations += 1,
                (_, Value::Object(counts)) => {
                    for (name, count) in counts {
                        self.count(name, count);
                    }
                }
                (name, count) => self.count(name, count),
            }
        }
    }

    fn count(&mut self, name: &str, count: &Value) {
        if let Some(count) = count.as_u64() {
            *self.counts.entry(name.to_owned()).or_default() += count;
        }
    }

    fn line(&self, kind: &str) -> String {
        serde_json::json!({
            "kind": kind,
            "runs": self.runs,
            "seconds": self.seconds.round(),
            "violations": self.violations,
            "counts": self.counts,
        })
        .to_string()
    }
}

fn print(kinds: &BTreeMap<String, Totals>) {
    println!(
        "| kind | runs | hours | ended by a violation | what was done |\n|---|---|---|---|---|"
    );
    for (kind, totals) in kinds {
        let counts = totals.counts.iter();
        let counts: Vec<String> = counts
            .map(|(name, n)| format!("{name} {}", grouped(*n)))
            .collect();
        println!(
            "| {kind} | {} | {:.1} | {} | {} |",
            grouped(totals.runs),
            totals.seconds / 3600.0,
            totals.violations,
            counts.join(", ")
        );
    }
}

/// A number with a space between its thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_sums_and_stay_the_same_when_kept() {
        let mut totals = Totals::default();
        for line in [
            r#"{"kind":"sim","commit":"a","seeds":500,"seconds":1.5,"failed_seed":null,"counts":{"crashes":3}}"#,
            r#"{"kind":"sim","commit":"b","seeds":700,"seconds":2.5,"failed_seed":12,"counts":{"crashes":4,"short":1}}"#,
        ] {
            totals.add(&serde_json::from_str(line).unwrap());
        }
        let counts = [("crashes", 7), ("seeds", 1200), ("short", 1)];
        let counts: BTreeMap<String, u64> = counts.map(|(name, n)| (name.to_owned(), n)).into();
        assert_eq!((totals.runs, totals.violations), (2, 1));
        assert_eq!((totals.seconds, &totals.counts), (4.0, &counts));
        let mut kept = Totals::default();
        kept.add(&serde_json::from_str(&totals.line("sim")).unwrap());
        assert_eq!((kept.runs, kept.violations, kept.seconds), (2, 1, 4.0));
        assert_eq!(kept.counts, counts);
    }

    #[test]
    fn thousands_stand_apart() {
        let texts = [0, 999, 1000, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "999", "1 000", "1 234 567"]);
    }
}
