//! Rows in key order, or against it, of which only some keys are wanted: interval by interval, and past keys whose columns
//! rule them out.
//!
//! Each interval is read by a merge of its own, so that only fragments, RowSets and pages are looked at that may hold some
//! of it. After some rows that are not wanted the merge is begun anew where the next one may lie (a skip scan).

use std::collections::VecDeque;

use super::key_filter::KeyFilter;
use super::merge::Merge;
use super::view::View;
use crate::codec::Malformed;
use crate::error::{Error, Result};
use crate::key_range::{KeyInterval, KeyRange};
use crate::row_set::rows_page::RowRef;

/// After so many rows in a row that are not wanted, the next that may be is looked for. Beginning a merge costs about as
/// much as passing over so many rows.
const PASSED_ROWS_MAX: u32 = 64;

/// Rows in key order, or against it.
#[derive(Debug)]
pub(crate) struct OrderedRows {
    merge: Option<Merge>,
    /// Where more come from.
    more: Option<Box<More>>,
}

/// What was not begun with.
#[derive(Debug)]
struct More {
    view: View,
    /// Whether only what is in memory is read.
    in_memory: bool,
    descending: bool,
    filter: KeyFilter,
    /// The interval that is read.
    interval: KeyInterval,
    /// Those that come behind it, in order.
    next: VecDeque<KeyInterval>,
    passed_rows: u32,
}

impl From<Merge> for OrderedRows {
    fn from(merge: Merge) -> Self {
        OrderedRows {
            merge: Some(merge),
            more: None,
        }
    }
}

impl OrderedRows {
    /// The rows of a table that a filter wants.
    pub(crate) fn new(view: View, filter: KeyFilter, descending: bool) -> Self {
        OrderedRows::of(view, filter, descending, false)
    }

    /// Those of its generations alone.
    pub(super) fn in_memory(view: View, filter: KeyFilter) -> Self {
        OrderedRows::of(view, filter, false, true)
    }

    fn of(view: View, filter: KeyFilter, descending: bool, in_memory: bool) -> Self {
        let mut next: VecDeque<_> = filter.intervals().iter().cloned().collect();
        if descending {
            next.make_contiguous().reverse();
        }
        let more = More {
            view,
            in_memory,
            descending,
            filter,
            interval: KeyInterval::ALL,
            next,
            passed_rows: 0,
        };
        OrderedRows {
            merge: None,
            more: Some(Box::new(more)),
        }
    }

    /// Goes to the next row, if there is one.
    #[inline]
    pub(crate) fn advance(&mut self) -> Result<bool> {
        loop {
            if let Some(merge) = &mut self.merge
                && merge.advance()?
            {
                let Some(more) = &mut self.more else {
                    return Ok(true);
                };
                let Some(row) = merge.row() else {
                    return Ok(true);
                };
                if more.filter.takes(row.key) {
                    more.passed_rows = 0;
                    return Ok(true);
                }
                if let Some(rest) = more.pass(row.key) {
                    self.merge = rest;
                }
                continue;
            }
            let next = self.more.as_mut().and_then(|more| more.begin_next());
            if next.is_none() {
                return Ok(false);
            }
            self.merge = next;
        }
    }

    /// Goes on behind the row it is at, in a view of the same table at the same sequence; what it held is let go.
    pub(super) fn go_over_to(&mut self, view: View) {
        let Some(more) = &mut self.more else {
            return;
        };
        if more.in_memory {
            return;
        }
        more.view = view.under(more.view.own.take());
        let merge = self.merge.take();
        if let Some(row) = merge.as_ref().and_then(Merge::row) {
            let mut rest = more.interval.clone();
            if more.descending {
                rest.end = Some(row.key.to_vec());
            } else {
                rest.start = [row.key, &[0]].concat();
            }
            more.next.push_front(rest);
        }
    }

    /// The row it is at.
    #[inline]
    pub(crate) fn row(&self) -> Option<RowRef<'_>> {
        self.merge.as_ref()?.row()
    }

    /// The error for a row that is not what its place says.
    pub(crate) fn corrupt(&self, malformed: Malformed) -> Error {
        match &self.merge {
            Some(merge) => merge.corrupt(malformed),
            None => super::merge::not_stored(malformed),
        }
    }
}

impl More {
    /// The rows of the next interval.
    fn begin_next(&mut self) -> Option<Merge> {
        self.interval = self.next.pop_front()?;
        Some(self.begin())
    }

    fn begin(&self) -> Merge {
        let range = KeyRange::from(&self.interval);
        if !self.in_memory {
            return self.view.scan(range, self.descending, false);
        }
        let truncate_seq = self.view.truncate_seq();
        let sources = self.view.generation_sources(truncate_seq, self.descending);
        Merge::new(sources, range, self.descending, false).without(self.view.hidden())
    }

    /// Passes a row that is not wanted. After some of them, the rows of the interval from where there may be one that is;
    /// or that there are none.
    #[cold]
    fn pass(&mut self, key: &[u8]) -> Option<Option<Merge>> {
        self.passed_rows += 1;
        if self.passed_rows < PASSED_ROWS_MAX {
            return None;
        }
        self.passed_rows = 0;
        match self.filter.bound_beyond(key, self.descending) {
            Some(bound) if self.descending => self.interval.end = Some(bound),
            Some(bound) => self.interval.start = bound,
            None => return Some(None),
        }
        Some((!self.interval.is_empty()).then(|| self.begin()))
    }
}
