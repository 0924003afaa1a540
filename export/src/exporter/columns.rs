//! The columns of an Iceberg table follow those of the engine's: added, dropped, renamed, widened and commented by the same field
//! ids.
//!
//! That is a commit of the table's metadata alone, made before the first export of rows that have the new columns. Files from
//! before are read by field id, so they stay as they are.

use async_trait::async_trait;
use moonshine_engine::{Table, TableSchema};

use super::Core;
use super::core::TableState;
use crate::catalog::{CatalogTable, Change};
use crate::commit::{Failure, Proposal, run};
use crate::error::Result;
use crate::ownership::Writer;
use crate::schema::{evolved, is_evolved};

/// The columns of an engine's table on their way into the Iceberg table.
struct ColumnsChange<'a> {
    exporter: &'a Core,
    base: CatalogTable,
    schema: &'a TableSchema,
    writer: Writer,
}

#[async_trait]
impl Proposal for ColumnsChange<'_> {
    fn is_in(&self, table: &CatalogTable) -> bool {
        is_evolved(&table.metadata, self.schema)
    }

    async fn change(&mut self, table: &CatalogTable) -> Result<Change> {
        let change = evolved(table, self.schema)?;
        let owner = &self.exporter.owner;
        owner.check_position_unmoved(&self.base, table, &self.writer)?;
        Ok(change)
    }
}

impl Core {
    /// Gives the Iceberg table the columns that the engine's has.
    pub(super) async fn evolve(&self, table: &Table, state: &mut TableState) -> Result<()> {
        let mut change = ColumnsChange {
            exporter: self,
            base: state.current.clone(),
            schema: table.schema(),
            writer: state.writer,
        };
        let base = state.current.clone();
        state.current = run(self.catalog.as_ref(), &self.environment, base, &mut change)
            .await
            .map_err(Failure::into_error)?;
        Ok(())
    }
}
