//! The page cache: one for all RowSets, under the memory budget.
//!
//! A RowSet has a slot for each of its pages. A page that is in memory hangs in its slot, so a hit is one load: no
//! lookup, no lock. The `clock` decides which pages go when the budget is used up, `read_lately` which are worth that
//! others go for them.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::Guard;

use super::budget::{Charge, MemoryBudget};
use super::cached_page::{
    LIVES_MAX, Page, PageGuard, PageHeader, Slot, content_of, lives_max, page_memory_bytes,
};
use super::clock::Clock;
use super::page::PageKind;
use super::page_memory::PageMemory;
use super::read_lately::ReadLately;
use super::rows_page::{RowsLayout, RowsView};
use super::stats::{PageCacheStats, PageKindStats};
use crate::counting::striped::Striped;
use crate::raw::{Extent, chunk_address_of};

/// Clocks, so that misses of different pages seldom wait for each other: 2^n.
const CLOCK_COUNT_LOG2: u32 = 3;
const CLOCK_COUNT: usize = 1 << CLOCK_COUNT_LOG2;

/// Rounds of the hands after which every page that was not used meanwhile has gone.
const ROUNDS_MAX: usize = 1 + LIVES_MAX as usize;

/// A cache with less room than this is full.
const ROOM_BYTES: u64 = 64 << 10;

/// How often a page tries to get into the cache.
const ROOM_TRIES: usize = 4;

/// The pages in memory of all RowSets.
#[derive(Debug)]
pub struct PageCache {
    budget: Arc<MemoryBudget>,
    memory: PageMemory,
    clocks: [Clock; CLOCK_COUNT],
    by_kind: [KindCounters; PageKind::ALL.len()],
    /// Pages that were read, by kind.
    misses: Striped<{ PageKind::ALL.len() }>,
    /// Pages of rows that were read without being kept.
    read_lately: ReadLately,
    slot_bytes: AtomicU64,
    /// RowSets that it had slots for.
    row_set_count: AtomicU64,
    /// RowSets asked for a key, and rows found there.
    lookups: Striped<2>,
}

#[derive(Debug, Default)]
struct KindCounters {
    evicted: AtomicU64,
    size_bytes: AtomicU64,
}

impl PageCache {
    /// An empty cache that takes its memory from that budget.
    pub fn new(budget: Arc<MemoryBudget>) -> Arc<Self> {
        Arc::new(PageCache {
            read_lately: ReadLately::new(budget.limit_bytes()),
            memory: PageMemory::new(budget.limit_bytes()),
            budget,
            clocks: Default::default(),
            by_kind: Default::default(),
            misses: Striped::default(),
            slot_bytes: AtomicU64::new(0),
            row_set_count: AtomicU64::new(0),
            lookups: Striped::default(),
        })
    }

    /// The budget it lives under.
    pub fn budget(&self) -> &Arc<MemoryBudget> {
        &self.budget
    }

    /// How it fared since it was made.
    pub fn stats(&self) -> PageCacheStats {
        let [row_sets_asked, rows_found] = self.lookups.totals();
        let mut misses = self.misses.totals().into_iter();
        PageCacheStats {
            row_sets_asked,
            rows_found,
            by_kind: PageKind::ALL.map(|kind| {
                let counters = self.counters_of(kind);
                PageKindStats {
                    kind,
                    misses: misses.next().unwrap_or(0),
                    evicted: counters.evicted.load(Ordering::Relaxed),
                    size_bytes: counters.size_bytes.load(Ordering::Relaxed),
                }
            }),
            slot_bytes: self.slot_bytes.load(Ordering::Relaxed),
        }
    }

    /// Bytes of all pages, cached or in use.
    pub(crate) fn page_bytes(&self) -> u64 {
        let counters = self.by_kind.iter();
        counters
            .map(|counters| counters.size_bytes.load(Ordering::Relaxed))
            .sum()
    }

