//! The exporter: one tick makes each changed table's net change one Iceberg commit.
//!
//! `tables` finds and makes the Iceberg tables and settles exports of unknown end; `fence` keeps older exporters from
//! committing; `standing` keeps one table's errors from the others; `columns` makes an Iceberg table's columns those of the
//! engine's, `layout` its partitions and order those of the configuration, and `branch` has exports go to the branch that it names; `table_export` exports one table: files, the
//! engine's note of them, the commit to the catalog, the engine's note of that.

mod branch;
pub(crate) mod columns;
mod core;
mod fence;
mod layout;
mod metrics;
mod standing;
mod table_export;
mod tables;
mod upgrade;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use moonshine_engine::{Database, Snapshot, Table};

pub(crate) use self::core::{Core, TableSlot, TableState};
pub use self::standing::Standing;
use self::standing::ends_all;
use crate::cadence::Cadence;
use crate::catalog::{self, TableCatalog};
use crate::config::{IcebergConfig, SettingsByTable};
use crate::environment::Environment;
use crate::error::{ExportError, Result};
use crate::maintenance::Maintainer;

/// How many tables are exported at the same time.
const EXPORTS_AT_ONCE: usize = 4;

/// Exports a database's tables. A database has one exporter at a time; a newer one fences the older.
#[derive(Debug)]
pub struct Exporter {
    core: Arc<Core>,
}

/// One Iceberg commit of a tick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableExport {
    /// The Iceberg table, `namespace.name`.
    pub table: String,
    /// The snapshot that the commit made current.
    pub snapshot_id: i64,
    /// The engine's commit sequence that the snapshot holds.
    pub commit_seq: u64,
    /// Rows in the new data files.
    pub rows_written: u64,
    /// Rows of older data files that were deleted.
    pub rows_removed: u64,
    /// New data files.
    pub data_files: u64,
    /// New delete files.
    pub delete_files: u64,
    /// Size of the new data and delete files, in bytes.
    pub bytes_written: u64,
}

/// Requests for a commit besides one a file: its manifests and their list, and the request to the catalog.
const COMMIT_REQUESTS: u64 = 3;

impl TableExport {
    /// About how many requests to store and catalog it took.
    fn requests(&self) -> u64 {
        self.data_files + self.delete_files + COMMIT_REQUESTS
    }
}

/// How often tables are exported that have no target of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The most that a row is to wait, in milliseconds.
    pub freshness_ms: i64,
    /// Whether so much waits that tables are exported before their time; their budgets hold all the same.
    pub is_full: bool,
}

impl Exporter {
    /// Connects to catalog and warehouse, finds out what became of exports that a crash interrupted, and takes a new
    /// writer epoch.
    ///
    /// # Errors
    /// [`Config`](crate::ExportError::Config); [`Unavailable`](crate::ExportError::Unavailable);
    /// [`Foreign`](crate::ExportError::Foreign) and [`Stale`](crate::ExportError::Stale) for a table that is not what this database left there, in which case nothing was written.
    pub async fn open(database: Database, config: &IcebergConfig) -> Result<Exporter> {
        config.check()?;
        let catalog = catalog::open(config, true).await?;
        let environment = Environment::default();
        Self::open_with(database, catalog, config.settings_by_table()?, environment).await
    }

    /// As [`Exporter::open`], with parts of the caller's.
    ///
    /// # Errors
    /// As [`Exporter::open`].
    pub async fn open_with(
        database: Database,
        catalog: Arc<dyn TableCatalog>,
        settings: SettingsByTable,
        environment: Environment,
    ) -> Result<Exporter> {
        let exporter = Self::with_catalog(database, catalog, settings, environment);
        exporter.core.take_over().await?;
        Ok(exporter)
    }

    /// Connects to the catalog alone: each table is taken over by the first [`tick_due`](Exporter::tick_due) that gets at it.
    ///
    /// # Errors
    /// [`Config`](crate::ExportError::Config); [`Unavailable`](crate::ExportError::Unavailable).
    pub async fn connect(database: Database, config: &IcebergConfig) -> Result<Exporter> {
        config.check()?;
        let catalog = catalog::open(config, true).await?;
        let settings = config.settings_by_table()?;
        Ok(Self::with_catalog(
            database,
            catalog,
            settings,
            Environment::default(),
        ))
    }

    /// As [`Exporter::connect`], with parts of the caller's.
    pub fn with_catalog(
        database: Database,
        catalog: Arc<dyn TableCatalog>,
        settings: SettingsByTable,
        environment: Environment,
    ) -> Exporter {
        let core = Arc::new(Core::new(database, catalog, settings, environment));
        Exporter { core }
    }

    /// What looks after the exported tables, beside the exports.
    pub fn maintainer(&self) -> Maintainer {
        Maintainer::of(self.core.clone())
    }

    /// How the export of each table stands, by the engine's name of it.
    pub fn standings(&self) -> BTreeMap<String, Standing> {
        let standing = |table: &Table| {
            let standing = self.core.slot(table).standing.lock().clone();
            (table.name().to_owned(), standing)
        };
        self.core.database.tables().iter().map(standing).collect()
    }

    /// Whether a table's [cadence](Exporter::cadences) says that it is to be exported now.
    pub fn is_due(&self, pace: Pace) -> bool {
        !self.core.due_tables(pace).is_empty()
    }

