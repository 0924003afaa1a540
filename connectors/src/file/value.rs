//! One JSON value as a value of its column.

use std::borrow::Cow;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Timelike, Utc};
use moonshine_engine::{ColumnType, Value};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::decimal;

/// What Debezium writes in place of a column that the source left out as unchanged.
const UNAVAILABLE: &str = "__debezium_unavailable_value";
/// The same in a column of bytes.
const UNAVAILABLE_BASE64: &str = "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==";

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// How to read the JSON values of one column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decoder {
    /// The column's type.
    pub(super) column_type: ColumnType,
    /// The form of the values.
    pub(super) form: Form,
}

/// The form of a column's JSON values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The natural one: decimals as number or text, dates and times as ISO 8601 text or as days and the column's unit, bytes as
    /// base64, a UUID as text.
    Natural,
    /// Times as milliseconds.
    Millis,
    /// Times as microseconds.
    Micros,
    /// Times as nanoseconds.
    Nanos,
    /// Decimals as base64 of the unscaled number, of this many digits after the point.
    Unscaled(i64),
}

/// Decimals that carry their scale along: Debezium's `VariableScaleDecimal`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScaledDecimal<'a> {
    scale: i64,
    #[serde(borrow)]
    value: Cow<'a, str>,
}

impl Decoder {
    /// Reads a value; `None` if it is unchanged and has to come from the row that is there.
    pub(super) fn decode(self, raw: &str) -> Result<Option<Value>, String> {
        if raw == "null" {
            return Ok(Some(Value::Null));
        }
        let value = match self.column_type {
            ColumnType::Boolean => Value::Boolean(self.parsed(raw)?),
            ColumnType::Int32 => Value::Int32(self.parsed(raw)?),
            ColumnType::Int64 => Value::Int64(self.parsed(raw)?),
            ColumnType::Float32 => {
                let number: f32 = self.parsed(float_text(raw))?;
                self.finite(raw, number.is_finite())
                    .map(|()| Value::Float32(number))?
            }
            ColumnType::Float64 => {
                let number: f64 = self.parsed(float_text(raw))?;
                self.finite(raw, number.is_finite())
                    .map(|()| Value::Float64(number))?
            }
            ColumnType::Decimal { precision, scale } => {
                Value::Decimal(self.decimal(raw, precision, scale)?)
            }
            ColumnType::Utf8 => match self.text(raw)? {
                text if text == UNAVAILABLE => return Ok(None),
                text => Value::Utf8(text.into_owned()),
            },
            ColumnType::Binary => match self.text(raw)? {
                text if text == UNAVAILABLE || text == UNAVAILABLE_BASE64 => return Ok(None),
                text => Value::Binary(base64_bytes(&text)?),
            },
            ColumnType::Uuid => Value::Uuid(self.uuid(raw)?),
            ColumnType::Date => Value::Date(self.date(raw)?),
            ColumnType::Time => Value::Time(self.time(raw)?),
            ColumnType::Timestamp => Value::Timestamp(self.timestamp(raw, false)?),
            ColumnType::TimestampTz => Value::TimestampTz(self.timestamp(raw, true)?),
            ColumnType::TimestampNs => Value::TimestampNs(self.timestamp_ns(raw, false)?),
            ColumnType::TimestampTzNs => Value::TimestampTzNs(self.timestamp_ns(raw, true)?),
            nested @ (ColumnType::List(_) | ColumnType::Struct(_) | ColumnType::Map(_)) => {
                return super::nested::decode(nested, raw);
            }
        };
        Ok(Some(value))
    }

    fn misfit(self, raw: &str) -> String {
        let shown: String = raw.chars().take(80).collect();
        format!("{shown} does not fit {}", self.column_type)
    }

    fn parsed<T: FromStr>(self, raw: &str) -> Result<T, String> {
        raw.parse().map_err(|_| self.misfit(raw))
    }

    /// Only the text forms may say infinite; a number that overflows may not become it.
    fn finite(self, raw: &str, is_finite: bool) -> Result<(), String> {
        if is_finite || raw.starts_with('"') {
            Ok(())
        } else {
            Err(self.misfit(raw))
        }
    }

