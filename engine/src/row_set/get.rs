//! Finding one row of a RowSet by its key.

use std::hint::black_box;

use super::index::{LINES_PER_PAGE, Probe};
use super::page::PageKind;
use super::page_cache::PageGuard;
use super::reader::Inner;
use super::rows_page::RowRef;
use crate::error::Result;

/// A row that [`RowSet::get`](super::reader::RowSet::get) found. It holds the page that the row lies in.
#[derive(Debug)]
pub struct FoundRow {
    page: PageGuard,
    slot: u32,
    ordinal: u32,
}

impl FoundRow {
    /// The row.
    #[inline]
    pub fn row(&self) -> RowRef<'_> {
        let rows = self.page.rows();
        RowRef {
            key: rows.key(self.slot as usize),
            value: rows.value(self.slot as usize),
        }
    }

    /// The encoded value; `None` for a tombstone.
    #[inline]
    pub fn value(&self) -> Option<&[u8]> {
        self.page.rows().value(self.slot as usize)
    }

    /// The row's ordinal in its RowSet.
    pub fn ordinal(&self) -> u32 {
        self.ordinal
    }

    /// The same, for keeping: a thread reads fastest while it holds few rows that are not pinned.
    pub fn pin(self) -> FoundRow {
        FoundRow {
            page: self.page.into_pinned(),
            ..self
        }
    }
}

impl Inner {
    /// Takes the first candidate by itself. A lookup waits for memory, so what it waits for is asked for as early as can
    /// be: a page of the index is let go before the row is asked for, as the locked instruction that lets it go would
    /// hold up the loads behind it, and the row's value is on its way while its key is compared.
    #[inline]
    pub(super) fn get(&self, hash: u64, key: &[u8]) -> Result<Option<FoundRow>> {
        let (ordinal, undecided) = self.first_candidate(hash)?;
        let Some(ordinal) = ordinal else {
            self.slots.cache().count_lookups(1, 0);
            return if undecided {
                self.get_among_all(hash, key)
            } else {
                Ok(None)
            };
        };
        let (number, slot) = self.page_and_slot(ordinal);
        let page = self.peek(PageKind::Rows, number)?;
        let rows = self.slots.rows_of(&page);
        black_box(rows.touch(slot as usize));
        if rows.key(slot as usize) == key && (slot as usize) < rows.row_count() {
            page.mark_used();
            self.slots.cache().count_lookups(1, 1);
            return Ok(Some(FoundRow {
                page,
                slot,
                ordinal,
            }));
        }
        self.get_among_all(hash, key)
    }

    /// The first ordinal that a hash may have, and whether there may be more.
    #[inline]
    fn first_candidate(&self, hash: u64) -> Result<(Option<u32>, bool)> {
        let probe = Probe::new(hash, self.meta.index_shape.home_line_count);
        let page = self.page(PageKind::Index, probe.line / LINES_PER_PAGE as u32)?;
        let Some(line) = page.line(probe.line as usize % LINES_PER_PAGE) else {
            return Ok((None, true));
        };
        let mut matches = probe.matches(line);
        let ordinal = matches.next_ordinal(line);
        Ok((ordinal, !matches.is_empty() || matches.go_on))
    }

    #[cold]
    fn get_among_all(&self, hash: u64, key: &[u8]) -> Result<Option<FoundRow>> {
        let mut found = None;
        self.candidates(hash, |ordinal| {
            let (page, slot) = self.rows_page_of(ordinal)?;
            if self.slots.rows_of(&page).key(slot as usize) == key {
                found = Some(FoundRow {
                    page,
                    slot,
                    ordinal,
                });
            }
            Ok(found.is_some())
        })?;
        self.slots.cache().count_lookups(1, found.is_some().into());
        Ok(found)
    }
}
