//! Whether values fit a table's columns.

use super::{Column, ColumnType, NestedField, TableSchema};
use crate::error::{Error, Result};
use crate::value::Value;

/// Largest list, struct or map of a row, in bytes; what is in it counts with a byte more each.
pub const CELL_SIZE_BYTES_MAX: usize = 64 << 20;
/// How much of a value an error shows, in bytes.
const SHOWN_SIZE_BYTES_MAX: usize = 1000;

impl Value {
    /// Checks that this value may stand in that column of that table.
    ///
    /// # Errors
    /// [`Error::Row`], naming table and column: a null where none may be, another type's variant, a decimal with more
    /// digits than the precision, a list, struct or map of more than [`CELL_SIZE_BYTES_MAX`].
    pub fn check(&self, table_name: &str, column: &Column) -> Result<()> {
        if self.fits(column.column_type, column.nullable) {
            return self.check_size(table_name, column);
        }
        let shown = format!("{self:?}");
        let shown = shown.get(..shown.floor_char_boundary(SHOWN_SIZE_BYTES_MAX));
        Err(Error::Row(format!(
            "table '{table_name}', column '{}': {} does not fit {}{}",
            column.name,
            shown.unwrap_or_default(),
            column.column_type,
            if column.nullable { "" } else { " not null" }
        )))
    }

    fn check_size(&self, table_name: &str, column: &Column) -> Result<()> {
        if !column.column_type.is_nested() {
            return Ok(());
        }
        match self.size_bytes() {
            0..=CELL_SIZE_BYTES_MAX => Ok(()),
            size_bytes => Err(Error::Row(format!(
                "table '{table_name}', column '{}': a {} of {size_bytes} bytes, at most {CELL_SIZE_BYTES_MAX} are supported",
                column.name, column.column_type
            ))),
        }
    }

    fn fits(&self, column_type: ColumnType, nullable: bool) -> bool {
        match (self, column_type) {
            (Value::Null, _) => nullable,
            (Value::Decimal(unscaled), ColumnType::Decimal { precision, .. }) => {
                unscaled.unsigned_abs() < 10u128.pow(u32::from(precision))
            }
            (Value::Boolean(_), ColumnType::Boolean)
            | (Value::Int32(_), ColumnType::Int32)
            | (Value::Int64(_), ColumnType::Int64)
            | (Value::Float32(_), ColumnType::Float32)
            | (Value::Float64(_), ColumnType::Float64)
            | (Value::Utf8(_), ColumnType::Utf8)
            | (Value::Binary(_), ColumnType::Binary)
            | (Value::Uuid(_), ColumnType::Uuid)
            | (Value::Date(_), ColumnType::Date)
            | (Value::Time(_), ColumnType::Time)
            | (Value::Timestamp(_), ColumnType::Timestamp)
            | (Value::TimestampTz(_), ColumnType::TimestampTz)
            | (Value::TimestampNs(_), ColumnType::TimestampNs)
            | (Value::TimestampTzNs(_), ColumnType::TimestampTzNs) => true,
            (Value::List(_) | Value::Struct(_) | Value::Map(_), nested) => self.fits_nested(nested),
            _ => false,
        }
    }

    fn fits_nested(&self, column_type: ColumnType) -> bool {
        let is = |value: &Value, field: &NestedField| value.fits(field.column_type, field.nullable);
        match (self, column_type, column_type.nested_fields()) {
            (Value::List(elements), ColumnType::List(_), [element]) => {
                elements.iter().all(|value| is(value, element))
            }
            (Value::Map(entries), ColumnType::Map(_), [of_key, of_value]) => entries
                .iter()
                .all(|(key, value)| is(key, of_key) && is(value, of_value)),
            (Value::Struct(values), ColumnType::Struct(_), fields) => {
                values.len() == fields.len()
                    && values
                        .iter()
                        .zip(fields)
                        .all(|(value, field)| is(value, field))
            }
            _ => false,
        }
    }

