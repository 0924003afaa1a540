//! The rows of a scan: one merge, or a part for each leaf where no order is asked for.
//!
//! A leaf's RowSets are read by themselves, from front to back and past the page cache. A row of theirs counts unless a
//! generation knows the key, which one lookup by hash tells; what the generations hold comes last.

use std::collections::VecDeque;

use super::merge::Merge;
use super::view::View;
use crate::cache::table::hash_key;
use crate::codec::Malformed;
use crate::error::{Error, Result};
use crate::row_set::rows_page::RowRef;

/// Rows, one after the other.
#[derive(Debug)]
pub(crate) struct Rows {
    parts: VecDeque<Merge>,
    /// So many of the parts hold rows that a generation may replace.
    overlaid: usize,
    view: View,
}

impl Rows {
    /// The rows of a merge, in its order.
    pub(crate) fn ordered(view: View, merge: Merge) -> Self {
        Rows {
            parts: VecDeque::from([merge]),
            overlaid: 0,
            view,
        }
    }

    /// The rows of leaves, and of the generations that may replace them.
    pub(crate) fn of_leaves(view: View, leaves: Vec<Merge>, generations: Merge) -> Self {
        let overlaid = leaves.len();
        let mut parts = VecDeque::from(leaves);
        parts.push_back(generations);
        Rows {
            parts,
            overlaid,
            view,
        }
    }

    /// Goes to the next row, if there is one.
    pub(crate) fn advance(&mut self) -> Result<bool> {
        while let Some(part) = self.parts.front_mut() {
            if !part.advance()? {
                self.parts.pop_front();
                self.overlaid = self.overlaid.saturating_sub(1);
                continue;
            }
            let is_replaced = |row: RowRef<'_>| {
                self.overlaid > 0 && self.view.generations_know(hash_key(row.key), row.key)
            };
            if !part.row().is_some_and(is_replaced) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The row it is at.
    pub(crate) fn row(&self) -> Option<RowRef<'_>> {
        self.parts.front()?.row()
    }

    /// The error for a row that is not what its place says.
    pub(crate) fn corrupt(&self, malformed: Malformed) -> Error {
        match self.parts.front() {
            Some(part) => part.corrupt(malformed),
            None => super::merge::not_stored(malformed),
        }
    }
}
