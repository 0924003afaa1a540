//! The primary key as bytes that sort as the key does.
//!
//! Numbers are big-endian with the sign bit flipped, floats in IEEE 754 total order. Text and bytes that another
//! column follows are escaped (00 → 00 FF) and end in 00 00, so that a prefix sorts first; in last place they stand as
//! they are, which makes the key of a key-value table the key itself.

use xxhash_rust::xxh3::xxh3_64;

use super::row::ValueRef;
use super::{Malformed, Reader};
use crate::error::{Error, Result};
use crate::schema::{ColumnType, TableSchema};
use crate::value::Value;

/// Longest encoded key, in bytes.
pub(crate) const KEY_SIZE_BYTES_MAX: usize = 64 * 1024;

/// The hash of a key, which the row keeps for the rest of its life.
#[inline]
pub(crate) fn hash_key(key: &[u8]) -> u64 {
    xxh3_64(key)
}

/// Encodes key values given in primary-key order; checks their number, types and length.
pub(crate) fn encode_key<'a>(
    schema: &TableSchema,
    values: impl ExactSizeIterator<Item = &'a Value>,
    out: &mut Vec<u8>,
) -> Result<()> {
    let count = schema.primary_key().len();
    if values.len() != count {
        return Err(Error::Row(format!(
            "table '{}': a key of {} values, the primary key has {count} columns",
            schema.name(),
            values.len()
        )));
    }
    encode_key_prefix(schema, values, out)
}

/// Encodes the first columns of a key; all of them make the key itself.
pub(crate) fn encode_key_prefix<'a>(
    schema: &TableSchema,
    values: impl Iterator<Item = &'a Value>,
    out: &mut Vec<u8>,
) -> Result<()> {
    let start = out.len();
    let last = schema.primary_key().len() - 1;
    for (i, (value, column)) in values.zip(schema.key_columns()).enumerate() {
        value.check(schema.name(), column)?;
        encode_key_value(value.into(), i == last, out);
    }
    check_key_size(schema, out.get(start..).unwrap_or_default())
}

/// The first eight bytes of a key, so that numbers compare as keys do; shorter keys are filled up with zeros.
#[inline]
pub(crate) fn prefix_of(key: &[u8]) -> u64 {
    match key.first_chunk::<8>() {
        Some(first) => u64::from_be_bytes(*first),
        None => key
            .iter()
            .zip([56, 48, 40, 32, 24, 16, 8])
            .fold(0, |prefix, (byte, shift)| {
                prefix | u64::from(*byte) << shift
            }),
    }
}

/// Checks that key bytes are not too long.
pub(crate) fn check_key_size(schema: &TableSchema, key: &[u8]) -> Result<()> {
    if key.len() > KEY_SIZE_BYTES_MAX {
        return Err(Error::Row(format!(
            "table '{}': a key of {} bytes, at most {KEY_SIZE_BYTES_MAX} are supported",
            schema.name(),
            key.len()
        )));
    }
    Ok(())
}

/// Encodes one column of a key; `last` if none follows.
pub(crate) fn encode_key_value(value: ValueRef<'_>, last: bool, out: &mut Vec<u8>) {
    match value {
        // A key column is not null and not nested; who calls has seen to it.
        ValueRef::Null | ValueRef::Nested(_) => {}
        ValueRef::Boolean(v) => out.push(u8::from(v)),
        ValueRef::Int32(v) => out.extend_from_slice(&(v ^ i32::MIN).to_be_bytes()),
        ValueRef::Int64(v) => out.extend_from_slice(&(v ^ i64::MIN).to_be_bytes()),
        ValueRef::Float32(v) => {
            let bits = v.to_bits();
            let ordered = if bits >> 31 == 0 {
                bits ^ (1 << 31)
            } else {
                !bits
            };
            out.extend_from_slice(&ordered.to_be_bytes());
        }
        ValueRef::Float64(v) => {
            let bits = v.to_bits();
            let ordered = if bits >> 63 == 0 {
                bits ^ (1 << 63)
            } else {
                !bits
            };
            out.extend_from_slice(&ordered.to_be_bytes());
        }
        ValueRef::Decimal(v) => out.extend_from_slice(&(v ^ i128::MIN).to_be_bytes()),
        ValueRef::Uuid(v) => out.extend_from_slice(&v),
        ValueRef::Bytes(v) => encode_key_bytes(v, last, out),
    }
}

