//! Whether values fit a table's columns.

use super::{Column, ColumnType, TableSchema};
use crate::error::{Error, Result};
use crate::value::Value;

impl Value {
    /// Checks that this value may stand in that column of that table.
    ///
    /// # Errors
    /// [`Error::Row`], naming table and column: a null where none may be, another type's variant, a decimal with more
    /// digits than the precision.
    pub fn check(&self, table_name: &str, column: &Column) -> Result<()> {
        let fits = match (self, column.column_type) {
            (Value::Null, _) => column.nullable,
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
            _ => false,
        };
        if fits {
            return Ok(());
        }
        Err(Error::Row(format!(
            "table '{table_name}', column '{}': {self:?} does not fit {}{}",
            column.name,
            column.column_type,
            if column.nullable { "" } else { " not null" }
        )))
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
}