    /// Whether every table was exported since that commit sequence became visible.
    pub fn is_exported_up_to(&self, seq: u64) -> bool {
        let tables = self.core.database.tables();
        tables.iter().all(|table| {
            let seen_seq = *self.core.slot(table).seen_seq.lock();
            seen_seq.is_some_and(|seen_seq| seen_seq >= seq)
        })
    }

    /// How often each table is exported, and why, by the engine's name of it; `freshness_ms` where it has no target of its own.
    /// What became different since the last call is logged.
    pub fn cadences(&self, freshness_ms: i64) -> BTreeMap<String, Cadence> {
        let cadence = |table: &Table| {
            let slot = self.core.slot(table);
            let mut controller = slot.controller.lock();
            let settings = &self.core.settings(table).cadence;
            let chosen = controller.choose(settings, freshness_ms);
            controller.log(table.name(), chosen);
            (table.name().to_owned(), chosen)
        };
        self.core.database.tables().iter().map(cadence).collect()
    }

    /// Exports every table that changed up to `snapshot`, one Iceberg commit each, and makes the Iceberg tables that
    /// are missing. Dropped half way, it leaves the tables at hand to be found out about by the next tick.
    ///
    /// # Errors
    /// Any [`ExportError`](crate::ExportError): the first one. All other tables are exported; a failed one is as it was, or its
    /// state is found out by the next tick.
    pub async fn tick(&mut self, snapshot: &Snapshot) -> Result<Vec<TableExport>> {
        let tables = self.core.database.tables();
        let mut ticks = self.core.tick_tables(tables, snapshot);
        let (mut exports, mut failure) = (Vec::new(), None);
        while let Some(exported) = ticks.next().await {
            match exported {
                Ok(export) => exports.extend(export),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(exports), Err)
    }

    /// As [`Exporter::tick`], of the tables whose [cadence] says so and that are not waiting after a failure. What a table fails
    /// of is logged and kept as its [standing](Exporter::standings), and the table is tried again after a pause that grows from a
    /// second to a minute; it holds up no other.
    ///
    /// [cadence]: Exporter::cadences
    ///
    /// # Errors
    /// What concerns all tables: [`Fenced`](crate::ExportError::Fenced), and [`Engine`](crate::ExportError::Engine).
    pub async fn tick_due(&mut self, snapshot: &Snapshot, pace: Pace) -> Result<Vec<TableExport>> {
        let tables = self.core.due_tables(pace);
        let mut ticks = self.core.tick_tables(tables, snapshot);
        let (mut exports, mut failure) = (Vec::new(), None);
        while let Some(exported) = ticks.next().await {
            match exported {
                Ok(export) => exports.extend(export),
                Err(error) if ends_all(&error) => failure = failure.or(Some(error)),
                Err(_) => {}
            }
        }
        failure.map_or(Ok(exports), Err)
    }

    /// Exports one table, as [`tick`](Self::tick) does; `None` if nothing changed since its last export.
    ///
    /// # Errors
    /// As [`tick`](Self::tick).
    pub async fn export(
        &mut self,
        table: &Table,
        snapshot: &Snapshot,
    ) -> Result<Option<TableExport>> {
        self.core.tick_table(table, snapshot).await
    }
}

impl Core {
    fn due_tables(&self, pace: Pace) -> Vec<Table> {
        let now_ms = self.environment.clock.now_ms();
        let is_due = |table: &Table| {
            let slot = self.slot(table);
            let settings = &self.settings(table).cadence;
            let mut controller = slot.controller.lock();
            slot.standing.lock().is_due(now_ms)
                && controller.is_due(settings, pace.freshness_ms, pace.is_full, now_ms)
        };
        let mut tables = self.database.tables();
        tables.retain(is_due);
        tables
    }

    /// Exports these tables, some at a time, in the order in which they are done.
    fn tick_tables<'a>(
        &'a self,
        tables: Vec<Table>,
        snapshot: &'a Snapshot,
    ) -> BoxStream<'a, Result<Option<TableExport>>> {
        let tick = move |table: Table| async move {
            let clock = &self.environment.clock;
            let began_ms = clock.now_ms();
            let exported = self.tick_table(&table, snapshot).await;
            let slot = self.slot(&table);
            if let Ok(export) = &exported {
                let requests = export.as_ref().map(TableExport::requests);
                let mut controller = slot.controller.lock();
                controller.note(began_ms, clock.now_ms(), requests);
            }
            let mut standing = slot.standing.lock();
            match &exported {
                Ok(_) => {
                    standing.succeed(table.name());
                    *slot.seen_seq.lock() = Some(snapshot.seq());
                }
                Err(error) if ends_all(error) => {}
                Err(error) => {
                    standing.fail(table.name(), error, clock.now_ms());
                }
            }
            drop(standing);
            exported
        };
        stream::iter(tables)
            .map(tick)
            .buffer_unordered(EXPORTS_AT_ONCE)
            .boxed()
    }

    async fn tick_table(&self, table: &Table, snapshot: &Snapshot) -> Result<Option<TableExport>> {
        let slot = self.slot(table);
        let mut place = slot.state.lock().await;
        let known = place.take();
        let mut state = self.ready(table, known).await?;
        let exported = self.export_table(table, snapshot, &mut state).await;
        // After a failure the table is looked at anew: what we know of it may be the cause.
        if matches!(exported, Ok(_) | Err(ExportError::Config(_))) {
            *place = Some(state);
        }
        exported
    }
}
