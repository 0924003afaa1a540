//! The rows of Parquet files.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, RecordBatch};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};

use super::types::Schema;
use super::value::{Value, default, field_id, from_arrow};
use super::{Finding, Result};

const ROW_ID: i32 = 2_147_483_540;
const LAST_UPDATED: i32 = 2_147_483_539;

/// The rows of a data file, in their order, with the columns of a schema.
#[derive(Debug, Default)]
pub(super) struct FileRows {
    pub(super) rows: Vec<Vec<Value>>,
    /// What the file itself says of each row's id and last commit.
    pub(super) lineage: Vec<(Option<i64>, Option<i64>)>,
}

/// A file's batches, and where the column of each id is in them.
pub(super) fn batches(
    path: &str,
    bytes: Bytes,
) -> Result<(Vec<RecordBatch>, BTreeMap<i32, usize>)> {
    let failed = |error: &dyn std::fmt::Display| Finding::new(path, error);
    // The types are those of Parquet itself, whatever the writer had in memory.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(bytes, options)
        .map_err(|error| failed(&error))?;
    let fields = builder.schema().fields().iter().enumerate();
    let columns = fields.filter_map(|(position, field)| Some((field_id(field)?, position)));
    let columns: BTreeMap<i32, usize> = columns.collect();
    if columns.len() != builder.schema().fields().len() {
        return Err(failed(&"a column has no field id of its own"));
    }
    let reader = builder.build().map_err(|error| failed(&error))?;
    let batches = reader.collect::<std::result::Result<Vec<_>, _>>();
    Ok((batches.map_err(|error| failed(&error))?, columns))
}

impl FileRows {
    pub(super) fn read(path: &str, bytes: Bytes, schema: &Schema) -> Result<FileRows> {
        let (batches, columns) = batches(path, bytes)?;
        let mut read = FileRows::default();
        for batch in &batches {
            for row in 0..batch.num_rows() {
                let value = |field: &super::types::Field| match columns.get(&field.id) {
                    Some(position) => {
                        let array = batch.column(*position);
                        let value = from_arrow(array, row, &field.field_type);
                        value.map_err(|finding| {
                            Finding::new(path, format!("column {}: {finding}", field.name))
                        })
                    }
                    None => default(field),
                };
                let values: Vec<Value> = schema.fields.iter().map(value).collect::<Result<_>>()?;
                let mut required = schema.fields.iter().zip(&values);
                if let Some((field, _)) =
                    required.find(|(field, value)| field.is_required && **value == Value::Null)
                {
                    return Err(Finding::new(path, format!("a null in {}", field.name)));
                }
                read.rows.push(values);
                let said = |id: i32| {
                    let column = batch.column(*columns.get(&id)?);
                    let numbers = column.as_primitive_opt::<Int64Type>()?;
                    numbers.is_valid(row).then(|| numbers.value(row))
                };
                read.lineage.push((said(ROW_ID), said(LAST_UPDATED)));
            }
        }
        Ok(read)
    }
}
