//! Partitions: each row of a file has the values that the file's entry says.

use apache_avro::types::Value as Avro;
use serde_json::Value as Json;

use super::avro::{Record, bytes, number};
use super::manifest::File;
use super::metadata::Metadata;
use super::types::{Schema, Type, id, list, number as json_number, text};
use super::value::Value;
use super::{Finding, Result, ensure};

/// How files are divided.
#[derive(Debug)]
pub(super) struct Spec {
    pub(super) id: i64,
    fields: Vec<SpecField>,
}

#[derive(Debug)]
struct SpecField {
    source_id: i32,
    name: String,
    transform: Transform,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transform {
    Identity,
    Bucket(i32),
    Truncate(i64),
    Year,
    Month,
    Day,
    Hour,
    Void,
}

impl Transform {
    fn parse(text: &str) -> Option<Transform> {
        let argument = |name: &str| text.strip_prefix(name)?.strip_suffix(']')?.parse().ok();
        Some(match text {
            "identity" => Transform::Identity,
            "year" => Transform::Year,
            "month" => Transform::Month,
            "day" => Transform::Day,
            "hour" => Transform::Hour,
            "void" => Transform::Void,
            _ => match (argument("bucket["), argument("truncate[")) {
                (Some(count), _) => Transform::Bucket(i32::try_from(count).ok()?),
                (_, Some(width)) => Transform::Truncate(width),
                _ => return None,
            },
        })
    }

