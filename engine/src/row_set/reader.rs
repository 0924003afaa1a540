//! A RowSet that is open to read.

use std::sync::Arc;

use crate::codec::{Malformed, Reader};
use crate::error::{Error, Result};

use super::cached_page::PageGuard;
use super::cursor::{Cursor, Fetch};
use super::directory::{Fence, Node, PAGES_PER_LEAF};
use super::file::DeltaFile;
pub use super::get::FoundRow;
use super::index::{LINE_SIZE_BYTES, LINES_PER_PAGE, Probe};
use super::location::{LOCATIONS_PER_PAGE, Location};
use super::meta::RowSetMeta;
use super::page::{PAGE_HEADER_SIZE_BYTES, PageKind, PagePlace, PageScratch};
use super::page_cache::{PageCache, PageSlots};
use super::patch::PatchMeta;
use super::rows_page::{RowsLayout, RowsView};

/// A RowSet, read through the page cache. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub struct RowSet {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) meta: RowSetMeta,
    file: Arc<DeltaFile>,
    pub(super) slots: Arc<PageSlots>,
    /// The first slot and the number of slots of rows, index, directory, locations and footer.
    slot_ranges: [(u32, u32); PageKind::ALL.len()],
}

impl RowSet {
    /// A handle to a RowSet of that file. Reads nothing.
    ///
    /// # Errors
    /// [`Error::Usage`] where the RowSet lies in another file.
    pub fn open(meta: RowSetMeta, file: Arc<DeltaFile>, cache: &Arc<PageCache>) -> Result<Self> {
        if meta.file_number != file.file_number() {
            return Err(Error::Usage(format!(
                "{} is not delta file {}",
                file.path().display(),
                meta.file_number
            )));
        }
        let counts = [
            meta.rows_page_count,
            meta.index_page_count(),
            meta.directory_page_count,
            meta.locations_page_count,
            1,
        ];
        let slot_count: u64 = counts.iter().map(|count| u64::from(*count)).sum();
        if slot_count > meta.size_bytes / PAGE_HEADER_SIZE_BYTES as u64 {
            return Err(file.corrupt(meta.offset, "more pages than the RowSet has bytes for"));
        }
        let slot_count = u32::try_from(slot_count)
            .map_err(|_| file.corrupt(meta.offset, "more pages than can be"))?;
        let mut start = 0;
        let slot_ranges = counts.map(|count| {
            let range = (start, count);
            start += count;
            range
        });
        let slots = PageSlots::new(cache, slot_count as usize);
        Ok(RowSet {
            inner: Arc::new(Inner {
                meta,
                file,
                slots,
                slot_ranges,
            }),
        })
    }

    /// The same RowSet, with a patch.
    pub(crate) fn with_patch(&self, patch: Arc<PatchMeta>) -> Self {
        let inner = &self.inner;
        RowSet {
            inner: Arc::new(Inner {
                meta: RowSetMeta {
                    patch: Some(patch),
                    ..inner.meta.clone()
                },
                file: inner.file.clone(),
                slots: inner.slots.clone(),
                slot_ranges: inner.slot_ranges,
            }),
        }
    }

    /// Bytes that pages may take in memory.
    pub(crate) fn cache_limit_bytes(&self) -> u64 {
        self.inner.slots.cache().budget().limit_bytes()
    }

    /// What is known of it without reading.
    pub fn meta(&self) -> &RowSetMeta {
        &self.inner.meta
    }

    /// The row of a key; the hash is that of the key.
    ///
    /// # Errors
    /// [`Error::Io`] as the system answers, [`Error::Corrupt`] for a damaged page.
    #[inline]
    pub fn get(&self, hash: u64, key: &[u8]) -> Result<Option<FoundRow>> {
        self.inner.get(hash, key)
    }

