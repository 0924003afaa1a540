//! The simulator finds what is planted, and nothing where nothing is wrong.

#![allow(
    clippy::indexing_slicing,
    reason = "a test that is wrong about an index fails"
)]

mod history;
mod seeds;
mod shrinking;
