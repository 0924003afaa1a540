//! What runs the tasks: those that are due, beside an exporter, or all by hand.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use moonshine_engine::Table;

use super::{MaintenanceAction, MaintenanceTask, Mode, Work};
use crate::error::{ExportError, Result};
use crate::exporter::{Core, Standing};

/// How many tables are looked after at the same time.
const TABLES_AT_ONCE: usize = 4;
/// How long a task of one table may take by itself. What it leaves is found out about like what a crash leaves.
const TASK_MAX: Duration = Duration::from_secs(30 * 60);
/// Looks after the tables of an [`Exporter`](crate::Exporter), beside its exports.
#[derive(Clone, Debug)]
pub struct Maintainer {
    core: Arc<Core>,
}

impl Maintainer {
    pub(crate) fn of(core: Arc<Core>) -> Maintainer {
        Maintainer { core }
    }

    /// Does what is due of the tables that are looked after automatically. An error keeps to its table and task: it is logged
    /// when it is new, and the task is tried again after a pause that grows from a second to a minute.
    pub async fn run_due(&self) -> Vec<MaintenanceAction> {
        self.run_by_itself(Mode::Automatic).await
    }

    /// As [`run_due`](Maintainer::run_due), for a program that ends then: files that nothing needs any more go as by hand, and
    /// what takes longer than `longest` is left.
    pub async fn run_at_end(&self, longest: Duration) -> Vec<MaintenanceAction> {
        let all = self.run_by_itself(Mode::AtEnd);
        let done = self.core.environment.within(longest, all).await;
        done.unwrap_or_default()
    }

    async fn run_by_itself(&self, mode: Mode) -> Vec<MaintenanceAction> {
        let tables = stream::iter(self.core.database.tables());
        let done = tables.map(|table| async move { self.run_due_of(&table, mode).await });
        let done: Vec<Vec<MaintenanceAction>> =
            done.buffer_unordered(TABLES_AT_ONCE).collect().await;
        done.into_iter().flatten().collect()
    }

    async fn run_due_of(&self, table: &Table, mode: Mode) -> Vec<MaintenanceAction> {
        let mut actions = Vec::new();
        if !self.core.settings(table).maintenance.is_automatic {
            return actions;
        }
        for task in MaintenanceTask::ALL {
            let work = self.work(table, task, mode);
            let clock = &self.core.environment.clock;
            let (standings, now_ms) = (&work.slot.task_standings, clock.monotonic_ms());
            let is_due = |standing: &Standing| standing.is_due(now_ms);
            if !standings.lock().get(&task).is_none_or(is_due) {
                continue;
            }
            let exported = self.core.database.exported(table);
            let done = self.core.environment.within(TASK_MAX, work.run()).await;
            let done = done.unwrap_or_else(|| {
                let place = format!("{task} of table '{}'", table.name());
                let reason = format!("it took more than {TASK_MAX:?}");
                Err(ExportError::unavailable(place, reason))
            });
            // Asked for before the lock is taken, since the engine may make wait.
            let error = done.as_ref().err();
            let comes_back = error.is_some_and(|error| work.comes_back(error, exported.as_ref()));
            let now_ms = clock.monotonic_ms();
            let mut standings = standings.lock();
            let standing = standings.entry(task).or_default();
            match done {
                Ok(action) => {
                    standing.succeed(task, table.name());
                    actions.extend(action);
                }
                Err(error) if comes_back => {
                    tracing::debug!(table = table.name(), %task, %error, "maintenance comes back");
                }
                Err(error) => standing.fail(task, table.name(), &error, now_ms),
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
            for task in MaintenanceTask::ALL {
                actions.extend(self.work(table, task, mode).run().await?);
            }
        }
        Ok(actions)
    }

    fn work<'a>(&'a self, table: &'a Table, task: MaintenanceTask, mode: Mode) -> Work<'a> {
        Work {
            core: &self.core,
            table,
            settings: &self.core.settings(table).maintenance,
            mode,
            task,
            slot: self.core.slot(table),
        }
    }
}
