//! Kills at each call of a small workload, and calls that fail.

use std::time::Duration;

use super::life::{Life, Run};
use super::{Request, Totals, Violation, keep};
use crate::fuse::{Event, Trigger};
use crate::workload::draw;

/// Rounds of the fixed workload.
const ROUNDS: u64 = 6;
/// The second child dies within its first calls, while it recovers.
const SECOND_CALLS_MAX: u64 = 60;
/// A child whose calls fail for ever is killed after that time.
const FAILING_TIME_MAX: Duration = Duration::from_secs(8);

/// Which calls.
#[derive(Clone, Copy, Debug)]
pub struct Calls {
    /// From this number on.
    pub first: u64,
    /// Every so many.
    pub step: u64,
    /// No more than so many kills and failures.
    pub count_max: u64,
}

/// How many calls the workload makes when nobody disturbs it.
///
/// # Errors
/// What was found that must not be.
pub fn count(request: &Request, totals: &mut Totals) -> Result<u64, Box<Violation>> {
    let command = format!("crash --every-call --seed {}", request.seed);
    let folder = request.folder.join("calls");
    let mut life = Life::new(request, folder, request.seed)
        .map_err(|what| keep(what, command.clone(), None))?;
    let run = Run {
        rounds: Some(ROUNDS),
        ..Run::default()
    };
    let ran = life.run(&run).and_then(|_| {
        let calls = life.told.calls.ok_or("the child did not end")?;
        life.verify(totals).map(|()| calls)
    });
    let calls = ran.map_err(|what| keep(what, command, Some(&life)))?;
    life.remove();
    Ok(calls)
}

/// At each of these calls: dies before it, half-way through, behind it, or the call fails once or from then on. The child
/// after that dies while it recovers.
///
/// # Errors
/// What was found that must not be.
pub fn run(request: &Request, calls: Calls, totals: &mut Totals) -> Result<(), Box<Violation>> {
    let last = count(request, totals)?;
    let fails = [(5, false), (5, true), (28, false), (28, true)];
    let fails = fails.map(|(errno, lasts)| Event::Fails { errno, lasts });
    let mut done = 0;
    let mut call = calls.first.max(1);
    while call <= last {
        let failing = fails[(call % 4) as usize];
        for event in Event::KILLS.into_iter().chain([failing]) {
            if done == calls.count_max {
                return Ok(());
            }
            at(request, Trigger { call, event }, totals)?;
            done += 1;
        }
        if request.is_verbose {
            eprintln!("call {call} of {last}");
        }
        call += calls.step.max(1);
    }
    Ok(())
}

/// At one call.
///
/// # Errors
/// What was found that must not be.
pub fn at(request: &Request, trigger: Trigger, totals: &mut Totals) -> Result<(), Box<Violation>> {
    let command = format!("crash --at {trigger} --seed {}", request.seed);
    let folder = request.folder.join(format!("call-{}", trigger.call));
    let mut life = Life::new(request, folder, request.seed)
        .map_err(|what| keep(what, command.clone(), None))?;
    let has_errors = matches!(trigger.event, Event::Fails { .. });
    let run = Run {
        at: Some(trigger),
        rounds: Some(ROUNDS),
        killed_after: has_errors.then_some(FAILING_TIME_MAX),
        has_errors,
        ..Run::default()
    };
    let drawn = draw(request.seed, &[21, trigger.call]);
    let again = Trigger {
        call: 1 + drawn % SECOND_CALLS_MAX,
        event: Event::KILLS[(drawn >> 32) as usize % 3],
    };
    let mut run_and_look = |run: &Run| {
        let died = life.run(run)?;
        if run.has_errors {
            totals.count("failed calls");
        } else if died {
            totals.count("kills at a call");
        }
        life.verify(totals)
    };
    let second = Run {
        at: Some(again),
        rounds: Some(1),
        ..Run::default()
    };
    let ran = run_and_look(&run).and_then(|()| run_and_look(&second));
    ran.map_err(|what| keep(format!("{trigger}: {what}"), command, Some(&life)))?;
    life.remove();
    Ok(())
}
