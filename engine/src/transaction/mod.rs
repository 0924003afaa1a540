//! Buffered writes that become one delta, and what must hold for them to be committed.
//!
//! A [`Transaction`] gathers the writes to each table in [`writes`]; [`commit`] makes a record of all and queues it. One
//! that is not blind reads at a snapshot, with its own writes laid over it ([`overlay`]), and keeps the [`reads`] that
//! have to hold at its commit ([`isolation`]). What must hold is its [`conditions`]: the thread that commits looks at all
//! that is visible, and whoever writes the block of the log looks once more, at what came in between ([`validate`]).
//! Blind transactions have no conditions and pay for none of this.

mod commit;
mod conditions;
mod future;
mod isolation;
mod overlay;
mod reads;
mod refusal;
pub(crate) mod validate;
mod writes;

use std::ops::Bound;
use std::sync::Arc;

use arrow_array::RecordBatch;

use crate::Origin;
use crate::codec::columns::BatchColumns;
use crate::codec::key::encode_key;
use crate::codec::row::encode_row;
use crate::error::{Error, Result};
use crate::key_range::{KeyInterval, KeyRange};
use crate::log::queue::Durability;
use crate::open::OpenDatabase;
use crate::schema::check_row;
use crate::shared::Table;
use crate::value::{Row, Value};
pub use commit::CommitHandle;
pub(crate) use conditions::Conditions;
pub use future::CommitFuture;
pub use isolation::Isolation;
use isolation::Reading;
pub(crate) use isolation::{OwnValue, until_alone};
pub(crate) use reads::ReadRange;
use writes::{RowKind, TableWrites};

/// Writes to any number of tables that take effect together or not at all.
///
/// Writes are blind: none reads what it replaces. Within a transaction the last write of a key wins. Dropped without
/// [`commit`](Self::commit) or [`submit`](Self::submit) it leaves no trace.
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
/// let mut transaction = database.begin();
/// transaction.upsert(&orders, vec![Value::Int64(1), Value::Utf8("gift".into())])?;
/// transaction.commit()?;
/// assert!(database.snapshot().get(&orders, &[Value::Int64(1)])?.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Transaction {
    database: Arc<OpenDatabase>,
    origin: Option<Origin>,
    durability: Durability,
    tables: Vec<TableWrites>,
    /// `None` in a blind transaction.
    reading: Option<Reading>,
}

impl Transaction {
    /// A blind transaction.
    pub(crate) fn new(database: Arc<OpenDatabase>) -> Self {
        Transaction {
            database,
            origin: None,
            durability: Durability::default(),
            tables: Vec::new(),
            reading: None,
        }
    }

    fn writes(&mut self, table: &Table) -> Result<&mut TableWrites> {
        self.database.shared.check_current(table)?;
        let i = match self
            .tables
            .iter()
            .position(|writes| writes.table.id() == table.id())
        {
            Some(i) => i,
            None => {
                self.tables.push(TableWrites::new(table));
                self.tables.len() - 1
            }
        };
        let writes = self.tables.get_mut(i);
        let writes =
            writes.ok_or_else(|| Error::Usage(format!("table '{}' is unknown", table.name())))?;
        // What was written before its columns changed can't be read with the new ones.
        if writes.table.schema().version() != table.schema().version() {
            return Err(table.changed());
        }
        writes.charge_memory(&self.database.shared.memory_parts.transactions);
        Ok(writes)
    }

    /// Writes a row, whether or not one with its key exists.
    ///
    /// # Errors
    /// [`Error::Row`] if it does not fit the table, naming table and column.
    pub fn upsert(&mut self, table: &Table, row: Row) -> Result<()> {
        self.write_row(table, row, RowKind::Upsert)
    }

    /// Writes a row whose key must not exist. Whether it does is found out when the transaction is committed, so this
    /// reads nothing; the commit then fails with [`Error::Exists`], and nothing of the transaction takes effect.
    ///
    /// ```
    /// # use moonshine_engine::{ColumnType, Database, Error, Options, TableSchema, Value};
    /// # let folder = tempfile::tempdir()?;
    /// # let database = Database::open(folder.path(), Options::unmeasured())?;
    /// # let schema = TableSchema::builder("users").column("name", ColumnType::Utf8, false).primary_key(["name"]);
    /// # let users = database.create_table(schema.build()?)?;
    /// let register = |name: &str| {
    ///     let mut transaction = database.begin();
    ///     transaction.insert(&users, vec![Value::Utf8(name.into())])?;
    ///     transaction.commit()
    /// };
    /// register("ada")?;
    /// assert!(matches!(register("ada"), Err(Error::Exists { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`upsert`](Self::upsert).
    pub fn insert(&mut self, table: &Table, row: Row) -> Result<()> {
        self.write_row(table, row, RowKind::Insert)
    }

