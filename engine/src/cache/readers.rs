//! Readers that live long, and what they let go while nobody uses them.
//!
//! A scan that was begun and put aside would keep the generations that it began with, flushed or not, and a page of each
//! RowSet. So those that can are known here, and are asked to let go after each flush and when memory runs out; with
//! their next step they go on from the key where they were, in the trees as they are then. One that is at work at that
//! moment does it when it is done ([`Parked`]).

use std::fmt::Debug;
use std::sync::{Arc, Weak};

use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A reader that can begin anew where it is.
pub(crate) trait Reader: Debug + Send + Sync {
    /// Lets go of generations and pages; where it is at work, soon after.
    fn let_go(&self);
}

/// What a reader holds.
pub(crate) trait LetGo: Debug + Send {
    /// Lets go of generations and pages.
    fn let_go(&mut self);
}

/// What a reader holds, which lets go of it while nobody uses it.
#[derive(Debug)]
pub(crate) struct Parked<T> {
    held: Mutex<T>,
    /// Whether it was to let go while it was used: who used it does it then.
    is_late: AtomicBool,
}

impl<T: LetGo> Parked<T> {
    pub(crate) fn new(held: T) -> Self {
        Parked {
            held: Mutex::new(held),
            is_late: AtomicBool::new(false),
        }
    }

    /// What `act` makes of what is held.
    pub(crate) fn use_held<U>(&self, act: impl FnOnce(&mut T) -> U) -> U {
        let made = act(&mut self.held.lock());
        if self.is_late.load(Ordering::SeqCst) {
            self.let_go();
        }
        made
    }
}

impl<T: LetGo> Reader for Parked<T> {
    fn let_go(&self) {
        // Before the try: whoever has the lock looks at it after it gave that back.
        self.is_late.store(true, Ordering::SeqCst);
        if let Some(mut held) = self.held.try_lock() {
            self.is_late.store(false, Ordering::SeqCst);
            held.let_go();
        }
    }
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

    /// Has all let go, those that are at work when they are done.
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

    impl LetGo for u32 {
        fn let_go(&mut self) {
            *self += 1;
        }
    }

    #[test]
    fn who_is_at_work_lets_go_when_it_is_done() {
        let parked = Parked::new(0);
        parked.use_held(|count| {
            parked.let_go();
            assert_eq!(*count, 0);
        });
        assert_eq!(*parked.held.lock(), 1);
        parked.let_go();
        assert_eq!(parked.use_held(|count| *count), 2);
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
