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
mod backup;
mod bad_input;
mod batches;
mod bulk_load;
mod check;
mod commits;
mod compaction;
mod disk_full;
mod evolution;
mod examples;
mod faults;
mod flush;
mod futures;
mod keyspace;
mod keyspace_transactions;
mod layout;
mod levels;
mod log_reserve;
mod log_versions;
mod model;
mod old_formats;
mod outcomes;
mod pairs;
mod parked;
mod predicates;
mod range_deletes;
mod reading;
mod relocation;
mod residence;
#[cfg(feature = "serde")]
mod serde_rows;
mod serializability;
mod shard_keys;
mod statistics;
mod stress;
mod transactions;
