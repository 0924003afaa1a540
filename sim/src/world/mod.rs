//! The simulated world: a disk, a database that is opened on it again and again, and clients that use it.
//!
//! Operations that follow one another and are of clients are a *round*: each client does its own in order, and all of them
//! side by side. Then everybody has come to a rest, and the model is asked whether what they heard and read can be. Between
//! rounds the world does what is of nobody (`faults`): it reopens the database, lets the process die (`start`), breaks the
//! disk. A [`process`] dies by its [`disk`], which may be at any call in a round, in a close or in a start.

pub mod acknowledged;
mod client;
mod damage;
pub mod disk;
mod duties;
mod faults;
mod keyspace;
#[cfg(feature = "lake")]
pub mod lakeside;
#[cfg(not(feature = "lake"))]
#[path = "no_lake.rs"]
pub mod lakeside;
pub mod outcome;
pub mod process;
mod reads;
mod source;
mod start;
mod task;
mod transactions;
pub mod writes;

use std::collections::BTreeMap;
use std::sync::Arc;

use moonshine_engine::Database;
use moonshine_engine::io::SimulatedIo;
use parking_lot::Mutex;

use client::Client;
use lakeside::Lakeside;
use outcome::{Step, Stop, Violation};
use process::{FOLDER, Process, options};

use crate::model::attempt::Attempt;
use crate::model::history::{History, Recovered, Round};
use crate::model::observation::Observation;
use crate::plan::Plan;
use crate::plan::operation::Operation;
use crate::random::Stream;
use crate::trace::Trace;

/// How a simulation went.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What was wrong, if anything.
    pub violation: Option<Violation>,
    /// A hash of all that happened, where it follows from the seed alone.
    pub hash: Option<u64>,
    /// If anything was wrong, the last steps, in words.
    pub steps: Vec<String>,
    /// How often each thing was done and each fault was injected, by name.
    pub counts: BTreeMap<&'static str, u64>,
}

impl Report {
    fn count(&mut self, what: &'static str) {
        self.add(what, 1);
    }

    fn add(&mut self, what: &'static str, count: u64) {
        *self.counts.entry(what).or_default() += count;
    }
}

/// Everything there is in a simulation.
struct World<'p> {
    plan: &'p Plan,
    /// `None` between two processes.
    process: Option<Arc<Process>>,
    clients: Vec<Client>,
    /// What clients of a process that is gone noted.
    left_over: Vec<(Vec<Attempt>, Vec<Observation>)>,
    history: History,
    report: Report,
    trace: Arc<Trace>,
    /// The disk is broken, and has to be replaced or mended when the round is over.
    breakage: Option<faults::Breakage>,
    lakeside: Option<Lakeside>,
}

/// Does what a plan says.
pub fn run(plan: &Plan, is_verbose: bool) -> Report {
    let mut world = World {
        plan,
        process: None,
        clients: Vec::new(),
        left_over: Vec::new(),
        history: History::default(),
        report: Report::default(),
        trace: Arc::new(Trace::new(is_verbose)),
        breakage: None,
        lakeside: Lakeside::of(plan),
    };
    match world.live() {
        Ok(()) => {}
        Err(Stop::Violation(violation)) => world.report.violation = Some(violation),
        Err(Stop::Dead | Stop::Explained) => {
            world.report.violation = Some(Violation {
                check: "world",
                operation: None,
                detail: "the world ended without a reason".into(),
            });
        }
    }
    if world.report.violation.is_some() {
        world.report.steps = world.trace.steps();
    }
    world.report
}

