//! Reading a table: the generations of the DeltaCache and the RowSets of its fragments as one.
//!
//! A [`lookup`] finds one key, newest first, and `multi_get` many at once. A [`view`] is what a reader keeps of both; it
//! opens a [`merge`] of cursors for a range, in key order or against it; without an order, the [`rows`] come leaf by leaf.
//! A row is in a generation, in a RowSet, or in both, which then say the same. [`since`] looks for what was written after
//! a sequence, for the validation of transactions.

pub(crate) mod lookup;
mod loser_tree;
pub(crate) mod merge;
mod multi_get;
pub(crate) mod range;
pub(crate) mod rows;
pub(crate) mod since;
pub(crate) mod view;
