//! Finding one row of a RowSet by its key.

use std::hint::black_box;

use super::cached_page::PageGuard;
use super::index::{LINES_PER_PAGE, Line, Probe};
use super::page::PageKind;
use super::reader::{Inner, RowSet};
use super::rows_page::RowRef;
use crate::error::Result;

/// A row that [`RowSet::get`](super::reader::RowSet::get) found. It holds the page that the row lies in, or, where that was
/// read and not kept, one with this row only.
#[derive(Debug)]
pub struct FoundRow {
    page: PageGuard,
    /// In that page.
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
}

/// RowSets of a fragment that are asked at once. With the two guards that a lookup holds for what it reads, a thread holds
/// these without counting references.
const ASKED_AT_ONCE: usize = 4;

/// The row of a key in the first of some RowSets that has it, and which of them that is.
///
/// A lookup mostly waits for the line of an index, and letting go of its page holds up the loads that follow. So the lines
/// of several RowSets are on their way at once, before any page is let go.
///
/// # Errors
/// As [`RowSet::get`].
#[inline]
pub(crate) fn get_from_first<'r>(
    row_sets: impl Iterator<Item = &'r RowSet>,
    hash: u64,
    key: &[u8],
) -> Result<Option<(usize, FoundRow)>> {
    let mut row_sets = row_sets.peekable();
    let mut passed = 0;
    while let Some(first) = row_sets.next() {
        if passed == 0 && row_sets.peek().is_none() {
            return Ok(first.get(hash, key)?.map(|found| (0, found)));
        }
        let mut group = [Some(first), None, None, None];
        for place in group.iter_mut().skip(1) {
            *place = row_sets.next();
        }
        let hints = hints_of(&group, hash);
        for (asked, (row_set, hint)) in group.into_iter().flatten().zip(hints).enumerate() {
            let inner = row_set.inner();
            let hint = hint.map_or_else(|| inner.hint_of(hash), Ok)?;
            if let Some(found) = inner.get_by(hint, hash, key)? {
                row_set.cache().count_lookups(asked as u64 + 1, 1);
                return Ok(Some((passed + asked, found)));
            }
        }
        let asked = group.iter().flatten().count();
        first.cache().count_lookups(asked as u64, 0);
        passed += asked;
    }
    Ok(None)
}

/// What the index says of a hash.
#[derive(Clone, Copy, Default)]
struct Hint {
    /// The first ordinal that the hash may have.
    ordinal: Option<u32>,
    /// Whether there may be more.
    undecided: bool,
}

/// What the index of each of some RowSets says of a hash, where that is in memory: what is not may never be needed.
#[inline]
fn hints_of(group: &[Option<&RowSet>; ASKED_AT_ONCE], hash: u64) -> [Option<Hint>; ASKED_AT_ONCE] {
    let mut hints = [None; ASKED_AT_ONCE];
    let mut pages: [Option<(PageGuard, Probe)>; ASKED_AT_ONCE] = Default::default();
    for (page, row_set) in pages.iter_mut().zip(group) {
        *page = row_set.and_then(|row_set| row_set.inner().cached_index_page(hash));
    }
    let lines = pages
        .iter()
        .flatten()
        .map(|(page, probe)| line(page, *probe));
    black_box(lines.fold(0, |sum, line| sum ^ line.map_or(0, |line| line[0])));
    for (hint, page) in hints.iter_mut().zip(&pages) {
        *hint = page.as_ref().map(|(page, probe)| {
            page.mark_used();
            Hint::of(page, *probe)
        });
    }
    hints
}

#[inline]
fn line(page: &PageGuard, probe: Probe) -> Option<&Line> {
    page.line(probe.line as usize % LINES_PER_PAGE)
}

impl Hint {
    #[inline]
    fn of(page: &PageGuard, probe: Probe) -> Self {
        let Some(line) = line(page, probe) else {
            return Hint {
                ordinal: None,
                undecided: true,
            };
        };
        let mut matches = probe.matches(line);
        let ordinal = matches.next_ordinal(line);
        Hint {
            ordinal,
            undecided: !matches.is_empty() || matches.go_on,
        }
    }
}

impl Inner {
    #[inline]
    pub(super) fn get(&self, hash: u64, key: &[u8]) -> Result<Option<FoundRow>> {
        let hint = self.hint_of(hash)?;
        let found = self.get_by(hint, hash, key)?;
        let cache = self.slots.cache();
        cache.count_lookups(1, found.is_some().into());
        Ok(found)
    }

    #[inline]
    fn hint_of(&self, hash: u64) -> Result<Hint> {
        let probe = Probe::new(hash, self.meta.index_shape.home_line_count);
        let page = self.page(PageKind::Index, probe.line / LINES_PER_PAGE as u32)?;
        Ok(Hint::of(&page, probe))
    }

    /// The page of the index that holds the line of a hash, not yet marked as used and not looked at; if it is in memory.
    #[inline]
    fn cached_index_page(&self, hash: u64) -> Option<(PageGuard, Probe)> {
        let probe = Probe::new(hash, self.meta.index_shape.home_line_count);
        let slot = self.slot_of(PageKind::Index, probe.line / LINES_PER_PAGE as u32)?;
        Some((self.slots.peek(slot)?, probe))
    }

    /// Takes the first candidate by itself. A lookup waits for memory, so what it waits for is asked for as early as can
    /// be: a page of the index is let go before the row is asked for, as the locked instruction that lets it go would
    /// hold up the loads behind it, and the row's value is on its way while its key is compared.
    #[inline]
    fn get_by(&self, hint: Hint, hash: u64, key: &[u8]) -> Result<Option<FoundRow>> {
        let Some(ordinal) = hint.ordinal else {
            return if hint.undecided {
                self.get_among_all(hash, key)
            } else {
                Ok(None)
            };
        };
        let (number, slot) = self.page_and_slot(ordinal);
        let place = self.slot_of(PageKind::Rows, number);
        let Some(page) = place.and_then(|place| self.slots.peek(place)) else {
            return self.get_from_file(ordinal, hash, key);
        };
        let rows = self.slots.rows_of(&page);
        black_box(rows.touch(slot as usize));
        if rows.key(slot as usize) == key && (slot as usize) < rows.row_count() {
            page.mark_used();
            return Ok(Some(FoundRow {
                page,
                slot,
                ordinal,
            }));
        }
        self.get_among_all(hash, key)
    }

    /// Takes the first candidate, whose page is not in memory: a copy of the row, if the page is not to be kept.
    #[cold]
    fn get_from_file(&self, ordinal: u32, hash: u64, key: &[u8]) -> Result<Option<FoundRow>> {
        let (number, slot) = self.page_and_slot(ordinal);
        let page = self.read_past_cache(number, |rows| {
            let row = rows.get(slot as usize);
            row.filter(|row| row.key == key).map(PageGuard::of_row)
        })?;
        match page.flatten() {
            Some(page) => Ok(Some(FoundRow {
                page,
                slot: 0,
                ordinal,
            })),
            None => self.get_among_all(hash, key),
        }
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
        Ok(found)
    }
}
