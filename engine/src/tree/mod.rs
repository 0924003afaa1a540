//! The fragment tree: where the rows are that left the DeltaCache (docs/fragment-tree.md).
//!
//! A table's tree ([`fragment`]) says which RowSets hold a key. It never changes; each flush and each compaction makes a
//! new one. The [`state`] of all tables moves on by the changes of an [`edit`], which the [`edit_log`] makes durable
//! first; the [`store`] does that, publishes the new trees to each [`table`], and removes the [`files`] that no tree names
//! any more. What a bulk load wrote comes in with the flush of what was committed before it ([`loaded`]). Who decides what
//! changes is in `background`.

pub(crate) mod edit;
pub(crate) mod edit_log;
#[cfg(test)]
mod edit_log_crash_tests;
pub(crate) mod files;
pub(crate) mod fragment;
pub(crate) mod growth;
pub(crate) mod leaves;
pub(crate) mod loaded;
pub(crate) mod splits;
pub(crate) mod state;
pub(crate) mod store;
pub(crate) mod table;
