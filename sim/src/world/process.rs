//! A process: a database that is open, and what its clients share.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use moonshine_engine::io::Io;
use moonshine_engine::{
    Database, Error, Options, Row, Scan, ScanOrder, Snapshot, Table, TableSchema,
};

use super::acknowledged::{Acknowledged, note};
use super::disk::ProcessDisk;
use super::lakeside::Host;
use super::outcome::{Faults, Step, Stop};
use parking_lot::Mutex;

use crate::model::rows::rows_of;
use crate::model::tables::schemas;
use crate::plan::config::Config;
use crate::trace::Trace;

/// Where the database is.
pub const FOLDER: &str = "/db";

/// A database that is open, and what its clients share.
#[derive(Debug)]
pub struct Process {
    /// What all draws follow from.
    pub seed: u64,
    /// Sizes and switches.
    pub config: Arc<Config>,
    /// The disk, with the planned death.
    pub disk: ProcessDisk,
    /// The database.
    pub database: Database,
    /// What clients were told.
    pub acknowledged: Arc<Acknowledged>,
    /// What is broken.
    pub faults: Arc<Faults>,
    /// What happened.
    pub trace: Arc<Trace>,
    /// Its exporters, if there is a lake.
    pub exports: Option<Arc<Host>>,
    /// Somebody did something to an Iceberg table that stops its export.
    pub troubled: AtomicBool,
    /// Columns that a table had for a while.
    pub altered: Mutex<Vec<(usize, Arc<TableSchema>)>>,
}

/// How a database is opened in this simulation.
pub fn options(config: &Config, io: Arc<dyn Io>) -> Options {
    let (s_size_bytes, s_paral) = config.profile;
    let profile = moonshine_sysprobe::Profile::given(s_size_bytes, s_paral as u32);
    Options {
        io,
        segment_size_bytes_max: Some(config.segment_size_bytes_max),
        memory_budget_bytes: config.memory_budget_bytes,
        generation_size_bytes_max: Some(config.generation_size_bytes_max),
        fragment_size_bytes_max: Some(config.fragment_size_bytes_max),
        compaction_threads: Some(config.compaction_threads),
        profile: profile.into(),
    }
}

/// Opens the database, and creates the tables that it lacks.
///
/// # Errors
/// As the engine answers.
pub fn open(config: &Config, disk: &ProcessDisk) -> Result<Database, Error> {
    let options = options(config, Arc::new(disk.clone()));
    let database = Database::open(Path::new(FOLDER), options)?;
    for schema in schemas(config.shard_keys) {
        if database.table(schema.name()).is_none() {
            database.create_table(schema)?;
        }
    }
    Ok(database)
}

/// The tables as they are now.
pub fn tables(database: &Database, config: &Config) -> Vec<Table> {
    let schemas = schemas(config.shard_keys);
    let tables = schemas.iter().map(|schema| database.table(schema.name()));
    tables.map(|table| table.unwrap()).collect()
}

/// All rows of each table, and the schema that they were read with.
pub type Contents = Vec<(Arc<TableSchema>, Vec<Row>)>;

/// All rows of each table by key, with the schema that they were read with.
///
/// # Errors
/// As the engine answers.
pub fn contents(snapshot: &Snapshot, tables: &[Table]) -> Result<Contents, Error> {
    let tables = tables.iter().map(|table| {
        let scan = Scan {
            order: ScanOrder::Ascending,
            ..Scan::default()
        };
        let mut rows = Vec::new();
        for batch in snapshot.scan(table, scan)? {
            rows.extend(rows_of(&batch?, table.schema()));
        }
        Ok((table.schema().clone(), rows))
    });
    tables.collect()
}

impl Process {
    /// What the engine answered, or why the operation ends with that.
    ///
    /// # Errors
    /// A violation if nothing explains the error.
    pub fn expect<T>(&self, operation: usize, what: &str, answer: Result<T, Error>) -> Step<T> {
        answer.map_err(|error| self.stop(operation, what, &error))
    }

    /// Why an operation ends with an error.
    pub fn stop(&self, operation: usize, what: &str, error: &Error) -> Stop {
        if self.disk.is_dead() {
            return Stop::Dead;
        }
        if self.faults.explain(error, self.disk.disk()) {
            return Stop::Explained;
        }
        Stop::violation(
            "honest",
            operation,
            format!("{what} failed though nothing explains it: {error} ({error:?})"),
        )
    }

    /// The newest snapshot, which must not be older than anything that anybody saw.
    ///
    /// # Errors
    /// A violation if it is.
    pub fn snapshot(&self, operation: usize) -> Step<Snapshot> {
        let known = self.acknowledged.visible_seq.load(Ordering::SeqCst);
        let snapshot = self.database.snapshot();
        if snapshot.seq() < known {
            let seq = snapshot.seq();
            return Err(Stop::violation(
                "monotonic",
                operation,
                format!("a snapshot has commit sequence {seq} after {known} was visible"),
            ));
        }
        note(&self.acknowledged.visible_seq, snapshot.seq());
        Ok(snapshot)
    }

    /// The newest sequence that is durable, which must not go back either.
    ///
    /// # Errors
    /// A violation if it does.
    pub fn durable_seq(&self, operation: usize) -> Step<u64> {
        let known = self.acknowledged.durable_seq.load(Ordering::SeqCst);
        let seq = self.database.durable_seq();
        if seq < known {
            return Err(Stop::violation(
                "monotonic",
                operation,
                format!("commit sequence {seq} is the last durable one after {known} was"),
            ));
        }
        note(&self.acknowledged.durable_seq, seq);
        note(&self.acknowledged.visible_seq, seq);
        Ok(seq)
    }

    /// Notes that a commit sequence is durable.
    pub fn note_durable(&self, seq: u64) {
        note(&self.acknowledged.visible_seq, seq);
        note(&self.acknowledged.durable_seq, seq);
    }

    /// Says what happens.
    pub fn say(&self, text: impl Into<String>) {
        self.trace.note(text.into());
    }
}
