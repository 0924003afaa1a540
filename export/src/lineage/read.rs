//! The lineage of a data file's rows, as it is read back.

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, Int64Array, RecordBatch};
use parquet::schema::types::SchemaDescriptor;
use roaring::RoaringTreemap;

use super::{LAST_UPDATED, LAST_UPDATED_FIELD_ID, ROW_ID, ROW_ID_FIELD_ID, with_columns};
use crate::error::Result;

/// What the rows of a data file have that don't say it themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileLineage {
    /// The id of the first row.
    pub(crate) first_row_id: i64,
    /// The sequence number of the commit that added the file.
    pub(crate) sequence_number: i64,
}

/// The column of a Parquet file with that field id.
pub(crate) fn column_of(parquet: &SchemaDescriptor, field_id: i32) -> Option<usize> {
    let mut columns = parquet.root_schema().get_fields().iter();
    columns.position(|column| {
        let info = column.get_basic_info();
        info.has_id() && info.id() == field_id
    })
}

/// Finds the lineage of a file's rows, batch after batch.
pub(crate) struct RowLineage {
    of_file: FileLineage,
    /// The file's columns with row ids and with sequence numbers, then their places in what is read.
    columns: [Option<usize>; 2],
    /// The positions of the rows to come.
    positions: Box<dyn Iterator<Item = u64> + Send>,
}

impl RowLineage {
    /// `skipped` are the positions of rows that are not read.
    pub(crate) fn new(
        of_file: FileLineage,
        parquet: &SchemaDescriptor,
        skipped: RoaringTreemap,
        row_count: u64,
    ) -> Self {
        let column = |field_id: i32| column_of(parquet, field_id);
        RowLineage {
            of_file,
            columns: [ROW_ID_FIELD_ID, LAST_UPDATED_FIELD_ID].map(column),
            positions: Box::new(
                (0..row_count).filter(move |position| !skipped.contains(*position)),
            ),
        }
    }

    /// The Parquet columns that have to be read.
    pub(crate) fn columns(&self) -> impl Iterator<Item = usize> {
        self.columns.into_iter().flatten()
    }

    /// Takes the Parquet columns that are read, ascending.
    pub(crate) fn bind(&mut self, columns: &[usize]) {
        let place = |column: Option<usize>| columns.binary_search(&column?).ok();
        self.columns = self.columns.map(place);
    }

    /// The rows of a batch that was read, as `adapted` has them, with their lineage.
    pub(crate) fn add(&mut self, read: &RecordBatch, adapted: &RecordBatch) -> Result<RecordBatch> {
        let column = |place: Option<usize>| {
            let column = read.columns().get(place?)?;
            column.as_primitive_opt::<Int64Type>()
        };
        let [row_ids, sequence_numbers] = self.columns.map(column);
        let said = |column: Option<&Int64Array>, row: usize| {
            let column = column?;
            column.is_valid(row).then(|| column.value(row))
        };
        let FileLineage {
            first_row_id,
            sequence_number,
        } = self.of_file;
        let rows = 0..read.num_rows();
        let ids = rows
            .clone()
            .zip(self.positions.by_ref())
            .map(|(row, position)| {
                let position = i64::try_from(position).unwrap_or(i64::MAX);
                said(row_ids, row).unwrap_or(first_row_id.saturating_add(position))
            });
        let ids = Int64Array::from_iter_values(ids);
        let numbers = rows.map(|row| said(sequence_numbers, row).unwrap_or(sequence_number));
        let numbers = Int64Array::from_iter_values(numbers);
        let added = [
            (ROW_ID, ROW_ID_FIELD_ID, ids),
            (LAST_UPDATED, LAST_UPDATED_FIELD_ID, numbers),
        ];
        with_columns(adapted, added)
    }
}
