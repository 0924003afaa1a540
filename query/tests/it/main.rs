//! SQL against engine and Iceberg together, in a temporary folder.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

mod formats;
mod support;
mod union;
