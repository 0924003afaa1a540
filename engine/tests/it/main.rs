//! The engine from outside: what its invariants promise, against a reference and under faults.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

mod backpressure;
mod batches;
mod bulk_load;
mod commits;
mod disk_full;
mod faults;
mod futures;
mod keyspace;
mod keyspace_transactions;
mod layout;
mod levels;
mod log_versions;
mod model;
mod old_formats;
mod outcomes;
mod pairs;
mod range_deletes;
mod reading;
#[cfg(feature = "serde")]
mod serde_rows;
mod serializability;
mod statistics;
mod stress;
mod transactions;
