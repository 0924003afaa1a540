//! What the threads of a run share, and how one of them goes on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use moonshine_crash::fuse::Fuse;
use moonshine_engine::{Database, Error};
use parking_lot::Mutex;

use crate::phases::Phase;
use crate::tables::Tables;

/// How long a thread waits that found no space.
const NO_SPACE_PAUSE: Duration = Duration::from_millis(5);
/// A thread that has nothing to do looks so often whether all is over.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What all threads share.
#[derive(Debug)]
pub(crate) struct Run {
    /// The database.
    pub(crate) database: Database,
    /// Its tables.
    pub(crate) tables: Tables,
    /// Between the database and its files.
    pub(crate) fuse: Fuse,
    /// Holds the database, its backups and the warehouse.
    pub(crate) place: PathBuf,
    /// How many writers with keys of their own there are.
    pub(crate) writers: usize,
    /// Keys of each.
    pub(crate) keys: i64,
    /// All that is drawn follows from it.
    pub(crate) seed: u64,
    phase: AtomicUsize,
    is_over: AtomicBool,
    failure: Mutex<Option<String>>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    /// How long writers spent in commits, in nanoseconds.
    pub(crate) commit_ns: AtomicU64,
}

/// Why a step was not done.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// There is no space: it can be tried again.
    NoSpace,
    /// Another transaction was there first: it can be tried again.
    Conflict,
    /// What must not be, in words.
    Failed(String),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        match error {
            Error::NoSpace { .. } => Trouble::NoSpace,
            Error::Conflict { .. } => Trouble::Conflict,
            error => Trouble::Failed(error.to_string()),
        }
    }
}

impl From<String> for Trouble {
    fn from(why: String) -> Self {
        Trouble::Failed(why)
    }
}

/// How a step ended.
pub(crate) type Done = Result<(), Trouble>;

/// Work that goes on until the end, step by step.
pub(crate) trait Work: Send {
    /// For what is told of its failure.
    fn name(&self) -> &'static str;
    /// Between two steps.
    fn pause(&self) -> Duration {
        Duration::ZERO
    }
    /// Does one thing. A step that found no space is made again.
    ///
    /// # Errors
    /// Why it was not done.
    fn step(&mut self, run: &Run) -> Done;
}

impl Run {
    /// Before its first phase.
    pub(crate) fn new(database: Database, tables: Tables, fuse: Fuse, place: PathBuf) -> Self {
        Run {
            database,
            tables,
            fuse,
            place,
            writers: 0,
            keys: 0,
            seed: 0,
            phase: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
            failure: Mutex::new(None),
            counts: Mutex::default(),
            commit_ns: AtomicU64::new(0),
        }
    }

    /// What goes on now.
    pub(crate) fn phase(&self) -> Phase {
        Phase::ALL[self.phase.load(Ordering::SeqCst)]
    }

    /// Begins a phase.
    pub(crate) fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as usize, Ordering::SeqCst);
    }

    /// Whether threads are to end.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// Has the threads end.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
    }

    /// Notes what must not be, and has the threads end.
    pub(crate) fn fail(&self, why: String) {
        let mut failure = self.failure.lock();
        if failure.is_none() {
            *failure = Some(why);
        }
        self.end();
    }

    /// What must not be, if it was.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.lock().clone()
    }

    /// Counts what was done.
    pub(crate) fn count(&self, what: &'static str, number: u64) {
        *self.counts.lock().entry(what).or_default() += number;
    }

    /// What was done.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.counts.lock().clone()
    }

    /// Works until the end.
    pub(crate) fn work(&self, work: &mut dyn Work) {
        while !self.is_over() {
            let pause = match work.step(self) {
                Ok(()) => work.pause(),
                Err(Trouble::Conflict) => Duration::ZERO,
                Err(Trouble::NoSpace) if self.phase().may_lack_space() => {
                    self.count("refusals for want of space", 1);
                    NO_SPACE_PAUSE
                }
                Err(Trouble::NoSpace) => {
                    return self.fail(format!("{}: no space", work.name()));
                }
                Err(Trouble::Failed(why)) => {
                    return self.fail(format!(
                        "{} in phase {:?}: {why}",
                        work.name(),
                        self.phase()
                    ));
                }
            };
            self.sleep(pause);
        }
    }

    /// Waits that long, or until the end.
    pub(crate) fn sleep(&self, mut pause: Duration) {
        while !pause.is_zero() && !self.is_over() {
            let part = pause.min(LOOK_EVERY);
            std::thread::sleep(part);
            pause -= part;
        }
    }
}
