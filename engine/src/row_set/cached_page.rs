//! A page in memory, and how it is held.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use arc_swap::{ArcSwapAny, Guard};
use zerocopy::IntoBytes;

use super::clock::Clock;
use super::index::{LINE_SIZE_BYTES, Line};
use super::page::PageKind;
use super::page_cache::PageCache;
use super::rows_page::{RowRef, RowsLayout, RowsView};
use crate::raw::{CacheLine, Counted, Extent, Header};

/// What is known of a page in memory besides its content. With the count of references it fits into one line.
#[derive(Debug)]
pub(crate) struct PageHeader {
    /// Whose budget it counts in; none for one row.
    pub(super) cache: Option<Arc<PageCache>>,
    pub(super) content_size_bytes: u32,
    pub(super) rows: RowsLayout,
    /// Whether `rows` is the usual layout of the RowSet.
    pub(super) usual: bool,
    pub(super) kind: PageKind,
    /// How often the clock still passes the page over.
    pub(super) lives: AtomicU8,
}

impl PageHeader {
    /// The same, for a copy of the page.
    pub(super) fn copy(&self) -> PageHeader {
        PageHeader {
            cache: self.cache.clone(),
            lives: AtomicU8::new(self.lives.load(Ordering::Relaxed)),
            ..*self
        }
    }
}

impl Header for PageHeader {
    fn let_go(self, extent: Option<Extent>) {
        if let Some(cache) = &self.cache {
            cache.give_back(self.kind, self.content_size_bytes as usize, extent);
        }
    }
}

/// A page in memory: header and content in one piece.
pub(crate) type Page = Counted<PageHeader>;

/// The place of a page that may be in memory.
pub(crate) type Slot = ArcSwapAny<Option<Page>>;

/// Bytes of memory that a page with that content takes: its lines, and its entry in a clock.
pub(super) fn page_memory_bytes(content_size_bytes: usize) -> u64 {
    (Page::line_count_for(content_size_bytes) * LINE_SIZE_BYTES + Clock::ENTRY_SIZE_BYTES) as u64
}

/// The content of a page.
#[inline]
pub(super) fn content_of(page: &Page) -> &[u8] {
    let bytes = page.lines().as_bytes();
    let size_bytes = page.header().content_size_bytes as usize;
    bytes.get(..size_bytes).unwrap_or(bytes)
}

/// How often the clock passes a page over that was used since.
pub(super) fn lives_max(kind: PageKind) -> u8 {
    match kind {
        PageKind::Rows | PageKind::Locations | PageKind::Patch => 1,
        PageKind::Index | PageKind::Directory | PageKind::Footer => LIVES_MAX,
    }
}

/// The most lives that a page has. A page of the index stands for the rows of 14 pages or more, and is used as often as
/// all of them. Measured with `benches/keyspace_read.rs` on 3 M rows, where the index takes 78 % of the memory for pages: with 8
/// lives a get reads 0.15 pages of the index, with 32 it reads 0.01.
pub(crate) const LIVES_MAX: u8 = 32;

/// A page that stays while this lives, whether the cache lets it go or not.
#[derive(Debug)]
pub(crate) struct PageGuard(pub(super) Guard<Option<Page>>);

impl PageGuard {
    /// A page that holds a copy of one row.
    pub(crate) fn of_row(row: RowRef<'_>) -> PageGuard {
        let is_tombstone = u8::from(row.value.is_none());
        let content = [&[is_tombstone], row.key, row.value.unwrap_or_default()].concat();
        let header = PageHeader {
            cache: None,
            content_size_bytes: crate::codec::len_u32(content.len()),
            rows: RowsLayout::of_row(row),
            usual: false,
            kind: PageKind::Rows,
            lives: AtomicU8::new(0),
        };
        PageGuard(Guard::from_inner(Some(Page::new(header, &content, None))))
    }

    /// Gives the page its lives back.
    #[inline]
    pub(crate) fn mark_used(&self) {
        if let Some(page) = self.0.as_ref() {
            let header = page.header();
            let lives = lives_max(header.kind);
            // Written only when it changes, so that a page that all threads use stays in all their caches.
            if header.lives.load(Ordering::Relaxed) != lives {
                header.lives.store(lives, Ordering::Relaxed);
            }
        }
    }

    /// The page's content.
    #[inline]
    pub(crate) fn content(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], content_of)
    }

    /// The rows of a page of rows.
    #[inline]
    pub(crate) fn rows(&self) -> RowsView<'_> {
        let layout = self
            .0
            .as_ref()
            .map_or_else(RowsLayout::default, |page| page.header().rows);
        RowsView::new(self.content(), layout)
    }

    /// Apart, so that no compiler makes a choice between two layouts of the prediction.
    #[cold]
    #[inline(never)]
    pub(super) fn unusual_rows(&self) -> RowsView<'_> {
        self.rows()
    }

    /// Uses the count that holding the page will change, to have it loaded.
    #[inline]
    pub(crate) fn touch_count(&self) -> u8 {
        self.0
            .as_ref()
            .map_or(0, |page| page.reference_count() as u8)
    }

    /// A line of a page of the index.
    #[inline]
    pub(crate) fn line(&self, line: usize) -> Option<&Line> {
        self.0
            .as_ref()?
            .lines()
            .get(line)
            .map(|CacheLine(line)| line)
    }

    /// The same, held by a count instead of by this thread: for what lives long.
    pub(crate) fn into_pinned(self) -> PageGuard {
        PageGuard(Guard::from_inner(Guard::into_inner(self.0)))
    }
}
