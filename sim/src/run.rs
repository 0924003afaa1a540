//! Running seeds: one after the other or side by side, and what is told of them.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moonshine_sim_runtime::{Config, End, Waiting};
use parking_lot::Mutex;

use crate::plan::shrink::shrink;
use crate::plan::{Plan, Selection};
use crate::world::outcome::Violation;
use crate::world::{self, Report};

/// A plan whose order of threads is not decided by the seed is run so often before it counts as one that doesn't fail.
const RUNS_A_CANDIDATE: u32 = 3;
/// A simulation that takes longer hangs.
const HANG_TIMEOUT: Duration = Duration::from_secs(120);

/// How many steps before and behind the first difference of two runs are told.
const STEPS_AROUND: usize = 12;

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Request {
    /// The first seed.
    pub first_seed: u64,
    /// How many, at most.
    pub seed_count: u64,
    /// For how long, at most.
    pub time_max: Option<Duration>,
    /// How many at once.
    pub workers: usize,
    /// What is left of each plan.
    pub selection: Selection,
    /// How long a failing plan is made smaller.
    pub shrink_time_max: Duration,
    /// Whether each step is written to stderr.
    pub is_verbose: bool,
    /// Whether each seed is run twice, which must be the same.
    pub checks_determinism: bool,
}

/// A seed that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What was wrong.
    pub violation: Violation,
    /// The smallest part of its plan that is known to fail.
    pub selection: Selection,
    /// The last steps of that, in words.
    pub steps: Vec<String>,
}

/// What came of a request.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Seeds that were run.
    pub seeds: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// How often each thing was done and each fault was injected, by name.
    pub counts: BTreeMap<&'static str, u64>,
    /// The first seed that failed, if any.
    pub failure: Option<Failure>,
}

/// Runs a plan; a panic is a violation too. In the simulator's own build all of it happens on one thread, in an order that
/// follows from the seed; else on threads.
pub fn run_plan(plan: &Plan, is_verbose: bool) -> Report {
    if cfg!(moonshine_sim) {
        return run_on_fibers(plan, is_verbose, false);
    }
    let ran = catch_unwind(AssertUnwindSafe(|| world::run(plan, is_verbose)));
    ran.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        failed(
            "panic",
            text.unwrap_or_else(|| "a panic without words".into()),
        )
    })
}

/// The first of two runs of a plan, failed if the second was another.
fn compared(first: Report, second: Report) -> Report {
    if first.hash == second.hash {
        return first;
    }
    let same = first.steps.iter().zip(&second.steps);
    let same = same.take_while(|(first, second)| first == second).count();
    let around = |steps: &[String]| {
        let begin = same.saturating_sub(STEPS_AROUND);
        let end = steps.len().min(same + STEPS_AROUND);
        steps[begin..end].join("\n")
    };
    let (one, other) = (around(&first.steps), around(&second.steps));
    let detail = format!("after {same} equal steps one run went on\n{one}\n\nand another\n{other}");
    Report {
        steps: first.steps,
        ..failed("determinism", detail)
    }
}

fn failed(check: &'static str, detail: String) -> Report {
    Report {
        violation: Some(Violation {
            check,
            operation: None,
            detail,
        }),
        ..Report::default()
    }
}

fn run_on_fibers(plan: &Plan, is_verbose: bool, keeps_notes: bool) -> Report {
    let reported: Arc<Mutex<Option<Report>>> = Arc::default();
    let (to, of) = (reported.clone(), plan.clone());
    let config = Config {
        keeps_notes,
        ..Config::of_seed(plan.seed)
    };
    let ran = moonshine_sim_runtime::run(config, move || {
        let report = world::run(&of, is_verbose);
        *to.lock() = Some(report);
    });
    let waiting = |who: Vec<Waiting>| {
        let who = who
            .into_iter()
            .map(|one| format!("{}: {}", one.task, one.place));
        who.collect::<Vec<_>>().join("\n")
    };
    let of_world = reported.lock().take();
    // What a world that was wrong leaves behind may wait for ever.
    let is_violated = |report: &Report| report.violation.is_some();
    let mut report = match ran.end {
        _ if of_world.as_ref().is_some_and(is_violated) => of_world.unwrap_or_default(),
        End::Done => of_world.unwrap_or_default(),
        End::Failed { task, message } => failed("panic", format!("{task}: {message}")),
        End::Deadlock(who) => failed("deadlock", waiting(who)),
        End::TooManySteps(who) => failed("steps", waiting(who)),
    };
    report.hash = Some(ran.trace);
    if report.steps.is_empty() || keeps_notes {
        report.steps = ran.notes.lines().map(str::to_owned).collect();
    }
    report
}

