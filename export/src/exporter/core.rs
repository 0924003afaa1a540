//! What the exporter and the maintenance beside it share: the database, the catalog, and what is known of each table.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use moonshine_engine::{Database, PendingExport, Table};
use parking_lot::Mutex;
use tokio::sync::{OnceCell, Semaphore};

use super::schedule::{EXPORTS_AT_ONCE, STANDSTILL_MAX, WRITERS_AT_ONCE};
use super::standing::Standing;
use crate::cadence::Controller;
use crate::catalog::{CatalogTable, TableCatalog};
use crate::config::{SettingsByTable, TableSettings};
use crate::environment::Environment;
use crate::error::{ExportError, Result};
use crate::maintenance::{MaintenanceTask, WallTime};
use crate::manifest::ManifestCache;
use crate::ownership::{Owner, Writer, check_epoch, newest_epoch};

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) database: Database,
    pub(crate) catalog: Arc<dyn TableCatalog>,
    pub(crate) environment: Environment,
    pub(crate) owner: Owner,
    /// As whom this exporter writes, once it looked at the tables.
    writer: OnceCell<Writer>,
    /// One table is made at a time: the first one of a namespace makes that, too.
    pub(super) creation: tokio::sync::Mutex<()>,
    /// Whose turn it is to be exported.
    pub(super) exports: Semaphore,
    /// Whose turn it is to write files.
    pub(super) writers: Semaphore,
    /// An export is given up once nothing of it went on for so long.
    pub(super) standstill_max: Mutex<Duration>,
    /// What is known of each table, by the engine's id of it.
    tables: Mutex<HashMap<u32, Arc<TableSlot>>>,
}

/// One table's place. Who holds the lock of its state is the only one of this process who commits to it.
#[derive(Debug, Default)]
pub(crate) struct TableSlot {
    /// The Iceberg table as of our last look; `None` where it is to be looked at anew.
    pub(crate) state: tokio::sync::Mutex<Option<TableState>>,
    /// Files that no snapshot needs any more, oldest first, each with when it may go, by the clock that nobody sets.
    pub(crate) unneeded: Mutex<VecDeque<(i64, String)>>,
    /// The snapshot at which there was nothing to rewrite.
    pub(crate) compact_snapshot: Mutex<Option<i64>>,
    /// The table's sequence number from which on its manifests are worth a look.
    pub(crate) manifests_due: AtomicI64,
    /// When orphans are looked for again, by the clock that nobody sets; `None` before the first thought of it.
    pub(crate) orphans_due_ms: Mutex<Option<i64>>,
    /// As whom this exporter writes to it, where that is not as whom it writes to others.
    writer: Mutex<Option<Writer>>,
    /// How its exports went.
    pub(super) standing: Mutex<Standing>,
    /// What each task of maintenance knows of the wall clock.
    pub(crate) wall_times: Mutex<HashMap<MaintenanceTask, Option<WallTime>>>,
    /// How each task of maintenance went by itself.
    pub(crate) task_standings: Mutex<BTreeMap<MaintenanceTask, Standing>>,
    /// The newest snapshot of the database that was exported of it, whether or not it held a change.
    pub(super) seen_seq: Mutex<Option<u64>>,
    /// How often it is exported.
    pub(super) controller: Mutex<Controller>,
    /// Becomes greater as long as its export goes on.
    pub(super) steps: AtomicU64,
    /// Requests to store and catalog that its export made up to now, about.
    pub(super) requests: AtomicU64,
    /// Whether this exporter took it over.
    pub(crate) is_taken: AtomicBool,
    /// Shared with what notes in the engine that a commit of it took place, which goes on where who asked for that was dropped.
    pub(crate) noting: Arc<()>,
    /// Whether nothing was known of it when this exporter took its epoch.
    pub(super) is_unanswered: AtomicBool,
    /// How often in a row an export came in between before a task of maintenance could commit.
    pub(crate) lost_races: Mutex<HashMap<MaintenanceTask, u32>>,
}

#[derive(Debug)]
pub(crate) struct TableState {
    /// As whom it is written to.
    pub(crate) writer: Writer,
    pub(crate) current: CatalogTable,
    pub(crate) manifests: ManifestCache,
}

