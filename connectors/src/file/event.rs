//! One line as a change event, still in JSON text where the table decides how to read it.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::value::optional_string;

/// What a line says.
#[derive(Debug)]
pub(super) enum Line<'a> {
    /// Nothing: blank, or a tombstone without a key.
    Nothing,
    /// That the row of this key is gone.
    Tombstone(&'a RawValue),
    /// A change of a table.
    Change(Change<'a>),
}

/// A change event.
#[derive(Debug)]
pub(super) struct Change<'a> {
    pub(super) op: Op,
    /// The schema of the event, if it carries one.
    pub(super) schema: Option<&'a str>,
    /// The key, if the line is a pair of key and value.
    pub(super) key: Option<&'a RawValue>,
    pub(super) before: Option<&'a RawValue>,
    pub(super) after: Option<&'a RawValue>,
    pub(super) source: Option<SourceBlock<'a>>,
    /// The source transaction that the event is a part of.
    pub(super) transaction: Option<Cow<'a, str>>,
}

/// The operations of Debezium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// `c`
    Create,
    /// `r`, a row of a snapshot
    Read,
    /// `u`
    Update,
    /// `d`
    Delete,
    /// `t`
    Truncate,
}

/// Where an event comes from, as far as it is needed.
#[derive(Debug, Deserialize)]
pub(super) struct SourceBlock<'a> {
    #[serde(borrow, default)]
    db: Option<&'a RawValue>,
    #[serde(borrow, default)]
    schema: Option<&'a RawValue>,
    #[serde(borrow, default)]
    table: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "txId")]
    tx_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    lsn: Option<&'a RawValue>,
    #[serde(borrow, default)]
    gtid: Option<&'a RawValue>,
}

impl<'a> SourceBlock<'a> {
    pub(super) fn db(&self) -> Option<Cow<'a, str>> {
        optional_string(self.db)
    }

    pub(super) fn schema(&self) -> Option<Cow<'a, str>> {
        optional_string(self.schema)
    }

    pub(super) fn table(&self) -> Option<Cow<'a, str>> {
        optional_string(self.table)
    }
}

/// The members that any of the forms of a line may have. A member that is there and null is `Some("null")`.
#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    schema: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    payload: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    key: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    value: Option<&'a RawValue>,
    #[serde(borrow, default)]
    op: Option<&'a RawValue>,
    #[serde(borrow, default)]
    before: Option<&'a RawValue>,
    #[serde(borrow, default)]
    after: Option<&'a RawValue>,
    #[serde(borrow, default)]
    source: Option<SourceBlock<'a>>,
    #[serde(borrow, default)]
    transaction: Option<TransactionBlock<'a>>,
}

#[derive(Deserialize)]
struct TransactionBlock<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
}

/// A key or value with its schema beside it.
#[derive(Deserialize)]
struct Wrapped<'a> {
    #[serde(borrow)]
    schema: Option<&'a RawValue>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
}

fn present<'de: 'a, 'a, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Reads a line. `known_schemas`: schema texts that it may carry, which then needn't be read.
///
/// # Errors
/// What is wrong with it, without its place.
pub(super) fn parse<'a, 'k>(
    line: &'a [u8],
    mut known_schemas: impl Iterator<Item = &'k str>,
) -> Result<Line<'a>, String> {
    let line = line.trim_ascii();
    let known = known_schemas.find_map(|schema| after_schema(line, schema));
    if let Some((schema, payload)) = known
        && let Ok(members) = serde_json::from_slice::<Members<'_>>(payload)
    {
        return event_of(members, Some(schema), None);
    }
    if line.is_empty() || line == b"null" {
        return Ok(Line::Nothing);
    }
    if line.first() != Some(&b'{') {
        return Err("not a JSON object".into());
    }
    let members: Members<'_> = serde_json::from_slice(line).map_err(|error| json_reason(&error))?;
    if let (None, None, Some(value)) = (members.op, members.payload, members.value) {
        let key = members.key.filter(|key| key.get() != "null");
        if value.get() == "null" {
            return Ok(key.map_or(Line::Nothing, Line::Tombstone));
        }
        return event(nested(value)?, key);
    }
    event(members, None)
}

fn event<'a>(members: Members<'a>, key: Option<&'a RawValue>) -> Result<Line<'a>, String> {
    let (members, schema) = match (members.op, members.payload) {
        (None, Some(payload)) if payload.get() == "null" => {
            return Ok(key.map_or(Line::Nothing, Line::Tombstone));
        }
        (None, Some(payload)) => (
            nested(payload)?,
            members
                .schema
                .map(RawValue::get)
                .filter(|schema| *schema != "null"),
        ),
        _ => (members, None),
    };
    event_of(members, schema, key)
}

