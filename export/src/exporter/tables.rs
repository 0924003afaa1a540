//! The Iceberg tables of a database: found, made, fenced, and settled where an export's end is not known.

use std::sync::atomic::Ordering;

use futures::{StreamExt, TryStreamExt, stream};
use moonshine_engine::{PendingExport, Table};

use super::Core;
use super::core::TableState;
use crate::catalog::CatalogTable;
use crate::error::{ExportError, Result};
use crate::ownership::{check_epoch, newest_epoch};
use crate::pending::{exported_after, settle};
use crate::schema::{table_ident, table_location};

/// How many tables are looked at, or taken over, at the same time.
pub(super) const TABLES_AT_ONCE: usize = 16;

impl Core {
    /// Checks every table before anything is changed, then takes over those that there are: announces the new epoch, and
    /// settles what is pending.
    pub(super) async fn take_over(&self) -> Result<()> {
        let tables = self.database.tables();
        let look_up = |table: Table| async move {
            let pending = self.pending(&table);
            let found = self.look_up(&table, pending.as_ref()).await?;
            Ok::<_, ExportError>((table, found))
        };
        let found: Vec<(Table, Option<CatalogTable>)> = stream::iter(tables)
            .map(look_up)
            .buffered(TABLES_AT_ONCE)
            .try_collect()
            .await?;
        let newest = found.iter().filter_map(|(_, found)| found.as_ref());
        let newest = newest.map(newest_epoch).max().unwrap_or(0);
        self.begin(async { Ok(newest) }).await?;
        let adopt = |(table, found): (Table, Option<CatalogTable>)| async move {
            let slot = self.slot(&table);
            let mut place = slot.state.lock().await;
            let current = self.adopt(&table, found).await?;
            let state = current.map(|current| self.state(&table, current));
            *place = state.transpose()?;
            Ok::<_, ExportError>(())
        };
        stream::iter(found)
            .map(adopt)
            .buffered(TABLES_AT_ONCE)
            .try_collect()
            .await
    }

    /// The newest epoch of the tables that can be looked at.
    async fn newest_epoch(&self) -> Result<u64> {
        let load = |table: Table| async move {
            let loaded = self.catalog.load(&table_ident(table.name())?).await;
            let is_unanswered = &self.slot(&table).is_unanswered;
            is_unanswered.store(loaded.is_err(), Ordering::SeqCst);
            loaded
        };
        let loaded: Vec<Result<Option<CatalogTable>>> = stream::iter(self.database.tables())
            .map(load)
            .buffer_unordered(TABLES_AT_ONCE)
            .collect()
            .await;
        let (mut newest, mut failure, mut is_answered) = (0, None, false);
        for table in loaded {
            match table {
                Ok(found) => {
                    is_answered = true;
                    newest = newest.max(found.as_ref().map_or(0, newest_epoch));
                }
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) if !is_answered => Err(error),
            _ => Ok(newest),
        }
    }

    /// Fences a table, if there is one, and then finds out what became of an export of it that has no end yet: a commit that
    /// is still on its way fails once the fence stands.
    async fn adopt(
        &self,
        table: &Table,
        found: Option<CatalogTable>,
    ) -> Result<Option<CatalogTable>> {
        let pending = self.pending(table);
        let current = match found {
            Some(found) => Some(self.fence(table, pending.as_ref(), found).await?),
            None => None,
        };
        if let Some(pending) = pending {
            settle(pending, current.as_ref()).await?;
        }
        Ok(current)
    }

    /// The table as it is now, to be committed to by this exporter; made if it is missing.
    ///
    /// It is fenced where this exporter did not take it over yet, and where an earlier tick's commit got no answer.
    pub(crate) async fn ready(
        &self,
        table: &Table,
        known: Option<TableState>,
    ) -> Result<TableState> {
        self.begin(self.newest_epoch()).await?;
        // What was dropped half way may be at it.
        if self.slot(table).is_noting() {
            let place = format!("table '{}'", table.name());
            let reason = "the end of its last export is still being noted";
            return Err(ExportError::unavailable(place, reason));
        }
        let pending = self.pending(table);
        let is_taken = self.slot(table).is_taken.load(Ordering::SeqCst);
        if let (None, true, Some(known)) = (&pending, is_taken, known) {
            return Ok(known);
        }
        let found = self.look_up(table, pending.as_ref()).await?;
        let current = match (found, pending) {
            (Some(found), None) if is_taken => Some(found),
            (found, _) => self.adopt(table, found).await?,
        };
        let current = match current {
            Some(current) => current,
            None => self.create(table).await?,
        };
        self.state(table, current)
    }

    /// Loads the Iceberg table and checks that it is ours and stands where we left it.
    pub(crate) async fn look_up(
        &self,
        table: &Table,
        pending: Option<&PendingExport>,
    ) -> Result<Option<CatalogTable>> {
        let ident = table_ident(table.name())?;
        let exported = self.database.exported(table);
        let Some(found) = self.catalog.load(&ident).await? else {
            return match exported {
                None => Ok(None),
                Some(exported) => Err(ExportError::foreign(
                    ident,
                    format!(
                        "it is gone from the catalog, though the database exported up to {} into it; put it back, by its newest \
                         metadata file",
                        exported.seq
                    ),
                )),
            };
        };
        self.outrank(table, &found);
        self.check_ours(table, pending, &found)?;
        Ok(Some(found))
    }

    /// What it means that a file is missing, or damaged, of a table that was known as this: nothing but that the table has gone on, if
    /// it has. Its older states lose their files.
    pub(crate) async fn judge_again(
        &self,
        table: &Table,
        known: &CatalogTable,
        error: ExportError,
    ) -> ExportError {
        match self.look_up(table, self.pending(table).as_ref()).await {
            Ok(Some(found)) if found.metadata_location != known.metadata_location => {
                tracing::debug!(table = table.name(), %error, "of an older state of the table");
                ExportError::Conflict {
                    table: found.ident.to_string(),
                    attempts: 1,
                }
            }
            Ok(_) => error,
            Err(reason) => reason,
        }
    }

    /// Checks that no newer exporter took an Iceberg table over, that it is ours, and that it stands where we left it.
    pub(crate) fn check_ours(
        &self,
        table: &Table,
        pending: Option<&PendingExport>,
        found: &CatalogTable,
    ) -> Result<()> {
        // As the database has it now: an export may have given the Iceberg table columns that came since whoever asks began.
        let newest = self.database.table(table.name());
        let newest = newest.as_ref().unwrap_or(table);
        self.owner.check(found, newest.schema())?;
        if let Some(writer) = self.writer_to(table) {
            check_epoch(found, &writer)?;
        }
        let exported = self.database.exported(table);
        let exported = exported_after(&found.metadata, exported, pending);
        self.owner.check_position(found, exported.as_ref())
    }

    async fn create(&self, table: &Table) -> Result<CatalogTable> {
        let _alone = self.creation.lock().await;
        // Another table of ours may have come to the same name.
        if let Some(found) = self.look_up(table, None).await? {
            return self.fence(table, None, found).await;
        }
        let ident = table_ident(table.name())?;
        let warehouse = self.catalog.warehouse();
        let location = warehouse.map(|warehouse| table_location(warehouse, &ident, table.id()));
        let writer = self.own_writer(table)?;
        let wanted = self.owner.new_table(table.schema(), location, &writer)?;
        let created = self
            .catalog
            .create(&ident, wanted, self.environment.identities.uuid())
            .await?;
        self.set_taken(table);
        Ok(created)
    }
}
