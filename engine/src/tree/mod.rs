//! The fragment tree: where the rows are that left the DeltaCache (docs/fragment-tree.md).
//!
//! A table's tree ([`fragment`]) says which RowSets hold a key. It never changes; each flush and each compaction makes a
//! new one, by an edit that the [`edit_log`] makes durable first.

mod edit_log;
mod fragment;