fn event_of<'a>(
    members: Members<'a>,
    schema: Option<&'a str>,
    key: Option<&'a RawValue>,
) -> Result<Line<'a>, String> {
    let Some(op) = members.op else {
        return Err("not a Debezium change event: it has no 'op'".into());
    };
    let op = match op.get() {
        "\"c\"" => Op::Create,
        "\"r\"" => Op::Read,
        "\"u\"" => Op::Update,
        "\"d\"" => Op::Delete,
        "\"t\"" => Op::Truncate,
        other => {
            return Err(format!(
                "unknown op {other}; known are \"c\", \"r\", \"u\", \"d\" and \"t\""
            ));
        }
    };
    let transaction = transaction_id(&members);
    let (before, after, source) = (members.before, members.after, members.source);
    Ok(Line::Change(Change {
        op,
        schema,
        key,
        before,
        after,
        source,
        transaction,
    }))
}

/// The schema and the payload of a line that starts with that schema and, as Kafka Connect writes it, has only the
/// payload after it.
fn after_schema<'a>(line: &'a [u8], schema: &str) -> Option<(&'a str, &'a [u8])> {
    let (text, rest) = line
        .strip_prefix(br#"{"schema":"#)?
        .split_at_checked(schema.len())?;
    if text != schema.as_bytes() {
        return None;
    }
    let payload = rest.strip_prefix(br#","payload":"#)?.strip_suffix(b"}")?;
    let is_object = payload.first() == Some(&b'{');
    is_object.then_some((std::str::from_utf8(text).ok()?, payload))
}

/// The connector's own transaction id where it writes one; else what the source database names it by.
fn transaction_id<'a>(members: &Members<'a>) -> Option<Cow<'a, str>> {
    let source = members.source.as_ref();
    let id = members
        .transaction
        .as_ref()
        .and_then(|transaction| transaction.id);
    let id = id.or_else(|| {
        source
            .filter(|source| source.lsn.is_some())
            .and_then(|source| source.tx_id)
    });
    id.or_else(|| source.and_then(|source| source.gtid))
        .map(|id| Cow::Borrowed(id.get()))
}

fn nested<'a>(raw: &'a RawValue) -> Result<Members<'a>, String> {
    if !raw.get().starts_with('{') {
        return Err("the value of the event is not a JSON object".into());
    }
    serde_json::from_str(raw.get()).map_err(|error| json_reason(&error))
}

/// The payload of a key and its schema, if it has one.
pub(super) fn unwrap_key(raw: &RawValue) -> (Option<&RawValue>, &RawValue) {
    match serde_json::from_str::<Wrapped<'_>>(raw.get()) {
        Ok(Wrapped {
            schema,
            payload: Some(payload),
        }) => (schema, payload),
        _ => (None, raw),
    }
}

