//! The partition spec and the sort order of an Iceberg table follow the configuration.
//!
//! That is a commit of the table's metadata alone. Files from before keep the spec that they were written by.

use async_trait::async_trait;
use iceberg::spec::TableMetadata;
use moonshine_engine::{Table, TableSchema};

use super::Core;
use super::core::TableState;
use crate::catalog::{CatalogTable, Change};
use crate::commit::{Failure, Proposal, run};
use crate::error::{ExportError, Result};
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

/// The column that a table's partition fields or sort order name and the database does not have any more.
fn dropped_column(metadata: &TableMetadata, schema: &TableSchema) -> Option<String> {
    let spec = metadata.default_partition_spec().fields().iter();
    let order = metadata.default_sort_order().fields.iter();
    let mut sources = spec
        .map(|field| field.source_id)
        .chain(order.map(|field| field.source_id));
    let is_dropped = |id: &i32| schema.columns().iter().all(|column| column.field_id != *id);
    let id = sources.find(is_dropped)?;
    let column = metadata.current_schema().field_by_id(id);
    Some(column.map_or_else(
        || format!("with id {id}"),
        |column| format!("'{}'", column.name),
    ))
}

impl Core {
    /// Takes a layout away that names dropped columns, while the table still has them: it could not drop them otherwise.
    pub(super) async fn let_columns_go(&self, table: &Table, state: &mut TableState) -> Result<()> {
        let dropped = |state: &TableState| dropped_column(&state.current.metadata, table.schema());
        if dropped(state).is_none() {
            return Ok(());
        }
        self.lay_out(table, state).await?;
        match dropped(state) {
            None => Ok(()),
            Some(column) => Err(ExportError::Config(format!(
                "table '{}': its column {column} was dropped, and the Iceberg table is partitioned or sorted by it; give a \
                 partition_by and a sort_by without it",
                table.name()
            ))),
        }
    }

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
