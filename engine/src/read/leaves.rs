//! The leaves of a table that is divided by range, in key order: each is opened when the one before is read.

use std::ops::Bound;

use super::merge::Source;
use super::view::View;
use crate::key_range::KeyRange;
use crate::tree::leaves::LeafAt;

/// The leaves that hold rows of a range, in key order or against it.
#[derive(Debug)]
pub(crate) struct Leaves {
    view: View,
    truncate_seq: u64,
    range: KeyRange,
    descending: bool,
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
    /// Before the first leaf.
    pub(crate) fn new(view: View, truncate_seq: u64, range: KeyRange, descending: bool) -> Self {
        Leaves {
            view,
            truncate_seq,
            range,
            descending,
            next: Next::First,
        }
    }

    /// The range that they hold rows of.
    pub(super) fn range(&self) -> &KeyRange {
        &self.range
    }

    /// Goes to the next leaf: cursors of its RowSets, newest first, and the range up to where the leaf ends.
    pub(super) fn next_leaf(&mut self) -> Option<(Vec<Source>, KeyRange)> {
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
        let mut range = self.range.clone();
        self.next = match place.end(self.descending) {
            Some(key) if !place.holds_all_of(&self.range, self.descending) => {
                if self.descending {
                    range.start = Bound::Included(key.to_vec());
                } else {
                    range.end = Bound::Excluded(key.to_vec());
                }
                Next::Beyond(key.into())
            }
            _ => Next::End,
        };
        Some((sources, range))
    }
}
