//! The exporter: one tick makes each changed table's net change one Iceberg commit.
//!
//! `schedule` says which tables are exported when; `tables` finds and makes the Iceberg tables and settles exports of unknown end; `fence` keeps older exporters from
//! committing; `standing` keeps one table's errors from the others; `columns` makes an Iceberg table's columns those of the
//! engine's, `layout` its partitions and order those of the configuration, and `branch` has exports go to the branch that it names; `table_export` exports one table: files, the
//! engine's note of them, the commit to the catalog, the engine's note of that.

mod branch;
pub(crate) mod columns;
mod core;
mod fence;
mod layout;
mod metrics;
mod schedule;
mod standing;
mod table_export;
mod tables;
mod upgrade;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use moonshine_engine::{Database, Snapshot, Table};

pub(crate) use self::core::{Core, TableSlot, TableState};
pub use self::metrics::ExporterMetrics;
use self::schedule::Running;
pub use self::standing::Standing;
use crate::cadence::Cadence;
use crate::catalog::{self, TableCatalog};
use crate::config::{IcebergConfig, SettingsByTable};
use crate::environment::Environment;
use crate::error::{ExportError, Result};
use crate::maintenance::Maintainer;

/// Exports a database's tables. A database has one exporter at a time; a newer one fences the older.
#[derive(Debug)]
pub struct Exporter {
    core: Arc<Core>,
    running: Running,
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

    /// Connects to the catalog alone: each table is taken over by its first export.
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
        Exporter {
            core,
            running: Running::default(),
        }
    }

    /// What looks after the exported tables, beside the exports.
    pub fn maintainer(&self) -> Maintainer {
        Maintainer::of(self.core.clone())
    }

    /// What it tells about itself.
    pub fn metrics(&self) -> ExporterMetrics {
        ExporterMetrics::of(self.core.clone())
    }

    /// How the export of each table stands, by the engine's name of it.
    pub fn standings(&self) -> BTreeMap<String, Standing> {
        self.core.standings()
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
        self.core.cadences(freshness_ms)
    }

    /// Exports every table that changed up to `snapshot`, one Iceberg commit each, and makes the Iceberg tables that
    /// are missing. Dropped half way, it leaves the tables at hand to be found out about by the next tick; so are exports
    /// that are under way when it is called.
    ///
    /// # Errors
    /// Any [`ExportError`](crate::ExportError): the first one. All other tables are exported; a failed one is as it was, or its
    /// state is found out by the next tick.
    pub async fn tick(&mut self, snapshot: &Snapshot) -> Result<Vec<TableExport>> {
        self.let_go().await;
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

    /// Exports one table, as [`tick`](Self::tick) does; `None` if nothing changed since its last export.
    ///
    /// # Errors
    /// As [`tick`](Self::tick).
    pub async fn export(
        &mut self,
        table: &Table,
        snapshot: &Snapshot,
    ) -> Result<Option<TableExport>> {
        self.let_go().await;
        self.core.tick_table(table, snapshot).await
    }
}

impl Core {
    fn standings(&self) -> BTreeMap<String, Standing> {
        let standing = |table: &Table| {
            let standing = self.slot(table).standing.lock().clone();
            (table.name().to_owned(), standing)
        };
        self.database.tables().iter().map(standing).collect()
    }

    fn cadences(&self, freshness_ms: i64) -> BTreeMap<String, Cadence> {
        let cadence = |table: &Table| {
            let slot = self.slot(table);
            let mut controller = slot.controller.lock();
            let settings = &self.settings(table).cadence;
            let chosen = controller.choose(settings, freshness_ms);
            controller.log(table.name(), chosen);
            (table.name().to_owned(), chosen)
        };
        self.database.tables().iter().map(cadence).collect()
    }

    async fn tick_table(&self, table: &Table, snapshot: &Snapshot) -> Result<Option<TableExport>> {
        let slot = self.slot(table);
        let mut place = slot.state.lock().await;
        let known = place.take();
        let mut state = self.ready(table, known).await?;
        let mut exported = self.export_table(table, snapshot, &mut state).await;
        if let Err(error @ ExportError::Corrupt { .. }) = exported {
            exported = Err(self.judge_again(table, &state.current, error).await);
        }
        // After a failure the table is looked at anew: what we know of it may be the cause.
        if matches!(exported, Ok(_) | Err(ExportError::Config(_))) {
            *place = Some(state);
        }
        exported
    }
}
