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
//! | `list<t>`, `struct<…>`, `map<k, v>` | list, struct, map | LIST of three levels, group, MAP |
//! | timestamp_ns, timestamptz_ns | timestamp_ns, timestamptz_ns, from format 3 on | TIMESTAMP(nanos, not adjusted / adjusted to UTC) |

use std::collections::HashSet;
use std::sync::Arc;

use iceberg::spec::{
    ListType, MapType, NestedField as IcebergField, PrimitiveType, StructType, Type,
};
use moonshine_engine::{ColumnType, NestedField as Part, TableSchema};
use parquet::arrow::ArrowSchemaConverter;
use parquet::basic::{LogicalType, Type as PhysicalType};
use parquet::schema::types::{SchemaDescriptor, Type as ParquetType, TypePtr};

use crate::error::{At, Result};

pub(crate) fn iceberg_type(column_type: ColumnType) -> Type {
    // What metadata says of lists and maps has no place for comments on their parts.
    let part = |part: &Part, iceberg: fn(i32, Type, bool) -> IcebergField| {
        let part_type = iceberg_type(part.column_type);
        Arc::new(iceberg(part.field_id, part_type, !part.nullable))
    };
    match (column_type, column_type.nested_fields()) {
        (ColumnType::List(_), [element]) => {
            Type::List(ListType::new(part(element, IcebergField::list_element)))
        }
        (ColumnType::Map(_), [key, value]) => {
            let of_key = |id, key, _| IcebergField::map_key_element(id, key);
            Type::Map(MapType::new(
                part(key, of_key),
                part(value, IcebergField::map_value_element),
            ))
        }
        (_, fields @ [_, ..]) => {
            let fields = fields.iter().map(|field| {
                let field_type = iceberg_type(field.column_type);
                let field_id = field.field_id;
                let iceberg = IcebergField::new(field_id, &field.name, field_type, !field.nullable);
                Arc::new(with_comment(iceberg, field.comment.as_deref()))
            });
            Type::Struct(StructType::new(fields.collect()))
        }
        _ => {
            primitive_type(column_type).map_or(Type::Struct(StructType::default()), Type::Primitive)
        }
    }
}

/// A field with what the database says of it.
pub(super) fn with_comment(field: IcebergField, comment: Option<&str>) -> IcebergField {
    match comment {
        Some(comment) => field.with_doc(comment),
        None => field,
    }
}

/// The Iceberg type of a column that is not nested.
pub(crate) fn primitive_type(column_type: ColumnType) -> Option<PrimitiveType> {
    Some(match column_type {
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
        ColumnType::List(_) | ColumnType::Struct(_) | ColumnType::Map(_) => return None,
    })
}

/// Whether Iceberg's format 2 knows the type.
pub(crate) fn is_of_format_2(column_type: ColumnType) -> bool {
    let mut parts = column_type.nested_fields().iter();
    let is_nanoseconds = matches!(
        column_type,
        ColumnType::TimestampNs | ColumnType::TimestampTzNs
    );
    !is_nanoseconds && parts.all(|part| is_of_format_2(part.column_type))
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
    // Arrow's type for a UUID does not say that it is one.
    let mut uuids = HashSet::new();
    for column in schema.columns() {
        find_uuids(column.column_type, column.field_id, &mut uuids);
    }
    for field in &mut fields {
        *field = with_uuids(field, &uuids).at(place())?;
    }
    let root = ParquetType::group_type_builder("table")
        .with_fields(fields)
        .build()
        .at(place())?;
    Ok(SchemaDescriptor::new(Arc::new(root)))
}

/// Notes the field ids of what is a UUID.
fn find_uuids(column_type: ColumnType, field_id: i32, found: &mut HashSet<i32>) {
    if column_type == ColumnType::Uuid {
        found.insert(field_id);
    }
    for part in column_type.nested_fields() {
        find_uuids(part.column_type, part.field_id, found);
    }
}

/// A Parquet type in which the fields with these ids say that they are UUIDs.
fn with_uuids(found: &TypePtr, uuids: &HashSet<i32>) -> parquet::errors::Result<TypePtr> {
    let info = found.get_basic_info();
    let id = info.has_id().then(|| info.id());
    if found.is_primitive() {
        if !id.is_some_and(|id| uuids.contains(&id)) {
            return Ok(found.clone());
        }
        let uuid =
            ParquetType::primitive_type_builder(info.name(), PhysicalType::FIXED_LEN_BYTE_ARRAY)
                .with_length(16)
                .with_logical_type(Some(LogicalType::Uuid))
                .with_repetition(info.repetition())
                .with_id(id)
                .build()?;
        return Ok(Arc::new(uuid));
    }
    let fields = found.get_fields().iter();
    let fields = fields.map(|field| with_uuids(field, uuids));
    let group = ParquetType::group_type_builder(info.name())
        .with_repetition(info.repetition())
        .with_converted_type(info.converted_type())
        .with_logical_type(info.logical_type_ref().cloned())
        .with_id(id)
        .with_fields(fields.collect::<Result<_, _>>()?)
        .build()?;
    Ok(Arc::new(group))
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
