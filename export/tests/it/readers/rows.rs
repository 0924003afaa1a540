//! Rows as text that is equal exactly when the values are; `export/tests/python/canonical.py` makes the same of what readers
//! hand over.

use moonshine_engine::{ColumnType, Database, NestedField, Scan, Table, TableSchema};
use serde_json::json;

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type};
use arrow_array::{Array, ArrayRef};
use arrow_cast::cast;
use arrow_schema::DataType;

/// One row; null is `None`.
pub(super) type TextRow = Vec<Option<String>>;

/// What the database holds of a table now, sorted.
pub(super) fn expected_rows(database: &Database, table: &Table) -> Vec<TextRow> {
    let mut rows = Vec::new();
    for batch in database.snapshot().scan(table, Scan::default()).unwrap() {
        let batch = batch.unwrap();
        let columns: Vec<Vec<Option<String>>> = table
            .schema()
            .columns()
            .iter()
            .zip(batch.columns())
            .map(|(column, array)| texts(column.column_type, array))
            .collect();
        rows.extend((0..batch.num_rows()).map(|row| {
            let values = columns.iter().map(|column| column[row].clone());
            values.collect::<TextRow>()
        }));
    }
    rows.sort();
    rows
}

/// Name and type of each column, as the readers' program takes them.
pub(super) fn columns_of(schema: &TableSchema) -> Vec<(String, String)> {
    let columns = schema.columns().iter();
    columns
        .map(|column| (column.name.clone(), type_name(column.column_type)))
        .collect()
}

pub(super) fn type_name(column_type: ColumnType) -> String {
    match column_type {
        ColumnType::Boolean => "boolean".into(),
        ColumnType::Int32 => "int32".into(),
        ColumnType::Int64 => "int64".into(),
        ColumnType::Float32 => "float32".into(),
        ColumnType::Float64 => "float64".into(),
        ColumnType::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
        ColumnType::Utf8 => "string".into(),
        ColumnType::Binary => "binary".into(),
        ColumnType::Uuid => "uuid".into(),
        ColumnType::Date => "date".into(),
        ColumnType::Time => "time".into(),
        ColumnType::Timestamp => "timestamp".into(),
        ColumnType::TimestampTz => "timestamptz".into(),
        ColumnType::TimestampNs => "timestamp_ns".into(),
        ColumnType::TimestampTzNs => "timestamptz_ns".into(),
        nested => nested.to_string().replace(" not null", ""),
    }
}

fn texts(column_type: ColumnType, array: &ArrayRef) -> Vec<Option<String>> {
    let text = |row: usize| {
        array
            .is_valid(row)
            .then(|| value_text(column_type, array, row))
    };
    (0..array.len()).map(text).collect()
}

/// A list as a JSON array of texts, a struct as one of its fields', a map as one of pairs in the order of their keys.
fn nested_text(column_type: ColumnType, array: &ArrayRef, row: usize) -> String {
    let parts = column_type.nested_fields();
    let json = match column_type {
        ColumnType::List(_) => {
            let elements = array.as_list::<i32>().value(row);
            json!(texts(parts[0].column_type, &elements))
        }
        ColumnType::Map(_) => {
            let entries = array.as_map().value(row);
            let keys = texts(parts[0].column_type, entries.column(0));
            let values = texts(parts[1].column_type, entries.column(1));
            let mut entries: Vec<_> = keys.into_iter().zip(values).collect();
            entries.sort();
            json!(entries)
        }
        _ => {
            let columns = parts.iter().zip(array.as_struct().columns());
            let text = |(part, column): (&NestedField, &ArrayRef)| {
                let is_valid = column.is_valid(row);
                is_valid.then(|| value_text(part.column_type, column, row))
            };
            json!(columns.map(text).collect::<Vec<_>>())
        }
    };
    json.to_string()
}

fn value_text(column_type: ColumnType, array: &ArrayRef, row: usize) -> String {
    let count = |to: &DataType| cast(&array.slice(row, 1), to).unwrap();
    match column_type {
        ColumnType::Boolean => array.as_boolean().value(row).to_string(),
        ColumnType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        ColumnType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        ColumnType::Float32 => match array.as_primitive::<Float32Type>().value(row) {
            value if value.is_nan() => "nan".into(),
            value => format!("{:x}", value.to_bits()),
        },
        ColumnType::Float64 => match array.as_primitive::<Float64Type>().value(row) {
            value if value.is_nan() => "nan".into(),
            value => format!("{:x}", value.to_bits()),
        },
        ColumnType::Decimal { scale, .. } => {
            let unscaled = array.as_primitive::<Decimal128Type>().value(row);
            format!("{unscaled}e{}", -i32::from(scale))
        }
        ColumnType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
        ColumnType::Binary => hex(array.as_binary::<i32>().value(row)),
        ColumnType::Uuid => hex(array.as_fixed_size_binary().value(row)),
        ColumnType::Date => count(&DataType::Int32)
            .as_primitive::<Int32Type>()
            .value(0)
            .to_string(),
        ColumnType::Time
        | ColumnType::Timestamp
        | ColumnType::TimestampTz
        | ColumnType::TimestampNs
        | ColumnType::TimestampTzNs => count(&DataType::Int64)
            .as_primitive::<Int64Type>()
            .value(0)
            .to_string(),
        nested => nested_text(nested, array, row),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