    #[inline]
    pub(super) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// Whether a key of that hash may be here; reads at most pages of the index. Wrong about once in 8,000.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn may_contain(&self, hash: u64) -> Result<bool> {
        let mut found = false;
        self.inner.candidates(hash, |_| {
            found = true;
            Ok(true)
        })?;
        Ok(found)
    }

    /// Where an exported row lies; `None` if it was not exported.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn location(&self, ordinal: u32) -> Result<Option<Location>> {
        let page_number = ordinal / LOCATIONS_PER_PAGE;
        if page_number >= self.inner.meta.locations_page_count {
            return Ok(None);
        }
        let page = self.inner.page(PageKind::Locations, page_number)?;
        Ok(Location::at(
            page.content(),
            (ordinal % LOCATIONS_PER_PAGE) as usize,
        ))
    }

    /// A cursor whose pages come from and go into the cache: for short ranges.
    pub fn cursor(&self) -> Cursor {
        Cursor::new(self.clone(), Fetch::Cached)
    }

    /// A cursor that reads ahead by about that many bytes and leaves the cache as it is: for scans and compactions.
    pub fn stream(&self, read_size_bytes: usize) -> Cursor {
        Cursor::new(self.clone(), Fetch::streaming(read_size_bytes))
    }

    /// Whether the index names that ordinal for a hash.
    pub(crate) fn names(&self, hash: u64, ordinal: u32) -> Result<bool> {
        let mut named = false;
        self.inner.candidates(hash, |candidate| {
            named = candidate == ordinal;
            Ok(named)
        })?;
        Ok(named)
    }

    /// What `take` makes of the content of a page of the index.
    pub(crate) fn with_index_page<T>(
        &self,
        number: u32,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Result<T> {
        let page = self.inner.page(PageKind::Index, number)?;
        Ok(take(page.content()))
    }

    /// Reads the footer, which shows whether the RowSet is still there.
    pub(crate) fn check_there(&self) -> Result<()> {
        self.inner.page(PageKind::Footer, 0).map(drop)
    }

    #[inline]
    pub(crate) fn cache(&self) -> &PageCache {
        self.inner.slots.cache()
    }

    pub(crate) fn file(&self) -> &DeltaFile {
        &self.inner.file
    }

    /// A page of rows.
    pub(crate) fn rows_page(&self, number: u32) -> Result<PageGuard> {
        self.inner.page(PageKind::Rows, number)
    }

    /// A page of rows, not yet marked as used, and not looked at if it is in memory.
    pub(crate) fn rows_page_unmarked(&self, number: u32) -> Result<PageGuard> {
        self.inner.peek(PageKind::Rows, number)
    }

    /// Whether a page that is read has to make others go.
    pub(crate) fn cache_is_full(&self) -> bool {
        self.inner.slots.cache().is_full()
    }

    /// A page of rows if it is in memory.
    pub(crate) fn cached_rows_page(&self, number: u32) -> Option<PageGuard> {
        self.inner.slots.peek(number)
    }

    /// Checks a page of rows that was read past the cache.
    pub(crate) fn take_rows_page(
        &self,
        number: u32,
        offset: u64,
        stored: &[u8],
        scratch: &mut PageScratch,
    ) -> Result<PageGuard> {
        let place = PagePlace {
            offset,
            kind: PageKind::Rows,
            number,
        };
        self.inner.file.decode(place, stored, scratch, |content| {
            let layout = decode_content(PageKind::Rows, content)?;
            Ok(self
                .inner
                .slots
                .build_uncached(PageKind::Rows, content, layout))
        })
    }

    /// Where a page of rows lies: offset and stored length.
    pub(crate) fn rows_page_span(&self, number: u32) -> Result<(u64, u64)> {
        self.inner.rows_page_span(number)
    }

    /// The page that holds the first key that is not below the given one, or that is the last before it.
    pub(crate) fn find_rows_page(&self, key: &[u8]) -> Result<u32> {
        let leaf_number = {
            let top = self.inner.page(PageKind::Footer, 0)?;
            let node = self.inner.top(&top)?;
            node.find(key) as u32
        };
        let leaf = self.inner.page(PageKind::Directory, leaf_number)?;
        let found = self.inner.node(PageKind::Directory, &leaf)?.find(key) as u32;
        Ok(leaf_number * PAGES_PER_LEAF + found)
    }

    /// The fence of each page of rows.
    pub(crate) fn fences(&self) -> Result<Vec<Fence>> {
        let meta = &self.inner.meta;
        let mut fences = Vec::with_capacity(meta.rows_page_count as usize);
        for leaf_number in 0..meta.rows_page_count.div_ceil(PAGES_PER_LEAF) {
            let leaf = self.inner.page(PageKind::Directory, leaf_number)?;
            let node = self.inner.node(PageKind::Directory, &leaf)?;
            for child in 0..node.child_count() {
                let (_, size_bytes) = self.inner.span(node, child)?;
                // Before the first page there is nothing to be above of.
                let key = match fences.len() {
                    0 => meta.key_min.clone(),
                    _ => node.separator(child).into(),
                };
                fences.push(Fence { key, size_bytes });
            }
        }
        Ok(fences)
    }

    #[inline]
    pub(crate) fn parts(&self) -> ReadParts<'_> {
        ReadParts(&self.inner)
    }
}

/// The steps of a lookup, for those that take many keys at once.
#[derive(Clone, Copy)]
pub(crate) struct ReadParts<'a>(&'a Inner);

