//! The engine, the exporter and the lake under random histories: writes, ticks, maintenance, kills between any two polls,
//! take-overs, zombies and other writers, beside a store and a catalog whose requests are lost, late, repeated and refused.
//! After each step every snapshot of every Iceberg table is read from nothing and held against what was written.
//!
//! Defends *once*, *same* and *monotonic*. `MOONSHINE_TEST_SEED=n` replays one history, `MOONSHINE_TEST_SEEDS=from-to` many.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod check;
mod faulty;
mod model;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use moonshine_sim_runtime::{Config, End};
use parking_lot::Mutex;

use world::World;

/// What happened in a history, and how often.
type Happened = BTreeMap<String, u32>;

fn history(seed: u64) -> Happened {
    moonshine_sim_runtime::block_on(async {
        let mut world = World::new(seed).await;
        world.run().await;
        world.finish().await
    })
}

/// Runs a history; with the locks and threads of the simulation the order of everything follows from the seed too, and what is
/// returned with it is the hash of its trace.
fn run(seed: u64) -> (Happened, u64) {
    if !cfg!(moonshine_sim) {
        return (history(seed), 0);
    }
    let happened = Arc::new(Mutex::new(Happened::new()));
    let noted = happened.clone();
    let ran = moonshine_sim_runtime::run(Config::of_seed(seed), move || {
        *noted.lock() = history(seed);
    });
    assert_eq!(ran.end, End::Done);
    (std::mem::take(&mut happened.lock()), ran.trace)
}

#[test]
fn every_snapshot_is_what_was_written() {
    let range = |text: String| {
        let (from, to) = text.split_once('-').unwrap();
        (from.parse().unwrap(), to.parse().unwrap())
    };
    let one = std::env::var("MOONSHINE_TEST_SEED");
    let one = one
        .map(|seed| seed.parse().unwrap())
        .map(|seed| (seed, seed));
    let many = std::env::var("MOONSHINE_TEST_SEEDS").map(range);
    let one_seed = one.is_ok();
    let (from, to) = one.or(many).unwrap_or((1, 30));
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    let mut failed = Vec::new();
    for seed in from..=to {
        let ran = std::panic::catch_unwind(|| run(seed));
        match ran {
            Ok((happened, trace)) => {
                if one_seed {
                    println!("trace {trace:016x}");
                }
                for (name, count) in happened {
                    *seen.entry(name).or_default() += count;
                }
            }
            Err(_) => {
                println!("MOONSHINE_TEST_SEED={seed} fails");
                failed.push(seed);
            }
        }
    }
    println!("{seen:?}");
    assert!(failed.is_empty(), "{failed:?}");
}
