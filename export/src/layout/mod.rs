//! How a table's rows lie in its data files: which rows share a file, in which order, and how the file is encoded.
//!
//! A [`Layout`] is what an Iceberg table says of it, its default partition spec and sort order, bound to the engine's
//! columns. `wanted` is what the configuration asks of a table, in the words that `text` reads. `partition` tells rows apart by
//! the values of `transform`, `sort` puts them in order (`z_order` in that of several columns at once), `divider` holds the rows of each partition until they are worth a row group,
//! `parquet` encodes those with their columns beside each other by `encode`, and `writer` brings the bytes to the store. `statistics` counts
//! different values, apart from exports.
//!
//! Rows come in the order of their primary key. Where a layout keeps that order, they pass through. The
//! keys of a file's rows are taken down as they are written, for the engine has to know which row lies where.

mod distinct;
mod divider;
#[cfg(test)]
mod divider_tests;
mod encode;
mod parquet;
mod partition;
mod sort;
mod statistics;
pub(crate) mod text;
mod transform;
pub(crate) mod wanted;
mod writer;
mod z_order;

use ::parquet::file::metadata::SortingColumn;
use iceberg::TableIdent;
use iceberg::spec::{DataFile, TableMetadata, Transform};
use moonshine_engine::{Column, FileKeys, TableSchema};

pub(crate) use statistics::DistinctValues;
pub(crate) use writer::{Destination, write_data_files};

use crate::catalog::CatalogTable;
use crate::config::TableSettings;
use crate::error::{ExportError, Result};
use crate::schema::iceberg_type;
use partition::Partitioning;
use sort::{RowOrder, key_sorting_columns};
use wanted::LayoutLimits;

/// The layout of a table's new data files.
#[derive(Debug)]
pub(crate) struct Layout {
    spec_id: i32,
    partitioning: Partitioning,
    sort_order_id: i32,
    /// `None` for the order in which rows come: the primary key's.
    order: Option<RowOrder>,
    target_size_bytes: u64,
    limits: LayoutLimits,
}

/// A data file that was written.
#[derive(Debug)]
pub(crate) struct WrittenFile {
    /// The manifest's entry.
    pub(crate) entry: DataFile,
    /// The keys of its rows, if they are an export's.
    pub(crate) keys: Option<FileKeys>,
}

impl Layout {
    /// The layout that a table has now.
    ///
    /// # Errors
    /// [`Foreign`](crate::ExportError::Foreign) for a spec or an order that can't be followed.
    pub(crate) fn of(
        table: &CatalogTable,
        schema: &TableSchema,
        settings: &TableSettings,
    ) -> Result<Self> {
        let metadata: &TableMetadata = &table.metadata;
        let spec = metadata.default_partition_spec();
        let order = metadata.default_sort_order();
        Ok(Layout {
            spec_id: spec.spec_id(),
            partitioning: Partitioning::new(&table.ident, spec, schema)?,
            sort_order_id: i32::try_from(order.order_id).unwrap_or(0),
            order: match settings.layout.z_order(schema)? {
                // The table says so once it has no order of another kind.
                Some(columns) if order.fields.is_empty() => Some(RowOrder::ZOrder(columns)),
                _ => RowOrder::new(&table.ident, order, schema)?,
            },
            target_size_bytes: settings.target_file_size_bytes,
            limits: settings.layout.limits,
        })
    }

    /// The same for rows that come in no order. What has to be put in order is; else the files say that they have none.
    pub(crate) fn of_unordered_rows(self) -> Self {
        Layout {
            sort_order_id: match self.order {
                Some(_) => self.sort_order_id,
                None => 0,
            },
            ..self
        }
    }

    /// What each file says its rows are sorted by: as far as Parquet has the same order.
    fn sorting_columns(&self, schema: &TableSchema) -> Option<Vec<SortingColumn>> {
        let sorting = match &self.order {
            Some(order) => order.sorting_columns(schema),
            None if self.sort_order_id == 0 => Vec::new(),
            None => key_sorting_columns(schema),
        };
        (!sorting.is_empty()).then_some(sorting)
    }

    /// Whether rows lie in files as they come.
    fn keeps_rows_in_order(&self) -> bool {
        self.order.is_none() && self.partitioning.is_empty()
    }
}

/// The position of the column with that field id.
fn position_of(schema: &TableSchema, field_id: i32) -> Option<usize> {
    let mut columns = schema.columns().iter();
    columns.position(|column| column.field_id == field_id)
}

/// Checks that a transform, which somebody may have given by hand, can be made of a column. `what` names it.
fn check_transform(
    table: &TableIdent,
    what: &str,
    transform: Transform,
    column: &Column,
) -> Result<()> {
    let column_type = iceberg_type(column.column_type);
    let is_empty = matches!(transform, Transform::Bucket(0) | Transform::Truncate(0));
    if is_empty || transform == Transform::Unknown || transform.result_type(&column_type).is_err() {
        let reason = format!("{what} is {transform} of a column of type {column_type}");
        return Err(ExportError::foreign(table, reason));
    }
    Ok(())
}
