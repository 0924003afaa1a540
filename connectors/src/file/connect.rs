//! The `schema` part of an event (Kafka Connect's JSON schema) as columns.
//!
//! Logical types are those of Kafka Connect (`org.apache.kafka.connect.data.*`) and of Debezium's connectors
//! (<https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-data-types>).

use std::collections::HashMap;

use moonshine_engine::ColumnType;
use serde::Deserialize;

use super::value::{Decoder, Form};

/// Precision of a Connect `Decimal` that doesn't name one.
const DECIMAL_PRECISION_DEFAULT: u8 = 38;

/// A node of a Connect schema.
#[derive(Debug, Deserialize)]
struct Node {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    field: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    optional: bool,
    #[serde(default)]
    fields: Vec<Node>,
    #[serde(default)]
    parameters: Option<HashMap<String, String>>,
}

/// A field of a row, as the event's schema has it.
#[derive(Debug)]
pub(super) struct RowField {
    /// Its name.
    pub(super) name: String,
    /// Whether it may be null.
    pub(super) optional: bool,
    /// The type as the schema writes it, for messages.
    pub(super) type_text: String,
    /// How its values are read, if it is of a type that a column can have.
    pub(super) decoder: Option<Decoder>,
    /// Whether the schema says no more than the JSON type, so that a declared column type may say what it means.
    pub(super) is_plain: bool,
}

/// The fields of the rows that an event envelope's schema describes, or of the schema itself where it is a key's.
pub(super) fn row_fields(raw_schema: &str) -> Result<Vec<RowField>, String> {
    let root: Node =
        serde_json::from_str(raw_schema).map_err(|error| format!("schema: {error}"))?;
    let is_row = |node: &&Node| {
        matches!(node.field.as_deref(), Some("after" | "before")) && node.kind == "struct"
    };
    let fields = match root.fields.iter().find(is_row) {
        Some(row) => &row.fields,
        None => &root.fields,
    };
    if fields.is_empty() {
        return Err("schema: no fields of a row in it ('after' is missing)".into());
    }
    fields.iter().map(row_field).collect()
}

/// The `schema.table` that a key's schema is named after: `server.schema.table.Key`.
pub(super) fn key_table_name(raw_schema: &str) -> Option<String> {
    let root: Node = serde_json::from_str(raw_schema).ok()?;
    let name = root.name?;
    let (_server, table_name) = name.strip_suffix(".Key")?.split_once('.')?;
    Some(table_name.to_owned())
}

fn row_field(node: &Node) -> Result<RowField, String> {
    let name = node.field.clone().ok_or("schema: a field without a name")?;
    let decoder = decoder(node).map_err(|reason| format!("schema: field '{name}': {reason}"))?;
    let type_text = match &node.name {
        Some(logical) => format!("{} ({logical})", node.kind),
        None => node.kind.clone(),
    };
    // A decimal that carries its scale along has no precision; only a declared column can give it one.
    let is_plain = node.name.is_none() && node.kind != "struct"
        || node.name.as_deref() == Some("io.debezium.data.VariableScaleDecimal");
    Ok(RowField {
        name,
        optional: node.optional,
        type_text,
        decoder,
        is_plain,
    })
}

fn decoder(node: &Node) -> Result<Option<Decoder>, String> {
    let logical = node.name.as_deref().unwrap_or("");
    let natural = |column_type| (column_type, Form::Natural);
    let (column_type, form) = match (node.kind.as_str(), logical) {
        ("bytes", "org.apache.kafka.connect.data.Decimal") => decimal(node)?,
        ("int32", "io.debezium.time.Date" | "org.apache.kafka.connect.data.Date") => {
            natural(ColumnType::Date)
        }
        ("int32", "io.debezium.time.Time" | "org.apache.kafka.connect.data.Time") => {
            (ColumnType::Time, Form::Millis)
        }
        ("int64", "io.debezium.time.MicroTime") => natural(ColumnType::Time),
        ("int64", "io.debezium.time.NanoTime") => (ColumnType::Time, Form::Nanos),
        ("int64", "io.debezium.time.Timestamp" | "org.apache.kafka.connect.data.Timestamp") => {
            (ColumnType::Timestamp, Form::Millis)
        }
        ("int64", "io.debezium.time.MicroTimestamp") => natural(ColumnType::Timestamp),
        ("int64", "io.debezium.time.NanoTimestamp") => (ColumnType::Timestamp, Form::Nanos),
        ("string", "io.debezium.time.ZonedTimestamp") => natural(ColumnType::TimestampTz),
        ("string", "io.debezium.data.Uuid") => natural(ColumnType::Uuid),
        ("boolean", _) => natural(ColumnType::Boolean),
        ("int8" | "int16" | "int32", _) => natural(ColumnType::Int32),
        ("int64", _) => natural(ColumnType::Int64),
        ("float" | "float32", _) => natural(ColumnType::Float32),
        ("double" | "float64", _) => natural(ColumnType::Float64),
        ("string", _) => natural(ColumnType::Utf8),
        ("bytes", _) => natural(ColumnType::Binary),
        _ => return Ok(None),
    };
    Ok(Some(Decoder { column_type, form }))
}