    /// About how many bytes a nested value takes, of which each value in it takes at least one.
    fn size_bytes(&self) -> usize {
        let all = |values: &[Value]| values.iter().map(Value::size_bytes).sum::<usize>();
        1 + match self {
            Value::Utf8(text) => text.len(),
            Value::Binary(bytes) => bytes.len(),
            Value::Decimal(_) | Value::Uuid(_) => 16,
            Value::List(values) | Value::Struct(values) => all(values),
            Value::Map(entries) => {
                let entries = entries.iter();
                entries
                    .map(|(key, value)| key.size_bytes() + value.size_bytes())
                    .sum()
            }
            Value::Null | Value::Boolean(_) => 0,
            _ => 8,
        }
    }
}

/// Checks that a row has one fitting value for each column of the schema.
///
/// # Errors
/// [`Error::Row`], naming table and column.
pub fn check_row(schema: &TableSchema, row: &[Value]) -> Result<()> {
    if row.len() != schema.columns().len() {
        return Err(Error::Row(format!(
            "table '{}': a row of {} values, the table has {} columns",
            schema.name(),
            row.len(),
            schema.columns().len()
        )));
    }
    row.iter()
        .zip(schema.columns())
        .try_for_each(|(value, column)| value.check(schema.name(), column))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_does_not_fit_names_table_and_column() {
        let schema = TableSchema::builder("shop.orders")
            .column("id", ColumnType::Int64, false)
            .column(
                "price",
                ColumnType::Decimal {
                    precision: 4,
                    scale: 2,
                },
                true,
            )
            .primary_key(["id"])
            .build()
            .unwrap();
        check_row(&schema, &[Value::Int64(1), Value::Decimal(9999)]).unwrap();
        check_row(&schema, &[Value::Int64(1), Value::Null]).unwrap();
        for bad in [
            vec![Value::Int64(1), Value::Decimal(10_000)],
            vec![Value::Int64(1), Value::Utf8("1.00".into())],
        ] {
            let message = check_row(&schema, &bad).unwrap_err().to_string();
            assert!(
                message.contains("'shop.orders'") && message.contains("'price'"),
                "{message}"
            );
        }
        assert!(check_row(&schema, &[Value::Null, Value::Null]).is_err());
        assert!(check_row(&schema, &[Value::Int64(1)]).is_err());
    }

    #[test]
    fn what_lies_in_nested_values_is_checked() {
        let pair = ColumnType::structure([
            NestedField::new("a", ColumnType::Int32, false),
            NestedField::new("b", ColumnType::Utf8, true),
        ]);
        let schema = TableSchema::builder("t")
            .column("id", ColumnType::Int32, false)
            .column("pairs", ColumnType::list(pair, false), false)
            .column("map", ColumnType::map(ColumnType::Utf8, pair, true), true)
            .primary_key(["id"])
            .build()
            .unwrap();
        let pair = |a, b| Value::Struct(vec![a, b]);
        let good = pair(Value::Int32(1), Value::Null);
        let check = |pairs: Vec<Value>, map: Vec<(Value, Value)>| {
            check_row(
                &schema,
                &[Value::Int32(1), Value::List(pairs), Value::Map(map)],
            )
        };
        let key = || Value::Utf8("k".into());
        check(vec![], vec![]).unwrap();
        check(
            vec![good.clone()],
            vec![(key(), Value::Null), (key(), good.clone())],
        )
        .unwrap();
        for (pairs, map) in [
            (vec![Value::Null], vec![]),
            (vec![pair(Value::Null, key())], vec![]),
            (vec![pair(Value::Int64(1), key())], vec![]),
            (vec![Value::Struct(vec![Value::Int32(1)])], vec![]),
            (vec![Value::List(vec![])], vec![]),
            (vec![], vec![(Value::Null, good.clone())]),
            (vec![], vec![(key(), key())]),
        ] {
            assert!(check(pairs, map).is_err());
        }
        let large = Value::Utf8("x".repeat(CELL_SIZE_BYTES_MAX));
        match check(vec![pair(Value::Int32(1), large)], vec![]) {
            Err(Error::Row(text)) => assert!(text.contains("bytes, at most"), "{text}"),
            other => panic!("{other:?}"),
        }
    }
}
