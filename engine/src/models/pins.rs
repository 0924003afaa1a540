//! The visible commit sequence, those that are held, and who waits for one.

use std::sync::{Arc, Mutex as Leaf};

use super::small::{join, start};
use crate::cache::pins::Pins;
use crate::error::Error;

/// A writer publishes, a reader holds, a flush asks which versions it may leave out.
pub(super) fn horizon_stays_below_holds() {
    let pins = Arc::new(Pins::default());
    let passed = Arc::new(Leaf::new(0));
    let writing = pins.clone();
    let writer = start(move || {
        writing.publish(1, true);
    });
    let (reading, seen) = (pins.clone(), passed.clone());
    let reader = start(move || {
        let seq = reading.pin_visible();
        assert!(*seen.lock().unwrap() <= seq, "versions went that are held");
        reading.unpin(seq);
    });
    let horizon = pins.horizon_seq();
    let mut most = passed.lock().unwrap();
    *most = horizon.max(*most);
    drop(most);
    join(vec![writer, reader]);
    assert_eq!(pins.pinned(), Vec::<u64>::new());
    assert_eq!(pins.horizon_seq(), 1, "nothing is held");
}

/// One who waits for what comes, and then one who waits for what never comes.
pub(super) fn waits_end() {
    let pins = Arc::new(Pins::default());
    let waiting = pins.clone();
    let waiter = start(move || waiting.wait_visible(1).expect("it becomes visible"));
    pins.publish(1, false);
    join(vec![waiter]);
    let waiting = pins.clone();
    let waiter = start(move || {
        let ended = waiting.wait_visible(2);
        assert!(matches!(ended, Err(Error::Poisoned(_))));
    });
    pins.stop("the disk is broken");
    join(vec![waiter]);
}
