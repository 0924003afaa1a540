//! Types of the engine as Iceberg and Parquet name them.
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
//! | timestamp_ns, timestamptz_ns | timestamp_ns, timestamptz_ns, from format 3 on | TIMESTAMP(nanos, not adjusted / adjusted to UTC) |

use std::sync::Arc;

use iceberg::spec::PrimitiveType;
use moonshine_engine::{Column, ColumnType, TableSchema};
use parquet::arrow::ArrowSchemaConverter;
use parquet::basic::{LogicalType, Repetition, Type as PhysicalType};
use parquet::schema::types::{SchemaDescriptor, Type as ParquetType};

use crate::error::{At, Result};

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
        ColumnType::TimestampNs => PrimitiveType::TimestampNs,
        ColumnType::TimestampTzNs => PrimitiveType::TimestamptzNs,
    }
}

/// Whether Iceberg's format 2 knows the type.
pub(crate) fn is_of_format_2(column_type: ColumnType) -> bool {
    !matches!(
        column_type,
        ColumnType::TimestampNs | ColumnType::TimestampTzNs
    )
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
    fn a_uuid_says_so_in_parquet() {
        let builder = TableSchema::builder("t").column_with_id("k", ColumnType::Uuid, false, 7);
        let schema = builder.primary_key(["k"]).build().unwrap();
        let schema = parquet_schema(&schema, schema.arrow_schema()).unwrap();
        let column = schema.column(0);
        assert_eq!(column.logical_type_ref(), Some(&LogicalType::Uuid));
        assert_eq!(column.self_type().get_basic_info().id(), 7);
    }
}
