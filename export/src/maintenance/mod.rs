//! What exported tables need besides exports: files rewritten, old snapshots expired, small manifests merged, columns' statistics,
//! orphans removed.
//!
//! A *task* looks at one table and does what is due, or says what it would do. It reads and writes whatever it needs without
//! holding anybody up; only its commit, made by [`Work::commit`], is made under the table's lock, so it neither meets an
//! export's commit nor keeps one waiting for longer than one attempt. It commits through the same state machine as exports
//! do, and removes files only when the table is known not to need them. [`Maintainer`] runs the tasks of all tables:
//! those that are due, beside an exporter, or all by hand.

mod expiry;
mod manifests;
mod orphans;
mod rewrite;
mod statistics;
mod unneeded;

use std::fmt;
use std::sync::Arc;

use moonshine_engine::Table;

use crate::catalog::CatalogTable;
use crate::commit::{ATTEMPTS_MAX, Failure, Proposal, run_up_to};
use crate::config::MaintenanceSettings;
use crate::error::{ExportError, Result};
use crate::exporter::{Core, TableSlot, TableState};
use crate::manifest::{ManifestCache, Manifests};
use crate::references::head;

/// What can be done for a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MaintenanceTask {
    /// Small data files, and those with many deleted rows, are written anew.
    RewriteFiles,
    /// Snapshots that are too old or too many go.
    ExpireSnapshots,
    /// Small manifests of one kind become one.
    MergeManifests,
    /// Files that nothing names go.
    RemoveOrphans,
    /// The newest export gets statistics of its columns. By hand only: it reads all of the table.
    ColumnStatistics,
}

impl MaintenanceTask {
    /// In the order in which they are done.
    const ALL: [MaintenanceTask; 5] = [
        MaintenanceTask::RewriteFiles,
        MaintenanceTask::ExpireSnapshots,
        MaintenanceTask::MergeManifests,
        MaintenanceTask::ColumnStatistics,
        MaintenanceTask::RemoveOrphans,
    ];

    /// What it counts.
    pub fn noun(self) -> &'static str {
        match self {
            MaintenanceTask::RewriteFiles => "files",
            MaintenanceTask::ExpireSnapshots => "snapshots",
            MaintenanceTask::MergeManifests => "manifests",
            MaintenanceTask::RemoveOrphans => "files",
            MaintenanceTask::ColumnStatistics => "columns",
        }
    }
}

impl fmt::Display for MaintenanceTask {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            MaintenanceTask::RewriteFiles => "rewrite-files",
            MaintenanceTask::ExpireSnapshots => "expire-snapshots",
            MaintenanceTask::MergeManifests => "merge-manifests",
            MaintenanceTask::RemoveOrphans => "remove-orphans",
            MaintenanceTask::ColumnStatistics => "column-statistics",
        })
    }
}

/// What a task did, or would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaintenanceAction {
    /// The Iceberg table, `namespace.name`.
    pub table: String,
    /// The task.
    pub task: MaintenanceTask,
    /// How many of [what it counts](MaintenanceTask::noun).
    pub items: u64,
    /// Files that it wrote.
    pub files_written: u64,
    /// Their size, in bytes.
    pub bytes_written: u64,
    /// Files that it removed.
    pub files_removed: u64,
}

impl MaintenanceAction {
    /// Of a task that found so much to do, and has written and removed nothing yet.
    fn new(table: &CatalogTable, task: MaintenanceTask, items: u64) -> Self {
        MaintenanceAction {
            table: table.ident.to_string(),
            task,
            items,
            files_written: 0,
            bytes_written: 0,
            files_removed: 0,
        }
    }
}

/// Why a task is run, and how far it may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// By itself: once there is enough to do.
    Automatic,
    /// By hand: whatever there is to do.
    ByHand,
    /// To say what would be done by hand; nothing is changed.
    DryRun,
}

impl Mode {
    /// How much there must be to do: by itself, a task waits for `automatic` of what it counts.
    fn batch(self, automatic: usize) -> usize {
        match self {
            Mode::Automatic => automatic,
            Mode::ByHand | Mode::DryRun => 1,
        }
    }
}

/// A task's way to one table.
pub(crate) struct Work<'a> {
    pub(crate) core: &'a Core,
    pub(crate) table: &'a Table,
    pub(crate) settings: &'a MaintenanceSettings,
    pub(crate) mode: Mode,
    slot: Arc<TableSlot>,
}

