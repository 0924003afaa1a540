//! The rows of a scan, handed on in bulk: those of a merge, in its order, or pieces of RowSets where no order is asked for.
//!
//! A scan without order reads each RowSet by itself, from front to back and past the page cache, a page at a time; what
//! the generations hold comes last. Its pieces can be read side by side.

use std::collections::VecDeque;

use super::merge::Merge;
use super::piece::{Piece, PieceOfRowSet, RowFilter, Slots};
use crate::codec::Malformed;
use crate::error::Result;
use crate::row_set::rows_page::{RowRef, RowsView};

/// Takes rows from a scan.
pub(crate) trait TakeRows {
    /// Takes rows of a page.
    fn take_page(&mut self, rows: RowsView<'_>, slots: Slots<'_>) -> Result<(), Malformed>;

    /// Takes a row.
    fn take_row(&mut self, row: RowRef<'_>) -> Result<(), Malformed>;
}

/// Rows, one after the other.
#[derive(Debug)]
pub(crate) struct Rows {
    pieces: VecDeque<PieceOfRowSet>,
    filter: RowFilter,
    piece: Option<Piece>,
    /// So many rows of the page at hand were handed on.
    taken: usize,
    /// What comes after the pieces.
    merge: Option<Merge>,
}

impl Rows {
    /// The rows of a merge, in its order.
    pub(crate) fn ordered(merge: Merge) -> Self {
        Rows {
            pieces: VecDeque::new(),
            filter: RowFilter::none(),
            piece: None,
            taken: 0,
            merge: Some(merge),
        }
    }

    /// The rows of pieces, and then those of a merge.
    pub(crate) fn unordered(
        pieces: impl IntoIterator<Item = PieceOfRowSet>,
        filter: RowFilter,
        merge: Option<Merge>,
    ) -> Self {
        Rows {
            pieces: pieces.into_iter().collect(),
            filter,
            piece: None,
            taken: 0,
            merge,
        }
    }

    /// Hands on up to so many of the next rows, those of one page at most; how many, 0 only at the end.
    pub(crate) fn give(&mut self, most: usize, to: &mut impl TakeRows) -> Result<usize> {
        while let Some(piece) = &mut self.piece {
            if let Some((rows, slots)) = piece.page() {
                let part = slots.part(self.taken, most);
                if part.len() > 0 {
                    self.taken += part.len();
                    to.take_page(rows, part)
                        .map_err(|malformed| piece.held().corrupt(malformed.0))?;
                    return Ok(part.len());
                }
            }
            self.taken = 0;
            if !piece.advance(&self.filter)? {
                self.piece = self.next_piece()?;
            }
        }
        if !self.pieces.is_empty() {
            self.piece = self.next_piece()?;
            return self.give(most, to);
        }
        self.give_merged(most, to)
    }

    /// The row of a merge that was handed on last; `None` before its first and behind its last.
    pub(crate) fn row(&self) -> Option<RowRef<'_>> {
        self.merge.as_ref()?.row()
    }

    fn next_piece(&mut self) -> Result<Option<Piece>> {
        let next = self.pieces.pop_front();
        next.map(PieceOfRowSet::open).transpose()
    }

    fn give_merged(&mut self, most: usize, to: &mut impl TakeRows) -> Result<usize> {
        let Some(merge) = &mut self.merge else {
            return Ok(0);
        };
        let mut count = 0;
        while count < most.min(MERGED_ROWS_MAX) && merge.advance()? {
            let Some(row) = merge.row() else { break };
            to.take_row(row)
                .map_err(|malformed| merge.corrupt(malformed))?;
            count += 1;
        }
        Ok(count)
    }
}

/// Rows of a merge that are handed on at once.
const MERGED_ROWS_MAX: usize = 1024;
