//! Keys and values as bytes: a table of two columns, without rows of values in between.
//!
//! A [`Keyspace`] writes here and reads in [`read`]; a [`KeyspaceSnapshot`] is one that stands still. Both find keys
//! through a `Lookup` and hand values out as they lie in the page or in the record's body, or copy them into a
//! [`slice`]. [`pairs`] goes through keys in order, [`scan`] without.

mod pairs;
mod read;
mod scan;
mod slice;
mod transaction;

pub use pairs::{PairCursor, Pairs};
pub use read::KeyspaceSnapshot;
pub use scan::PairScan;
pub use slice::Slice;
pub use transaction::{CompareAndSwapError, KeyspaceTransaction};

use std::ops::Bound;

use crate::codec::key::check_key_size;
use crate::codec::{Malformed, Reader, put_varint};
use crate::database::Database;
use crate::error::{Error, Result};
use crate::key_range::{KeyRange, after_prefix};
use crate::queue::commit_queue::Durability;
use crate::schema::ShardKey;
use crate::schema::{ColumnType, TableSchema};
use crate::table::Table;
use crate::transaction::Transaction;

/// The bitmap of nulls in front of the value, which is the only column outside the key and never null.
const NO_NULLS: u8 = 0;

/// An ordered map of byte strings that is durable: the table (`key`: binary primary key, `value`: binary).
///
/// Clones are the same keyspace. Each write here is a transaction of its own; for several at once use a
/// [`Batch`]; to read and write in one, a [`KeyspaceTransaction`]; over several keyspaces and tables, a [`Transaction`] that
/// is given their [`table`](Self::table).
///
/// ```
/// use moonshine_engine::{Database, Options};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// let users = database.keyspace("users")?;
/// users.insert("ada", "1815")?;
/// users.insert("alan", "1912")?;
/// users.insert("grace", "1906")?;
/// assert_eq!(users.get("ada")?.as_deref(), Some(&b"1815"[..]));
/// users.remove("ada")?;
/// let keys: Vec<_> = users.prefix("a").map(|pair| Ok(pair?.0)).collect::<Result<_, moonshine_engine::Error>>()?;
/// assert_eq!(keys, [&b"alan"[..]]);
///
/// let mut batch = users.batch();
/// batch.insert("barbara", "1939")?;
/// batch.remove("grace")?;
/// batch.commit()?;
/// assert_eq!(users.iter().count(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Keyspace {
    database: Database,
    table: Table,
    durability: Durability,
}

/// Writes to a keyspace that take effect together.
///
/// ```
/// use moonshine_engine::{Database, Options};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// let users = database.keyspace("users")?;
/// let mut batch = users.batch();
/// batch.insert("ada", "1815")?;
/// batch.insert("alan", "1912")?;
/// assert!(!users.contains_key("ada")?);
/// batch.commit()?;
/// assert!(users.contains_key("ada")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Batch {
    transaction: Transaction,
    table: Table,
}

/// What a keyspace is made with.
///
/// ```
/// use moonshine_engine::{Database, KeyspaceOptions, Options, ShardKey};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// let events = database.keyspace_with("events", KeyspaceOptions { shard_key: ShardKey::Range })?;
/// events.insert("2026-11-21T08:00", "up")?;
/// assert_eq!(events.range("2026-11-21".."2026-11-22").count(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyspaceOptions {
    /// How its keys are divided: by the hash of each ([`ShardKey::PrimaryKey`]), of their first bytes
    /// ([`ShardKey::PrefixBytes`]), or in ranges ([`ShardKey::Range`]), which is best where ranges are read much.
    pub shard_key: ShardKey,
}

impl Database {
    /// The keyspace of that name, which is created with the default options if there is none.
    ///
    /// # Errors
    /// [`Error::Schema`](crate::Error::Schema) if there is a table of that name that is no keyspace; else as
    /// [`create_table`](Self::create_table).
    pub fn keyspace(&self, name: &str) -> Result<Keyspace> {
        let shard_key = self.table(name).map(|table| table.schema().shard_key());
        let shard_key = shard_key.unwrap_or_default();
        self.keyspace_with(name, KeyspaceOptions { shard_key })
    }

