//! PostgreSQL's types: which engine type a column takes, and how its values are read.
//!
//! A value arrives in the server's binary form ([`binary`], from COPY and from a binary stream) or in its text form
//! ([`text`]); both give the same [`Value`]. [`numeric`] reads exact numbers for both, [`array`] arrays.

mod array;
mod binary;
mod numeric;
mod text;

use moonshine_engine::{ColumnType, Value};
use tokio_postgres::types::{Kind, Type};

/// Microseconds from 1970-01-01 to 2000-01-01, where PostgreSQL counts from.
pub(super) const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;
/// Days from 1970-01-01 to 2000-01-01.
const POSTGRES_EPOCH_DAYS: i32 = 10_957;
/// Microseconds of a day.
const DAY_US: i64 = 86_400_000_000;
/// What a numeric's type modifier is shifted by (`VARHDRSZ`).
const TYPE_MODIFIER_OFFSET: i32 = 4;

/// A type whose values can be mirrored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PgType {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    /// `numeric(p,s)` of up to 38 digits.
    Decimal {
        precision: u8,
        scale: u8,
    },
    /// A `numeric` that has more digits or no stated number of them, kept as its exact text.
    NumericText,
    Text,
    Bytea,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Uuid,
    Json,
    Jsonb,
    /// An array of this. PostgreSQL does not say of how many dimensions; those of one can be read.
    Array(Box<PgType>),
}

impl PgType {
    /// The type of a column, by the catalog's `atttypid` and `atttypmod`; `None` if it can't be mirrored.
    pub(super) fn of(type_oid: u32, type_modifier: i32) -> Option<Self> {
        let found = Type::from_oid(type_oid)?;
        Some(match found {
            Type::BOOL => PgType::Bool,
            Type::INT2 => PgType::Int2,
            Type::INT4 => PgType::Int4,
            Type::INT8 => PgType::Int8,
            Type::FLOAT4 => PgType::Float4,
            Type::FLOAT8 => PgType::Float8,
            Type::NUMERIC => numeric_type(type_modifier),
            Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME => PgType::Text,
            Type::BYTEA => PgType::Bytea,
            Type::DATE => PgType::Date,
            Type::TIME => PgType::Time,
            Type::TIMESTAMP => PgType::Timestamp,
            Type::TIMESTAMPTZ => PgType::TimestampTz,
            Type::UUID => PgType::Uuid,
            Type::JSON => PgType::Json,
            Type::JSONB => PgType::Jsonb,
            // The system's own; their subscripts begin at 0.
            Type::INT2_VECTOR | Type::OID_VECTOR => return None,
            _ => match found.kind() {
                Kind::Array(element) => {
                    PgType::Array(Box::new(Self::of(element.oid(), type_modifier)?))
                }
                _ => return None,
            },
        })
    }

    /// The engine's type for it.
    pub(super) fn column_type(&self) -> ColumnType {
        match self {
            PgType::Bool => ColumnType::Boolean,
            PgType::Int2 | PgType::Int4 => ColumnType::Int32,
            PgType::Int8 => ColumnType::Int64,
            PgType::Float4 => ColumnType::Float32,
            PgType::Float8 => ColumnType::Float64,
            &PgType::Decimal { precision, scale } => ColumnType::Decimal { precision, scale },
            PgType::NumericText | PgType::Text | PgType::Json | PgType::Jsonb => ColumnType::Utf8,
            PgType::Bytea => ColumnType::Binary,
            PgType::Date => ColumnType::Date,
            PgType::Time => ColumnType::Time,
            PgType::Timestamp => ColumnType::Timestamp,
            PgType::TimestampTz => ColumnType::TimestampTz,
            PgType::Uuid => ColumnType::Uuid,
            PgType::Array(element) => ColumnType::list(element.column_type(), true),
        }
    }

    /// Reads a value in the server's binary form.
    ///
    /// # Errors
    /// What is wrong with it, for a message that names the column.
    pub(super) fn decode_binary(&self, bytes: &[u8]) -> Result<Value, String> {
        binary::decode(self, bytes)
    }

    /// Reads a value in the server's text form, as sent under `DateStyle = ISO`, `bytea_output = hex` and
    /// `extra_float_digits = 3`.
    ///
    /// # Errors
    /// As [`decode_binary`](Self::decode_binary).
    pub(super) fn decode_text(&self, bytes: &[u8]) -> Result<Value, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "the text is not UTF-8".to_owned())?;
        text::decode(self, text)
    }
}

/// The type modifier of a numeric holds the precision above and an 11-bit signed scale below.
fn numeric_type(type_modifier: i32) -> PgType {
    if type_modifier < TYPE_MODIFIER_OFFSET {
        return PgType::NumericText;
    }
    let modifier = type_modifier - TYPE_MODIFIER_OFFSET;
    let precision = (modifier >> 16) & 0xffff;
    let scale = ((modifier & 0x7ff) ^ 1024) - 1024;
    match (u8::try_from(precision), u8::try_from(scale)) {
        (Ok(precision @ 1..=38), Ok(scale)) if scale <= precision => {
            PgType::Decimal { precision, scale }
        }
        _ => PgType::NumericText,
    }
}

/// Refuses a time that has no place in a day; PostgreSQL also knows 24:00:00.
fn time_of_day(time_us: i64) -> Result<Value, String> {
    if (0..DAY_US).contains(&time_us) {
        return Ok(Value::Time(time_us));
    }
    Err(if time_us == DAY_US {
        "the time 24:00:00 lies outside of a day".into()
    } else {
        format!("a time of {time_us} µs")
    })
}

#[cfg(test)]
mod tests;
