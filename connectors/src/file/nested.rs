//! JSON arrays and objects as values of columns that are lists, structs and maps.

use std::collections::BTreeMap;

use moonshine_engine::{ColumnType, NestedField, Value};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::value::{Decoder, Form};

/// An entry of a map whose keys are no text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry<'a> {
    #[serde(borrow)]
    key: &'a RawValue,
    #[serde(borrow)]
    value: &'a RawValue,
}

/// Reads a list from an array, a struct from an object, and a map from an object or from an array of objects with `key` and
/// `value`. What lies in them is in its natural form; a field that an object lacks is null, and others are left out. `None`
/// if a part of it is unchanged and has to come from the row that is there.
///
/// # Errors
/// What does not fit.
pub(super) fn decode(column_type: ColumnType, raw: &str) -> Result<Option<Value>, String> {
    let misfit = || {
        let shown: String = raw.chars().take(80).collect();
        format!("{shown} does not fit {column_type}")
    };
    let object = || serde_json::from_str::<BTreeMap<String, &RawValue>>(raw).map_err(|_| misfit());
    match (column_type, column_type.nested_fields()) {
        (ColumnType::List(_), [element]) => {
            let elements: Vec<&RawValue> = serde_json::from_str(raw).map_err(|_| misfit())?;
            let elements = elements.iter().map(|raw| part(element, raw.get()));
            let elements: Option<Vec<Value>> = elements.collect::<Result<_, _>>()?;
            Ok(elements.map(Value::List))
        }
        (ColumnType::Map(_), [key, value]) if raw.starts_with('{') => {
            if key.column_type != ColumnType::Utf8 {
                return Err(misfit());
            }
            let object = object()?;
            let entries = object.into_iter().map(|(key, raw)| {
                Ok(part(value, raw.get())?.map(|value| (Value::Utf8(key), value)))
            });
            let entries: Option<Vec<_>> = entries.collect::<Result<_, String>>()?;
            Ok(entries.map(Value::Map))
        }
        (ColumnType::Map(_), [key, value]) => {
            let entries: Vec<Entry<'_>> = serde_json::from_str(raw).map_err(|_| misfit())?;
            let entries = entries.iter().map(|entry| {
                let key = part(key, entry.key.get())?;
                Ok(key.zip(part(value, entry.value.get())?))
            });
            let entries: Option<Vec<_>> = entries.collect::<Result<_, String>>()?;
            Ok(entries.map(Value::Map))
        }
        (ColumnType::Struct(_), fields) => {
            let object = object()?;
            let values = fields.iter().map(|field| match object.get(&field.name) {
                Some(raw) => part(field, raw.get()),
                None => Ok(Some(Value::Null)),
            });
            let values: Option<Vec<Value>> = values.collect::<Result<_, _>>()?;
            Ok(values.map(Value::Struct))
        }
        _ => Err(misfit()),
    }
}

fn part(of: &NestedField, raw: &str) -> Result<Option<Value>, String> {
    let decoder = Decoder {
        column_type: of.column_type,
        form: Form::Natural,
    };
    let value = decoder.decode(raw);
    value.map_err(|reason| format!("'{}': {reason}", of.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_and_objects_become_nested_values() {
        let text = |text: &str| Value::Utf8(text.into());
        let cases = [
            ("list<int32>", "[1, null, -3]", {
                let values = vec![Value::Int32(1), Value::Null, Value::Int32(-3)];
                Value::List(values)
            }),
            ("list<list<date>>", "[[], [\"1970-01-02\"]]", {
                let one = Value::List(vec![Value::Date(1)]);
                Value::List(vec![Value::List(vec![]), one])
            }),
            ("struct<a: int64, b: string>", r#"{"b": "x", "c": 7}"#, {
                Value::Struct(vec![Value::Null, text("x")])
            }),
            ("map<string, int32>", r#"{"k": 1, "": null}"#, {
                let first = (text(""), Value::Null);
                Value::Map(vec![first, (text("k"), Value::Int32(1))])
            }),
            ("map<int32, string>", r#"[{"key": 1, "value": "x"}]"#, {
                Value::Map(vec![(Value::Int32(1), text("x"))])
            }),
        ];
        for (column_type, raw, expected) in cases {
            let found = decode(column_type.parse().unwrap(), raw);
            assert_eq!(found, Ok(Some(expected)), "{column_type}");
        }
        let unavailable = decode(
            "list<string>".parse().unwrap(),
            r#"["__debezium_unavailable_value"]"#,
        );
        assert_eq!(unavailable, Ok(None));
    }

    #[test]
    fn misfits_name_the_type() {
        for (column_type, raw) in [
            ("list<int32>", "{}"),
            ("list<int32>", "[1.5]"),
            ("struct<a: int32>", "[]"),
            ("map<int32, int32>", "{\"1\": 1}"),
            ("map<string, int32>", "[{\"key\": \"a\"}]"),
        ] {
            let error = decode(column_type.parse().unwrap(), raw).unwrap_err();
            assert!(
                error.contains("does not fit"),
                "{column_type} {raw}: {error}"
            );
        }
    }
}
