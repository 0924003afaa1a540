//! The rows of a scan, handed on in bulk: those of a merge, in its order, or pieces of RowSets where no order is asked for.
//!
//! A scan without order reads each RowSet by itself, past the page cache, a page at a time. Its pieces are small, and
//! several readers of one scan each take the next when they are done with one, so that all end together (Leis et al.,
//! Morsel-Driven Parallelism, 2014).

use std::collections::VecDeque;
use std::sync::Arc;

use super::ordered::OrderedRows;
use super::piece::{Piece, PieceOfRowSet, RowFilter, Slots};
use super::view::View;
use crate::codec::Malformed;
use crate::error::Result;
use crate::row_set::rows_page::{RowRef, RowsView};
use crate::sync::Mutex;

/// Takes rows from a scan.
pub(crate) trait TakeRows {
    /// Takes rows of a page.
    fn take_page(&mut self, rows: RowsView<'_>, slots: Slots<'_>) -> Result<(), Malformed>;

    /// Takes a row; it may be looked at only with others, at [`end_rows`](Self::end_rows) at last.
    fn take_row(&mut self, row: RowRef<'_>) -> Result<(), Malformed>;

    /// Ends some rows that were taken one by one.
    fn end_rows(&mut self) -> Result<(), Malformed> {
        Ok(())
    }
}

/// Rows, one after the other.
#[derive(Debug)]
pub(crate) struct Rows {
    work: Arc<ScanWork>,
    piece: Option<Piece>,
    /// So many rows of the page at hand were handed on.
    taken: usize,
    /// What comes before the pieces.
    ordered: Option<OrderedRows>,
}

/// What the readers of a scan have not begun with.
#[derive(Debug, Default)]
struct ScanWork {
    pieces: Mutex<VecDeque<PieceOfRowSet>>,
    /// What comes before the pieces: who comes first takes it, so that no reader has to be read.
    before: Mutex<Option<OrderedRows>>,
    filter: RowFilter,
}

impl Rows {
    /// Rows in their order.
    pub(crate) fn ordered(rows: impl Into<OrderedRows>) -> Self {
        Rows::of(Arc::default(), Some(rows.into()))
    }

    /// The rows of pieces, and others that come before them, shared by so many readers.
    pub(crate) fn unordered(
        pieces: Vec<PieceOfRowSet>,
        filter: RowFilter,
        before: OrderedRows,
        reader_count: usize,
    ) -> Vec<Self> {
        let work = Arc::new(ScanWork {
            pieces: Mutex::new(pieces.into()),
            before: Mutex::new(Some(before)),
            filter,
        });
        let readers = (0..reader_count.max(1)).map(|_| Rows::of(work.clone(), None));
        readers.collect()
    }

    fn of(work: Arc<ScanWork>, ordered: Option<OrderedRows>) -> Self {
        Rows {
            work,
            piece: None,
            taken: 0,
            ordered,
        }
    }

    /// Hands on up to so many of the next rows, those of one page at most; how many, 0 only at the end.
    pub(crate) fn give(&mut self, most: usize, to: &mut impl TakeRows) -> Result<usize> {
        if self.ordered.is_none() && self.piece.is_none() {
            self.ordered = self.work.before.lock().take();
        }
        let given = self.give_ordered(most, to)?;
        if given > 0 {
            return Ok(given);
        }
        loop {
            let Some(piece) = &mut self.piece else {
                let next = self.work.pieces.lock().pop_front();
                let Some(next) = next else {
                    return Ok(0);
                };
                self.piece = Some(next.open()?);
                continue;
            };
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
            if !piece.advance(&self.work.filter)? {
                self.piece = None;
            }
        }
    }

    /// Goes on in a view of the same table at the same sequence, where the rows are in order.
    pub(crate) fn go_over_to(&mut self, view: View) {
        if let Some(rows) = &mut *self.work.before.lock() {
            rows.go_over_to(view.clone());
        }
        if let Some(rows) = &mut self.ordered {
            rows.go_over_to(view);
        }
    }

    /// The row in order that was handed on last; `None` before its first and behind its last.
    pub(crate) fn row(&self) -> Option<RowRef<'_>> {
        self.ordered.as_ref()?.row()
    }

    fn give_ordered(&mut self, most: usize, to: &mut impl TakeRows) -> Result<usize> {
        let Some(rows) = &mut self.ordered else {
            return Ok(0);
        };
        let (mut count, mut size_bytes) = (0, 0);
        while count < most.min(MERGED_ROWS_MAX)
            && size_bytes < MERGED_SIZE_BYTES_MAX
            && rows.advance()?
        {
            let Some(row) = rows.row() else { break };
            size_bytes += row.value.map_or(0, <[u8]>::len);
            to.take_row(row)
                .map_err(|malformed| rows.corrupt(malformed))?;
            count += 1;
        }
        to.end_rows().map_err(|malformed| rows.corrupt(malformed))?;
        Ok(count)
    }
}

/// Rows in order that are handed on at once, and bytes of them: who takes them looks only then whether it has enough.
const MERGED_ROWS_MAX: usize = 1024;
const MERGED_SIZE_BYTES_MAX: usize = 1 << 20;
