//! Backs a database up while it is written to, checks the backup, and restores it.
//!
//! `cargo run -p moonshine-engine --example backup -- [FOLDER]`; without a folder, in one that goes again.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use moonshine_engine::{Database, Error, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let temporary = tempfile::tempdir()?;
    let parent = std::env::args().nth(1).map(PathBuf::from);
    let parent = parent.unwrap_or_else(|| temporary.path().to_owned());
    let options = Options::unmeasured();
    let database = Database::open(parent.join("data"), options.clone())?;
    let visits = database.keyspace("visits")?;

    // A writer goes on all the time: visit n is the newest, and "last" says n with it, in one transaction.
    let done = AtomicBool::new(false);
    let backup = std::thread::scope(|scope| {
        let writer = scope.spawn(|| -> Result<(), Error> {
            for n in (0_u64..).take_while(|_| !done.load(Ordering::Relaxed)) {
                let mut batch = visits.batch();
                batch.insert(n.to_be_bytes(), "a visit")?;
                batch.insert("last", n.to_be_bytes())?;
                batch.commit()?;
            }
            Ok(())
        });
        while visits.get("last")?.is_none() {
            std::thread::yield_now();
        }
        database.flush()?;
        let backup = database.backup(parent.join("backup"));
        done.store(true, Ordering::Relaxed);
        match writer.join() {
            Ok(written) => written?,
            Err(panic) => std::panic::resume_unwind(panic),
        }
        backup
    })?;
    println!(
        "commit {}: {} files linked, {} copied ({} bytes)",
        backup.commit_seq, backup.linked_files, backup.copied_files, backup.copied_bytes
    );

    let check = Database::check(&backup.folder, &options)?;
    println!(
        "{} bytes checked, {} problems",
        check.checked_bytes,
        check.problems.len()
    );

    // On another disk, say: every file of the copy is read and checked.
    let restored = Database::restore(&backup.folder, parent.join("restored"), &options)?;
    let copy = Database::open(&restored.folder, options)?;
    let visits = copy.keyspace("visits")?;
    let last = visits.get("last")?.ok_or("the backup is empty")?;
    if visits.get(&last)?.is_none() {
        return Err("the backup holds half a transaction".into());
    }
    println!(
        "the last visit of the copy is {}",
        u64::from_be_bytes(last.as_ref().try_into()?)
    );
    Ok(())
}
