//! Figures of the page cache.

use super::page::PageKind;

/// How the page cache fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageCacheStats {
    /// RowSets that a key was looked for in: each took a page of the index. Where more than 32 threads read, a few may be
    /// missing here and in the next one.
    pub row_sets_asked: u64,
    /// Rows that were found there: each took a page of rows.
    pub rows_found: u64,
    /// How pages of each kind fared.
    pub by_kind: [PageKindStats; PageKind::ALL.len()],
    /// Bytes of memory of the RowSets' slots.
    pub slot_bytes: u64,
}

/// How pages of a kind fare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageKindStats {
    /// The kind.
    pub kind: PageKind,
    /// Pages that were read because they were not in memory.
    pub misses: u64,
    /// Pages that had to go for others.
    pub evicted: u64,
    /// Bytes of memory of pages in the cache or still in use.
    pub size_bytes: u64,
}

impl PageCacheStats {
    /// Pages that point reads found in memory.
    pub fn hits(&self) -> u64 {
        (self.row_sets_asked + self.rows_found).saturating_sub(self.misses())
    }

    /// Pages that were read because they were not in memory.
    pub fn misses(&self) -> u64 {
        self.by_kind.iter().map(|one| one.misses).sum()
    }

    /// Pages that had to go for others.
    pub fn evicted(&self) -> u64 {
        self.by_kind.iter().map(|one| one.evicted).sum()
    }
}
