//! Exports: what of a table is to be exported, and the steps in which an exporter says what it did.
//!
//! The engine knows no catalog and no file format. It hands out the net change of a table since its last committed
//! export ([`Changes`]), and remembers, in the log, which rows an exporter put where, in two steps around the commit to
//! a catalog: [`Export::prepare`] before it, [`Export::commit`] after it. A crash in between leaves a [`PendingExport`]
//! that the exporter settles by asking the catalog. Rows that are written to other files without becoming different are a
//! [`Relocation`], in the same two steps.
//!
//! `changes` finds out what changed: the rows, which exported ones they take away (`removed`), and for an export which of them
//! takes the place of which (`replaced`). `steps` and `relocate` write the log's records of the steps, with `keys`; `file_keys`
//! takes keys down while files are written. What grows with the rows of an export is in memory while it is little, and else on
//! disk (`noted`, `spilled_keys`, `export_spill`). `locations` puts those of a large export into the tree. What is kept of it all is in
//! `exported`.

mod changes;
mod export_spill;
mod file_keys;
mod keys;
mod locations;
mod noted;
mod relocate;
mod removed;
mod replaced;
mod spilled_keys;
mod steps;

pub use changes::Changes;
pub use file_keys::FileKeys;
pub use relocate::Relocation;
pub use removed::RemovedRows;
pub use replaced::{Replaced, ReplacedReader};
pub use steps::{Export, PendingExport};