    fn write_row(&mut self, table: &Table, row: Row, kind: RowKind) -> Result<()> {
        let schema = table.schema();
        check_row(schema, &row)?;
        let writes = self.writes(table)?;
        let key_start = writes.arena.len();
        let key: Vec<&Value> = schema
            .primary_key()
            .iter()
            .filter_map(|&position| row.get(position))
            .collect();
        encode_key(schema, key.into_iter(), &mut writes.arena)
            .inspect_err(|_| writes.arena.truncate(key_start))?;
        let key_end = writes.arena.len();
        encode_row(schema, &row, &mut writes.arena);
        writes.push(key_start, key_end, kind)
    }

    /// Deletes the row with that key, given in primary-key order; if there is none, that is fine.
    ///
    /// # Errors
    /// [`Error::Row`] if the key does not fit the table.
    pub fn delete(&mut self, table: &Table, key: &[Value]) -> Result<()> {
        let writes = self.writes(table)?;
        let key_start = writes.arena.len();
        encode_key(table.schema(), key.iter(), &mut writes.arena)
            .inspect_err(|_| writes.arena.truncate(key_start))?;
        let key_end = writes.arena.len();
        writes.push(key_start, key_end, RowKind::Delete)
    }

    /// Writes all rows of a batch, as [`upsert`](Self::upsert) does one. Columns go by name and must have the table's
    /// Arrow types; one that the batch lacks has its default, or is null.
    ///
    /// # Errors
    /// [`Error::Row`] if the batch does not fit the table, naming table and column; nothing of it is written then.
    pub fn upsert_batch(&mut self, table: &Table, batch: &RecordBatch) -> Result<()> {
        self.write_rows(table, batch, RowKind::Upsert)
    }

    /// Writes all rows of a batch, as [`insert`](Self::insert) does one.
    ///
    /// # Errors
    /// As [`upsert_batch`](Self::upsert_batch).
    pub fn insert_batch(&mut self, table: &Table, batch: &RecordBatch) -> Result<()> {
        self.write_rows(table, batch, RowKind::Insert)
    }

    fn write_rows(&mut self, table: &Table, batch: &RecordBatch, kind: RowKind) -> Result<()> {
        let columns = BatchColumns::of_rows(table.schema(), batch)?;
        self.write_batch(table, batch.num_rows(), kind, |row, arena| {
            columns.encode_key(table.schema(), row, arena)?;
            let key_end = arena.len();
            columns.encode_row(row, arena);
            Ok(key_end)
        })
    }

    /// Deletes the rows with the keys of a batch, whose columns are those of the primary key.
    ///
    /// # Errors
    /// As [`upsert_batch`](Self::upsert_batch).
    pub fn delete_batch(&mut self, table: &Table, keys: &RecordBatch) -> Result<()> {
        let columns = BatchColumns::of_keys(table.schema(), keys)?;
        self.write_batch(table, keys.num_rows(), RowKind::Delete, |row, arena| {
            columns.encode_key(table.schema(), row, arena)?;
            Ok(arena.len())
        })
    }

