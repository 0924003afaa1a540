//! All pairs in no order: the fastest way through a keyspace.

use super::{KeyspaceSnapshot, value_start};
use crate::codec::Malformed;
use crate::error::Result;
use crate::read::key_filter::KeyFilter;
use crate::read::piece::Slots;
use crate::read::rows::{Rows, TakeRows};
use crate::row_set::rows_page::{RowRef, RowsView};
use crate::snapshot::Snapshot;

/// Pairs of a keyspace in no order, shown where they lie: see [`KeyspaceSnapshot::scan_parts`].
///
/// ```
/// use moonshine_engine::{Database, Options};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// let users = database.keyspace("users")?;
/// users.insert("ada", "1815")?;
/// let mut bytes = 0;
/// for part in users.snapshot().scan_parts(2)? {
///     part.for_each(|key, value| bytes += key.len() + value.len())?;
/// }
/// assert_eq!(bytes, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct PairScan {
    rows: Rows,
    /// Held, so that its rows stay.
    _snapshot: Snapshot,
}

impl KeyspaceSnapshot {
    /// Shows all pairs to `each`, in no order and where they lie: nothing is copied.
    ///
    /// # Errors
    /// As [`get`](Self::get). Some pairs may have been shown before.
    pub fn for_each(&self, each: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let parts = self.scan_parts(1)?;
        parts
            .into_iter()
            .next()
            .map_or(Ok(()), |part| part.for_each(each))
    }

    /// All pairs in parts for so many threads. Each pair comes in one part: whoever is ready takes the next pairs, so that
    /// parts that are read side by side end together, and a part that is not read leaves its pairs to the others.
    ///
    /// ```
    /// use moonshine_engine::{Database, Options};
    /// # let folder = tempfile::tempdir()?;
    /// let database = Database::open(folder.path(), Options::unmeasured())?;
    /// let users = database.keyspace("users")?;
    /// users.insert("ada", "1815")?;
    /// users.insert("alan", "1912")?;
    /// let parts = users.at(&database.snapshot())?.scan_parts(2)?;
    /// let lengths = std::thread::scope(|scope| {
    ///     let threads = parts.into_iter().map(|part| scope.spawn(|| {
    ///         let mut length = 0;
    ///         part.for_each(|key, value| length += key.len() + value.len()).map(|()| length)
    ///     }));
    ///     let threads: Vec<_> = threads.collect();
    ///     threads.into_iter().filter_map(|thread| thread.join().ok()).sum::<Result<usize, _>>()
    /// })?;
    /// assert_eq!(lengths, 15);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn scan_parts(&self, part_count: usize) -> Result<Vec<PairScan>> {
        let parts = self.view().scan_unordered(&KeyFilter::all(), part_count)?;
        let scans = parts.into_iter().map(|rows| PairScan {
            rows,
            _snapshot: self.snapshot().clone(),
        });
        Ok(scans.collect())
    }
}

impl PairScan {
    /// Shows the pairs to `each`: key and value.
    ///
    /// # Errors
    /// As [`KeyspaceSnapshot::get`]. Some pairs may have been shown before.
    pub fn for_each(mut self, each: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let mut shown = Shown(each);
        while self.rows.give(usize::MAX, &mut shown)? > 0 {}
        Ok(())
    }
}

/// Who is shown pairs.
struct Shown<F>(F);

impl<F: FnMut(&[u8], &[u8])> Shown<F> {
    #[inline]
    fn show(&mut self, key: &[u8], stored: &[u8]) -> Result<(), Malformed> {
        let start = value_start(stored)?;
        (self.0)(key, stored.get(start..).unwrap_or_default());
        Ok(())
    }
}

impl<F: FnMut(&[u8], &[u8])> TakeRows for Shown<F> {
    #[inline]
    fn take_page(&mut self, rows: RowsView<'_>, slots: Slots<'_>) -> Result<(), Malformed> {
        slots.try_each(|slot| self.show(rows.key(slot), rows.live_value(slot)))
    }

    fn take_row(&mut self, row: RowRef<'_>) -> Result<(), Malformed> {
        self.show(row.key, row.value.unwrap_or_default())
    }
}