/// An error of serde_json with its place in the line; the line's own number is the caller's to tell.
pub(super) fn json_reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    match text.strip_suffix(&place) {
        Some(reason) if error.is_data() => reason.to_owned(),
        Some(reason) => format!("not valid JSON: {reason} at column {}", error.column()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use std::iter::{empty, once};

    use super::*;

    fn change(line: &str) -> Change<'_> {
        match parse(line.as_bytes(), empty()).unwrap() {
            Line::Change(change) => change,
            other => panic!("{other:?}"),
        }
    }

    fn error(line: &str) -> String {
        parse(line.as_bytes(), empty()).unwrap_err()
    }

    #[test]
    fn all_wrappings_of_an_event() {
        let event = r#"{"before":null,"after":{"id":1},"op":"c","ts_ms":1,"source":{"db":"d","schema":"s","table":"t"}}"#;
        for line in [
            event.to_owned(),
            format!("  {event}\r"),
            format!(r#"{{"schema":{{"type":"struct"}},"payload":{event}}}"#),
            format!(r#"{{"schema":null,"payload":{event}}}"#),
            format!(r#"{{"key":{{"id":1}},"value":{event}}}"#),
            format!(
                r#"{{"key":{{"id":1}},"value":{{"schema":{{"type":"struct"}},"payload":{event}}}}}"#
            ),
        ] {
            let change = change(&line);
            assert_eq!(change.op, Op::Create);
            assert!(change.before.is_none());
            assert_eq!(change.after.unwrap().get(), r#"{"id":1}"#);
            assert_eq!(change.source.unwrap().table().unwrap(), "t");
            assert_eq!(change.schema.is_some(), line.contains("struct"), "{line}");
            assert_eq!(change.key.is_some(), line.contains("key"), "{line}");
        }
    }

    #[test]
    fn a_known_schema_changes_nothing_but_the_speed() {
        let schema = r#"{"type":"struct","fields":[]}"#;
        for (tail, is_whole) in [
            (r#""payload":{"op":"d","before":{"id":1}}}"#, true),
            (r#""payload":{"op":"d","before":{"id":1}},"x":1}"#, true),
            (r#""x":1,"payload":{"op":"d","before":{"id":1}}}"#, true),
            (r#""payload":{"op":"d","before":{"id":1}}"#, false),
            (r#""payload":{"op":"d","before":{"id":1}}}}"#, false),
            (r#""payload":{"op":"z"}}"#, false),
            (r#""payload":null}"#, true),
        ] {
            let line = format!(r#"{{"schema":{schema},{tail}"#);
            let shown = |result: Result<Line<'_>, String>| format!("{result:?}");
            let plain = parse(line.as_bytes(), empty());
            assert_eq!(plain.is_ok(), is_whole, "{line}");
            let plain = shown(plain);
            for known in [schema, &schema[1..], "{}"] {
                assert_eq!(shown(parse(line.as_bytes(), once(known))), plain, "{line}");
            }
        }
    }

    #[test]
    fn tombstones_and_blank_lines() {
        for line in [
            "",
            " \r",
            "null",
            r#"{"value":null}"#,
            r#"{"key":null,"value":null}"#,
            r#"{"schema":null,"payload":null}"#,
        ] {
            assert!(
                matches!(parse(line.as_bytes(), empty()), Ok(Line::Nothing)),
                "{line}"
            );
        }
        for line in [
            r#"{"key":{"id":1},"value":null}"#,
            r#"{"key":{"id":1},"value":{"schema":null,"payload":null}}"#,
        ] {
            assert!(
                matches!(parse(line.as_bytes(), empty()), Ok(Line::Tombstone(key)) if key.get() == r#"{"id":1}"#),
                "{line}"
            );
        }
    }

    #[test]
    fn transaction_ids() {
        let id = |text: &str| {
            change(&format!(r#"{{"op":"c",{text}}}"#))
                .transaction
                .map(Cow::into_owned)
        };
        assert_eq!(
            id(r#""transaction":{"id":"7:9","total_order":1},"source":{"txId":3,"lsn":4}"#)
                .unwrap(),
            "\"7:9\""
        );
        assert_eq!(
            id(r#""transaction":null,"source":{"txId":3,"lsn":4}"#).unwrap(),
            "3"
        );
        assert_eq!(id(r#""source":{"txId":3,"lsn":null}"#), None);
        assert_eq!(id(r#""source":{"gtid":"u:5"}"#).unwrap(), "\"u:5\"");
        assert_eq!(id(r#""source":{"gtid":null}"#), None);
    }

    #[test]
    fn bad_lines_say_what_is_wrong() {
        assert!(error(r#"{"op":"c","after":{"id":1}"#).contains("not valid JSON"));
        assert!(error(r#"{"op":"c"} x"#).contains("column 12"));
        assert!(error("[1]").contains("not a JSON object"));
        assert!(error(r#"{"op":"x"}"#).contains("unknown op \"x\""));
        assert!(error(r#"{"op":1}"#).contains("unknown op 1"));
        assert!(error(r#"{"id":1}"#).contains("no 'op'"));
        assert!(error(r#"{"payload":"text"}"#).contains("not a JSON object"));
        assert!(parse(b"{\"op\":\"c\",\"after\":{\"a\":\"\xff\"}}", empty()).is_err());
    }

    #[test]
    fn keys_lose_their_wrapper() {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        let wrapped = raw(r#"{"schema":{"name":"x"},"payload":{"id":1}}"#);
        let (schema, payload) = unwrap_key(&wrapped);
        assert_eq!(
            (schema.unwrap().get(), payload.get()),
            (r#"{"name":"x"}"#, r#"{"id":1}"#)
        );
        let plain = raw(r#"{"id":1}"#);
        assert!(matches!(unwrap_key(&plain), (None, key) if key.get() == r#"{"id":1}"#));
    }
}
