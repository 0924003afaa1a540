//! A snapshot against rows that come from elsewhere.

use std::collections::BTreeMap;

use arrow_array::RecordBatch;

use super::snapshot::SnapshotRows;
use super::value::{Value, from_arrow};
use super::{Finding, Result, ensure};

/// Rows by the values of their key: the other values in the order of the snapshot's columns.
pub type Rows = BTreeMap<Vec<Value>, Vec<Value>>;

impl SnapshotRows {
    /// Rows of Arrow batches, whose columns have these field ids, as rows of the snapshot. They are named by the columns `key`.
    ///
    /// # Errors
    /// A [`Finding`] if the columns or their types are others than the snapshot's, or two rows have one key.
    pub fn rows_of(&self, batches: &[RecordBatch], columns: &[i32], key: &[i32]) -> Result<Rows> {
        let position = |id: i32| columns.iter().position(|column| *column == id);
        let place = || self.place();
        ensure(columns.len() == self.schema.fields.len(), place(), || {
            format!(
                "{} columns, not {}",
                self.schema.fields.len(),
                columns.len()
            )
        })?;
        let mut rows = Rows::new();
        for batch in batches {
            for row in 0..batch.num_rows() {
                let value = |field: &super::Field| {
                    let what = || format!("it has column {}, which is not there", field.name);
                    let at = position(field.id).ok_or_else(|| Finding::new(place(), what()))?;
                    from_arrow(batch.column(at), row, &field.field_type)
                };
                let fields = &self.schema.fields;
                let values: Vec<Value> = fields.iter().map(value).collect::<Result<_>>()?;
                let of_key = |id: &i32| {
                    let at = fields.iter().position(|field| field.id == *id);
                    at.and_then(|at| values.get(at).cloned())
                        .unwrap_or(Value::Null)
                };
                let name: Vec<Value> = key.iter().map(of_key).collect();
                let is_new = rows.insert(name.clone(), values.clone()).is_none();
                ensure(is_new, place(), || format!("the key {name:?} twice"))?;
            }
        }
        Ok(rows)
    }

    /// Checks that it holds these rows and no others.
    ///
    /// # Errors
    /// A [`Finding`] that names the first row that differs.
    pub fn check_same(&self, expected: &Rows, key: &[i32]) -> Result<()> {
        let found = self.by_key(key)?;
        for (name, row) in &found {
            let expected = expected.get(name);
            ensure(expected == Some(&row.values), self.place(), || {
                format!(
                    "row {name:?} of {} {} is {:?}, expected {expected:?}",
                    row.file, row.position, row.values
                )
            })?;
        }
        let missing = expected.keys().find(|name| !found.contains_key(*name));
        ensure(missing.is_none(), self.place(), || {
            format!("row {missing:?} is missing")
        })
    }
}
