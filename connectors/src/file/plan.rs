//! How the JSON rows of one event schema become rows of one table.

use std::borrow::Cow;
use std::fmt;

use moonshine_engine::{Column, ColumnType, Row, TableSchema, Value};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::connect::RowField;
use super::event::json_reason;
use super::value::{Decoder, Form};

/// The way from the fields of a JSON row to the columns of a table.
#[derive(Debug)]
pub(super) struct Plan {
    /// The fields in the order that rows are expected to have them.
    slots: Vec<Slot>,
    /// Whether a field that is no column is left out; otherwise it is an error.
    leaves_out_others: bool,
}

#[derive(Debug)]
struct Slot {
    name: String,
    /// `None`: the field is left out.
    target: Option<Target>,
}

#[derive(Clone, Copy, Debug)]
struct Target {
    position: usize,
    is_key: bool,
    decoder: Decoder,
}

/// A row as an event gives it.
#[derive(Debug, PartialEq)]
pub(super) struct DecodedRow {
    /// One value a column; null where the column is in `unchanged`.
    pub(super) row: Row,
    /// Positions of columns that the event leaves out as unchanged.
    pub(super) unchanged: Vec<usize>,
}

impl Plan {
    /// For rows in natural forms, of a table whose columns are declared.
    pub(super) fn natural(schema: &TableSchema) -> Self {
        let slots = schema
            .columns()
            .iter()
            .enumerate()
            .map(|(position, column)| Slot {
                name: column.name.clone(),
                target: Some(Target {
                    position,
                    is_key: schema.is_key(position),
                    decoder: Decoder {
                        column_type: column.column_type,
                        form: Form::Natural,
                    },
                }),
            });
        Plan {
            slots: slots.collect(),
            leaves_out_others: true,
        }
    }

    /// For rows of an event schema. `is_declared`: the columns are the user's choice, so other fields are left out and
    /// plain fields take the declared meaning.
    pub(super) fn of_fields(
        fields: &[RowField],
        schema: &TableSchema,
        is_declared: bool,
    ) -> Result<Self, String> {
        let mut slots = Vec::with_capacity(fields.len());
        for field in fields {
            let target = match schema
                .position(&field.name)
                .and_then(|at| schema.columns().get(at).map(|c| (at, c)))
            {
                Some((position, column)) => {
                    let decoder = merge(field, column, is_declared)?;
                    Some(Target {
                        position,
                        is_key: schema.is_key(position),
                        decoder,
                    })
                }
                None if is_declared => None,
                None => {
                    return Err(format!(
                        "the event's schema has a field '{}' ({}) that the table has no column for",
                        field.name, field.type_text
                    ));
                }
            };
            slots.push(Slot {
                name: field.name.clone(),
                target,
            });
        }
        Ok(Plan {
            slots,
            leaves_out_others: is_declared,
        })
    }

    /// Reads a whole row.
    pub(super) fn row(&self, raw: &RawValue, schema: &TableSchema) -> Result<DecodedRow, String> {
        let decoded = self.decode(raw, schema, false)?;
        for (position, column) in schema.columns().iter().enumerate() {
            let is_null = decoded.row.get(position).is_none_or(Value::is_null);
            if is_null && !column.nullable && !decoded.unchanged.contains(&position) {
                let what = if schema.is_key(position) {
                    "key column"
                } else {
                    "column"
                };
                return Err(format!("{what} '{}' is missing or null", column.name));
            }
        }
        Ok(decoded)
    }

    /// Reads the values of the primary key, in key order; the other fields need not be there.
    pub(super) fn key(&self, raw: &RawValue, schema: &TableSchema) -> Result<Vec<Value>, String> {
        let row = self.decode(raw, schema, true)?.row;
        key_of(&row, schema)
    }

    fn decode(
        &self,
        raw: &RawValue,
        schema: &TableSchema,
        keys_only: bool,
    ) -> Result<DecodedRow, String> {
        if !raw.get().starts_with('{') {
            return Err("a row that is not a JSON object".into());
        }
        let mut decoded = DecodedRow {
            row: vec![Value::Null; schema.columns().len()],
            unchanged: Vec::new(),
        };
        let seed = RowSeed {
            plan: self,
            decoded: &mut decoded,
            keys_only,
        };
        let mut deserializer = serde_json::Deserializer::from_str(raw.get());
        seed.deserialize(&mut deserializer)
            .map_err(|error| json_reason(&error))?;
        Ok(decoded)
    }

