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

use std::collections::HashMap;
use std::iter::Peekable;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use moonshine_engine::{Error, Export, Placement, Replaced, ReplacedReader};

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

/// The ids that rows of an export take over from those that they replace.
#[derive(Debug, Default)]
pub(crate) struct KeptIds {
    /// The id of each file's first row. A file from before the table had ids has none.
    first_ids: HashMap<Arc<str>, u64>,
    /// Whether any row has an id to keep.
    pub(crate) are_there: bool,
}

impl KeptIds {
    /// `found` has the entries of the data files that the export takes rows from.
    pub(crate) fn new(export: &Export, found: &Found) -> Self {
        let first_id = |path: &Arc<str>| {
            let (_, _, entry) = found.of(path).next()?;
            let first_id = u64::try_from(entry.file.first_row_id()?).ok()?;
            Some((path.clone(), first_id))
        };
        let files = export.removed().files();
        let first_ids: HashMap<_, _> = files.filter_map(|(path, _)| first_id(path)).collect();
        KeptIds {
            are_there: export.replaced_count() > 0
                && (export.replaced_has_row_ids() || !first_ids.is_empty()),
            first_ids,
        }
    }

    /// The id that a row takes over, if there is one.
    fn of_row(&self, replaced: &Replaced) -> Option<u64> {
        let Placement { file, position } = &replaced.placement;
        let implied = || self.first_ids.get(file)?.checked_add(*position);
        replaced.row_id.or_else(implied)
    }
}

/// Batches of an export's rows with the column `_row_id`, if any row has an id to keep.
pub(crate) struct WithRowIds<B> {
    batches: B,
    kept_ids: Arc<KeptIds>,
    /// Those that come next.
    replaced: Peekable<ReplacedReader>,
    next_row: u64,
}

impl<B> WithRowIds<B> {
    pub(crate) fn new(batches: B, export: &Export, kept_ids: Arc<KeptIds>) -> Self {
        WithRowIds {
            batches,
            kept_ids,
            replaced: export.replaced().peekable(),
            next_row: 0,
        }
    }

    fn add_column(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let rows = self.next_row..self.next_row + batch.num_rows() as u64;
        self.next_row = rows.end;
        let column: Result<Int64Array, Error> = rows.map(|row| self.id_of(row)).collect();
        with_columns(batch, [(ROW_ID, ROW_ID_FIELD_ID, column?)])
    }

    fn id_of(&mut self, row: u64) -> Result<Option<i64>, Error> {
        let is_here = |next: &Result<Replaced, Error>| {
            next.as_ref().map_or(true, |replaced| replaced.row == row)
        };
        let Some(replaced) = self.replaced.next_if(is_here) else {
            return Ok(None);
        };
        let id = self.kept_ids.of_row(&replaced?);
        Ok(id.and_then(|id| i64::try_from(id).ok()))
    }
}

impl<B: Iterator<Item = Result<RecordBatch>>> Iterator for WithRowIds<B> {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.batches.next()?;
        if !self.kept_ids.are_there {
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
