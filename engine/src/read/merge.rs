//! Several cursors in key order as one: each key once, the newest row. Scans and compactions read through this.
//!
//! A [`LoserTree`] says which cursor comes next. Of the rows of one key the newest comes up first; the others are passed
//! over.

use std::ops::Bound;
use std::sync::Arc;

use super::leaves::Leaves;
use super::loser_tree::{Keyed, LoserTree};
use crate::codec::Malformed;
use crate::deletes::Hidden;
use crate::error::{Error, Result};
use crate::generation::GenerationCursor;
use crate::key_range::KeyRange;
use crate::row_set::cursor::Cursor;
use crate::row_set::rows_page::RowRef;
use crate::tree::files::HeldRowSet;

/// So many deleted rows are passed one by one before the end of what is deleted is looked for.
const HIDDEN_RUN_MAX: usize = 16;

/// What a merge reads.
#[derive(Debug)]
pub(crate) enum Source {
    /// Rows of a generation.
    Generation(GenerationCursor),
    /// Rows of a RowSet, which is held meanwhile.
    RowSet(Cursor, Arc<HeldRowSet>),
}

impl Keyed for Source {
    #[inline]
    fn key(&self) -> Option<&[u8]> {
        match self {
            Source::Generation(cursor) => cursor.row().map(|row| row.key),
            Source::RowSet(cursor, _) => cursor.key(),
        }
    }
}

impl Source {
    /// The sequence at which its row was written, or one behind it and before the next delete that counts.
    fn written_seq(&self) -> u64 {
        match self {
            Source::Generation(cursor) => cursor.version().map_or(0, |version| version.seq),
            Source::RowSet(_, held) => held.row_set.meta().head.seq_to,
        }
    }

    /// Whether the row it is at is a tombstone.
    #[inline]
    fn is_tombstone(&self) -> bool {
        match self {
            Source::Generation(cursor) => cursor.row().is_some_and(|row| row.value.is_none()),
            Source::RowSet(cursor, _) => cursor.is_tombstone(),
        }
    }

    #[inline]
    fn row(&self) -> Option<RowRef<'_>> {
        match self {
            Source::Generation(cursor) => cursor.row(),
            Source::RowSet(cursor, _) => cursor.row(),
        }
    }

    #[inline]
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

    /// Goes to the first row of a range that is wanted; a cursor of a RowSet from the first row not below its bound.
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
            Source::RowSet(cursor, _) if descending => settle_at_end(cursor, &range.end),
            Source::RowSet(cursor, _) => settle_at_start(cursor, &range.start),
        }
    }
}

/// Takes all sources to the first of their rows that is wanted.
fn start_all(sources: &mut [Source], range: &KeyRange, descending: bool) -> Result<()> {
    let bound = if descending { &range.end } else { &range.start };
    if let Bound::Included(key) | Bound::Excluded(key) = bound {
        let cursors = sources.iter_mut().filter_map(|source| match source {
            Source::RowSet(cursor, _) => Some(cursor),
            Source::Generation(_) => None,
        });
        Cursor::seek_together(&mut cursors.collect::<Vec<_>>(), key)?;
    }
    sources
        .iter_mut()
        .try_for_each(|source| source.start(range, descending))
}

/// From the first row not below the key of a bound to the first one inside.
fn settle_at_start(cursor: &mut Cursor, start: &Bound<Vec<u8>>) -> Result<()> {
    match start {
        Bound::Unbounded => cursor.seek_first(),
        Bound::Excluded(key) if is_at(cursor, key) => cursor.advance(),
        _ => Ok(()),
    }
}

/// From the first row not below the key of a bound to the last one inside.
fn settle_at_end(cursor: &mut Cursor, end: &Bound<Vec<u8>>) -> Result<()> {
    match end {
        Bound::Unbounded => cursor.seek_last(),
        Bound::Included(key) if is_at(cursor, key) => Ok(()),
        _ if cursor.row().is_some() => cursor.retreat(),
        _ => cursor.seek_last(),
    }
}

fn is_at(cursor: &Cursor, key: &[u8]) -> bool {
    cursor.row().is_some_and(|row| row.key == key)
}

