//! Which keys a scan is to return: intervals of keys, and what the columns behind a key's first ones must be.
//!
//! All is decided on encoded keys: each column's bytes sort as its values do, so a condition on a column is a list of
//! intervals for the rest of a key from that column on. Where all keys of a page begin with the same columns, which the
//! bounds of the page tell, the next column's condition can rule out the page.

use std::ops::{Bound, Range};
use std::sync::Arc;

use crate::error::Result;
use crate::key_range::{KeyInterval, KeyRange, after_prefix, is_in};
use crate::row_set::reader::RowSet;
use crate::row_set::rows_page::RowsView;
use crate::sharding::KeyPart;

/// Keys that are wanted.
#[derive(Clone, Debug)]
pub(crate) struct KeyFilter {
    /// Ascending and disjoint; no wanted key lies outside.
    intervals: Arc<[KeyInterval]>,
    /// What these don't tell.
    columns: Arc<[ColumnFilter]>,
    /// The range that all of it is, if it is one: most scans ask for no more, and each page of them asks here.
    only: Option<Arc<KeyRange>>,
}

/// What a column of a key must be.
#[derive(Clone, Debug)]
pub(crate) struct ColumnFilter {
    /// The columns before it.
    pub(crate) before: Vec<KeyPart>,
    /// Of a key's rest from the column on; ascending and disjoint.
    pub(crate) intervals: Vec<KeyInterval>,
}

impl ColumnFilter {
    /// Where the column begins in a key, or in its first bytes; `None` if they end before.
    fn start(&self, key: &[u8]) -> Option<usize> {
        let mut start = 0;
        for part in &self.before {
            start += part.len(key.get(start..)?)?;
        }
        (start <= key.len()).then_some(start)
    }

    /// A key up to the column, and from there on.
    fn parts<'k>(&self, key: &'k [u8]) -> Option<(&'k [u8], &'k [u8])> {
        key.split_at_checked(self.start(key)?)
    }

    /// Whether a key has what the column must be. One that is malformed does: who decodes it finds out.
    fn takes(&self, key: &[u8]) -> bool {
        self.parts(key)
            .is_none_or(|(_, rest)| is_in(&self.intervals, rest))
    }

    /// Whether a key from one on and below another may have what the column must be.
    fn may_take(&self, lower: &[u8], upper: &[u8]) -> bool {
        match (self.parts(lower), self.parts(upper)) {
            (Some((before, from)), Some((same, to))) if before == same => {
                meeting(&self.intervals, from, Some(to)).next().is_some()
            }
            _ => true,
        }
    }
}

/// Of intervals that ascend and don't touch, those with room for a key from one on and below another.
fn meeting<'i>(
    intervals: &'i [KeyInterval],
    lower: &[u8],
    upper: Option<&'i [u8]>,
) -> impl Iterator<Item = &'i KeyInterval> {
    let from = intervals.partition_point(|interval| !interval.ends_after(lower));
    let rest = intervals.get(from..).unwrap_or_default();
    rest.iter()
        .take_while(move |interval| upper.is_none_or(|upper| *interval.start < *upper))
}

impl KeyFilter {
    /// The keys of intervals that ascend and don't touch, whose columns are what they must be.
    pub(crate) fn new(intervals: Vec<KeyInterval>, columns: Vec<ColumnFilter>) -> Self {
        KeyFilter::of(intervals, columns.into())
    }

    /// What is wanted of some of its intervals.
    pub(super) fn within(&self, intervals: Vec<KeyInterval>) -> Self {
        KeyFilter::of(intervals, self.columns.clone())
    }

    fn of(intervals: Vec<KeyInterval>, columns: Arc<[ColumnFilter]>) -> Self {
        let only = match intervals.as_slice() {
            [only] if columns.is_empty() => Some(Arc::new(KeyRange::from(only))),
            _ => None,
        };
        KeyFilter {
            intervals: intervals.into(),
            columns,
            only,
        }
    }

    /// All keys.
    pub(crate) fn all() -> Self {
        KeyFilter::new(vec![KeyInterval::ALL], Vec::new())
    }

    /// No wanted key lies outside of these.
    pub(crate) fn intervals(&self) -> &[KeyInterval] {
        &self.intervals
    }

    /// From the first to the last key that may be wanted.
    pub(crate) fn hull(&self) -> KeyRange {
        let hull = match (self.intervals.first(), self.intervals.last()) {
            (Some(first), Some(last)) => KeyInterval {
                start: first.start.clone(),
                end: last.end.clone(),
            },
            _ => KeyInterval {
                start: Vec::new(),
                end: Some(Vec::new()),
            },
        };
        KeyRange::from(&hull)
    }

    /// Whether the columns of a key in an interval are what they must be.
    #[inline]
    pub(crate) fn takes(&self, key: &[u8]) -> bool {
        self.columns.iter().all(|column| column.takes(key))
    }

