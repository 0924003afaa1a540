//! The simulator: the whole way from a source through the engine and the exporter into a lake, run again and again with
//! faults and crashes that follow from a seed, and held against a reference model.
//!
//! A [`plan`] says what happens, as it follows from a seed; the [`world`] does it; the [`model`] says what must come of it.
//! The command is `moonshine-sim`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a tool for tests: what must not be ends the simulation, with the seed that repeats it"
)]

#[cfg(feature = "lake")]
pub mod lake;
pub mod model;
pub mod plan;
pub mod random;
#[cfg(feature = "lake")]
pub mod replay;
pub mod run;
pub mod trace;
pub mod world;
