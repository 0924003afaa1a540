//! The process that is to die: it writes to a database and tells what was done.
//!
//! Each kind of work has a thread of its own and goes on until the process is ended. The fixed workload is the same work,
//! so many steps of each in turn on one thread, and then the process ends by itself.
//!
//! Lines that it tells, numbers in decimal: `P pid`; `R` what it found at its start; `S writer number seq durability` for what
//! is submitted and `A …` for what is acknowledged; `C k seq durability` a link of the chain; `L number seq` a bulk load;
//! `E step`; `D seq` all up to there is durable; `K folder seq` a backup, `k folder` before it goes; `X …` an export, see
//! [`crate::lake`]; `F text` an error that ended a thread; `Z calls` at the end.

mod export;
mod keep;
mod tables;
mod work;
mod write;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use moonshine_engine::{Database, Error, Options, Result};
use uuid::Uuid;

use crate::fuse::{Fuse, Trigger};
use crate::verify::state_of;
use crate::workload::{WRITERS, draw};
pub(crate) use export::ids_and_numbers;
pub use tables::Tables;
use work::Work;
pub(crate) use write::column_name;

/// How long a thread waits after it found no space.
const NO_SPACE_PAUSE: Duration = Duration::from_millis(5);
/// How often it tries again.
const NO_SPACE_TRIES: u32 = 40;

/// What the process is told when it is started.
#[derive(Clone, Debug, clap::Args)]
pub struct Flags {
    /// The database's folder; backups go beside it.
    #[arg(long)]
    pub folder: PathBuf,
    /// What is written follows from it.
    #[arg(long)]
    pub seed: u64,
    /// Makes what it draws for itself differ from that of other processes with the same folder.
    #[arg(long, default_value_t = 0)]
    pub run: u64,
    /// What happens at which call, as `17:before`.
    #[arg(long)]
    pub at: Option<Trigger>,
    /// So many rounds of all work on one thread, instead of threads without an end.
    #[arg(long)]
    pub rounds: Option<u64>,
    /// One transaction of a writer at a time: what is refused for want of space is then the last.
    #[arg(long)]
    pub alone: bool,
    /// Leaves out syncs of files whose name ends so.
    #[arg(long)]
    pub forget_syncs: Option<String>,
    /// Tells that a writer's transaction is done before it is.
    #[arg(long)]
    pub early: bool,
    /// Ids of the exports that the catalog took, separated by commas.
    #[arg(long, value_delimiter = ',')]
    pub landed: Vec<Uuid>,
}

/// What the threads share.
#[derive(Debug)]
struct Child {
    flags: Flags,
    database: Database,
    tables: Tables,
    /// Exports that the catalog took.
    landed: Mutex<BTreeSet<Uuid>>,
    /// The newest commit sequence that was acknowledged.
    acknowledged_seq: AtomicU64,
}

/// Tells one line. The pipe is written to at once, so that it outlives the process.
fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody listens any more: nothing that is done counts then.
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(3);
    }
}

/// Small ones, so that little work has many files; they differ by seed.
pub fn options(seed: u64, fuse: Fuse) -> Options {
    let size = 1 << (draw(seed, &[4]) % 7);
    Options {
        memory_budget_bytes: 20_000 * size,
        segment_size_bytes_max: Some(40_000 * size),
        io: Arc::new(fuse),
        ..Options::unmeasured()
    }
}

/// Runs the process to its end; the exit code.
pub fn run(flags: Flags) -> u8 {
    tell(&format!("P {}", std::process::id()));
    let fuse = Fuse::new(flags.at, flags.forget_syncs.clone());
    let rounds = flags.rounds;
    match open(flags, fuse.clone()) {
        Ok(child) => {
            match rounds {
                Some(rounds) => child.run_rounds(rounds),
                None => child.run_threads(),
            }
            drop(child);
            tell(&format!("Z {}", fuse.call_count()));
            0
        }
        Err(error) => {
            tell(&format!("F open: {error}"));
            2
        }
    }
}

fn open(flags: Flags, fuse: Fuse) -> Result<Child> {
    let database = Database::open(&flags.folder, options(flags.seed, fuse))?;
    let tables = Tables::create(&database)?;
    let state = state_of(&database, &tables)?;
    tell(&state.to_line());
    Ok(Child {
        landed: Mutex::new(flags.landed.iter().copied().collect()),
        acknowledged_seq: AtomicU64::new(state.seq),
        flags,
        tables,
        database,
    })
}

impl Child {
    fn all_work(&self) -> Result<Vec<Box<dyn Work>>> {
        let state = state_of(&self.database, &self.tables)?;
        let mut all: Vec<Box<dyn Work>> = Vec::new();
        for writer in 0..WRITERS {
            all.push(Box::new(write::Writer::new(writer, state.progress[writer])));
        }
        all.push(Box::new(write::Chain::default()));
        all.push(Box::new(write::Loader::new(state.loads)));
        all.push(Box::new(write::Evolver::new(state.steps)));
        all.push(Box::new(export::Exporter::default()));
        all.push(Box::new(keep::Keeper::default()));
        if self.flags.rounds.is_none() {
            all.push(Box::new(write::Chain::default()));
        }
        Ok(all)
    }

    fn run_rounds(&self, rounds: u64) {
        let Some(mut all) = self.told(self.all_work()) else {
            return;
        };
        for _ in 0..rounds {
            for work in &mut all {
                if !self.step(&mut **work) {
                    return;
                }
            }
        }
    }

    fn run_threads(&self) {
        let Some(all) = self.told(self.all_work()) else {
            return;
        };
        std::thread::scope(|scope| {
            for mut work in all {
                scope.spawn(move || {
                    while self.step(&mut *work) {
                        std::thread::sleep(work.pause());
                    }
                });
            }
        });
    }

    fn told<T>(&self, result: Result<T>) -> Option<T> {
        result
            .map_err(|error| tell(&format!("F start: {error}")))
            .ok()
    }

    /// A step of some work, again and again where it says that this may help; whether to go on.
    fn step(&self, work: &mut dyn Work) -> bool {
        for _ in 0..NO_SPACE_TRIES {
            match work.step(self) {
                Ok(()) | Err(Error::Conflict { .. }) => return true,
                Err(Error::NoSpace { .. }) => std::thread::sleep(NO_SPACE_PAUSE),
                Err(error) => {
                    tell(&format!("F {}: {error}", work.name()));
                    return false;
                }
            }
        }
        tell(&format!("F {}: no space for long", work.name()));
        false
    }

    fn acknowledged(&self, seq: u64) {
        self.acknowledged_seq.fetch_max(seq, Ordering::SeqCst);
    }

    /// A number drawn for this process.
    fn draw(&self, what: &[u64]) -> u64 {
        draw(self.flags.seed ^ self.flags.run << 32, what)
    }
}