    /// The slot of a field; rows mostly have their fields in the order of the slots.
    fn slot(&self, expected: usize, name: &str) -> Option<(usize, &Slot)> {
        match self.slots.get(expected) {
            Some(slot) if slot.name == name => Some((expected, slot)),
            _ => self
                .slots
                .iter()
                .enumerate()
                .find(|(_, slot)| slot.name == name),
        }
    }
}

/// The key's values of a whole row.
pub(super) fn key_of(row: &Row, schema: &TableSchema) -> Result<Vec<Value>, String> {
    let values = schema.primary_key().iter().zip(schema.key_columns());
    let value = |(&position, column): (&usize, &Column)| match row.get(position) {
        Some(value) if !value.is_null() => Ok(value.clone()),
        _ => Err(format!("key column '{}' is missing or null", column.name)),
    };
    values.map(value).collect()
}

/// How a field of the event's schema is read into a column that exists already.
fn merge(field: &RowField, column: &Column, is_declared: bool) -> Result<Decoder, String> {
    use ColumnType::{
        Decimal, Float32, Float64, Int32, Int64, Timestamp, TimestampNs, TimestampTz,
        TimestampTzNs, Utf8,
    };
    let to = column.column_type;
    let natural = Decoder {
        column_type: to,
        form: Form::Natural,
    };
    let decoder = match field.decoder {
        Some(decoder) => match (decoder.column_type, to) {
            (from, to) if from == to => Some(decoder),
            (Int32, Int64) | (Float32, Float64) | (Decimal { .. }, Decimal { .. }) => {
                Some(Decoder {
                    column_type: to,
                    ..decoder
                })
            }
            (Timestamp, TimestampTz) if is_declared => Some(Decoder {
                column_type: to,
                ..decoder
            }),
            (Timestamp, TimestampNs | TimestampTzNs) | (TimestampTz, TimestampTzNs)
                if is_declared =>
            {
                Some(Decoder {
                    column_type: to,
                    form: match decoder.form {
                        Form::Natural => Form::Micros,
                        form => form,
                    },
                })
            }
            (_, Utf8) if is_declared && field.type_text.starts_with("string") => Some(natural),
            _ if is_declared && field.is_plain => Some(natural),
            _ => None,
        },
        None if is_declared && field.is_plain && matches!(to, Decimal { .. }) => Some(natural),
        None => None,
    };
    decoder.ok_or_else(|| {
        format!(
            "the event's schema has '{}' as {}, which does not fit the column's {to}",
            field.name, field.type_text
        )
    })
}

struct RowSeed<'p, 'd> {
    plan: &'p Plan,
    decoded: &'d mut DecodedRow,
    keys_only: bool,
}

