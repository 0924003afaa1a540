//! Reading a keyspace: now, or as of a snapshot.

use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, OnceLock, Weak};

use arc_swap::{ArcSwap, Guard};

use super::{Keyspace, PairCursor, Pairs, Slice, prefix_range, value_start};
use crate::cache::readers::Reader;
use crate::codec::key::hash_key;
use crate::error::Result;
use crate::key_range::KeyRange;
use crate::read::lookup::{FoundValue, Lookup};
use crate::read::view::View;
use crate::row_set::multi_get::HashedKey;
use crate::snapshot::Snapshot;
use crate::sync::{self, Point};
use crate::table::Table;

/// A keyspace as of a snapshot: the fastest way to read many keys.
///
/// What a read has to find first is found once, and again after each flush. So it keeps nothing in memory that is below
/// level 0 by now, and many may be open; on disk it keeps what was there when it was made.
///
/// ```
/// use moonshine_engine::{Database, Options};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// let users = database.keyspace("users")?;
/// users.insert("ada", "1815")?;
/// let reader = users.at(&database.snapshot())?;
/// users.insert("alan", "1912")?;
/// assert_eq!(reader.get_with("ada", <[u8]>::len)?, Some(4));
/// assert!(reader.get("alan")?.is_none());
/// reader.multi_get(&["ada", "alan"], |i, value| assert_eq!((i, value), (0, &b"1815"[..])))?;
/// assert_eq!(reader.iter().count(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct KeyspaceSnapshot {
    held: Arc<HeldView>,
}

/// A view of a keyspace, which goes along with flushes.
#[derive(Debug)]
struct HeldView {
    snapshot: Snapshot,
    table: Table,
    /// From the first get on. A range takes one of its own, as to let go of one that changes costs as much as many rows.
    view: OnceLock<ArcSwap<View>>,
}

impl HeldView {
    /// The keyspace as it lies now.
    fn newest_view(&self) -> View {
        self.snapshot.view(&self.table)
    }

    #[inline]
    fn view(self: &Arc<Self>) -> Guard<Arc<View>> {
        match self.view.get() {
            Some(view) => view.load(),
            None => self.first_view(),
        }
    }

    #[cold]
    fn first_view(self: &Arc<Self>) -> Guard<Arc<View>> {
        let reader: Weak<HeldView> = Arc::downgrade(self);
        self.snapshot.shared().readers.add(reader);
        let first = ArcSwap::from_pointee(self.newest_view());
        let view = self.view.get_or_init(|| first);
        // A flush that came after it was made, and found nothing here yet, has asked in vain.
        if !self.is_newest(&view.load()) {
            self.let_go();
        }
        view.load()
    }

    /// Whether a view holds no generation that was flushed.
    fn is_newest(&self, view: &View) -> bool {
        Arc::ptr_eq(
            &view.generations,
            &self.snapshot.shared().generations.list(),
        )
    }
}

impl Reader for HeldView {
    fn let_go(&self) {
        let Some(view) = self.view.get() else {
            return;
        };
        loop {
            let newest = Arc::new(self.newest_view());
            sync::point(Point::Publish);
            view.store(newest.clone());
            sync::point(Point::Publish);
            // Else a flush came in between, and may have put a newer one here, which this one took the place of.
            if self.is_newest(&newest) {
                return;
            }
        }
    }
}

impl Keyspace {
    /// The keyspace as of a snapshot.
    ///
    /// # Errors
    /// [`Error::Usage`](crate::Error::Usage) if the snapshot is of another database.
    pub fn at(&self, snapshot: &Snapshot) -> Result<KeyspaceSnapshot> {
        snapshot.check_table(&self.table)?;
        Ok(self.view_of(snapshot.clone()))
    }

    /// The keyspace as of now.
    pub fn snapshot(&self) -> KeyspaceSnapshot {
        self.view_of(self.database.snapshot())
    }

