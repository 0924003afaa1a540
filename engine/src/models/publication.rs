//! Generations that are frozen and flushed beside readers.

use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;

use super::small::{join, number, open, start, write_both};
use crate::cache::generations::{Frozen, Generations};
use crate::database::Database;
use crate::generation::Generation;
use crate::io::SimulatedIo;
use crate::log::segments::LogStart;
use crate::row_set::budget::MemoryBudget;
use crate::sync::{self, Point, thread};

const COMMITS: u64 = 4;

/// How often it is looked whether another thread has gone on.
const LOOKS_MAX: usize = 10_000;

fn freeze(generations: &Generations, seq_to: u64) {
    generations.freeze(Frozen {
        generation: generations.active(),
        seq_to,
        block_number: seq_to,
        log_start: LogStart {
            segment_number: 1,
            block_number: seq_to,
        },
        exports: Vec::new(),
        origins: Vec::new(),
        load: None,
    });
}

/// The list alone: one generation is flushed and dropped while another one is frozen. A generation stands for the sequences
/// after its first, up to the next one's; what is flushed for those up to a number.
pub(super) fn generations_leave_no_gap() {
    let budget = MemoryBudget::new(1 << 20);
    let generations = Arc::new(Generations::new(0, 1, 1, &budget));
    let flushed = Arc::new(ArcSwap::from_pointee(0));
    let first: Weak<Generation> = Arc::downgrade(&generations.active());
    freeze(&generations, 1);
    let writing = generations.clone();
    let writer = start(move || freeze(&writing, 2));
    let (flushing, tree) = (generations.clone(), flushed.clone());
    let flusher = start(move || {
        let frozen = flushing.next_frozen().expect("nothing ends it");
        tree.store(Arc::new(frozen.seq_to));
        sync::point(Point::Publish);
        flushing.drop_flushed(&frozen, || {});
    });
    // As a view is taken: the generations, then the tree.
    let list = generations.list().clone();
    sync::point(Point::Publish);
    let flushed_seq = **flushed.load();
    let oldest = list.last().expect("never empty");
    assert!(
        oldest.seq_from() <= flushed_seq,
        "the deltas after {flushed_seq} up to {} are nowhere",
        oldest.seq_from()
    );
    join(vec![writer, flusher]);
    let holds_first = list.iter().any(|one| one.seq_from() == 0);
    assert_eq!(first.upgrade().is_some(), holds_first, "a reader's own");
    drop(list);
    assert!(first.upgrade().is_none(), "nobody reads it any more");
    let left: Vec<u64> = generations
        .list()
        .iter()
        .map(|one| one.seq_from())
        .collect();
    assert_eq!((left, generations.frozen_count()), (vec![2, 1], 1));
}

/// A whole database whose generations hold a commit or two.
pub(super) fn readers_see_prefixes() {
    let database = open(&SimulatedIo::new(1), 200);
    let keyspace = database.keyspace("numbers").expect("the disk is sound");
    write_both(&keyspace, 1);
    let parked = keyspace.snapshot();
    let mut scan = parked.iter();
    let first = scan.next().expect("two pairs").expect("it is read");
    assert_eq!(number(Some(&first.1)), 1);
    let written = keyspace.clone();
    let writer = start(move || {
        for number in 2..=COMMITS {
            write_both(&written, number);
        }
    });
    let flushing = database.clone();
    let flusher = start(move || flushing.flush().expect("the disk is sound"));
    let read = keyspace.clone();
    let reader = start(move || {
        let mut newest = 1;
        for _ in 0..3 {
            let snapshot = read.snapshot();
            let get = |key| number(snapshot.get(key).expect("it is read").as_deref());
            let (x, y) = (get("x"), get("y"));
            assert_eq!(x, y, "half of a transaction");
            assert!(x >= newest, "a snapshot went back from {newest} to {x}");
            newest = number(read.get("y").expect("it is read").as_deref());
            assert!(newest >= x, "the newest is {newest}, after {x}");
        }
    });
    join(vec![writer, flusher, reader]);
    let second = scan.next().expect("two pairs").expect("it is read");
    assert_eq!(number(Some(&second.1)), 1, "a parked scan moved on");
    drop((scan, parked));
    database.flush().expect("the disk is sound");
    assert_eq!(database.shared().generations.list().len(), 1);
    assert_let_go(&database);
}

/// Waits until the flushed generations are gone, which the thread that flushed them lets go of soon.
fn assert_let_go(database: &Database) {
    let generations = &database.shared().generations;
    let is_let_go = (0..LOOKS_MAX).any(|_| {
        thread::yield_now();
        generations.held_bytes() == generations.size_bytes()
    });
    assert!(is_let_go, "a flushed generation is still held");
}

/// A snapshot that stays open, whose first reads meet flushes.
pub(super) fn views_let_go() {
    let database = open(&SimulatedIo::new(1), 1 << 16);
    let keyspace = database.keyspace("numbers").expect("the disk is sound");
    write_both(&keyspace, 1);
    let snapshot = keyspace.snapshot();
    write_both(&keyspace, 2);
    let flushing = database.clone();
    let flusher = start(move || flushing.flush().expect("the disk is sound"));
    let readers = (0..2).map(|_| {
        let (snapshot, shared) = (snapshot.clone(), database.shared().clone());
        start(move || {
            let found = snapshot.get("x").expect("it is read");
            assert_eq!(number(found.as_deref()), 1, "a snapshot moved on");
            // As for want of memory.
            shared.readers.let_go();
        })
    });
    join(readers.chain([flusher]).collect());
    assert_let_go(&database);
    assert_eq!(number(snapshot.get("y").expect("it is read").as_deref()), 1);
}
