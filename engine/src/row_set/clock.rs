//! Which pages go first: a clock over those in memory.
//!
//! The hand passes a page over as often as the page has lives; each use gives them back (a second chance, Corbató 1968,
//! with more chances for pages of the index and directory, which stand for many rows).

use std::sync::Weak;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::page::PageKind;
use super::page_cache::{PageSlots, Passed, evict, move_out_of};
use crate::sync::{Mutex, MutexGuard};

/// Entries that are looked at under one hold of the lock: pages of a megabyte.
const MOVED_AT_ONCE: usize = 256;

/// A part of the cache's pages, each known once.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    ring: Mutex<Ring>,
    /// Entries whose RowSet is gone.
    dead: AtomicUsize,
    /// Entries, with those that are dead.
    len: AtomicUsize,
}

#[derive(Debug, Default)]
struct Ring {
    entries: Vec<Option<Entry>>,
    vacant: Vec<u32>,
    hand: usize,
}

#[derive(Debug)]
struct Entry {
    slots: Weak<PageSlots>,
    slot: u32,
}

impl Clock {
    /// Bytes that a page takes here.
    pub(crate) const ENTRY_SIZE_BYTES: usize = size_of::<Option<Entry>>() + size_of::<u32>();

    /// Takes a page that was put into a slot just now.
    pub(crate) fn insert(&self, slots: Weak<PageSlots>, slot: u32) {
        let mut ring = self.ring.lock();
        let dead = self.dead.load(Ordering::Relaxed);
        if dead > 64 && dead > ring.entries.len() / 2 {
            self.sweep(&mut ring);
        }
        let entry = Some(Entry { slots, slot });
        let vacant = ring.vacant.pop();
        match vacant.and_then(|i| ring.entries.get_mut(i as usize)) {
            Some(place) => *place = entry,
            None => ring.entries.push(entry),
        }
        self.note_len(&ring);
    }

