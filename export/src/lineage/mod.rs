//! Row lineage of format v3: an id that a row keeps for as long as its key lives, and the commit that last changed it.
//!
//! A row's id is the column `_row_id` of its file where that is not null, else the file's first row id and the row's
//! position. So a new row needs nothing; a row that replaces another one takes the other's id along in the column, which is
//! left out of the files of an export that replaces nothing. The number of the commit is the file's own unless the
//! column `_last_updated_sequence_number` says another, as it does in rewritten files.
//!
//! Source: the Iceberg specification, section "Row Lineage".

mod read;

pub(crate) use read::{FileLineage, RowLineage, column_of};

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use moonshine_engine::{Placement, Replaced};

use crate::error::{ExportError, Result};
use crate::manifest::Found;

pub(crate) const ROW_ID: &str = "_row_id";
/// The field id that the specification reserves for `_row_id`.
const ROW_ID_FIELD_ID: i32 = 2_147_483_540;
/// Where a field of an Arrow schema has its id.
const FIELD_ID_KEY: &str = "PARQUET:field_id";
const LAST_UPDATED: &str = "_last_updated_sequence_number";
/// The field id that the specification reserves for `_last_updated_sequence_number`.
const LAST_UPDATED_FIELD_ID: i32 = 2_147_483_539;

/// Ids of rows by the number of the row, ascending.
pub(crate) type RowIds = Vec<(u64, u64)>;

/// The ids that rows take over from those that they replace, of whose data files `found` has the entries. A file from before
/// the table had ids has none to give.
pub(crate) fn kept_ids(replaced: &[Replaced], found: &Found) -> RowIds {
    let kept_id = |row: &Replaced| {
        let Placement { file, position } = &row.placement;
        let implied = || {
            let (_, _, entry) = found.of(file).next()?;
            let first_id = u64::try_from(entry.file.first_row_id()?).ok()?;
            first_id.checked_add(*position)
        };
        Some((row.row, row.row_id.or_else(implied)?))
    };
    replaced.iter().filter_map(kept_id).collect()
}

/// Batches of rows with the column `_row_id`, if any row has an id to keep.
pub(crate) struct WithRowIds<B> {
    batches: B,
    row_ids: Arc<RowIds>,
    next_row: u64,
    /// How many of the ids were given.
    given: usize,
}

impl<B> WithRowIds<B> {
    pub(crate) fn new(batches: B, row_ids: Arc<RowIds>) -> Self {
        WithRowIds {
            batches,
            row_ids,
            next_row: 0,
            given: 0,
        }
    }

    fn add_column(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let rows = self.next_row..self.next_row + batch.num_rows() as u64;
        self.next_row = rows.end;
        let mut ids = self.row_ids.iter().skip(self.given).peekable();
        let mut given = 0;
        let mut id_of = |row: u64| {
            let (_, id) = ids.next_if(|(of_row, _)| *of_row == row)?;
            given += 1;
            i64::try_from(*id).ok()
        };
        let column: Int64Array = rows.map(&mut id_of).collect();
        self.given += given;
        with_columns(batch, [(ROW_ID, ROW_ID_FIELD_ID, column)])
    }
}

impl<B: Iterator<Item = Result<RecordBatch>>> Iterator for WithRowIds<B> {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.batches.next()?;
        if self.row_ids.is_empty() {
            return Some(batch);
        }
        Some(batch.and_then(|batch| self.add_column(&batch)))
    }
}

/// The ids that rows of an export keep, if any of them does.
pub(crate) fn row_ids_of(batch: &RecordBatch) -> Option<&Int64Array> {
    let id = ROW_ID_FIELD_ID.to_string();
    let mut fields = batch.schema_ref().fields().iter();
    let at = fields.position(|field| field.metadata().get(FIELD_ID_KEY) == Some(&id))?;
    batch.columns().get(at)?.as_primitive_opt()
}

/// The batch with columns behind its own.
fn with_columns(
    batch: &RecordBatch,
    added: impl IntoIterator<Item = (&'static str, i32, Int64Array)>,
) -> Result<RecordBatch> {
    let mut fields = batch.schema().fields().to_vec();
    let mut columns = batch.columns().to_vec();
    for (name, field_id, column) in added {
        fields.push(Arc::new(lineage_field(name, field_id)));
        columns.push(Arc::new(column));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .map_err(|error| ExportError::corrupt("rows with their lineage", error))
}

fn lineage_field(name: &str, field_id: i32) -> Field {
    let metadata = [(FIELD_ID_KEY.to_owned(), field_id.to_string())];
    Field::new(name, DataType::Int64, true).with_metadata(metadata.into())
}
