//! The order of rows within a file.

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_row::{RowConverter, SortField};
use arrow_schema::SortOptions;
use iceberg::TableIdent;
use iceberg::spec::{NullOrder, SortDirection, SortOrder, Transform};
use moonshine_engine::TableSchema;

use super::transform::apply;
use super::{check_transform, position_of};
use crate::error::{At, ExportError, Result};

/// What a row takes that is being sorted, beside its key, in bytes.
const SORTED_ROW_BYTES: usize = 64;

/// A sort order, bound to columns.
#[derive(Debug)]
pub(super) struct RowOrder {
    columns: Vec<OrderColumn>,
}

#[derive(Debug)]
struct OrderColumn {
    column: usize,
    transform: Transform,
    options: SortOptions,
}

impl RowOrder {
    /// `None` for an order that rows sorted by primary key have anyway.
    pub(super) fn new(
        table: &TableIdent,
        order: &SortOrder,
        schema: &TableSchema,
    ) -> Result<Option<Self>> {
        let columns = order.fields.iter().map(|field| {
            let what = format!(
                "a field of its sort order, of column id {},",
                field.source_id
            );
            let position = position_of(schema, field.source_id);
            let found =
                position.and_then(|position| Some((position, schema.columns().get(position)?)));
            let (column, definition) = found.ok_or_else(|| {
                ExportError::foreign(table, format!("{what} is of no column of the database"))
            })?;
            check_transform(table, &what, field.transform, definition)?;
            Ok(OrderColumn {
                column,
                transform: field.transform,
                options: SortOptions {
                    descending: field.direction == SortDirection::Descending,
                    nulls_first: field.null_order == NullOrder::First,
                },
            })
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let is_of_key = |(sorted, key): (&OrderColumn, &usize)| {
            sorted.column == *key
                && sorted.transform == Transform::Identity
                && !sorted.options.descending
        };
        // Once all of the key is sorted by, no two rows are equal, and what follows says nothing.
        let is_of_key = columns.iter().zip(schema.primary_key()).all(is_of_key);
        Ok((!is_of_key).then_some(RowOrder { columns }))
    }

    /// About how much memory it takes to sort these rows, in bytes.
    pub(super) fn memory_bytes(&self, batch: &RecordBatch) -> usize {
        let column = |sorted: &OrderColumn| batch.columns().get(sorted.column);
        let columns = self.columns.iter().filter_map(column);
        let keys: usize = columns.map(|column| column.get_array_memory_size()).sum();
        keys + batch.num_rows() * SORTED_ROW_BYTES
    }

    /// The rows of batches in order, as (batch, row). Rows that are equal in it stay in the order in which they come.
    pub(super) fn sorted(&self, batches: &[RecordBatch]) -> Result<Vec<(usize, usize)>> {
        let failed =
            |error: arrow_schema::ArrowError| ExportError::corrupt("the order of rows", error);
        let values = |batch: &RecordBatch| -> Result<Vec<ArrayRef>> {
            let value = |sorted: &OrderColumn| match batch.columns().get(sorted.column) {
                Some(column) => apply(sorted.transform, column).at("the order of rows"),
                None => Err(ExportError::corrupt(
                    "the order of rows",
                    "a column is missing",
                )),
            };
            self.columns.iter().map(value).collect()
        };
        let mut converter: Option<RowConverter> = None;
        let mut keys = Vec::with_capacity(batches.len());
        for batch in batches {
            let values = values(batch)?;
            let converter = match &mut converter {
                Some(converter) => converter,
                none => {
                    let field = |(value, sorted): (&ArrayRef, &OrderColumn)| {
                        SortField::new_with_options(value.data_type().clone(), sorted.options)
                    };
                    let fields = values.iter().zip(&self.columns).map(field);
                    none.insert(RowConverter::new(fields.collect()).map_err(failed)?)
                }
            };
            keys.push(converter.convert_columns(&values).map_err(failed)?);
        }
        let mut rows: Vec<_> = (0..)
            .zip(&keys)
            .flat_map(|(batch, keys)| (0..).zip(keys).map(move |(row, key)| (key, batch, row)))
            .collect();
        rows.sort_unstable();
        Ok(rows
            .into_iter()
            .map(|(_, batch, row)| (batch, row))
            .collect())
    }
}