/// Runs seeds until they are done, the time is over, or one fails.
pub fn run(request: &Request) -> Totals {
    let begin = Instant::now();
    let next = AtomicU64::new(0);
    let is_over = AtomicBool::new(false);
    let totals = Mutex::new(Totals::default());
    let under_way: Vec<Mutex<Option<(u64, Instant)>>> =
        (0..request.workers).map(|_| Mutex::default()).collect();
    std::thread::scope(|scope| {
        for current in &under_way {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    let is_late = request.time_max.is_some_and(|max| begin.elapsed() >= max);
                    if number >= request.seed_count || is_late {
                        break;
                    }
                    let seed = request.first_seed + number;
                    *current.lock() = Some((seed, Instant::now()));
                    let plan = Plan::of(seed, &request.selection);
                    let report = match request.checks_determinism {
                        true => compared(
                            run_on_fibers(&plan, request.is_verbose, true),
                            run_on_fibers(&plan, false, true),
                        ),
                        false => run_plan(&plan, request.is_verbose),
                    };
                    *current.lock() = None;
                    let mut totals = totals.lock();
                    totals.seeds += 1;
                    for (name, count) in report.counts {
                        *totals.counts.entry(name).or_default() += count;
                    }
                    if let Some(violation) = report.violation {
                        is_over.store(true, Ordering::SeqCst);
                        totals.failure.get_or_insert(Failure {
                            seed,
                            violation,
                            selection: request.selection.clone(),
                            steps: report.steps,
                        });
                    }
                }
                *current.lock() = None;
            });
        }
        scope.spawn(|| watch(&under_way, &next, request, &is_over));
    });
    let mut totals = totals.into_inner();
    if let Some(failure) = &mut totals.failure {
        make_smaller(failure, request);
    }
    totals.elapsed = begin.elapsed();
    totals
}

/// Ends the program where a simulation hangs: its threads can't be ended.
fn watch(
    under_way: &[Mutex<Option<(u64, Instant)>>],
    next: &AtomicU64,
    request: &Request,
    is_over: &AtomicBool,
) {
    loop {
        let all_done = next.load(Ordering::SeqCst) >= request.seed_count
            || is_over.load(Ordering::SeqCst)
            || request.time_max.is_some();
        let current: Vec<_> = under_way.iter().filter_map(|one| *one.lock()).collect();
        if all_done && current.is_empty() {
            return;
        }
        for (seed, begin) in current {
            if begin.elapsed() > HANG_TIMEOUT {
                eprintln!(
                    "seed {seed} hangs; to repeat it:\n{}",
                    command(seed, &request.selection)
                );
                std::process::exit(1);
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn make_smaller(failure: &mut Failure, request: &Request) {
    let begin = Instant::now();
    let check = failure.violation.check;
    let mut last = (
        failure.violation.clone(),
        std::mem::take(&mut failure.steps),
    );
    failure.selection = shrink(failure.seed, &failure.selection, |plan| {
        for _ in 0..RUNS_A_CANDIDATE {
            if begin.elapsed() >= request.shrink_time_max {
                return None;
            }
            let report = run_plan(plan, false);
            if let Some(found) = report.violation
                && found.check == check
            {
                last = (found, report.steps);
                return Some(true);
            }
        }
        Some(false)
    });
    (failure.violation, failure.steps) = last;
}

/// The command that repeats a seed.
pub fn command(seed: u64, selection: &Selection) -> String {
    format!("cargo xtask sim --seed {seed}{selection}")
}
