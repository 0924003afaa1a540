//! What the engine lays itself out from: the S-Size and S-Paral of a machine.
//!
//! A [`Profile`] holds the two numbers and says where they came from. Until a device has been measured it is made of
//! [safe defaults](Profile::safe_defaults) from the number of cores. This crate depends on nothing else of the
//! workspace; the engine depends on it for the profile type alone.

mod profile;

pub use profile::{Profile, ProfileSource};
