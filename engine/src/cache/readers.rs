//! Readers that live long, and what they let go while nobody uses them.
//!
//! A scan that was begun and put aside would keep the generations that it began with, flushed or not, and a page of each
//! RowSet. So those that can are known here, and are asked to let go after each flush and when memory runs out; with
//! their next step they go on from the key where they were, in the trees as they are then. One that is at work at that
//! moment is passed over.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

/// A reader that can begin anew where it is.
pub(crate) trait Reader: Debug + Send + Sync {
    /// Lets go of generations and pages, unless it is at work.
    fn let_go(&self);
}

/// Fewer are not worth looking for those that ended.
const KNOWN_MIN: usize = 64;

/// Of so many wishes for memory one is heard.
const WISHES: u64 = 64;

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Readers {
    known: Mutex<Known>,
    /// How often they were to let go for lack of memory.
    wishes: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    readers: Vec<Weak<dyn Reader>>,
    /// So many were there after the last look for those that ended.
    living: usize,
}

impl Readers {
    /// Takes a reader in, until it ends.
    pub(crate) fn add(&self, reader: Weak<dyn Reader>) {
        let mut known = self.known.lock();
        if known.readers.len() >= KNOWN_MIN.max(2 * known.living) {
            known.readers.retain(|reader| reader.strong_count() > 0);
            known.living = known.readers.len();
        }
        known.readers.push(reader);
    }

    /// Has all let go that are not at work.
    pub(crate) fn let_go(&self) {
        let readers: Vec<Arc<dyn Reader>> = {
            let known = self.known.lock();
            known.readers.iter().filter_map(Weak::upgrade).collect()
        };
        for reader in readers {
            reader.let_go();
        }
    }

    /// The same each so many times that somebody wishes it, as it may be in vain.
    pub(crate) fn let_go_at_times(&self) {
        if self
            .wishes
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(WISHES)
        {
            self.let_go();
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.known.lock().readers.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Debug, Default)]
    struct Counting(AtomicUsize);

    impl Reader for Counting {
        fn let_go(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn those_that_ended_are_forgotten_and_the_others_are_asked() {
        let readers = Readers::default();
        let lives = Arc::new(Counting::default());
        let weak: Weak<Counting> = Arc::downgrade(&lives);
        readers.add(weak);
        for _ in 0..10_000 {
            let ends: Arc<dyn Reader> = Arc::new(Counting::default());
            readers.add(Arc::downgrade(&ends));
        }
        assert!(readers.len() <= KNOWN_MIN, "{}", readers.len());
        readers.let_go();
        assert_eq!(lives.0.load(Ordering::Relaxed), 1);
    }
}
