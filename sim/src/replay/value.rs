//! Values of rows, equal only if they are the same to the bit.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType, TimestampNanosecondType,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, TimeUnit};
use serde_json::Value as Json;

use super::types::{Field, Type};
use super::{Finding, Result};

/// A value. Floating-point numbers are their bits, so that values have an order and minus zero is not zero.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// Nothing.
    Null,
    /// True or false.
    Boolean(bool),
    /// 32 bits.
    Int(i32),
    /// 64 bits.
    Long(i64),
    /// The bits of 32.
    Float(u32),
    /// The bits of 64.
    Double(u64),
    /// The number without its point, and how many digits are behind that.
    Decimal(i128, i8),
    /// Days since 1970.
    Date(i32),
    /// Microseconds since midnight.
    Time(i64),
    /// Microseconds since 1970.
    Timestamp(i64),
    /// Microseconds since 1970, in UTC.
    Timestamptz(i64),
    /// Nanoseconds since 1970.
    TimestampNs(i64),
    /// Nanoseconds since 1970, in UTC.
    TimestamptzNs(i64),
    /// Text.
    String(String),
    /// Bytes.
    Binary(Vec<u8>),
    /// A UUID.
    Uuid([u8; 16]),
    /// Fields by their ids.
    Struct(Vec<(i32, Value)>),
    /// Elements in their order.
    List(Vec<Value>),
    /// Pairs in their order.
    Map(Vec<(Value, Value)>),
}

/// Where an Arrow field has its id.
pub(super) const FIELD_ID: &str = "PARQUET:field_id";

/// The id that a field of a file has.
pub(super) fn field_id(field: &arrow_schema::Field) -> Option<i32> {
    field.metadata().get(FIELD_ID)?.parse().ok()
}

fn mismatch(wanted: &Type, found: &DataType) -> Finding {
    Finding::new("a value", format!("{found} where {wanted:?} is expected"))
}

/// The value of a row of an Arrow array, as a column of that type has it. Types that were widened since the array was written
/// are widened here. Fields of structs are found by their ids, and by name where the array has no ids.
///
/// # Errors
/// A [`Finding`] if the array is of no type that may stand for the wanted one.
pub fn from_arrow(array: &ArrayRef, row: usize, wanted: &Type) -> Result<Value> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    let found = array.data_type();
    Ok(match (wanted, found) {
        (Type::Boolean, DataType::Boolean) => Value::Boolean(array.as_boolean().value(row)),
        (Type::Int, DataType::Int32) => Value::Int(array.as_primitive::<Int32Type>().value(row)),
        (Type::Long, DataType::Int32) => {
            Value::Long(array.as_primitive::<Int32Type>().value(row).into())
        }
        (Type::Long, DataType::Int64) => Value::Long(array.as_primitive::<Int64Type>().value(row)),
        (Type::Float, DataType::Float32) => {
            Value::Float(array.as_primitive::<Float32Type>().value(row).to_bits())
        }
        (Type::Double, DataType::Float32) => {
            let value = f64::from(array.as_primitive::<Float32Type>().value(row));
            Value::Double(value.to_bits())
        }
        (Type::Double, DataType::Float64) => {
            Value::Double(array.as_primitive::<Float64Type>().value(row).to_bits())
        }
        (Type::Decimal(precision, scale), DataType::Decimal128(has_precision, has_scale))
            if scale == has_scale && has_precision <= precision =>
        {
            Value::Decimal(array.as_primitive::<Decimal128Type>().value(row), *scale)
        }
        (Type::String, DataType::Utf8) => {
            Value::String(array.as_string::<i32>().value(row).to_owned())
        }
        (Type::Binary, DataType::Binary) => {
            Value::Binary(array.as_binary::<i32>().value(row).to_vec())
        }
        (Type::Uuid, DataType::FixedSizeBinary(16)) => {
            let bytes = array.as_fixed_size_binary().value(row);
            Value::Uuid(bytes.try_into().map_err(|_| mismatch(wanted, found))?)
        }
        (Type::Struct(fields), DataType::Struct(_)) => struct_value(array, row, fields)?,
        (Type::List(element), DataType::List(_)) => {
            let elements = array.as_list::<i32>().value(row);
            let values = (0..elements.len()).map(|row| from_arrow(&elements, row, element));
            Value::List(values.collect::<Result<_>>()?)
        }
        (Type::Map(key_type, value_type), DataType::Map(..)) => {
            let pairs = array.as_map().value(row);
            let (keys, values) = (pairs.column(0), pairs.column(1));
            let pair = |row| {
                let key = from_arrow(keys, row, key_type)?;
                Ok((key, from_arrow(values, row, value_type)?))
            };
            Value::Map((0..pairs.len()).map(pair).collect::<Result<_>>()?)
        }
        _ => return temporal(array, row, wanted),
    })
}

