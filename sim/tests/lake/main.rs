//! The engine, the exporter and the lake in one simulated world, on threads: the seeds of `cargo xtask sim --lake`, of which that
//! runs many. `faulty` shows that the reader of tables finds what is wrong with them, `rollbacks` keeps bugs away that it found.
//!
//! Defends *once*, *same*, *monotonic* and *durable*. `MOONSHINE_TEST_SEEDS=from-to` runs others.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod database;
mod faulty;
mod rollbacks;

use moonshine_sim::plan::{Plan, Selection};
use moonshine_sim::run::run_plan;

#[test]
fn every_snapshot_is_what_was_written() {
    let range = std::env::var("MOONSHINE_TEST_SEEDS");
    let range = range.unwrap_or_else(|_| "1-30".to_owned());
    let (from, to) = range.split_once('-').unwrap();
    let with_lake = Selection {
        has_lake: true,
        ..Selection::default()
    };
    let mut snapshot_count = 0;
    for seed in from.parse().unwrap()..=to.parse().unwrap() {
        let report = run_plan(&Plan::of(seed, &with_lake), false);
        assert_eq!(report.violation, None, "seed {seed}");
        snapshot_count += report.counts["snapshots compared"];
    }
    assert!(snapshot_count > 0);
}
