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
mod backup_chains;
mod bad_input;
mod batches;
mod bulk_load;
mod changes;
mod check;
mod commits;
mod compaction;
mod damage;
mod disk_full;
mod evolution;
mod examples;
mod faults;
mod flush;
mod format_guard;
mod futures;
mod keyspace;
mod keyspace_transactions;
mod large_exports;
mod layers;
mod layout;
mod levels;
mod log_reserve;
mod log_versions;
mod model;
mod old_formats;
mod outcomes;
mod pairs;
mod parked;
mod power;
mod predicates;
mod range_deletes;
mod reading;
mod relocation;
mod residence;
#[cfg(feature = "serde")]
mod serde_rows;
mod serializability;
mod shard_keys;
mod space_swarm;
mod statistics;
mod stress;
mod transactions;

/// Waits for what other threads do. What does not happen is a failure with a name, not a test without an end.
#[allow(
    clippy::disallowed_methods,
    reason = "other threads take the time of this machine"
)]
pub(crate) fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !is_so() {
        assert!(std::time::Instant::now() < end, "not after 60 s: {what}");
        std::thread::yield_now();
    }
}
