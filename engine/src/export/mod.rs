//! What the engine knows of exports: where each exported row lies, and what changed since.
//!
//! The engine knows no catalog and no file format. It hands out the net change of a table since its last committed
//! export ([`Changes`]), and remembers, in the log, which rows an exporter put where, in two steps around the commit to
//! a catalog: [`Export::prepare`] before it, [`Export::commit`] after it. A crash in between leaves a [`PendingExport`]
//! that the exporter settles by asking the catalog.

mod changes;
mod steps;

use std::sync::Arc;

pub use changes::Changes;
pub use steps::{Export, PendingExport};

/// Where an exported row lies.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Placement {
    /// The file, by the path that was given to [`Export::prepare`].
    pub file: Arc<str>,
    /// The row's position in the file, from 0.
    pub position: u64,
}

/// A file that an export wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportFile {
    /// Its path, as the exporter names it.
    pub path: String,
    /// How many rows it holds; below 2^32.
    pub row_count: u64,
}

/// The last committed export of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The commit sequence that it holds the table at.
    pub seq: u64,
    /// The catalog's own name of the commit, for Iceberg the snapshot id.
    pub token: String,
}