/// Bytes that each value of a type takes in a key; `None` for text, binary and what no key has.
pub(crate) fn fixed_key_size_bytes(column_type: ColumnType) -> Option<usize> {
    match column_type {
        ColumnType::Boolean => Some(1),
        ColumnType::Int32 | ColumnType::Date | ColumnType::Float32 => Some(4),
        ColumnType::Int64
        | ColumnType::Time
        | ColumnType::Timestamp
        | ColumnType::TimestampTz
        | ColumnType::TimestampNs
        | ColumnType::TimestampTzNs
        | ColumnType::Float64 => Some(8),
        ColumnType::Decimal { .. } | ColumnType::Uuid => Some(16),
        ColumnType::Utf8
        | ColumnType::Binary
        | ColumnType::List(_)
        | ColumnType::Struct(_)
        | ColumnType::Map(_) => None,
    }
}

fn encode_key_bytes(bytes: &[u8], last: bool, out: &mut Vec<u8>) {
    if last {
        out.extend_from_slice(bytes);
        return;
    }
    for &byte in bytes {
        out.push(byte);
        if byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

/// Decodes a key into its values, in primary-key order.
pub(crate) fn decode_key(schema: &TableSchema, key: &[u8]) -> Result<Vec<Value>, Malformed> {
    let mut reader = Reader::new(key);
    let mut scratch = Vec::new();
    let last = schema.primary_key().len() - 1;
    let values = schema
        .key_columns()
        .enumerate()
        .map(|(i, column)| {
            let column_type = column.column_type;
            decode_key_value(column_type, i == last, &mut reader, &mut scratch)?
                .to_value(column_type)
        })
        .collect::<Result<Vec<_>, _>>()?;
    reader.finish()?;
    Ok(values)
}

/// Decodes one column of a key, `last` if none follows. Bytes that are escaped are put into `scratch`.
#[inline]
pub(crate) fn decode_key_value<'a, 'r: 'a>(
    column_type: ColumnType,
    last: bool,
    reader: &mut Reader<'r>,
    scratch: &'a mut Vec<u8>,
) -> Result<ValueRef<'a>, Malformed> {
    Ok(match column_type {
        ColumnType::Boolean => ValueRef::Boolean(reader.u8()? != 0),
        ColumnType::Int32 | ColumnType::Date => {
            ValueRef::Int32(i32::from_be_bytes(reader.array()?) ^ i32::MIN)
        }
        ColumnType::Int64
        | ColumnType::Time
        | ColumnType::Timestamp
        | ColumnType::TimestampTz
        | ColumnType::TimestampNs
        | ColumnType::TimestampTzNs => {
            ValueRef::Int64(i64::from_be_bytes(reader.array()?) ^ i64::MIN)
        }
        ColumnType::Float32 => ValueRef::Float32(decode_f32(reader.array()?)),
        ColumnType::Float64 => ValueRef::Float64(decode_f64(reader.array()?)),
        ColumnType::Decimal { .. } => {
            ValueRef::Decimal(i128::from_be_bytes(reader.array()?) ^ i128::MIN)
        }
        ColumnType::Uuid => ValueRef::Uuid(reader.array()?),
        ColumnType::Utf8 | ColumnType::Binary if last => {
            ValueRef::Bytes(reader.bytes(reader.remaining().len())?)
        }
        ColumnType::Utf8 | ColumnType::Binary => {
            scratch.clear();
            unescape(reader, scratch)?;
            ValueRef::Bytes(scratch)
        }
        ColumnType::List(_) | ColumnType::Struct(_) | ColumnType::Map(_) => {
            return Err(Malformed("a nested value in a key"));
        }
    })
}

