//! Reading within a transaction, and transactions that are committed only if nobody came in between.

use std::sync::Arc;

use super::Transaction;
use crate::codec::key::encode_key;
use crate::codec::key::hash_key;
use crate::codec::row::join_row;
use crate::database::Database;
use crate::error::{Error, Result};
use crate::generation::Generation;
use crate::key_range::KeyRange;
use crate::queue::reads::{ReadRange, TableReads};
use crate::read::key_filter::KeyFilter;
use crate::read::lookup::Lookup;
use crate::read::view::View;
use crate::snapshot::{Batches, Scan, ScanOrder, Snapshot, get_row, rows_of};
use crate::sync::thread;
use crate::table::Table;
use crate::tree::table::TableState;
use crate::value::{Row, Value};

/// How often [`Database::transact`] begins before it gives up.
const ATTEMPTS_MAX: u32 = 1000;

/// What an optimistic transaction is protected from.
///
/// ```
/// use moonshine_engine::{ColumnType, Database, Isolation, Options, TableSchema, Value};
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
/// # let key = [Value::Int64(1)];
/// let mut audit = database.begin_optimistic(Isolation::Serializable);
/// assert!(audit.get(&users, &key)?.is_some());
/// audit.upsert(&users, vec![Value::Int64(2), Value::Utf8("seen ada".into())])?;
/// let mut other = database.begin();
/// other.delete(&users, &key)?;
/// other.commit()?;
/// // What it read was written meanwhile; under snapshot isolation that would not matter.
/// assert!(audit.commit().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// It reads one snapshot, and is committed only if nobody wrote what it writes since then: no update is lost. Two
    /// transactions that each read what the other writes may both be committed (*write skew*).
    Snapshot,
    /// Also nobody may have written what it read, keys and ranges, also those in which it found nothing: it takes effect
    /// as if it ran alone, at its commit.
    Serializable,
}

/// What a transaction reads at.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) snapshot: Snapshot,
    isolation: Isolation,
    /// What has to hold at the commit, of a serializable transaction.
    pub(super) reads: Vec<TableReads>,
}

impl Reading {
    fn reads(&mut self, table: &Arc<TableState>) -> Option<&mut TableReads> {
        if self.isolation != Isolation::Serializable {
            return None;
        }
        let known = self.reads.iter().position(|one| one.table.id == table.id);
        let at = known.unwrap_or_else(|| {
            self.reads.push(TableReads::new(table.clone()));
            self.reads.len() - 1
        });
        self.reads.get_mut(at)
    }
}

impl Database {
    /// Starts a transaction that reads at the newest snapshot and is committed only if nobody came in between, else its
    /// commit fails with [`Error::Conflict`]. It takes no locks, so nobody ever waits for it; one that wrote nothing
    /// never fails.
    ///
    /// ```
    /// use moonshine_engine::{ColumnType, Database, Error, Isolation, Options, TableSchema, Value};
    /// # let folder = tempfile::tempdir()?;
    /// let database = Database::open(folder.path(), Options::unmeasured())?;
    /// let schema = TableSchema::builder("accounts")
    ///     .column("name", ColumnType::Utf8, false)
    ///     .column("balance", ColumnType::Int64, false)
    ///     .primary_key(["name"])
    ///     .build()?;
    /// let accounts = database.create_table(schema)?;
    /// let row = |balance: i64| vec![Value::Utf8("ada".into()), Value::Int64(balance)];
    ///
    /// let mut first = database.begin_optimistic(Isolation::Snapshot);
    /// let mut second = database.begin_optimistic(Isolation::Snapshot);
    /// assert_eq!(first.get(&accounts, &[Value::Utf8("ada".into())])?, None);
    /// first.upsert(&accounts, row(1))?;
    /// second.upsert(&accounts, row(2))?;
    /// first.commit()?;
    /// assert!(matches!(second.commit(), Err(Error::Conflict { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn begin_optimistic(&self, isolation: Isolation) -> Transaction {
        let mut transaction = self.begin();
        transaction.reading = Some(Reading {
            snapshot: self.snapshot(),
            isolation,
            reads: Vec::new(),
        });
        transaction
    }

    /// Runs a transaction and commits it, again and again while others come in between.
    ///
    /// `body` may run many times, so it should do nothing but read and write the transaction. An error that it returns
    /// ends this, and nothing was written.
    ///
    /// ```
    /// # use moonshine_engine::{ColumnType, Database, Error, Isolation, Options, TableSchema, Value};
    /// # let folder = tempfile::tempdir()?;
    /// # let database = Database::open(folder.path(), Options::unmeasured())?;
    /// # let schema = TableSchema::builder("counters")
    /// #     .column("id", ColumnType::Int64, false)
    /// #     .column("count", ColumnType::Int64, false);
    /// # let counters = database.create_table(schema.primary_key(["id"]).build()?)?;
    /// let increment = || {
    ///     database.transact(Isolation::Snapshot, |transaction| {
    ///         let row = transaction.get(&counters, &[Value::Int64(7)])?;
    ///         let count = match row.as_deref() {
    ///             Some([_, Value::Int64(count)]) => count + 1,
    ///             _ => 1,
    ///         };
    ///         transaction.upsert(&counters, vec![Value::Int64(7), Value::Int64(count)])?;
    ///         Ok::<i64, Error>(count)
    ///     })
    /// };
    /// assert_eq!(increment()?, 1);
    /// assert_eq!(increment()?, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// What `body` returns, and what [`Transaction::commit`] may end in: [`Error::Conflict`] after a thousand attempts.
    pub fn transact<T, E: From<Error>>(
        &self,
        isolation: Isolation,
        mut body: impl FnMut(&mut Transaction) -> Result<T, E>,
    ) -> Result<T, E> {
        until_alone(|| {
            let mut transaction = self.begin_optimistic(isolation);
            let value = body(&mut transaction)?;
            Ok((value, transaction))
        })
    }
}

