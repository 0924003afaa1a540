//! From buffered writes to a record in the queue, and waiting for it.

use std::sync::Arc;

use super::Transaction;
use super::writes::TableWrites;
use crate::commit::validate;
use crate::error::{Error, Result};
use crate::log::delta::encode_delta;
use crate::log::format::RecordKind;
use crate::open::OpenDatabase;
use crate::queue::commit_queue::{CommitQueue, Durability, Ticket};
use crate::queue::conditions::{Conditions, Wanted};

/// The body of a record and what must hold for it.
type Prepared = (Arc<[u8]>, Option<Arc<Conditions>>);

impl Transaction {
    /// Commits and waits until the transaction is as durable as asked for, and visible; returns its commit sequence, or
    /// the one that it read at or the newest one if there was nothing to commit.
    ///
    /// # Errors
    /// As [`submit`](Self::submit), and [`Error::Poisoned`] if the log can't be written. After [`Error::NoSpace`] the
    /// transaction did not happen and never will.
    pub fn commit(self) -> Result<u64> {
        let database = self.database.clone();
        let (counters, seq) = (
            &database.shared.counters,
            database.shared.pins.visible_seq(),
        );
        let is_synced = self.durability == Durability::Synced;
        counters.time_commit(is_synced, seq, || self.queue()?.wait())
    }

    /// Commits without waiting: transactions take effect in the order of their submits. Waits only while too much is
    /// already waiting to be written, or to be flushed.
    ///
    /// # Errors
    /// [`Error::Conflict`] and [`Error::Exists`] where another transaction came first, if that is visible already; else
    /// [`CommitHandle::wait`] says so. [`Error::Usage`] if the database is read-only or the transaction exceeds 2 GiB;
    /// [`Error::Poisoned`] if an earlier write failed; [`Error::NoSpace`] if the disk is full and as much is waiting as
    /// may. What was submitted is kept while the disk is full, and written once there is space.
    pub fn submit(self) -> Result<CommitHandle> {
        let handle = self.queue()?;
        handle.database.shared.queue.leave();
        Ok(handle)
    }

    /// Queues the record.
    fn queue(self) -> Result<CommitHandle> {
        let shared = &self.database.shared;
        shared.check_writable()?;
        if self.is_empty() {
            let read_seq = self.reading.as_ref().map(|reading| reading.snapshot.seq());
            return Ok(CommitHandle {
                seq: read_seq.unwrap_or_else(|| shared.pins.visible_seq()),
                waiting: None,
                database: self.database,
            });
        }
        shared.admit(self.row_count(), self.size_bytes())?;
        let (body, conditions) = self.prepare()?;
        let ticket = shared.queue.submit(
            RecordKind::Delta,
            body,
            self.durability,
            conditions.clone(),
            &shared.counters,
        )?;
        Ok(CommitHandle {
            seq: ticket.seq,
            waiting: Some(Waiting { ticket, conditions }),
            database: self.database,
        })
    }

    /// Makes the record, and looks at what is visible whether its conditions hold so far.
    fn prepare(&self) -> Result<Prepared> {
        let size_bytes = self.size_bytes();
        if size_bytes > u64::from(u32::MAX) / 2 {
            return Err(Error::Usage(format!(
                "a transaction of {size_bytes} bytes, at most 2 GiB are supported"
            )));
        }
        let shared = &self.database.shared;
        let is_blind = self.reading.is_none() && !self.tables.iter().any(TableWrites::has_inserts);
        let mut new = Vec::new();
        let written = self.tables.iter().filter(|writes| !writes.is_empty());
        let sorted = written.map(|writes| {
            let (table, new_rows) = writes.sorted(shared.shard_bits)?;
            if !is_blind {
                new.push(new_rows);
            }
            Ok(table)
        });
        let tables = sorted.collect::<Result<Vec<_>>>()?;
        let body = encode_delta(self.origin.as_ref(), &tables, shared.shard_bits);
        if is_blind {
            return Ok((body, None));
        }
        let wanted = Wanted {
            new,
            since: self.reading.as_ref().map(|reading| reading.snapshot.seq()),
            reads: self.reading.as_ref().map_or_else(Vec::new, |reading| {
                reading.reads.iter().map(|table| table.settled()).collect()
            }),
        };
        // The snapshot is held until here, so what was written since is found apart from what was there before.
        let conditions = validate::check_visible(shared, &body, wanted)?;
        Ok((body, Some(Arc::new(conditions))))
    }
}

/// A submitted transaction.
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
/// let mut transaction = database.begin();
/// transaction.upsert(&users, vec![Value::Int64(2), Value::Null])?;
/// let handle = transaction.submit()?;
/// // Others can be submitted meanwhile; one sync makes all of them durable.
/// let seq = handle.seq();
/// assert_eq!(handle.wait()?, seq);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct CommitHandle {
    seq: u64,
    /// `None` if there was nothing to commit.
    waiting: Option<Waiting>,
    database: Arc<OpenDatabase>,
}

#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    conditions: Option<Arc<Conditions>>,
}

impl CommitHandle {
    /// Its commit sequence.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// What it waits for; nothing if there was nothing to commit.
    pub(super) fn ticket(&self) -> Option<Ticket> {
        self.waiting.as_ref().map(|waiting| waiting.ticket)
    }

    pub(super) fn queue(&self) -> &CommitQueue {
        &self.database.shared.queue
    }

    /// Waits until it is as durable as was asked for, and visible; returns its commit sequence.
    ///
    /// # Errors
    /// [`Error::Conflict`] and [`Error::Exists`] if another transaction came first: this one then took no effect.
    /// [`Error::Poisoned`] if the log can't be written: the transaction may or may not be there after a reopen.
    /// [`Error::NoSpace`] if the disk is full: it did not happen and never will.
    pub fn wait(self) -> Result<u64> {
        if let Some(waiting) = self.waiting {
            self.database.shared.wait(waiting.ticket)?;
            if let Some(conditions) = waiting.conditions {
                conditions.outcome()?;
            }
        }
        Ok(self.seq)
    }
}
