//! Going through a RowSet in key order, from any key, both ways.

use std::hint::black_box;

use crate::error::Result;

use super::budget::Charge;
use super::cached_page::PageGuard;
use super::page::PageScratch;
use super::page_cache::PageCache;
use super::reader::RowSet;
use super::rows_page::{RowRef, RowsView};

/// RowSets whose pages are waited for at once: as many as a thread can hold guards of without counting references.
const SEEK_GROUP_SIZE: usize = 8;

/// A cursor that goes on through so many pages that were not in memory, while memory is full, is on a long way: it reads
/// ahead from there on, and leaves the cache to others.
const MISSED_PAGES_MAX: u32 = 4;
const READ_AHEAD_SIZE_BYTES: usize = 64 << 10;

/// Values that are loaded ahead where a range begins: with others it goes on in, mostly a few rows.
const FIRST_VALUES_SIZE_BYTES: usize = 1 << 10;
/// The same where it goes on from page to page.
const NEXT_VALUES_SIZE_BYTES: usize = 4 << 10;

/// How a cursor comes by pages.
#[derive(Debug)]
pub(crate) enum Fetch {
    /// From the cache, and into it.
    Cached,
    /// From the cache where they are there; else by reads of many pages, past the cache.
    Streaming(ReadAhead),
}

impl Fetch {
    pub(crate) fn streaming(read_size_bytes: usize) -> Self {
        Fetch::Streaming(ReadAhead::new(read_size_bytes))
    }
}

/// Stored pages that were read ahead.
#[derive(Default)]
pub(crate) struct ReadAhead {
    read_size_bytes: usize,
    /// For the buffer.
    charge: Option<Charge>,
    buffer: Vec<u8>,
    buffer_offset: u64,
    /// Where a page is decompressed.
    scratch: PageScratch,
}

/// A position in a RowSet: at a row, before the first or behind the last.
///
/// It holds one page, and one only, in memory.
#[derive(Debug)]
pub struct Cursor {
    row_set: RowSet,
    fetch: Fetch,
    page: Option<PageGuard>,
    page_number: u32,
    slot: usize,
    row_count: usize,
    /// Pages in a row that were not in memory.
    missed_pages: u32,
}

impl Cursor {
    /// A cursor before the first row; nothing is read yet.
    pub(crate) fn new(row_set: RowSet, fetch: Fetch) -> Self {
        Cursor {
            row_set,
            fetch,
            page: None,
            page_number: 0,
            slot: 0,
            row_count: 0,
            missed_pages: 0,
        }
    }

    /// The RowSet it goes through.
    pub fn row_set(&self) -> &RowSet {
        &self.row_set
    }

