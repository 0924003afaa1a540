//! One run of shuttle: a model, the way in which orders are chosen, a seed, and how many.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::ValueEnum;
use moonshine_models::models::Model;
use shuttle::scheduler::{DfsScheduler, PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, FailurePersistence, Runner};

/// Orders of one seed: what has to be run again to come to the last one.
const BATCH: usize = 50;

/// Places at which the one that goes first becomes the last, and one more (PCT's depth).
const DEPTH: usize = 3;

/// Orders that a model is to have at most to be gone through whole.
const ALL_MAX: usize = 2_000_000;

/// How the order of steps is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Order {
    /// Any of those that can go on.
    Random,
    /// Probabilistic concurrency testing: threads have priorities, which change in a few places.
    Priorities,
    /// All orders.
    All,
}

impl Order {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Order::Random => "random",
            Order::Priorities => "priorities",
            Order::All => "all",
        }
    }
}

/// Some orders of a model that follow from a seed.
#[derive(Debug)]
pub(crate) struct Batch {
    model: &'static Model,
    order: Order,
    seed: u64,
    iterations: usize,
    /// Orders of the model in the batches before it.
    before: usize,
}

/// An order in which a model failed.
#[derive(Debug)]
pub(crate) struct Failure {
    batch: Batch,
    /// Orders of the batch, with the one that failed.
    iterations: usize,
    reason: String,
}

impl Batch {
    /// The batches of a model that so many iterations are divided into; none if it can't be run that way.
    pub(crate) fn all(
        model: &'static Model,
        order: Order,
        seed: u64,
        iterations: usize,
    ) -> Vec<Batch> {
        let batch = |number: usize, iterations: usize| Batch {
            model,
            order,
            seed: seed + number as u64,
            iterations,
            before: number * BATCH,
        };
        if order == Order::All {
            return match model.is_exhaustive {
                true => vec![batch(0, ALL_MAX)],
                false => Vec::new(),
            };
        }
        (0..iterations.div_ceil(BATCH))
            .map(|number| batch(number, BATCH.min(iterations - number * BATCH)))
            .collect()
    }

    /// Runs it on a thread of its own, whose hash maps follow from the seed too; the count of orders.
    pub(crate) fn run(self) -> Result<usize, Failure> {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        let (run, seed) = (self.model.run, self.seed);
        let (order, iterations) = (self.order, self.iterations);
        let ran = std::thread::scope(|scope| {
            let running = scope.spawn(|| {
                moonshine_sim_runtime::seed_this_thread(seed);
                catch_unwind(AssertUnwindSafe(|| {
                    Runner::new(scheduler(order, seed, iterations), config()).run(move || {
                        counted.fetch_add(1, Ordering::Relaxed);
                        run();
                    });
                }))
            });
            running.join().unwrap_or_else(Err)
        });
        let iterations = count.load(Ordering::Relaxed);
        match ran {
            Ok(()) if self.order == Order::All && iterations >= ALL_MAX => Err(Failure {
                reason: format!("there are more than {ALL_MAX} orders"),
                iterations,
                batch: self,
            }),
            Ok(()) => Ok(iterations),
            Err(panic) => Err(Failure {
                reason: words(&*panic),
                iterations,
                batch: self,
            }),
        }
    }
}

fn scheduler(order: Order, seed: u64, iterations: usize) -> Box<dyn Scheduler + Send> {
    match order {
        Order::Random => Box::new(RandomScheduler::new_from_seed(seed, iterations)),
        // The first order only counts steps.
        Order::Priorities => Box::new(PctScheduler::new_from_seed(seed, DEPTH, iterations)),
        Order::All => Box::new(DfsScheduler::new(Some(iterations), false)),
    }
}

fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = 1 << 20;
    config.silence_warnings = true;
    // The seed says it in fewer words.
    config.failure_persistence = FailurePersistence::None;
    config
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it ended in a panic").to_owned()
}

impl Failure {
    /// Which of two comes first.
    pub(crate) fn or_earlier(self, other: Option<Failure>) -> Failure {
        match other {
            Some(other) if other.batch.before < self.batch.before => other,
            _ => self,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Batch {
            model,
            order,
            seed,
            before,
            ..
        } = &self.batch;
        writeln!(
            formatter,
            "the model '{}' FAILED: {}",
            model.name, self.reason
        )?;
        writeln!(
            formatter,
            "after {} orders of '{}'",
            before + self.iterations,
            order.name()
        )?;
        write!(
            formatter,
            "again: cargo xtask models --model {} --order {} --seed {seed} --orders {BATCH} --workers 1",
            model.name,
            order.name()
        )
    }
}
