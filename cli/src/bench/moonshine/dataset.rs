//! The database that the threads of a job share: opened, looked over, loaded.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arrow_array::{Array, BinaryArray, RecordBatch};
use moonshine_engine::{
    ColumnType, Database, Options, ProfileChoice, Scan, Table, TableSchema, Value,
};
use moonshine_sysprobe::bench::RunControl;
use moonshine_sysprobe::{PROFILE_FILE_NAME, ProfileFile};

use super::counting_io::{CountingIo, IoCounts};
use super::inserted::Inserted;
use super::plan::Plan;
use super::record::{RecordFormat, ValueHead};

/// The one table of a benchmark's database.
pub(super) const TABLE_NAME: &str = "bench.records";
/// The engine's file that every database has.
const MANIFEST_FILE_NAME: &str = "MANIFEST";
/// Bytes of records that are loaded in one transaction.
const LOAD_TRANSACTION_BYTES: u64 = 64 * 1024;

/// What was loaded before the job began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loaded {
    /// Records that were there.
    pub(super) found: u64,
    /// Records that were written.
    pub(super) loaded: u64,
    /// How long that took, until all was durable.
    pub(super) took: Duration,
}

/// A database of benchmark records.
#[derive(Debug)]
pub(super) struct Dataset {
    pub(super) folder: PathBuf,
    pub(super) database: Database,
    pub(super) table: Table,
    pub(super) format: RecordFormat,
    pub(super) inserted: Inserted,
    pub(super) loaded: Loaded,
    io: Arc<CountingIo>,
    io_at_begin: IoCounts,
    /// Bytes of keys and values that jobs wrote since.
    written_bytes: AtomicU64,
    submitted_seq: AtomicU64,
}

impl Dataset {
    /// Opens the database of a plan, creating it if there is none, and loads the records that it lacks.
    ///
    /// # Errors
    /// Says what is in the folder instead of a benchmark's database, or what the engine refused.
    pub(super) fn open(folder: &Path, plan: &Plan, control: &RunControl) -> Result<Self, String> {
        check_folder(folder)?;
        let io = Arc::new(CountingIo::default());
        let mut options = Options {
            // A job is no place to wait for a probe.
            profile: ProfileFile::of_database(folder)
                .map_err(|error| error.to_string())?
                .map_or(ProfileChoice::SafeDefaults, |file| {
                    ProfileChoice::from(&file)
                }),
            io: io.clone(),
            ..Options::default()
        };
        if let Some(memory_budget_bytes) = plan.memory_budget_bytes {
            options.memory_budget_bytes = memory_budget_bytes;
        }
        let database = Database::open(folder, options).map_err(text)?;
        if let Some(table) = database.tables().iter().find(|t| t.name() != TABLE_NAME) {
            return Err(format!(
                "{} holds the table '{}'; a benchmark writes only to a database of its own",
                folder.display(),
                table.name()
            ));
        }
        let schema = TableSchema::builder(TABLE_NAME)
            .column("key", ColumnType::Binary, false)
            .column("value", ColumnType::Binary, false)
            .primary_key(["key"])
            .build();
        let table = schema
            .and_then(|schema| database.create_table(schema))
            .map_err(|error| format!("{}: {error}", folder.display()))?;
        let format = RecordFormat::new(plan.key_size, plan.value_size, &plan.content);
        let mut dataset = Dataset {
            folder: folder.to_owned(),
            database,
            table,
            format,
            inserted: Inserted::new(0),
            loaded: Loaded {
                found: 0,
                loaded: 0,
                took: Duration::ZERO,
            },
            io,
            io_at_begin: IoCounts::default(),
            written_bytes: AtomicU64::new(0),
            submitted_seq: AtomicU64::new(0),
        };
        let found = dataset.found()?;
        let begun = Instant::now();
        let records = dataset.load(found, plan.records.max(found), control)?;
        dataset.loaded = Loaded {
            found,
            loaded: records - found,
            took: begun.elapsed(),
        };
        dataset.inserted = Inserted::new(records);
        dataset.io_at_begin = dataset.io.counts();
        Ok(dataset)
    }

    /// How many records an earlier run left, which are those of the numbers from 0.
    fn found(&self) -> Result<u64, String> {
        let foreign = |reason: String| {
            format!(
                "{}: {reason}; remove it or name another by filename",
                self.folder.display()
            )
        };
        let snapshot = self.database.snapshot();
        let keys_only = Scan {
            projection: Some(vec![0]),
            ..Scan::default()
        };
        let (mut count, mut end) = (0, 0);
        for batch in snapshot.scan(&self.table, keys_only).map_err(text)? {
            let batch = batch.map_err(text)?;
            for key in binary(&batch, 0)?.iter().flatten() {
                let number = self.format.number(key);
                let number = number.ok_or_else(|| {
                    foreign(format!("its keys are not those of {} bytes", key.len()))
                })?;
                count += 1;
                end = end.max(number.saturating_add(1));
            }
        }
        if count != end {
            return Err(foreign(format!(
                "it lacks {} of {end} records: a benchmark was killed in it",
                end - count
            )));
        }
        if let Some(last) = end.checked_sub(1) {
            self.read(last).map_err(foreign)?;
        }
        Ok(count)
    }

