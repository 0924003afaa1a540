//! The Iceberg tables of a database: found, made, fenced, and settled where an export's end is not known.

use std::collections::HashMap;

use iceberg::spec::TableMetadataBuildResult;
use moonshine_engine::{PendingExport, Table};

use super::{ATTEMPTS_MAX, Exporter, TableState};
use crate::catalog::{CatalogTable, CommitOutcome};
use crate::error::{ExportError, Result};
use crate::ownership::{announce_epoch, check_epoch, newest_epoch};
use crate::pending::{exported_after, settle};
use crate::schema::{table_ident, table_location};

impl Exporter {
    /// Checks every table before anything is changed, then announces the new epoch, then settles pending exports: once
    /// the epoch stands, a commit that an older exporter has under way fails.
    pub(super) async fn take_over(&mut self) -> Result<()> {
        let mut pending: HashMap<u32, PendingExport> = self
            .database
            .pending_exports()
            .into_iter()
            .map(|pending| (pending.table().id(), pending))
            .collect();
        let tables = self.database.tables();
        for table in &tables {
            let found = self.look_up(table, pending.get(&table.id())).await?;
            self.epoch = self.epoch.max(found.as_ref().map_or(0, newest_epoch));
        }
        self.epoch += 1;
        for table in &tables {
            let pending = pending.remove(&table.id());
            let current = self.fence(table, pending.as_ref()).await?;
            if let Some(pending) = pending {
                let metadata = current.as_ref().map(|current| current.metadata.as_ref());
                settle(pending, metadata, self.catalog.file_io()).await?;
            }
            if let Some(current) = current {
                self.tables.insert(table.id(), TableState::new(current));
            }
        }
        Ok(())
    }

    /// Loads the Iceberg table and checks that it is ours and stands where we left it.
    async fn look_up(
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
        self.owner.check(&found, table.schema())?;
        self.owner.check_position(
            &found,
            exported_after(&found.metadata, exported, pending).as_ref(),
        )?;
        Ok(Some(found))
    }

    async fn fence(
        &self,
        table: &Table,
        pending: Option<&PendingExport>,
    ) -> Result<Option<CatalogTable>> {
        for _ in 0..ATTEMPTS_MAX {
            let Some(found) = self.look_up(table, pending).await? else {
                return Ok(None);
            };
            check_epoch(&found, self.epoch)?;
            let change = announce_epoch(&found, self.epoch)?;
            if let CommitOutcome::Committed(current) = self.swap(&found, change).await? {
                return Ok(Some(current));
            }
        }
        Err(ExportError::Conflict {
            table: table.name().to_owned(),
            attempts: ATTEMPTS_MAX,
        })
    }

    pub(super) async fn swap(
        &self,
        base: &CatalogTable,
        change: TableMetadataBuildResult,
    ) -> Result<CommitOutcome> {
        self.catalog
            .commit(base, change, self.environment.identities.uuid())
            .await
    }

    /// Finds out what became of an earlier tick's commit that got no answer, or whose tick was dropped half way.
    ///
    /// The metadata is changed first, by announcing the epoch anew: a swap that is still on its way then fails.
    pub(super) async fn settle_pending(&self, table: &Table) -> Result<Option<CatalogTable>> {
        let mut pending = self.database.pending_exports().into_iter();
        let Some(pending) = pending.find(|pending| pending.table().id() == table.id()) else {
            return Ok(None);
        };
        let current = self.fence(table, Some(&pending)).await?;
        let metadata = current.as_ref().map(|current| current.metadata.as_ref());
        settle(pending, metadata, self.catalog.file_io()).await?;
        Ok(current)
    }

    pub(super) async fn create(&self, table: &Table) -> Result<CatalogTable> {
        if let Some(found) = self.look_up(table, None).await? {
            check_epoch(&found, self.epoch)?;
            return Ok(found);
        }
        let ident = table_ident(table.name())?;
        let location = table_location(self.catalog.warehouse(), &ident, table.id());
        let metadata = self.owner.new_table(table.schema(), location, self.epoch)?;
        self.catalog
            .create(&ident, metadata, self.environment.identities.uuid())
            .await
    }
}
