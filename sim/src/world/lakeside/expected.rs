//! The rows of the reference model as a snapshot of an Iceberg table has them.

use std::collections::BTreeMap;

use moonshine_engine::{TableSchema, Value};

use crate::model::rows::StoredRow;
use crate::model::state::TableRows;
use crate::replay::{Field, Rows, SnapshotRows, Type, Value as Replayed};

/// What rows have in a column that they were written without, by table and field id.
#[derive(Debug, Default)]
pub(super) struct Defaults(BTreeMap<(usize, i32), Value>);

impl Defaults {
    /// Takes note of the columns that a table has.
    pub(super) fn note(&mut self, table: usize, schema: &TableSchema) {
        for column in schema.columns() {
            if let Some(default) = &column.default {
                let known = (table, column.field_id);
                self.0.entry(known).or_insert_with(|| default.clone());
            }
        }
    }

    fn value<'v>(&'v self, table: usize, row: &'v StoredRow, field: &Field) -> &'v Value {
        let written = row.value(field.id);
        let value = written.or_else(|| self.0.get(&(table, field.id)));
        value.unwrap_or(&Value::Null)
    }

    /// The rows of a table as a snapshot has them, by the columns of this key.
    pub(super) fn rows(
        &self,
        table: usize,
        rows: &TableRows,
        snapshot: &SnapshotRows,
        key: &[i32],
    ) -> Rows {
        let replay = |row: &StoredRow, field: &Field| {
            replayed(self.value(table, row, field), &field.field_type)
        };
        let fields = &snapshot.schema.fields;
        let both = |row: &StoredRow| {
            let of_key = key.iter().map(|id| snapshot.schema.field(*id));
            let of_key =
                of_key.map(|field| field.map_or(Replayed::Null, |field| replay(row, field)));
            let values = fields.iter().map(|field| replay(row, field));
            (of_key.collect(), values.collect())
        };
        rows.values().map(both).collect()
    }
}

/// A value as a column of that type has it, which may have been widened since.
fn replayed(value: &Value, wanted: &Type) -> Replayed {
    match (value, wanted) {
        (Value::Null, _) => Replayed::Null,
        (Value::Boolean(value), _) => Replayed::Boolean(*value),
        (Value::Int32(number), Type::Long) => Replayed::Long(i64::from(*number)),
        (Value::Int32(number), _) => Replayed::Int(*number),
        (Value::Int64(number), _) => Replayed::Long(*number),
        (Value::Float32(number), Type::Double) => Replayed::Double(f64::from(*number).to_bits()),
        (Value::Float32(number), _) => Replayed::Float(number.to_bits()),
        (Value::Float64(number), _) => Replayed::Double(number.to_bits()),
        (Value::Decimal(number), Type::Decimal(_, scale)) => Replayed::Decimal(*number, *scale),
        (Value::TimestampTz(micros), _) => Replayed::Timestamptz(*micros),
        (Value::Utf8(text), _) => Replayed::String(text.clone()),
        (Value::Binary(bytes), _) => Replayed::Binary(bytes.clone()),
        (Value::List(values), Type::List(element)) => Replayed::List(
            values
                .iter()
                .map(|value| replayed(value, element))
                .collect(),
        ),
        (other, wanted) => panic!("{other:?} as {wanted:?}"),
    }
}
