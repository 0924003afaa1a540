//! The rows of a table that is divided by range, leaf by leaf: each is opened when the one before is read.

use super::merge::{Merge, not_stored};
use super::view::View;
use crate::codec::Malformed;
use crate::error::{Error, Result};
use crate::key_range::KeyRange;
use crate::row_set::rows_page::RowRef;
use crate::tree::leaves::LeafAt;

/// The rows of leaves in key order, or against it; without those that lie above the leaves.
#[derive(Debug)]
pub(crate) struct Leaves {
    view: View,
    truncate_seq: u64,
    range: KeyRange,
    descending: bool,
    tombstones: bool,
    /// The leaf that is read.
    rows: Option<Merge>,
    next: Next,
}

/// Which leaf comes next.
#[derive(Debug)]
enum Next {
    First,
    /// The one on the other side of this key.
    Beyond(Box<[u8]>),
    /// There is none.
    End,
}

impl Leaves {
    /// Before the first row of a range; nothing is read yet.
    pub(crate) fn new(view: View, range: KeyRange, descending: bool, tombstones: bool) -> Self {
        Leaves {
            truncate_seq: view.truncate_seq(),
            view,
            range,
            descending,
            tombstones,
            rows: None,
            next: Next::First,
        }
    }

    /// The row it is at.
    pub(crate) fn row(&self) -> Option<RowRef<'_>> {
        self.rows.as_ref()?.row()
    }

    /// When the row it is at was written, at the latest.
    pub(super) fn written_seq(&self) -> u64 {
        self.rows.as_ref().map_or(u64::MAX, Merge::written_seq)
    }

    /// Goes to the next row, if there is one.
    pub(crate) fn advance(&mut self) -> Result<()> {
        loop {
            if let Some(rows) = &mut self.rows
                && rows.advance()?
            {
                return Ok(());
            }
            self.rows = self.next_leaf();
            if self.rows.is_none() {
                return Ok(());
            }
        }
    }

    /// The error for a row that is not what its place says.
    pub(crate) fn corrupt(&self, malformed: Malformed) -> Error {
        match &self.rows {
            Some(rows) => rows.corrupt(malformed),
            None => not_stored(malformed),
        }
    }

    fn next_leaf(&mut self) -> Option<Merge> {
        let at = match &self.next {
            Next::First => LeafAt::start_of(&self.range, self.descending),
            Next::Beyond(key) if self.descending => LeafAt::Below(key),
            Next::Beyond(key) => LeafAt::Key(key),
            Next::End => return None,
        };
        let place = self.view.fragments().leaf(at)?;
        let sources = self
            .view
            .fragment_sources(place.leaf, &self.range, self.truncate_seq)
            .collect();
        self.next = match place.end(self.descending) {
            Some(key) if !place.holds_all_of(&self.range, self.descending) => {
                Next::Beyond(key.into())
            }
            _ => Next::End,
        };
        Some(Merge::new(
            sources,
            self.range.clone(),
            self.descending,
            self.tombstones,
        ))
    }
}