    /// Whether there is no room for a few more pages.
    pub(crate) fn is_full(&self) -> bool {
        self.budget.used_bytes().saturating_add(ROOM_BYTES) > self.budget.limit_bytes()
    }

    /// Lets pages go until that many bytes of the budget are free, or nothing is left that may go. For those who share
    /// the budget, when their own [`try_charge`](MemoryBudget::try_charge) is refused.
    pub fn make_room(&self, size_bytes: u64) -> bool {
        let fits =
            || self.budget.used_bytes().saturating_add(size_bytes) <= self.budget.limit_bytes();
        // Each time from the clock that has most pages, so that all keep as many. If a page made room for itself in its
        // own clock, one that got short of pages would stay so, and lose pages of the index to pages of rows.
        for _ in 0..ROUNDS_MAX * CLOCK_COUNT {
            if fits() {
                return true;
            }
            let fullest = self.clocks.iter().max_by_key(|clock| clock.entry_count());
            let Some(clock) = fullest.filter(|clock| clock.entry_count() > 0) else {
                break;
            };
            clock.evict_round(fits, |kind| {
                let counters = self.counters_of(kind);
                counters.evicted.fetch_add(1, Ordering::Relaxed);
            });
        }
        fits()
    }

    /// Pages that each clock knows, with those that went with their RowSet.
    #[cfg(test)]
    pub(crate) fn clock_entry_counts(&self) -> [usize; CLOCK_COUNT] {
        self.clocks.each_ref().map(Clock::entry_count)
    }

    fn counters_of(&self, kind: PageKind) -> &KindCounters {
        let [rows, locations, index, directory, footer] = &self.by_kind;
        match kind {
            PageKind::Rows => rows,
            PageKind::Locations => locations,
            PageKind::Index => index,
            PageKind::Directory => directory,
            // None of a patch gets here.
            PageKind::Footer | PageKind::Patch => footer,
        }
    }

    /// Gives the memory of a page back.
    pub(super) fn give_back(
        &self,
        kind: PageKind,
        content_size_bytes: usize,
        extent: Option<Extent>,
    ) {
        if let Some(extent) = extent {
            self.memory.put(extent);
        }
        let size_bytes = page_memory_bytes(content_size_bytes);
        let counters = self.counters_of(kind);
        counters.size_bytes.fetch_sub(size_bytes, Ordering::Relaxed);
        self.budget.give_back(size_bytes);
    }

    /// Moves pages together where those that went left more room between them than there should be, and gives what
    /// becomes free to the system. It looks at each page in memory, so it is work for the background.
    pub(crate) fn give_back_scattered(&self) {
        let vacated = self.memory.vacate_sparsest();
        if !vacated.is_empty() {
            self.clocks
                .iter()
                .for_each(|clock| clock.move_out_of(&vacated));
        }
    }

    /// Bytes between pages, which no budget counts.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.memory.free_bytes() as u64
    }

    /// Bytes of pages, and of the room between them.
    #[cfg(test)]
    pub(crate) fn mapped_bytes(&self) -> usize {
        self.memory.mapped_bytes()
    }

    /// Counts a page that was not in memory.
    fn count_miss(&self, kind: PageKind) {
        self.misses
            .add(PageKind::ALL.map(|one| u64::from(one == kind)));
    }

    /// A page with its own memory, and whether there was room for it.
    fn build(self: &Arc<Self>, hash: u64, header: PageHeader, content: &[u8]) -> (Page, bool) {
        let size_bytes = page_memory_bytes(content.len());
        let budget = &self.budget;
        // Room that was made may be taken by another thread.
        let fits = budget.try_take(size_bytes)
            || (0..ROOM_TRIES).any(|_| self.make_room(size_bytes) && budget.try_take(size_bytes));
        if !fits {
            budget.take(size_bytes);
        }
        (self.place(hash, header, content), fits)
    }

    /// A page whose share of the budget was taken.
    fn place(&self, hash: u64, header: PageHeader, content: &[u8]) -> Page {
        self.counters_of(header.kind)
            .size_bytes
            .fetch_add(page_memory_bytes(content.len()), Ordering::Relaxed);
        let extent = self.memory.take(hash, Page::line_count_for(content.len()));
        Page::new(header, content, extent)
    }

    /// Counts RowSets that were asked for a key, and rows that were found there.
    #[inline]
    pub(crate) fn count_lookups(&self, row_sets: u64, rows: u64) {
        self.lookups.add([row_sets, rows]);
    }
}

