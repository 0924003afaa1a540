//! Which tables are exported when: each by itself, so that a slow one holds up no other.
//!
//! An export runs as a task of its own from one look at what is due to the next, and a table whose export is under way is
//! not due. Some write files at the same time, which takes memory; more look at their tables or commit. An export of which
//! nothing goes on any more is given up: its table's next one finds out what became of it.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use moonshine_engine::{Snapshot, Table};
use tokio::sync::SemaphorePermit;
use tokio::task::{Id, JoinError, JoinSet};

use super::core::TableSlot;
use super::standing::{EXPORT, ends_all};
use super::{Core, Exporter, Pace, TableExport};
use crate::error::{ExportError, Result};

/// How many tables are exported at the same time.
pub(super) const EXPORTS_AT_ONCE: usize = 16;
/// How many of them write files at the same time.
pub(super) const WRITERS_AT_ONCE: usize = 4;
/// An export is given up once nothing of it went on for so long: more than a request that is sent again may take.
pub(super) const STANDSTILL_MAX: Duration = Duration::from_secs(600);

type Ended = Result<Option<TableExport>>;

/// The exports that are under way.
#[derive(Debug, Default)]
pub(super) struct Running {
    tasks: JoinSet<Ended>,
    tables: HashMap<Id, Table>,
}

impl Running {
    fn has(&self, table: &Table) -> bool {
        self.tables.values().any(|other| other.id() == table.id())
    }
}

impl Exporter {
    /// Begins to export the tables whose [cadence] says so, that are not waiting after a failure, and of which no export is
    /// under way; those that waited longest first. Returns whether there were such tables. [`ended`](Exporter::ended) says what became of them. What a table
    /// fails of is logged and kept as its [standing](Exporter::standings), and the table is tried again after a pause that
    /// grows from a second to a minute; it holds up no other.
    ///
    /// [cadence]: Exporter::cadences
    ///
    /// # Panics
    /// Outside of a runtime of tokio.
    pub fn begin_due(&mut self, pace: Pace) -> bool {
        let mut tables = self.core.due_tables(pace);
        tables.retain(|table| !self.running.has(table));
        if tables.is_empty() {
            return false;
        }
        let snapshot = self.core.database.snapshot();
        for table in tables {
            let (core, snapshot, engine_table) =
                (self.core.clone(), snapshot.clone(), table.clone());
            let export = async move {
                let _turn = core.exports.acquire().await;
                core.tick(&engine_table, &snapshot).await
            };
            let task = self.running.tasks.spawn(export);
            self.running.tables.insert(task.id(), table);
        }
        true
    }

    /// The commits of the exports that [`begin_due`](Exporter::begin_due) began and that have ended since this was last asked.
    ///
    /// # Errors
    /// What concerns all tables: [`Fenced`](crate::ExportError::Fenced), and [`Engine`](crate::ExportError::Engine).
    pub fn ended(&mut self) -> Result<Vec<TableExport>> {
        let mut exports = Vec::new();
        while let Some(ended) = self.running.tasks.try_join_next_with_id() {
            exports.extend(self.end(ended)?);
        }
        Ok(exports)
    }

    /// As [`ended`](Exporter::ended), once none is under way any more.
    ///
    /// # Errors
    /// As [`ended`](Exporter::ended).
    pub async fn finish(&mut self) -> Result<Vec<TableExport>> {
        let mut exports = Vec::new();
        while let Some(ended) = self.running.tasks.join_next_with_id().await {
            exports.extend(self.end(ended)?);
        }
        Ok(exports)
    }

    /// Has an export given up once nothing of it went on for this long, or for up to twice as long; ten minutes unless this
    /// says otherwise.
    pub fn set_standstill_max(&mut self, standstill_max: Duration) {
        *self.core.standstill_max.lock() = standstill_max;
    }