impl ReadParts<'_> {
    #[inline]
    pub(crate) fn probe(self, hash: u64) -> Probe {
        Probe::new(hash, self.0.meta.index_shape.home_line_count)
    }

    /// The page of the index that holds the line of a probe, not yet marked as used.
    #[inline]
    pub(crate) fn index_page(self, probe: Probe) -> Result<PageGuard> {
        self.0
            .peek(PageKind::Index, probe.line / LINES_PER_PAGE as u32)
    }

    /// The page of rows that holds an ordinal, and the slot in it, which may be beyond the page's rows. The page is not yet marked as used.
    #[inline]
    pub(crate) fn rows_page_unchecked(self, ordinal: u32) -> Result<(PageGuard, u32)> {
        let (number, slot) = self.0.page_and_slot(ordinal);
        Ok((self.0.peek(PageKind::Rows, number)?, slot))
    }

    /// All ordinals that a hash may have.
    pub(crate) fn candidates(self, hash: u64, mut each: impl FnMut(u32)) -> Result<()> {
        self.0.candidates(hash, |ordinal| {
            each(ordinal);
            Ok(false)
        })
    }

    /// The rows of a page of rows.
    #[inline]
    pub(crate) fn rows_of(self, page: &PageGuard) -> RowsView<'_> {
        self.0.slots.rows_of(page)
    }

    pub(crate) fn count_lookups(self, row_sets: u64, rows: u64) {
        self.0.slots.cache().count_lookups(row_sets, rows);
    }
}

impl Inner {
    /// Calls `each` with the ordinals that a hash may have until it says that it has found what it wants.
    #[inline]
    pub(super) fn candidates(
        &self,
        hash: u64,
        mut each: impl FnMut(u32) -> Result<bool>,
    ) -> Result<()> {
        let shape = self.meta.index_shape;
        let probe = Probe::new(hash, shape.home_line_count);
        let mut page_number = probe.line / LINES_PER_PAGE as u32;
        let mut page = self.page(PageKind::Index, page_number)?;
        for line_number in probe.line..shape.line_count {
            let number = line_number / LINES_PER_PAGE as u32;
            if number != page_number {
                page_number = number;
                page = self.page(PageKind::Index, number)?;
            }
            let Some(line) = page.line(line_number as usize % LINES_PER_PAGE) else {
                break;
            };
            let mut matches = probe.matches(line);
            while let Some(ordinal) = matches.next_ordinal(line) {
                if each(ordinal)? {
                    return Ok(());
                }
            }
            if !matches.go_on {
                return Ok(());
            }
        }
        Err(self.corrupt_index("the index ends early"))
    }

    #[inline]
    pub(super) fn page_and_slot(&self, ordinal: u32) -> (u32, u32) {
        let bits = self.meta.rows_per_page_log2;
        (ordinal >> bits, ordinal & ((1 << bits) - 1))
    }

    #[inline]
    pub(super) fn rows_page_of(&self, ordinal: u32) -> Result<(PageGuard, u32)> {
        let (number, slot) = self.page_and_slot(ordinal);
        let page = self.page(PageKind::Rows, number)?;
        if slot as usize >= self.slots.rows_of(&page).row_count() {
            return Err(self.corrupt_index("the index names a row that does not exist"));
        }
        Ok((page, slot))
    }

    fn corrupt_index(&self, reason: &str) -> Error {
        self.file.corrupt(self.meta.index_offset, reason)
    }

    /// A page, from the cache or from the file.
    #[inline]
    pub(super) fn page(&self, kind: PageKind, number: u32) -> Result<PageGuard> {
        let slot = self.slot_of(kind, number);
        match slot.and_then(|slot| self.slots.get(slot)) {
            Some(page) => Ok(page),
            None => self.load(kind, number),
        }
    }

    /// A page that is not yet marked as used, and not looked at if it is in memory.
    #[inline]
    pub(super) fn peek(&self, kind: PageKind, number: u32) -> Result<PageGuard> {
        let slot = self.slot_of(kind, number);
        match slot.and_then(|slot| self.slots.peek(slot)) {
            Some(page) => Ok(page),
            None => self.load(kind, number),
        }
    }

    /// The slot of a page: first those of rows, so that a page's number is its slot.
    #[inline]
    pub(super) fn slot_of(&self, kind: PageKind, number: u32) -> Option<u32> {
        let [rows, index, directory, locations, footer] = self.slot_ranges;
        let (start, count) = match kind {
            PageKind::Rows => rows,
            PageKind::Index => index,
            PageKind::Directory => directory,
            PageKind::Locations => locations,
            PageKind::Footer => footer,
            PageKind::Patch => return None,
        };
        (number < count).then(|| start + number)
    }

    #[cold]
    fn load(&self, kind: PageKind, number: u32) -> Result<PageGuard> {
        let Some(slot) = self.slot_of(kind, number) else {
            return Err(self.corrupt_index("a page is named that does not exist"));
        };
        let (place, stored_size_bytes) = self.place_of(kind, number)?;
        self.file.read_page(place, stored_size_bytes, |content| {
            let layout = decode_content(kind, content)?;
            if kind == PageKind::Footer {
                self.check_footer(content)?;
            }
            Ok(self.slots.insert(slot, kind, content, layout))
        })
    }

