//! Lists, structs and maps of an Arrow batch, encoded row by row before the rows are.

use arrow_array::cast::AsArray as _;
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, TimeUnit};

use super::columns::{ColumnReader, refused};
use super::nested::encode_nested;
use crate::error::Result;
use crate::schema::{Column, ColumnType, NestedField, TableSchema};
use crate::value::Value;

/// The encoded values of a nested column.
#[derive(Clone, Debug)]
pub(super) struct Cells {
    bytes: Vec<u8>,
    /// The end of each row's value; `None` where it is null.
    ends: Vec<Option<usize>>,
    /// Where each row's value begins.
    starts: Vec<usize>,
}

/// Whether an array of that type holds values of a column's. A column with time zone takes any zone, since the numbers count
/// from the same moment in all of them; fields of structs go by name, and those that may be null may be missing.
pub(super) fn is_fitting(found: &DataType, column_type: ColumnType) -> bool {
    match (found, column_type, column_type.nested_fields()) {
        (DataType::List(item), ColumnType::List(_), [element]) => {
            is_fitting(item.data_type(), element.column_type)
        }
        (DataType::Map(entries, _), ColumnType::Map(_), [key, value]) => {
            let DataType::Struct(parts) = entries.data_type() else {
                return false;
            };
            let [found_key, found_value] = &**parts else {
                return false;
            };
            is_fitting(found_key.data_type(), key.column_type)
                && is_fitting(found_value.data_type(), value.column_type)
        }
        (DataType::Struct(parts), ColumnType::Struct(_), fields) => {
            let is_known = |name: &str| fields.iter().any(|field| field.name == name);
            parts.iter().all(|part| is_known(part.name()))
                && fields.iter().all(|field| match parts.find(&field.name) {
                    Some((_, part)) => is_fitting(part.data_type(), field.column_type),
                    None => field.nullable,
                })
        }
        (DataType::Timestamp(TimeUnit::Microsecond, Some(_)), ColumnType::TimestampTz, _)
        | (DataType::Timestamp(TimeUnit::Nanosecond, Some(_)), ColumnType::TimestampTzNs, _) => {
            true
        }
        (found, column_type, _) => !column_type.is_nested() && *found == column_type.arrow_type(),
    }
}

impl Cells {
    /// Encodes the values of an array whose type fits.
    ///
    /// # Errors
    /// [`Error::Row`](crate::Error::Row), naming table and column, for a null within that may not be, a number of too many
    /// digits, and a value that is too large.
    pub(super) fn new(schema: &TableSchema, column: &Column, array: &ArrayRef) -> Result<Self> {
        let mut cells = Cells {
            bytes: Vec::new(),
            ends: Vec::with_capacity(array.len()),
            starts: Vec::with_capacity(array.len()),
        };
        for row in 0..array.len() {
            cells.starts.push(cells.bytes.len());
            let value = value_of(array, column.column_type, row)
                .ok_or_else(|| refused(schema, &column.name, "holds a value of another type"))?;
            value.check(schema.name(), column)?;
            encode_nested(&value, &mut cells.bytes);
            let end = (!value.is_null()).then_some(cells.bytes.len());
            cells.ends.push(end);
        }
        Ok(cells)
    }

    pub(super) fn is_null(&self, row: usize) -> bool {
        self.ends.get(row).is_none_or(Option::is_none)
    }

    /// The encoded value of a row.
    pub(super) fn bytes(&self, row: usize) -> &[u8] {
        let end = self.ends.get(row).copied().flatten();
        let span = self.starts.get(row).copied().zip(end);
        span.and_then(|(start, end)| self.bytes.get(start..end))
            .unwrap_or_default()
    }
}

/// A value of an array; `None` if the array is of another type.
fn value_of(array: &ArrayRef, column_type: ColumnType, row: usize) -> Option<Value> {
    if array.is_null(row) {
        return Some(Value::Null);
    }
    match (column_type, column_type.nested_fields()) {
        (ColumnType::List(_), [element]) => {
            let elements = array.as_list_opt::<i32>()?.value(row);
            Some(Value::List(values_of(&elements, element)?))
        }
        (ColumnType::Map(_), [key, value]) => {
            let entries = array.as_map_opt()?.value(row);
            let [keys, values] = entries.columns() else {
                return None;
            };
            let (keys, values) = (values_of(keys, key)?, values_of(values, value)?);
            Some(Value::Map(keys.into_iter().zip(values).collect()))
        }
        (ColumnType::Struct(_), fields) => {
            let parts = array.as_struct_opt()?;
            let part = |field: &NestedField| match parts.column_by_name(&field.name) {
                Some(part) => value_of(part, field.column_type, row),
                None => Some(Value::Null),
            };
            let values = fields.iter().map(part);
            Some(Value::Struct(values.collect::<Option<_>>()?))
        }
        (plain, _) => {
            let reader = ColumnReader::new(array, plain)?;
            reader.value(row).to_value(plain).ok()
        }
    }
}

fn values_of(array: &ArrayRef, of: &NestedField) -> Option<Vec<Value>> {
    let rows = 0..array.len();
    if !of.column_type.is_nested() {
        let reader = ColumnReader::new(array, of.column_type)?;
        let values = rows.map(|row| reader.value(row).to_value(of.column_type).ok());
        return values.collect();
    }
    rows.map(|row| value_of(array, of.column_type, row))
        .collect()
}
