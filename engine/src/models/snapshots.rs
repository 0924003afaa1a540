//! Snapshots beside flushes and compactions.

use super::small::{join, number, open, start, write_and_flush, write_both};
use crate::io::SimulatedIo;
use crate::keyspace::KeyspaceSnapshot;

const COMMITS: u64 = 4;

fn read(snapshot: &KeyspaceSnapshot) -> [u64; 2] {
    ["x", "y"].map(|key| number(snapshot.get(key).expect("it is read").as_deref()))
}

/// A writer that flushes and compacts each time; readers that hold, hand on and let go.
pub(super) fn are_kept_until_released() {
    let database = open(&SimulatedIo::new(1), 200);
    let keyspace = database.keyspace("numbers").expect("the disk is sound");
    write_both(&keyspace, 1);
    let (written, flushed) = (keyspace.clone(), database.clone());
    let writer = start(move || {
        write_and_flush(&flushed, &written, COMMITS);
        flushed.compact().expect("the disk is sound");
    });
    let readers = (0..2).map(|_| {
        let keyspace = keyspace.clone();
        start(move || {
            let snapshot = keyspace.snapshot();
            let seen = read(&snapshot);
            assert_eq!(seen[0], seen[1], "half of a transaction");
            let clone = snapshot.clone();
            let other = start(move || assert_eq!(read(&clone), seen, "it moved"));
            assert_eq!(read(&snapshot), seen, "it moved");
            drop(snapshot);
            join(vec![other]);
        })
    });
    let mut threads: Vec<_> = readers.collect();
    threads.push(writer);
    join(threads);
    let shared = database.shared();
    assert_eq!(shared.pins.pinned(), Vec::<u64>::new());
    assert_eq!(shared.pins.horizon_seq(), shared.pins.visible_seq());
    write_both(&keyspace, COMMITS + 1);
    database.compact().expect("the disk is sound");
    let tree = shared.tree_of(keyspace.table().id()).expect("it is there");
    let fragments = tree.fragments.fragments();
    let row_sets = fragments.iter().flat_map(|fragment| &*fragment.row_sets);
    let rows: u64 = row_sets.map(|held| held.row_set.meta().row_count).sum();
    assert_eq!(rows, 2, "versions are kept that nobody sees");
}
