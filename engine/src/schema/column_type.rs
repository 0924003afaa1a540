//! The types of columns, their names and their Arrow types.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, TimeUnit};

use super::{NestedField, NestedType};
use crate::error::{Error, Result};

/// The type of a column.
///
/// Each maps to one Arrow type ([`ColumnType::arrow_type`]) and has one encoding on disk.
///
/// ```
/// use moonshine_engine::ColumnType;
/// let price = ColumnType::Decimal { precision: 10, scale: 2 };
/// assert_eq!(price.to_string(), "decimal(10,2)");
/// assert_eq!(ColumnType::Int64.arrow_type(), arrow_schema::DataType::Int64);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ColumnType {
    /// `true` or `false`.
    Boolean,
    /// 32-bit signed integer.
    Int32,
    /// 64-bit signed integer.
    Int64,
    /// IEEE 754 binary32.
    Float32,
    /// IEEE 754 binary64.
    Float64,
    /// Fixed-point number of `precision` (1 to 38) digits, `scale` (0 to `precision`) of them after the point.
    Decimal {
        /// Digits in all.
        precision: u8,
        /// Digits after the point.
        scale: u8,
    },
    /// UTF-8 text.
    Utf8,
    /// Bytes.
    Binary,
    /// A 128-bit UUID.
    Uuid,
    /// Days since 1970-01-01.
    Date,
    /// Microseconds since midnight.
    Time,
    /// Microseconds since 1970-01-01T00:00:00, of no time zone.
    Timestamp,
    /// Microseconds since 1970-01-01T00:00:00Z.
    TimestampTz,
    /// Nanoseconds since 1970-01-01T00:00:00, of no time zone: from 1677 to 2262.
    TimestampNs,
    /// Nanoseconds since 1970-01-01T00:00:00Z: from 1677 to 2262.
    TimestampTzNs,
    /// A list, see [`ColumnType::list`]. As the other nested types for columns outside the key.
    List(NestedType),
    /// A struct, see [`ColumnType::structure`].
    Struct(NestedType),
    /// A map, see [`ColumnType::map`].
    Map(NestedType),
}

impl ColumnType {
    /// The Arrow type that batches carry this column in.
    ///
    /// ```
    /// use arrow_schema::DataType;
    /// use moonshine_engine::ColumnType;
    /// assert_eq!(ColumnType::Uuid.arrow_type(), DataType::FixedSizeBinary(16));
    /// ```
    pub fn arrow_type(self) -> DataType {
        match self {
            ColumnType::Boolean => DataType::Boolean,
            ColumnType::Int32 => DataType::Int32,
            ColumnType::Int64 => DataType::Int64,
            ColumnType::Float32 => DataType::Float32,
            ColumnType::Float64 => DataType::Float64,
            ColumnType::Decimal { precision, scale } => {
                DataType::Decimal128(precision, i8::try_from(scale).unwrap_or(i8::MAX))
            }
            ColumnType::Utf8 => DataType::Utf8,
            ColumnType::Binary => DataType::Binary,
            ColumnType::Uuid => DataType::FixedSizeBinary(16),
            ColumnType::Date => DataType::Date32,
            ColumnType::Time => DataType::Time64(TimeUnit::Microsecond),
            ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            ColumnType::TimestampTz => {
                DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()))
            }
            ColumnType::TimestampNs => DataType::Timestamp(TimeUnit::Nanosecond, None),
            ColumnType::TimestampTzNs => {
                DataType::Timestamp(TimeUnit::Nanosecond, Some("+00:00".into()))
            }
            ColumnType::List(nested) => match nested.fields() {
                [element] => DataType::List(Arc::new(element.arrow_field())),
                _ => DataType::Null,
            },
            ColumnType::Struct(nested) => DataType::Struct(arrow_fields(nested)),
            ColumnType::Map(nested) => {
                let entries = DataType::Struct(arrow_fields(nested));
                DataType::Map(Arc::new(Field::new("key_value", entries, false)), false)
            }
        }
    }
}

