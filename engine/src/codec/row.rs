//! The columns outside the primary key as bytes: a bitmap of nulls, then each value that is not null, in column order.
//!
//! Numbers are little-endian and as wide as their type; text, bytes and what [`super::nested`] encodes stand behind a LEB128
//! length.

use super::nested::{decode_nested, encode_nested};
use super::versions::{current_values, put_row_version};
use super::{Malformed, Reader, put_varint};
use crate::schema::{ColumnType, TableSchema};
use crate::value::{Row, Value};

/// Encodes the values outside the key. The row has been checked against the schema.
pub(crate) fn encode_row(schema: &TableSchema, row: &[Value], out: &mut Vec<u8>) {
    put_row_version(schema, out);
    let outside = row
        .iter()
        .enumerate()
        .filter(|(position, _)| !schema.is_key(*position));
    encode_values(outside.map(|(_, value)| ValueRef::from(value)), out);
}

/// Encodes values that are those outside the key, in column order.
pub(crate) fn encode_values<'v>(
    values: impl Iterator<Item = ValueRef<'v>> + Clone,
    out: &mut Vec<u8>,
) {
    let mut bitmap = 0u8;
    let mut bits = 0;
    for value in values.clone() {
        bitmap |= u8::from(value.is_null()) << bits;
        bits += 1;
        if bits == 8 {
            out.push(bitmap);
            (bitmap, bits) = (0, 0);
        }
    }
    if bits > 0 {
        out.push(bitmap);
    }
    for value in values {
        encode_value(value, out);
    }
}

pub(crate) fn encode_value(value: ValueRef<'_>, out: &mut Vec<u8>) {
    match value {
        ValueRef::Null => {}
        ValueRef::Boolean(v) => out.push(u8::from(v)),
        ValueRef::Int32(v) => out.extend_from_slice(&v.to_le_bytes()),
        ValueRef::Int64(v) => out.extend_from_slice(&v.to_le_bytes()),
        ValueRef::Float32(v) => out.extend_from_slice(&v.to_le_bytes()),
        ValueRef::Float64(v) => out.extend_from_slice(&v.to_le_bytes()),
        ValueRef::Decimal(v) => out.extend_from_slice(&v.to_le_bytes()),
        ValueRef::Uuid(v) => out.extend_from_slice(&v),
        ValueRef::Bytes(v) => {
            put_varint(out, v.len() as u64);
            out.extend_from_slice(v);
        }
        ValueRef::Nested(v) => {
            let mut bytes = Vec::new();
            encode_nested(v, &mut bytes);
            encode_value(ValueRef::Bytes(&bytes), out);
        }
    }
}

/// A value, borrowed from where it stands: as it is encoded, without the difference between types of one encoding.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ValueRef<'a> {
    Null,
    Boolean(bool),
    Int32(i32),
    Int64(i64),
    Float32(f32),
    Float64(f64),
    Decimal(i128),
    Uuid([u8; 16]),
    /// Text, bytes, or a list, struct or map that is encoded.
    Bytes(&'a [u8]),
    /// A list, struct or map that is to be encoded.
    Nested(&'a Value),
}

impl ValueRef<'_> {
    pub(crate) fn is_null(self) -> bool {
        matches!(self, ValueRef::Null)
    }

    /// The value of a column of that type.
    pub(crate) fn to_value(self, column_type: ColumnType) -> Result<Value, Malformed> {
        Ok(match (self, column_type) {
            (ValueRef::Null, _) => Value::Null,
            (ValueRef::Boolean(v), _) => Value::Boolean(v),
            (ValueRef::Int32(v), ColumnType::Date) => Value::Date(v),
            (ValueRef::Int32(v), _) => Value::Int32(v),
            (ValueRef::Int64(v), ColumnType::Time) => Value::Time(v),
            (ValueRef::Int64(v), ColumnType::Timestamp) => Value::Timestamp(v),
            (ValueRef::Int64(v), ColumnType::TimestampTz) => Value::TimestampTz(v),
            (ValueRef::Int64(v), ColumnType::TimestampNs) => Value::TimestampNs(v),
            (ValueRef::Int64(v), ColumnType::TimestampTzNs) => Value::TimestampTzNs(v),
            (ValueRef::Int64(v), _) => Value::Int64(v),
            (ValueRef::Float32(v), _) => Value::Float32(v),
            (ValueRef::Float64(v), _) => Value::Float64(v),
            (ValueRef::Decimal(v), _) => Value::Decimal(v),
            (ValueRef::Uuid(v), _) => Value::Uuid(v),
            (ValueRef::Bytes(v), ColumnType::Utf8) => Value::Utf8(
                std::str::from_utf8(v)
                    .map_err(|_| Malformed("text is not UTF-8"))?
                    .to_owned(),
            ),
            (ValueRef::Bytes(v), nested) if nested.is_nested() => decode_nested(nested, v)?,
            (ValueRef::Bytes(v), _) => Value::Binary(v.to_vec()),
            (ValueRef::Nested(v), _) => v.clone(),
        })
    }
}

