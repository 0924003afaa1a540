//! Transactions of a keyspace, and the single operations that need one.

use std::ops::RangeBounds;

use super::pairs::Pairs;
use super::read::{range_of, read_value, slice_of};
use super::{Batch, Keyspace, Slice, prefix_range, value_start};
use crate::codec::key::check_key_size;
use crate::error::{Error, Result};
use crate::key_range::{KeyInterval, KeyRange};
use crate::transaction::{CommitFuture, Isolation, OwnValue};

/// Reads and writes of a keyspace that take effect together, and only if nobody came in between.
///
/// It reads one snapshot with its own writes over it. How much must not have been written by others since then is the
/// [`Isolation`]'s choice. It locks nothing: who is too late begins again, as [`Keyspace::transact`] does.
///
/// ```
/// use moonshine_engine::{Database, Error, Isolation, Options};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// let stock = database.keyspace("stock")?;
/// stock.insert("apples", "3")?;
///
/// let mut transaction = stock.transaction(Isolation::Serializable);
/// assert!(transaction.get("apples")?.is_some());
/// transaction.remove("apples")?;
/// transaction.insert("pears", "3")?;
/// assert_eq!(transaction.iter()?.count(), 1);
/// stock.insert("apples", "2")?;
/// assert!(matches!(transaction.commit(), Err(Error::Conflict { .. })));
/// assert!(stock.get("pears")?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct KeyspaceTransaction {
    writes: Batch,
}

/// The value that a [`Keyspace::compare_and_swap`] found in place of the one that was expected.
///
/// ```
/// use moonshine_engine::{Database, Options};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// let stock = database.keyspace("stock")?;
/// stock.insert("apples", "3")?;
/// let swapped = stock.compare_and_swap("apples", Some(b"4"), Some(b"5"))?;
/// let current = swapped.err().and_then(|error| error.current);
/// assert_eq!(current.as_deref(), Some(&b"3"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another value is there than was expected")]
pub struct CompareAndSwapError {
    /// It; `None` if there is none.
    pub current: Option<Slice>,
}

impl Keyspace {
    /// Starts a transaction at the newest snapshot.
    pub fn transaction(&self, isolation: Isolation) -> KeyspaceTransaction {
        let mut transaction = self.database.begin_optimistic(isolation);
        transaction.set_durability(self.durability);
        KeyspaceTransaction {
            writes: Batch {
                transaction,
                table: self.table.clone(),
            },
        }
    }

    /// Runs a transaction and commits it, again and again while others come in between; see
    /// [`Database::transact`](crate::Database::transact).
    ///
    /// # Errors
    /// What `body` returns, and what [`KeyspaceTransaction::commit`] may end in: [`Error::Conflict`] after a thousand
    /// attempts.
    pub fn transact<T, E: From<Error>>(
        &self,
        isolation: Isolation,
        mut body: impl FnMut(&mut KeyspaceTransaction) -> Result<T, E>,
    ) -> Result<T, E> {
        crate::transaction::until_alone(|| {
            let mut transaction = self.transaction(isolation);
            let value = body(&mut transaction)?;
            Ok((value, transaction.writes.transaction))
        })
    }

    /// Writes a key that must not exist.
    ///
    /// # Errors
    /// [`Error::Exists`] if it does; else as [`insert`](Self::insert).
    pub fn insert_new(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        let mut batch = self.batch();
        batch.insert_new(key, value)?;
        batch.commit()
    }

    /// Removes all keys of a range, however many, at the cost of one.
    ///
    /// # Errors
    /// As [`remove`](Self::remove).
    pub fn remove_range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<()> {
        let mut batch = self.batch();
        batch.remove_range(range)?;
        batch.commit()
    }

    /// Removes all keys that start with some bytes, however many, at the cost of one.
    ///
    /// ```
    /// # use moonshine_engine::{Database, Options};
    /// # let folder = tempfile::tempdir()?;
    /// # let database = Database::open(folder.path(), Options::unmeasured())?;
    /// let sessions = database.keyspace("sessions")?;
    /// for key in ["ada/1", "ada/2", "alan/1"] {
    ///     sessions.insert(key, "")?;
    /// }
    /// sessions.remove_prefix("ada/")?;
    /// assert_eq!(sessions.iter().count(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`remove`](Self::remove).
    pub fn remove_prefix(&self, prefix: impl AsRef<[u8]>) -> Result<()> {
        let mut batch = self.batch();
        batch.remove_prefix(prefix)?;
        batch.commit()
    }

