//! `cargo xtask models`: runs the models of `engine/src/models` under shuttle.

mod schedule;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
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
    /// Notes the run in a line of this file.
    #[arg(long)]
    ledger: Option<PathBuf>,
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
    let begin = Instant::now();
    let mut orders = 0;
    let checked = models
        .into_iter()
        .try_for_each(|model| check(model, &arguments, &mut orders));
    let seconds = begin.elapsed().as_secs_f64();
    let noted = arguments.ledger.map_or(Ok(()), |path| {
        note(&path, orders, seconds, checked.is_err())
    });
    if let Err(error) = &noted {
        eprintln!("the run was not noted: {error}");
    }
    if let Err(failure) = &checked {
        eprintln!("{failure}");
    }
    match (checked, noted) {
        (Ok(()), Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Adds the line of a run to a file.
fn note(path: &Path, orders: usize, seconds: f64, has_failed: bool) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let violations = u8::from(has_failed);
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    writeln!(
        file,
        r#"{{"kind":"models","orders":{orders},"seconds":{seconds:.1},"violations":{violations}}}"#
    )
}

/// Runs a model in all ways that are asked for, and adds up the orders.
fn check(
    model: &'static Model,
    arguments: &Arguments,
    all_orders: &mut usize,
) -> Result<(), Failure> {
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
        *all_orders += count;
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
