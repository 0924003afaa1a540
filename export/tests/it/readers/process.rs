//! A reader as a process: it takes the path of a metadata file and answers with rows.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use super::matrix::Outcome;
use super::rows::TextRow;
use crate::installed::{python, skipped};

/// A running reader.
pub(super) struct Reader {
    name: String,
    python: PathBuf,
    version: String,
    process: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    folder: tempfile::TempDir,
}

/// What is to be read.
pub(super) struct Request<'a> {
    pub(super) metadata_location: &'a str,
    /// Name and type of each column.
    pub(super) columns: Vec<(String, String)>,
    /// Whether row ids and sequence numbers are wanted behind them.
    pub(super) lineage: bool,
    /// An older snapshot than the newest.
    pub(super) snapshot_id: Option<i64>,
}

impl Reader {
    /// Starts the reader of this name; `None`, after a loud notice, where it is not installed.
    pub(super) fn start(name: &str) -> Option<Reader> {
        let python = python()?;
        let folder = tempfile::tempdir().unwrap();
        let (process, requests, mut answers) = spawn(name, &python, folder.path());
        let first = first_answer(name, &mut answers);
        if let Some(reason) = first.get("missing") {
            skipped(&format!("{name} reads no table: {reason}"));
            return None;
        }
        Some(Reader {
            name: name.to_owned(),
            python,
            version: first["version"].as_str().unwrap().to_owned(),
            process,
            requests: Some(requests),
            answers,
            folder,
        })
    }

    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// The rows that it reads, sorted, or how it fared without.
    pub(super) fn read(&mut self, request: &Request<'_>) -> Result<Vec<TextRow>, Outcome> {
        let out = self.folder.path().join("rows");
        let path = request.metadata_location.strip_prefix("file://").unwrap();
        let line = json!({
            "metadata": path, "columns": request.columns, "lineage": request.lineage,
            "snapshot": request.snapshot_id, "out": out,
        });
        let requests = self.requests.as_mut().unwrap();
        let sent = writeln!(requests, "{line}").and_then(|()| requests.flush());
        let Some(answer) = sent.ok().and_then(|()| answer(&mut self.answers)) else {
            let status = self.process.wait().unwrap();
            let (process, requests, mut answers) =
                spawn(&self.name, &self.python, self.folder.path());
            first_answer(&self.name, &mut answers);
            (self.process, self.requests, self.answers) = (process, Some(requests), answers);
            return Err(Outcome::Refused(format!("the process ended: {status}")));
        };
        let text = |key: &str| {
            answer
                .get(key)
                .map(|text| text.as_str().unwrap().to_owned())
        };
        if let Some(reason) = text("error") {
            return Err(Outcome::Refused(reason));
        }
        if let Some(reason) = text("another type") {
            return Err(Outcome::AnotherType(reason));
        }
        let text = std::fs::read_to_string(&out).unwrap();
        let mut rows: Vec<TextRow> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(answer["rows"], rows.len());
        rows.sort();
        Ok(rows)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Without requests it ends by itself.
        drop(self.requests.take());
        let _ = self.process.wait();
    }
}

/// What it writes besides its answers goes to the folder, as it may not live to remove it.
fn spawn(name: &str, python: &Path, folder: &Path) -> (Child, ChildStdin, BufReader<ChildStdout>) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/readers.py");
    let stderr = match std::env::var_os("MOONSHINE_TEST_READER_LOG") {
        Some(_) => Stdio::inherit(),
        None => Stdio::null(),
    };
    let mut process = Command::new(python)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("TMPDIR", folder)
        .arg(script)
        .arg(name)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .unwrap();
    let requests = process.stdin.take().unwrap();
    let answers = BufReader::new(process.stdout.take().unwrap());
    (process, requests, answers)
}

fn first_answer(name: &str, answers: &mut BufReader<ChildStdout>) -> Value {
    answer(answers).unwrap_or_else(|| panic!("{name} does not start"))
}

/// The next answer; `None` if the process ended.
fn answer(answers: &mut BufReader<ChildStdout>) -> Option<Value> {
    let mut line = String::new();
    match answers.read_line(&mut line) {
        Ok(count) if count > 0 => serde_json::from_str(&line).ok(),
        _ => None,
    }
}