fn decimal(node: &Node) -> Result<(ColumnType, Form), String> {
    let parameter = |key: &str| {
        node.parameters
            .as_ref()
            .and_then(|parameters| parameters.get(key))
    };
    let own_scale = parameter("scale").ok_or("a Decimal without the parameter 'scale'")?;
    let own_scale: i64 = own_scale
        .parse()
        .map_err(|_| format!("the scale '{own_scale}' is not a number"))?;
    let precision = match parameter("connect.decimal.precision") {
        Some(text) => text
            .parse()
            .map_err(|_| format!("the precision '{text}' is not a number"))?,
        None => DECIMAL_PRECISION_DEFAULT,
    };
    // A negative scale counts zeros before the point: the column holds them.
    let scale = u8::try_from(own_scale.max(0))
        .map_err(|_| format!("the scale {own_scale} is too large"))?;
    Ok((
        ColumnType::Decimal { precision, scale },
        Form::Unscaled(own_scale),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(json: &str) -> RowField {
        let text = format!(
            r#"{{"type":"struct","fields":[{{"type":"struct","field":"after","fields":[{json}]}}]}}"#
        );
        row_fields(&text).unwrap().remove(0)
    }

    /// Connect type, logical name, column type, form of the values.
    const TYPES: [(&str, &str, &str, Form); 22] = [
        ("int8", "", "int32", Form::Natural),
        ("int16", "", "int32", Form::Natural),
        ("int32", "", "int32", Form::Natural),
        ("int64", "", "int64", Form::Natural),
        ("float", "", "float32", Form::Natural),
        ("double", "", "float64", Form::Natural),
        ("boolean", "", "boolean", Form::Natural),
        ("string", "", "string", Form::Natural),
        ("bytes", "", "binary", Form::Natural),
        ("int32", "io.debezium.time.Date", "date", Form::Natural),
        (
            "int32",
            "org.apache.kafka.connect.data.Date",
            "date",
            Form::Natural,
        ),
        ("int32", "io.debezium.time.Time", "time", Form::Millis),
        (
            "int32",
            "org.apache.kafka.connect.data.Time",
            "time",
            Form::Millis,
        ),
        ("int64", "io.debezium.time.MicroTime", "time", Form::Natural),
        ("int64", "io.debezium.time.NanoTime", "time", Form::Nanos),
        (
            "int64",
            "io.debezium.time.Timestamp",
            "timestamp",
            Form::Millis,
        ),
        (
            "int64",
            "org.apache.kafka.connect.data.Timestamp",
            "timestamp",
            Form::Millis,
        ),
        (
            "int64",
            "io.debezium.time.MicroTimestamp",
            "timestamp",
            Form::Natural,
        ),
        (
            "int64",
            "io.debezium.time.NanoTimestamp",
            "timestamp",
            Form::Nanos,
        ),
        (
            "string",
            "io.debezium.time.ZonedTimestamp",
            "timestamptz",
            Form::Natural,
        ),
        ("string", "io.debezium.data.Json", "string", Form::Natural),
        ("string", "io.debezium.data.Uuid", "uuid", Form::Natural),
    ];

    #[test]
    fn types_and_forms() {
        for (kind, logical, column_type, form) in TYPES {
            let found = field(&format!(
                r#"{{"type":"{kind}","field":"x","optional":true,"name":"{logical}"}}"#
            ));
            assert_eq!(
                found.decoder.unwrap(),
                Decoder {
                    column_type: column_type.parse().unwrap(),
                    form
                },
                "{kind} {logical}"
            );
            assert!(found.optional);
        }
    }

    #[test]
    fn decimals_take_their_parameters() {
        let name = "org.apache.kafka.connect.data.Decimal";
        let with = |parameters: &str| {
            field(&format!(
                r#"{{"type":"bytes","field":"x","name":"{name}","parameters":{parameters}}}"#
            ))
            .decoder
            .unwrap()
        };
        let decimal = |precision, scale| ColumnType::Decimal { precision, scale };
        let both = with(r#"{"scale":"2","connect.decimal.precision":"10"}"#);
        assert_eq!(
            both,
            Decoder {
                column_type: decimal(10, 2),
                form: Form::Unscaled(2)
            }
        );
        assert_eq!(
            with(r#"{"scale":"3"}"#),
            Decoder {
                column_type: decimal(38, 3),
                form: Form::Unscaled(3)
            }
        );
        assert_eq!(
            with(r#"{"scale":"-3"}"#),
            Decoder {
                column_type: decimal(38, 0),
                form: Form::Unscaled(-3)
            }
        );
        let text = format!(
            r#"{{"type":"struct","fields":[{{"type":"bytes","field":"x","name":"{name}"}}]}}"#
        );
        assert!(row_fields(&text).unwrap_err().contains("'x'"));
    }

    #[test]
    fn what_no_column_can_hold_is_known_as_such() {
        assert!(
            field(r#"{"type":"array","items":{"type":"int32"},"field":"x"}"#)
                .decoder
                .is_none()
        );
        assert!(
            row_fields(r#"{"type":"struct","fields":[]}"#)
                .unwrap_err()
                .contains("'after' is missing")
        );
    }

    #[test]
    fn a_key_schema_names_its_table() {
        assert_eq!(
            key_table_name(r#"{"type":"struct","name":"server.shop.orders.Key","fields":[]}"#)
                .as_deref(),
            Some("shop.orders")
        );
        assert_eq!(key_table_name(r#"{"type":"struct","fields":[]}"#), None);
    }
}
