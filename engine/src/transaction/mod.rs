//! Buffered writes that become one delta: [`writes`] gathers those to a table, [`Transaction`] makes a record of all.

mod writes;

use std::sync::Arc;

use arrow_array::RecordBatch;

use crate::Origin;
use crate::codec::columns::BatchColumns;
use crate::codec::key::encode_key;
use crate::codec::row::{encode_row, join_row};
use crate::error::{Error, Result};
use crate::log::delta::encode_delta;
use crate::log::format::RecordKind;
use crate::log::queue::{Durability, Ticket};
use crate::open::OpenDatabase;
use crate::read::lookup::Lookup;
use crate::shared::Table;
use crate::snapshot::get_row;
use crate::value::{Row, Value, check_row};
use writes::TableWrites;

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
}

impl Transaction {
    pub(crate) fn new(database: Arc<OpenDatabase>) -> Self {
        Transaction {
            database,
            origin: None,
            durability: Durability::default(),
            tables: Vec::new(),
        }
    }

    fn writes(&mut self, table: &Table) -> Result<&mut TableWrites> {
        self.database.shared.check_table(table)?;
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
        self.tables
            .get_mut(i)
            .ok_or_else(|| Error::Usage(format!("table '{}' is unknown", table.name())))
    }

    /// Writes a row, whether or not one with its key exists.
    ///
    /// # Errors
    /// [`Error::Row`] if it does not fit the table, naming table and column.
    pub fn upsert(&mut self, table: &Table, row: Row) -> Result<()> {
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
        writes.push(key_start, key_end, false)
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
        writes.push(key_start, key_end, true)
    }

    /// Writes all rows of a batch, as [`upsert`](Self::upsert) does one. Columns go by name and must have the table's
    /// Arrow types; one that the batch lacks is null.
    ///
    /// # Errors
    /// [`Error::Row`] if the batch does not fit the table, naming table and column; nothing of it is written then.
    pub fn upsert_batch(&mut self, table: &Table, batch: &RecordBatch) -> Result<()> {
        let columns = BatchColumns::of_rows(table.schema(), batch)?;
        self.write_batch(table, batch.num_rows(), |row, arena| {
            columns.encode_key(table.schema(), row, arena)?;
            let key_end = arena.len();
            columns.encode_row(row, arena);
            Ok((key_end, false))
        })
    }

    /// Deletes the rows with the keys of a batch, whose columns are those of the primary key.
    ///
    /// # Errors
    /// As [`upsert_batch`](Self::upsert_batch).
    pub fn delete_batch(&mut self, table: &Table, keys: &RecordBatch) -> Result<()> {
        let columns = BatchColumns::of_keys(table.schema(), keys)?;
        self.write_batch(table, keys.num_rows(), |row, arena| {
            columns.encode_key(table.schema(), row, arena)?;
            Ok((arena.len(), true))
        })
    }