    fn apply(self, value: &Value) -> Option<Value> {
        if *value == Value::Null || self == Transform::Void {
            return Some(Value::Null);
        }
        let days = || match value {
            Value::Date(days) => Some(i64::from(*days)),
            _ => Some(micros(value)?.div_euclid(86_400_000_000)),
        };
        Some(match self {
            Transform::Identity => widened(value.clone()),
            Transform::Bucket(count) => {
                let hash = hash(value)?;
                Value::Long(i64::from((hash & i32::MAX) % count))
            }
            Transform::Truncate(width) => truncate(value, width)?,
            Transform::Year => Value::Long(year_and_month(days()?).0 - 1970),
            Transform::Month => {
                let (year, month) = year_and_month(days()?);
                Value::Long((year - 1970) * 12 + month - 1)
            }
            Transform::Day => Value::Long(days()?),
            Transform::Hour => Value::Long(micros(value)?.div_euclid(3_600_000_000)),
            Transform::Void => Value::Null,
        })
    }
}

fn micros(value: &Value) -> Option<i64> {
    match value {
        Value::Timestamp(micros) | Value::Timestamptz(micros) | Value::Time(micros) => {
            Some(*micros)
        }
        Value::TimestampNs(nanos) | Value::TimestamptzNs(nanos) => Some(nanos.div_euclid(1000)),
        _ => None,
    }
}

/// The year and month of a day, by Howard Hinnant's `civil_from_days`.
fn year_and_month(days: i64) -> (i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = (shifted_month + 2) % 12 + 1;
    (year_of_era + era * 400 + i64::from(month <= 2), month)
}

fn truncate(value: &Value, width: i64) -> Option<Value> {
    Some(match value {
        Value::Int(number) => {
            let width = i32::try_from(width).ok()?;
            Value::Long(number.wrapping_sub(number.rem_euclid(width)).into())
        }
        Value::Long(number) => Value::Long(number.wrapping_sub(number.rem_euclid(width))),
        Value::Decimal(number, scale) => {
            Value::Decimal(number - number.rem_euclid(i128::from(width)), *scale)
        }
        Value::String(text) => {
            Value::String(text.chars().take(usize::try_from(width).ok()?).collect())
        }
        Value::Binary(bytes) => {
            let end = bytes.len().min(usize::try_from(width).ok()?);
            Value::Binary(bytes.get(..end)?.to_vec())
        }
        _ => return None,
    })
}

/// The hash of the specification's appendix B.
fn hash(value: &Value) -> Option<i32> {
    let long = |number: i64| murmur3(&number.to_le_bytes());
    Some(match value {
        Value::Int(number) | Value::Date(number) => long((*number).into()),
        Value::Long(number) => long(*number),
        Value::Decimal(number, _) => murmur3(minimal(&number.to_be_bytes())),
        Value::String(text) => murmur3(text.as_bytes()),
        Value::Binary(bytes) => murmur3(bytes),
        Value::Uuid(bytes) => murmur3(bytes),
        _ => long(micros(value)?),
    })
}

/// A big-endian number of two's complement, in as few bytes as can be.
fn minimal(bytes: &[u8]) -> &[u8] {
    match bytes {
        [0x00, next, ..] if *next < 0x80 => minimal(bytes.get(1..).unwrap_or_default()),
        [0xFF, next, ..] if *next >= 0x80 => minimal(bytes.get(1..).unwrap_or_default()),
        _ => bytes,
    }
}

/// MurmurHash3, x86, 32 bits, seed 0, by Austin Appleby.
fn murmur3(bytes: &[u8]) -> i32 {
    let mix = |block: u32| {
        let block = block.wrapping_mul(0xcc9e_2d51).rotate_left(15);
        block.wrapping_mul(0x1b87_3593)
    };
    let (blocks, rest) = bytes.as_chunks::<4>();
    let mut hash = 0_u32;
    for block in blocks {
        hash = (hash ^ mix(u32::from_le_bytes(*block))).rotate_left(13);
        hash = hash.wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    if !rest.is_empty() {
        let bytes = rest.iter().rev();
        hash ^= mix(bytes.fold(0, |block, byte| (block << 8) | u32::from(*byte)));
    }
    hash ^= u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    (hash ^ (hash >> 16)).cast_signed()
}

/// Numbers of either width are one, since columns are widened and entries stay.
fn widened(value: Value) -> Value {
    match value {
        Value::Int(number) => Value::Long(number.into()),
        value => value,
    }
}

impl Spec {
    pub(super) fn parse(json: &Json) -> Result<Spec> {
        let field = |json: &Json| {
            let transform = text(json, "transform")?;
            let unknown = || Finding::new("a partition spec", format!("transform {transform}"));
            Ok(SpecField {
                source_id: id(json, "source-id")?,
                name: text(json, "name")?.to_owned(),
                transform: Transform::parse(transform).ok_or_else(unknown)?,
            })
        };
        Ok(Spec {
            id: json_number(json, "spec-id")?,
            fields: list(json, "fields")?
                .iter()
                .map(field)
                .collect::<Result<_>>()?,
        })
    }

    /// The values of an entry's partition.
    pub(super) fn values(
        &self,
        place: &str,
        partition: &Record,
        metadata: &Metadata,
    ) -> Result<Vec<Value>> {
        let count = partition.values().count();
        ensure(count == self.fields.len(), place, || {
            format!("a partition of {count} values")
        })?;
        let of = |(field, (_, value)): (&SpecField, (&str, Option<&Avro>))| {
            let Some(value) = value else {
                return Ok(Value::Null);
            };
            let schemas = metadata.schemas.values().rev();
            let mut sources = schemas.filter_map(|schema| schema.field(field.source_id));
            let source = sources.next().map(|source| &source.field_type);
            let read = entry_value(field.transform, source, value);
            let what = || format!("partition value {value:?} of {}", field.name);
            read.ok_or_else(|| Finding::new(place, what()))
        };
        self.fields.iter().zip(partition.values()).map(of).collect()
    }

    /// Checks that each row belongs where its file is.
    pub(super) fn check(&self, schema: &Schema, file: &File, rows: &[Vec<Value>]) -> Result<()> {
        for (field, expected) in self.fields.iter().zip(&file.partition) {
            // A column that is gone has no values to look at.
            let Some(position) = schema.fields.iter().position(|f| f.id == field.source_id) else {
                continue;
            };
            for value in rows.iter().filter_map(|row| row.get(position)) {
                let found = field.transform.apply(value);
                ensure(found.as_ref() == Some(expected), &file.path, || {
                    format!(
                        "a row of {} = {value:?} in partition {expected:?}",
                        field.name
                    )
                })?;
            }
        }
        Ok(())
    }
}

fn entry_value(transform: Transform, source: Option<&Type>, value: &Avro) -> Option<Value> {
    let is_source = matches!(transform, Transform::Identity | Transform::Truncate(_));
    if !is_source {
        return number(value).map(Value::Long);
    }
    Some(match source? {
        Type::Boolean => match value {
            Avro::Boolean(value) => Value::Boolean(*value),
            _ => return None,
        },
        Type::Int | Type::Long => Value::Long(number(value)?),
        Type::Date => Value::Date(number(value)?.try_into().ok()?),
        Type::Time => Value::Time(number(value)?),
        Type::Timestamp => Value::Timestamp(number(value)?),
        Type::Timestamptz => Value::Timestamptz(number(value)?),
        Type::String => match value {
            Avro::String(text) => Value::String(text.clone()),
            _ => return None,
        },
        Type::Binary => Value::Binary(bytes(value)?),
        Type::Uuid => Value::Uuid(bytes(value)?.try_into().ok()?),
        Type::Decimal(_, scale) => Value::Decimal(signed(&bytes(value)?)?, *scale),
        _ => return None,
    })
}

/// A big-endian number of two's complement.
pub(super) fn signed(bytes: &[u8]) -> Option<i128> {
    let first = *bytes.first()?;
    let begin = if first < 0x80 { 0 } else { -1 };
    (bytes.len() <= 16).then(|| {
        let mut bytes = bytes.iter();
        bytes.try_fold(begin, |number: i128, byte| {
            Some((number << 8) | i128::from(*byte))
        })
    })?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hashes of the specification's appendix B.
    #[test]
    fn hashes_are_those_of_the_specification() {
        let uuid: uuid::Uuid = "f79c3e09-677c-4bbd-a479-3f349cb785e7".parse().unwrap();
        for (value, expected) in [
            (Value::Int(34), 2_017_239_379),
            (Value::Long(34), 2_017_239_379),
            (Value::Decimal(1420, 2), -500_754_589),
            (Value::Date(17_486), -653_330_422),
            (Value::Time(81_068_000_000), -662_762_989),
            (Value::Timestamp(1_510_871_468_000_000), -2_047_944_441),
            (
                Value::TimestampNs(1_510_871_468_000_001_001),
                -1_207_196_810,
            ),
            (Value::String("iceberg".to_owned()), 1_210_000_089),
            (Value::Uuid(uuid.into_bytes()), 1_488_055_340),
            (Value::Binary(vec![0, 1, 2, 3]), -188_683_207),
        ] {
            assert_eq!(hash(&value), Some(expected), "{value:?}");
        }
    }

    #[test]
    fn times_before_1970_are_divided_downwards() {
        let date = Value::Date(-1);
        let apply = |transform: Transform| transform.apply(&date).unwrap();
        assert_eq!(apply(Transform::Year), Value::Long(-1));
        assert_eq!(apply(Transform::Month), Value::Long(-1));
        assert_eq!(apply(Transform::Day), Value::Long(-1));
        assert_eq!(
            Transform::Hour.apply(&Value::Timestamp(-1)),
            Some(Value::Long(-1))
        );
        assert_eq!(
            Transform::Truncate(10).apply(&Value::Int(-1)),
            Some(Value::Long(-10))
        );
        // 2017-11-16.
        let date = Value::Date(17_486);
        assert_eq!(Transform::Year.apply(&date), Some(Value::Long(47)));
        assert_eq!(Transform::Month.apply(&date), Some(Value::Long(574)));
    }
}
