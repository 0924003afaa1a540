//! Which columns of an Iceberg table may become those of the engine's, and the change that makes them so.
//!
//! Comments are the engine's where it has any. Where it has none, what somebody wrote into the Iceberg table stays.

use std::collections::HashMap;
use std::sync::Arc;

use iceberg::spec::{
    FormatVersion, ListType, MapType, NestedField, NestedFieldRef, PrimitiveType, Schema,
    StructType, TableMetadata, TableMetadataBuilder, Type,
};
use iceberg::{TableRequirement, TableUpdate};
use moonshine_engine::TableSchema;

use super::{check_format, check_schema, iceberg_schema};
use crate::catalog::{CatalogTable, Change};
use crate::error::{ExportError, Result};
use crate::references::head;

/// The property of an Iceberg table that says what the table is for.
pub(crate) const COMMENT: &str = "comment";

/// Whether two schemas have the same columns, whatever their comments say.
pub(crate) fn has_columns(found: &Schema, wanted: &Schema) -> bool {
    are_same(found.as_struct().fields(), wanted.as_struct().fields())
}

fn are_same(found: &[NestedFieldRef], wanted: &[NestedFieldRef]) -> bool {
    let undocumented = |fields: &[NestedFieldRef]| -> Vec<NestedFieldRef> {
        fields
            .iter()
            .map(|field| with_docs(field, &|_| None))
            .collect()
    };
    undocumented(found) == undocumented(wanted)
}

/// A field in which each, at any depth, has the comment that is said of it.
fn with_docs(
    field: &NestedFieldRef,
    doc: &impl Fn(&NestedField) -> Option<String>,
) -> NestedFieldRef {
    let field_type = match &*field.field_type {
        Type::Primitive(primitive) => Type::Primitive(primitive.clone()),
        Type::Struct(inner) => {
            let fields = inner.fields().iter().map(|field| with_docs(field, doc));
            Type::Struct(StructType::new(fields.collect()))
        }
        Type::List(list) => Type::List(ListType::new(with_docs(&list.element_field, doc))),
        Type::Map(map) => Type::Map(MapType::new(
            with_docs(&map.key_field, doc),
            with_docs(&map.value_field, doc),
        )),
    };
    Arc::new(NestedField {
        doc: doc(field),
        field_type: Box::new(field_type),
        ..field.as_ref().clone()
    })
}

/// The columns that this schema gives an Iceberg table, which keeps the comments that the database has nothing for.
fn wanted_schema(metadata: &TableMetadata, schema: &TableSchema) -> Result<Schema> {
    let wanted = iceberg_schema(schema, metadata.format_version())?;
    let found = metadata.current_schema();
    let doc = |field: &NestedField| {
        let own = field.doc.clone();
        own.or_else(|| found.field_by_id(field.id)?.doc.clone())
    };
    let fields = wanted.as_struct().fields().iter();
    let fields = fields.map(|field| with_docs(field, &doc));
    Schema::builder()
        .with_fields(fields.collect::<Vec<_>>())
        .with_identifier_field_ids(wanted.identifier_field_ids())
        .build()
        .map_err(|error| ExportError::Config(format!("table '{}': {error}", schema.name())))
}

/// The comment that the Iceberg table is to get.
fn new_comment<'s>(metadata: &TableMetadata, schema: &'s TableSchema) -> Option<&'s str> {
    let found = metadata.properties().get(COMMENT);
    let comment = schema.comment()?;
    (found.map(String::as_str) != Some(comment)).then_some(comment)
}

/// Whether an Iceberg table has the columns and the comments of this schema.
pub(crate) fn is_evolved(metadata: &TableMetadata, schema: &TableSchema) -> bool {
    let has_columns = wanted_schema(metadata, schema)
        .is_ok_and(|wanted| wanted.as_struct() == metadata.current_schema().as_struct());
    has_columns && new_comment(metadata, schema).is_none()
}

/// Checks that an Iceberg table has the columns that this schema would give it, or those of an earlier version of it.
pub(crate) fn check_columns(table: &CatalogTable, schema: &TableSchema) -> Result<()> {
    let found = table.metadata.current_schema();
    let wanted = iceberg_schema(schema, table.metadata.format_version())?;
    let (found_columns, wanted_columns) = (found.as_struct(), wanted.as_struct());
    let is_earlier = schema.version() > 0
        && may_become_fields(found_columns, wanted_columns, schema.last_field_id());
    if is_earlier {
        return Ok(());
    }
    check_schema(&table.ident, found, &wanted)
}

/// Whether fields may become others by what schemas are changed by; ids up to the last were the database's.
fn may_become_fields(found: &StructType, wanted: &StructType, last_field_id: i32) -> bool {
    found
        .fields()
        .iter()
        .all(|field| match wanted.field_by_id(field.id) {
            Some(wanted) => may_become(&field.field_type, &wanted.field_type, last_field_id),
            None => field.id <= last_field_id,
        })
}

fn may_become(found: &Type, wanted: &Type, last_field_id: i32) -> bool {
    let part = |found: &NestedFieldRef, wanted: &NestedFieldRef| {
        found.id == wanted.id && may_become(&found.field_type, &wanted.field_type, last_field_id)
    };
    match (found, wanted) {
        (Type::Primitive(found), Type::Primitive(wanted)) => is_same_or_wider(found, wanted),
        (Type::Struct(found), Type::Struct(wanted)) => {
            may_become_fields(found, wanted, last_field_id)
        }
        (Type::List(found), Type::List(wanted)) => {
            part(&found.element_field, &wanted.element_field)
        }
        (Type::Map(found), Type::Map(wanted)) => {
            part(&found.key_field, &wanted.key_field)
                && part(&found.value_field, &wanted.value_field)
        }
        _ => false,
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

/// The change that gives an Iceberg table the columns and comments of this schema.
pub(crate) fn evolved(table: &CatalogTable, schema: &TableSchema) -> Result<Change> {
    let wanted = wanted_schema(&table.metadata, schema)?;
    check_format(schema, table.metadata.format_version())?;
    check_columns(table, schema)?;
    check_defaults(table, schema)?;
    let mut updates = Vec::new();
    if wanted.as_struct() != table.metadata.current_schema().as_struct() {
        updates.push(TableUpdate::AddSchema { schema: wanted });
        updates.push(TableUpdate::SetCurrentSchema {
            schema_id: TableMetadataBuilder::LAST_ADDED,
        });
    }
    if let Some(comment) = new_comment(&table.metadata, schema) {
        updates.push(TableUpdate::SetProperties {
            updates: HashMap::from([(COMMENT.to_owned(), comment.to_owned())]),
        });
    }
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
