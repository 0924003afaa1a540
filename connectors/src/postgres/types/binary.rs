//! Values in the server's binary form, the one of each type's `send` function.

use moonshine_engine::Value;
use postgres_protocol::types as wire;

use super::{POSTGRES_EPOCH_DAYS, POSTGRES_EPOCH_US, PgType, array, numeric, time_of_day};

pub(super) fn decode(pg_type: &PgType, bytes: &[u8]) -> Result<Value, String> {
    let sized = |error: Box<dyn std::error::Error + Sync + Send>| {
        format!(
            "{} bytes are no {} value: {error}",
            bytes.len(),
            pg_type.column_type()
        )
    };
    Ok(match pg_type {
        PgType::Bool => Value::Boolean(wire::bool_from_sql(bytes).map_err(sized)?),
        PgType::Int2 => Value::Int32(i32::from(wire::int2_from_sql(bytes).map_err(sized)?)),
        PgType::Int4 => Value::Int32(wire::int4_from_sql(bytes).map_err(sized)?),
        PgType::Int8 => Value::Int64(wire::int8_from_sql(bytes).map_err(sized)?),
        PgType::Float4 => Value::Float32(wire::float4_from_sql(bytes).map_err(sized)?),
        PgType::Float8 => Value::Float64(wire::float8_from_sql(bytes).map_err(sized)?),
        &PgType::Decimal { scale, .. } => {
            Value::Decimal(numeric::Numeric::from_binary(bytes)?.unscaled(scale)?)
        }
        PgType::NumericText => Value::Utf8(numeric::Numeric::from_binary(bytes)?.to_text()),
        PgType::Text | PgType::Json => Value::Utf8(utf8(bytes)?),
        PgType::Jsonb => match bytes.split_first() {
            Some((1, text)) => Value::Utf8(utf8(text)?),
            _ => return Err("jsonb of an unknown version".into()),
        },
        PgType::Bytea => Value::Binary(bytes.to_vec()),
        PgType::Date => date(wire::date_from_sql(bytes).map_err(sized)?)?,
        PgType::Time => time_of_day(wire::time_from_sql(bytes).map_err(sized)?)?,
        PgType::Timestamp => Value::Timestamp(timestamp_us(
            wire::timestamp_from_sql(bytes).map_err(sized)?,
        )?),
        PgType::TimestampTz => Value::TimestampTz(timestamp_us(
            wire::timestamp_from_sql(bytes).map_err(sized)?,
        )?),
        PgType::Uuid => Value::Uuid(wire::uuid_from_sql(bytes).map_err(sized)?),
        PgType::Array(element) => array::from_binary(element, bytes)?,
    })
}

fn utf8(bytes: &[u8]) -> Result<String, String> {
    std::str::from_utf8(bytes)
        .map(str::to_owned)
        .map_err(|_| "the text is not UTF-8".into())
}

fn date(days: i32) -> Result<Value, String> {
    if days == i32::MAX || days == i32::MIN {
        return Err("an infinite date".into());
    }
    let days = days
        .checked_add(POSTGRES_EPOCH_DAYS)
        .ok_or("a date out of range")?;
    Ok(Value::Date(days))
}

fn timestamp_us(since_2000_us: i64) -> Result<i64, String> {
    if since_2000_us == i64::MAX || since_2000_us == i64::MIN {
        return Err("an infinite timestamp".into());
    }
    since_2000_us
        .checked_add(POSTGRES_EPOCH_US)
        .ok_or_else(|| "a timestamp after the year 294246".into())
}
