//! Figures of the page cache.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::page::PageKind;

/// How the page cache fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageCacheStats {
    /// Pages that were in memory. Where more than 32 threads read, a few may be missing here.
    pub hits: u64,
    /// Pages that were read.
    pub misses: u64,
    /// Pages that had to go for others.
    pub evicted: u64,
    /// Bytes of memory, by kind of page, of pages in the cache or still in use.
    pub bytes_by_kind: [(PageKind, u64); PageKind::ALL.len()],
    /// Bytes of memory of the RowSets' slots.
    pub slot_bytes: u64,
}

const STRIPE_COUNT: usize = 32;

/// A counter that threads add to without meeting each other.
#[derive(Debug, Default)]
pub(crate) struct HitCounters {
    stripes: [Stripe; STRIPE_COUNT],
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe(AtomicU64);

static NEXT_STRIPE: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static STRIPE: Cell<usize> = const { Cell::new(usize::MAX) };
}

impl HitCounters {
    #[inline]
    pub(crate) fn add(&self, count: u64) {
        let mut stripe = STRIPE.get();
        if stripe == usize::MAX {
            stripe = NEXT_STRIPE.fetch_add(1, Ordering::Relaxed) % STRIPE_COUNT;
            STRIPE.set(stripe);
        }
        if let Some(Stripe(counter)) = self.stripes.get(stripe) {
            // Not one step: a locked add would hold up the loads that follow.
            counter.store(
                counter.load(Ordering::Relaxed).wrapping_add(count),
                Ordering::Relaxed,
            );
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.stripes
            .iter()
            .map(|Stripe(counter)| counter.load(Ordering::Relaxed))
            .sum()
    }
}
