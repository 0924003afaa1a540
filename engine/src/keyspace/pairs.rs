//! Pairs in key order.

use std::sync::Arc;

use super::{Slice, value_start};
use crate::error::Result;
use crate::read::merge::Merge;
use crate::read::range::KeyRange;
use crate::read::view::View;
use crate::snapshot::Snapshot;
use crate::transaction::ReadRange;

/// Pairs of a keyspace in key order, from either end.
#[derive(Debug)]
pub struct Pairs {
    view: View,
    range: KeyRange,
    snapshot: Snapshot,
    front: Option<PairCursor>,
    back: Option<PairCursor>,
    failed: bool,
    /// Where a pair is put together.
    scratch: Vec<u8>,
    /// Who wants to know how far they were read.
    reads: Option<Arc<ReadRange>>,
}

/// Pairs of a keyspace in key order or against it, each shown where it lies: the fastest way through many.
///
/// ```
/// use moonshine_engine::{Database, Options};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// let users = database.keyspace("users")?;
/// users.insert("ada", "1815")?;
/// users.insert("alan", "1912")?;
/// let mut years = Vec::new();
/// let mut cursor = users.snapshot().cursor("a".."b");
/// while let Some((_, value)) = cursor.next_pair()? {
///     years.extend_from_slice(value);
/// }
/// assert_eq!(years, b"18151912");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct PairCursor {
    rows: Merge,
    /// Held, so that its rows stay.
    _snapshot: Snapshot,
    is_at_end: bool,
}

impl PairCursor {
    /// A cursor before the first pair; nothing is read yet.
    pub(super) fn new(snapshot: &Snapshot, view: &View, range: KeyRange, descending: bool) -> Self {
        PairCursor {
            rows: view.scan(range, descending, false),
            _snapshot: snapshot.clone(),
            is_at_end: false,
        }
    }

    /// The next pair; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt) or [`Error::Io`](crate::Error::Io) if it can't be read. There is no pair
    /// behind an error.
    #[inline]
    pub fn next_pair(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        // Until it is known that there is another.
        let was_at_end = std::mem::replace(&mut self.is_at_end, true);
        if was_at_end || !self.rows.advance()? {
            return Ok(None);
        }
        let Some(row) = self.rows.row() else {
            return Ok(None);
        };
        let bytes = row.value.unwrap_or_default();
        let start = value_start(bytes).map_err(|malformed| self.rows.corrupt(malformed))?;
        self.is_at_end = false;
        Ok(Some((row.key, bytes.get(start..).unwrap_or_default())))
    }

    /// The key of the pair that was given last; `None` before the first and at the end.
    fn key(&self) -> Option<&[u8]> {
        self.rows.row().map(|row| row.key)
    }
}

impl Pairs {
    /// The pairs of a range, in a view at the snapshot.
    pub(super) fn new(snapshot: &Snapshot, view: View, range: KeyRange) -> Self {
        Pairs {
            view,
            range,
            snapshot: snapshot.clone(),
            front: None,
            back: None,
            failed: false,
            scratch: Vec::new(),
            reads: None,
        }
    }

    /// Has a transaction know how far they are read.
    pub(super) fn noting(self, reads: Arc<ReadRange>) -> Self {
        Pairs {
            reads: Some(reads),
            ..self
        }
    }

    fn take(&mut self, descending: bool) -> Option<Result<(Slice, Slice)>> {
        if self.failed {
            return None;
        }
        let taken = self.try_take(descending);
        self.failed = taken.is_err();
        if let (Some(reads), Ok(taken)) = (&self.reads, &taken) {
            match taken {
                Some((key, _)) => reads.reach(key, descending),
                None => reads.finish(),
            }
        }
        taken.transpose()
    }

    fn try_take(&mut self, descending: bool) -> Result<Option<(Slice, Slice)>> {
        let (end, other) = if descending {
            (&mut self.back, &self.front)
        } else {
            (&mut self.front, &self.back)
        };
        let (snapshot, view, range) = (&self.snapshot, &self.view, &self.range);
        let end =
            end.get_or_insert_with(|| PairCursor::new(snapshot, view, range.clone(), descending));
        let Some((key, value)) = end.next_pair()? else {
            return Ok(None);
        };
        // Whether the ends have met.
        let is_taken = |other: &PairCursor| match other.key() {
            Some(met) if descending => key <= met,
            Some(met) => key >= met,
            None => other.is_at_end,
        };
        if other.as_ref().is_some_and(is_taken) {
            return Ok(None);
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(key);
        self.scratch.extend_from_slice(value);
        let bytes: Arc<[u8]> = self.scratch.as_slice().into();
        let key = Slice {
            bytes: bytes.clone(),
            start: 0,
            end: key.len(),
        };
        let value = Slice {
            start: key.end,
            end: bytes.len(),
            bytes,
        };
        Ok(Some((key, value)))
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