/// The slots of one RowSet.
#[derive(Debug)]
pub(crate) struct PageSlots {
    slots: Box<[Slot]>,
    /// Which of the cache's RowSets this is.
    number: u64,
    cache: Arc<PageCache>,
    /// The layout of the page of rows that was read first, and of most others.
    usual_layout: OnceLock<RowsLayout>,
    charge: Charge,
}

impl PageSlots {
    /// That many empty slots.
    pub(crate) fn new(cache: &Arc<PageCache>, slot_count: usize) -> Arc<Self> {
        let size_bytes = (slot_count * size_of::<Slot>() + size_of::<Self>()) as u64;
        cache.make_room(size_bytes);
        cache.slot_bytes.fetch_add(size_bytes, Ordering::Relaxed);
        Arc::new(PageSlots {
            slots: (0..slot_count).map(|_| Slot::default()).collect(),
            number: cache.row_set_count.fetch_add(1, Ordering::Relaxed),
            cache: cache.clone(),
            usual_layout: OnceLock::new(),
            charge: cache.budget.charge(size_bytes),
        })
    }

    pub(crate) fn cache(&self) -> &Arc<PageCache> {
        &self.cache
    }

    /// The page in a slot, if it is in memory; counts as a use of it.
    #[inline]
    pub(crate) fn get(&self, slot: u32) -> Option<PageGuard> {
        let guard = self.peek(slot)?;
        guard.mark_used();
        Some(guard)
    }

    /// The page in a slot, if it is in memory; does not count as a use, and does not look at the page.
    #[inline]
    pub(crate) fn peek(&self, slot: u32) -> Option<PageGuard> {
        let guard = self.slots.get(slot as usize)?.load();
        guard.is_some().then_some(PageGuard(guard))
    }

    /// The rows of a page of this RowSet.
    ///
    /// Its pages mostly have one layout. Where the processor predicts that, it asks memory for the row while the page's
    /// header, which proves it, is still on its way.
    #[inline]
    pub(crate) fn rows_of<'a>(&self, page: &'a PageGuard) -> RowsView<'a> {
        match (self.usual_layout.get(), page.0.as_ref()) {
            (Some(usual), Some(inner)) if inner.header().usual => {
                RowsView::new(page.content(), *usual)
            }
            _ => page.unusual_rows(),
        }
    }

    /// Puts a page that was read into its slot, unless memory is used up by what can't go. Of two threads that read the
    /// same page, the first one's stays.
    pub(crate) fn insert(
        self: &Arc<Self>,
        slot: u32,
        kind: PageKind,
        content: &[u8],
        rows: RowsLayout,
    ) -> PageGuard {
        let usual = kind == PageKind::Rows && *self.usual_layout.get_or_init(|| rows) == rows;
        self.cache.count_miss(kind);
        let clock = self.clock_of(slot);
        let header = self.header(kind, content, rows, usual);
        let (page, fits) = self.cache.build(self.hash_of(slot), header, content);
        let (Some(place), true) = (self.slots.get(slot as usize), fits) else {
            return PageGuard(Guard::from_inner(Some(page)));
        };
        let before = place.compare_and_swap(&None::<Page>, Some(page.clone()));
        if before.is_some() {
            return PageGuard(before);
        }
        if let Some(clock) = self.cache.clocks.get(clock) {
            clock.insert(Arc::downgrade(self), slot);
        }
        PageGuard(Guard::from_inner(Some(page)))
    }

    /// Whether a page that is not in memory is worth a place there; where others have to go for it, only if it was read
    /// lately.
    pub(crate) fn admits(&self, slot: u32) -> bool {
        !self.cache.is_full() || self.cache.read_lately.note(self.hash_of(slot))
    }

    /// Counts a page that was read and not kept.
    pub(crate) fn count_miss(&self, kind: PageKind) {
        self.cache.count_miss(kind);
    }

    /// A page that was read to be used once; it goes with the guard.
    pub(crate) fn build_uncached(
        &self,
        kind: PageKind,
        content: &[u8],
        rows: RowsLayout,
    ) -> PageGuard {
        let header = self.header(kind, content, rows, false);
        let (page, _) = self.cache.build(self.hash_of(0), header, content);
        PageGuard(Guard::from_inner(Some(page)))
    }

    fn header(&self, kind: PageKind, content: &[u8], rows: RowsLayout, usual: bool) -> PageHeader {
        PageHeader {
            cache: Some(self.cache.clone()),
            content_size_bytes: crate::codec::len_u32(content.len()),
            rows,
            usual,
            kind,
            // Rows that are read once, as by a scan, go first.
            lives: AtomicU8::new(lives_max(kind) - 1),
        }
    }

    /// Which clock knows the page in a slot. Each gets the same mixture (Fibonacci hashing, Knuth 6.4).
    pub(crate) fn clock_of(&self, slot: u32) -> usize {
        (self.hash_of(slot) >> (u64::BITS - CLOCK_COUNT_LOG2)) as usize
    }

    /// A hash of a page. Numbers of RowSets lie close to each other, so they are mixed first.
    fn hash_of(&self, slot: u32) -> u64 {
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        let row_set = self.number.wrapping_mul(FACTOR);
        (row_set ^ row_set >> 32)
            .wrapping_add(slot.into())
            .wrapping_mul(FACTOR)
    }
}

