//! One-dimensional arrays, which become lists, in the server's binary and text forms (`array_send`, `array_out`).
//!
//! A list has no place for further dimensions, nor for a first subscript that is not 1: such values are refused, and those of more
//! than [`ELEMENT_COUNT_MAX`] elements before these take memory.

use std::iter::Peekable;
use std::str::Chars;

use bytes::Buf;
use moonshine_engine::Value;

use super::PgType;

/// The length that a null has.
const NULL_LENGTH: i32 = -1;
/// The subscript that arrays begin at, unless they say otherwise.
const FIRST_SUBSCRIPT: i32 = 1;
/// Most elements of a list. A null takes four bytes or less on its way here, and some ten times that as a value.
pub(super) const ELEMENT_COUNT_MAX: usize = 1 << 20;

pub(super) fn from_binary(element: &PgType, mut bytes: &[u8]) -> Result<Value, String> {
    let short = |_| "an array that ends too early".to_owned();
    let ended = |bytes: &[u8], values| match bytes.is_empty() {
        true => Ok(Value::List(values)),
        false => Err(malformed()),
    };
    let dimensions = bytes.try_get_i32().map_err(short)?;
    // Whether there are nulls, and the elements' type.
    bytes.try_get_u64().map_err(short)?;
    match dimensions {
        0 => return ended(bytes, Vec::new()),
        1 => {}
        _ => return Err(many_dimensions()),
    }
    let count = bytes.try_get_i32().map_err(short)?;
    let count = usize::try_from(count).map_err(|_| malformed())?;
    if count > ELEMENT_COUNT_MAX {
        return Err(too_many());
    }
    let first = bytes.try_get_i32().map_err(short)?;
    if first != FIRST_SUBSCRIPT {
        return Err(other_subscripts());
    }
    let mut values = Vec::new();
    for _ in 0..count {
        let length = bytes.try_get_i32().map_err(short)?;
        if length == NULL_LENGTH {
            values.push(Value::Null);
            continue;
        }
        let length = usize::try_from(length).map_err(|_| malformed())?;
        let (value, rest) = bytes
            .split_at_checked(length)
            .ok_or("an array that ends too early")?;
        values.push(element.decode_binary(value)?);
        bytes = rest;
    }
    ended(bytes, values)
}

pub(super) fn from_text(element: &PgType, text: &str) -> Result<Value, String> {
    // Subscripts are written if they don't begin at 1.
    if text.starts_with('[') {
        return Err(other_subscripts());
    }
    let inner = text
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'));
    let mut rest = inner.ok_or_else(malformed)?.chars().peekable();
    let mut values = Vec::new();
    if rest.peek().is_none() {
        return Ok(Value::List(values));
    }
    loop {
        if values.len() == ELEMENT_COUNT_MAX {
            return Err(too_many());
        }
        let (text, is_quoted) = match rest.peek() {
            Some('{') => return Err(many_dimensions()),
            Some('"') => (quoted(&mut rest).ok_or_else(malformed)?, true),
            _ => (plain(&mut rest).ok_or_else(malformed)?, false),
        };
        values.push(match is_quoted || text != "NULL" {
            true => element.decode_text(text.as_bytes())?,
            false => Value::Null,
        });
        match rest.next() {
            None => return Ok(Value::List(values)),
            Some(',') => {}
            Some(_) => return Err(malformed()),
        }
    }
}

/// What stands up to the next comma. The server puts an empty text between quotation marks, and each with one of these characters.
fn plain(rest: &mut Peekable<Chars<'_>>) -> Option<String> {
    let is_plain = |character: &char| !matches!(character, ',' | '"' | '\\' | '{' | '}');
    let text: String = std::iter::from_fn(|| rest.next_if(is_plain)).collect();
    (!text.is_empty()).then_some(text)
}

/// What stands between quotation marks, with a backslash before each one and before each backslash.
fn quoted(rest: &mut Peekable<Chars<'_>>) -> Option<String> {
    rest.next();
    let mut text = String::new();
    loop {
        match rest.next()? {
            '"' => return Some(text),
            '\\' => text.push(rest.next()?),
            other => text.push(other),
        }
    }
}

fn malformed() -> String {
    "a malformed array".into()
}

fn too_many() -> String {
    format!("an array of more than {ELEMENT_COUNT_MAX} elements")
}

fn many_dimensions() -> String {
    "an array of several dimensions, which no list holds".into()
}

fn other_subscripts() -> String {
    "an array whose subscripts don't begin at 1, which no list holds".into()
}
