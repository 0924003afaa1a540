//! Readers: scans that check whole snapshots, snapshots that are held for long, gets, and backups that are opened.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use moonshine_engine::{Database, Options, ScanOrder, Snapshot, Value};
use moonshine_sim_runtime::Random;

use crate::content::text;
use crate::phases::Phase;
use crate::run::{Done, Run, Work};
use crate::tables::{self, KEY_SPAN, Tables};

const ORDERS: [ScanOrder; 3] = [
    ScanOrder::Unordered,
    ScanOrder::Ascending,
    ScanOrder::Descending,
];
/// The longest that a snapshot is held while nothing else is tried.
const HOLD_MAX_MS: usize = 8000;
/// While snapshots are held, so often another one is taken, and no more than that.
const HOLD_EVERY: Duration = Duration::from_millis(200);
const HELD_MAX: usize = 200;
const BACKUP_PAUSE: Duration = Duration::from_secs(4);
/// One of so many backups is opened and read.
const READ_EVERY: u64 = 3;
/// What a backup is read with.
const BACKUP_BUDGET_BYTES: u64 = 16 << 20;

/// Scans of a new snapshot each time.
#[derive(Debug)]
pub(crate) struct Scans(pub(crate) Random);

impl Work for Scans {
    fn name(&self) -> &'static str {
        "scans"
    }

    fn pause(&self) -> Duration {
        Duration::from_millis(100)
    }

    fn step(&mut self, run: &Run) -> Done {
        let order = ORDERS[self.0.below(ORDERS.len())];
        let snapshot = run.database.snapshot();
        let rows = tables::check(&snapshot, &run.tables, run.writers, order)??;
        run.count("scans", 1);
        run.count("rows scanned", rows as u64);
        Ok(())
    }
}

/// A snapshot that is held and then read: what it holds may not have moved.
#[derive(Debug)]
pub(crate) struct Holder(pub(crate) Random);

impl Holder {
    fn read(&mut self, run: &Run, snapshot: &Snapshot) -> Done {
        let order = ORDERS[self.0.below(ORDERS.len())];
        tables::check(snapshot, &run.tables, run.writers, order)??;
        run.count("held snapshots", 1);
        Ok(())
    }
}

impl Work for Holder {
    fn name(&self) -> &'static str {
        "held snapshots"
    }

    fn step(&mut self, run: &Run) -> Done {
        let mut held = vec![run.database.snapshot()];
        if run.phase() == Phase::Held {
            while run.phase() == Phase::Held && !run.is_over() {
                run.sleep(HOLD_EVERY);
                if held.len() < HELD_MAX {
                    held.push(run.database.snapshot());
                }
            }
            let middle = held.len() / 2;
            self.read(run, &held[middle])?;
        } else {
            let until = Instant::now() + Duration::from_millis(self.0.below(HOLD_MAX_MS) as u64);
            while Instant::now() < until && run.phase() != Phase::Held && !run.is_over() {
                run.sleep(HOLD_EVERY);
            }
        }
        self.read(run, &held[0])
    }
}

/// Gets of single rows, which must be whole.
#[derive(Debug)]
pub(crate) struct Gets(pub Random);

impl Work for Gets {
    fn name(&self) -> &'static str {
        "gets"
    }

    fn step(&mut self, run: &Run) -> Done {
        const GETS: u64 = 200;
        let snapshot = run.database.snapshot();
        for _ in 0..GETS {
            let writer = self.0.below(run.writers);
            let id = writer as i64 * KEY_SPAN + self.0.below(run.keys as usize) as i64;
            let row = snapshot.get(run.tables.of_writer(writer), &[Value::Int64(id)])?;
            match row.as_deref() {
                None => {}
                Some(
                    [
                        Value::Int64(found),
                        Value::Int64(number),
                        Value::Binary(bytes),
                    ],
                ) if *found == id && *bytes == text(id, *number) => {}
                other => return Err(format!("key {id}: {other:?}").into()),
            }
        }
        run.count("gets", GETS);
        Ok(())
    }
}

/// Backups, of which some are opened and read whole.
#[derive(Debug, Default)]
pub(crate) struct Backups {
    number: u64,
}

impl Work for Backups {
    fn name(&self) -> &'static str {
        "backups"
    }

    fn pause(&self) -> Duration {
        BACKUP_PAUSE
    }

    fn step(&mut self, run: &Run) -> Done {
        let folder = run.place.join("backup");
        let made = run.database.backup(&folder)?;
        self.number += 1;
        run.count("backups", 1);
        let mut read = Ok(());
        if self.number.is_multiple_of(READ_EVERY) {
            read = read_elsewhere(&folder, run.writers, made.commit_seq);
            run.count("backups read", 1);
        }
        let removed = std::fs::remove_dir_all(&folder);
        removed.map_err(|error| format!("removing a backup: {error}"))?;
        Ok(read?)
    }
}

/// Has another process read a backup: what it takes is not this one's.
fn read_elsewhere(folder: &Path, writers: usize, seq: u64) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let ran = Command::new(program)
        .args([
            "--writers",
            &writers.to_string(),
            "--commit-seq",
            &seq.to_string(),
            "--read-backup",
        ])
        .arg(folder)
        .output()
        .map_err(|error| format!("reading a backup: {error}"))?;
    match ran.status.success() {
        true => Ok(()),
        false => Err(format!(
            "a backup: {}",
            String::from_utf8_lossy(&ran.stderr)
        )),
    }
}

/// Reads a backup whole.
///
/// # Errors
/// In words, what is wrong.
pub(crate) fn read_backup(folder: &Path, writers: usize, seq: u64) -> Result<(), String> {
    let said = |error: moonshine_engine::Error| error.to_string();
    let options = Options {
        memory_budget_bytes: BACKUP_BUDGET_BYTES,
        ..Options::unmeasured()
    };
    let copy = Database::open_read_only(folder, options).map_err(said)?;
    let (snapshot, tables) = (copy.snapshot(), Tables::create(&copy).map_err(said)?);
    if snapshot.seq() != seq {
        return Err(format!("a backup of {seq} is of {}", snapshot.seq()));
    }
    let checked = tables::check(&snapshot, &tables, writers, ScanOrder::Unordered);
    checked.map_err(said)?.map(drop)
}