#[derive(Deserialize)]
struct FieldName<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> DeserializeSeed<'de> for RowSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RowSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut expected = 0;
        while let Some(FieldName(name)) = map.next_key()? {
            let raw: &RawValue = map.next_value()?;
            let Some((index, slot)) = self.plan.slot(expected, &name) else {
                if self.plan.leaves_out_others || self.keys_only {
                    continue;
                }
                return Err(A::Error::custom(format!(
                    "field '{name}' is not in the event's schema"
                )));
            };
            expected = index + 1;
            let Some(target) = slot
                .target
                .filter(|target| target.is_key || !self.keys_only)
            else {
                continue;
            };
            let value = target.decoder.decode(raw.get());
            match value.map_err(|reason| A::Error::custom(format!("column '{name}': {reason}")))? {
                Some(value) => {
                    if let Some(place) = self.decoded.row.get_mut(target.position) {
                        *place = value;
                    }
                }
                None => self.decoded.unchanged.push(target.position),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::connect::row_fields;
    use super::*;

    fn schema() -> TableSchema {
        TableSchema::builder("shop.items")
            .column("note", ColumnType::Utf8, true)
            .column("b", ColumnType::Int64, false)
            .column("a", ColumnType::Int32, false)
            .column(
                "price",
                ColumnType::Decimal {
                    precision: 10,
                    scale: 2,
                },
                true,
            )
            .primary_key(["a", "b"])
            .build()
            .unwrap()
    }

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    fn fields(list: &[(&str, &str)]) -> Vec<RowField> {
        let list: Vec<_> = list
            .iter()
            .map(|(name, kind)| format!(r#"{{"field":"{name}","type":{kind},"optional":true}}"#))
            .collect();
        row_fields(&format!(
            r#"{{"type":"struct","fields":[{}]}}"#,
            list.join(",")
        ))
        .unwrap()
    }

    #[test]
    fn rows_and_keys_in_any_field_order() {
        let plan = Plan::natural(&schema());
        let expected = vec![
            Value::Null,
            Value::Int64(2),
            Value::Int32(1),
            Value::Decimal(150),
        ];
        for text in [
            r#"{"note":null,"b":2,"a":1,"price":1.5}"#,
            r#"{"price":"1.50","a":1,"x":[{}],"b":2}"#,
        ] {
            let decoded = plan.row(&raw(text), &schema()).unwrap();
            assert_eq!(
                decoded,
                DecodedRow {
                    row: expected.clone(),
                    unchanged: vec![]
                },
                "{text}"
            );
            assert_eq!(
                plan.key(&raw(text), &schema()),
                Ok(vec![Value::Int32(1), Value::Int64(2)])
            );
        }
        let key_of_bad_row = plan.key(&raw(r#"{"price":"?","a":1,"b":2}"#), &schema());
        assert_eq!(
            key_of_bad_row,
            Ok(vec![Value::Int32(1), Value::Int64(2)]),
            "only the key's fields are read"
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let plan = Plan::natural(&schema());
        assert_eq!(
            plan.row(&raw(r#"{"a":1}"#), &schema()).unwrap_err(),
            "key column 'b' is missing or null"
        );
        assert_eq!(
            plan.key(&raw(r#"{"a":1,"b":null}"#), &schema())
                .unwrap_err(),
            "key column 'b' is missing or null"
        );
        let error = plan
            .row(&raw(r#"{"a":1,"b":2,"price":"x"}"#), &schema())
            .unwrap_err();
        assert_eq!(error, "column 'price': 'x' is not a decimal number");
    }

    #[test]
    fn unchanged_columns_are_listed() {
        let text = raw(r#"{"a":1,"b":2,"note":"__debezium_unavailable_value"}"#);
        assert_eq!(
            Plan::natural(&schema())
                .row(&text, &schema())
                .unwrap()
                .unchanged,
            vec![0]
        );
    }

    #[test]
    fn event_schemas_widen_but_do_not_change_columns() {
        let schema = schema();
        let plan = Plan::of_fields(
            &fields(&[("a", "\"int16\""), ("b", "\"int32\"")]),
            &schema,
            false,
        )
        .unwrap();
        assert_eq!(
            plan.key(&raw(r#"{"a":1,"b":2}"#), &schema),
            Ok(vec![Value::Int32(1), Value::Int64(2)])
        );
        assert!(
            plan.row(&raw(r#"{"a":1,"b":2,"x":3}"#), &schema)
                .unwrap_err()
                .contains("field 'x'")
        );

        let error = Plan::of_fields(&fields(&[("a", "\"int64\"")]), &schema, false).unwrap_err();
        assert!(
            error.contains("'a' as int64") && error.contains("int32"),
            "{error}"
        );
        let error = Plan::of_fields(&fields(&[("x", "\"int64\"")]), &schema, false).unwrap_err();
        assert!(error.contains("'x'"), "{error}");
    }

    #[test]
    fn declared_columns_say_what_plain_fields_mean() {
        let list = fields(&[
            ("a", "\"int64\""),
            ("b", "\"string\""),
            ("price", "\"double\""),
            ("x", "\"array\""),
        ]);
        let plan = Plan::of_fields(&list, &schema(), true).unwrap();
        let text = raw(r#"{"a":1,"b":2,"price":0.1,"x":[1]}"#);
        let row = plan.row(&text, &schema()).unwrap().row;
        assert_eq!(
            row,
            vec![
                Value::Null,
                Value::Int64(2),
                Value::Int32(1),
                Value::Decimal(10)
            ]
        );
        assert!(
            Plan::of_fields(&fields(&[("a", "\"array\"")]), &schema(), true)
                .unwrap_err()
                .contains("array")
        );
    }
}