/// To the first row from a bound on, or against the order to the last one before it; without a bound behind all rows.
fn leap(cursor: &mut Cursor, bound: Option<&[u8]>, descending: bool) -> Result<()> {
    match (bound, descending) {
        (Some(bound), false) => cursor.seek(bound),
        (Some(bound), true) => {
            cursor.seek(bound)?;
            cursor.retreat()
        }
        (None, false) => {
            cursor.seek_last()?;
            cursor.advance()
        }
        (None, true) => {
            cursor.seek_first()?;
            cursor.retreat()
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
    /// Which of them comes next, once it is started.
    order: Option<LoserTree>,
    /// The keys that are wanted of these sources.
    range: KeyRange,
    /// Where more sources come from when these have no more such keys: they take the place of those from a number on.
    leaves: Option<(Box<Leaves>, usize)>,
    descending: bool,
    /// Whether tombstones are given too.
    tombstones: bool,
    /// Ranges that were deleted after some of the sources were written.
    hidden: Hidden,
    /// How many rows in a row were deleted.
    hidden_run: usize,
    /// Whether the first source is at a row that was given.
    at_row: bool,
    has_failed: bool,
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
            order: None,
            range,
            leaves: None,
            descending,
            tombstones,
            hidden: Hidden::default(),
            hidden_run: 0,
            at_row: false,
            has_failed: false,
        }
    }

    /// Goes on through the rows of leaves, which are older than those of its sources.
    pub(super) fn above(mut self, leaves: Leaves) -> Self {
        self.leaves = Some((Box::new(leaves), self.sources.len()));
        self
    }

    /// Leaves out what is deleted; nothing is given for it.
    pub(crate) fn without(self, hidden: Hidden) -> Self {
        Merge { hidden, ..self }
    }

    /// Whether the row at hand is deleted.
    #[cold]
    fn is_hidden(&self) -> bool {
        self.first().is_some_and(|source| {
            let row = source.row();
            row.is_some_and(|row| self.hidden.hides(row.key, source.written_seq()))
        })
    }

    /// Goes to the next row, if there is one. After an error it answers nothing else: part of the sources has gone on.
    #[inline]
    pub(crate) fn advance(&mut self) -> Result<bool> {
        let advanced = self.try_advance();
        if advanced.is_err() {
            self.fail();
        }
        advanced
    }

    #[cold]
    fn fail(&mut self) {
        self.has_failed = true;
        self.at_row = false;
        self.leaves = None;
        self.sources.clear();
        // The next step begins anew, which is refused.
        self.order = None;
    }

    #[inline]
    fn try_advance(&mut self) -> Result<bool> {
        if self.order.is_none() {
            self.start()?;
        } else if self.at_row {
            self.step()?;
        }
        loop {
            self.at_row = false;
            let is_inside = |source: &&Source| source.key().is_some_and(|key| self.is_inside(key));
            let Some(source) = self.first().filter(is_inside) else {
                if self.next_leaf()? {
                    continue;
                }
                self.sources.clear();
                return Ok(false);
            };
            let is_repeated = self.order.as_ref().is_some_and(LoserTree::is_repeated);
            self.at_row = !is_repeated && (self.tombstones || !source.is_tombstone());
            // Of the rows of a key the newest decides: where that is deleted, the older ones are.
            if self.at_row && !self.hidden.is_empty() && self.is_hidden() {
                self.at_row = false;
                self.step_over_hidden()?;
                continue;
            }
            if self.at_row {
                self.hidden_run = 0;
                return Ok(true);
            }
            self.step()?;
        }
    }

    /// Whether a key lies before the end.
    #[inline]
    fn is_inside(&self, key: &[u8]) -> bool {
        if self.descending {
            self.range.starts_before(key)
        } else {
            self.range.ends_after(key)
        }
    }

    /// The row it is at: key, and value unless it is a tombstone.
    #[inline]
    pub(crate) fn row(&self) -> Option<RowRef<'_>> {
        if self.at_row {
            self.first()?.row()
        } else {
            None
        }
    }

    /// The error for a row that is not what its place says.
    pub(crate) fn corrupt(&self, malformed: Malformed) -> Error {
        match self.first() {
            Some(Source::RowSet(_, held)) => held.corrupt(malformed.0),
            _ => not_stored(malformed),
        }
    }

    #[inline]
    fn first(&self) -> Option<&Source> {
        self.sources.get(self.order.as_ref()?.first())
    }

    fn start(&mut self) -> Result<()> {
        if self.has_failed {
            return Err(Error::Usage("rows are read on after an error".into()));
        }
        let whole = self.range.clone();
        // The first leaf's with those above, since they wait for files and memory at once.
        if let Some((leaves, _)) = &mut self.leaves
            && let Some((mut sources, range)) = leaves.next_leaf()
        {
            self.sources.append(&mut sources);
            self.range = range;
        }
        start_all(&mut self.sources, &whole, self.descending)?;
        self.order = Some(LoserTree::new(&self.sources, self.descending));
        Ok(())
    }

    /// Goes on in the next leaf; whether there is one.
    #[cold]
    fn next_leaf(&mut self) -> Result<bool> {
        let Some((leaves, above_count)) = &mut self.leaves else {
            return Ok(false);
        };
        let Some((mut sources, range)) = leaves.next_leaf() else {
            return Ok(false);
        };
        start_all(&mut sources, leaves.range(), self.descending)?;
        self.sources.truncate(*above_count);
        self.sources.append(&mut sources);
        self.range = range;
        self.order = Some(LoserTree::new(&self.sources, self.descending));
        Ok(true)
    }

    /// Goes past the first source's row, which is deleted; after some of them to the end of what is.
    #[cold]
    fn step_over_hidden(&mut self) -> Result<()> {
        self.hidden_run += 1;
        if self.hidden_run < HIDDEN_RUN_MAX {
            return self.step();
        }
        self.hidden_run = 0;
        let Some(order) = &mut self.order else {
            return Ok(());
        };
        if let Some(source) = self.sources.get_mut(order.first()) {
            let written_seq = source.written_seq();
            let key = source.key().unwrap_or_default();
            let bound = self.hidden.bound_of(key, written_seq, self.descending);
            match (source, bound) {
                (Source::RowSet(cursor, _), Some(bound)) => {
                    leap(cursor, bound, self.descending)?;
                }
                (source, _) => source.advance(self.descending)?,
            }
        }
        order.replay(&self.sources);
        Ok(())
    }

    /// Goes past the first source's row.
    #[inline]
    fn step(&mut self) -> Result<()> {
        if let Some(order) = &mut self.order {
            if let Some(source) = self.sources.get_mut(order.first()) {
                source.advance(self.descending)?;
            }
            order.replay(&self.sources);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// *Honest*: what is read on after an error are not the rows behind a gap.
    #[test]
    fn a_merge_that_failed_gives_no_more_rows() {
        let mut merge = Merge::new(Vec::new(), KeyRange::ALL, false, false);
        assert!(!merge.advance().unwrap());
        merge.fail();
        for _ in 0..2 {
            assert!(merge.advance().is_err());
            assert!(merge.row().is_none());
        }
    }
}