impl World<'_> {
    fn live(&mut self) -> Step {
        self.begin(SimulatedIo::new(self.plan.seed))?;
        let mut round = Vec::new();
        let plan = self.plan;
        for operation in &plan.operations {
            self.report.count(operation.kind.name());
            if operation.kind.is_of_world() {
                self.round(&std::mem::take(&mut round))?;
                self.intervene(operation)?;
            } else {
                round.push(*operation);
            }
        }
        self.round(&round)?;
        self.end()
    }

    fn process(&self) -> Arc<Process> {
        self.process.clone().unwrap()
    }

    /// A stream of random numbers of what the world does around an operation.
    fn stream(&self, operation: usize) -> Stream {
        Stream::new(self.plan.seed, "world", operation as u64)
    }

    /// Clients do their operations, and come to a rest.
    fn round(&mut self, operations: &[Operation]) -> Step {
        let clients = std::mem::take(&mut self.clients);
        let ended: Arc<Mutex<Vec<(usize, Client, Step)>>> = Arc::default();
        let mut work: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
        for (number, mut client) in clients.into_iter().enumerate() {
            let own = operations.iter().filter(|one| one.client == number);
            let own: Vec<Operation> = own.copied().collect();
            let ended = ended.clone();
            work.push(Box::new(move || {
                let step = client.run(&own);
                ended.lock().push((number, client, step));
            }));
        }
        match work.len() {
            1 => work.into_iter().for_each(|one| one()),
            _ => task::together(work),
        }
        let mut ended = std::mem::take(&mut *ended.lock());
        ended.sort_by_key(|(number, ..)| *number);
        for (_, client, step) in ended {
            step?;
            self.clients.push(client);
        }
        if let Some(breakage) = self.breakage.take() {
            self.mend(breakage, operations)?;
        }
        let last = operations.last().map_or(0, |last| last.number);
        if self.process().disk.is_dead() {
            return self.bury(last);
        }
        // Where a client did not learn its sequence several orders may explain the round; what is there now leaves the true one.
        let mut attempts = self.clients.iter().flat_map(|client| &client.attempts);
        if attempts.any(|attempt| attempt.seq.is_none()) {
            match self.read_everything(last) {
                Err(Stop::Dead) => return self.bury(last),
                Ok(()) | Err(Stop::Explained) => {}
                Err(other) => return Err(other),
            }
        }
        let visible_seq = self.process().database.snapshot().seq();
        self.take(None, Some(visible_seq))?;
        self.check_lake(last)
    }

    /// Has the model look at what clients heard and read.
    fn take(&mut self, recovered: Option<Recovered>, visible_seq: Option<u64>) -> Step {
        let mut round = Round {
            recovered,
            visible_seq,
            ..Round::default()
        };
        for client in &mut self.clients {
            round.attempts.append(&mut client.attempts);
            round.observations.append(&mut client.observations);
        }
        round.attempts.extend(self.empty_deltas());
        self.history.take(round).map_err(|detail| {
            Stop::Violation(Violation {
                check: "model",
                operation: None,
                detail,
            })
        })
    }

    /// Everything that can be read is read, in every way, and compared.
    fn settle(&mut self, operation: usize) -> Step {
        let read = self.read_everything(operation);
        match read {
            Ok(()) => {}
            Err(Stop::Dead) => return self.bury(operation),
            Err(other) => return Err(other),
        }
        let visible_seq = self.process().database.snapshot().seq();
        self.take(None, Some(visible_seq))
    }

    fn read_everything(&mut self, operation: usize) -> Step {
        let process = self.process();
        let snapshot = process.snapshot(operation)?;
        let client = &mut self.clients[0];
        client.tables = process::tables(&process.database, &process.config);
        client.read_all(operation, &snapshot)?;
        for client in &mut self.clients {
            for held in client.held.clone() {
                let read = client.read_all(operation, &held);
                match read {
                    Err(Stop::Explained) | Ok(()) => {}
                    Err(other) => return Err(other),
                }
            }
        }
        process.durable_seq(operation)?;
        Ok(())
    }

    /// Nothing on disk is wrong, beside whoever writes.
    fn check_folder(&mut self, operation: usize) -> Step {
        let process = self.process();
        let options = options(&process.config, Arc::new(process.disk.clone()));
        let checked = Database::check(FOLDER, &options);
        let check = match process.expect(operation, "a check", checked) {
            Ok(check) => check,
            Err(Stop::Dead) => return Ok(()),
            Err(other) => return Err(other),
        };
        if process.disk.is_dead() || check.problems.is_empty() {
            return Ok(());
        }
        let problems = check.problems.iter().map(ToString::to_string);
        let problems: Vec<String> = problems.collect();
        Err(Stop::violation("check", operation, problems.join("; ")))
    }

    /// In the end everything settles, is closed, and is found again.
    fn end(&mut self) -> Step {
        let last = self.plan.config.operation_count;
        self.process().disk.plan(None);
        self.settle(last)?;
        self.end_lake(last)?;
        self.reopen(last)?;
        self.process().disk.plan(None);
        self.settle(last)?;
        self.check_folder(last)?;
        self.clients.clear();
        let process = self.process();
        self.host_of_end(&process);
        self.process = None;
        let (disk, closed_seq) = (
            process.disk.disk().clone(),
            process.database.snapshot().seq(),
        );
        drop(process);
        self.damage(last, &disk, closed_seq)
    }
}
