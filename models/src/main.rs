//! `cargo xtask models`: runs the models of `engine/src/models` under shuttle.

mod schedule;

use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use clap::Parser;
use moonshine_models::models::{MODELS, Model};
use schedule::{Batch, Failure, Order};

/// Orders of the steps of threads, gone through at random, by priorities (PCT), and, where they are few, one after the other.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask models")]
struct Arguments {
    /// Times that each model of a whole database is run; small ones are run more often, by their weight.
    #[arg(long, default_value_t = 100)]
    iterations: usize,
    /// Times that each model is run, whatever it weighs.
    #[arg(long)]
    orders: Option<usize>,
    /// Where the seeds begin.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The models of this name only.
    #[arg(long)]
    model: Option<String>,
    /// One way only.
    #[arg(long, value_enum)]
    order: Option<Order>,
    /// Batches side by side.
    #[arg(long)]
    workers: Option<usize>,
    /// Lists the models and what each shows.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let is_wanted = |model: &&Model| {
        arguments
            .model
            .as_ref()
            .is_none_or(|name| name == model.name)
    };
    let models: Vec<&Model> = MODELS.iter().filter(is_wanted).collect();
    if models.is_empty() {
        eprintln!("there is no such model; --list lists them");
        return ExitCode::from(2);
    }
    if arguments.list {
        for model in models {
            println!("{:14} {}", model.name, model.shows);
        }
        return ExitCode::SUCCESS;
    }
    for model in models {
        if let Err(failure) = check(model, &arguments) {
            eprintln!("{failure}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Runs a model in all ways that are asked for.
fn check(model: &'static Model, arguments: &Arguments) -> Result<(), Failure> {
    let orders = [Order::Random, Order::Priorities, Order::All];
    let is_wanted = |order: &Order| arguments.order.is_none_or(|wanted| wanted == *order);
    for order in orders.into_iter().filter(is_wanted) {
        let iterations = arguments.iterations * model.weight;
        let iterations = arguments.orders.unwrap_or(iterations);
        let batches = Batch::all(model, order, arguments.seed, iterations);
        if batches.is_empty() {
            continue;
        }
        let begin = Instant::now();
        let count = run_all(batches, arguments.workers)?;
        let took = begin.elapsed().as_secs_f64();
        println!(
            "{:14} {:10} {count:8} orders in {took:.1} s",
            model.name,
            order.name()
        );
    }
    Ok(())
}

/// Runs batches side by side; how many orders they went through. The first failure by their order ends it.
fn run_all(batches: Vec<Batch>, workers: Option<usize>) -> Result<usize, Failure> {
    let workers = workers.unwrap_or_else(|| {
        std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
    });
    let left = Mutex::new(batches.into_iter());
    let ended: Mutex<(usize, Option<Failure>)> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while lock(&ended).1.is_none()
                    && let Some(batch) = take(&left)
                {
                    let ran = batch.run();
                    let mut ended = lock(&ended);
                    match ran {
                        Ok(count) => ended.0 += count,
                        Err(failure) => {
                            let first = ended.1.take();
                            ended.1 = Some(failure.or_earlier(first));
                        }
                    }
                }
            });
        }
    });
    let (count, failure) = std::mem::take(&mut *lock(&ended));
    failure.map_or(Ok(count), Err)
}

fn take(left: &Mutex<std::vec::IntoIter<Batch>>) -> Option<Batch> {
    lock(left).next()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
