//! The partition spec and the sort order of an Iceberg table follow the configuration.
//!
//! That is a commit of the table's metadata alone. Files from before keep the spec that they were written by.

use async_trait::async_trait;
use iceberg::spec::{PartitionField, TableMetadata, Transform};
use moonshine_engine::{Column, Table, TableSchema};

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

/// A column that would be added or renamed to the name that a partition field has.
fn named_as_partition(metadata: &TableMetadata, schema: &TableSchema) -> Option<String> {
    let fields = metadata.default_partition_spec().fields().iter();
    let is_taken = |field: &&PartitionField| {
        let mut columns = schema.columns().iter();
        let column = columns.find(|column| column.name == field.name);
        let is_own = |column: &Column| {
            field.transform == Transform::Identity && column.field_id == field.source_id
        };
        column.is_some_and(|column| !is_own(column))
    };
    let mut taken = fields.filter(is_taken);
    taken.next().map(|field| field.name.clone())
}

/// Why the Iceberg table can't get the columns of the database as it is laid out.
fn obstacle(metadata: &TableMetadata, schema: &TableSchema) -> Option<String> {
    let dropped = dropped_column(metadata, schema).map(|column| {
        format!("its column {column} was dropped, and the Iceberg table is partitioned or sorted by it; give a partition_by \
            and a sort_by without it")
    });
    let named = named_as_partition(metadata, schema).map(|name| {
        format!("its column '{name}' has the name of a partition field of the Iceberg table; rename it, or give a \
            partition_by without that field")
    });
    dropped.or(named)
}

impl Core {
    /// Takes a layout away that is in the way of the database's columns, while the table has the older ones: it could not follow
    /// otherwise.
    pub(super) async fn let_columns_go(&self, table: &Table, state: &mut TableState) -> Result<()> {
        let obstacle = |state: &TableState| obstacle(&state.current.metadata, table.schema());
        if obstacle(state).is_none() {
            return Ok(());
        }
        self.lay_out(table, state).await?;
        let refused = |reason| ExportError::Config(format!("table '{}': {reason}", table.name()));
        obstacle(state).map_or(Ok(()), |reason| Err(refused(reason)))
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