    /// Replaces a value if it is the expected one; `None` stands for no value, on either side.
    ///
    /// ```
    /// # use moonshine_engine::{Database, Options};
    /// # let folder = tempfile::tempdir()?;
    /// # let database = Database::open(folder.path(), Options::unmeasured())?;
    /// let leases = database.keyspace("leases")?;
    /// assert!(leases.compare_and_swap("job", None, Some(b"ada"))?.is_ok());
    /// let taken = leases.compare_and_swap("job", None, Some(b"alan"))?;
    /// assert_eq!(taken.unwrap_err().current.as_deref(), Some(&b"ada"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`transact`](Self::transact). That another value was there is the inner result.
    pub fn compare_and_swap(
        &self,
        key: impl AsRef<[u8]>,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<Result<(), CompareAndSwapError>> {
        let key = key.as_ref();
        self.transact(Isolation::Snapshot, |transaction| {
            let current = transaction.get(key)?;
            if current.as_deref() != expected {
                return Ok(Err(CompareAndSwapError { current }));
            }
            transaction.set(key, new).map(Ok)
        })
    }

    /// Replaces a value by what `update` makes of it, `None` standing for no value; returns the one that was there.
    /// `update` may run several times.
    ///
    /// ```
    /// # use moonshine_engine::{Database, Options};
    /// # let folder = tempfile::tempdir()?;
    /// # let database = Database::open(folder.path(), Options::unmeasured())?;
    /// let counts = database.keyspace("counts")?;
    /// let increment = |value: Option<&[u8]>| {
    ///     let count = value.and_then(|value| value.try_into().ok()).map_or(0, u64::from_be_bytes);
    ///     Some((count + 1).to_be_bytes().to_vec())
    /// };
    /// assert!(counts.fetch_update("visits", increment)?.is_none());
    /// assert_eq!(counts.fetch_update("visits", increment)?.as_deref(), Some(&1_u64.to_be_bytes()[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`transact`](Self::transact).
    pub fn fetch_update(
        &self,
        key: impl AsRef<[u8]>,
        mut update: impl FnMut(Option<&[u8]>) -> Option<Vec<u8>>,
    ) -> Result<Option<Slice>> {
        let key = key.as_ref();
        self.transact(Isolation::Snapshot, |transaction| {
            let current = transaction.get(key)?;
            let new = update(current.as_deref());
            transaction.set(key, new.as_deref()).map(|()| current)
        })
    }
}

impl KeyspaceTransaction {
    /// The value of a key: as this transaction wrote it, else that of its snapshot.
    ///
    /// # Errors
    /// [`Error::Corrupt`] or [`Error::Io`] if it can't be read.
    pub fn get(&mut self, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        let Batch { transaction, table } = &mut self.writes;
        let key = key.as_ref();
        match transaction.own_value(table, key)? {
            OwnValue::Row(bytes) => {
                let start = value_start(bytes).map_err(crate::read::merge::not_stored)?;
                let value = bytes.get(start..).unwrap_or_default();
                Ok(Some(Slice::whole(value.into())))
            }
            OwnValue::Gone => Ok(None),
            OwnValue::Unknown => transaction.look_up(table, |lookup| slice_of(lookup, key)),
        }
    }

    /// Whether there is such a key.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn contains_key(&mut self, key: impl AsRef<[u8]>) -> Result<bool> {
        let Batch { transaction, table } = &mut self.writes;
        let key = key.as_ref();
        match transaction.own_value(table, key)? {
            OwnValue::Row(_) => Ok(true),
            OwnValue::Gone => Ok(false),
            OwnValue::Unknown => transaction.look_up(table, |lookup| {
                read_value(lookup, key, |_| ()).map(|found| found.is_some())
            }),
        }
    }

    /// All pairs in key order, with what this transaction wrote up to here. Goes backwards from the end too.
    ///
    /// # Errors
    /// As [`range`](Self::range).
    pub fn iter(&mut self) -> Result<Pairs> {
        self.range::<&[u8]>(..)
    }

