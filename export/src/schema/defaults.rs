//! What a column that was added later is in rows from before.
//!
//! Iceberg's format 3 has it in the metadata (`initial-default`, and `write-default` for writers that leave a column out), so the
//! files from before stay as they are. Format 2 has no such thing.

use std::iter::repeat_n;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray,
    Float32Array, Float64Array, Int32Array, Int64Array, StringArray, Time64MicrosecondArray,
    TimestampMicrosecondArray, TimestampNanosecondArray, new_null_array,
};
use arrow_schema::ArrowError;
use iceberg::spec::Literal;
use moonshine_engine::{Column, TableSchema, Value};

use super::types::iceberg_type;
use crate::error::{ExportError, Result};

/// 0001-01-01 and 9999-12-31, in days since 1970: the dates that the metadata's text can hold in every engine.
const DAYS: std::ops::RangeInclusive<i32> = -719_162..=2_932_896;
/// The same, in microseconds.
const MICROSECONDS: std::ops::RangeInclusive<i64> =
    -62_135_596_800_000_000..=253_402_300_799_999_999;

/// A column's default as the metadata of an Iceberg table holds it; `None` if it has none.
///
/// # Errors
/// [`ExportError::Config`] for one that the metadata, being JSON, can't hold.
pub(super) fn literal(schema: &TableSchema, column: &Column) -> Result<Option<Literal>> {
    let Some(literal) = column.default.as_ref().map(literal_of) else {
        return Ok(None);
    };
    let field_type = iceberg_type(column.column_type);
    let is_kept = |literal: &Literal| {
        let json = literal.clone().try_into_json(&field_type).ok()?;
        let read = Literal::try_from_json(json, &field_type).ok()??;
        (read == *literal).then_some(())
    };
    match literal.filter(|literal| is_kept(literal).is_some()) {
        Some(literal) => Ok(Some(literal)),
        None => Err(ExportError::Config(format!(
            "table '{}', column '{}': the metadata of an Iceberg table can't hold its default",
            schema.name(),
            column.name
        ))),
    }
}

fn literal_of(value: &Value) -> Option<Literal> {
    Some(match value {
        Value::Null => return None,
        Value::Boolean(value) => Literal::bool(*value),
        Value::Int32(value) => Literal::int(*value),
        Value::Int64(value) => Literal::long(*value),
        Value::Float32(value) => Literal::float(*value),
        Value::Float64(value) => Literal::double(*value),
        Value::Decimal(unscaled) => Literal::decimal(*unscaled),
        Value::Utf8(text) => Literal::string(text),
        Value::Binary(bytes) => Literal::binary(bytes.clone()),
        Value::Uuid(bytes) => Literal::uuid(uuid::Uuid::from_bytes(*bytes)),
        Value::Date(days) if DAYS.contains(days) => Literal::date(*days),
        Value::Time(microseconds) => Literal::time(*microseconds),
        Value::Timestamp(at) if MICROSECONDS.contains(at) => Literal::timestamp(*at),
        Value::TimestampTz(at) if MICROSECONDS.contains(at) => Literal::timestamptz(*at),
        Value::Date(_) | Value::Timestamp(_) | Value::TimestampTz(_) => return None,
        // The iceberg crate writes them as text that it does not read.
        Value::TimestampNs(_) | Value::TimestampTzNs(_) => return None,
        // The engine has no such defaults.
        Value::List(_) | Value::Struct(_) | Value::Map(_) => return None,
    })
}

/// Rows of a file that lacks the column: its default, or null, `row_count` times.
///
/// # Errors
/// [`ArrowError`] for a default that does not fit its column, which the engine refuses.
pub(crate) fn missing_column(
    column: &Column,
    row_count: usize,
) -> std::result::Result<ArrayRef, ArrowError> {
    let data_type = column.column_type.arrow_type();
    let Some(default) = &column.default else {
        return Ok(new_null_array(&data_type, row_count));
    };
    let array: ArrayRef = match default {
        // Nested columns have no default.
        Value::Null | Value::List(_) | Value::Struct(_) | Value::Map(_) => {
            new_null_array(&data_type, row_count)
        }
        Value::Boolean(value) => Arc::new(BooleanArray::from(vec![*value; row_count])),
        Value::Int32(value) => Arc::new(Int32Array::from_value(*value, row_count)),
        Value::Int64(value) => Arc::new(Int64Array::from_value(*value, row_count)),
        Value::Float32(value) => Arc::new(Float32Array::from_value(*value, row_count)),
        Value::Float64(value) => Arc::new(Float64Array::from_value(*value, row_count)),
        Value::Decimal(unscaled) => {
            Arc::new(Decimal128Array::from_value(*unscaled, row_count).with_data_type(data_type))
        }
        Value::Utf8(text) => Arc::new(StringArray::from_iter_values(repeat_n(text, row_count))),
        Value::Binary(bytes) => Arc::new(BinaryArray::from_iter_values(repeat_n(bytes, row_count))),
        Value::Uuid(bytes) => Arc::new(
            FixedSizeBinaryArray::try_from_iter(repeat_n(bytes, row_count.max(1)))?
                .slice(0, row_count),
        ),
        Value::Date(days) => Arc::new(Date32Array::from_value(*days, row_count)),
        Value::Time(at) => Arc::new(Time64MicrosecondArray::from_value(*at, row_count)),
        Value::Timestamp(at) | Value::TimestampTz(at) => Arc::new(
            TimestampMicrosecondArray::from_value(*at, row_count).with_data_type(data_type),
        ),
        Value::TimestampNs(at) | Value::TimestampTzNs(at) => {
            Arc::new(TimestampNanosecondArray::from_value(*at, row_count).with_data_type(data_type))
        }
    };
    Ok(array)
}