    /// The row it is at.
    #[inline]
    pub fn row(&self) -> Option<RowRef<'_>> {
        self.page.as_ref()?.rows().get(self.slot)
    }

    /// The key of the row it is at, in fewer instructions than the row.
    #[inline]
    pub(crate) fn key(&self) -> Option<&[u8]> {
        let page = self.page.as_ref()?;
        (self.slot < self.row_count).then(|| page.rows().key(self.slot))
    }

    /// Whether the row it is at is a tombstone.
    #[inline]
    pub(crate) fn is_tombstone(&self) -> bool {
        let page = self.page.as_ref();
        page.is_some_and(|page| page.rows().is_tombstone(self.slot))
    }

    /// All rows of the page it is in, and the slot of the row it is at: for taking many at once.
    pub fn page(&self) -> Option<(RowsView<'_>, usize)> {
        Some((self.page.as_ref()?.rows(), self.slot))
    }

    /// The ordinal of the row it is at.
    pub fn ordinal(&self) -> Option<u32> {
        let bits = self.row_set.meta().rows_per_page_log2;
        (self.page.is_some() && self.slot < self.row_count)
            .then_some(self.page_number << bits | self.slot as u32)
    }

    /// Goes to the first row.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) as the system answers, [`Error::Corrupt`](crate::Error::Corrupt) for a damaged
    /// page. The cursor is then at no row.
    pub fn seek_first(&mut self) -> Result<()> {
        self.enter(0)?;
        self.slot = 0;
        Ok(())
    }

    /// Goes to the last row.
    ///
    /// # Errors
    /// As [`seek_first`](Self::seek_first).
    pub fn seek_last(&mut self) -> Result<()> {
        self.enter(self.row_set.meta().rows_page_count.saturating_sub(1))?;
        self.slot = self.row_count.saturating_sub(1);
        Ok(())
    }

    /// Goes to the first row whose key is not below the given one, or behind the last row.
    ///
    /// # Errors
    /// As [`seek_first`](Self::seek_first).
    pub fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.page = None;
        let number = self.row_set.find_rows_page(key)?;
        self.enter(number)?;
        self.find_slot(key)
    }

    /// Goes to the first row of the page it is in, or of the next page, whose key is not below the given one.
    fn find_slot(&mut self, key: &[u8]) -> Result<()> {
        self.slot = self
            .page
            .as_ref()
            .map_or(0, |page| page.rows().lower_bound(key));
        if self.slot == self.row_count {
            self.next_page()?;
        }
        Ok(())
    }

    /// Goes in several RowSets to the first row whose key is not below the given one, or behind the last row; faster than
    /// one after the other, as the waits for their pages overlap.
    ///
    /// # Errors
    /// As [`seek_first`](Self::seek_first).
    pub(crate) fn seek_together(cursors: &mut [&mut Cursor], key: &[u8]) -> Result<()> {
        for group in cursors.chunks_mut(SEEK_GROUP_SIZE) {
            let mut pages: [Option<(u32, PageGuard)>; SEEK_GROUP_SIZE] = Default::default();
            for (page, cursor) in pages.iter_mut().zip(&*group) {
                let number = cursor.row_set.find_rows_page(key)?;
                *page = Some((number, cursor.row_set.rows_page_unmarked(number)?));
            }
            let touched = pages
                .iter()
                .flatten()
                .zip(&*group)
                .map(|((_, page), cursor)| {
                    page.touch_count() ^ cursor.row_set.parts().rows_of(page).touch_keys()
                });
            black_box(touched.fold(0, |sum, byte| sum ^ byte));
            for (page, cursor) in pages.into_iter().zip(&mut *group) {
                if let Some((number, page)) = page {
                    page.mark_used();
                    cursor.take_page(number, page.into_pinned());
                    cursor.find_slot(key)?;
                }
            }
            let touched = group
                .iter()
                .map(|cursor| cursor.touch_values(FIRST_VALUES_SIZE_BYTES));
            black_box(touched.fold(0, |sum, byte| sum ^ byte));
        }
        Ok(())
    }

    /// Goes to the last row whose key is below the given one, or before the first row.
    ///
    /// # Errors
    /// As [`seek_first`](Self::seek_first).
    pub fn seek_below(&mut self, key: &[u8]) -> Result<()> {
        self.seek(key)?;
        if self.page.is_some() {
            self.retreat()
        } else {
            self.seek_last()
        }
    }

    /// Goes to the row of an ordinal; whether there is one.
    pub(crate) fn seek_ordinal(&mut self, ordinal: u32) -> Result<bool> {
        let meta = self.row_set.meta();
        let (bits, page_count) = (meta.rows_per_page_log2, meta.rows_page_count);
        let number = ordinal >> bits;
        if number >= page_count {
            self.leave();
        } else if self.page.is_none() || self.page_number != number {
            self.enter(number)?;
        }
        self.slot = (ordinal & ((1 << bits) - 1)) as usize;
        Ok(self.slot < self.row_count)
    }

    /// Goes one row on; from no row it stays there.
    ///
    /// # Errors
    /// As [`seek_first`](Self::seek_first).
    #[inline]
    pub fn advance(&mut self) -> Result<()> {
        self.slot += 1;
        if self.slot < self.row_count {
            return Ok(());
        }
        self.next_page()
    }

    /// Goes one row back; from no row it stays there.
    ///
    /// # Errors
    /// As [`seek_first`](Self::seek_first).
    #[inline]
    pub fn retreat(&mut self) -> Result<()> {
        if let Some(slot) = self.slot.checked_sub(1)
            && self.page.is_some()
        {
            self.slot = slot;
            return Ok(());
        }
        match self.page_number.checked_sub(1) {
            Some(number) if self.page.is_some() => {
                self.enter(number)?;
                self.slot = self.row_count.saturating_sub(1);
            }
            _ => self.leave(),
        }
        Ok(())
    }

    /// Goes to the first row of the next page; from no row it stays there.
    ///
    /// # Errors
    /// As [`seek_first`](Self::seek_first).
    pub fn next_page(&mut self) -> Result<()> {
        let number = self.page_number.saturating_add(1);
        if self.page.is_none() || number >= self.row_set.meta().rows_page_count {
            self.leave();
            return Ok(());
        }
        if self.missed_pages >= MISSED_PAGES_MAX
            && matches!(self.fetch, Fetch::Cached)
            && self.row_set.cache_is_full()
        {
            self.fetch = Fetch::streaming(READ_AHEAD_SIZE_BYTES);
        }
        self.enter(number)?;
        self.slot = 0;
        black_box(self.touch_keys() ^ self.touch_values(NEXT_VALUES_SIZE_BYTES));
        Ok(())
    }

    #[inline]
    fn touch_keys(&self) -> u8 {
        self.page
            .as_ref()
            .map_or(0, |page| page.rows().touch_keys())
    }

    /// Has values loaded from the row on that it is at.
    #[inline]
    fn touch_values(&self, size_bytes: usize) -> u8 {
        let page = self.page.as_ref();
        page.map_or(0, |page| page.rows().touch_values(self.slot, size_bytes))
    }

    fn leave(&mut self) {
        self.page = None;
        self.slot = 0;
        self.row_count = 0;
    }

    fn enter(&mut self, number: u32) -> Result<()> {
        self.leave();
        let page = match &mut self.fetch {
            Fetch::Cached => {
                let cached = self.row_set.cached_rows_page(number);
                self.missed_pages = cached.as_ref().map_or(self.missed_pages + 1, |_| 0);
                let page = match cached {
                    Some(page) => page,
                    None => self.row_set.rows_page(number)?,
                };
                page.mark_used();
                page.into_pinned()
            }
            Fetch::Streaming(ahead) => match self.row_set.cached_rows_page(number) {
                Some(page) => page.into_pinned(),
                None => ahead.read(&self.row_set, number)?,
            },
        };
        self.take_page(number, page);
        Ok(())
    }

    fn take_page(&mut self, number: u32, page: PageGuard) {
        self.row_count = page.rows().row_count();
        self.page_number = number;
        self.page = Some(page);
    }
}

