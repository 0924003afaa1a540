//! What the engine lays itself out from: the S-Size and S-Paral of a machine, and how they are measured; and a harness in
//! the manner of fio.
//!
//! A [`Profile`] holds the two numbers and says where they came from: [safe defaults](Profile::safe_defaults), the
//! caller, or [`measure`], which a [`ProfileFile`] keeps for the [`Machine`] that it was measured on. Everything that
//! measures them lies in [`probe`]. [`mod@bench`] runs jobs that the user describes. Both hand their I/O to an engine of
//! [`io`], and count in [`latency`] how long it took.
//!
//! This crate depends on nothing else of the workspace; the engine depends on it for the profile, and for measuring one
//! where it creates a database.

pub mod bench;
mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
pub mod io;
pub mod latency;
mod machine;
pub mod probe;
mod profile;
mod profile_file;
mod profile_versions;
mod raw;

pub use error::{ProbeError, ProfileError};
pub use machine::Machine;
pub use probe::budget::Budget;
pub use probe::disk::{DiskUse, disk_use};
pub use probe::findings::Finding;
pub use probe::report::{Report, measure, measure_read_only};
pub use probe::{cpu, device, disk, drift, knee, sweep};
pub use profile::{Profile, ProfileSource};
pub use profile_file::{PROFILE_FILE_NAME, ProfileFile};
