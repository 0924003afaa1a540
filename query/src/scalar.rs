//! Single values between DataFusion and the engine, for lookups by primary key.

use arrow_schema::DataType;
use datafusion::common::ScalarValue;
use moonshine_engine::{ColumnType, Value};

/// The engine's value of a literal that is compared with a column of that type; `None` if they don't fit.
pub(crate) fn value_of(scalar: &ScalarValue, column_type: ColumnType) -> Option<Value> {
    Some(match (scalar, column_type) {
        (ScalarValue::Boolean(Some(v)), ColumnType::Boolean) => Value::Boolean(*v),
        (ScalarValue::Int32(Some(v)), ColumnType::Int32) => Value::Int32(*v),
        (ScalarValue::Int64(Some(v)), ColumnType::Int64) => Value::Int64(*v),
        (ScalarValue::Utf8(Some(v)), ColumnType::Utf8)
        | (ScalarValue::LargeUtf8(Some(v)), ColumnType::Utf8)
        | (ScalarValue::Utf8View(Some(v)), ColumnType::Utf8) => Value::Utf8(v.clone()),
        (ScalarValue::Binary(Some(v)), ColumnType::Binary)
        | (ScalarValue::LargeBinary(Some(v)), ColumnType::Binary)
        | (ScalarValue::BinaryView(Some(v)), ColumnType::Binary) => Value::Binary(v.clone()),
        (ScalarValue::FixedSizeBinary(16, Some(v)), ColumnType::Uuid) => {
            Value::Uuid(v.as_slice().try_into().ok()?)
        }
        (ScalarValue::Date32(Some(v)), ColumnType::Date) => Value::Date(*v),
        (ScalarValue::Time64Microsecond(Some(v)), ColumnType::Time) => Value::Time(*v),
        (ScalarValue::TimestampMicrosecond(Some(v), None), ColumnType::Timestamp) => {
            Value::Timestamp(*v)
        }
        (ScalarValue::TimestampMicrosecond(Some(v), Some(_)), ColumnType::TimestampTz) => {
            Value::TimestampTz(*v)
        }
        (ScalarValue::TimestampNanosecond(Some(v), None), ColumnType::TimestampNs) => {
            Value::TimestampNs(*v)
        }
        (ScalarValue::TimestampNanosecond(Some(v), Some(_)), ColumnType::TimestampTzNs) => {
            Value::TimestampTzNs(*v)
        }
        (ScalarValue::Decimal128(Some(v), p, s), ColumnType::Decimal { precision, scale })
            if *p == precision && i16::from(*s) == i16::from(scale) =>
        {
            Value::Decimal(*v)
        }
        // Floats compare by value in SQL and by bits as keys, so they are left to the scan.
        _ => return None,
    })
}

/// A value of the engine as DataFusion has it in a column of that type.
pub(crate) fn scalar_of(value: Value, column_type: ColumnType) -> Option<ScalarValue> {
    let arrow_type = column_type.arrow_type();
    Some(match value {
        Value::Null => ScalarValue::try_from(&arrow_type).ok()?,
        Value::Boolean(v) => ScalarValue::Boolean(Some(v)),
        Value::Int32(v) => ScalarValue::Int32(Some(v)),
        Value::Int64(v) => ScalarValue::Int64(Some(v)),
        Value::Float32(v) => ScalarValue::Float32(Some(v)),
        Value::Float64(v) => ScalarValue::Float64(Some(v)),
        Value::Decimal(v) => match arrow_type {
            DataType::Decimal128(precision, scale) => {
                ScalarValue::Decimal128(Some(v), precision, scale)
            }
            _ => return None,
        },
        Value::Utf8(v) => ScalarValue::Utf8(Some(v)),
        Value::Binary(v) => ScalarValue::Binary(Some(v)),
        Value::Uuid(v) => ScalarValue::FixedSizeBinary(16, Some(v.to_vec())),
        Value::Date(v) => ScalarValue::Date32(Some(v)),
        Value::Time(v) => ScalarValue::Time64Microsecond(Some(v)),
        Value::Timestamp(v) => ScalarValue::TimestampMicrosecond(Some(v), None),
        Value::TimestampTz(v) => ScalarValue::TimestampMicrosecond(Some(v), Some("+00:00".into())),
        Value::TimestampNs(v) => ScalarValue::TimestampNanosecond(Some(v), None),
        Value::TimestampTzNs(v) => ScalarValue::TimestampNanosecond(Some(v), Some("+00:00".into())),
        // No key has them.
        Value::List(_) | Value::Struct(_) | Value::Map(_) => return None,
    })
}
