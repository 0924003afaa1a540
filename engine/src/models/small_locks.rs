//! Small things that threads agree by without a lock of their own, by atomics that are sequentially consistent.

use std::sync::Arc;

use super::small::{join, start};
use crate::cache::readers::{LetGo, Parked, Reader};
use crate::schedule::pace::Pace;

/// A reader that is at work when it is to let go does it when it is done.
pub(super) fn a_parked_reader_lets_go() {
    #[derive(Debug)]
    struct Held(u64);
    impl LetGo for Held {
        fn let_go(&mut self) {
            self.0 = 0;
        }
    }
    let parked = Arc::new(Parked::new(Held(1)));
    let asking = parked.clone();
    let flush = start(move || asking.let_go());
    parked.use_held(|held| assert!(held.0 <= 1));
    join(vec![flush]);
    parked.use_held(|held| assert_eq!(held.0, 0, "it keeps what was to go"));
}

/// A compaction that waits for the block of the log that is being written.
pub(super) fn a_compaction_goes_on_after_a_block() {
    let pace = Arc::new(Pace::default());
    let waiting = pace.clone();
    let compaction = start(move || waiting.await_block());
    drop(pace.block());
    join(vec![compaction]);
}
