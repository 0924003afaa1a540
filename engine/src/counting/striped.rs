//! Counters that threads add to without meeting each other.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const STRIPE_COUNT: usize = 32;

/// `N` counters, at most 16. Where more than 32 threads count at once, a few counts may be lost.
#[derive(Debug)]
pub(crate) struct Striped<const N: usize> {
    stripes: [Stripe<N>; STRIPE_COUNT],
}

#[derive(Debug)]
#[repr(align(128))]
struct Stripe<const N: usize>([AtomicU64; N]);

static NEXT_STRIPE: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static STRIPE: Cell<usize> = const { Cell::new(usize::MAX) };
}

impl<const N: usize> Default for Striped<N> {
    fn default() -> Self {
        Striped {
            stripes: std::array::from_fn(|_| Stripe(std::array::from_fn(|_| AtomicU64::new(0)))),
        }
    }
}

impl<const N: usize> Striped<N> {
    /// Adds to each counter.
    #[inline]
    pub(crate) fn add(&self, counts: [u64; N]) {
        let mut stripe = STRIPE.get();
        if stripe == usize::MAX {
            stripe = NEXT_STRIPE.fetch_add(1, Ordering::Relaxed) % STRIPE_COUNT;
            STRIPE.set(stripe);
        }
        if let Some(Stripe(counters)) = self.stripes.get(stripe) {
            for (counter, count) in counters.iter().zip(counts) {
                // Not one step: a locked add would hold up the loads that follow.
                counter.store(
                    counter.load(Ordering::Relaxed).wrapping_add(count),
                    Ordering::Relaxed,
                );
            }
        }
    }

    /// What all threads added.
    pub(crate) fn totals(&self) -> [u64; N] {
        let mut totals = [0_u64; N];
        for Stripe(counters) in &self.stripes {
            for (total, counter) in totals.iter_mut().zip(counters) {
                *total = total.wrapping_add(counter.load(Ordering::Relaxed));
            }
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_add_up() {
        let striped = Striped::<2>::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| striped.add([1, 2])));
            }
        });
        // Other tests' threads may share a stripe number, but not these counters; those of this test may not meet.
        let [ones, twos] = striped.totals();
        assert_eq!(twos, 2 * ones);
        assert!((1000..=4000).contains(&ones), "{ones}");
    }
}