    fn view_of(&self, snapshot: Snapshot) -> KeyspaceSnapshot {
        let held = Arc::new(HeldView {
            view: OnceLock::new(),
            table: self.table.clone(),
            snapshot,
        });
        KeyspaceSnapshot { held }
    }

    /// Asks at a commit sequence that is pinned; without one, at the newest.
    #[inline]
    fn ask<T>(&self, seq: Option<u64>, ask: impl FnOnce(Lookup<'_>) -> T) -> T {
        Lookup::at(self.database.shared(), &self.table.state, seq, ask)
    }

    /// The newest value of a key.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt) or [`Error::Io`](crate::Error::Io) if it can't be read.
    #[inline]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        self.ask(None, |lookup| slice_of(lookup, key.as_ref()))
    }

    /// What `read` makes of the newest value of a key, which it is shown where it lies: nothing is copied.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    #[inline]
    pub fn get_with<T>(
        &self,
        key: impl AsRef<[u8]>,
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>> {
        self.ask(None, |lookup| read_value(lookup, key.as_ref(), read))
    }

    /// Looks up many keys at one moment, and calls `found` with the place in `keys` and the newest value of each that
    /// there is, in no order. Faster than one after the other, as the processor waits for the memory of several at once.
    ///
    /// # Errors
    /// As [`get`](Self::get). Some values may have been found before.
    pub fn multi_get<K: AsRef<[u8]>>(
        &self,
        keys: &[K],
        found: impl FnMut(usize, &[u8]),
    ) -> Result<()> {
        let counters = &self.database.shared().counters;
        self.ask(None, |lookup| {
            // One of them is counted with the lookup.
            let more = keys.len().saturating_sub(1);
            counters.count_gets(more, lookup.generation_count());
            multi_get(lookup, keys, found)
        })
    }

    /// The value of a key as of a snapshot.
    ///
    /// # Errors
    /// As [`get`](Self::get); [`Error::Usage`](crate::Error::Usage) if the snapshot is of another database.
    #[inline]
    pub fn get_at(&self, snapshot: &Snapshot, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        snapshot.check_table(&self.table)?;
        self.ask(Some(snapshot.seq()), |lookup| {
            slice_of(lookup, key.as_ref())
        })
    }

    /// Whether there is such a key.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.get_with(key, |_| ()).map(|found| found.is_some())
    }

    /// All pairs in key order, as of now. Goes backwards from the end too.
    pub fn iter(&self) -> Pairs {
        self.range::<&[u8]>(..)
    }

    /// The pairs of a range of keys in key order, as of now.
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Pairs {
        Pairs::new(&self.database.snapshot(), &self.table, range_of(range))
    }

    /// The pairs whose key starts with some bytes, in key order, as of now.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Pairs {
        let range = prefix_range(prefix.as_ref());
        Pairs::new(&self.database.snapshot(), &self.table, range)
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
        Ok(Pairs::new(snapshot, &self.table, range_of(range)))
    }
}