impl<'v> From<&'v Value> for ValueRef<'v> {
    fn from(value: &'v Value) -> Self {
        match value {
            Value::Null => ValueRef::Null,
            Value::Boolean(v) => ValueRef::Boolean(*v),
            Value::Int32(v) | Value::Date(v) => ValueRef::Int32(*v),
            Value::Int64(v)
            | Value::Time(v)
            | Value::Timestamp(v)
            | Value::TimestampTz(v)
            | Value::TimestampNs(v)
            | Value::TimestampTzNs(v) => ValueRef::Int64(*v),
            Value::Float32(v) => ValueRef::Float32(*v),
            Value::Float64(v) => ValueRef::Float64(*v),
            Value::Decimal(v) => ValueRef::Decimal(*v),
            Value::Utf8(v) => ValueRef::Bytes(v.as_bytes()),
            Value::Binary(v) => ValueRef::Bytes(v),
            Value::Uuid(v) => ValueRef::Uuid(*v),
            Value::List(_) | Value::Struct(_) | Value::Map(_) => ValueRef::Nested(value),
        }
    }
}

/// Calls `each` with the values outside the key, in column order: one for each such column of the schema. The bytes are
/// those of the schema's version, and without it, see [`current_values`].
pub(crate) fn decode_row<'a>(
    schema: &TableSchema,
    bytes: &'a [u8],
    mut each: impl FnMut(usize, ValueRef<'a>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let columns = schema.columns();
    let value_count = columns.len() - schema.primary_key().len();
    let mut reader = Reader::new(bytes);
    let nulls = reader.bytes(value_count.div_ceil(8))?;
    let mut i = 0;
    for (position, column) in columns.iter().enumerate() {
        if schema.is_key(position) {
            continue;
        }
        let null = nulls
            .get(i / 8)
            .is_some_and(|byte| byte >> (i % 8) & 1 == 1);
        i += 1;
        let value = if null {
            ValueRef::Null
        } else {
            decode_value(column.column_type, &mut reader)?
        };
        each(position, value)?;
    }
    reader.finish()
}

pub(crate) fn decode_value<'a>(
    column_type: ColumnType,
    reader: &mut Reader<'a>,
) -> Result<ValueRef<'a>, Malformed> {
    Ok(match column_type {
        ColumnType::Boolean => ValueRef::Boolean(reader.u8()? != 0),
        ColumnType::Int32 | ColumnType::Date => {
            ValueRef::Int32(i32::from_le_bytes(reader.array()?))
        }
        ColumnType::Int64
        | ColumnType::Time
        | ColumnType::Timestamp
        | ColumnType::TimestampTz
        | ColumnType::TimestampNs
        | ColumnType::TimestampTzNs => ValueRef::Int64(i64::from_le_bytes(reader.array()?)),
        ColumnType::Float32 => ValueRef::Float32(f32::from_le_bytes(reader.array()?)),
        ColumnType::Float64 => ValueRef::Float64(f64::from_le_bytes(reader.array()?)),
        ColumnType::Decimal { .. } => ValueRef::Decimal(i128::from_le_bytes(reader.array()?)),
        ColumnType::Uuid => ValueRef::Uuid(reader.array()?),
        ColumnType::Utf8
        | ColumnType::Binary
        | ColumnType::List(_)
        | ColumnType::Struct(_)
        | ColumnType::Map(_) => {
            let len = usize::try_from(reader.varint()?).map_err(|_| Malformed("value too long"))?;
            ValueRef::Bytes(reader.bytes(len)?)
        }
    })
}

/// Puts key values and encoded values together into a whole row.
pub(crate) fn join_row(
    schema: &TableSchema,
    key: Vec<Value>,
    bytes: &[u8],
) -> Result<Row, Malformed> {
    let mut row = vec![Value::Null; schema.columns().len()];
    for (value, &position) in key.into_iter().zip(schema.primary_key()) {
        *row.get_mut(position)
            .ok_or(Malformed("key column out of range"))? = value;
    }
    let bytes = current_values(schema, bytes)?;
    decode_row(schema, &bytes, |position, value| {
        let column = schema.columns().get(position);
        let column = column.ok_or(Malformed("column out of range"))?;
        let slot = row
            .get_mut(position)
            .ok_or(Malformed("column out of range"))?;
        *slot = value.to_value(column.column_type)?;
        Ok(())
    })?;
    Ok(row)
}
