//! Reading a table: the generations of the DeltaCache and the RowSets of its fragments as one.
//!
//! A [`lookup`] finds one key, newest first, and `multi_get` many at once. A [`view`] is what a reader keeps of both; it
//! opens a [`merge`] of cursors for a range, in key order or against it; of what a [`key_filter`] wants, one after the other
//! ([`ordered`]). Without an order ([`unordered`]), each RowSet is
//! read by itself in [`piece`]s. Either way the [`rows`] are handed on in bulk, and a [`batch`] makes Arrow's columns of
//! them, of a page at once where it can ([`page_columns`]). A row is in a generation, in a RowSet, or in both, which then
//! say the same. [`since`] looks for what was written after a sequence, for the validation of transactions.

pub(crate) mod batch;
mod column_builder;
pub(crate) mod key_filter;
pub(crate) mod leaves;
pub(crate) mod lookup;
mod loser_tree;
pub(crate) mod merge;
mod multi_get;
mod nested_column;
pub(crate) mod ordered;
mod page_columns;
pub(crate) mod piece;
pub(crate) mod rows;
pub(crate) mod since;
pub(crate) mod unordered;
pub(crate) mod view;
