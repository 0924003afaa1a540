//! Keys and values as bytes: a table of two columns, without rows of values in between.

use std::fmt;
use std::ops::{Bound, Deref, RangeBounds};
use std::sync::Arc;

use crate::cache::table::hash_key;
use crate::codec::key::check_key_size;
use crate::codec::{Malformed, Reader, put_varint};
use crate::database::Database;
use crate::error::Result;
use crate::log::queue::Durability;
use crate::read::merge::Merge;
use crate::read::range::{KeyRange, after_prefix};
use crate::read::view::{FoundValue, View};
use crate::schema::{ColumnType, TableSchema};
use crate::shared::Table;
use crate::snapshot::Snapshot;
use crate::transaction::Transaction;

/// The bitmap of nulls in front of the value, which is the only column outside the key and never null.
const NO_NULLS: u8 = 0;

/// An ordered map of byte strings that is durable: the table (`key`: binary primary key, `value`: binary).
///
/// Clones are the same keyspace. Each write here is a transaction of its own; for several at once begin a
/// [`Transaction`] and give it the keyspace's [`table`](Self::table), or use [`Batch`].
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

/// Bytes of a row: a clone copies nothing.
#[derive(Clone)]
pub struct Slice {
    bytes: Arc<[u8]>,
    start: usize,
    end: usize,
}

/// Writes to a keyspace that take effect together.
#[derive(Debug)]
pub struct Batch {
    transaction: Transaction,
    table: Table,
}

impl Database {
    /// The keyspace of that name, which is created if there is none.
    ///
    /// # Errors
    /// [`Error::Schema`](crate::Error::Schema) if there is a table of that name that is no keyspace; else as
    /// [`create_table`](Self::create_table).
    pub fn keyspace(&self, name: &str) -> Result<Keyspace> {
        let schema = TableSchema::builder(name)
            .column("key", ColumnType::Binary, false)
            .column("value", ColumnType::Binary, false)
            .primary_key(["key"])
            .build()?;
        Ok(Keyspace {
            database: self.clone(),
            table: self.create_table(schema)?,
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

    /// The newest value of a key.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt) or [`Error::Io`](crate::Error::Io) if it can't be read.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        let view = View::newest(self.database.shared(), &self.table.state);
        value_of(&view, key.as_ref())
    }

    /// The value of a key as of a snapshot.
    ///
    /// # Errors
    /// As [`get`](Self::get); [`Error::Usage`](crate::Error::Usage) if the snapshot is of another database.
    pub fn get_at(&self, snapshot: &Snapshot, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        snapshot.check_table(&self.table)?;
        value_of(&snapshot.view(&self.table), key.as_ref())
    }

    /// Whether there is such a key.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.get(key).map(|value| value.is_some())
    }

    /// All pairs in key order, as of now. Goes backwards from the end too.
    pub fn iter(&self) -> Pairs {
        self.pairs::<&[u8]>(&self.database.snapshot(), ..)
    }

    /// The pairs of a range of keys in key order, as of now.
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Pairs {
        self.pairs(&self.database.snapshot(), range)
    }

    /// The pairs whose key starts with some bytes, in key order, as of now.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Pairs {
        let prefix = prefix.as_ref().to_vec();
        let end = after_prefix(prefix.clone()).map_or(Bound::Unbounded, Bound::Excluded);
        self.range((Bound::Included(prefix), end))
    }

    /// The pairs of a range of keys in key order, as of a snapshot.
    ///
    /// # Errors
    /// [`Error::Usage`](crate::Error::Usage) if the snapshot is of another database.
    pub fn range_at<K: AsRef<[u8]>>(
        &self,
        snapshot: &Snapshot,
        range: impl RangeBounds<K>,
    ) -> Result<Pairs> {
        snapshot.check_table(&self.table)?;
        Ok(self.pairs(snapshot, range))
    }

    fn pairs<K: AsRef<[u8]>>(&self, snapshot: &Snapshot, range: impl RangeBounds<K>) -> Pairs {
        let owned = |bound: Bound<&K>| bound.map(|key| key.as_ref().to_vec());
        let range = KeyRange::of_bytes(owned(range.start_bound()), owned(range.end_bound()));
        Pairs {
            view: snapshot.view(&self.table),
            range,
            _snapshot: snapshot.clone(),
            front: None,
            back: None,
            failed: false,
        }
    }
}

