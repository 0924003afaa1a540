//! The Iceberg tables of a database: found, made, fenced, and settled where an export's end is not known.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use moonshine_engine::{PendingExport, Table};

use super::Core;
use super::core::TableState;
use crate::catalog::CatalogTable;
use crate::error::{ExportError, Result};
use crate::ownership::{check_epoch, newest_epoch};
use crate::pending::{exported_after, settle};
use crate::schema::{table_ident, table_location};

impl Core {
    /// Checks every table before anything is changed, then announces the new epoch, then settles pending exports: once
    /// the epoch stands, a commit that an older exporter has under way fails.
    pub(super) async fn take_over(&self) -> Result<()> {
        let mut pending: HashMap<u32, PendingExport> = self
            .database
            .pending_exports()
            .into_iter()
            .map(|pending| (pending.table().id(), pending))
            .collect();
        let tables = self.database.tables();
        let mut newest = 0;
        for table in &tables {
            let found = self.look_up(table, pending.get(&table.id())).await?;
            newest = newest.max(found.as_ref().map_or(0, newest_epoch));
        }
        self.epoch.store(newest + 1, Ordering::SeqCst);
        for table in &tables {
            let pending = pending.remove(&table.id());
            let current = self.fence(table, pending.as_ref()).await?;
            if let Some(pending) = pending {
                settle(pending, current.as_ref()).await?;
            }
            if let Some(current) = current {
                *self.slot(table).state.lock().await = Some(TableState::new(current));
            }
        }
        Ok(())
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
                        "it is gone from the catalog, though the database exported up to {} into it",
                        exported.seq
                    ),
                )),
            };
        };
        self.check_ours(table, pending, &found)?;
        Ok(Some(found))
    }

    /// Checks that an Iceberg table is ours and stands where we left it.
    pub(crate) fn check_ours(
        &self,
        table: &Table,
        pending: Option<&PendingExport>,
        found: &CatalogTable,
    ) -> Result<()> {
        self.owner.check(found, table.schema())?;
        let exported = self.database.exported(table);
        let exported = exported_after(&found.metadata, exported, pending);
        self.owner.check_position(found, exported.as_ref())
    }

    /// Finds out what became of an earlier tick's commit that got no answer, or whose tick was dropped half way.
    ///
    /// The table is fenced first: a commit that is still on its way then fails.
    pub(super) async fn settle_pending(&self, table: &Table) -> Result<Option<CatalogTable>> {
        let mut pending = self.database.pending_exports().into_iter();
        let Some(pending) = pending.find(|pending| pending.table().id() == table.id()) else {
            return Ok(None);
        };
        let current = self.fence(table, Some(&pending)).await?;
        settle(pending, current.as_ref()).await?;
        Ok(current)
    }

    pub(super) async fn create(&self, table: &Table) -> Result<CatalogTable> {
        if let Some(found) = self.look_up(table, None).await? {
            check_epoch(&found, self.epoch())?;
            return Ok(found);
        }
        let ident = table_ident(table.name())?;
        let warehouse = self.catalog.warehouse();
        let location = warehouse.map(|warehouse| table_location(warehouse, &ident, table.id()));
        let wanted = self
            .owner
            .new_table(table.schema(), location, self.epoch())?;
        self.catalog
            .create(&ident, wanted, self.environment.identities.uuid())
            .await
    }
}