fn temporal(array: &ArrayRef, row: usize, wanted: &Type) -> Result<Value> {
    let found = array.data_type();
    let micros = || array.as_primitive::<TimestampMicrosecondType>().value(row);
    let nanos = || array.as_primitive::<TimestampNanosecondType>().value(row);
    Ok(match (wanted, found) {
        (Type::Date, DataType::Date32) => {
            Value::Date(array.as_primitive::<Date32Type>().value(row))
        }
        (Type::Time, DataType::Time64(TimeUnit::Microsecond)) => {
            Value::Time(array.as_primitive::<Time64MicrosecondType>().value(row))
        }
        (Type::Timestamp, DataType::Timestamp(TimeUnit::Microsecond, None)) => {
            Value::Timestamp(micros())
        }
        (Type::Timestamptz, DataType::Timestamp(TimeUnit::Microsecond, Some(_))) => {
            Value::Timestamptz(micros())
        }
        (Type::TimestampNs, DataType::Timestamp(TimeUnit::Nanosecond, None)) => {
            Value::TimestampNs(nanos())
        }
        (Type::TimestamptzNs, DataType::Timestamp(TimeUnit::Nanosecond, Some(_))) => {
            Value::TimestamptzNs(nanos())
        }
        _ => return Err(mismatch(wanted, found)),
    })
}

fn struct_value(array: &ArrayRef, row: usize, fields: &[Field]) -> Result<Value> {
    let parts = array.as_struct();
    let value = |field: &Field| {
        let found = parts.fields().iter().position(|part| {
            field_id(part).map_or_else(|| *part.name() == field.name, |id| id == field.id)
        });
        let value = match found {
            Some(position) => from_arrow(parts.column(position), row, &field.field_type)?,
            None => default(field)?,
        };
        Ok((field.id, value))
    };
    Ok(Value::Struct(
        fields.iter().map(value).collect::<Result<_>>()?,
    ))
}

/// What a row has in a column that its file lacks.
pub(super) fn default(field: &Field) -> Result<Value> {
    let Some(json) = field
        .initial_default
        .as_ref()
        .filter(|json| !json.is_null())
    else {
        return Ok(Value::Null);
    };
    let failed = || {
        let what = format!("the default {json} of column '{}'", field.name);
        Finding::new("a schema", what)
    };
    from_json(json, &field.field_type).ok_or_else(failed)
}

/// A value as JSON in the form of the specification's appendix C, of the types that this tree gives defaults.
fn from_json(json: &Json, wanted: &Type) -> Option<Value> {
    let text = json.as_str();
    Some(match wanted {
        Type::Boolean => Value::Boolean(json.as_bool()?),
        Type::Int => Value::Int(json.as_i64()?.try_into().ok()?),
        Type::Long => Value::Long(json.as_i64()?),
        #[allow(clippy::cast_possible_truncation, reason = "the default is a float's")]
        Type::Float => Value::Float((json.as_f64()? as f32).to_bits()),
        Type::Double => Value::Double(json.as_f64()?.to_bits()),
        Type::String => Value::String(text?.to_owned()),
        Type::Decimal(_, scale) => {
            let digits: String = text?
                .chars()
                .filter(|character| *character != '.')
                .collect();
            Value::Decimal(digits.parse().ok()?, *scale)
        }
        Type::Uuid => Value::Uuid(text?.parse::<uuid::Uuid>().ok()?.into_bytes()),
        Type::Date => Value::Date(days(text?)?),
        Type::Binary => Value::Binary(unhex(text?)?),
        Type::Time => Value::Time(micros_of_day(text?)?),
        Type::Timestamp => Value::Timestamp(micros(text?)?),
        Type::Timestamptz => Value::Timestamptz(micros(text?.strip_suffix("+00:00")?)?),
        _ => return None,
    })
}

/// Days since 1970 of `YYYY-MM-DD`, by Howard Hinnant's `days_from_civil`.
fn days(text: &str) -> Option<i32> {
    let mut parts = text.rsplitn(3, '-').map(str::parse::<i32>);
    let (day, month) = (parts.next()?.ok()?, parts.next()?.ok()?);
    let year = parts.next()?.ok()? - i32::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let starts = (0..text.len()).step_by(2);
    starts
        .map(|start| u8::from_str_radix(text.get(start..start + 2)?, 16).ok())
        .collect()
}

/// Microseconds of `HH:MM:SS.ffffff`, whose fraction may be missing or shorter.
fn micros_of_day(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let parts: Vec<i64> = whole
        .split(':')
        .map(|part| part.parse().ok())
        .collect::<Option<_>>()?;
    let seconds = parts.iter().fold(0, |seconds, part| seconds * 60 + part);
    let micros: i64 = format!("{fraction:0<6}").parse().ok()?;
    (parts.len() == 3).then_some(seconds * 1_000_000 + micros)
}

/// Microseconds since 1970 of `YYYY-MM-DDTHH:MM:SS.ffffff`.
fn micros(text: &str) -> Option<i64> {
    let (date, time) = text.split_once('T')?;
    Some(i64::from(days(date)?) * 86_400_000_000 + micros_of_day(time)?)
}
