//! Bulk load: many rows of one table that go below level 0 past the log, and take effect together ([`crate::load`]).

use std::sync::Arc;

use arrow_array::RecordBatch;

use crate::codec::columns::BatchColumns;
use crate::codec::key::{check_key_size, encode_key};
use crate::codec::row::encode_row;
use crate::database::Database;
use crate::error::Result;
use crate::keyspace::{Keyspace, encode_value};
use crate::load::Load;
use crate::open::OpenDatabase;
use crate::schema::check_row;
use crate::table::Table;
use crate::value::{Row, Value};

/// Rows of one table that take effect together when [`finish`](Self::finish) is called, in any order and number.
///
/// They are not logged: each is written once to sort it, and once where it is to stay, so this is the cheapest way for
/// more rows than a transaction holds. A row replaces one with its key from before, and one that was given here earlier.
/// Others see nothing of it until it is finished; dropped before, it leaves no trace. It takes a quarter of the memory
/// budget for as long as it lives.
///
/// ```
/// use moonshine_engine::{ColumnType, Database, Options, TableSchema, Value};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// let schema = TableSchema::builder("shop.orders")
///     .column("id", ColumnType::Int64, false)
///     .column("note", ColumnType::Utf8, true)
///     .primary_key(["id"])
///     .build()?;
/// let orders = database.create_table(schema)?;
/// let mut load = database.bulk_load(&orders)?;
/// for id in 0..1000 {
///     load.upsert(vec![Value::Int64(id), Value::Null])?;
/// }
/// load.finish()?;
/// assert_eq!(database.snapshot().row_count(&orders)?, 1000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct BulkLoad {
    database: Arc<OpenDatabase>,
    table: Table,
    load: Load,
}

/// Pairs of a keyspace that take effect together; see [`BulkLoad`].
///
/// ```
/// use moonshine_engine::{Database, Options};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// let words = database.keyspace("words")?;
/// let mut load = words.bulk_load()?;
/// for number in 0..1000_u32 {
///     load.insert(number.to_be_bytes(), number.to_string())?;
/// }
/// load.finish()?;
/// assert_eq!(words.get(7_u32.to_be_bytes())?.as_deref(), Some(&b"7"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct KeyspaceLoad(BulkLoad);

impl Database {
    /// Starts a bulk load of a table.
    ///
    /// # Errors
    /// [`Error::Usage`](crate::Error::Usage) if the database is read-only or the table belongs to another one.
    pub fn bulk_load(&self, table: &Table) -> Result<BulkLoad> {
        let shared = self.shared();
        shared.check_writable()?;
        shared.check_table(table)?;
        Ok(BulkLoad {
            database: self.open_database().clone(),
            table: table.clone(),
            load: Load::new(shared, table.id()),
        })
    }
}

impl BulkLoad {
    /// Takes a row.
    ///
    /// # Errors
    /// [`Error::Row`](crate::Error::Row) if it does not fit the table, [`Error::Io`](crate::Error::Io) if what was gathered
    /// can't be written; then nothing of the load can be finished any more.
    pub fn upsert(&mut self, row: Row) -> Result<()> {
        let schema = self.table.schema().clone();
        check_row(&schema, &row)?;
        self.push(
            |out| {
                let positions = schema.primary_key().iter();
                let key: Vec<&Value> = positions.filter_map(|&at| row.get(at)).collect();
                encode_key(&schema, key.into_iter(), out)
            },
            |out| encode_row(&schema, &row, out),
        )
    }

    /// Takes all rows of a batch. Columns go by name and must have the table's Arrow types; one that the batch lacks is
    /// null.
    ///
    /// # Errors
    /// As [`upsert`](Self::upsert).
    pub fn upsert_batch(&mut self, batch: &RecordBatch) -> Result<()> {
        let schema = self.table.schema().clone();
        let columns = BatchColumns::of_rows(&schema, batch)?;
        for row in 0..batch.num_rows() {
            self.push(
                |out| columns.encode_key(&schema, row, out),
                |out| columns.encode_row(row, out),
            )?;
        }
        Ok(())
    }

    /// How many rows were taken.
    pub fn row_count(&self) -> u64 {
        self.load.row_count()
    }

    fn push(
        &mut self,
        key: impl FnOnce(&mut Vec<u8>) -> Result<()>,
        value: impl FnOnce(&mut Vec<u8>),
    ) -> Result<()> {
        self.load.push(&self.database.shared, key, value)
    }

    /// Has the rows take effect, durably; returns their commit sequence, or the newest one if there were none. Commits
    /// wait meanwhile for as long as it takes to flush what was committed just before.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if the rows can't be written, [`Error::NoSpace`](crate::Error::NoSpace) if there is no
    /// room for them; nothing happened then. [`Error::Poisoned`](crate::Error::Poisoned) if the log can't be written.
    pub fn finish(self) -> Result<u64> {
        self.load.finish(&self.database.shared, None)
    }
}

impl Keyspace {
    /// Starts a bulk load of the keyspace.
    ///
    /// # Errors
    /// [`Error::Usage`](crate::Error::Usage) if the database is read-only.
    pub fn bulk_load(&self) -> Result<KeyspaceLoad> {
        self.database().bulk_load(self.table()).map(KeyspaceLoad)
    }
}

impl KeyspaceLoad {
    /// Takes a pair.
    ///
    /// # Errors
    /// [`Error::Row`](crate::Error::Row) if key or value is too long, [`Error::Io`](crate::Error::Io) as for [`BulkLoad::upsert`].
    pub fn insert(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        let (key, value) = (key.as_ref(), value.as_ref());
        check_key_size(self.0.table.schema(), key)?;
        self.0.push(
            |out| {
                out.extend_from_slice(key);
                Ok(())
            },
            |out| encode_value(value, out),
        )
    }

    /// How many pairs were taken.
    pub fn row_count(&self) -> u64 {
        self.0.row_count()
    }

    /// Has the pairs take effect, durably; see [`BulkLoad::finish`].
    ///
    /// # Errors
    /// As [`BulkLoad::finish`].
    pub fn finish(self) -> Result<u64> {
        self.0.finish()
    }
}