fn arrow_fields(nested: NestedType) -> Fields {
    nested
        .fields()
        .iter()
        .map(NestedField::arrow_field)
        .collect()
}

impl NestedField {
    /// Its field in Arrow's type; the field id stands where it does for columns.
    fn arrow_field(&self) -> Field {
        arrow_field(&self.name, self.column_type, self.nullable, self.field_id)
    }
}

/// The Arrow field of a column or of a part of one, which carries its field id under `PARQUET:field_id`.
pub(super) fn arrow_field(
    name: &str,
    column_type: ColumnType,
    nullable: bool,
    field_id: i32,
) -> Field {
    Field::new(name, column_type.arrow_type(), nullable)
        .with_metadata([("PARQUET:field_id".to_owned(), field_id.to_string())].into())
}

impl std::fmt::Display for ColumnType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ColumnType::Boolean => f.write_str("boolean"),
            ColumnType::Int32 => f.write_str("int32"),
            ColumnType::Int64 => f.write_str("int64"),
            ColumnType::Float32 => f.write_str("float32"),
            ColumnType::Float64 => f.write_str("float64"),
            ColumnType::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            ColumnType::Utf8 => f.write_str("string"),
            ColumnType::Binary => f.write_str("binary"),
            ColumnType::Uuid => f.write_str("uuid"),
            ColumnType::Date => f.write_str("date"),
            ColumnType::Time => f.write_str("time"),
            ColumnType::Timestamp => f.write_str("timestamp"),
            ColumnType::TimestampTz => f.write_str("timestamptz"),
            ColumnType::TimestampNs => f.write_str("timestamp_ns"),
            ColumnType::TimestampTzNs => f.write_str("timestamptz_ns"),
            ColumnType::List(_) | ColumnType::Struct(_) | ColumnType::Map(_) => self.fmt_nested(f),
        }
    }
}

impl std::str::FromStr for ColumnType {
    type Err = Error;

    /// Reads what [`Display`](std::fmt::Display) writes.
    ///
    /// ```
    /// use moonshine_engine::ColumnType;
    /// assert_eq!("decimal(10, 2)".parse::<ColumnType>()?, ColumnType::Decimal { precision: 10, scale: 2 });
    /// # Ok::<(), moonshine_engine::Error>(())
    /// ```
    fn from_str(text: &str) -> Result<Self> {
        let unknown = || {
            Error::Schema(format!(
                "unknown column type '{text}'; the types are boolean, int32, int64, float32, float64, \
                 decimal(p,s), string, binary, uuid, date, time, timestamp, timestamptz, timestamp_ns, \
                 timestamptz_ns, list<t>, map<k, v>, struct<name: t, …>, where a t may end in 'not null'"
            ))
        };
        let text = text.trim();
        if let Some(arguments) = text
            .strip_prefix("decimal(")
            .and_then(|t| t.strip_suffix(')'))
        {
            let (precision, scale) = arguments.split_once(',').ok_or_else(unknown)?;
            return Ok(ColumnType::Decimal {
                precision: precision.trim().parse().map_err(|_| unknown())?,
                scale: scale.trim().parse().map_err(|_| unknown())?,
            });
        }
        if text.ends_with('>') {
            return ColumnType::parse_nested(text).ok_or_else(unknown);
        }
        Ok(match text {
            "boolean" | "bool" => ColumnType::Boolean,
            "int32" | "int" => ColumnType::Int32,
            "int64" | "long" => ColumnType::Int64,
            "float32" | "float" => ColumnType::Float32,
            "float64" | "double" => ColumnType::Float64,
            "string" => ColumnType::Utf8,
            "binary" => ColumnType::Binary,
            "uuid" => ColumnType::Uuid,
            "date" => ColumnType::Date,
            "time" => ColumnType::Time,
            "timestamp" => ColumnType::Timestamp,
            "timestamptz" => ColumnType::TimestampTz,
            "timestamp_ns" => ColumnType::TimestampNs,
            "timestamptz_ns" => ColumnType::TimestampTzNs,
            _ => return Err(unknown()),
        })
    }
}