    /// Entries, with those that are dead.
    pub(crate) fn entry_count(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    fn note_len(&self, ring: &Ring) {
        let len = ring.entries.len() - ring.vacant.len();
        self.len.store(len, Ordering::Relaxed);
    }

    /// Notes that a page went with its RowSet.
    pub(crate) fn note_dead(&self) {
        self.dead.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes the hand round once, or until `enough`; `gone` hears of each page that it let go.
    pub(crate) fn evict_round(&self, enough: impl Fn() -> bool, gone: impl Fn(PageKind)) {
        let mut ring = self.ring.lock();
        let Ring {
            entries,
            vacant,
            hand,
        } = &mut *ring;
        for _ in 0..entries.len() {
            if enough() {
                break;
            }
            let position = if *hand < entries.len() { *hand } else { 0 };
            *hand = position + 1;
            let Some(place) = entries.get_mut(position) else {
                break;
            };
            let Some(entry) = place else { continue };
            if let Some(slots) = entry.slots.upgrade() {
                match evict(&slots, entry.slot) {
                    Passed::Stays => continue,
                    Passed::Goes(kind) => kind.into_iter().for_each(&gone),
                }
            }
            *place = None;
            vacant.push(crate::codec::len_u32(position));
        }
        self.note_len(&ring);
    }

    /// Has the pages that lie in those chunks of memory copied to another place. Who makes room meanwhile waits for a part
    /// of the ring only; an entry that is put elsewhere between two parts may be missed.
    pub(crate) fn move_out_of(&self, chunks: &[usize]) {
        for start in (0..).step_by(MOVED_AT_ONCE) {
            let ring = self.ring.lock();
            let Some(entries) = ring.entries.get(start..) else {
                return;
            };
            for entry in entries.iter().take(MOVED_AT_ONCE).flatten() {
                if let Some(slots) = entry.slots.upgrade() {
                    move_out_of(chunks, &slots, entry.slot);
                }
            }
            if entries.len() <= MOVED_AT_ONCE {
                return;
            }
            MutexGuard::unlock_fair(ring);
        }
    }

    /// Removes the entries whose RowSet is gone.
    fn sweep(&self, ring: &mut Ring) {
        let before = ring.entries.len();
        ring.entries.retain(|entry| {
            entry
                .as_ref()
                .is_some_and(|entry| entry.slots.strong_count() > 0)
        });
        ring.vacant.clear();
        ring.hand = ring.hand.min(ring.entries.len());
        ring.entries.shrink_to(before / 2);
        self.dead.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::budget::MemoryBudget;
    use super::super::page_cache::PageCache;
    use super::super::rows_page::RowsLayout;
    use super::*;

    /// A clock that lost its pages with their RowSet gets its share again.
    #[test]
    fn clocks_keep_as_many_pages_each() {
        let cache = PageCache::new(MemoryBudget::new(2 << 20));
        let insert = |slots: &std::sync::Arc<PageSlots>, slot| {
            slots.insert(slot, PageKind::Rows, &[7; 4000], RowsLayout::default())
        };
        let counts = || cache.clock_entry_counts();
        let short = PageSlots::new(&cache, 4000);
        (0..4000)
            .filter(|slot| short.clock_of(*slot) == 3)
            .for_each(|slot| drop(insert(&short, slot)));
        let others = PageSlots::new(&cache, 40_000);
        (0..4000)
            .filter(|slot| others.clock_of(*slot) != 3)
            .for_each(|slot| drop(insert(&others, slot)));
        drop(short);
        (4000..40_000).for_each(|slot| drop(insert(&others, slot)));
        let (fewest, most) = (counts().into_iter().min(), counts().into_iter().max());
        assert!(fewest >= most.map(|most| most / 2), "{:?}", counts());
    }
    /// Defends invariant 7 (bounded): when others take half the memory of a cache, the system gets back what the pages that
    /// went leave, though those that stay lie all over it. Who reads them meanwhile sees no difference.
    #[test]
    fn pages_move_together_under_readers() {
        let cache = PageCache::new(MemoryBudget::new(96 << 20));
        let content = |slot: u32| vec![slot as u8; 3500 + slot as usize % 13 * 64];
        let slots = PageSlots::new(&cache, 26_000);
        for slot in 0..26_000 {
            let rows = RowsLayout::default();
            drop(slots.insert(slot, PageKind::Rows, &content(slot), rows));
        }
        let held: Vec<_> = (0..26_000)
            .step_by(1999)
            .map(|slot| (slot, slots.peek(slot)))
            .collect();
        let others = cache.budget().charge(48 << 20);
        assert!(cache.make_room(0));
        let (before_bytes, page_bytes) = (cache.mapped_bytes(), cache.page_bytes());
        assert!(before_bytes > 80 << 20 && page_bytes <= 48 << 20);
        let present = || {
            (0..26_000)
                .filter(|slot| slots.peek(*slot).is_some())
                .count()
        };
        let count = present();
        let done = std::sync::atomic::AtomicBool::new(false);
        let begun = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                begun.wait();
                while !done.load(Ordering::Relaxed) {
                    for slot in (0..26_000).step_by(37) {
                        let page = slots.peek(slot);
                        assert!(page.is_none_or(|page| page.content() == content(slot)));
                    }
                }
            });
            begun.wait();
            cache.give_back_scattered();
            done.store(true, Ordering::Relaxed);
        });
        for (slot, page) in held {
            assert!(page.is_none_or(|page| page.content() == content(slot)));
        }
        assert!(present() == count && cache.page_bytes() <= page_bytes);
        let after_bytes = cache.mapped_bytes();
        assert!(
            after_bytes < before_bytes - (16 << 20),
            "{before_bytes} {after_bytes}"
        );
        drop((slots, others));
        assert_eq!((cache.page_bytes(), cache.budget().used_bytes()), (0, 0));
        assert!(cache.mapped_bytes() <= 2 << 20);
    }
}
