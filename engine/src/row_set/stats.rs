//! Figures of the page cache.

use super::page::PageKind;

/// How the page cache fares.
///
/// ```
/// use moonshine_engine::{Database, Options};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// let pages = database.statistics().reads.pages;
/// println!("{} of {} pages were in memory", pages.hits(), pages.hits() + pages.misses());
/// # assert_eq!(pages.misses(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
///
/// ```
/// use moonshine_engine::{Database, Options};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// for pages in database.statistics().reads.pages.by_kind {
///     println!("{}: {} bytes in memory, {} evicted", pages.kind.name(), pages.size_bytes, pages.evicted);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