impl TableSlot {
    /// Whether the engine is being told of a commit that the Iceberg table holds: until then that looks like another's.
    pub(crate) fn is_noting(&self) -> bool {
        Arc::strong_count(&self.noting) > 1
    }

    /// Something of the table's export went on.
    pub(super) fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// The table's export made so many requests.
    pub(super) fn spend(&self, requests: usize) {
        self.requests.fetch_add(requests as u64, Ordering::SeqCst);
    }
}

impl Core {
    pub(super) fn new(
        database: Database,
        catalog: Arc<dyn TableCatalog>,
        settings: SettingsByTable,
        environment: Environment,
    ) -> Core {
        Core {
            owner: Owner {
                database_id: database.id(),
                settings,
            },
            writer: OnceCell::new(),
            database,
            catalog,
            environment,
            creation: tokio::sync::Mutex::default(),
            exports: Semaphore::new(EXPORTS_AT_ONCE),
            writers: Semaphore::new(WRITERS_AT_ONCE),
            standstill_max: Mutex::new(STANDSTILL_MAX),
            tables: Mutex::default(),
        }
    }

    /// What a table is exported with.
    pub(crate) fn settings(&self, table: &Table) -> &TableSettings {
        self.owner.settings.of(table.name())
    }

    pub(crate) fn slot(&self, table: &Table) -> Arc<TableSlot> {
        self.tables.lock().entry(table.id()).or_default().clone()
    }

    /// As whom this exporter writes, once it looked at the tables.
    fn writer(&self) -> Option<Writer> {
        self.writer.get().copied()
    }

    /// As whom this exporter writes to a table, once it looked at the tables.
    pub(super) fn writer_to(&self, table: &Table) -> Option<Writer> {
        let own = *self.slot(table).writer.lock();
        own.or_else(|| self.writer())
    }

    /// The same, of a table that was taken over.
    pub(crate) fn own_writer(&self, table: &Table) -> Result<Writer> {
        let place = || format!("table '{}'", table.name());
        let reason = "it was not taken over yet";
        self.writer_to(table)
            .ok_or_else(|| ExportError::unavailable(place(), reason))
    }

    /// Takes a later epoch for a table that names a later one than this exporter's, which took its own without an answer about
    /// that table. Nobody is newer because of that: somebody's clock was ahead. Of a table that there was, or was not, when
    /// this exporter took its epoch, a later one is a newer exporter's.
    pub(super) fn outrank(&self, table: &Table, found: &CatalogTable) {
        let slot = self.slot(table);
        let is_taken = slot.is_taken.load(Ordering::SeqCst);
        if is_taken || !slot.is_unanswered.load(Ordering::SeqCst) {
            return;
        }
        if let Some(own) = self.writer_to(table)
            && check_epoch(found, &own).is_err()
        {
            let epoch = newest_epoch(found) + 1;
            tracing::warn!(
                table = table.name(),
                epoch,
                "the table was written to by one whose clock was ahead"
            );
            *slot.writer.lock() = Some(Writer { epoch, ..own });
        }
    }

    /// As whom this exporter writes: it is newer than whoever wrote to one of these tables, and than whoever opened before.
    pub(super) async fn begin<F>(&self, newest_epoch: F) -> Result<Writer>
    where
        F: Future<Output = Result<u64>>,
    {
        let writer = async {
            let now_ms = u64::try_from(self.environment.clock.now_ms()).unwrap_or(0);
            Ok::<_, ExportError>(Writer {
                epoch: now_ms.max(newest_epoch.await? + 1),
                exporter_id: self.environment.identities.uuid(),
            })
        };
        self.writer.get_or_try_init(|| writer).await.copied()
    }

    /// What is known of a table that this exporter took over.
    pub(crate) fn state(&self, table: &Table, current: CatalogTable) -> Result<TableState> {
        Ok(TableState {
            writer: self.own_writer(table)?,
            current,
            manifests: ManifestCache::default(),
        })
    }

    /// The table was taken over.
    pub(super) fn set_taken(&self, table: &Table) {
        self.slot(table).is_taken.store(true, Ordering::SeqCst);
    }

    /// A table's export whose end is not known.
    pub(crate) fn pending(&self, table: &Table) -> Option<PendingExport> {
        let mut pending = self.database.pending_exports().into_iter();
        pending.find(|pending| pending.table().id() == table.id())
    }
}
