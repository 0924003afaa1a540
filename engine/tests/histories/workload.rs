//! A database on real files whose data move all the time.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use moonshine_engine::{Database, Options};

/// Opens a database whose generations hold a few dozen small transactions.
fn open(folder: &Path) -> Database {
    let options = Options {
        profile: moonshine_sysprobe::Profile::given(4096, 4).into(),
        memory_budget_bytes: 1 << 20,
        generation_size_bytes_max: Some(8000),
        segment_size_bytes_max: Some(16 << 10),
        fragment_size_bytes_max: Some(8000),
        ..Options::unmeasured()
    };
    Database::open(folder, options).unwrap()
}

/// Runs threads on a database, and closes and opens it, several times; another thread has it flushed and compacted
/// meanwhile. `run` is given the database, the thread's number, and which time it is.
pub(crate) fn run(threads: i64, times: u64, run: impl Fn(&Database, i64, u64) + Sync) {
    let folder = tempfile::tempdir().unwrap();
    for time in 0..times {
        let database = open(folder.path());
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    database.flush().unwrap();
                    std::thread::yield_now();
                    database.compact().unwrap();
                }
            });
            let workers: Vec<_> = (0..threads)
                .map(|thread| {
                    let (database, run) = (&database, &run);
                    scope.spawn(move || run(database, thread, time))
                })
                .collect();
            // The thread that flushes ends also where another one fails.
            let ended: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
            is_done.store(true, Ordering::Relaxed);
            if let Some(panic) = ended.into_iter().find_map(Result::err) {
                std::panic::resume_unwind(panic);
            }
        });
        drop(database);
    }
}
