//! How a change of a table comes to be committed, once.
//!
//! `run` is the one way to a catalog: it sends a [`Proposal`]'s change, and after whatever comes back but success looks at
//! the table again before it goes on. `row_delta` is the proposal of an export: rows added and rows removed. `attempt`
//! makes the next snapshot of a table from it: manifests, their list, the updates that make it current. `foreign` says what of
//! another writer's a commit may go on top of.

mod attempt;
mod foreign;
mod row_delta;
mod run;

pub(crate) use attempt::{Attempt, Deletes, RowDelta, table_version};
pub(crate) use foreign::check_foreign;
pub(crate) use row_delta::{ExportCommit, remove_attempts};
pub(crate) use run::{ATTEMPTS_MAX, Failure, Proposal, run, run_up_to};
