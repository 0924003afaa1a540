//! What the engine lays itself out from: the S-Size and S-Paral of a machine, and how they are measured.
//!
//! A [`Profile`] holds the two numbers and says where they came from: [safe defaults](Profile::safe_defaults), the
//! caller, or [`measure`], which a [`ProfileFile`] keeps. Measuring goes from the bottom up: a [`device::Device`] carries
//! out one load ([`disk`] is the real one), [`sweep`] repeats loads along axes within a [`Budget`], [`knee`] finds where
//! a curve stops rising and [`drift`] whether the device kept its speed meanwhile, [`probe`] derives the numbers,
//! [`report`] holds all of it. [`cpu`] measures the cores.
//!
//! This crate depends on nothing else of the workspace; the engine depends on it for the profile type alone.

pub mod bench;
pub mod budget;
pub mod cpu;
pub mod device;
pub mod disk;
pub mod drift;
mod error;
pub mod io;
pub mod knee;
pub mod latency;
mod machine;
pub mod probe;
mod profile;
mod profile_file;
mod raw;
pub mod report;
#[cfg(test)]
mod simulated;
pub mod sweep;

pub use budget::Budget;
pub use error::{ProbeError, ProfileError};
pub use machine::Machine;
pub use profile::{Profile, ProfileSource};
pub use profile_file::{PROFILE_FILE_NAME, ProfileFile};
pub use report::{Finding, Report, measure};