    /// The keyspace of that name, which is created if there is none.
    ///
    /// # Errors
    /// [`Error::Schema`](crate::Error::Schema) if there is a table of that name that is no keyspace, or that is one with
    /// other options; else as [`create_table`](Self::create_table).
    pub fn keyspace_with(&self, name: &str, options: KeyspaceOptions) -> Result<Keyspace> {
        let schema = TableSchema::builder(name)
            .column("key", ColumnType::Binary, false)
            .column("value", ColumnType::Binary, false)
            .primary_key(["key"])
            .shard_key(options.shard_key)
            .build()?;
        let table = self.create_table(schema)?;
        if table.schema().has_row_versions() {
            return Err(Error::Schema(format!("table '{name}' is no keyspace")));
        }
        Ok(Keyspace {
            database: self.clone(),
            table,
            durability: Durability::default(),
        })
    }
}

impl Keyspace {
    /// The same keyspace with another durability for the writes made through it; [`Durability::Synced`] at first.
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// The table that the keyspace is.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Writes a key, whether or not it exists.
    ///
    /// # Errors
    /// [`Error::Row`](crate::Error::Row) if key or value is too long; else as [`Transaction::commit`].
    pub fn insert(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        let mut batch = self.batch();
        batch.insert(key, value)?;
        batch.commit()
    }

    /// Removes a key, if it exists.
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    pub fn remove(&self, key: impl AsRef<[u8]>) -> Result<()> {
        let mut batch = self.batch();
        batch.remove(key)?;
        batch.commit()
    }

    /// Starts writes that take effect together.
    pub fn batch(&self) -> Batch {
        let mut transaction = self.database.begin();
        transaction.set_durability(self.durability);
        Batch {
            transaction,
            table: self.table.clone(),
        }
    }
}

impl Batch {
    /// Writes a key, whether or not it exists.
    ///
    /// # Errors
    /// [`Error::Row`](crate::Error::Row) if key or value is too long.
    pub fn insert(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.write(key.as_ref(), value.as_ref(), false)
    }

    fn write(&mut self, key: &[u8], value: &[u8], must_be_new: bool) -> Result<()> {
        check_key_size(self.table.schema(), key)?;
        let encode = |out: &mut Vec<u8>| encode_value(value, out);
        self.transaction
            .write_encoded(&self.table, key, Some(encode), must_be_new)
    }

    /// Removes a key, if it exists.
    ///
    /// # Errors
    /// [`Error::Row`](crate::Error::Row) if the key is too long.
    pub fn remove(&mut self, key: impl AsRef<[u8]>) -> Result<()> {
        check_key_size(self.table.schema(), key.as_ref())?;
        self.transaction
            .write_encoded(&self.table, key.as_ref(), None::<fn(&mut Vec<u8>)>, false)
    }

    /// Makes all of it take effect.
    ///
    /// # Errors
    /// As [`Transaction::commit`].
    pub fn commit(self) -> Result<()> {
        self.transaction.commit().map(|_| ())
    }
}

/// What comes before a value at most: no nulls, and its length.
const VALUE_HEAD_SIZE_BYTES_MAX: usize = 11;

/// Appends the bytes of a row with that value.
pub(crate) fn encode_value(value: &[u8], out: &mut Vec<u8>) {
    out.reserve(VALUE_HEAD_SIZE_BYTES_MAX + value.len());
    out.push(NO_NULLS);
    put_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// The keys that start with some bytes.
fn prefix_range(prefix: &[u8]) -> KeyRange {
    let end = after_prefix(prefix.to_vec()).map_or(Bound::Unbounded, Bound::Excluded);
    KeyRange::of_bytes(Bound::Included(prefix.to_vec()), end)
}

/// Where the value starts in the bytes of a row, which it ends.
#[inline]
fn value_start(row: &[u8]) -> std::result::Result<usize, Malformed> {
    match row {
        // The length of a short value is one byte.
        [NO_NULLS, len @ 0..0x80, value @ ..] if usize::from(*len) == value.len() => Ok(2),
        _ => value_start_of_any(row),
    }
}

fn value_start_of_any(row: &[u8]) -> std::result::Result<usize, Malformed> {
    let mut reader = Reader::new(row);
    if reader.u8()? != NO_NULLS {
        return Err(Malformed("a keyspace's value is null"));
    }
    let len = reader.varint()?;
    let value = reader.remaining();
    if len != value.len() as u64 {
        return Err(Malformed("a keyspace's value of another length"));
    }
    Ok(row.len() - value.len())
}
