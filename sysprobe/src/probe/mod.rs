//! The calibration: from a device and the cores to S-Size and S-Paral.
//!
//! From the bottom up: a [`device::Device`] carries out one load ([`disk`] is the real one), [`sweep`] repeats loads
//! along axes within a [`budget::Budget`], [`knee`] finds where a curve stops rising, by the law that `model.rs` fits to
//! it, and [`drift`] whether the device kept its speed meanwhile. [`mod@derive`] says what is measured when, and takes the
//! numbers from the curves; [`grid`] measures everything else once. [`report`] holds all of it and is where a measurement
//! begins; [`findings`] say what limits its meaning. [`cpu`] measures the cores.

pub mod budget;
pub mod cpu;
pub mod derive;
pub mod device;
pub mod disk;
pub mod drift;
pub mod findings;
pub mod grid;
pub mod knee;
mod model;
pub mod report;
#[cfg(test)]
mod simulated;
pub mod sweep;
