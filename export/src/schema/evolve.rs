//! Which columns of an Iceberg table may become those of the engine's, and the change that makes them so.

use iceberg::spec::{FormatVersion, PrimitiveType, Schema, TableMetadataBuilder, Type};
use iceberg::{TableRequirement, TableUpdate};
use moonshine_engine::TableSchema;

use super::{check_schema, iceberg_schema};
use crate::catalog::{CatalogTable, Change};
use crate::error::{ExportError, Result};
use crate::references::head;

/// Checks that an Iceberg table has the columns that this schema would give it, or those of an earlier version of it.
pub(crate) fn check_columns(table: &CatalogTable, schema: &TableSchema) -> Result<()> {
    let found = table.metadata.current_schema();
    let wanted = iceberg_schema(schema, table.metadata.format_version())?;
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
pub(crate) fn evolved(table: &CatalogTable, schema: &TableSchema) -> Result<Change> {
    let wanted = iceberg_schema(schema, table.metadata.format_version())?;
    check_columns(table, schema)?;
    check_defaults(table, schema)?;
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

/// Checks that rows from before have the defaults of columns that are added: format 2 can't say it of the files that are there.
fn check_defaults(table: &CatalogTable, schema: &TableSchema) -> Result<()> {
    let metadata = &table.metadata;
    if metadata.format_version() >= FormatVersion::V3 || head(metadata).is_none() {
        return Ok(());
    }
    let found = metadata.current_schema();
    let is_missing = |field_id| found.field_by_id(field_id).is_none();
    let mut columns = schema.columns().iter();
    match columns.find(|column| column.default.is_some() && is_missing(column.field_id)) {
        Some(column) => Err(ExportError::Config(format!(
            "table '{}', column '{}': it was added with a default, which the rows that were exported before don't have, and \
             Iceberg's format 2 has no way to say it; set format_version 3 for the table",
            schema.name(),
            column.name
        ))),
        None => Ok(()),
    }
}
