//! A client: what it holds, what it notes down, and which operation it does how.

use std::sync::Arc;

use moonshine_engine::{CommitHandle, Error, Snapshot, Table};

use super::acknowledged::note;
use super::outcome::{Step, Stop};
use super::process::{Process, tables};
use super::reads::Parked;
use super::transactions::Open;
use crate::model::attempt::{Attempt, End};
use crate::model::observation::Observation;
use crate::model::tables::PEOPLE;
use crate::plan::operation::{Kind, Operation};
use crate::random::Stream;

/// Snapshots, scans and transactions that a client keeps at most, each.
const KEPT_MAX: usize = 3;

/// A client of a database.
#[derive(Debug)]
pub(super) struct Client {
    /// Which one it is.
    pub(super) number: usize,
    /// The process that it is in.
    pub(super) process: Arc<Process>,
    /// The tables as it took them.
    pub(super) tables: Vec<Table>,
    /// Snapshots that it keeps.
    pub(super) held: Vec<Snapshot>,
    /// Scans that it put aside.
    pub(super) parked: Vec<Parked>,
    /// Transactions that it has open.
    pub(super) open: Vec<Open>,
    /// Transactions that it submitted and did not wait for.
    pub(super) submitted: Vec<(Attempt, bool, CommitHandle)>,
    /// The last transaction of its source that it submitted, since the start.
    pub(super) position: Option<u64>,
    /// Transactions that came to an end.
    pub(super) attempts: Vec<Attempt>,
    /// What it read.
    pub(super) observations: Vec<Observation>,
}

impl Client {
    /// A client that holds nothing.
    pub(super) fn new(number: usize, process: Arc<Process>) -> Self {
        let tables = tables(&process.database, &process.config);
        Client {
            number,
            process,
            position: None,
            tables,
            held: Vec::new(),
            parked: Vec::new(),
            open: Vec::new(),
            submitted: Vec::new(),
            attempts: Vec::new(),
            observations: Vec::new(),
        }
    }

    /// Does its operations, up to the death of the process; then waits for what it submitted.
    ///
    /// # Errors
    /// Only violations.
    pub(super) fn run(&mut self, operations: &[Operation]) -> Step {
        for operation in operations {
            let process = self.process.clone();
            process.say(format!("{operation:?}"));
            match self.step(operation) {
                Ok(()) | Err(Stop::Explained) => {}
                Err(Stop::Dead) => break,
                Err(violation) => return Err(violation),
            }
        }
        self.wait_for_all()
    }

    fn step(&mut self, operation: &Operation) -> Step {
        let number = operation.number;
        let mut stream = Stream::new(self.process.seed, "operation", number as u64);
        match operation.kind {
            Kind::Write => self.write(number, &mut stream),
            Kind::Pipeline => self.pipeline(number, &mut stream),
            Kind::Begin => self.begin(number, &mut stream),
            Kind::Finish => self.finish(number, &mut stream),
            Kind::Read => self.read_newest(number, &mut stream),
            Kind::Hold => {
                let snapshot = self.process.snapshot(number)?;
                self.pin_down(number, &snapshot)?;
                self.held.push(snapshot);
                if self.held.len() > KEPT_MAX {
                    self.held.remove(0);
                }
                Ok(())
            }
            Kind::ReadHeld => self.read_held(number, &mut stream),
            Kind::Release => {
                if !self.held.is_empty() {
                    let at = stream.below(self.held.len() as u64) as usize;
                    self.held.swap_remove(at);
                }
                Ok(())
            }
            Kind::Park => {
                if self.parked.len() >= KEPT_MAX {
                    let oldest = self.parked.remove(0);
                    self.end_parked(oldest, false);
                }
                self.park(number, &mut stream)
            }
            Kind::Resume => self.resume(number, &mut stream),
            Kind::Pairs => self.pairs(number, &mut stream),
            Kind::Ingest => self.ingest(number, &mut stream),
            Kind::Sync => self.sync(number),
            Kind::Flush => {
                let flushed = self.process.database.flush();
                self.process.expect(number, "a flush", flushed)
            }
            Kind::Compact => {
                let compacted = self.process.database.compact();
                self.process.expect(number, "a compaction", compacted)
            }
            Kind::Load => self.load(number, &mut stream),
            Kind::Alter => self.alter(number, &mut stream),
            Kind::Backup => self.backup(number),
            Kind::Figures => self.figures(number),
            Kind::Tick | Kind::Maintain | Kind::TakeOver => {
                self.export(number, operation.kind, &mut stream)
            }
            of_world => unreachable!("the world does {of_world:?}"),
        }
    }

