//! The exporter: one tick makes each changed table's net change one Iceberg commit.
//!
//! `tables` finds and makes the Iceberg tables and settles exports of unknown end; `fence` keeps older exporters from
//! committing; `columns` makes an Iceberg table's columns those of the engine's; `table_export` exports one table: files, the
//! engine's note of them, the commit to the catalog, the engine's note of that.

pub(crate) mod columns;
mod core;
mod fence;
mod table_export;
mod tables;

use std::sync::Arc;

use moonshine_engine::{Database, Snapshot, Table};

use self::core::TableState;
pub(crate) use self::core::{Core, TableSlot};
use crate::catalog::{self, TableCatalog};
use crate::config::{IcebergConfig, SettingsByTable};
use crate::environment::Environment;
use crate::error::{ExportError, Result};
use crate::maintenance::Maintainer;

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
    /// Size of the new data and delete files, in bytes.
    pub bytes_written: u64,
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
        let core = Arc::new(Core::new(database, catalog, settings, environment));
        core.take_over().await?;
        Ok(Exporter { core })
    }

    /// What looks after the exported tables, beside the exports.
    pub fn maintainer(&self) -> Maintainer {
        Maintainer::of(self.core.clone())
    }

    /// Exports every table that changed up to `snapshot`, one Iceberg commit each, and makes the Iceberg tables that
    /// are missing. Dropped half way, it leaves the table at hand to be found out about by the next tick.
    ///
    /// # Errors
    /// Any [`ExportError`](crate::ExportError). Tables before the failed one are exported, the failed one is as it was, or its state is
    /// found out by the next tick. One whose columns can't be exported ([`Config`](crate::ExportError::Config)) keeps no other
    /// table from being exported.
    pub async fn tick(&mut self, snapshot: &Snapshot) -> Result<Vec<TableExport>> {
        let mut exports = Vec::new();
        let mut refused = None;
        for table in self.core.database.tables() {
            match self.core.tick_table(&table, snapshot).await {
                Err(error @ ExportError::Config(_)) => refused = Some(error),
                exported => exports.extend(exported?),
            }
        }
        refused.map_or(Ok(exports), Err)
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
    async fn tick_table(&self, table: &Table, snapshot: &Snapshot) -> Result<Option<TableExport>> {
        let slot = self.slot(table);
        let mut place = slot.state.lock().await;
        let mut state = match (self.settle_pending(table).await?, place.take()) {
            (Some(settled), _) => TableState::new(settled),
            (None, Some(state)) => state,
            (None, None) => TableState::new(self.create(table).await?),
        };
        let exported = self.export_table(table, snapshot, &mut state).await;
        // After a failure the table is looked at anew: what we know of it may be the cause.
        if matches!(exported, Ok(_) | Err(ExportError::Config(_))) {
            *place = Some(state);
        }
        exported
    }
}
