//! The DeltaLog: one sequence of segment files a database, holding every delta in commit order.
//!
//! A segment is a header and then blocks; a block is what one group commit wrote at once, and holds records; a record
//! is a delta (rows, [`delta`]) or a fact about tables and exports ([`fact`]), with one checksum each. [`segment`] writes
//! them; [`recovery`] reads after a start those that the fragment tree does not hold, in pieces side by side
//! ([`read_whole`]); [`read_back`] reads single ones later; [`segments`] go once it holds all of them. The bytes are described in
//! docs/format.md and defined in [`format`].

pub(crate) mod delta;
pub(crate) mod export_keys;
pub(crate) mod fact;
pub(crate) mod format;
pub(crate) mod read_back;
mod read_whole;
pub(crate) mod recovery;
pub(crate) mod segment;
pub(crate) mod segments;
