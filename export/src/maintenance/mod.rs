//! What exported tables need besides exports: files rewritten, old snapshots expired, small manifests merged, columns' statistics,
//! orphans removed.
//!
//! A *task* looks at one table and does what is due, or says what it would do. It reads and writes whatever it needs without
//! holding anybody up; only its commit, made by [`Work::commit`], is made under the table's lock, so it neither meets an
//! export's commit nor keeps one waiting for longer than one attempt. By itself a task waits for no export either: it comes
//! back. It commits through the same state machine as exports do, and removes files only when the table is known not to need
//! them. [`Maintainer`] runs the tasks of all tables: those that are due, beside an exporter, or all by hand.

mod expiry;
mod maintainer;
mod manifests;
mod name_filter;
mod orphans;
mod rewrite;
mod statistics;
mod unneeded;
mod wall_time;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use moonshine_engine::{Exported, Table};
use tokio::sync::MutexGuard;

use crate::catalog::{CatalogTable, Change};
use crate::commit::{ATTEMPTS_MAX, Failure, Proposal, run_up_to};
use crate::config::MaintenanceSettings;
use crate::error::{ExportError, Result};
use crate::exporter::{Core, TableSlot, TableState};
use crate::manifest::{ManifestCache, Manifests};
use crate::references::head;

pub use self::maintainer::Maintainer;
pub(crate) use self::wall_time::WallTime;

/// How long a task by itself waits for an export.
const LOCK_MAX: Duration = Duration::from_secs(10);
/// So many times in a row a commit gives way to an export that came in between.
const LOST_RACES_MAX: u32 = 3;

/// What can be done for a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// Files that nothing needs any more and that readers may still be at: an exporter that goes on removes them when their
    /// time has come, otherwise they are orphans.
    pub files_waiting: u64,
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
            files_waiting: 0,
        }
    }
}

/// Why a task is run, and how far it may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// By itself: once there is enough to do.
    Automatic,
    /// The same, once, by a program that ends then: what waits longer is not done.
    AtEnd,
    /// By hand: whatever there is to do.
    ByHand,
    /// To say what would be done by hand; nothing is changed.
    DryRun,
}

impl Mode {
    /// How much there must be to do: by itself, a task waits for `automatic` of what it counts.
    fn batch(self, automatic: usize) -> usize {
        match self {
            Mode::Automatic | Mode::AtEnd => automatic,
            Mode::ByHand | Mode::DryRun => 1,
        }
    }

    /// Whether nobody asked for it.
    fn is_by_itself(self) -> bool {
        matches!(self, Mode::Automatic | Mode::AtEnd)
    }
}

/// A change that was made before it is asked for.
struct Prepared<'a> {
    change: Option<Change>,
    proposal: &'a mut dyn Proposal,
}

#[async_trait]
impl Proposal for Prepared<'_> {
    fn is_in(&self, table: &CatalogTable) -> bool {
        self.proposal.is_in(table)
    }

    async fn change(&mut self, table: &CatalogTable) -> Result<Change> {
        match self.change.take() {
            Some(change) => Ok(change),
            None => self.proposal.change(table).await,
        }
    }
}

/// A task's way to one table.
pub(crate) struct Work<'a> {
    pub(crate) core: &'a Core,
    pub(crate) table: &'a Table,
    pub(crate) settings: &'a MaintenanceSettings,
    pub(crate) mode: Mode,
    task: MaintenanceTask,
    slot: Arc<TableSlot>,
}

