//! Tables, columns and types of the engine as Iceberg and Parquet name them.
//!
//! | engine | Iceberg | Parquet |
//! |---|---|---|
//! | boolean | boolean | BOOLEAN |
//! | int32, int64 | int, long | INT32, INT64 |
//! | float32, float64 | float, double | FLOAT, DOUBLE |
//! | decimal(p,s) | decimal(p,s) | DECIMAL on INT32, INT64 or FIXED_LEN_BYTE_ARRAY, by precision |
//! | string | string | STRING |
//! | binary | binary | BYTE_ARRAY |
//! | uuid | uuid | UUID on FIXED_LEN_BYTE_ARRAY(16) |
//! | date | date | DATE |
//! | time | time | TIME(micros, not adjusted) |
//! | timestamp, timestamptz | timestamp, timestamptz | TIMESTAMP(micros, not adjusted / adjusted to UTC) |

use std::sync::Arc;

use iceberg::TableIdent;
use iceberg::spec::{NestedField, PrimitiveType, Schema, Type};
use moonshine_engine::{Column, ColumnType, TableSchema};
use parquet::arrow::ArrowSchemaConverter;
use parquet::basic::{LogicalType, Repetition, Type as PhysicalType};
use parquet::schema::types::{SchemaDescriptor, Type as ParquetType};

use crate::error::{At, ExportError, Result};

/// The namespace of tables whose name has no dot.
const NAMESPACE_DEFAULT: &str = "default";

/// The Iceberg table of an engine table: what stands before the last dot is the namespace.
pub(crate) fn table_ident(table_name: &str) -> Result<TableIdent> {
    let (namespace, name) = table_name
        .rsplit_once('.')
        .unwrap_or((NAMESPACE_DEFAULT, table_name));
    let parts: Vec<&str> = namespace.split('.').chain([name]).collect();
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

pub(crate) fn iceberg_type(column_type: ColumnType) -> PrimitiveType {
    match column_type {
        ColumnType::Boolean => PrimitiveType::Boolean,
        ColumnType::Int32 => PrimitiveType::Int,
        ColumnType::Int64 => PrimitiveType::Long,
        ColumnType::Float32 => PrimitiveType::Float,
        ColumnType::Float64 => PrimitiveType::Double,
        ColumnType::Decimal { precision, scale } => PrimitiveType::Decimal {
            precision: u32::from(precision),
            scale: u32::from(scale),
        },
        ColumnType::Utf8 => PrimitiveType::String,
        ColumnType::Binary => PrimitiveType::Binary,
        ColumnType::Uuid => PrimitiveType::Uuid,
        ColumnType::Date => PrimitiveType::Date,
        ColumnType::Time => PrimitiveType::Time,
        ColumnType::Timestamp => PrimitiveType::Timestamp,
        ColumnType::TimestampTz => PrimitiveType::Timestamptz,
    }
}

/// The Iceberg schema of a table, with the engine's field ids.
///
/// The primary key becomes the identifier fields, unless it has a float: the specification forbids those there.
pub(crate) fn iceberg_schema(schema: &TableSchema) -> Result<Schema> {
    let fields = schema.columns().iter().map(|column| {
        let field_type = Type::Primitive(iceberg_type(column.column_type));
        Arc::new(NestedField::new(
            column.field_id,
            &column.name,
            field_type,
            !column.nullable,
        ))
    });
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

/// Checks that an Iceberg table has just the columns that this schema would give it.
pub(crate) fn check_schema(table: &TableIdent, found: &Schema, wanted: &Schema) -> Result<()> {
    if found.as_struct() == wanted.as_struct() {
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

/// The Parquet schema of a data file with the table's columns, and whatever `arrow_schema` has after them.
pub(crate) fn parquet_schema(
    schema: &TableSchema,
    arrow_schema: &arrow_schema::Schema,
) -> Result<SchemaDescriptor> {
    let place = || format!("table '{}'", schema.name());
    let derived = ArrowSchemaConverter::new()
        .convert(arrow_schema)
        .at(place())?;
    let mut fields = derived.root_schema().get_fields().to_vec();
    for (column, field) in schema.columns().iter().zip(&mut fields) {
        // Arrow's type for a UUID does not say that it is one.
        if column.column_type == ColumnType::Uuid {
            *field = Arc::new(uuid_type(column).at(place())?);
        }
    }
    let root = ParquetType::group_type_builder("table")
        .with_fields(fields)
        .build()
        .at(place())?;
    Ok(SchemaDescriptor::new(Arc::new(root)))
}

fn uuid_type(column: &Column) -> parquet::errors::Result<ParquetType> {
    ParquetType::primitive_type_builder(&column.name, PhysicalType::FIXED_LEN_BYTE_ARRAY)
        .with_length(16)
        .with_logical_type(Some(LogicalType::Uuid))
        .with_repetition(if column.nullable {
            Repetition::OPTIONAL
        } else {
            Repetition::REQUIRED
        })
        .with_id(Some(column.field_id))
        .build()
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
            iceberg_schema(&builder.primary_key(["k"]).build().unwrap()).unwrap()
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

    #[test]
    fn a_uuid_says_so_in_parquet() {
        let builder = TableSchema::builder("t").column_with_id("k", ColumnType::Uuid, false, 7);
        let schema = builder.primary_key(["k"]).build().unwrap();
        let schema = parquet_schema(&schema, schema.arrow_schema()).unwrap();
        let column = schema.column(0);
        assert_eq!(column.logical_type_ref(), Some(&LogicalType::Uuid));
        assert_eq!(column.self_type().get_basic_info().id(), 7);
    }
}
