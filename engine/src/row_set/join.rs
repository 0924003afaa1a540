//! Finding out which rows of older RowSets the rows of a newer one replace.
//!
//! The newer RowSet is read from front to back. For each of its keys the older ones are asked, newest first: the hash
//! index's fingerprints rule nearly all of them out that don't hold it, the directory rules out the others but for those
//! of the same page, and what is left is compared. Both sides are sorted by key, so the pages of an older RowSet are read
//! forward too, each once.

use crate::error::Result;

use super::page_scan::PageScan;
use super::patch::TargetOrdinals;
use super::reader::RowSet;
use super::rows_page::RowsView;

/// What the newer RowSet is read in at once.
const NEWER_READ_SIZE_BYTES: usize = 256 << 10;
/// What is read at once of an older one, of whose pages not all may be wanted.
const OLDER_READ_SIZE_BYTES: usize = 32 << 10;
/// So many pages tell well enough how many rows are replaced: with 30 rows each, to about 3 of 100.
const SAMPLE_PAGES: u32 = 8;
const SAMPLE_READ_SIZE_BYTES: usize = 4 << 10;

/// The rows of older RowSets, given newest first, that those of a newer one replace: of each key the newest row that is
/// older. `None` if `stops` said so.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) as the system answers, [`Error::Corrupt`](crate::Error::Corrupt) for a damaged page.
pub fn find_replaced(
    newer: &RowSet,
    older: &[&RowSet],
    hash_of: impl Fn(&[u8]) -> u64,
    stops: impl Fn() -> bool,
) -> Result<Option<Vec<TargetOrdinals>>> {
    let mut sides: Vec<OlderSide> = older.iter().map(|older| OlderSide::new(older)).collect();
    let pages = 0..newer.meta().rows_page_count;
    let mut newer = PageScan::new(newer.clone(), pages, NEWER_READ_SIZE_BYTES);
    while newer.advance()? {
        if stops() {
            return Ok(None);
        }
        let rows = newer.rows().map(RowsView::iter);
        for row in rows.into_iter().flatten() {
            let hash = hash_of(row.key);
            for side in &mut sides {
                if side.take(hash, row.key)? {
                    break;
                }
            }
        }
    }
    Ok(Some(sides.into_iter().map(|side| side.ordinals).collect()))
}

/// About which part of the rows of a newer RowSet the older ones hold: how many rows of a few pages, which lie evenly spread,
/// were looked at, and how many of them were found. Fingerprints alone are asked, so a few more are found than are there.
///
/// # Errors
/// As [`find_replaced`].
pub(crate) fn sample_replaced(
    newer: &RowSet,
    older: &[&RowSet],
    hash_of: impl Fn(&[u8]) -> u64,
) -> Result<(u64, u64)> {
    let page_count = newer.meta().rows_page_count;
    let mut pages = PageScan::new(newer.clone(), 0..0, SAMPLE_READ_SIZE_BYTES);
    let (mut seen, mut found) = (0, 0);
    for number in (0..page_count).step_by((page_count / SAMPLE_PAGES).max(1) as usize) {
        pages.seek_page(number)?;
        let rows = pages.rows().map(RowsView::iter);
        for row in rows.into_iter().flatten() {
            let hash = hash_of(row.key);
            seen += 1;
            for older in older {
                if older.may_contain(hash)? {
                    found += 1;
                    break;
                }
            }
        }
    }
    Ok((seen, found))
}

/// An older RowSet, as far as it was read.
struct OlderSide {
    row_set: RowSet,
    pages: PageScan,
    ordinals: TargetOrdinals,
    /// Working memory.
    candidates: Vec<u32>,
}

impl OlderSide {
    fn new(row_set: &RowSet) -> Self {
        OlderSide {
            row_set: row_set.clone(),
            pages: PageScan::new(
                row_set.clone(),
                0..row_set.meta().rows_page_count,
                OLDER_READ_SIZE_BYTES,
            ),
            ordinals: TargetOrdinals::new(row_set.meta().place()),
            candidates: Vec::new(),
        }
    }

    /// Takes the ordinal of a key down, if the key is here.
    fn take(&mut self, hash: u64, key: &[u8]) -> Result<bool> {
        let meta = self.row_set.meta();
        if *key < *meta.key_min || *key > *meta.key_max {
            return Ok(false);
        }
        let candidates = &mut self.candidates;
        candidates.clear();
        self.row_set
            .parts()
            .candidates(hash, |ordinal| candidates.push(ordinal))?;
        if candidates.is_empty() {
            return Ok(false);
        }
        let page_number = self.row_set.find_rows_page(key)?;
        let bits = meta.rows_per_page_log2;
        candidates.retain(|ordinal| ordinal >> bits == page_number);
        if candidates.is_empty() {
            return Ok(false);
        }
        self.pages.seek_page(page_number)?;
        let rows = self.pages.rows();
        for &ordinal in candidates.iter() {
            let slot = ordinal & ((1 << bits) - 1);
            let row = rows.and_then(|rows| rows.get(slot as usize));
            if let Some(row) = row.filter(|row| row.key == key) {
                self.ordinals.push(ordinal, row.value.is_some());
                return Ok(true);
            }
        }
        Ok(false)
    }
}