/// Makes a transaction and commits it, again and again while others come in between.
pub(crate) fn until_alone<T, E: From<Error>>(
    mut make: impl FnMut() -> Result<(T, Transaction), E>,
) -> Result<T, E> {
    let mut attempts = 1;
    loop {
        let (value, transaction) = make()?;
        match transaction.commit() {
            Ok(_) => return Ok(value),
            Err(Error::Conflict { .. }) if attempts < ATTEMPTS_MAX => attempts += 1,
            Err(error) => return Err(error.into()),
        }
        thread::yield_now();
    }
}

impl Transaction {
    /// What an optimistic transaction reads; `None` in a blind one.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.reading.as_ref().map(|reading| &reading.snapshot)
    }

    /// The row with that key: as this transaction wrote it, else that of its snapshot; in a blind transaction, the newest
    /// visible one.
    ///
    /// # Errors
    /// [`Error::Row`] if the key does not fit the table, [`Error::Corrupt`] or [`Error::Io`] if it can't be read.
    pub fn get(&mut self, table: &Table, key: &[Value]) -> Result<Option<Row>> {
        let schema = table.schema();
        let mut key_bytes = Vec::new();
        encode_key(schema, key.iter(), &mut key_bytes)?;
        match self.own_value(table, &key_bytes)? {
            OwnValue::Row(value) => {
                join_row(schema, key.to_vec(), value)
                    .map(Some)
                    .map_err(|malformed| {
                        Error::Row(format!("table '{}': {}", table.name(), malformed.0))
                    })
            }
            OwnValue::Gone => Ok(None),
            OwnValue::Unknown => self.look_up(table, |lookup| get_row(lookup, table, key)),
        }
    }

    /// The rows of a table as Arrow batches: those of the transaction's snapshot, in a blind one the newest visible ones,
    /// with what this transaction wrote up to here laid over them.
    ///
    /// A serializable transaction counts as read what the batches came to, in key order; without an order, all
    /// from the first to the last key that the range and the predicates allow.
    ///
    /// # Errors
    /// As [`Snapshot::scan`], and [`Error::Exists`] if the transaction inserts a row that it wrote before.
    pub fn scan(&mut self, table: &Table, scan: Scan) -> Result<Batches> {
        let keys = KeyFilter::of_keys(table, &scan.range, &scan.predicates)?;
        let snapshot = self.read_snapshot();
        let view = self.view(table, &snapshot)?;
        let range = keys.hull();
        let rows = rows_of(view, keys, scan.order)?;
        let projection = scan.projection.as_deref();
        let mut batches = Batches::new(table, &snapshot, rows, projection, scan.batch_rows)?;
        if let Some(read) = self.add_range(table, range) {
            if scan.order == ScanOrder::Unordered {
                read.finish();
            } else {
                batches.note_reads(read, scan.order == ScanOrder::Descending);
            }
        }
        Ok(batches)
    }

    /// The table as this transaction sees it.
    pub(crate) fn view(&mut self, table: &Table, snapshot: &Snapshot) -> Result<View> {
        let own = self.own_writes(table)?;
        Ok(snapshot.view(table).under(own))
    }

    /// What this transaction wrote to a table, if anything.
    pub(crate) fn own_writes(&mut self, table: &Table) -> Result<Option<Arc<Generation>>> {
        let writes = self.writes(table)?;
        if writes.is_empty() {
            return Ok(None);
        }
        writes.overlay().map(Some)
    }

    /// The snapshot to read; of a blind transaction, the newest.
    pub(crate) fn read_snapshot(&self) -> Snapshot {
        match &self.reading {
            Some(reading) => reading.snapshot.clone(),
            None => Snapshot::new(self.database.shared.clone()),
        }
    }

    /// What is read of a table, if that matters.
    pub(super) fn reads(&mut self, table: &Table) -> Option<&mut TableReads> {
        self.reading.as_mut()?.reads(&table.state)
    }

    /// Asks for keys that the transaction did not write.
    pub(crate) fn look_up<T>(&self, table: &Table, ask: impl FnOnce(Lookup<'_>) -> T) -> T {
        let seq = self.reading.as_ref().map(|reading| reading.snapshot.seq());
        Lookup::at(&self.database.shared, &table.state, seq, ask)
    }

    /// What the transaction itself wrote of a key. Where it wrote nothing, the key counts as read.
    pub(crate) fn own_value(&mut self, table: &Table, key: &[u8]) -> Result<OwnValue<'_>> {
        let writes = self.writes(table)?;
        let (found, is_deleted) = (writes.find(key), writes.deletes(key));
        Ok(match found {
            Some(row) if row.tombstone => OwnValue::Gone,
            Some(row) => {
                let arena = &self.writes(table)?.arena;
                let value = arena.get(row.key_end..row.value_end);
                OwnValue::Row(value.unwrap_or_default())
            }
            None if is_deleted => OwnValue::Gone,
            None => {
                if let Some(reads) = self.reads(table) {
                    reads.add_key(hash_key(key), key);
                }
                OwnValue::Unknown
            }
        })
    }

    /// A range that an iterator is about to read, if that matters.
    pub(crate) fn add_range(&mut self, table: &Table, range: KeyRange) -> Option<Arc<ReadRange>> {
        Some(self.reads(table)?.add_range(range))
    }
}

/// What a transaction itself wrote of a key.
pub(crate) enum OwnValue<'a> {
    /// The value's bytes.
    Row(&'a [u8]),
    Gone,
    Unknown,
}
