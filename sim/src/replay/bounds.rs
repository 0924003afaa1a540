//! What an entry says of its file's columns: readers leave files out because of it, so nothing of a file may lie outside.

use std::cmp::Ordering;

use super::manifest::File;
use super::partition::signed;
use super::types::{Schema, Type};
use super::value::Value;
use super::{Finding, Result, ensure};

/// Checks counts and bounds of each column against the rows of the file, deleted ones too.
pub(super) fn check(schema: &Schema, file: &File, rows: &[Vec<Value>]) -> Result<()> {
    for (position, field) in schema.fields.iter().enumerate() {
        let values = || rows.iter().filter_map(|row| row.get(position));
        let say = |what: String| format!("column {}: {what}", field.name);
        if let Some(count) = file.value_counts.get(&field.id) {
            ensure(*count == rows.len() as i64, &file.path, || {
                say(format!("{count} values of {}", rows.len()))
            })?;
        }
        if let Some(count) = file.null_counts.get(&field.id) {
            let nulls = values().filter(|value| **value == Value::Null).count();
            ensure(*count == nulls as i64, &file.path, || {
                say(format!("{count} nulls, not {nulls}"))
            })?;
        }
        let bound = |bytes: Option<&Vec<u8>>| match bytes {
            Some(bytes) => match decode(bytes, &field.field_type) {
                Some(bound) => Ok(Some(bound)),
                None => Err(Finding::new(
                    &file.path,
                    say(format!("a bound of {bytes:?}")),
                )),
            },
            None => Ok(None),
        };
        let lower = bound(file.lower_bounds.get(&field.id))?;
        let upper = bound(file.upper_bounds.get(&field.id))?;
        for value in values() {
            let is_outside =
                |bound: &Option<Value>, side| bound.as_ref().and_then(|b| order(value, b)) == side;
            let is_inside = !is_outside(&lower, Some(Ordering::Less))
                && !is_outside(&upper, Some(Ordering::Greater));
            ensure(is_inside, &file.path, || {
                say(format!("{value:?} outside of {lower:?} to {upper:?}"))
            })?;
        }
    }
    Ok(())
}

/// The order of two values of a column; none of null and of NaN.
fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Null, _) => None,
        (Value::Float(left), Value::Float(right)) => {
            f32::from_bits(*left).partial_cmp(&f32::from_bits(*right))
        }
        (Value::Double(left), Value::Double(right)) => {
            f64::from_bits(*left).partial_cmp(&f64::from_bits(*right))
        }
        _ => Some(left.cmp(right)),
    }
}

/// A value in the form of the specification's appendix D; of a column that was widened since it may be the narrower one.
fn decode(bytes: &[u8], wanted: &Type) -> Option<Value> {
    let int = || Some(i32::from_le_bytes(bytes.try_into().ok()?));
    let long = || Some(i64::from_le_bytes(bytes.try_into().ok()?));
    Some(match wanted {
        Type::Boolean => Value::Boolean(*bytes.first()? != 0),
        Type::Int => Value::Int(int()?),
        Type::Long => Value::Long(int().map(i64::from).or_else(long)?),
        Type::Float => Value::Float(int()?.cast_unsigned()),
        Type::Double => {
            let narrow = int().map(|bits| f64::from(f32::from_bits(bits.cast_unsigned())));
            let narrow = narrow.map(f64::to_bits);
            Value::Double(narrow.or_else(|| Some(long()?.cast_unsigned()))?)
        }
        Type::Decimal(_, scale) => Value::Decimal(signed(bytes)?, *scale),
        Type::Date => Value::Date(int()?),
        Type::Time => Value::Time(long()?),
        Type::Timestamp => Value::Timestamp(long()?),
        Type::Timestamptz => Value::Timestamptz(long()?),
        Type::TimestampNs => Value::TimestampNs(long()?),
        Type::TimestamptzNs => Value::TimestamptzNs(long()?),
        Type::String => Value::String(String::from_utf8(bytes.to_vec()).ok()?),
        Type::Binary => Value::Binary(bytes.to_vec()),
        Type::Uuid => Value::Uuid(bytes.try_into().ok()?),
        Type::Struct(_) | Type::List(_) | Type::Map(..) => return None,
    })
}
