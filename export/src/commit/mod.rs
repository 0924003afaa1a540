//! How a change of a table comes to be committed, once.
//!
//! `run` is the one way to a catalog: it sends a [`Proposal`]'s change, and after whatever comes back but success looks at
//! the table again before it goes on. `row_delta` is the proposal of an export: rows added and rows removed. `plan` finds which
//! entries of a snapshot's manifests come and go with it, `new_manifests` which manifests are written for that, and `attempt`
//! writes them, their list, and the updates that make the new snapshot current. `foreign` says what of another writer's a commit may
//! go on top of.

mod attempt;
mod foreign;
mod new_manifests;
mod plan;
mod row_delta;
mod run;

pub(crate) use attempt::{Attempt, table_version};
pub(crate) use foreign::check_foreign;
pub(crate) use new_manifests::{size, size_max};
pub(crate) use plan::{NewFiles, Plan, Renewed, RowDelta};
pub(crate) use row_delta::{ExportCommit, remove_attempts};
pub(crate) use run::{ATTEMPTS_MAX, Failure, Proposal, run, run_up_to};
