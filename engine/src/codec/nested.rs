//! Values of lists, structs and maps as bytes.
//!
//! What lies in them is encoded as the columns of a row are ([`super::row`]): a bitmap of nulls and the values that are not
//! null. A struct is its fields; a list the number of its elements and these; a map the number of its entries, the keys and
//! the values. A nested value within another stands behind its length, as text does.

use super::row::{ValueRef, decode_value, encode_values};
use super::{Malformed, Reader, put_varint};
use crate::schema::{ColumnType, NestedField};
use crate::value::Value;

/// Encodes a list, struct or map.
pub(crate) fn encode_nested(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::List(elements) => {
            put_varint(out, elements.len() as u64);
            encode_values(elements.iter().map(ValueRef::from), out);
        }
        Value::Struct(fields) => encode_values(fields.iter().map(ValueRef::from), out),
        Value::Map(entries) => {
            put_varint(out, entries.len() as u64);
            encode_values(entries.iter().map(|(key, _)| key.into()), out);
            encode_values(entries.iter().map(|(_, value)| value.into()), out);
        }
        // Nothing else is nested.
        _ => {}
    }
}

/// Takes so many values off the front, the type of each given by its number, and calls `each` with them.
pub(crate) fn decode_slots<'b>(
    reader: &mut Reader<'b>,
    count: usize,
    type_of: impl Fn(usize) -> Option<ColumnType>,
    mut each: impl FnMut(usize, ValueRef<'b>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let nulls = reader.bytes(count.div_ceil(8))?;
    for i in 0..count {
        let byte = nulls.get(i / 8);
        let value = match byte.is_some_and(|byte| byte >> (i % 8) & 1 == 1) {
            true => ValueRef::Null,
            false => {
                let column_type = type_of(i).ok_or(Malformed("more values than the type has"))?;
                decode_value(column_type, reader)?
            }
        };
        each(i, value)?;
    }
    Ok(())
}

/// How many elements or entries follow.
pub(crate) fn decode_count(reader: &mut Reader<'_>) -> Result<usize, Malformed> {
    usize::try_from(reader.varint()?).map_err(|_| Malformed("more values than can be"))
}

/// Decodes a list, struct or map of that type.
pub(crate) fn decode_nested(column_type: ColumnType, bytes: &[u8]) -> Result<Value, Malformed> {
    let mut reader = Reader::new(bytes);
    let fields = column_type.nested_fields();
    let value = match (column_type, fields) {
        (ColumnType::List(_), [element]) => {
            let count = decode_count(&mut reader)?;
            Value::List(values_of(&mut reader, count, element)?)
        }
        (ColumnType::Map(_), [key, value]) => {
            let count = decode_count(&mut reader)?;
            let keys = values_of(&mut reader, count, key)?;
            let values = values_of(&mut reader, count, value)?;
            Value::Map(keys.into_iter().zip(values).collect())
        }
        (ColumnType::Struct(_), fields) => {
            let mut values = Vec::with_capacity(fields.len());
            let type_of = |i: usize| fields.get(i).map(|field| field.column_type);
            decode_slots(&mut reader, fields.len(), type_of, |i, value| {
                let column_type = type_of(i).ok_or(Malformed("more fields than the struct has"))?;
                values.push(value.to_value(column_type)?);
                Ok(())
            })?;
            Value::Struct(values)
        }
        _ => return Err(Malformed("a value of no nested type")),
    };
    reader.finish()?;
    Ok(value)
}

/// So many values of one type.
fn values_of(
    reader: &mut Reader<'_>,
    count: usize,
    of: &NestedField,
) -> Result<Vec<Value>, Malformed> {
    let mut values = Vec::new();
    let type_of = |_| Some(of.column_type);
    decode_slots(reader, count, type_of, |_, value| {
        values.push(value.to_value(of.column_type)?);
        Ok(())
    })?;
    Ok(values)
}

/// A value of a type from before a change, as the type of today has it: fields are found by their ids.
pub(crate) fn translated(value: Value, from: ColumnType, to: ColumnType) -> Value {
    let (old, new) = (from.nested_fields(), to.nested_fields());
    let part = |value: Value, at: usize| match (old.get(at), new.get(at)) {
        (Some(old), Some(new)) => translated(value, old.column_type, new.column_type),
        _ => value,
    };
    match (value, to) {
        (Value::Int32(v), ColumnType::Int64) => Value::Int64(i64::from(v)),
        (Value::Float32(v), ColumnType::Float64) => Value::Float64(f64::from(v)),
        (Value::List(elements), _) => {
            let elements = elements.into_iter().map(|element| part(element, 0));
            Value::List(elements.collect())
        }
        (Value::Map(entries), _) => {
            let entries = entries.into_iter();
            let entries = entries.map(|(key, value)| (part(key, 0), part(value, 1)));
            Value::Map(entries.collect())
        }
        (Value::Struct(mut values), _) => {
            let fields = new.iter().map(|field| {
                let at = old.iter().position(|old| old.field_id == field.field_id);
                let found = at.and_then(|at| Some((old.get(at)?, values.get_mut(at)?)));
                found.map_or(Value::Null, |(old, value)| {
                    let value = std::mem::replace(value, Value::Null);
                    translated(value, old.column_type, field.column_type)
                })
            });
            Value::Struct(fields.collect())
        }
        (value, _) => value,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::value::tests::{any_nested_type, any_value};

    proptest! {
        #[test]
        fn nested_values_round_trip(
            (column_type, value) in any_nested_type().prop_flat_map(|t| (Just(t), any_value(t))),
        ) {
            let mut bytes = Vec::new();
            encode_nested(&value, &mut bytes);
            let found = decode_nested(column_type, &bytes);
            // As text, in which a NaN is equal to itself.
            prop_assert_eq!(format!("{found:?}"), format!("{:?}", Ok::<_, Malformed>(value)));
        }

        /// *Honest*: bytes that are no value of the type are told from those that are.
        #[test]
        fn any_bytes_decode_or_are_malformed(
            column_type in any_nested_type(),
            bytes in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let _ = decode_nested(column_type, &bytes);
        }
    }

    #[test]
    fn fields_are_found_by_their_ids() {
        let field = |name: &str, column_type, field_id| NestedField {
            field_id,
            ..NestedField::new(name, column_type, true)
        };
        let of = |fields: Vec<NestedField>| {
            let inner = ColumnType::structure(fields);
            ColumnType::list(inner, true)
        };
        let old = of(vec![
            field("a", ColumnType::Int32, 5),
            field("b", ColumnType::Utf8, 6),
        ]);
        let new = of(vec![
            field("b", ColumnType::Utf8, 7),
            field("renamed", ColumnType::Int64, 5),
        ]);
        let row = |values: Vec<Value>| Value::List(vec![Value::Struct(values), Value::Null]);
        let before = row(vec![Value::Int32(-3), Value::Utf8("x".into())]);
        let expected = row(vec![Value::Null, Value::Int64(-3)]);
        assert_eq!(translated(before.clone(), old, new), expected);
        assert_eq!(translated(before.clone(), old, old), before);
    }
}