    /// Writes rows that `encode` appends to the arena; it returns where the key ends.
    fn write_batch(
        &mut self,
        table: &Table,
        row_count: usize,
        kind: RowKind,
        encode: impl Fn(usize, &mut Vec<u8>) -> Result<usize>,
    ) -> Result<()> {
        let writes = self.writes(table)?;
        let (arena_start, row_start) = (writes.arena.len(), writes.rows.len());
        for row in 0..row_count {
            let key_start = writes.arena.len();
            let written = encode(row, &mut writes.arena)
                .and_then(|key_end| writes.push(key_start, key_end, kind));
            if let Err(error) = written {
                writes.arena.truncate(arena_start);
                writes.rows.truncate(row_start);
                writes.index = None;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Writes a row of key bytes and what `encode_value` appends, or deletes it: `None`.
    pub(crate) fn write_encoded(
        &mut self,
        table: &Table,
        key: &[u8],
        encode_value: Option<impl FnOnce(&mut Vec<u8>)>,
        must_be_new: bool,
    ) -> Result<()> {
        let writes = self.writes(table)?;
        let key_start = writes.arena.len();
        writes.arena.extend_from_slice(key);
        let key_end = writes.arena.len();
        let kind = match &encode_value {
            None => RowKind::Delete,
            Some(_) if must_be_new => RowKind::Insert,
            Some(_) => RowKind::Upsert,
        };
        if let Some(encode_value) = encode_value {
            encode_value(&mut writes.arena);
        }
        writes.push(key_start, key_end, kind)
    }

    /// Deletes every row that the table holds up to here, this transaction's own included.
    ///
    /// # Errors
    /// [`Error::Usage`] if the table belongs to another database.
    pub fn truncate(&mut self, table: &Table) -> Result<()> {
        let writes = self.writes(table)?;
        *writes = TableWrites::new(table);
        writes.truncate = true;
        Ok(())
    }

    /// Deletes every row of a range of the primary key that the table holds up to here, this transaction's own included.
    /// The bounds are as those of [`Scan::range`](crate::Scan::range): they may name only the key's first columns.
    ///
    /// It costs the same however many rows there are: none is looked for. The range is remembered until no older row is
    /// left in it.
    ///
    /// ```
    /// use std::ops::Bound;
    /// # use moonshine_engine::{ColumnType, Database, Options, TableSchema, Value};
    /// # let folder = tempfile::tempdir()?;
    /// # let database = Database::open(folder.path(), Options::unmeasured())?;
    /// # let schema = TableSchema::builder("lines")
    /// #     .column("order", ColumnType::Int64, false)
    /// #     .column("line", ColumnType::Int64, false)
    /// #     .primary_key(["order", "line"]);
    /// # let lines = database.create_table(schema.build()?)?;
    /// let mut transaction = database.begin();
    /// for (order, line) in [(1, 1), (2, 1), (2, 2), (3, 1)] {
    ///     transaction.upsert(&lines, vec![Value::Int64(order), Value::Int64(line)])?;
    /// }
    /// transaction.commit()?;
    /// let order = vec![Value::Int64(2)];
    /// let mut transaction = database.begin();
    /// transaction.delete_range(&lines, &(Bound::Included(order.clone()), Bound::Included(order)))?;
    /// transaction.commit()?;
    /// assert_eq!(database.snapshot().row_count(&lines)?, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Row`] if a bound does not fit the key, [`Error::Usage`] if the table belongs to another database.
    pub fn delete_range(
        &mut self,
        table: &Table,
        range: &(Bound<Vec<Value>>, Bound<Vec<Value>>),
    ) -> Result<()> {
        let range = KeyRange::new(table.schema(), range)?;
        self.delete_interval(table, KeyInterval::from(&range))
    }

    /// Deletes the rows of an interval of keys.
    pub(crate) fn delete_interval(&mut self, table: &Table, interval: KeyInterval) -> Result<()> {
        if interval == KeyInterval::ALL {
            return self.truncate(table);
        }
        self.writes(table)?.delete(interval);
        Ok(())
    }

    /// Stores a source's position with the writes: durable together.
    pub fn set_origin(&mut self, origin: Origin) {
        self.origin = Some(origin);
    }

    /// Whether nothing was written, no origin set.
    pub fn is_empty(&self) -> bool {
        self.origin.is_none() && self.tables.iter().all(TableWrites::is_empty)
    }

    /// How many rows were written or deleted.
    pub fn row_count(&self) -> u64 {
        self.tables
            .iter()
            .map(|writes| writes.rows.len() as u64)
            .sum()
    }

    /// Bytes of the keys and values written.
    pub fn size_bytes(&self) -> u64 {
        self.tables
            .iter()
            .map(|writes| writes.arena.len() as u64)
            .sum()
    }

    /// Says when the commit counts as done; [`Durability::Synced`] unless this is called.
    pub fn set_durability(&mut self, durability: Durability) {
        self.durability = durability;
    }
}
