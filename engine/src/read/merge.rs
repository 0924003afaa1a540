//! Several cursors in key order as one: each key once, the newest row.
//!
//! A binary heap over the cursors, by key and then by age. Of the rows of one key the newest comes up first; the others
//! are passed over.

use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::Arc;

use super::range::KeyRange;
use crate::codec::Malformed;
use crate::deletes::Hidden;
use crate::error::{Error, Result};
use crate::generation::GenerationCursor;
use crate::row_set::cursor::Cursor;
use crate::row_set::rows_page::RowRef;
use crate::tree::files::HeldRowSet;

/// What a merge reads.
#[derive(Debug)]
pub(crate) enum Source {
    /// Rows of a generation.
    Generation(GenerationCursor),
    /// Rows of a RowSet, which is held meanwhile.
    RowSet(Cursor, Arc<HeldRowSet>),
}

impl Source {
    /// The sequence at which its row was written, or one behind it and before the next delete that counts.
    fn written_seq(&self) -> u64 {
        match self {
            Source::Generation(cursor) => cursor.version().map_or(0, |version| version.seq),
            Source::RowSet(_, held) => held.row_set.meta().head.seq_to,
        }
    }

    fn row(&self) -> Option<RowRef<'_>> {
        match self {
            Source::Generation(cursor) => cursor.row(),
            Source::RowSet(cursor, _) => cursor.row(),
        }
    }

    fn advance(&mut self, descending: bool) -> Result<()> {
        match self {
            Source::Generation(cursor) => {
                cursor.advance();
                Ok(())
            }
            Source::RowSet(cursor, _) if descending => cursor.retreat(),
            Source::RowSet(cursor, _) => cursor.advance(),
        }
    }

    /// Goes to the first row of a range that is wanted.
    fn start(&mut self, range: &KeyRange, descending: bool) -> Result<()> {
        match self {
            Source::Generation(cursor) => {
                match &range.start {
                    Bound::Unbounded => {}
                    Bound::Included(key) => cursor.skip_below(key, false),
                    Bound::Excluded(key) => cursor.skip_below(key, true),
                }
                match &range.end {
                    Bound::Unbounded => {}
                    Bound::Included(key) => cursor.skip_above(key, false),
                    Bound::Excluded(key) => cursor.skip_above(key, true),
                }
                cursor.advance();
                Ok(())
            }
            Source::RowSet(cursor, _) if descending => seek_end(cursor, &range.end),
            Source::RowSet(cursor, _) => seek_start(cursor, &range.start),
        }
    }
}

fn seek_start(cursor: &mut Cursor, start: &Bound<Vec<u8>>) -> Result<()> {
    let key = match start {
        Bound::Unbounded => return cursor.seek_first(),
        Bound::Included(key) | Bound::Excluded(key) => key,
    };
    cursor.seek(key)?;
    let is_there = cursor.row().is_some_and(|row| row.key == key.as_slice());
    if is_there && matches!(start, Bound::Excluded(_)) {
        cursor.advance()?;
    }
    Ok(())
}

fn seek_end(cursor: &mut Cursor, end: &Bound<Vec<u8>>) -> Result<()> {
    match end {
        Bound::Unbounded => cursor.seek_last(),
        Bound::Excluded(key) => cursor.seek_below(key),
        Bound::Included(key) => {
            cursor.seek(key)?;
            let is_there = cursor.row().is_some_and(|row| row.key == key.as_slice());
            if is_there {
                Ok(())
            } else {
                cursor.seek_below(key)
            }
        }
    }
}

/// The error for a row of the DeltaCache, whose record was checked when it was written or read.
pub(crate) fn not_stored(malformed: Malformed) -> Error {
    Error::Usage(format!("a row in memory is malformed: {}", malformed.0))
}

/// Rows of several sources in key order, or against it.
#[derive(Debug)]
pub(crate) struct Merge {
    /// Newest first.
    sources: Vec<Source>,
    /// The sources that are at a row, the next one first.
    heap: Vec<u32>,
    range: KeyRange,
    descending: bool,
    /// Whether tombstones are given too.
    tombstones: bool,
    /// Ranges that were deleted after some of the sources were written.
    hidden: Hidden,
    is_started: bool,
    /// The key of the row that it is at.
    key: Vec<u8>,
    at_row: bool,
}

