//! The engine's atomics that are not sequentially consistent and publish something, under loom, which goes through every
//! order of steps and every value that the memory model lets a load return.
//!
//! Loom has its own types, so these are the protocols alone, written as the code has them; docs/testing.md lists where each
//! stands. Each is run once as it is, and once with what it relies on left out, which loom has to find.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use loom::thread;

/// Whether loom finds an order in which it fails.
fn fails(model: impl Fn() + Sync + Send + 'static) -> bool {
    let run = std::panic::AssertUnwindSafe(|| loom::model(model));
    std::panic::catch_unwind(run).is_err()
}

/// `generation::table` and `generation::versions`: a version's words, the slot that names it, the larger array of slots that
/// takes the place of the one before, and the commit sequence that readers ask at (`cache::pins`).
#[derive(Default)]
struct Table {
    words: [[AtomicU64; 3]; 2],
    /// Version and one; 0 for none. One array after the other.
    slots: [AtomicU64; 2],
    array: AtomicUsize,
    visible_seq: AtomicU64,
}

/// Where the order of a store matters.
#[derive(Clone, Copy)]
struct Stores {
    slot: Ordering,
    array: Ordering,
    visible: Ordering,
}

impl Table {
    /// The version of a sequence: it, a value made of it, and the version before.
    fn write(&self, seq: u64, older: u64, stores: Stores) {
        let [of_seq, value, before] = &self.words[seq as usize - 1];
        of_seq.store(seq, Relaxed);
        value.store(seq * 10, Relaxed);
        before.store(older, Relaxed);
        let array = self.array.load(Relaxed);
        self.slots[array].store(seq, stores.slot);
        self.visible_seq.store(seq, stores.visible);
    }

    fn grow(&self, stores: Stores) {
        self.slots[1].store(self.slots[0].load(Relaxed), Relaxed);
        self.array.store(1, stores.array);
    }

    /// The value at the visible sequence.
    fn check(&self) {
        let seq = self.visible_seq.load(Acquire);
        let array = self.array.load(Acquire);
        let mut number = self.slots[array].load(Acquire);
        while number != 0 {
            let [of_seq, value, before] = &self.words[number as usize - 1];
            let written = of_seq.load(Relaxed);
            assert_eq!(written, number, "a version that is not whole");
            assert_eq!(value.load(Relaxed), number * 10);
            if written <= seq {
                break;
            }
            number = before.load(Relaxed);
        }
        assert_eq!(number, seq, "not what was written at {seq}");
    }
}

fn table_is_read_whole(stores: Stores) {
    let table = Arc::new(Table::default());
    let writing = table.clone();
    let writer = thread::spawn(move || {
        writing.write(1, 0, stores);
        writing.grow(stores);
        writing.write(2, 1, stores);
    });
    table.check();
    writer.join().unwrap();
}

const AS_WRITTEN: Stores = Stores {
    slot: Release,
    array: Release,
    visible: Release,
};

#[test]
fn versions_are_whole_for_who_reads_a_slot() {
    loom::model(|| table_is_read_whole(AS_WRITTEN));
    for stores in [
        Stores {
            slot: Relaxed,
            ..AS_WRITTEN
        },
        Stores {
            array: Relaxed,
            ..AS_WRITTEN
        },
        Stores {
            visible: Relaxed,
            ..AS_WRITTEN
        },
    ] {
        assert!(fails(move || table_is_read_whole(stores)));
    }
}

/// `read::view` and `Generations::drop_flushed`: the generations first, then the tree. arc-swap is at least as strong.
fn views_have_no_gap(list_store: Ordering, is_list_first: bool) {
    let tree = Arc::new(AtomicU64::new(0));
    let list = Arc::new(AtomicU64::new(0));
    let (to_tree, from_list) = (tree.clone(), list.clone());
    let flusher = thread::spawn(move || {
        to_tree.store(1, Release);
        from_list.store(1, list_store);
    });
    // The first sequence that the generations hold no more, and the last that the tree has.
    let (oldest, flushed) = if is_list_first {
        let oldest = list.load(Acquire);
        (oldest, tree.load(Acquire))
    } else {
        let flushed = tree.load(Acquire);
        (list.load(Acquire), flushed)
    };
    assert!(oldest <= flushed, "neither has it");
    flusher.join().unwrap();
}

#[test]
fn a_view_takes_the_generations_first() {
    loom::model(|| views_have_no_gap(Release, true));
    assert!(fails(|| views_have_no_gap(Relaxed, true)));
    assert!(fails(|| views_have_no_gap(Release, false)));
}

/// `read::lookup` at the newest sequence, beside a bulk load (`committer::show_load`): the count of loads before and after.
fn loads_are_seen_whole(is_counted_first: bool) {
    let tree = Arc::new(AtomicU64::new(0));
    let load_count = Arc::new(AtomicU64::new(0));
    let visible_seq = Arc::new(AtomicU64::new(0));
    let (to_tree, counts, shows) = (tree.clone(), load_count.clone(), visible_seq.clone());
    let loader = thread::spawn(move || {
        to_tree.store(1, Release);
        if is_counted_first {
            counts.fetch_add(1, Release);
            shows.store(1, Release);
        } else {
            shows.store(1, Release);
            counts.fetch_add(1, Release);
        }
    });
    // Two tries are as good as many: nothing changes twice.
    for _ in 0..2 {
        let count = load_count.load(Acquire);
        let found = tree.load(Acquire);
        let seq = visible_seq.load(Acquire);
        if load_count.load(Acquire) == count {
            assert!(found >= seq, "visible, and not in the tree that is read");
            break;
        }
    }
    loader.join().unwrap();
}

#[test]
fn a_lookup_sees_a_bulk_load_whole_or_not() {
    loom::model(|| loads_are_seen_whole(true));
    assert!(fails(|| loads_are_seen_whole(false)));
}

/// `CommitQueue::finish` and `is_written`: who sees the number sees what was applied, without a lock.
fn done_means_applied(store: Ordering) {
    let applied = Arc::new(AtomicU64::new(0));
    let done_number = Arc::new(AtomicU64::new(0));
    let (applies, finishes) = (applied.clone(), done_number.clone());
    let leader = thread::spawn(move || {
        applies.store(1, Relaxed);
        finishes.store(1, store);
    });
    if done_number.load(Acquire) >= 1 {
        assert_eq!(applied.load(Relaxed), 1, "acknowledged, and not applied");
    }
    leader.join().unwrap();
}

#[test]
fn what_is_done_is_applied() {
    loom::model(|| done_means_applied(Release));
    assert!(fails(|| done_means_applied(Relaxed)));
}

/// `raw::counted` and `raw::extent`: who lets go last frees, and sees what all others did.
fn the_last_frees(release: Ordering, acquires: bool) {
    struct Counted(AtomicUsize, UnsafeCell<u64>);
    let counted = Arc::new(Counted(AtomicUsize::new(2), UnsafeCell::new(0)));
    let let_go = move |counted: &Counted| {
        // What it was held for.
        counted.1.with(std::hint::black_box);
        if counted.0.fetch_sub(1, release) == 1 {
            if acquires {
                fence(Acquire);
            }
            counted.1.with_mut(std::hint::black_box);
        }
    };
    let other = counted.clone();
    let thread = thread::spawn(move || let_go(&other));
    let_go(&counted);
    thread.join().unwrap();
}

#[test]
fn who_lets_go_last_frees_alone() {
    loom::model(|| the_last_frees(Release, true));
    assert!(fails(|| the_last_frees(Relaxed, true)));
    assert!(fails(|| the_last_frees(Release, false)));
}
