//! Backups beside flushes.

use std::path::Path;

use super::small::{join, number, open, open_in, start, write_and_flush, write_both};
use crate::io::SimulatedIo;

const COMMITS: u64 = 4;
const GENERATION_SIZE_BYTES: u64 = 1 << 16;

/// A writer that flushes each time, and a backup at any moment: it opens, and holds a whole prefix.
pub(super) fn hold_a_prefix() {
    let disk = SimulatedIo::new(1);
    let database = open(&disk, GENERATION_SIZE_BYTES);
    let keyspace = database.keyspace("numbers").expect("the disk is sound");
    write_both(&keyspace, 1);
    let (written, flushed) = (keyspace.clone(), database.clone());
    let writer = start(move || {
        write_and_flush(&flushed, &written, COMMITS);
    });
    let saved = database.clone();
    let saver = start(move || {
        let seen = number(keyspace.get("x").expect("it is read").as_deref());
        saved.backup(Path::new("/copy")).expect("the disk is sound");
        let copy = open_in("/copy", &disk, GENERATION_SIZE_BYTES);
        let keyspace = copy.keyspace("numbers").expect("the disk is sound");
        let read = |key| number(keyspace.get(key).expect("it is read").as_deref());
        let found = ["x", "y"].map(read);
        assert_eq!(found[0], found[1], "half of a transaction");
        assert!(found[0] >= seen, "it lacks what was there before it");
    });
    join(vec![writer, saver]);
    drop(database);
}
