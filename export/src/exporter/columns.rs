//! The columns of an Iceberg table follow those of the engine's: added, dropped, renamed and widened by the same field ids.
//!
//! That is a commit of the table's metadata alone, made before the first export of rows that have the new columns. Files from
//! before are read by field id, so they stay as they are.

use async_trait::async_trait;
use iceberg::spec::{PrimitiveType, Schema, TableMetadataBuilder, Type};
use iceberg::{TableRequirement, TableUpdate};
use moonshine_engine::{Table, TableSchema};

use super::Core;
use super::core::TableState;
use crate::catalog::{CatalogTable, Change};
use crate::commit::{Failure, Proposal, run};
use crate::error::{ExportError, Result};
use crate::ownership::Writer;
use crate::schema::{check_schema, iceberg_schema};

/// Checks that an Iceberg table has the columns that this schema would give it, or those of an earlier version of it.
pub(crate) fn check_columns(table: &CatalogTable, schema: &TableSchema) -> Result<()> {
    let found = table.metadata.current_schema();
    let wanted = iceberg_schema(schema)?;
    let may_become = |(id, found): (i32, &PrimitiveType)| match type_of(&wanted, id) {
        Some(wanted) => is_same_or_wider(found, wanted),
        None => id <= schema.last_field_id(),
    };
    let mut fields = found.as_struct().fields().iter();
    let is_earlier = schema.version() > 0
        && fields.all(|field| {
            let primitive = field.field_type.as_primitive_type();
            primitive.is_some_and(|primitive| may_become((field.id, primitive)))
        });
    if is_earlier {
        return Ok(());
    }
    check_schema(&table.ident, found, &wanted)
}

fn type_of(schema: &Schema, field_id: i32) -> Option<&PrimitiveType> {
    match &*schema.field_by_id(field_id)?.field_type {
        Type::Primitive(primitive) => Some(primitive),
        _ => None,
    }
}

fn is_same_or_wider(found: &PrimitiveType, wanted: &PrimitiveType) -> bool {
    use PrimitiveType::{Decimal, Double, Float, Int, Long};
    match (found, wanted) {
        (Int, Long) | (Float, Double) => true,
        (
            Decimal { precision, scale },
            Decimal {
                precision: wider,
                scale: same,
            },
        ) => precision <= wider && scale == same,
        (found, wanted) => found == wanted,
    }
}

/// The change that gives an Iceberg table the columns of this schema.
fn evolved(table: &CatalogTable, schema: &TableSchema) -> Result<Change> {
    let wanted = iceberg_schema(schema)?;
    let found = table.metadata.current_schema();
    check_columns(table, schema)?;
    let mut columns = schema.columns().iter();
    let is_missing = |field_id| found.field_by_id(field_id).is_none();
    if let Some(column) =
        columns.find(|column| column.default.is_some() && is_missing(column.field_id))
    {
        return Err(ExportError::Config(format!(
            "table '{}', column '{}': it was added with a default, which the exported files don't have",
            schema.name(),
            column.name
        )));
    }
    let updates = vec![
        TableUpdate::AddSchema { schema: wanted },
        TableUpdate::SetCurrentSchema {
            schema_id: TableMetadataBuilder::LAST_ADDED,
        },
    ];
    let same_columns = TableRequirement::CurrentSchemaIdMatch {
        current_schema_id: table.metadata.current_schema_id(),
    };
    Ok(Change::of(&table.metadata, updates).demanding(same_columns))
}

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
        let found = table.metadata.current_schema();
        iceberg_schema(self.schema).is_ok_and(|wanted| wanted.as_struct() == found.as_struct())
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
