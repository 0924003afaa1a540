//! The keys of a file of an export, taken down while it is written.

use std::sync::Arc;

use arrow_array::{Array, Int64Array, RecordBatch};

use super::export_spill::ExportSpill;
use super::spilled_keys::SpilledKeys;
use crate::codec::columns::BatchColumns;
use crate::error::{Error, Result};
use crate::exported::location::RowMark;
use crate::schema::TableSchema;

/// The keys of the rows of one file of an export, in the file's order; from
/// [`Export::file_keys`](crate::Export::file_keys), for [`Export::prepare_files`](crate::Export::prepare_files).
///
/// Of each key it takes what the key does not share with the one before it, two bytes more if that is short, and up to nine for a row's
/// id; in memory a thousandth of the budget until [`end`](Self::end), then a kibibyte, and on disk what is more.
///
/// ```
/// use moonshine_engine::{ColumnType, Database, Options, TableSchema, Value};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// # let schema = TableSchema::builder("users")
/// #     .column("id", ColumnType::Int64, false)
/// #     .column("name", ColumnType::Utf8, true)
/// #     .primary_key(["id"]);
/// # let users = database.create_table(schema.build()?)?;
/// # let mut transaction = database.begin();
/// # transaction.upsert(&users, vec![Value::Int64(1), Value::Utf8("ada".into())])?;
/// # transaction.commit()?;
/// let export = database.begin_export(&users, &database.snapshot())?;
/// let mut keys = export.file_keys();
/// for batch in export.batches(None, 8192)? {
///     // The batch is written to the file.
///     keys.add(&batch?, None)?;
/// }
/// keys.end()?;
/// assert_eq!(keys.row_count(), export.row_count());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FileKeys {
    schema: Arc<TableSchema>,
    keys: SpilledKeys,
}

impl FileKeys {
    pub(super) fn new(schema: Arc<TableSchema>, spill: Arc<ExportSpill>) -> Self {
        FileKeys {
            schema,
            keys: SpilledKeys::new(spill, false),
        }
    }

    /// Adds the keys of the file's next rows, which have the columns of the key and may have others. `row_ids` has the ids of
    /// those rows whose file says their id outright, and null for the others; a later export that replaces such a row
    /// finds the id in [`Export::replaced`](crate::Export::replaced).
    ///
    /// # Errors
    /// [`Error::Row`] if the batch lacks a column of the key or has it of another type, [`Error::Usage`] if there are not as
    /// many ids as rows, or if one is negative; or what writing to the disk answers. Then the keys are of no use any more.
    pub fn add(&mut self, rows: &RecordBatch, row_ids: Option<&Int64Array>) -> Result<()> {
        if row_ids.is_some_and(|ids| ids.len() != rows.num_rows()) {
            return Err(self.refused("not an id or null for each row of a file"));
        }
        let schema = self.schema.clone();
        let columns = BatchColumns::of_keys_among(&schema, rows)?;
        for row in 0..rows.num_rows() {
            let row_id = row_ids.filter(|ids| ids.is_valid(row));
            let row_id = row_id.map(|ids| u64::try_from(ids.value(row))).transpose();
            let row_id = row_id.map_err(|_| self.refused("the id of a row is negative"))?;
            self.keys.push_with(RowMark::of_row_id(row_id), |out| {
                columns.encode_key(&schema, row, out)
            })?;
        }
        Ok(())
    }

    /// The file has no more rows, so hardly anything of their keys stays in memory. An export of many files calls it for each.
    ///
    /// # Errors
    /// What writing to the disk answers. Then the keys are of no use any more.
    pub fn end(&mut self) -> Result<()> {
        self.keys.end()
    }

    /// Of how many rows.
    pub fn row_count(&self) -> u64 {
        self.keys.key_count()
    }

    pub(super) fn into_keys(self) -> SpilledKeys {
        self.keys
    }

    fn refused(&self, reason: &str) -> Error {
        Error::Usage(format!("table '{}': {reason}", self.schema.name()))
    }
}