    /// Whether a key is wanted.
    pub(super) fn wants(&self, key: &[u8]) -> bool {
        is_in(&self.intervals, key) && self.takes(key)
    }

    /// Whether a key from one on and below another may be wanted.
    pub(super) fn may_want(&self, lower: &[u8], upper: &[u8]) -> bool {
        let meets = meeting(&self.intervals, lower, Some(upper))
            .next()
            .is_some();
        let mut columns = self.columns.iter();
        meets && columns.all(|column| column.may_take(lower, upper))
    }

    /// Where the next key may lie whose columns are what they must be, seen from one that is not wanted: it is a bound, from
    /// which on keys may be wanted, or against the order below which. `None` if there is none.
    pub(super) fn bound_beyond(&self, key: &[u8], descending: bool) -> Option<Vec<u8>> {
        let mut failing = self.columns.iter().filter(|column| !column.takes(key));
        let column = failing.next()?;
        let (before, rest) = column.parts(key)?;
        let above = column
            .intervals
            .partition_point(|interval| interval.start.as_slice() <= rest);
        let joined = |rest: &[u8]| Some([before, rest].concat());
        if descending {
            let below = above.checked_sub(1).and_then(|i| column.intervals.get(i));
            let end = below.and_then(|interval| interval.end.as_deref());
            return joined(end.unwrap_or_default());
        }
        match column.intervals.get(above) {
            Some(next) => joined(&next.start),
            None => after_prefix(before.to_vec()),
        }
    }

    /// The slots of a page that may be wanted, from one to before another, and whether all of them are.
    pub(super) fn slots_of(&self, rows: &RowsView<'_>) -> (usize, usize, bool) {
        if let Some(range) = &self.only {
            let (start, end) = range.slots_of(rows);
            return (start, end, true);
        }
        let Some(last) = rows.row_count().checked_sub(1) else {
            return (0, 0, true);
        };
        let above = [rows.key(last), &[0]].concat();
        let mut meeting = meeting(&self.intervals, rows.key(0), Some(&above));
        let Some(first) = meeting.next() else {
            return (0, 0, true);
        };
        let last = meeting.last();
        let is_one = last.is_none() && self.columns.is_empty();
        let (start, _) = KeyRange::from(first).slots_of(rows);
        let (_, end) = KeyRange::from(last.unwrap_or(first)).slots_of(rows);
        (start.min(end), end, is_one)
    }

    /// The pages of a RowSet that may hold keys that are wanted; ascending, and no two of them touch.
    pub(super) fn pages_of(&self, row_set: &RowSet) -> Result<Vec<Range<u32>>> {
        let meta = row_set.meta();
        let above = [&meta.key_max, &[0][..]].concat();
        let mut pages: Vec<Range<u32>> = Vec::new();
        let mut add = |range: Range<u32>| match pages.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => pages.push(range),
        };
        if self.columns.is_empty() {
            for interval in meeting(&self.intervals, &meta.key_min, Some(&above)) {
                add(KeyRange::from(interval).pages_of(row_set)?);
            }
            return Ok(pages);
        }
        let fences = row_set.fences()?;
        let uppers = fences.iter().skip(1).map(|fence| &*fence.key);
        let uppers = uppers.chain([&*above]);
        for (number, (fence, upper)) in (0..).zip(fences.iter().zip(uppers)) {
            if self.may_want(&fence.key, upper) {
                add(number..number + 1);
            }
        }
        Ok(pages)
    }
}

impl KeyRange {
    /// The slots of a page whose keys are in the range: from one to before another.
    pub(super) fn slots_of(&self, rows: &RowsView<'_>) -> (usize, usize) {
        let count = rows.row_count();
        let behind = |key: &[u8]| {
            let slot = rows.lower_bound(key);
            slot + usize::from(slot < count && rows.key(slot) == key)
        };
        let start = match &self.start {
            Bound::Unbounded => 0,
            Bound::Included(key) => rows.lower_bound(key),
            Bound::Excluded(key) => behind(key),
        };
        let end = match &self.end {
            Bound::Unbounded => count,
            Bound::Included(key) => behind(key),
            Bound::Excluded(key) => rows.lower_bound(key),
        };
        (start.min(end), end)
    }

    /// The pages of a RowSet that may have keys in the range.
    pub(super) fn pages_of(&self, row_set: &RowSet) -> Result<Range<u32>> {
        let page = |bound: &Bound<Vec<u8>>, unbounded: u32| match bound {
            Bound::Unbounded => Ok(unbounded),
            Bound::Included(key) | Bound::Excluded(key) => row_set.find_rows_page(key),
        };
        let last = row_set.meta().rows_page_count.saturating_sub(1);
        Ok(page(&self.start, 0)?..page(&self.end, last)?.saturating_add(1))
    }
}
