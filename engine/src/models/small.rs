//! Small databases.

use std::path::Path;
use std::sync::Arc;

use moonshine_sysprobe::Profile;

use crate::database::Database;
use crate::io::SimulatedIo;
use crate::keyspace::Keyspace;
use crate::options::Options;
use crate::sync::thread::{Builder, JoinHandle};

/// Opens a database whose generations hold so many bytes.
pub(super) fn open(disk: &SimulatedIo, generation_size_bytes: u64) -> Database {
    open_in("/db", disk, generation_size_bytes)
}

/// The same in another folder.
pub(super) fn open_in(folder: &str, disk: &SimulatedIo, generation_size_bytes: u64) -> Database {
    let options = Options {
        io: Arc::new(disk.clone()),
        profile: Profile::given(4096, 2).into(),
        memory_budget_bytes: 1 << 20,
        generation_size_bytes_max: Some(generation_size_bytes),
        // A flush leaves a segment behind.
        segment_size_bytes_max: Some(512),
        compaction_threads: Some(1),
        ..Options::unmeasured()
    };
    Database::open(Path::new(folder), options).expect("the disk is sound")
}

/// Starts a thread.
pub(super) fn start(body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    Builder::new().spawn(body).expect("there are threads")
}

/// Waits for threads.
pub(super) fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Writes a number under two keys at once.
pub(super) fn write_both(keyspace: &Keyspace, number: u64) {
    let mut batch = keyspace.batch();
    batch
        .insert("x", number.to_le_bytes())
        .expect("a short key");
    batch
        .insert("y", number.to_le_bytes())
        .expect("a short key");
    batch.commit().expect("the disk is sound");
}

/// Writes the numbers from 2 up to one, and flushes after each.
pub(super) fn write_and_flush(database: &Database, keyspace: &Keyspace, last: u64) {
    for number in 2..=last {
        write_both(keyspace, number);
        database.flush().expect("the disk is sound");
    }
}

/// A number that is stored; 0 where there is none.
pub(super) fn number(stored: Option<&[u8]>) -> u64 {
    stored.map_or(0, |bytes| {
        u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
    })
}
