//! The partition spec and the sort order of an Iceberg table follow the configuration.
//!
//! That is a commit of the table's metadata alone. Files from before keep the spec that they were written by.

use async_trait::async_trait;
use moonshine_engine::{Table, TableSchema};

use super::Core;
use super::core::TableState;
use crate::catalog::{CatalogTable, Change};
use crate::commit::{Failure, Proposal, run};
use crate::error::Result;
use crate::layout::wanted::LayoutSettings;
use crate::ownership::Writer;

/// Another layout on its way into the Iceberg table.
struct LayoutChange<'a> {
    core: &'a Core,
    base: CatalogTable,
    schema: &'a TableSchema,
    wanted: &'a LayoutSettings,
    writer: Writer,
}

#[async_trait]
impl Proposal for LayoutChange<'_> {
    fn is_in(&self, table: &CatalogTable) -> bool {
        let missing = self.wanted.updates(&table.metadata, self.schema);
        missing.is_ok_and(|updates| updates.is_empty())
    }

    async fn change(&mut self, table: &CatalogTable) -> Result<Change> {
        let updates = self.wanted.updates(&table.metadata, self.schema)?;
        let owner = &self.core.owner;
        owner.check_position_unmoved(&self.base, table, &self.writer)?;
        Ok(Change::of(&table.metadata, updates))
    }
}

impl Core {
    /// Gives the Iceberg table the partition spec and the sort order that are configured.
    pub(super) async fn lay_out(&self, table: &Table, state: &mut TableState) -> Result<()> {
        let mut change = LayoutChange {
            core: self,
            base: state.current.clone(),
            schema: table.schema(),
            wanted: &self.settings(table).layout,
            writer: state.writer,
        };
        let base = state.current.clone();
        state.current = run(self.catalog.as_ref(), &self.environment, base, &mut change)
            .await
            .map_err(Failure::into_error)?;
        Ok(())
    }
}
