//! The order of rows within a file.

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_row::{RowConverter, SortField};
use arrow_schema::{DataType, SortOptions};
use iceberg::TableIdent;
use iceberg::spec::{NullOrder, SortDirection, SortOrder, Transform};
use moonshine_engine::TableSchema;
use parquet::file::metadata::SortingColumn;

use super::parquet::leaf_count;
use super::transform::apply;
use super::z_order;
use super::{check_transform, position_of};
use crate::error::{At, ExportError, Result};

/// What a row takes that is being sorted, beside its key, in bytes.
const SORTED_ROW_BYTES: usize = 64;

/// A sort order, bound to columns.
#[derive(Debug)]
pub(super) enum RowOrder {
    /// One after the other.
    Columns(Vec<OrderColumn>),
    /// All at once, by position.
    ZOrder(Vec<usize>),
}

#[derive(Debug)]
pub(super) struct OrderColumn {
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
        Ok((!is_of_key).then_some(RowOrder::Columns(columns)))
    }

    /// About how much memory it takes to sort these rows, in bytes.
    pub(super) fn memory_bytes(&self, batch: &RecordBatch) -> usize {
        let keys: usize = match self {
            RowOrder::Columns(columns) => {
                let column = |sorted: &OrderColumn| batch.columns().get(sorted.column);
                let columns = columns.iter().filter_map(column);
                columns.map(|column| column.get_array_memory_size()).sum()
            }
            RowOrder::ZOrder(columns) => columns.len() * batch.num_rows() * size_of::<u64>(),
        };
        keys + batch.num_rows() * SORTED_ROW_BYTES
    }

    /// What Parquet is told of it.
    pub(super) fn sorting_columns(&self, schema: &TableSchema) -> Vec<SortingColumn> {
        let RowOrder::Columns(columns) = self else {
            return Vec::new();
        };
        let plain = columns
            .iter()
            .take_while(|sorted| sorted.transform == Transform::Identity);
        let sorting = plain.map(|sorted| sorting_column(schema, sorted.column, sorted.options));
        sorting.map_while(|sorting| sorting).collect()
    }

    /// The rows of batches in order, as (batch, row). Rows that are equal in it stay in the order in which they come.
    pub(super) fn sorted(&self, batches: &[RecordBatch]) -> Result<Vec<(usize, usize)>> {
        let columns = match self {
            RowOrder::Columns(columns) => columns,
            RowOrder::ZOrder(columns) => return z_order::sorted(batches, columns),
        };
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
            columns.iter().map(value).collect()
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
                    let fields = values.iter().zip(columns).map(field);
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

/// What Parquet is told of rows in the order of their primary key.
pub(super) fn key_sorting_columns(schema: &TableSchema) -> Vec<SortingColumn> {
    let ascending = SortOptions {
        descending: false,
        nulls_first: true,
    };
    let key = schema.primary_key().iter();
    let sorting = key.map(|&column| sorting_column(schema, column, ascending));
    sorting.map_while(|sorting| sorting).collect()
}

/// `None` for a column of a type that Parquet orders otherwise, or not at all: it has no order of NaN and of the zeros.
fn sorting_column(
    schema: &TableSchema,
    column: usize,
    options: SortOptions,
) -> Option<SortingColumn> {
    let fields = schema.arrow_schema().fields();
    let has_its_order = matches!(
        fields.get(column)?.data_type(),
        DataType::Boolean
            | DataType::Int32
            | DataType::Int64
            | DataType::Decimal128(_, _)
            | DataType::Utf8
            | DataType::Binary
            | DataType::FixedSizeBinary(_)
            | DataType::Date32
            | DataType::Time64(_)
            | DataType::Timestamp(_, _)
    );
    let leaves: usize = fields.iter().take(column).map(leaf_count).sum();
    let column_idx = i32::try_from(leaves).ok()?;
    has_its_order.then_some(SortingColumn {
        column_idx,
        descending: options.descending,
        nulls_first: options.nulls_first,
    })
}