impl Work<'_> {
    /// The Iceberg table as the exporter last saw it; `None` if there is none, or if it has an export of unknown end.
    pub(crate) async fn current(&self) -> Result<Option<CatalogTable>> {
        if self.is_pending() {
            return Ok(None);
        }
        if self.mode.is_by_itself() {
            // An export that is under way is not waited for.
            let Ok(place) = self.slot.state.try_lock() else {
                return Ok(None);
            };
            if let Some(state) = &*place {
                return Ok(Some(state.current.clone()));
            }
            if !self.slot.is_taken.load(Ordering::SeqCst) {
                return Ok(None);
            }
            drop(place);
            return self.core.look_up(self.table, None).await;
        }
        let place = self.slot.state.lock().await;
        if let Some(state) = &*place {
            return Ok(Some(state.current.clone()));
        }
        // The export that was waited for may have ended without an answer, or be noted yet; none begins while this is looked at.
        if self.is_pending() || self.slot.is_noting() {
            return Ok(None);
        }
        self.core.look_up(self.table, None).await
    }

    /// The table's lock. By itself, an export that takes long is not waited for.
    async fn lock(&self) -> Result<MutexGuard<'_, Option<TableState>>> {
        let lock = self.slot.state.lock();
        match self.mode.is_by_itself() {
            true => {
                let locked = self.core.environment.within(LOCK_MAX, lock).await;
                locked.ok_or_else(|| self.busy())
            }
            false => Ok(lock.await),
        }
    }

    /// Commits what `proposal` proposes, while no export of the table is under way. By itself it is one attempt, made
    /// beforehand as far as that goes, so that an export has little to wait for.
    pub(crate) async fn commit(
        &self,
        proposal: &mut dyn Proposal,
    ) -> Result<CatalogTable, Failure> {
        match self.mode {
            Mode::Automatic | Mode::AtEnd => self.commit_beside_exports(proposal).await,
            Mode::ByHand | Mode::DryRun => self.commit_at_last(proposal).await,
        }
    }

    async fn commit_at_last(&self, proposal: &mut dyn Proposal) -> Result<CatalogTable, Failure> {
        let mut place = self.slot.state.lock().await;
        if self.is_pending() {
            return Err(Failure::NotCommitted(self.busy()));
        }
        // Taken out for as long as its end is not known: what comes next then looks at the table anew. So does this: others may
        // have named a snapshot since the last export, which the catalog's demands don't show.
        let known = place.take();
        let ready = self.core.ready(self.table, None).await;
        let mut state = ready.map_err(Failure::NotCommitted)?;
        if let Some(known) = known {
            state.manifests = known.manifests;
        }
        self.commit_on(state, &mut place, proposal).await
    }

    /// Under the lock is the one request to the catalog, unless exports came in between some times in a row.
    async fn commit_beside_exports(
        &self,
        proposal: &mut dyn Proposal,
    ) -> Result<CatalogTable, Failure> {
        let exported = self.core.database.exported(self.table);
        let beforehand = self.beforehand(proposal).await;
        let place = self.slot.state.try_lock();
        let mut place = place.map_err(|_| Failure::NotCommitted(self.busy()))?;
        let is_taken = self.slot.is_taken.load(Ordering::SeqCst);
        if self.is_pending() || !is_taken {
            return Err(Failure::NotCommitted(self.busy()));
        }
        let head = |table: &CatalogTable| table.metadata.current_snapshot_id();
        // Of a table of which nothing is known, the newest look is what is known.
        let is_known = |found: &CatalogTable| {
            let known = place.as_ref().map(|state| head(&state.current));
            known.is_none_or(|known| known == head(found))
        };
        let (current, change) = match beforehand {
            Ok((found, change)) if is_known(&found) => (found, Some(change)),
            // A table as it was before an export looks wrong to who knows of the export.
            Err(error) if self.core.database.exported(self.table) == exported => {
                return Err(Failure::NotCommitted(error));
            }
            _ if self.lose_race() < LOST_RACES_MAX => {
                return Err(Failure::NotCommitted(self.busy()));
            }
            _ => (self.look_up().await.map_err(Failure::NotCommitted)?, None),
        };
        let mut prepared = Prepared { change, proposal };
        self.slot.lost_races.lock().remove(&self.task);
        let state = match place.take() {
            Some(known) => TableState { current, ..known },
            None => {
                let state = self.core.state(self.table, current);
                state.map_err(Failure::NotCommitted)?
            }
        };
        self.commit_on(state, &mut place, &mut prepared).await
    }

    /// Counts a commit that an export came before; how many there were in a row until then.
    fn lose_race(&self) -> u32 {
        let mut lost = self.slot.lost_races.lock();
        let lost = lost.entry(self.task).or_default();
        *lost += 1;
        *lost - 1
    }

    /// The table as the catalog has it, and what is to be changed of it.
    async fn beforehand(&self, proposal: &mut dyn Proposal) -> Result<(CatalogTable, Change)> {
        let found = self.look_up().await?;
        let change = proposal.change(&found).await?;
        Ok((found, change))
    }

    /// The table as the catalog has it.
    async fn look_up(&self) -> Result<CatalogTable> {
        let found = self.core.look_up(self.table, None).await?;
        found.ok_or_else(|| self.busy())
    }

    async fn commit_on(
        &self,
        mut state: TableState,
        place: &mut Option<TableState>,
        proposal: &mut dyn Proposal,
    ) -> Result<CatalogTable, Failure> {
        let core = self.core;
        let base = state.current.clone();
        let catalog = core.catalog.as_ref();
        let attempts_max = self.attempts_max();
        let committed = run_up_to(attempts_max, catalog, &core.environment, base, proposal).await;
        match &committed {
            Ok(committed) => state.current = committed.clone(),
            Err(Failure::NotCommitted(_)) => {}
            Err(Failure::Unknown(_)) => return committed,
        }
        *place = Some(state);
        committed
    }

    /// The Iceberg table, and its files; `None` if it was never exported, or if by itself there is nothing known of it.
    async fn manifests(&self) -> Result<Option<(CatalogTable, Manifests)>> {
        if self.is_pending() || self.core.database.exported(self.table).is_none() {
            return Ok(None);
        }
        if self.mode.is_by_itself() {
            return self.manifests_beside_exports().await;
        }
        let mut place = self.slot.state.lock().await;
        if place.is_none() {
            if self.mode == Mode::DryRun {
                let Some(current) = self.core.look_up(self.table, None).await? else {
                    return Ok(None);
                };
                let manifests = load(&current, &mut ManifestCache::default()).await?;
                return Ok(Some((current, manifests)));
            }
            *place = Some(self.core.ready(self.table, None).await?);
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

    /// What is read is kept for the next export, if none came in between.
    async fn manifests_beside_exports(&self) -> Result<Option<(CatalogTable, Manifests)>> {
        let known = match self.slot.state.try_lock() {
            Ok(place) if !self.is_compact(place.as_ref()) => place
                .as_ref()
                .map(|state| (state.current.clone(), state.manifests.clone())),
            _ => None,
        };
        let Some((current, mut cache)) = known else {
            return Ok(None);
        };
        let manifests = load(&current, &mut cache).await?;
        if let Ok(mut place) = self.slot.state.try_lock()
            && let Some(state) = place.as_mut()
            && state.current.metadata_location == current.metadata_location
        {
            state.manifests = cache;
        }
        Ok(Some((current, manifests)))
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

    /// Somebody else is at the table, or came in between.
    fn busy(&self) -> ExportError {
        let place = format!("table '{}'", self.table.name());
        match self.mode {
            Mode::Automatic | Mode::AtEnd => ExportError::Conflict {
                table: self.table.name().to_owned(),
                attempts: 1,
            },
            Mode::ByHand | Mode::DryRun => ExportError::unavailable(
                place,
                "an export of it is under way, or its end is not known",
            ),
        }
    }

    /// Whether what went wrong is that exports go on meanwhile: one whose commit is in the table, and is not noted by the engine yet, looks
    /// like another writer's.
    fn comes_back(&self, error: &ExportError, exported: Option<&Exported>) -> bool {
        match error {
            ExportError::Conflict { .. } => true,
            ExportError::Stale { .. } | ExportError::Foreign { .. } => {
                let is_under_way = self.slot.state.try_lock().is_err();
                is_under_way
                    || self.is_pending()
                    || self.core.database.exported(self.table).as_ref() != exported
            }
            _ => false,
        }
    }

    /// How often a commit is tried. By itself an export may be waiting for it.
    fn attempts_max(&self) -> u32 {
        match self.mode {
            Mode::Automatic | Mode::AtEnd => 1,
            Mode::ByHand | Mode::DryRun => ATTEMPTS_MAX,
        }
    }

    /// Whether the wall clock may decide what is old: by itself only if it was not set, or if that has stood for `stands_ms`.
    fn believes_wall_time(&self, stands_ms: i64) -> bool {
        let clock = self.core.environment.clock.as_ref();
        let mut wall_times = self.slot.wall_times.lock();
        let wall_time = wall_times.entry(self.task).or_default();
        let is_believed = WallTime::is_believed(wall_time, clock, stands_ms);
        is_believed || !self.mode.is_by_itself()
    }

    fn is_pending(&self) -> bool {
        self.core.pending(self.table).is_some()
    }

    async fn run(&self) -> Result<Option<MaintenanceAction>> {
        match self.run_task().await {
            Err(error @ ExportError::Corrupt { .. }) => Err(self.judge_again(error).await),
            done => done,
        }
    }

    /// What a missing or damaged file means: what is known of the table may be older than its files, so that is forgotten.
    async fn judge_again(&self, error: ExportError) -> ExportError {
        let known = match self.slot.state.try_lock() {
            Ok(mut place) => place.take(),
            // An export has come in between.
            Err(_) => return self.busy(),
        };
        match known {
            Some(known) => {
                let judged = self.core.judge_again(self.table, &known.current, error);
                judged.await
            }
            None => error,
        }
    }

    async fn run_task(&self) -> Result<Option<MaintenanceAction>> {
        match self.task {
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