    /// The pairs of a range of keys in key order, with what this transaction wrote up to here. In a serializable one they
    /// count as read as far as they are gone through.
    ///
    /// # Errors
    /// [`Error::Exists`] if the transaction inserts a key as a new one that it wrote before.
    pub fn range<K: AsRef<[u8]>>(&mut self, range: impl RangeBounds<K>) -> Result<Pairs> {
        self.pairs(range_of(range))
    }

    /// The pairs whose key starts with some bytes; see [`range`](Self::range).
    ///
    /// # Errors
    /// As [`range`](Self::range).
    pub fn prefix(&mut self, prefix: impl AsRef<[u8]>) -> Result<Pairs> {
        self.pairs(prefix_range(prefix.as_ref()))
    }

    fn pairs(&mut self, range: KeyRange) -> Result<Pairs> {
        let Batch { transaction, table } = &mut self.writes;
        let snapshot = transaction.read_snapshot();
        let own = transaction.own_writes(table)?;
        let pairs = Pairs::new(&snapshot, table, range.clone()).under(own);
        Ok(match transaction.add_range(table, range) {
            Some(reads) => pairs.noting(reads),
            None => pairs,
        })
    }

    /// Writes a key, whether or not it exists.
    ///
    /// # Errors
    /// [`Error::Row`] if key or value is too long.
    pub fn insert(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.writes.insert(key, value)
    }

    /// Writes a key that must not exist; see [`Batch::insert_new`].
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    pub fn insert_new(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.writes.insert_new(key, value)
    }

    /// Removes a key, if it exists.
    ///
    /// # Errors
    /// [`Error::Row`] if the key is too long.
    pub fn remove(&mut self, key: impl AsRef<[u8]>) -> Result<()> {
        self.writes.remove(key)
    }

    /// Removes all keys of a range.
    ///
    /// # Errors
    /// [`Error::Row`] if a bound is too long.
    pub fn remove_range<K: AsRef<[u8]>>(&mut self, range: impl RangeBounds<K>) -> Result<()> {
        self.writes.remove_range(range)
    }

    /// Removes all keys that start with some bytes.
    ///
    /// # Errors
    /// As [`remove_range`](Self::remove_range).
    pub fn remove_prefix(&mut self, prefix: impl AsRef<[u8]>) -> Result<()> {
        self.writes.remove_prefix(prefix)
    }

    fn set(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        match value {
            Some(value) => self.insert(key, value),
            None => self.remove(key),
        }
    }

    /// Makes all of it take effect, unless others came in between.
    ///
    /// # Errors
    /// [`Error::Conflict`] if they did: begin again. Else as [`Transaction::commit`](crate::Transaction::commit).
    pub fn commit(self) -> Result<()> {
        self.writes.commit()
    }

    /// The same without waiting; see [`Transaction::commit_async`](crate::Transaction::commit_async).
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn commit_async(self) -> Result<CommitFuture> {
        self.writes.transaction.commit_async()
    }
}

impl Batch {
    /// Writes a key that must not exist: else the commit fails with [`Error::Exists`], and nothing takes effect.
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    pub fn insert_new(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.write(key.as_ref(), value.as_ref(), true)
    }

    /// Removes all keys of a range, those that this batch wrote before included.
    ///
    /// # Errors
    /// [`Error::Row`] if a bound is too long.
    pub fn remove_range<K: AsRef<[u8]>>(&mut self, range: impl RangeBounds<K>) -> Result<()> {
        self.remove_interval(&range_of(range))
    }

    /// Removes all keys that start with some bytes, those that this batch wrote before included.
    ///
    /// # Errors
    /// As [`remove_range`](Self::remove_range).
    pub fn remove_prefix(&mut self, prefix: impl AsRef<[u8]>) -> Result<()> {
        self.remove_interval(&prefix_range(prefix.as_ref()))
    }

    fn remove_interval(&mut self, range: &KeyRange) -> Result<()> {
        let interval = KeyInterval::from(range);
        for bound in std::iter::once(&interval.start).chain(&interval.end) {
            // One that stands right behind a key is a byte longer than that.
            let key = bound.strip_suffix(&[0]).unwrap_or(bound);
            check_key_size(self.table.schema(), key)?;
        }
        self.transaction.delete_interval(&self.table, interval)
    }
}