    fn sync(&mut self, number: usize) -> Step {
        let visible_seq = self.process.snapshot(number)?.seq();
        let synced = self.process.database.sync();
        self.process.expect(number, "a sync", synced)?;
        self.process.note_durable(visible_seq);
        let durable_seq = self.process.durable_seq(number)?;
        if durable_seq < visible_seq {
            return Err(Stop::violation(
                "durable",
                number,
                format!("{durable_seq} is durable after a sync at {visible_seq}"),
            ));
        }
        Ok(())
    }

    /// Waits for what it submitted; whatever happens, each comes to an end.
    pub(super) fn wait_for_all(&mut self) -> Step {
        for (attempt, is_synced, handle) in std::mem::take(&mut self.submitted) {
            match self.wait(attempt, is_synced, handle) {
                Ok(()) | Err(Stop::Explained | Stop::Dead) => {}
                Err(violation) => return Err(violation),
            }
        }
        if self.position.is_some() {
            match self.wait_for_submitted(0) {
                Ok(()) | Err(Stop::Explained | Stop::Dead) => {}
                Err(violation) => return Err(violation),
            }
        }
        Ok(())
    }

    pub(super) fn wait(
        &mut self,
        mut attempt: Attempt,
        is_synced: bool,
        handle: CommitHandle,
    ) -> Step {
        attempt.seq = Some(handle.seq());
        let answer = handle.wait();
        self.note_end(attempt, is_synced, answer)
    }

    /// Notes what became of a transaction.
    pub(super) fn note_end(
        &mut self,
        mut attempt: Attempt,
        is_synced: bool,
        answer: Result<u64, Error>,
    ) -> Step {
        let operation = attempt.operation;
        let process = self.process.clone();
        process.say(format!("operation {operation}: {answer:?}"));
        let mut ended = Ok(());
        match &answer {
            Ok(seq) => {
                note(&process.acknowledged.visible_seq, *seq);
                // Who wrote nothing was told another's sequence.
                if is_synced && !attempt.has_no_effect() {
                    process.note_durable(*seq);
                }
                attempt.seq = Some(*seq);
                attempt.end = End::Committed;
                if attempt.has_no_effect() && *seq <= attempt.after_seq {
                    // There was nothing to commit.
                    return Ok(());
                }
            }
            Err(Error::Conflict { .. }) => attempt.end = End::Refused,
            Err(Error::Exists { .. }) => attempt.end = End::Exists,
            Err(error) => {
                ended = Err(process.stop(operation, "a commit", error));
                // Of the latter two, whether it may be committed could not be read.
                if matches!(
                    error,
                    Error::NoSpace { .. } | Error::Io { .. } | Error::Corrupt { .. }
                ) {
                    attempt.end = End::Nothing;
                }
            }
        }
        self.attempts.push(attempt);
        ended
    }

    /// Tables are taken anew if they were changed; whoever used an old one gives its operation up.
    pub(super) fn expect_current<T>(
        &mut self,
        operation: usize,
        what: &str,
        answer: Result<T, Error>,
    ) -> Step<T> {
        if let Err(Error::SchemaChanged { table }) = &answer
            && *table == self.tables[PEOPLE].name()
        {
            self.tables = tables(&self.process.database, &self.process.config);
            return Err(Stop::Explained);
        }
        self.process.expect(operation, what, answer)
    }
}
