//! The `moonshine` program from end to end: real processes, a real PostgreSQL, and the tables as PyIceberg and DuckDB
//! read them.
//!
//! Each module is one thing that a user relies on. [`moonshine`] runs the program under test, [`python`] compares
//! tables (`tests/python/verify.py`), `postgres_server` starts a server. A test that lacks PostgreSQL or the Python
//! environment says `SKIPPED` and passes at a desk, and fails where `CI` is set; `scripts/test` installs both.
//!
//! No test depends on how fast anything is: they wait for conditions, with limits that only a hang exceeds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail by panicking, as the test itself does"
)]

mod bad_input;
mod bench;
mod bench_database;
mod export;
mod inspect;
mod kills;
mod maintenance;
mod metrics;
mod moonshine;
mod orders;
mod pgbench;
mod probe;
mod python;
mod quickstart;
mod random;
mod signals;

#[path = "../../../connectors/tests/it/free_port.rs"]
#[allow(unreachable_pub, reason = "shared with the connectors' tests")]
mod free_port;
#[path = "../../../connectors/tests/it/postgres_server.rs"]
#[allow(unreachable_pub, reason = "shared with the connectors' tests")]
mod postgres_server;