    fn text(self, raw: &str) -> Result<Cow<'_, str>, String> {
        string(raw).unwrap_or_else(|| Err(self.misfit(raw)))
    }

    fn decimal(self, raw: &str, precision: u8, scale: u8) -> Result<i128, String> {
        if let Form::Unscaled(own_scale) = self.form {
            return decimal::from_bytes(
                &base64_bytes(&self.text(raw)?)?,
                own_scale,
                precision,
                scale,
            );
        }
        if raw.starts_with('{') {
            let number: ScaledDecimal<'_> =
                serde_json::from_str(raw).map_err(|_| self.misfit(raw))?;
            return decimal::from_bytes(
                &base64_bytes(&number.value)?,
                number.scale,
                precision,
                scale,
            );
        }
        match string(raw) {
            Some(text) => decimal::from_text(&text?, precision, scale),
            None => decimal::from_text(raw, precision, scale),
        }
    }

    fn uuid(self, raw: &str) -> Result<[u8; 16], String> {
        let text = self.text(raw)?;
        let mut nibbles = 0usize;
        let mut number: u128 = 0;
        for (position, byte) in text.bytes().enumerate() {
            if byte == b'-' && matches!(position, 8 | 13 | 18 | 23) {
                continue;
            }
            let digit = char::from(byte)
                .to_digit(16)
                .ok_or_else(|| self.misfit(raw))?;
            number = number << 4 | u128::from(digit);
            nibbles += 1;
        }
        if nibbles == 32 {
            Ok(number.to_be_bytes())
        } else {
            Err(self.misfit(raw))
        }
    }

    fn date(self, raw: &str) -> Result<i32, String> {
        let Some(text) = string(raw) else {
            return self.parsed(raw);
        };
        let date = NaiveDate::from_str(&text?).map_err(|_| self.misfit(raw))?;
        i32::try_from(date.signed_duration_since(NaiveDate::default()).num_days())
            .map_err(|_| self.misfit(raw))
    }

    fn time(self, raw: &str) -> Result<i64, String> {
        let micros = match string(raw) {
            Some(text) => {
                let time = NaiveTime::from_str(&text?).map_err(|_| self.misfit(raw))?;
                let nanos = i64::from(time.num_seconds_from_midnight()) * 1_000_000_000
                    + i64::from(time.nanosecond());
                self.micros_of_nanos(raw, nanos)?
            }
            None => self.micros(raw)?,
        };
        if (0..MICROS_PER_DAY).contains(&micros) {
            Ok(micros)
        } else {
            Err(self.misfit(raw))
        }
    }

    fn timestamp(self, raw: &str, with_zone: bool) -> Result<i64, String> {
        let Some(text) = string(raw) else {
            return self.micros(raw);
        };
        let moment = self.moment(raw, &text?, with_zone)?;
        if !moment.nanosecond().is_multiple_of(1000) {
            return Err(self.too_fine(raw));
        }
        Ok(moment.timestamp_micros())
    }

    fn timestamp_ns(self, raw: &str, with_zone: bool) -> Result<i64, String> {
        if let Some(text) = string(raw) {
            let moment = self.moment(raw, &text?, with_zone)?;
            return moment.timestamp_nanos_opt().ok_or_else(|| self.misfit(raw));
        }
        let unit_ns = match self.form {
            Form::Millis => 1_000_000,
            Form::Micros => 1000,
            Form::Nanos | Form::Natural | Form::Unscaled(_) => 1,
        };
        let number: i64 = self.parsed(raw)?;
        number.checked_mul(unit_ns).ok_or_else(|| self.misfit(raw))
    }

    /// The moment that text says in ISO 8601.
    fn moment(self, raw: &str, text: &str, with_zone: bool) -> Result<DateTime<Utc>, String> {
        match DateTime::parse_from_rfc3339(text) {
            Ok(moment) if with_zone => Ok(moment.to_utc()),
            Err(_) if !with_zone => NaiveDateTime::from_str(text)
                .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f"))
                .map(|moment| moment.and_utc())
                .map_err(|_| self.misfit(raw)),
            _ => {
                let need = if with_zone {
                    "a time zone is missing or the text"
                } else {
                    "a time zone, or the text"
                };
                Err(format!("{} ({need} is not ISO 8601)", self.misfit(raw)))
            }
        }
    }

    /// A number in the unit of the form, as microseconds.
    fn micros(self, raw: &str) -> Result<i64, String> {
        let number: i64 = self.parsed(raw)?;
        match self.form {
            Form::Millis => number.checked_mul(1000).ok_or_else(|| self.misfit(raw)),
            Form::Nanos => self.micros_of_nanos(raw, number),
            Form::Natural | Form::Micros | Form::Unscaled(_) => Ok(number),
        }
    }

    fn micros_of_nanos(self, raw: &str, nanos: i64) -> Result<i64, String> {
        if nanos % 1000 == 0 {
            Ok(nanos / 1000)
        } else {
            Err(self.too_fine(raw))
        }
    }

    fn too_fine(self, raw: &str) -> String {
        format!(
            "{} exactly: it is finer than a microsecond",
            self.misfit(raw)
        )
    }
}

