//! The columns of an Iceberg table follow those of the engine's: added, dropped, renamed and widened by the same field ids.
//!
//! That is a commit of the table's metadata alone, made before the first export of rows that have the new columns. Files from
//! before are read by field id, so they stay as they are.

use iceberg::spec::{PrimitiveType, Schema, TableMetadataBuildResult, Type};
use moonshine_engine::{Table, TableSchema};

use super::{ATTEMPTS_MAX, Exporter, TableState};
use crate::catalog::{CatalogTable, CommitOutcome};
use crate::error::{At, ExportError, Result};
use crate::ownership::check_epoch;
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

/// The change that gives an Iceberg table the columns of this schema; `None` if it has them.
fn evolved(table: &CatalogTable, schema: &TableSchema) -> Result<Option<TableMetadataBuildResult>> {
    let wanted = iceberg_schema(schema)?;
    let found = table.metadata.current_schema();
    if found.as_struct() == wanted.as_struct() {
        return Ok(None);
    }
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
    let place = || format!("table '{}'", table.ident);
    let builder = table
        .metadata
        .as_ref()
        .clone()
        .into_builder(Some(table.metadata_location.clone()));
    let builder = builder.add_current_schema(wanted).at(place())?;
    builder.build().at(place()).map(Some)
}

impl Exporter {
    /// Gives the Iceberg table the columns that the engine's has.
    pub(super) async fn evolve(&self, table: &Table, state: &mut TableState) -> Result<()> {
        for _ in 0..ATTEMPTS_MAX {
            let Some(change) = evolved(&state.current, table.schema())? else {
                return Ok(());
            };
            match self.swap(&state.current, change).await? {
                CommitOutcome::Committed(current) => state.current = current,
                CommitOutcome::Conflict => {
                    state.current = self.reload(state).await?;
                    check_epoch(&state.current, self.epoch)?;
                    self.owner.check(&state.current, table.schema())?;
                }
            }
        }
        Err(ExportError::Conflict {
            table: table.name().to_owned(),
            attempts: ATTEMPTS_MAX,
        })
    }
}