    fn end(&mut self, ended: std::result::Result<(Id, Ended), JoinError>) -> Ended {
        match ended {
            Ok((id, ended)) => {
                self.running.tables.remove(&id);
                match ended {
                    // The table's standing has it.
                    Err(error) if !ends_all(&error) => Ok(None),
                    ended => ended,
                }
            }
            Err(panic) => {
                if let Some(table) = self.running.tables.remove(&panic.id()) {
                    let error = ExportError::unavailable("the export's task", panic);
                    let now_ms = self.core.environment.clock.monotonic_ms();
                    let slot = self.core.slot(&table);
                    let mut standing = slot.standing.lock();
                    standing.fail(EXPORT, table.name(), &error, now_ms);
                }
                Ok(None)
            }
        }
    }

    /// Drops what is under way. The next export of each table finds out what became of it.
    pub(super) async fn let_go(&mut self) {
        self.running.tasks.shutdown().await;
        self.running.tables.clear();
    }
}

impl Core {
    /// The tables that are due, those that waited longest first.
    fn due_tables(&self, pace: Pace) -> Vec<Table> {
        let now_ms = self.environment.clock.monotonic_ms();
        let is_due = |table: &Table| {
            let slot = self.slot(table);
            let settings = &self.settings(table).cadence;
            let mut controller = slot.controller.lock();
            slot.standing.lock().is_due(now_ms)
                && controller.is_due(settings, pace.freshness_ms, pace.is_full, now_ms)
        };
        let mut tables = self.database.tables();
        tables.retain(is_due);
        tables.sort_by_key(|table| self.slot(table).controller.lock().last_ms());
        tables
    }

    /// Exports these tables, some at a time, in the order in which they are done.
    pub(super) fn tick_tables<'a>(
        &'a self,
        tables: Vec<Table>,
        snapshot: &'a Snapshot,
    ) -> BoxStream<'a, Ended> {
        stream::iter(tables)
            .map(move |table| async move { self.tick(&table, snapshot).await })
            .buffer_unordered(EXPORTS_AT_ONCE)
            .boxed()
    }

    /// Exports a table, and notes how that went.
    async fn tick(&self, table: &Table, snapshot: &Snapshot) -> Ended {
        let clock = &self.environment.clock;
        let slot = self.slot(table);
        let began_ms = clock.monotonic_ms();
        let exported = self.tick_while_it_goes_on(table, snapshot).await;
        let requests = slot.requests.swap(0, Ordering::SeqCst);
        let ended_ms = exported.is_ok().then(|| clock.monotonic_ms());
        slot.controller.lock().note(began_ms, ended_ms, requests);
        let mut standing = slot.standing.lock();
        match &exported {
            Ok(_) => {
                standing.succeed(EXPORT, table.name());
                let mut seen_seq = slot.seen_seq.lock();
                *seen_seq = (*seen_seq).max(Some(snapshot.seq()));
            }
            Err(error) if ends_all(error) => {}
            Err(error) => standing.fail(EXPORT, table.name(), error, clock.monotonic_ms()),
        }
        drop(standing);
        exported
    }

    /// Exports a table; gives up once nothing goes on any more.
    async fn tick_while_it_goes_on(&self, table: &Table, snapshot: &Snapshot) -> Ended {
        let slot = self.slot(table);
        let standstill_max = *self.standstill_max.lock();
        let mut export = pin!(self.tick_table(table, snapshot));
        loop {
            let steps = slot.steps.load(Ordering::Relaxed);
            if let Some(exported) = self.environment.within(standstill_max, &mut export).await {
                return exported;
            }
            if slot.steps.load(Ordering::Relaxed) == steps {
                let place = format!("the export of table '{}'", table.name());
                let reason = format!("nothing of it went on for {standstill_max:?}");
                return Err(ExportError::unavailable(place, reason));
            }
        }
    }

    /// Waits for a turn to write files.
    pub(super) async fn turn_to_write(&self, slot: &TableSlot) -> Result<SemaphorePermit<'_>> {
        let wait = *self.standstill_max.lock() / 4;
        let mut turn = pin!(self.writers.acquire());
        loop {
            match self.environment.within(wait, &mut turn).await {
                Some(turn) => {
                    return turn.map_err(|error| ExportError::unavailable("the exporter", error));
                }
                None => slot.step(),
            }
        }
    }
}