/// A float of a key, whose bits sort as floats do.
pub(crate) fn decode_f32(bytes: [u8; 4]) -> f32 {
    let ordered = u32::from_be_bytes(bytes);
    f32::from_bits(if ordered >> 31 == 1 {
        ordered ^ (1 << 31)
    } else {
        !ordered
    })
}

/// A float of a key, whose bits sort as floats do.
pub(crate) fn decode_f64(bytes: [u8; 8]) -> f64 {
    let ordered = u64::from_be_bytes(bytes);
    f64::from_bits(if ordered >> 63 == 1 {
        ordered ^ (1 << 63)
    } else {
        !ordered
    })
}

/// Appends bytes that stand escaped in a key, up to their end.
pub(crate) fn unescape(reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
    loop {
        match reader.u8()? {
            0 => match reader.u8()? {
                0 => return Ok(()),
                0xff => out.push(0),
                _ => return Err(Malformed("bad escape in a key")),
            },
            byte => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use proptest::prelude::*;

    use super::*;
    use crate::value::tests::{any_key_type, any_value};

    fn schema(types: &[ColumnType]) -> TableSchema {
        let mut builder = TableSchema::builder("t");
        let names: Vec<_> = (0..types.len()).map(|i| format!("c{i}")).collect();
        for (name, column_type) in names.iter().zip(types) {
            builder = builder.column(name, *column_type, false);
        }
        builder.primary_key(names).build().unwrap()
    }

    fn order(a: &Value, b: &Value) -> Ordering {
        match (a, b) {
            (Value::Boolean(a), Value::Boolean(b)) => a.cmp(b),
            (Value::Int32(a), Value::Int32(b)) | (Value::Date(a), Value::Date(b)) => a.cmp(b),
            (Value::Int64(a), Value::Int64(b))
            | (Value::Time(a), Value::Time(b))
            | (Value::Timestamp(a), Value::Timestamp(b))
            | (Value::TimestampTz(a), Value::TimestampTz(b))
            | (Value::TimestampNs(a), Value::TimestampNs(b))
            | (Value::TimestampTzNs(a), Value::TimestampTzNs(b)) => a.cmp(b),
            (Value::Float32(a), Value::Float32(b)) => a.total_cmp(b),
            (Value::Float64(a), Value::Float64(b)) => a.total_cmp(b),
            (Value::Decimal(a), Value::Decimal(b)) => a.cmp(b),
            (Value::Uuid(a), Value::Uuid(b)) => a.cmp(b),
            (Value::Utf8(a), Value::Utf8(b)) => a.cmp(b),
            (Value::Binary(a), Value::Binary(b)) => a.cmp(b),
            _ => panic!("{a:?} and {b:?} are of different types"),
        }
    }

    proptest! {
        #[test]
        fn keys_round_trip_and_sort_as_their_values(
            (types, a, b) in prop::collection::vec(any_key_type(), 1..4).prop_flat_map(|types| {
                let values = || types.iter().map(|t| any_value(*t)).collect::<Vec<_>>();
                (Just(types.clone()), values(), values())
            })
        ) {
            let schema = schema(&types);
            let encode = |values: &[Value]| {
                let mut out = Vec::new();
                encode_key(&schema, values.iter(), &mut out).unwrap();
                out
            };
            let (key_a, key_b) = (encode(&a), encode(&b));
            prop_assert_eq!(format!("{:?}", decode_key(&schema, &key_a)), format!("{:?}", Ok::<_, Malformed>(a.clone())));
            let expected = a.iter().zip(&b).map(|(a, b)| order(a, b)).find(|o| o.is_ne()).unwrap_or(Ordering::Equal);
            prop_assert_eq!(key_a.cmp(&key_b), expected);
        }

        #[test]
        fn any_bytes_decode_or_are_malformed(
            types in prop::collection::vec(any_key_type(), 1..4),
            bytes in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let _ = decode_key(&schema(&types), &bytes);
        }
    }
}
