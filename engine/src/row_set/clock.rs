//! Which pages go first: a clock over those in memory.
//!
//! The hand passes a page over as often as the page has lives; each use gives them back (a second chance, Corbató 1968,
//! with more chances for pages of the index and directory, which stand for many rows).

use std::sync::Weak;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::page::PageKind;
use super::page_cache::{PageSlots, Passed, evict};

/// A part of the cache's pages, each known once.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    ring: Mutex<Ring>,
    /// Entries whose RowSet is gone.
    dead: AtomicUsize,
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
    }

    /// Entries, with those that are dead.
    #[cfg(test)]
    pub(crate) fn entry_count(&self) -> usize {
        let ring = self.ring.lock();
        ring.entries.len() - ring.vacant.len()
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
