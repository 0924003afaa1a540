//! Columns and their types, as a table's metadata say them.

use serde_json::Value as Json;

use super::{Finding, Result};

/// A type of a column or of a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// `boolean`.
    Boolean,
    /// `int`: 32 bits.
    Int,
    /// `long`: 64 bits.
    Long,
    /// `float`: 32 bits.
    Float,
    /// `double`: 64 bits.
    Double,
    /// `decimal(precision, scale)`.
    Decimal(u8, i8),
    /// `date`: days.
    Date,
    /// `time`: microseconds.
    Time,
    /// `timestamp`: microseconds.
    Timestamp,
    /// `timestamptz`: microseconds.
    Timestamptz,
    /// `timestamp_ns`.
    TimestampNs,
    /// `timestamptz_ns`.
    TimestamptzNs,
    /// `string`.
    String,
    /// `binary`.
    Binary,
    /// `uuid`.
    Uuid,
    /// `struct`.
    Struct(Vec<Field>),
    /// `list`.
    List(Box<Type>),
    /// `map`.
    Map(Box<Type>, Box<Type>),
}

/// A column, or a field of a struct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// By what files name it.
    pub id: i32,
    /// What people name it.
    pub name: String,
    /// Whether it is never null.
    pub is_required: bool,
    /// Its type.
    pub field_type: Type,
    /// What rows have of files that lack it.
    pub initial_default: Option<Json>,
}

/// The columns of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    /// Its number.
    pub id: i64,
    /// Its columns.
    pub fields: Vec<Field>,
    /// The columns that name a row.
    pub identifier_ids: Vec<i32>,
}

fn damaged(what: &str, json: &Json) -> Finding {
    Finding::new("a schema", format!("{what}: {json}"))
}

/// A number of that name.
pub(super) fn number(json: &Json, name: &str) -> Result<i64> {
    let found = json.get(name).and_then(Json::as_i64);
    found.ok_or_else(|| damaged(&format!("no number '{name}'"), json))
}

/// A text of that name.
pub(super) fn text<'a>(json: &'a Json, name: &str) -> Result<&'a str> {
    let found = json.get(name).and_then(Json::as_str);
    found.ok_or_else(|| damaged(&format!("no text '{name}'"), json))
}

/// A list of that name.
pub(super) fn list<'a>(json: &'a Json, name: &str) -> Result<&'a [Json]> {
    let found = json.get(name).and_then(Json::as_array);
    found
        .map(Vec::as_slice)
        .ok_or_else(|| damaged(&format!("no list '{name}'"), json))
}

/// An id, which has 32 bits.
pub(super) fn id(json: &Json, name: &str) -> Result<i32> {
    i32::try_from(number(json, name)?).map_err(|error| damaged(&error.to_string(), json))
}

impl Schema {
    pub(super) fn parse(json: &Json) -> Result<Schema> {
        let identifier_ids = json.get("identifier-field-ids").and_then(Json::as_array);
        let identifier_ids = identifier_ids.into_iter().flatten();
        Ok(Schema {
            id: number(json, "schema-id")?,
            fields: fields(json)?,
            identifier_ids: identifier_ids
                .filter_map(|id| i32::try_from(id.as_i64()?).ok())
                .collect(),
        })
    }

    /// The column of that id.
    pub fn field(&self, id: i32) -> Option<&Field> {
        self.fields.iter().find(|field| field.id == id)
    }

    /// The greatest id of a column or a part of one.
    pub(super) fn last_id(&self) -> i32 {
        self.fields.iter().map(|field| field.id).max().unwrap_or(0)
    }
}

fn fields(json: &Json) -> Result<Vec<Field>> {
    let parse = |json: &Json| {
        Ok(Field {
            id: id(json, "id")?,
            name: text(json, "name")?.to_owned(),
            is_required: json.get("required").and_then(Json::as_bool) == Some(true),
            field_type: Type::parse(json.get("type").unwrap_or(&Json::Null))?,
            initial_default: json.get("initial-default").cloned(),
        })
    };
    list(json, "fields")?.iter().map(parse).collect()
}

impl Type {
    fn parse(json: &Json) -> Result<Type> {
        let part = |name: &str| Type::parse(json.get(name).unwrap_or(&Json::Null)).map(Box::new);
        if let Some(name) = json.as_str() {
            return Type::named(name).ok_or_else(|| damaged("an unknown type", json));
        }
        match text(json, "type")? {
            "struct" => fields(json).map(Type::Struct),
            "list" => part("element").map(Type::List),
            "map" => Ok(Type::Map(part("key")?, part("value")?)),
            _ => Err(damaged("an unknown type", json)),
        }
    }

    fn named(name: &str) -> Option<Type> {
        Some(match name {
            "boolean" => Type::Boolean,
            "int" => Type::Int,
            "long" => Type::Long,
            "float" => Type::Float,
            "double" => Type::Double,
            "date" => Type::Date,
            "time" => Type::Time,
            "timestamp" => Type::Timestamp,
            "timestamptz" => Type::Timestamptz,
            "timestamp_ns" => Type::TimestampNs,
            "timestamptz_ns" => Type::TimestamptzNs,
            "string" => Type::String,
            "binary" => Type::Binary,
            "uuid" => Type::Uuid,
            _ => {
                let numbers = name.strip_prefix("decimal(")?.strip_suffix(')')?;
                let (precision, scale) = numbers.split_once(',')?;
                Type::Decimal(precision.trim().parse().ok()?, scale.trim().parse().ok()?)
            }
        })
    }
}
