//! Going through pages of rows from front to back, a page at a time: for those who take many rows.
//!
//! A page is read from the cache where it is there, else from a buffer of many stored pages, past the cache and without
//! memory of its own.

use std::ops::Range;

use crate::error::Result;

use super::cached_page::PageGuard;
use super::cursor::ReadAhead;
use super::page::{PAGE_HEADER_SIZE_BYTES, PageKind, PagePlace, PageScratch};
use super::reader::RowSet;
use super::rows_page::{RowsLayout, RowsView};

/// Pages of rows of a RowSet, one after the other.
pub struct PageScan {
    row_set: RowSet,
    pages: Range<u32>,
    /// Where the last of them ends, once it is known.
    end_offset: Option<u64>,
    ahead: ReadAhead,
    scratch: PageScratch,
    at: Option<PageAt>,
}

/// The page that a scan is at.
#[derive(Debug)]
struct PageAt {
    number: u32,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Cached(PageGuard),
    /// As it was read: in the buffer, from there, so many bytes.
    Stored(u64, usize, RowsLayout),
    /// So many bytes of what was decompressed.
    Decompressed(usize, RowsLayout),
}

impl PageScan {
    /// A scan before the first of some pages, which reads about so many bytes at once.
    pub fn new(row_set: RowSet, pages: Range<u32>, read_size_bytes: usize) -> Self {
        PageScan {
            row_set,
            pages,
            end_offset: None,
            ahead: ReadAhead::new(read_size_bytes),
            scratch: PageScratch::default(),
            at: None,
        }
    }

    /// The RowSet.
    pub fn row_set(&self) -> &RowSet {
        &self.row_set
    }

    /// Goes to the next page, if there is one.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) as the system answers, [`Error::Corrupt`](crate::Error::Corrupt) for a damaged
    /// page. The scan is then at no page.
    pub fn advance(&mut self) -> Result<bool> {
        self.at = None;
        match self.pages.next() {
            Some(number) => self.enter(number).map(|()| true),
            None => Ok(false),
        }
    }

    /// Goes to a page, and on from there; it stays where it is if that is the page.
    ///
    /// # Errors
    /// As [`advance`](Self::advance).
    pub(crate) fn seek_page(&mut self, number: u32) -> Result<()> {
        if self.at.as_ref().is_some_and(|at| at.number == number) {
            return Ok(());
        }
        self.at = None;
        self.pages.start = number.saturating_add(1);
        self.enter(number)
    }

    fn enter(&mut self, number: u32) -> Result<()> {
        let content = match self.row_set.cached_rows_page(number) {
            Some(page) => Content::Cached(page.into_pinned()),
            None => self.read(number)?,
        };
        self.at = Some(PageAt { number, content });
        Ok(())
    }

    fn read(&mut self, number: u32) -> Result<Content> {
        let end_offset = match self.end_offset {
            Some(end_offset) => end_offset,
            None => {
                let last = self.pages.end.saturating_sub(1);
                let (offset, size_bytes) = self.row_set.rows_page_span(last)?;
                *self.end_offset.insert(offset + size_bytes)
            }
        };
        let (offset, size_bytes) = self.ahead.fill(&self.row_set, number, end_offset)?;
        let stored = self.ahead.part(offset, size_bytes).unwrap_or_default();
        let place = PagePlace {
            offset,
            kind: PageKind::Rows,
            number,
        };
        let file = self.row_set.file();
        let (layout, content_size_bytes) =
            file.decode(place, stored, &mut self.scratch, |content| {
                Ok((RowsLayout::decode(content)?, content.len()))
            })?;
        Ok(if self.scratch.holds_last() {
            Content::Decompressed(content_size_bytes, layout)
        } else {
            let start = offset + PAGE_HEADER_SIZE_BYTES as u64;
            Content::Stored(start, content_size_bytes, layout)
        })
    }

    /// The rows of the page it is at.
    #[inline]
    pub fn rows(&self) -> Option<RowsView<'_>> {
        Some(match &self.at.as_ref()?.content {
            Content::Cached(page) => page.rows(),
            Content::Stored(start, len, layout) => {
                RowsView::new(self.ahead.part(*start, *len)?, *layout)
            }
            Content::Decompressed(len, layout) => {
                RowsView::new(self.scratch.content(*len), *layout)
            }
        })
    }

    /// The ordinal of the first row of the page it is at.
    pub fn first_ordinal(&self) -> u32 {
        let number = self.at.as_ref().map_or(0, |at| at.number);
        number << self.row_set.meta().rows_per_page_log2
    }
}

impl std::fmt::Debug for PageScan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PageScan")
            .field("row_set", &self.row_set)
            .field("pages", &self.pages)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}
