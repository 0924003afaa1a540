//! Values in the server's text form, the one of each type's `out` function.

use std::str::FromStr;

use moonshine_engine::Value;

use super::{DAY_US, PgType, array, numeric, time_of_day};

pub(super) fn decode(pg_type: &PgType, text: &str) -> Result<Value, String> {
    Ok(match pg_type {
        PgType::Bool => match text {
            "t" => Value::Boolean(true),
            "f" => Value::Boolean(false),
            _ => return Err(format!("'{text}' is no boolean")),
        },
        PgType::Int2 => Value::Int32(i32::from(number::<i16>(text)?)),
        PgType::Int4 => Value::Int32(number(text)?),
        PgType::Int8 => Value::Int64(number(text)?),
        PgType::Float4 => Value::Float32(number(text)?),
        PgType::Float8 => Value::Float64(number(text)?),
        &PgType::Decimal { scale, .. } => Value::Decimal(numeric::unscaled_from_text(text, scale)?),
        PgType::NumericText | PgType::Text | PgType::Json | PgType::Jsonb => {
            Value::Utf8(text.to_owned())
        }
        PgType::Bytea => Value::Binary(bytea(text)?),
        PgType::Date => Value::Date(date(text)?),
        PgType::Time => time_of_day(time_us(text).ok_or_else(|| format!("'{text}' is no time"))?)?,
        PgType::Timestamp => Value::Timestamp(timestamp_us(text)?),
        PgType::TimestampTz => Value::TimestampTz(timestamptz_us(text)?),
        PgType::Uuid => Value::Uuid(uuid(text)?),
        PgType::Array(element) => array::from_text(element, text)?,
    })
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("'{text}' is no number of its column's type"))
}

fn bytea(text: &str) -> Result<Vec<u8>, String> {
    text.strip_prefix("\\x")
        .and_then(hex)
        .ok_or_else(|| "a bytea that is not in hex form".into())
}

fn uuid(text: &str) -> Result<[u8; 16], String> {
    let digits: String = text.chars().filter(|&c| c != '-').collect();
    hex(&digits)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| format!("'{text}' is no uuid"))
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    text.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}

/// Days since 1970-01-01 of `YYYY-MM-DD`, with ` BC` behind it for years before 1.
fn date(text: &str) -> Result<i32, String> {
    if text == "infinity" || text == "-infinity" {
        return Err("an infinite date".into());
    }
    let (plain, before_christ) = strip_era(text);
    date_days(plain, before_christ)
        .and_then(|days| i32::try_from(days).ok())
        .ok_or_else(|| format!("'{text}' is no date"))
}

fn strip_era(text: &str) -> (&str, bool) {
    match text.strip_suffix(" BC") {
        Some(plain) => (plain, true),
        None => (text, false),
    }
}

fn date_days(text: &str, before_christ: bool) -> Option<i64> {
    let mut parts = text.splitn(3, '-');
    let mut part = || unsigned(parts.next()?);
    let (year, month, day) = (part()?, part()?, part()?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // The year before 1 is 1 BC: astronomical year 0.
    let year = if before_christ { 1 - year } else { year };
    Some(days_from_civil(year, month, day))
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar. Years count from March, so that the leap day comes last
/// and the months before it follow one linear formula.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    const ERA_YEARS: i64 = 400;
    const ERA_DAYS: i64 = 146_097;
    const DAYS_0000_03_01_TO_1970_01_01: i64 = 719_468;
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(ERA_YEARS);
    let year_of_era = year.rem_euclid(ERA_YEARS);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * ERA_DAYS + day_of_era - DAYS_0000_03_01_TO_1970_01_01
}

/// Microseconds of `HH:MM:SS[.ffffff]`.
fn time_us(text: &str) -> Option<i64> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = clock.splitn(3, ':');
    let mut part = || unsigned(parts.next()?);
    let (hours, minutes, seconds) = (part()?, part()?, part()?);
    if hours > 24 || minutes > 59 || seconds > 59 || fraction.len() > 6 {
        return None;
    }
    let fraction_us = match fraction {
        "" => 0,
        digits => unsigned(digits)? * 10i64.pow(u32::try_from(6 - digits.len()).ok()?),
    };
    Some(((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + fraction_us)
}

/// A number of up to 9 digits; a sign is not one of them.
fn unsigned(text: &str) -> Option<i64> {
    if text.is_empty() || text.len() > 9 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn timestamp_us(text: &str) -> Result<i64, String> {
    if text == "infinity" || text == "-infinity" {
        return Err("an infinite timestamp".into());
    }
    let (plain, before_christ) = strip_era(text);
    let (date, time) = plain.split_once(' ').ok_or_else(|| no_timestamp(text))?;
    let days = date_days(date, before_christ).ok_or_else(|| no_timestamp(text))?;
    let time_us = time_us(time).ok_or_else(|| no_timestamp(text))?;
    days.checked_mul(DAY_US)
        .and_then(|days_us| days_us.checked_add(time_us))
        .ok_or_else(out_of_range)
}

fn no_timestamp(text: &str) -> String {
    format!("'{text}' is no timestamp")
}

fn out_of_range() -> String {
    "a timestamp after the year 294246".into()
}

/// As [`timestamp_us`], of a time with an offset from UTC (`+HH[:MM[:SS]]`) behind it.
fn timestamptz_us(text: &str) -> Result<i64, String> {
    if text == "infinity" || text == "-infinity" {
        return Err("an infinite timestamp".into());
    }
    let (plain, before_christ) = strip_era(text);
    let time_at = plain.find(' ').ok_or_else(|| no_timestamp(text))?;
    let offset_at = plain
        .rfind(['+', '-'])
        .filter(|&at| at > time_at)
        .ok_or_else(|| no_timestamp(text))?;
    let (local, offset) = plain.split_at(offset_at);
    let local_us = if before_christ {
        timestamp_us(&format!("{local} BC"))?
    } else {
        timestamp_us(local)?
    };
    let offset_us = offset_us(offset).ok_or_else(|| no_timestamp(text))?;
    local_us.checked_sub(offset_us).ok_or_else(out_of_range)
}

fn offset_us(text: &str) -> Option<i64> {
    let (negative, clock) = match text.split_at_checked(1)? {
        ("-", clock) => (true, clock),
        (_, clock) => (false, clock),
    };
    let mut seconds = 0;
    let mut unit_seconds = 3600;
    for part in clock.splitn(3, ':') {
        seconds += unsigned(part)? * unit_seconds;
        unit_seconds /= 60;
    }
    Some(if negative { -seconds } else { seconds } * 1_000_000)
}