impl std::fmt::Debug for ReadAhead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadAhead")
            .field("read_size_bytes", &self.read_size_bytes)
            .field("buffer_offset", &self.buffer_offset)
            .finish_non_exhaustive()
    }
}

impl ReadAhead {
    /// Nothing yet, to be read by so many bytes.
    pub(crate) fn new(read_size_bytes: usize) -> Self {
        ReadAhead {
            read_size_bytes,
            ..ReadAhead::default()
        }
    }

    /// Takes memory for the buffer, if there is room for it.
    fn reserve(&mut self, cache: &PageCache, size_bytes: usize) -> bool {
        let held = self.charge.as_ref().map_or(0, Charge::size_bytes);
        if held < size_bytes as u64 {
            self.charge = None;
            cache.make_room(size_bytes as u64);
            self.charge = cache.budget().try_charge(size_bytes as u64);
            if self.charge.is_none() {
                self.buffer = Vec::new();
            }
        }
        self.charge.is_some()
    }

    /// Has a page in the buffer, with pages behind it of which none ends beyond `end_offset`; where it lies in the file, and
    /// its stored length.
    pub(crate) fn fill(
        &mut self,
        row_set: &RowSet,
        number: u32,
        end_offset: u64,
    ) -> Result<(u64, usize)> {
        let (offset, size_bytes) = row_set.rows_page_span(number)?;
        let size_bytes = row_set.file().check_size(offset, size_bytes)?;
        if self.part(offset, size_bytes).is_none() {
            let left = usize::try_from(end_offset.saturating_sub(offset)).unwrap_or(usize::MAX);
            let read_size_bytes = left.min(self.read_size_bytes).max(size_bytes);
            // Without memory for more, page by page.
            let read_size_bytes = if self.reserve(row_set.cache(), read_size_bytes) {
                read_size_bytes
            } else {
                size_bytes
            };
            self.buffer.resize(read_size_bytes, 0);
            self.buffer_offset = offset;
            if let Err(error) = row_set.file().read(&mut self.buffer, offset) {
                self.buffer.clear();
                return Err(error);
            }
        }
        Ok((offset, size_bytes))
    }

    fn read(&mut self, row_set: &RowSet, number: u32) -> Result<PageGuard> {
        let end_offset = row_set.meta().locations_offset;
        let (offset, size_bytes) = self.fill(row_set, number, end_offset)?;
        let mut scratch = std::mem::take(&mut self.scratch);
        let stored = self.part(offset, size_bytes).unwrap_or_default();
        let page = row_set.take_rows_page(number, offset, stored, &mut scratch);
        self.scratch = scratch;
        page
    }

    /// Bytes of the file, if they were read ahead.
    pub(crate) fn part(&self, offset: u64, size_bytes: usize) -> Option<&[u8]> {
        let start = usize::try_from(offset.checked_sub(self.buffer_offset)?).ok()?;
        self.buffer.get(start..start.checked_add(size_bytes)?)
    }
}
