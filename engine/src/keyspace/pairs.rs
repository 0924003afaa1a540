//! Pairs in key order.

use std::ops::Bound;
use std::sync::{Arc, Weak};

use super::{Slice, value_start};
use crate::cache::readers::{LetGo, Parked};
use crate::error::Result;
use crate::generation::Generation;
use crate::key_range::KeyRange;
use crate::queue::reads::ReadRange;
use crate::read::merge::Merge;
use crate::read::view::View;
use crate::snapshot::Snapshot;
use crate::table::Table;

/// Pairs of a keyspace in key order, from either end.
///
/// Between two steps it keeps no memory of the database for long, so any number of them may be open.
///
/// ```
/// use moonshine_engine::{Database, Options};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// let users = database.keyspace("users")?;
/// users.insert("ada", "1815")?;
/// users.insert("alan", "1912")?;
/// let mut pairs = users.prefix("a");
/// let (last, _) = pairs.next_back().ok_or("no pair")??;
/// assert_eq!(&*last, b"alan");
/// assert_eq!(pairs.count(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Pairs {
    state: Arc<Parked<PairsState>>,
    is_known: bool,
}

#[derive(Debug)]
struct PairsState {
    table: Table,
    snapshot: Snapshot,
    /// What a transaction wrote over it.
    own: Option<Arc<Generation>>,
    range: KeyRange,
    front: End,
    back: End,
    failed: bool,
    /// Where a pair is put together.
    scratch: Vec<u8>,
    /// Who wants to know how far they were read.
    reads: Option<Arc<ReadRange>>,
}

/// One end of pairs.
#[derive(Debug, Default)]
struct End {
    /// `None` before the first pair, and after letting go.
    cursor: Option<PairCursor>,
    /// The key of the last pair that was given before letting go.
    passed: Option<Vec<u8>>,
    is_at_end: bool,
}

/// Pairs of a keyspace in key order or against it, each shown where it lies: the fastest way through many.
///
/// As long as it is held it keeps what it began with in memory, counted against the budget, so go through it and drop it;
/// a scan that waits for long is better off with [`Pairs`].
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

impl End {
    /// The cursor, which is made of a view of the table where there is none.
    fn cursor(
        &mut self,
        from: (&Snapshot, &KeyRange),
        view: impl FnOnce() -> View,
        descending: bool,
    ) -> &mut PairCursor {
        let (snapshot, range) = from;
        let passed = self.passed.take();
        self.cursor.get_or_insert_with(|| {
            let mut range = range.clone();
            match passed {
                Some(key) if descending => range.end = Bound::Excluded(key),
                Some(key) => range.start = Bound::Excluded(key),
                None => {}
            }
            PairCursor::new(snapshot, &view(), range, descending)
        })
    }

    /// Whether this end was where another one is; `is_behind` says whether that is so for a key that was given here.
    fn has_passed(&self, is_behind: impl Fn(&[u8]) -> bool) -> bool {
        let of_cursor = self.cursor.as_ref().and_then(PairCursor::key);
        let is_at_end = self.is_at_end || self.cursor.as_ref().is_some_and(|one| one.is_at_end);
        match of_cursor.or(self.passed.as_deref()) {
            Some(key) => is_behind(key),
            None => is_at_end,
        }
    }

    fn let_go(&mut self) {
        if let Some(cursor) = self.cursor.take() {
            self.is_at_end |= cursor.is_at_end;
            self.passed = cursor.key().map(<[u8]>::to_vec);
        }
    }
}

impl LetGo for PairsState {
    fn let_go(&mut self) {
        self.front.let_go();
        self.back.let_go();
    }
}

impl Pairs {
    /// The pairs of a range, as of a snapshot.
    pub(super) fn new(snapshot: &Snapshot, table: &Table, range: KeyRange) -> Self {
        let state = PairsState {
            table: table.clone(),
            snapshot: snapshot.clone(),
            own: None,
            range,
            front: End::default(),
            back: End::default(),
            failed: false,
            scratch: Vec::new(),
            reads: None,
        };
        Pairs {
            state: Arc::new(Parked::new(state)),
            is_known: false,
        }
    }

    /// The same with what a transaction wrote over it.
    pub(super) fn under(self, own: Option<Arc<Generation>>) -> Self {
        self.state.use_held(|state| state.own = own);
        self
    }

    /// Has a transaction know how far they are read.
    pub(super) fn noting(self, reads: Arc<ReadRange>) -> Self {
        self.state.use_held(|state| state.reads = Some(reads));
        self
    }

    fn take(&mut self, descending: bool) -> Option<Result<(Slice, Slice)>> {
        self.state.use_held(|state| {
            if state.failed {
                return None;
            }
            if !self.is_known {
                // From now on it holds something.
                self.is_known = true;
                let reader: Weak<Parked<PairsState>> = Arc::downgrade(&self.state);
                state.snapshot.shared().readers.add(reader);
            }
            let taken = state.try_take(descending);
            state.failed = taken.is_err();
            if let (Some(reads), Ok(taken)) = (&state.reads, &taken) {
                match taken {
                    Some((key, _)) => reads.reach(key, descending),
                    None => reads.finish(),
                }
            }
            taken.transpose()
        })
    }
}

impl PairsState {
    fn try_take(&mut self, descending: bool) -> Result<Option<(Slice, Slice)>> {
        let (end, other) = if descending {
            (&mut self.back, &self.front)
        } else {
            (&mut self.front, &self.back)
        };
        if end.is_at_end {
            return Ok(None);
        }
        let view = || self.snapshot.view(&self.table).under(self.own.clone());
        let cursor = end.cursor((&self.snapshot, &self.range), view, descending);
        let Some((key, value)) = cursor.next_pair()? else {
            return Ok(None);
        };
        // Whether the ends have met.
        if other.has_passed(|met| if descending { key <= met } else { key >= met }) {
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
