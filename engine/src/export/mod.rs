//! Exports: what of a table is to be exported, and the steps in which an exporter says what it did.
//!
//! The engine knows no catalog and no file format. It hands out the net change of a table since its last committed
//! export ([`Changes`]), and remembers, in the log, which rows an exporter put where, in two steps around the commit to
//! a catalog: [`Export::prepare`] before it, [`Export::commit`] after it. A crash in between leaves a [`PendingExport`]
//! that the exporter settles by asking the catalog. Rows that are written to other files without becoming different are a
//! [`Relocation`], in the same two steps.
//!
//! `changes` finds out what changed, `steps` and `relocate` write the log's records of the steps, with `keys`; `file_keys`
//! takes keys down while files are written, and `key_spill` keeps those that are too many on disk. `locations` puts those of a large export
//! into the tree. What is kept of it all is in `exported`.

mod changes;
mod file_keys;
mod key_spill;
mod keys;
mod locations;
mod relocate;
mod steps;

pub use changes::Changes;
pub use file_keys::FileKeys;
pub use relocate::Relocation;
pub use steps::{Export, PendingExport};

use crate::exported::Placement;

/// A row to be exported that replaces an exported one.
///
/// ```
/// use moonshine_engine::{Placement, Replaced};
/// let placement = Placement { file: "data/1.parquet".into(), position: 41 };
/// let replaced = Replaced { row: 0, placement, row_id: None };
/// // The file does not say the row's id, so it is that of the file's first row and 41 more.
/// assert_eq!(replaced.row_id.unwrap_or(1000 + replaced.placement.position), 1041);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// The number of the row among those of [`Changes::batches`], from 0.
    pub row: u64,
    /// Where the row lies that it replaces.
    pub placement: Placement,
    /// That row's id, where its file says it outright.
    pub row_id: Option<u64>,
}
