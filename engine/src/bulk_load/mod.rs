//! Bulk load: many rows of one table that go below level 0 past the log, and take effect together.
//!
//! Rows gather in a [`buffer`]; when it is full they are sorted and written as a *run*, a RowSet that no tree names. At
//! the end the runs are merged into the fragments that the rows belong to ([`crate::tree::load`]). A delta without rows
//! then takes a place in the order of commits, and one edit of the tree puts the rows there. So they are there after a
//! crash or they are not, and a crash leaves at most files that the next start removes.

mod buffer;

use std::sync::Arc;

use arrow_array::RecordBatch;

use crate::codec::columns::BatchColumns;
use crate::codec::key::{check_key_size, encode_key};
use crate::codec::row::encode_row;
use crate::database::Database;
use crate::error::{Error, Result};
use crate::key_range::KeyRange;
use crate::keyspace::{Keyspace, encode_value};
use crate::log::committer;
use crate::open::OpenDatabase;
use crate::read::merge::{Merge, Source};
use crate::row_set::budget::Charge;
use crate::row_set::meta::RowSetHead;
use crate::row_set::rows_page::RowRef;
use crate::schema::check_row;
use crate::shared::{Shared, Table};
use crate::tree::files::HeldRowSet;
use crate::tree::flush::OutputFile;
use crate::tree::fragment::FragmentId;
use crate::tree::load::Placing;
use crate::value::{Row, Value};
use buffer::RowBuffer;

/// The part of the memory budget that one bulk load takes.
const MEMORY_SHARE: u64 = 4;
/// A run is worth a file from this size on, however small the memory is.
const MEMORY_SIZE_BYTES_MIN: u64 = 4 << 10;
/// What the runs are read in at once, together.
const READ_SIZE_BYTES: usize = 8 << 20;

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
    buffer: RowBuffer,
    buffer_size_bytes_max: u64,
    /// Newest first.
    runs: Vec<Arc<HeldRowSet>>,
    row_count: u64,
    size_bytes: u64,
    /// A run could not be written, so rows are missing.
    is_broken: bool,
    _memory: Charge,
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
    /// [`Error::Usage`] if the database is read-only or the table belongs to another one.
    pub fn bulk_load(&self, table: &Table) -> Result<BulkLoad> {
        let shared = self.shared();
        shared.check_writable()?;
        shared.check_table(table)?;
        let limit_bytes = shared.store.cache.budget().limit_bytes();
        let memory_size_bytes = (limit_bytes / MEMORY_SHARE).max(MEMORY_SIZE_BYTES_MIN);
        let budget = &shared.memory_parts.transactions;
        Ok(BulkLoad {
            database: self.open_database().clone(),
            table: table.clone(),
            buffer: RowBuffer::default(),
            buffer_size_bytes_max: memory_size_bytes,
            runs: Vec::new(),
            row_count: 0,
            size_bytes: 0,
            is_broken: false,
            _memory: budget.charge(memory_size_bytes),
        })
    }
}