impl Work<'_> {
    /// The Iceberg table as the exporter last saw it; `None` if there is none, or if it has an export of unknown end.
    pub(crate) async fn current(&self) -> Result<Option<CatalogTable>> {
        if self.is_pending() {
            return Ok(None);
        }
        if let Some(state) = &*self.slot.state.lock().await {
            return Ok(Some(state.current.clone()));
        }
        if self.mode == Mode::Automatic {
            return Ok(None);
        }
        self.core.look_up(self.table, None).await
    }

    /// Commits what `proposal` proposes, while no export of the table is under way.
    pub(crate) async fn commit(
        &self,
        proposal: &mut dyn Proposal,
    ) -> Result<CatalogTable, Failure> {
        let mut place = self.slot.state.lock().await;
        if self.is_pending() {
            let place = format!("table '{}'", self.table.name());
            let reason = "the end of an export is not known yet";
            let pending = ExportError::unavailable(place, reason);
            return Err(Failure::NotCommitted(pending));
        }
        // Taken out for as long as its end is not known: what comes next then looks at the table anew. So does this: others may
        // have named a snapshot since the last export, which the catalog's demands don't show.
        let known = place.take();
        let ready = self.core.ready(self.table, None).await;
        let mut state = ready.map_err(Failure::NotCommitted)?;
        if let Some(known) = known {
            state.manifests = known.manifests;
        }
        let core = self.core;
        let base = state.current.clone();
        let catalog = core.catalog.as_ref();
        let attempts_max = match self.mode {
            // An export may be waiting for the lock.
            Mode::Automatic => 1,
            Mode::ByHand | Mode::DryRun => ATTEMPTS_MAX,
        };
        let committed = run_up_to(attempts_max, catalog, &core.environment, base, proposal).await?;
        state.current = committed.clone();
        *place = Some(state);
        Ok(committed)
    }

    /// The Iceberg table, and its files; `None` if it was never exported, or if by itself there is nothing known of it.
    async fn manifests(&self) -> Result<Option<(CatalogTable, Manifests)>> {
        if self.is_pending() || self.core.database.exported(self.table).is_none() {
            return Ok(None);
        }
        let mut place = self.slot.state.lock().await;
        if self.mode == Mode::Automatic && self.is_compact(place.as_ref()) {
            return Ok(None);
        }
        if place.is_none() {
            match self.mode {
                Mode::Automatic => return Ok(None),
                Mode::ByHand => *place = Some(self.core.ready(self.table, None).await?),
                Mode::DryRun => {
                    let Some(current) = self.core.look_up(self.table, None).await? else {
                        return Ok(None);
                    };
                    let manifests = load(&current, &mut ManifestCache::default()).await?;
                    return Ok(Some((current, manifests)));
                }
            }
        }
        let Some(TableState {
            current, manifests, ..
        }) = &mut *place
        else {
            return Ok(None);
        };
        let manifests = load(current, manifests).await?;
        Ok(Some((current.clone(), manifests)))
    }

    /// Whether there was nothing to rewrite when the table was as it is.
    fn is_compact(&self, state: Option<&TableState>) -> bool {
        let snapshot = state.and_then(|state| head_id(&state.current));
        snapshot.is_some() && *self.slot.compact_snapshot.lock() == snapshot
    }

    /// Notes that there is nothing to rewrite of a table.
    fn note_compact(&self, table: &CatalogTable) {
        *self.slot.compact_snapshot.lock() = head_id(table);
    }

    fn busy(&self) -> ExportError {
        let place = format!("table '{}'", self.table.name());
        ExportError::unavailable(place, "it is not exported just now")
    }

    fn is_pending(&self) -> bool {
        self.core.pending(self.table).is_some()
    }

    async fn run(&self, task: MaintenanceTask) -> Result<Option<MaintenanceAction>> {
        match task {
            MaintenanceTask::RewriteFiles => rewrite::run(self).await,
            MaintenanceTask::ExpireSnapshots => expiry::run(self).await,
            MaintenanceTask::MergeManifests => manifests::run(self).await,
            MaintenanceTask::RemoveOrphans => orphans::run(self).await,
            MaintenanceTask::ColumnStatistics => statistics::run(self).await,
        }
    }
}

fn head_id(table: &CatalogTable) -> Option<i64> {
    head(&table.metadata).map(|head| head.snapshot_id())
}

async fn load(table: &CatalogTable, cache: &mut ManifestCache) -> Result<Manifests> {
    let snapshot = head(&table.metadata).map(AsRef::as_ref);
    cache.load(&table.file_io, &table.metadata, snapshot).await
}

/// Looks after the tables of an [`Exporter`](crate::Exporter), beside its exports.
#[derive(Clone, Debug)]
pub struct Maintainer {
    core: Arc<Core>,
}

impl Maintainer {
    pub(crate) fn of(core: Arc<Core>) -> Maintainer {
        Maintainer { core }
    }

    /// Does what is due of the tables that are looked after automatically. An error keeps to its table: it is logged, and
    /// the task is tried again next time.
    pub async fn run_due(&self) -> Vec<MaintenanceAction> {
        let mut actions = Vec::new();
        for table in self.core.database.tables() {
            let work = self.work(&table, Mode::Automatic);
            if !work.settings.is_automatic {
                continue;
            }
            for task in MaintenanceTask::ALL {
                match work.run(task).await {
                    Ok(action) => actions.extend(action),
                    Err(error) => {
                        tracing::warn!(table = table.name(), %task, %error, "maintenance failed");
                    }
                }
            }
        }
        actions
    }

    /// Does all that there is to do of one table or of all, or says what that would be.
    ///
    /// # Errors
    /// Any [`ExportError`]: the first one; what was done before it stays done.
    /// [`Config`](ExportError::Config) if there is no table of that name.
    pub async fn run(
        &self,
        table: Option<&str>,
        is_dry_run: bool,
    ) -> Result<Vec<MaintenanceAction>> {
        let mode = if is_dry_run {
            Mode::DryRun
        } else {
            Mode::ByHand
        };
        let mut tables = self.core.database.tables();
        if let Some(name) = table {
            tables.retain(|table| table.name() == name);
            if tables.is_empty() {
                return Err(ExportError::Config(format!("there is no table '{name}'")));
            }
        }
        let mut actions = Vec::new();
        for table in &tables {
            let work = self.work(table, mode);
            for task in MaintenanceTask::ALL {
                actions.extend(work.run(task).await?);
            }
        }
        Ok(actions)
    }

    fn work<'a>(&'a self, table: &'a Table, mode: Mode) -> Work<'a> {
        Work {
            core: &self.core,
            table,
            settings: &self.core.settings(table).maintenance,
            mode,
            slot: self.core.slot(table),
        }
    }
}