    /// Writes rows that `encode` appends to the arena; it returns where the key ends, and whether the row is deleted.
    fn write_batch(
        &mut self,
        table: &Table,
        row_count: usize,
        encode: impl Fn(usize, &mut Vec<u8>) -> Result<(usize, bool)>,
    ) -> Result<()> {
        let writes = self.writes(table)?;
        let (arena_start, row_start) = (writes.arena.len(), writes.rows.len());
        for row in 0..row_count {
            let key_start = writes.arena.len();
            let written = encode(row, &mut writes.arena)
                .and_then(|(key_end, tombstone)| writes.push(key_start, key_end, tombstone));
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
    ) -> Result<()> {
        let writes = self.writes(table)?;
        let key_start = writes.arena.len();
        writes.arena.extend_from_slice(key);
        let key_end = writes.arena.len();
        let tombstone = encode_value.is_none();
        if let Some(encode_value) = encode_value {
            encode_value(&mut writes.arena);
        }
        writes.push(key_start, key_end, tombstone)
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

    /// The row with that key: as this transaction wrote it, else the newest visible one.
    ///
    /// # Errors
    /// [`Error::Row`] if the key does not fit the table, [`Error::Corrupt`] or [`Error::Io`] if it can't be read.
    pub fn get(&mut self, table: &Table, key: &[Value]) -> Result<Option<Row>> {
        let schema = table.schema().clone();
        let mut key_bytes = Vec::new();
        encode_key(&schema, key.iter(), &mut key_bytes)?;
        let writes = self.writes(table)?;
        let truncated = writes.truncate;
        if let Some(row) = writes.find(&key_bytes) {
            if row.tombstone {
                return Ok(None);
            }
            let value = writes
                .arena
                .get(row.key_end..row.value_end)
                .unwrap_or_default();
            return join_row(&schema, key.to_vec(), value)
                .map(Some)
                .map_err(|malformed| {
                    Error::Row(format!("table '{}': {}", table.name(), malformed.0))
                });
        }
        if truncated {
            Ok(None)
        } else {
            Lookup::at(&self.database.shared, &table.state, None, |lookup| {
                get_row(lookup, table, key)
            })
        }
    }

    /// Stores a source's position with the writes: durable together.
    pub fn set_origin(&mut self, origin: Origin) {
        self.origin = Some(origin);
    }

    /// Whether nothing was written, no origin set.
    pub fn is_empty(&self) -> bool {
        self.origin.is_none()
            && self
                .tables
                .iter()
                .all(|writes| !writes.truncate && writes.rows.is_empty())
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

    /// Commits and waits until the transaction is as durable as asked for, and visible; returns its commit sequence, or
    /// the newest one if there was nothing to commit.
    ///
    /// # Errors
    /// As [`submit`](Self::submit), and [`Error::Poisoned`] if the log can't be written. After [`Error::NoSpace`] the
    /// transaction did not happen and never will.
    pub fn commit(self) -> Result<u64> {
        let shared = &self.database.shared;
        let Some(body) = self.body()? else {
            return Ok(shared.pins.visible_seq());
        };
        shared.generations.wait_for_room()?;
        let ticket = shared.write(RecordKind::Delta, body, self.durability)?;
        Ok(ticket.seq)
    }

    /// Commits without waiting: transactions take effect in the order of their submits. Waits only while too much is
    /// already waiting to be written, or to be flushed.
    ///
    /// # Errors
    /// [`Error::Usage`] if the database is read-only or the transaction exceeds 2 GiB; [`Error::Poisoned`] if an earlier
    /// write failed; [`Error::NoSpace`] if the disk is full and as much is waiting as may. What was submitted is kept while
    /// the disk is full, and written once there is space.
    pub fn submit(self) -> Result<CommitHandle> {
        let shared = &self.database.shared;
        let Some(body) = self.body()? else {
            return Ok(CommitHandle {
                seq: shared.pins.visible_seq(),
                ticket: None,
                database: self.database,
            });
        };
        shared.generations.wait_for_room()?;
        let ticket = shared.submit(RecordKind::Delta, body, self.durability)?;
        Ok(CommitHandle {
            seq: ticket.seq,
            ticket: Some(ticket),
            database: self.database,
        })
    }

    /// The body of the delta's record; `None` if there is nothing to commit.
    fn body(&self) -> Result<Option<Arc<[u8]>>> {
        let shared = &self.database.shared;
        shared.check_writable()?;
        if self.is_empty() {
            return Ok(None);
        }
        let size_bytes = self.size_bytes();
        if size_bytes > u64::from(u32::MAX) / 2 {
            return Err(Error::Usage(format!(
                "a transaction of {size_bytes} bytes, at most 2 GiB are supported"
            )));
        }
        let shard_bits = shared.shard_bits;
        let tables: Vec<_> = self
            .tables
            .iter()
            .filter(|writes| writes.truncate || !writes.rows.is_empty())
            .map(|writes| writes.sorted(shard_bits))
            .collect();
        let body = encode_delta(self.origin.as_ref(), &tables, shard_bits);
        Ok(Some(body))
    }
}

/// A submitted transaction.
#[derive(Debug)]
pub struct CommitHandle {
    seq: u64,
    ticket: Option<Ticket>,
    database: Arc<OpenDatabase>,
}

impl CommitHandle {
    /// Its commit sequence.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Waits until it is as durable as was asked for, and visible; returns its commit sequence.
    ///
    /// # Errors
    /// [`Error::Poisoned`] if the log can't be written: the transaction may or may not be there after a reopen.
    /// [`Error::NoSpace`] if the disk is full: it did not happen and never will.
    pub fn wait(self) -> Result<u64> {
        if let Some(ticket) = self.ticket {
            self.database.shared.wait(ticket)?;
        }
        Ok(self.seq)
    }
}
