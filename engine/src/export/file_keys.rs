//! The keys of a file of an export, taken down while it is written.

use std::sync::Arc;

use arrow_array::{Array, Int64Array, RecordBatch};

use super::key_spill::KeySpill;
use crate::codec::columns::BatchColumns;
use crate::error::{Error, Result};
use crate::exported::location::RowMark;
use crate::log::export_keys::ExportKeysBody;
use crate::row_set::spill::Spilled;
use crate::schema::TableSchema;

/// The keys of the rows of one file of an export, in the file's order; from
/// [`Export::file_keys`](crate::Export::file_keys), for [`Export::prepare_files`](crate::Export::prepare_files).
///
/// It takes the bytes of each key and four more, and up to nine for a row's id; in memory a thousandth of the budget, and on
/// disk what is more.
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
/// assert_eq!(keys.row_count(), export.row_count());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FileKeys {
    schema: Arc<TableSchema>,
    spill: Arc<KeySpill>,
    /// As they go into the log, but for the commit id.
    full: Vec<Full>,
    last: ExportKeysBody,
    row_count: u64,
}

/// Keys of one record.
#[derive(Debug)]
enum Full {
    /// Fewer than are worth to be written: those before the first row whose file says its id.
    Kept(ExportKeysBody),
    /// With how many keys there are.
    OnDisk(Spilled, u32),
}

impl FileKeys {
    pub(super) fn new(schema: Arc<TableSchema>, spill: Arc<KeySpill>) -> Self {
        FileKeys {
            schema,
            spill,
            full: Vec::new(),
            last: ExportKeysBody::new(false),
            row_count: 0,
        }
    }

    /// Adds the keys of the file's next rows, which have the columns of the key and may have others. `row_ids` has the ids of
    /// those rows whose file says their id outright, and null for the others; a later export that replaces such a row
    /// finds the id in [`Changes::replaced`](crate::Changes::replaced).
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
            let mark = RowMark::of_row_id(row_id);
            self.body_for(mark)?
                .push_with(mark, |out| columns.encode_key(&schema, row, out))?;
        }
        self.row_count += rows.num_rows() as u64;
        Ok(())
    }

    /// The body that takes the next key.
    fn body_for(&mut self, mark: RowMark) -> Result<&mut ExportKeysBody> {
        if self.last.size_bytes() >= self.spill.piece_size_bytes {
            let spilled = self.spill.write(self.last.bytes())?;
            self.full.push(Full::OnDisk(spilled, self.last.key_count()));
            self.last.clear();
        } else if !self.last.takes(mark) {
            let plain = std::mem::replace(&mut self.last, ExportKeysBody::new(false));
            self.full.push(Full::Kept(plain));
        }
        Ok(&mut self.last)
    }

    /// Of how many rows.
    pub fn row_count(&self) -> u64 {
        self.row_count
    }

    /// Hands out what goes into the log, one body after the other.
    pub(super) fn each_body(
        self,
        mut take: impl FnMut(ExportKeysBody) -> Result<()>,
    ) -> Result<()> {
        for full in self.full {
            take(match full {
                Full::Kept(body) => body,
                Full::OnDisk(spilled, key_count) => {
                    ExportKeysBody::from_bytes(self.spill.read(spilled)?, key_count)
                }
            })?;
        }
        take(self.last)
    }

    fn refused(&self, reason: &str) -> Error {
        Error::Usage(format!("table '{}': {reason}", self.schema.name()))
    }
}
