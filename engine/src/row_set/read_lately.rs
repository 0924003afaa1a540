//! Which pages were read lately without being kept.
//!
//! Where pages would have to go for it, a page of rows is kept from its second read on. Most pages that are read once are
//! not read again before their turn to go comes; keeping them would cost more than reading them, and would drive out
//! others that are. (2Q's queue of what is gone, Johnson and Shasha 1994, with entries that replace each other at random.)

use std::sync::atomic::{AtomicU16, Ordering};

/// One entry for that many bytes of the limit of the page cache: a page is remembered for about as many reads as half
/// of its pages.
const BYTES_PER_ENTRY: u64 = 8192;
const ENTRY_COUNT_MIN: u64 = 64;
const ENTRY_COUNT_MAX: u64 = 1 << 20;

/// Tags of pages, each at the place that its hash says, until another page takes that.
#[derive(Debug)]
pub(crate) struct ReadLately {
    tags: Box<[AtomicU16]>,
}

impl ReadLately {
    /// For a cache of that many bytes. It takes 1/4096 of them in addition, and at most 2 MiB.
    pub(crate) fn new(limit_bytes: u64) -> Self {
        let entries = (limit_bytes / BYTES_PER_ENTRY).clamp(ENTRY_COUNT_MIN, ENTRY_COUNT_MAX);
        ReadLately {
            tags: (0..entries).map(|_| AtomicU16::new(0)).collect(),
        }
    }

    /// Notes a page; says whether it was noted lately. Wrong about once in 32,000.
    pub(crate) fn note(&self, hash: u64) -> bool {
        let place = ((u128::from(hash) * self.tags.len() as u128) >> 64) as usize;
        // No page has the tag of an empty entry.
        let tag = (hash >> 16) as u16 | 1;
        let Some(noted) = self.tags.get(place) else {
            return false;
        };
        let is_noted = noted.load(Ordering::Relaxed) == tag;
        if !is_noted {
            noted.store(tag, Ordering::Relaxed);
        }
        is_noted
    }
}

#[cfg(test)]
mod tests {
    use xxhash_rust::xxh3::xxh3_64;

    use super::*;

    #[test]
    fn a_page_is_known_again_until_many_others_came() {
        let lately = ReadLately::new(1 << 20);
        let hash = |page: u64| xxh3_64(&page.to_le_bytes());
        assert!(!lately.note(hash(0)));
        assert!(lately.note(hash(0)));
        let again = (1..2000).filter(|page| lately.note(hash(*page))).count();
        assert!(again < 5, "{again}");
        assert!(!lately.note(hash(0)));
        // Of pages that come again after half as many others as there are entries, most are known.
        for page in 0..64 {
            lately.note(hash(page));
        }
        let again = (0..64).filter(|page| lately.note(hash(*page))).count();
        assert!(again > 32, "{again}");
    }
}
