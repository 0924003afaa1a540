//! Rows by field id, keys as bytes that sort as keys do, and rows back from Arrow batches.

use std::fmt::{Debug, Formatter};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use arrow_array::{Array, RecordBatch};
use moonshine_engine::{ColumnType, Row, TableSchema, Value};

/// A key as bytes that sort as keys do, so that the bytes of its first columns are a prefix.
pub type KeyBytes = Vec<u8>;

/// The bytes of a key or of its first columns.
///
/// # Panics
/// For a type that no key of the tables has.
pub fn key_bytes(key: &[Value]) -> KeyBytes {
    let mut bytes = Vec::new();
    for value in key {
        match value {
            Value::Int32(number) => bytes.extend((number ^ i32::MIN).to_be_bytes()),
            Value::Int64(number) => bytes.extend((number ^ i64::MIN).to_be_bytes()),
            Value::Utf8(text) => put_bytes(text.as_bytes(), &mut bytes),
            Value::Binary(binary) => put_bytes(binary, &mut bytes),
            other => panic!("{other:?} is no key of the simulator"),
        }
    }
    bytes
}

fn put_bytes(value: &[u8], out: &mut Vec<u8>) {
    out.extend(value.iter().flat_map(|byte| [1, *byte]));
    out.push(0);
}

/// The key of a row.
pub fn key_of(schema: &TableSchema, row: &Row) -> KeyBytes {
    let positions = schema.primary_key().iter();
    let key: Vec<Value> = positions.map(|&position| row[position].clone()).collect();
    key_bytes(&key)
}

/// A row as it was written: its values by field id.
#[derive(Clone, PartialEq)]
pub struct StoredRow(Arc<[(i32, Value)]>);

impl Debug for StoredRow {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(&brief(self.0.iter().map(|(_, value)| value)))
    }
}

/// A row in words, with no more of long values than tells them apart.
pub fn brief<'v>(row: impl IntoIterator<Item = &'v Value>) -> String {
    let values = row.into_iter().map(|value| match value {
        Value::Null => "-".to_owned(),
        Value::Int32(number) => number.to_string(),
        Value::Int64(number) => number.to_string(),
        Value::Decimal(number) => number.to_string(),
        Value::Utf8(text) if text.len() > 8 => format!("{:?}+{}", &text[..8], text.len() - 8),
        Value::Utf8(text) => format!("{text:?}"),
        Value::Binary(bytes) if bytes.len() > 4 => {
            format!("{:02x?}+{}", &bytes[..4], bytes.len() - 4)
        }
        Value::Binary(bytes) => format!("{bytes:02x?}"),
        other => format!("{other:?}"),
    });
    format!("({})", values.collect::<Vec<_>>().join(" "))
}

/// Rows in words, as far as they differ from others: those with `-` are missing, those with `+` are too many.
pub fn differences(expected: &[Row], found: &[Row]) -> String {
    let missing = expected.iter().filter(|row| !found.contains(row));
    let extra = found.iter().filter(|row| !expected.contains(row));
    let missing = missing.map(|row| format!("-{}", brief(row)));
    let lines: Vec<String> = missing
        .chain(extra.map(|row| format!("+{}", brief(row))))
        .collect();
    match lines.is_empty() {
        true => format!(
            "the same rows, {} and {}, in another order",
            expected.len(),
            found.len()
        ),
        false => lines.join(" "),
    }
}

impl StoredRow {
    /// A row of a schema.
    pub fn new(schema: &TableSchema, row: &Row) -> Self {
        let ids = schema.columns().iter().map(|column| column.field_id);
        StoredRow(ids.zip(row.iter().cloned()).collect())
    }

    /// The value of a column, if the row was written with it.
    pub fn value(&self, field_id: i32) -> Option<&Value> {
        let stored = self.0.iter().find(|(id, _)| *id == field_id);
        stored.map(|(_, value)| value)
    }

    /// The row as it is read with a schema: columns that came later have their default, numbers are as wide as it says.
    pub fn as_of(&self, schema: &TableSchema) -> Row {
        let columns = schema.columns().iter();
        columns
            .map(|column| {
                let stored = self.0.iter().find(|(id, _)| *id == column.field_id);
                match (stored, &column.default) {
                    (Some((_, value)), _) => widened(value, column.column_type),
                    (None, Some(default)) => default.clone(),
                    (None, None) => Value::Null,
                }
            })
            .collect()
    }
}

fn widened(value: &Value, column_type: ColumnType) -> Value {
    match (value, column_type) {
        (Value::Int32(number), ColumnType::Int64) => Value::Int64(i64::from(*number)),
        (Value::Float32(number), ColumnType::Float64) => Value::Float64(f64::from(*number)),
        _ => value.clone(),
    }
}

/// The rows of a batch that holds all columns of a table.
///
/// # Panics
/// If it doesn't.
pub fn rows_of(batch: &RecordBatch, schema: &TableSchema) -> Vec<Row> {
    assert_eq!(
        &batch.schema(),
        schema.arrow_schema(),
        "a batch has other columns"
    );
    let row = |at| {
        let columns = schema.columns().iter().zip(batch.columns());
        columns
            .map(|(column, array)| value_of(array, column.column_type, at))
            .collect()
    };
    (0..batch.num_rows()).map(row).collect()
}

fn value_of(array: &dyn Array, column_type: ColumnType, at: usize) -> Value {
    if array.is_null(at) {
        return Value::Null;
    }
    match column_type {
        ColumnType::List(_) => {
            let list = array.as_list::<i32>().value(at);
            let element = column_type.nested_fields()[0].column_type;
            let values = (0..list.len()).map(|at| value_of(&list, element, at));
            Value::List(values.collect())
        }
        ColumnType::Boolean => Value::Boolean(array.as_boolean().value(at)),
        ColumnType::Int32 => Value::Int32(array.as_primitive::<Int32Type>().value(at)),
        ColumnType::Int64 => Value::Int64(array.as_primitive::<Int64Type>().value(at)),
        ColumnType::Float32 => Value::Float32(array.as_primitive::<Float32Type>().value(at)),
        ColumnType::Float64 => Value::Float64(array.as_primitive::<Float64Type>().value(at)),
        ColumnType::Decimal { .. } => {
            Value::Decimal(array.as_primitive::<Decimal128Type>().value(at))
        }
        ColumnType::Utf8 => Value::Utf8(array.as_string::<i32>().value(at).into()),
        ColumnType::Binary => Value::Binary(array.as_binary::<i32>().value(at).into()),
        ColumnType::TimestampTz => {
            Value::TimestampTz(array.as_primitive::<TimestampMicrosecondType>().value(at))
        }
        other => panic!("no table has a column of {other}"),
    }
}