impl KeyspaceSnapshot {
    /// The snapshot that it was made of.
    pub fn snapshot(&self) -> &Snapshot {
        &self.held.snapshot
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt) or [`Error::Io`](crate::Error::Io) if it can't be read.
    #[inline]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        slice_of(self.held.view().lookup(), key.as_ref())
    }

    /// What `read` makes of the value of a key, which it is shown where it lies: nothing is copied.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    #[inline]
    pub fn get_with<T>(
        &self,
        key: impl AsRef<[u8]>,
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>> {
        read_value(self.held.view().lookup(), key.as_ref(), read)
    }

    /// Looks up many keys, and calls `found` with the place in `keys` and the value of each that there is, in no order.
    /// Faster than one after the other, as the processor waits for the memory of several at once.
    ///
    /// # Errors
    /// As [`get`](Self::get). Some values may have been found before.
    pub fn multi_get<K: AsRef<[u8]>>(
        &self,
        keys: &[K],
        found: impl FnMut(usize, &[u8]),
    ) -> Result<()> {
        multi_get(self.held.view().lookup(), keys, found)
    }

    /// Whether there is such a key.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.get_with(key, |_| ()).map(|found| found.is_some())
    }

    /// All pairs in key order. Goes backwards from the end too.
    pub fn iter(&self) -> Pairs {
        self.range::<&[u8]>(..)
    }

    /// The pairs of a range of keys in key order.
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Pairs {
        Pairs::new(&self.held.snapshot, &self.held.table, range_of(range))
    }

    /// The pairs of a range of keys in key order, each shown where it lies.
    pub fn cursor<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> PairCursor {
        self.pair_cursor(range_of(range), false)
    }

    /// The pairs of a range of keys against key order, each shown where it lies.
    pub fn cursor_back<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> PairCursor {
        self.pair_cursor(range_of(range), true)
    }

    /// The keyspace as it lies now, for a scan.
    pub(super) fn view(&self) -> View {
        self.held.newest_view()
    }

    fn pair_cursor(&self, range: KeyRange, descending: bool) -> PairCursor {
        PairCursor::new(self.snapshot(), &self.view(), range, descending)
    }

    /// The pairs whose key starts with some bytes, in key order.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Pairs {
        let range = prefix_range(prefix.as_ref());
        Pairs::new(&self.held.snapshot, &self.held.table, range)
    }
}

pub(super) fn range_of<K: AsRef<[u8]>>(range: impl RangeBounds<K>) -> KeyRange {
    let owned = |bound: Bound<&K>| bound.map(|key| key.as_ref().to_vec());
    KeyRange::of_bytes(owned(range.start_bound()), owned(range.end_bound()))
}

/// What `read` makes of the value of a key.
#[inline]
pub(super) fn read_value<T>(
    lookup: Lookup<'_>,
    key: &[u8],
    read: impl FnOnce(&[u8]) -> T,
) -> Result<Option<T>> {
    let hash = hash_key(key);
    let Some(found) = lookup.get(hash, key)? else {
        return Ok(None);
    };
    let bytes = found.bytes();
    match value_start(bytes) {
        Ok(start) => Ok(Some(read(bytes.get(start..).unwrap_or_default()))),
        Err(malformed) => Err(lookup.corrupt(hash, key, malformed)),
    }
}

/// The value of a key, to be kept.
#[inline]
pub(super) fn slice_of(lookup: Lookup<'_>, key: &[u8]) -> Result<Option<Slice>> {
    let hash = hash_key(key);
    let Some(found) = lookup.get(hash, key)? else {
        return Ok(None);
    };
    let bytes = found.bytes();
    let value_at = value_start(bytes).map_err(|malformed| lookup.corrupt(hash, key, malformed))?;
    Ok(Some(match &found {
        FoundValue::Body { body, start, len } => Slice {
            bytes: (*body).clone(),
            start: start + value_at,
            end: start + len,
        },
        // Copied, as a page that somebody keeps can't make room for others.
        FoundValue::Page(_) => Slice::whole(bytes.get(value_at..).unwrap_or_default().into()),
    }))
}

fn multi_get<K: AsRef<[u8]>>(
    lookup: Lookup<'_>,
    keys: &[K],
    mut found: impl FnMut(usize, &[u8]),
) -> Result<()> {
    let hashed = keys.iter().map(|key| HashedKey {
        hash: hash_key(key.as_ref()),
        key: key.as_ref(),
    });
    let hashed: Vec<_> = hashed.collect();
    let mut malformed = None;
    lookup.multi_get(&hashed, |i, value| match value_start(value) {
        Ok(start) => found(i, value.get(start..).unwrap_or_default()),
        Err(reason) => malformed = Some((i, reason)),
    })?;
    match malformed.and_then(|(i, reason)| Some((hashed.get(i)?, reason))) {
        Some((key, reason)) => Err(lookup.corrupt(key.hash, key.key, reason)),
        None => Ok(()),
    }
}
