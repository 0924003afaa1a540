//! The exporter against a real database and real Iceberg tables in a temporary folder.

// Tests copy folders to stand in for a crash and look at files by hand, and a helper that fails is a failed test.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::too_many_lines,
    clippy::unwrap_used
)]

mod bad_input;
mod branches;
mod checksum;
mod conformance;
mod counting_store;
mod crash;
mod evolution;
mod faulty_store;
#[path = "../../../connectors/tests/it/free_port.rs"]
mod free_port;
mod glue_answers;
mod history;
mod installed;
mod layout;
mod layout_readers;
mod lineage;
mod maintenance;
mod nested;
mod orphans;
mod outages;
mod ownership;
#[path = "../../../connectors/tests/it/postgres_server.rs"]
mod postgres_server;
mod readers;
mod refs;
mod rest_answers;
mod servers;
mod simulation;
mod sorted_files;
mod sql_answers;
mod standing;
mod stores;
mod support;
mod tags;
mod tick_cost;
mod types;
