//! Histories of real threads on real files, checked by programs that nobody here wrote.
//!
//! [`adya`](https://crates.io/crates/adya) takes transactions that append to lists and read them, infers from the lists which
//! transaction must have come before which, and looks for the cycles that an isolation level forbids; `porcupine-rs` looks
//! for an order of the calls on each key that explains all that they returned. [`anomalies`] shows what either finds.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

mod anomalies;
mod calls;
mod lists;
mod transactions;
mod workload;

/// Numbers that follow from a seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

/// The seeds of a test: so many, or `MOONSHINE_TEST_SEED` alone. What threads do beside each other follows from no seed.
pub(crate) fn for_seeds(count: u64, run: impl Fn(u64) + std::panic::RefUnwindSafe) {
    let given = std::env::var("MOONSHINE_TEST_SEED").ok();
    let seeds = match given.and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 1..count + 1,
    };
    for seed in seeds {
        if let Err(panic) = std::panic::catch_unwind(|| run(seed)) {
            eprintln!("MOONSHINE_TEST_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
