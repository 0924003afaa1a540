//! Tables and columns of the engine as Iceberg names them.
//!
//! `types` names the types, in Iceberg and in Parquet; `evolve` says which columns may become which, `adapt` makes those of older
//! files so; `defaults` is about columns that were added later. Field ids are the engine's throughout.

mod adapt;
mod defaults;
mod evolve;
mod types;

use std::sync::Arc;

use iceberg::TableIdent;
use iceberg::spec::{FormatVersion, NestedField, Schema};
use moonshine_engine::{Column, ColumnType, TableSchema};

pub(crate) use self::adapt::adapted;
pub(crate) use self::defaults::missing_column;
pub(crate) use self::evolve::{COMMENT, check_columns, evolved, has_columns, is_evolved};
pub(crate) use self::types::{iceberg_type, parquet_schema, primitive_type};
use self::types::{is_of_format_2, with_comment};
use crate::error::{ExportError, Result};

/// The namespace of tables whose name has no dot.
const NAMESPACE_DEFAULT: &str = "default";

/// The Iceberg table of an engine table: what stands before the last dot is the namespace.
pub(crate) fn table_ident(table_name: &str) -> Result<TableIdent> {
    let (namespace, name) = table_name
        .rsplit_once('.')
        .unwrap_or((NAMESPACE_DEFAULT, table_name));
    let parts: Vec<&str> = namespace.split('.').chain([name]).collect();
    // Addresses of catalog servers lose some of them, and one stands between the parts of a namespace.
    if table_name.chars().any(char::is_control) {
        return Err(ExportError::Config(format!(
            "table {table_name:?}: a control character in the name"
        )));
    }
    if parts.iter().any(|part| part.is_empty()) {
        return Err(ExportError::Config(format!(
            "table '{table_name}': a part of the name is empty"
        )));
    }
    TableIdent::from_strs(parts)
        .map_err(|error| ExportError::Config(format!("table '{table_name}': {error}")))
}

/// Where a new table's files go: below the warehouse, under a name that is safe in every store and URI.
pub(crate) fn table_location(warehouse: &str, ident: &TableIdent, table_id: u32) -> String {
    let mut location = warehouse.to_owned();
    let mut changed = false;
    for part in ident.namespace().iter().chain([&ident.name]) {
        let plain: String = part
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || "_-".contains(c) {
                    c
                } else {
                    '_'
                }
            })
            .collect();
        changed |= &plain != part;
        location.push('/');
        location.push_str(&plain);
    }
    // Two names may become one by that; the id keeps their folders apart.
    if changed {
        location.push_str(&format!("-{table_id}"));
    }
    location
}

/// The Iceberg schema of a table, with the engine's field ids and comments. Defaults are in it from format 3 on, which knows them.
///
/// The primary key becomes the identifier fields, unless it has a float: the specification forbids those there.
///
/// # Errors
/// [`ExportError::Config`] for a default that metadata can't hold.
pub(crate) fn iceberg_schema(schema: &TableSchema, version: FormatVersion) -> Result<Schema> {
    let mut fields = Vec::with_capacity(schema.columns().len());
    for column in schema.columns() {
        let field_type = iceberg_type(column.column_type);
        let field = NestedField::new(column.field_id, &column.name, field_type, !column.nullable);
        let mut field = with_comment(field, column.comment.as_deref());
        if version >= FormatVersion::V3
            && let Some(default) = defaults::literal(schema, column)?
        {
            field = field
                .with_initial_default(default.clone())
                .with_write_default(default);
        }
        fields.push(Arc::new(field));
    }
    let may_identify = |column: &Column| {
        !matches!(
            column.column_type,
            ColumnType::Float32 | ColumnType::Float64
        )
    };
    let identifiers: Vec<i32> = match schema.key_columns().all(may_identify) {
        true => schema.key_columns().map(|column| column.field_id).collect(),
        false => Vec::new(),
    };
    Schema::builder()
        .with_fields(fields)
        .with_identifier_field_ids(identifiers)
        .build()
        .map_err(|error| ExportError::Config(format!("table '{}': {error}", schema.name())))
}

/// Checks that a format version knows the types of the columns.
///
/// # Errors
/// [`ExportError::Config`], naming table and column.
pub(crate) fn check_format(schema: &TableSchema, version: FormatVersion) -> Result<()> {
    let mut columns = schema.columns().iter();
    let is_known =
        |column: &Column| version >= FormatVersion::V3 || is_of_format_2(column.column_type);
    match columns.find(|column| !is_known(column)) {
        Some(column) => Err(ExportError::Config(format!(
            "table '{}', column '{}': Iceberg knows {} from its format 3 on; set format_version 3 for the table",
            schema.name(),
            column.name,
            column.column_type
        ))),
        None => Ok(()),
    }
}

/// Checks that an Iceberg table has just the columns that this schema would give it.
pub(crate) fn check_schema(table: &TableIdent, found: &Schema, wanted: &Schema) -> Result<()> {
    if has_columns(found, wanted) {
        return Ok(());
    }
    Err(ExportError::foreign(
        table,
        format!(
            "its columns are [{}], the database's are [{}]",
            columns_text(found),
            columns_text(wanted)
        ),
    ))
}

fn columns_text(schema: &Schema) -> String {
    let fields = schema.as_struct().fields().iter();
    fields
        .map(|field| {
            let null = if field.required { " not null" } else { "" };
            format!(
                "{} {}{null} (id {})",
                field.name, field.field_type, field.id
            )
        })
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_identifiers() {
        for (name, namespace, table) in [
            ("orders", "default", "orders"),
            ("shop.orders", "shop", "orders"),
            ("a.b.c", "a.b", "c"),
        ] {
            let ident = table_ident(name).unwrap();
            assert_eq!(
                (ident.namespace().join("."), ident.name()),
                (namespace.to_owned(), table)
            );
        }
        for name in [".orders", "shop.", "a..b"] {
            assert!(
                matches!(table_ident(name), Err(ExportError::Config(_))),
                "{name}"
            );
        }
    }

    #[test]
    fn locations_are_safe_and_distinct() {
        let location =
            |name: &str, id| table_location("file:///w", &table_ident(name).unwrap(), id);
        assert_eq!(location("shop.orders", 1), "file:///w/shop/orders");
        assert_eq!(location("shop.ord/ers?", 2), "file:///w/shop/ord_ers_-2");
        assert_ne!(location("shop.a b", 3), location("shop.a#b", 4));
    }

    #[test]
    fn floats_do_not_identify() {
        let schema = |column_type| {
            let builder = TableSchema::builder("t")
                .column("k", column_type, false)
                .column("v", ColumnType::Utf8, true);
            iceberg_schema(
                &builder.primary_key(["k"]).build().unwrap(),
                FormatVersion::V3,
            )
            .unwrap()
        };
        assert_eq!(
            schema(ColumnType::Float64).identifier_field_ids().count(),
            0
        );
        assert_eq!(
            schema(ColumnType::Int64)
                .identifier_field_ids()
                .collect::<Vec<_>>(),
            [1]
        );
    }
}
