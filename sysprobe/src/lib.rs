//! What the engine lays itself out from: the S-Size and S-Paral of a machine, and how they are measured.
//!
//! A [`Profile`] holds the two numbers and says where they came from: [safe defaults](Profile::safe_defaults), the
//! caller, or [`measure`], which a [`ProfileFile`] keeps for the [`Machine`] that it was measured on. Everything that
//! measures lies in [`probe`]; [`latency`] counts how long I/Os took.
//!
//! This crate depends on nothing else of the workspace; the engine depends on it for the profile type alone.

mod error;
pub mod latency;
mod machine;
pub mod probe;
mod profile;
mod profile_file;

pub use error::{ProbeError, ProfileError};
pub use machine::Machine;
pub use probe::budget::Budget;
pub use probe::report::{Finding, Report, measure};
pub use probe::{cpu, device, disk, drift, knee, sweep};
pub use profile::{Profile, ProfileSource};
pub use profile_file::{PROFILE_FILE_NAME, ProfileFile};