/// The text of a JSON string; `None` if the value is none.
pub(super) fn string(raw: &str) -> Option<Result<Cow<'_, str>, String>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Ok(Cow::Borrowed(inner)));
    }
    Some(
        serde_json::from_str::<String>(raw)
            .map(Cow::Owned)
            .map_err(|_| format!("{raw} is not a valid JSON string")),
    )
}

/// The text of an optional JSON string that has to be one.
pub(super) fn optional_string(raw: Option<&RawValue>) -> Option<Cow<'_, str>> {
    string(raw?.get())?.ok()
}

fn base64_bytes(text: &str) -> Result<Vec<u8>, String> {
    BASE64
        .decode(text)
        .map_err(|error| format!("not base64: {error}"))
}

/// A JSON number, or one of the texts that stand for what JSON has no number for.
fn float_text(raw: &str) -> &str {
    match raw {
        "\"NaN\"" => "NaN",
        "\"Infinity\"" => "inf",
        "\"-Infinity\"" => "-inf",
        "NaN" | "inf" | "infinity" => "",
        number => number,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(column_type: &str, form: Form, raw: &str) -> Result<Option<Value>, String> {
        Decoder {
            column_type: column_type.parse().unwrap(),
            form,
        }
        .decode(raw)
    }

    fn natural(column_type: &str, raw: &str) -> Value {
        decode(column_type, Form::Natural, raw).unwrap().unwrap()
    }

    #[test]
    fn natural_forms() {
        assert_eq!(natural("boolean", "true"), Value::Boolean(true));
        assert_eq!(natural("int32", "-2147483648"), Value::Int32(i32::MIN));
        assert_eq!(
            natural("int64", "9223372036854775807"),
            Value::Int64(i64::MAX)
        );
        assert_eq!(natural("float32", "1.1"), Value::Float32(1.1));
        assert_eq!(natural("float64", "1e300"), Value::Float64(1e300));
        assert_eq!(
            natural("float64", "\"-Infinity\""),
            Value::Float64(f64::NEG_INFINITY)
        );
        assert!(matches!(natural("float32", "\"NaN\""), Value::Float32(number) if number.is_nan()));
        assert_eq!(natural("decimal(10,2)", "12.5"), Value::Decimal(1250));
        assert_eq!(
            natural("decimal(10,2)", "\"-12.50\""),
            Value::Decimal(-1250)
        );
        assert_eq!(
            natural("decimal(10,2)", r#"{"scale":1,"value":"fQ=="}"#),
            Value::Decimal(1250)
        );
        assert_eq!(
            natural("string", r#""a\"\u00e9\n""#),
            Value::Utf8("a\"é\n".into())
        );
        assert_eq!(
            natural("binary", "\"AAH/\""),
            Value::Binary(vec![0, 1, 255])
        );
        let uuid = Value::Uuid(0x123e_4567_e89b_12d3_a456_4266_1417_4000_u128.to_be_bytes());
        assert_eq!(
            natural("uuid", "\"123E4567-e89b-12d3-a456-426614174000\""),
            uuid
        );
        assert_eq!(natural("date", "\"1969-12-31\""), Value::Date(-1));
        assert_eq!(natural("date", "19000"), Value::Date(19000));
        assert_eq!(natural("time", "\"00:00:01.5\""), Value::Time(1_500_000));
        assert_eq!(natural("time", "86399999999"), Value::Time(86_399_999_999));
        assert_eq!(
            natural("timestamp", "\"1970-01-01T00:00:01.000001\""),
            Value::Timestamp(1_000_001)
        );
        assert_eq!(
            natural("timestamp", "\"1970-01-01 00:00:01\""),
            Value::Timestamp(1_000_000)
        );
        assert_eq!(
            natural("timestamptz", "\"1970-01-01T02:00:00+02:00\""),
            Value::TimestampTz(0)
        );
        assert_eq!(
            natural("timestamptz", "1700000000000000"),
            Value::TimestampTz(1_700_000_000_000_000)
        );
        assert_eq!(
            natural("timestamp_ns", "\"1969-12-31T23:59:59.999999999\""),
            Value::TimestampNs(-1)
        );
        assert_eq!(
            natural("timestamp_ns", "-9223372036854775808"),
            Value::TimestampNs(i64::MIN)
        );
        assert_eq!(
            natural("timestamptz_ns", "\"2262-04-11T23:47:16.854775807Z\""),
            Value::TimestampTzNs(i64::MAX)
        );
        assert_eq!(natural("uuid", "null"), Value::Null);
    }

    #[test]
    fn units_and_unscaled_decimals() {
        assert_eq!(
            decode("timestamp", Form::Millis, "1500"),
            Ok(Some(Value::Timestamp(1_500_000)))
        );
        assert_eq!(
            decode("timestamp", Form::Nanos, "1500000"),
            Ok(Some(Value::Timestamp(1500)))
        );
        assert!(
            decode("timestamp", Form::Nanos, "1500001")
                .unwrap_err()
                .contains("finer than a microsecond")
        );
        assert!(decode("timestamp", Form::Millis, "9223372036854775807").is_err());
        for (form, ns) in [
            (Form::Millis, -7_000_000),
            (Form::Micros, -7000),
            (Form::Nanos, -7),
        ] {
            let value = decode("timestamp_ns", form, "-7");
            assert_eq!(value, Ok(Some(Value::TimestampNs(ns))));
        }
        assert!(decode("timestamp_ns", Form::Micros, "9223372036854775807").is_err());
        assert_eq!(
            decode("time", Form::Millis, "1000"),
            Ok(Some(Value::Time(1_000_000)))
        );
        assert_eq!(
            decode("decimal(10,3)", Form::Unscaled(2), "\"BOI=\""),
            Ok(Some(Value::Decimal(12500)))
        );
    }

    #[test]
    fn unavailable_values_are_unchanged_columns() {
        assert_eq!(
            decode("string", Form::Natural, "\"__debezium_unavailable_value\""),
            Ok(None)
        );
        assert_eq!(
            decode("binary", Form::Natural, "\"__debezium_unavailable_value\""),
            Ok(None)
        );
        assert_eq!(
            decode(
                "binary",
                Form::Natural,
                &format!("\"{}\"", BASE64.encode(UNAVAILABLE))
            ),
            Ok(None)
        );
    }

    #[test]
    fn misfits_name_the_type() {
        for (column_type, raw) in [
            ("boolean", "1"),
            ("int32", "2147483648"),
            ("int64", "1.5"),
            ("int64", "\"1\""),
            ("float32", "1e39"),
            ("float64", "1e999"),
            ("float64", "\"one\""),
            ("string", "1"),
            ("string", "{\"a\":1}"),
            ("binary", "1"),
            ("uuid", "\"123e4567\""),
            ("uuid", "\"123e4567e89b12d3a45642661417400-\""),
            ("date", "\"2024-02-30\""),
            ("time", "86400000000"),
            ("time", "-1"),
            ("time", "\"00:00:00.0000001\""),
            ("timestamp", "\"2024-01-01T00:00:00Z\""),
            ("timestamptz", "\"2024-01-01T00:00:00\""),
            ("timestamp", "\"soon\""),
            ("timestamp_ns", "\"2263-01-01T00:00:00\""),
            ("timestamptz_ns", "\"2024-01-01T00:00:00\""),
        ] {
            let error = decode(column_type, Form::Natural, raw).unwrap_err();
            assert!(
                error.contains(&format!("does not fit {column_type}")),
                "{column_type} {raw}: {error}"
            );
        }
        assert!(
            decode("binary", Form::Natural, "\"%\"")
                .unwrap_err()
                .contains("base64")
        );
        assert!(
            decode("decimal(4,2)", Form::Natural, "100")
                .unwrap_err()
                .contains("decimal(4,2)")
        );
    }
}