    /// Writes records until they are `to` or the run is stopped; returns how many there are then.
    fn load(&self, from: u64, to: u64, control: &RunControl) -> Result<u64, String> {
        let per_transaction = (LOAD_TRANSACTION_BYTES / self.format.size_bytes()).max(1);
        let mut first = from;
        while first < to && !control.is_stopped() {
            let end = (first + per_transaction).min(to);
            let mut transaction = self.database.begin();
            for number in first..end {
                let head = ValueHead { number, stamp: 0 };
                transaction
                    .upsert(&self.table, self.row(head))
                    .map_err(text)?;
            }
            self.note_submitted(transaction.submit().map_err(text)?.seq());
            first = end;
        }
        self.wait_durable()?;
        Ok(first)
    }

    /// A row of the table.
    pub(super) fn row(&self, head: ValueHead) -> Vec<Value> {
        vec![
            Value::Binary(self.format.key(head.number)),
            Value::Binary(self.format.value(head)),
        ]
    }

    /// Reads a record that must be there.
    ///
    /// # Errors
    /// Says which record is missing or damaged.
    pub(super) fn read(&self, number: u64) -> Result<ValueHead, String> {
        match self.get(number)? {
            Some(row) => match row.as_slice() {
                [_, Value::Binary(value)] => self.format.check(number, value),
                _ => Err(format!("record {number} has no value")),
            },
            None => Err(format!("record {number} is not there")),
        }
    }

    /// The row of a number's key in the newest state, if there is one.
    pub(super) fn get(&self, number: u64) -> Result<Option<Vec<Value>>, String> {
        let key = [Value::Binary(self.format.key(number))];
        self.database
            .snapshot()
            .get(&self.table, &key)
            .map_err(text)
    }

    pub(super) fn note_submitted(&self, seq: u64) {
        self.submitted_seq.fetch_max(seq, Ordering::Relaxed);
    }

    pub(super) fn note_written(&self, bytes: u64) {
        self.written_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Waits until all that was noted as submitted is durable.
    pub(super) fn wait_durable(&self) -> Result<(), String> {
        let seq = self.submitted_seq.load(Ordering::Relaxed);
        self.database.wait_durable(seq).map_err(text)
    }

    /// What the engine wrote since the load, and the bytes of records that it was given.
    pub(super) fn written(&self) -> (IoCounts, u64) {
        let counts = self.io.counts().since(self.io_at_begin);
        (counts, self.written_bytes.load(Ordering::Relaxed))
    }

    /// Bytes that the database's files take on the disk.
    ///
    /// # Errors
    /// As the system answers.
    pub(super) fn disk_bytes(&self) -> Result<u64, String> {
        let failed = |error| format!("reading {}: {error}", self.folder.display());
        folder_bytes(&self.folder).map_err(failed)
    }
}

/// The engine's error as a report has it.
pub(super) fn text(error: moonshine_engine::Error) -> String {
    error.to_string()
}

/// A column of bytes.
pub(super) fn binary(batch: &RecordBatch, column: usize) -> Result<&BinaryArray, String> {
    let column = batch.columns().get(column);
    column
        .and_then(|column| column.as_any().downcast_ref())
        .ok_or_else(|| format!("a scan of '{TABLE_NAME}' lacks a column"))
}

/// Refuses a folder that holds something else than a database.
fn check_folder(folder: &Path) -> Result<(), String> {
    let failed = |error| format!("{}: {error}", folder.display());
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let mut has_others = false;
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        if name == MANIFEST_FILE_NAME {
            return Ok(());
        }
        has_others |= name != PROFILE_FILE_NAME;
    }
    if has_others {
        return Err(format!(
            "{} holds files and no database; name another folder by directory or filename",
            folder.display()
        ));
    }
    Ok(())
}

/// A file that goes meanwhile, as the engine works in the background, counts as gone.
fn folder_bytes(folder: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        bytes += if metadata.is_dir() {
            folder_bytes(&entry.path())?
        } else {
            // The unit of `blocks` is 512 bytes, whatever the file system's own.
            metadata.blocks() * 512
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn files_that_go_meanwhile_are_no_error() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("stays"), [1; 5000]).unwrap();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let goes = folder.path().join("goes");
                while !is_over.load(Ordering::Relaxed) {
                    fs::write(&goes, []).unwrap();
                    fs::remove_file(&goes).unwrap();
                }
            });
            let counted = (0..5000).map(|_| folder_bytes(folder.path()));
            let counted: Result<Vec<u64>, _> = counted.collect();
            is_over.store(true, Ordering::Relaxed);
            assert!(counted.unwrap().iter().all(|bytes| *bytes >= 5000));
        });
    }
}