impl BulkLoad {
    /// Takes a row.
    ///
    /// # Errors
    /// [`Error::Row`] if it does not fit the table, [`Error::Io`] if what was gathered can't be written; then nothing of
    /// the load can be finished any more.
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
        self.row_count
    }

    fn push(
        &mut self,
        key: impl FnOnce(&mut Vec<u8>) -> Result<()>,
        value: impl FnOnce(&mut Vec<u8>),
    ) -> Result<()> {
        self.check_whole()?;
        self.size_bytes += self.buffer.push(key, value)?;
        self.row_count += 1;
        if self.buffer.size_bytes() >= self.buffer_size_bytes_max {
            self.write_run()?;
        }
        Ok(())
    }

    fn shared(&self) -> &Shared {
        &self.database.shared
    }

    fn check_whole(&self) -> Result<()> {
        if self.is_broken {
            return Err(Error::Usage(format!(
                "table '{}': a write of this bulk load failed, so it can't go on",
                self.table.name()
            )));
        }
        Ok(())
    }

    /// Writes what was gathered as a run.
    fn write_run(&mut self) -> Result<()> {
        self.is_broken = true;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.sort();
        let shared = &self.database.shared;
        let mut file = OutputFile::new(shared, shared.write_size_bytes());
        let written = write_run(self.table.id(), &buffer, &mut file);
        match written.and_then(|()| file.end()) {
            Ok(()) => {
                let run = file.finish()?;
                self.runs.splice(0..0, run);
            }
            Err(error) => {
                file.discard();
                return Err(error);
            }
        }
        buffer.clear();
        self.buffer = buffer;
        self.is_broken = false;
        Ok(())
    }

    /// Has the rows take effect, durably; returns their commit sequence, or the newest one if there were none. Commits
    /// wait meanwhile for as long as it takes to flush what was committed just before.
    ///
    /// # Errors
    /// [`Error::Io`] if the rows can't be written, [`Error::NoSpace`] if there is no room for them; nothing happened then.
    /// [`Error::Poisoned`] if the log can't be written.
    pub fn finish(mut self) -> Result<u64> {
        self.shared().check_writable()?;
        self.check_whole()?;
        if self.row_count == 0 {
            return Ok(self.shared().pins.visible_seq());
        }
        if self.runs.is_empty() {
            self.buffer.sort();
        } else {
            if self.buffer.size_bytes() > 0 {
                self.write_run()?;
            }
            self.buffer = RowBuffer::default();
        }
        let (shared, table_id) = (self.shared(), self.table.id());
        // What was committed until now takes its place in the tree before the rows look for theirs.
        flush(shared)?;
        let placing = Placing::in_leaves(shared, table_id, self.size_bytes);
        if let Some(seq) = self.place(placing)? {
            return Ok(seq);
        }
        // The tree has changed while they were written. The root always takes them.
        match self.place(Placing::in_root(shared, table_id))? {
            Some(seq) => Ok(seq),
            None => Err(Error::Usage(format!(
                "table '{}': the tree took no rows of a bulk load",
                self.table.name()
            ))),
        }
    }

    /// Writes the rows and has the tree take them; `None` if it does not any more.
    fn place(&self, placing: Placing<'_>) -> Result<Option<u64>> {
        let shared = self.shared();
        let memory_size_bytes = self.buffer_size_bytes_max;
        let loaded = placing.write(self.row_count, memory_size_bytes, |take| {
            self.each_row(take)
        })?;
        let loaded = Arc::new(loaded);
        // So that there is little to flush while commits wait.
        flush(shared).inspect_err(|_| loaded.retire())?;
        let submitted = shared.queue.submit_load(loaded.clone(), &shared.counters);
        let ticket = submitted.inspect_err(|_| loaded.retire())?;
        match shared.wait(ticket).and_then(|()| loaded.is_taken()) {
            Ok(true) => Ok(Some(ticket.seq)),
            Ok(false) => {
                loaded.retire();
                Ok(None)
            }
            Err(error) => {
                // After any other error the tree may have taken them.
                if matches!(error, Error::NoSpace { .. }) {
                    loaded.retire();
                }
                Err(error)
            }
        }
    }

    /// Hands out the rows in key order, the last one of each key.
    fn each_row(&self, take: &mut dyn FnMut(RowRef<'_>) -> Result<()>) -> Result<()> {
        if self.runs.is_empty() {
            return self.buffer.rows().try_for_each(take);
        }
        let read_size_bytes = (READ_SIZE_BYTES / self.runs.len()).clamp(64 << 10, 1 << 20);
        let sources = self.runs.iter();
        let sources = sources
            .map(|held| Source::RowSet(held.row_set.stream(read_size_bytes), held.clone()))
            .collect();
        let mut merge = Merge::new(sources, KeyRange::ALL, false, false);
        while merge.advance()? {
            if let Some(row) = merge.row() {
                take(row)?;
            }
        }
        Ok(())
    }
}

fn flush(shared: &Shared) -> Result<()> {
    committer::freeze(shared)?;
    shared.generations.wait_flushed()?;
    shared.check_writable()
}

fn write_run(table_id: u32, buffer: &RowBuffer, file: &mut OutputFile<'_>) -> Result<()> {
    file.begin(RowSetHead {
        table_id,
        fragment_id: FragmentId::ROOT.0,
        seq_from: 0,
        seq_to: 0,
    })?;
    let hash = crate::codec::key::hash_key;
    buffer
        .rows()
        .try_for_each(|row| file.push(row, hash(row.key)))
}

impl Drop for BulkLoad {
    fn drop(&mut self) {
        self.runs.iter().for_each(|run| run.file.retire());
    }
}

impl Keyspace {
    /// Starts a bulk load of the keyspace.
    ///
    /// # Errors
    /// [`Error::Usage`] if the database is read-only.
    pub fn bulk_load(&self) -> Result<KeyspaceLoad> {
        self.database().bulk_load(self.table()).map(KeyspaceLoad)
    }
}

impl KeyspaceLoad {
    /// Takes a pair.
    ///
    /// # Errors
    /// [`Error::Row`] if key or value is too long, [`Error::Io`] as for [`BulkLoad::upsert`].
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