    /// What `take` makes of the rows of a page that is read for it and not kept; `None` where it is to be kept.
    pub(super) fn read_past_cache<T>(
        &self,
        number: u32,
        take: impl FnOnce(RowsView<'_>) -> T,
    ) -> Result<Option<T>> {
        let slot = self.slot_of(PageKind::Rows, number);
        if slot.is_none_or(|slot| self.slots.admits(slot)) {
            return Ok(None);
        }
        let (place, stored_size_bytes) = self.place_of(PageKind::Rows, number)?;
        self.slots.count_miss(PageKind::Rows);
        let taken = self.file.read_page(place, stored_size_bytes, |content| {
            let layout = RowsLayout::decode(content)?;
            Ok(take(RowsView::new(content, layout)))
        });
        taken.map(Some)
    }

    /// Which page that is and where it lies, and its stored length in bytes.
    fn place_of(&self, kind: PageKind, number: u32) -> Result<(PagePlace, u64)> {
        let (offset, stored_size_bytes) = match kind {
            PageKind::Rows => self.rows_page_span(number)?,
            PageKind::Directory => {
                let top = self.page(PageKind::Footer, 0)?;
                self.span(self.top(&top)?, number as usize)?
            }
            PageKind::Index => self.meta.index_page_span(number),
            PageKind::Locations => self.meta.locations_page_span(number),
            PageKind::Footer => (self.meta.footer_offset, self.meta.footer_size_bytes()),
            PageKind::Patch => return Err(self.corrupt_index("a patch is no part of a RowSet")),
        };
        let place = PagePlace {
            offset,
            kind,
            number,
        };
        Ok((place, stored_size_bytes))
    }

    /// Checks that the footer is that of this RowSet.
    fn check_footer(&self, content: &[u8]) -> Result<(), Malformed> {
        let mut reader = Reader::new(content);
        let mut entry = Reader::new(reader.blob()?);
        let written = RowSetMeta::decode(&mut entry)?;
        entry.finish()?;
        // The entry was written before its own length was known, and in a bulk load before its sequences were.
        let size_bytes = self.meta.size_bytes;
        let mut head = written.head;
        if head.seq_to == 0 {
            (head.seq_from, head.seq_to) = (self.meta.head.seq_from, self.meta.head.seq_to);
        }
        if (RowSetMeta {
            head,
            size_bytes,
            patch: self.meta.patch.clone(),
            ..written
        }) != self.meta
        {
            return Err(Malformed("the footer is that of another RowSet"));
        }
        Ok(())
    }

    fn rows_page_span(&self, number: u32) -> Result<(u64, u64)> {
        let leaf = self.page(PageKind::Directory, number / PAGES_PER_LEAF)?;
        let node = self.node(PageKind::Directory, &leaf)?;
        self.span(node, (number % PAGES_PER_LEAF) as usize)
    }

    fn span(&self, node: Node<'_>, child: usize) -> Result<(u64, u64)> {
        node.span(child)
            .map(|(start, end)| (self.meta.offset.saturating_add(start), end - start))
            .map_err(|malformed| self.file.corrupt(self.meta.footer_offset, malformed.0))
    }

    fn node<'a>(&self, kind: PageKind, page: &'a PageGuard) -> Result<Node<'a>> {
        let content = page.content();
        match kind {
            PageKind::Footer => footer_node(content),
            _ => Node::decode(content),
        }
        .map_err(|malformed| self.file.corrupt(self.meta.footer_offset, malformed.0))
    }

    fn top<'a>(&self, footer: &'a PageGuard) -> Result<Node<'a>> {
        self.node(PageKind::Footer, footer)
    }
}

/// The directory's top, which lies behind the entry in the footer.
fn footer_node(content: &[u8]) -> Result<Node<'_>, Malformed> {
    let mut reader = Reader::new(content);
    reader.blob()?;
    Node::decode(reader.remaining())
}

/// Checks what can be checked once, when a page is loaded.
fn decode_content(kind: PageKind, content: &[u8]) -> Result<RowsLayout, Malformed> {
    match kind {
        PageKind::Rows => return RowsLayout::decode(content),
        PageKind::Index if !content.len().is_multiple_of(LINE_SIZE_BYTES) => {
            return Err(Malformed("a page of the index holds part of a line"));
        }
        PageKind::Directory => drop(Node::decode(content)?),
        PageKind::Footer => drop(footer_node(content)?),
        _ => {}
    }
    Ok(RowsLayout::default())
}