impl Drop for PageSlots {
    fn drop(&mut self) {
        let size_bytes = self.charge.size_bytes();
        self.cache
            .slot_bytes
            .fetch_sub(size_bytes, Ordering::Relaxed);
        for (slot, place) in (0..).zip(std::mem::take(&mut self.slots)) {
            if place.load().is_none() {
                // Nobody can hold what is not there, but dropping the place looks for that in all threads.
                std::mem::forget(place);
            } else if let Some(clock) = self.cache.clocks.get(self.clock_of(slot)) {
                clock.note_dead();
            }
        }
    }
}

/// What became of a page that the clock came by.
pub(crate) enum Passed {
    /// It was used since the last time, and stays.
    Stays,
    /// It goes, if one was there.
    Goes(Option<PageKind>),
}

/// Lets the page in a slot go, unless it was used since the clock came by.
pub(crate) fn evict(slots: &PageSlots, slot: u32) -> Passed {
    let Some(place) = slots.slots.get(slot as usize) else {
        return Passed::Goes(None);
    };
    let mut kind = None;
    if let Some(page) = &*place.load() {
        let header = page.header();
        let left = header.lives.load(Ordering::Relaxed);
        if left > 0 {
            header.lives.store(left - 1, Ordering::Relaxed);
            return Passed::Stays;
        }
        kind = Some(header.kind);
    }
    place.store(None);
    Passed::Goes(kind)
}

/// Copies the page in a slot to another place, if it lies in one of those chunks (where they begin, ascending).
pub(crate) fn move_out_of(chunks: &[usize], slots: &PageSlots, slot: u32) {
    let Some(place) = slots.slots.get(slot as usize) else {
        return;
    };
    let held = place.load();
    let Some(page) = &*held else { return };
    if chunks
        .binary_search(&chunk_address_of(page.address()))
        .is_err()
    {
        return;
    }
    let (cache, content) = (&slots.cache, content_of(page));
    // The two are there together for a moment, or for as long as a reader holds the old one.
    cache.budget.take(page_memory_bytes(content.len()));
    let copy = cache.place(slots.hash_of(slot), page.header().copy(), content);
    // One that went meanwhile stays away.
    place.compare_and_swap(&held, Some(copy));
}
