//! What clients ask an exporter for.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use moonshine_export::ExportError;

use super::host::{Host, Order, Outcome, Task};
use crate::plan::operation::Kind;
use crate::random::Stream;
use crate::world::client::Client;
use crate::world::outcome::{Step, Stop};
use crate::world::process::Process;

/// Most polls of a task that is dropped half way.
const POLLS_MAX: u64 = 120;

/// How an exporter stands to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nobody else exports.
    Alone,
    /// It took over from one of the same database that was at work meanwhile: it may meet commits that are not noted yet.
    Newer,
    /// Another one took over.
    Older,
}

/// Whether a fault, or what somebody did, explains an error of an export.
fn explain(process: &Process, number: usize, error: &ExportError, standing: Standing) -> Step {
    let is_troubled = || process.troubled.load(Ordering::SeqCst);
    let is_explained = match error {
        ExportError::Unavailable { .. } | ExportError::Conflict { .. } => true,
        // The engine's part of a task that was dropped may come to its end after the next one looked.
        ExportError::Engine(moonshine_engine::Error::Usage(_)) => true,
        ExportError::Engine(error) => return Err(process.stop(number, "an export", error)),
        // Its settings are of then.
        ExportError::Fenced { .. } | ExportError::Config(_) => standing == Standing::Older,
        ExportError::Stale { .. } => standing != Standing::Alone,
        ExportError::Foreign { .. } => standing != Standing::Alone || is_troubled(),
        _ => false,
    };
    match is_explained {
        true => Ok(()),
        false if process.disk.is_dead() => Err(Stop::Dead),
        false => {
            let detail =
                format!("an export failed though nothing explains it: {error} ({error:?})");
            Err(Stop::violation("honest", number, detail))
        }
    }
}

/// Whether all errors of a task are explained, and no older exporter got anything done.
pub(super) fn judge(
    process: &Process,
    number: usize,
    outcome: Option<Outcome>,
    standing: Standing,
) -> Step<Option<String>> {
    process.say(format!("operation {number}: {outcome:?}"));
    if process.disk.is_dead() {
        return Err(Stop::Dead);
    }
    match outcome {
        None => Ok(None),
        Some(Ok(said)) => Ok(Some(said)),
        Some(Err(errors)) => {
            for error in &errors {
                explain(process, number, error, standing)?;
            }
            Ok(None)
        }
    }
}

impl Client {
    pub(in crate::world) fn export(
        &mut self,
        number: usize,
        kind: Kind,
        stream: &mut Stream,
    ) -> Step {
        let Some(host) = self.process.exports.clone() else {
            return Ok(());
        };
        let by_hand = stream.chance(667);
        let task = match kind {
            Kind::Maintain => Task::Maintain { by_hand },
            _ if stream.chance(150) => Task::Both { by_hand },
            _ => Task::Tick,
        };
        let polls = match stream.chance(200) {
            true => stream.below(POLLS_MAX),
            false => u64::MAX,
        };
        let seats = host.seats();
        let Some(seat) = seats.first() else {
            return Ok(());
        };
        if kind == Kind::TakeOver && seat.is_open.load(Ordering::SeqCst) {
            return self.take_over(number, &host, stream);
        }
        let mut standing = host.standing();
        let begun = host.begin(seat, self.order(number, task, polls)?);
        let outcome = host.wait(begun).ok_or(Stop::Dead)?;
        // Another one may have taken over meanwhile.
        if seat.is_older.load(Ordering::SeqCst) {
            standing = Standing::Older;
        }
        judge(&self.process, number, outcome, standing).map(drop)
    }

    /// What is exported is read: where a client did not learn its sequence, that is decided by it.
    fn order(&mut self, number: usize, task: Task, polls: u64) -> Step<Order> {
        let snapshot = self.process.snapshot(number)?;
        self.pin_down(number, &snapshot)?;
        Ok(Order {
            task,
            database: self.process.database.clone(),
            snapshot,
            polls,
        })
    }

    /// Another exporter of the database, beside which the older one may go on.
    fn take_over(&mut self, number: usize, host: &Arc<Host>, stream: &mut Stream) -> Step {
        let seats = host.seats();
        let older = seats.first().filter(|_| stream.chance(500));
        let orders = [
            self.order(number, Task::Tick, u64::MAX)?,
            self.order(number, Task::Tick, u64::MAX)?,
        ];
        let newer = host.add_seat();
        let [of_older, of_newer] = orders;
        let older = older.map(|older| host.begin(older, of_older));
        let mut standing = host.standing();
        let begun = host.begin(&newer, of_newer);
        let outcome = host.wait(begun).ok_or(Stop::Dead)?;
        if newer.is_older.load(Ordering::SeqCst) {
            standing = Standing::Older;
        }
        let judged = judge(&self.process, number, outcome, standing);
        if let Some(older) = older {
            let outcome = host.wait(older).ok_or(Stop::Dead)?;
            judge(&self.process, number, outcome, Standing::Older)?;
        }
        judged.map(drop)
    }
}
