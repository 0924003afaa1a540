//! The `file` source: what its lines do to a database, run by run.

// Clippy's leave for tests does not reach their helpers.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod bad_input;
mod events;
mod follow;
mod histories;
mod resume;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use moonshine_connectors::file::{FileConfig, FileSource, FileTable};
use moonshine_connectors::{
    Progress, ProgressReading, RunMode, Source as _, SourceContext, SourceError,
};
use moonshine_engine::{Database, Options, Row, Scan, Table, Value};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// The name of the source in these tests.
const SOURCE: &str = "sample";

/// A database and input files in a folder of their own.
struct Bench {
    folder: TempDir,
    database: Database,
}

impl Bench {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("in")).unwrap();
        let database =
            Database::open(folder.path().join("database"), Options::unmeasured()).unwrap();
        Bench { folder, database }
    }

    /// As after a restart of the program.
    fn reopen(self) -> Self {
        let Bench { folder, database } = self;
        drop(database);
        let database =
            Database::open(folder.path().join("database"), Options::unmeasured()).unwrap();
        Bench { folder, database }
    }

    fn input(&self, name: &str) -> PathBuf {
        self.folder.path().join("in").join(name)
    }

    fn write(&self, name: &str, lines: &[impl AsRef<str>]) {
        let lines: Vec<&str> = lines.iter().map(AsRef::as_ref).collect();
        fs::write(self.input(name), lines.join("\n") + "\n").unwrap();
    }

    fn append(&self, name: &str, text: &str) {
        let mut file = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.input(name))
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// A configuration that reads that input; "" is the folder of all.
    fn config(&self, name: &str, tables: Vec<FileTable>) -> FileConfig {
        FileConfig::new(self.input(name).to_str().unwrap(), tables)
    }

    fn context(&self, mode: RunMode) -> SourceContext {
        SourceContext {
            database: self.database.clone(),
            mode,
            stop: CancellationToken::new(),
            progress: Arc::new(Progress::default()),
        }
    }

    /// Runs to the end of the input.
    fn run(&self, config: &FileConfig) -> Result<ProgressReading, SourceError> {
        let source = FileSource::new(SOURCE.into(), config.clone())?;
        let context = self.context(RunMode::Once);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(source.run(context.clone()))?;
        Ok(context.progress.read())
    }

    fn table(&self, name: &str) -> Table {
        self.database.table(name).unwrap()
    }

    fn row(&self, table: &str, key: &[Value]) -> Option<Row> {
        self.database
            .snapshot()
            .get(&self.table(table), key)
            .unwrap()
    }

    fn row_count(&self, table: &str) -> u64 {
        self.database
            .snapshot()
            .row_count(&self.table(table))
            .unwrap()
    }

    /// The rows of `shop.notes` as a scan gives them.
    fn all_notes(&self) -> BTreeMap<i64, Option<String>> {
        let Some(table) = self.database.table("shop.notes") else {
            return BTreeMap::new();
        };
        let mut notes = BTreeMap::new();
        for batch in self
            .database
            .snapshot()
            .scan(&table, Scan::default())
            .unwrap()
        {
            let batch = batch.unwrap();
            let (ids, texts) = (
                batch.column(0).as_primitive::<Int64Type>(),
                batch.column(1).as_string::<i32>(),
            );
            for (id, text) in ids.values().iter().zip(texts) {
                assert_eq!(
                    notes.insert(*id, text.map(str::to_owned)),
                    None,
                    "row {id} twice"
                );
            }
        }
        notes
    }

    /// The `(id, note)` rows of a table of [`notes`].
    fn notes(&self, ids: impl IntoIterator<Item = i64>) -> Vec<Option<String>> {
        ids.into_iter()
            .map(
                |id| match self.row("shop.notes", &[Value::Int64(id)])?.remove(1) {
                    Value::Utf8(note) => Some(note),
                    other => Some(format!("{other:?}")),
                },
            )
            .collect()
    }
}

/// The table `shop.notes` (id, note), declared.
fn notes() -> FileTable {
    table(
        "shop.notes",
        &["id"],
        &[("id", "int64"), ("note", "string")],
    )
}

fn table(name: &str, key: &[&str], columns: &[(&str, &str)]) -> FileTable {
    let columns = columns
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect();
    FileTable {
        columns: Some(columns),
        ..FileTable::new(name, key.iter().copied())
    }
}

/// An event of a table `shop.<table>`, of no transaction.
fn event(op: &str, table: &str, before: &str, after: &str) -> String {
    let source =
        format!(r#"{{"connector":"postgresql","db":"web","schema":"shop","table":"{table}"}}"#);
    format!(
        r#"{{"before":{before},"after":{after},"source":{source},"op":"{op}","ts_ms":1700000000000}}"#
    )
}

/// An insert into `shop.notes`.
fn note(id: i64, text: &str) -> String {
    event("c", "notes", "null", &note_row(id, text))
}

fn note_row(id: i64, text: &str) -> String {
    format!(r#"{{"id":{id},"note":"{text}"}}"#)
}

/// The same event as a part of that source transaction.
fn in_transaction(event: &str, id: &str) -> String {
    event.replacen(
        '{',
        &format!(r#"{{"transaction":{{"id":"{id}","total_order":1}},"#),
        1,
    )
}

fn some(texts: &[&str]) -> Vec<Option<String>> {
    texts
        .iter()
        .map(|text| (!text.is_empty()).then(|| (*text).to_owned()))
        .collect()
}