impl Merge {
    /// A merge before its first row; nothing is read yet. The sources are given newest first.
    pub(crate) fn new(
        sources: Vec<Source>,
        range: KeyRange,
        descending: bool,
        tombstones: bool,
    ) -> Self {
        Merge {
            sources,
            heap: Vec::new(),
            range,
            descending,
            tombstones,
            hidden: Hidden::default(),
            is_started: false,
            key: Vec::new(),
            at_row: false,
        }
    }

    /// Leaves out what is deleted; nothing is given for it.
    pub(crate) fn without(self, hidden: Hidden) -> Self {
        Merge { hidden, ..self }
    }

    /// Whether the newest row of the key at hand is deleted, and so all of them are.
    fn is_hidden(&self) -> bool {
        let top = self.heap.first();
        let source = top.and_then(|&i| self.sources.get(i as usize));
        source.is_some_and(|source| {
            let row = source.row();
            row.is_some_and(|row| self.hidden.hides(row.key, source.written_seq()))
        })
    }

    /// Goes to the next row, if there is one.
    pub(crate) fn advance(&mut self) -> Result<bool> {
        if !self.is_started {
            self.start()?;
        }
        loop {
            while self.at_row {
                match self.top_row() {
                    Some(row) if row.key == self.key.as_slice() => self.step()?,
                    _ => self.at_row = false,
                }
            }
            let descending = self.descending;
            let Some(row) = self.top_row() else {
                return Ok(false);
            };
            let inside = if descending {
                self.range.starts_before(row.key)
            } else {
                self.range.ends_after(row.key)
            };
            if !inside {
                self.heap.clear();
                return Ok(false);
            }
            let is_given = (self.tombstones || row.value.is_some())
                && (self.hidden.is_empty() || !self.is_hidden());
            let mut key = std::mem::take(&mut self.key);
            if let Some(row) = self.top_row() {
                key.clear();
                key.extend_from_slice(row.key);
            }
            self.key = key;
            self.at_row = true;
            if is_given {
                return Ok(true);
            }
        }
    }

    /// The row it is at: key, and value unless it is a tombstone.
    pub(crate) fn row(&self) -> Option<RowRef<'_>> {
        if self.at_row { self.top_row() } else { None }
    }

    /// The error for a row that is not what its place says.
    pub(crate) fn corrupt(&self, malformed: Malformed) -> Error {
        let source = self
            .heap
            .first()
            .and_then(|&i| self.sources.get(i as usize));
        match source {
            Some(Source::RowSet(_, held)) => held.corrupt(malformed.0),
            _ => not_stored(malformed),
        }
    }

    fn top_row(&self) -> Option<RowRef<'_>> {
        self.sources.get(*self.heap.first()? as usize)?.row()
    }

    fn start(&mut self) -> Result<()> {
        self.is_started = true;
        for source in &mut self.sources {
            source.start(&self.range, self.descending)?;
        }
        self.heap = (0..crate::codec::len_u32(self.sources.len()))
            .filter(|&i| {
                let source = self.sources.get(i as usize);
                source.and_then(Source::row).is_some()
            })
            .collect();
        (0..self.heap.len() / 2)
            .rev()
            .for_each(|i| self.sift_down(i));
        Ok(())
    }

    /// Goes past the first source's row.
    fn step(&mut self) -> Result<()> {
        let Some(&top) = self.heap.first() else {
            return Ok(());
        };
        if let Some(source) = self.sources.get_mut(top as usize) {
            source.advance(self.descending)?;
            if source.row().is_none() {
                self.heap.swap_remove(0);
            }
        }
        self.sift_down(0);
        Ok(())
    }

    fn sift_down(&mut self, mut at: usize) {
        loop {
            let children = [2 * at + 1, 2 * at + 2];
            let mut first = at;
            for child in children {
                if child < self.heap.len() && self.comes_before(child, first) {
                    first = child;
                }
            }
            if first == at {
                return;
            }
            self.heap.swap(at, first);
            at = first;
        }
    }

    /// Whether the row of one place of the heap comes before that of another.
    fn comes_before(&self, a: usize, b: usize) -> bool {
        let (Some(&a), Some(&b)) = (self.heap.get(a), self.heap.get(b)) else {
            return false;
        };
        let key = |i: u32| {
            let row = self.sources.get(i as usize).and_then(Source::row);
            row.map_or(&[][..], |row| row.key)
        };
        let order = key(a).cmp(key(b));
        let order = if self.descending {
            order.reverse()
        } else {
            order
        };
        order.then(a.cmp(&b)) == Ordering::Less
    }
}