impl Batch {
    /// Writes a key, whether or not it exists.
    ///
    /// # Errors
    /// [`Error::Row`](crate::Error::Row) if key or value is too long.
    pub fn insert(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        let (key, value) = (key.as_ref(), value.as_ref());
        check_key_size(self.table.schema(), key)?;
        let encode = |out: &mut Vec<u8>| encode_value(value, out);
        self.transaction
            .write_encoded(&self.table, key, Some(encode))
    }

    /// Removes a key, if it exists.
    ///
    /// # Errors
    /// [`Error::Row`](crate::Error::Row) if the key is too long.
    pub fn remove(&mut self, key: impl AsRef<[u8]>) -> Result<()> {
        check_key_size(self.table.schema(), key.as_ref())?;
        self.transaction
            .write_encoded(&self.table, key.as_ref(), None::<fn(&mut Vec<u8>)>)
    }

    /// Makes all of it take effect.
    ///
    /// # Errors
    /// As [`Transaction::commit`].
    pub fn commit(self) -> Result<()> {
        self.transaction.commit().map(|_| ())
    }
}

/// Pairs of a keyspace in key order, from either end.
#[derive(Debug)]
pub struct Pairs {
    view: View,
    range: KeyRange,
    /// Held, so that its rows stay.
    _snapshot: Snapshot,
    front: Option<End>,
    back: Option<End>,
    failed: bool,
}

/// One end of pairs.
#[derive(Debug)]
struct End {
    rows: Merge,
    /// The key that was given last.
    last_key: Option<Vec<u8>>,
}

impl Pairs {
    fn take(&mut self, descending: bool) -> Option<Result<(Slice, Slice)>> {
        if self.failed {
            return None;
        }
        let taken = self.try_take(descending);
        self.failed = taken.is_err();
        taken.transpose()
    }

    fn try_take(&mut self, descending: bool) -> Result<Option<(Slice, Slice)>> {
        let (end, other) = if descending {
            (&mut self.back, &self.front)
        } else {
            (&mut self.front, &self.back)
        };
        let (view, range) = (&self.view, &self.range);
        let end = end.get_or_insert_with(|| End {
            rows: view.scan(range.clone(), descending, false),
            last_key: None,
        });
        if !end.rows.advance()? {
            return Ok(None);
        }
        let Some(row) = end.rows.row() else {
            return Ok(None);
        };
        // The ends have met.
        let met = other.as_ref().and_then(|other| other.last_key.as_deref());
        if met.is_some_and(|met| {
            if descending {
                row.key <= met
            } else {
                row.key >= met
            }
        }) {
            return Ok(None);
        }
        let bytes = row.value.unwrap_or_default();
        let start = value_start(bytes).map_err(|malformed| end.rows.corrupt(malformed))?;
        let value = bytes.get(start..).unwrap_or_default();
        let pair = (Slice::whole(row.key.into()), Slice::whole(value.into()));
        let last_key = end.last_key.get_or_insert_default();
        last_key.clear();
        last_key.extend_from_slice(&pair.0);
        Ok(Some(pair))
    }
}

impl Iterator for Pairs {
    /// Key and value.
    type Item = Result<(Slice, Slice)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.take(false)
    }
}

impl DoubleEndedIterator for Pairs {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.take(true)
    }
}

/// The value of a key in a view of a keyspace.
fn value_of(view: &View, key: &[u8]) -> Result<Option<Slice>> {
    let hash = hash_key(key);
    let Some(found) = view.get(hash, key)? else {
        return Ok(None);
    };
    let corrupt = |malformed| view.corrupt(hash, key, malformed);
    let value_at = value_start(found.bytes()).map_err(corrupt)?;
    Ok(Some(match found {
        FoundValue::Body { body, start, len } => Slice {
            bytes: body,
            start: start + value_at,
            end: start + len,
        },
        FoundValue::Page(row) => {
            let bytes = row.value().unwrap_or_default();
            Slice::whole(bytes.get(value_at..).unwrap_or_default().into())
        }
    }))
}

/// Appends the bytes of a row with that value.
pub(crate) fn encode_value(value: &[u8], out: &mut Vec<u8>) {
    out.push(NO_NULLS);
    put_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Where the value starts in the bytes of a row, which it ends.
fn value_start(row: &[u8]) -> std::result::Result<usize, Malformed> {
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

impl Slice {
    fn whole(bytes: Arc<[u8]>) -> Self {
        let end = bytes.len();
        Slice {
            bytes,
            start: 0,
            end,
        }
    }
}

impl Deref for Slice {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Slice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.escape_ascii().fmt(formatter)
    }
}

impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for Slice {
    fn eq(&self, other: &T) -> bool {
        **self == *other.as_ref()
    }
}

impl Eq for Slice {}
