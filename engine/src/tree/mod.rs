//! The fragment tree: where the rows are that left the DeltaCache (docs/fragment-tree.md).
//!
//! A table's tree ([`fragment`]) says which RowSets hold a key. It never changes; each flush and each compaction makes a
//! new one. The [`state`] of all tables moves on by the changes of an [`edit`], which the [`edit_log`] makes durable
//! first; the [`store`] does that, publishes the new trees, and removes the [`files`] that no tree names any more.
//!
//! A thread has one generation after the other [`flush`]ed, whose rows several write ([`flush_rows`]). Others do
//! compactions ([`compact`], [`background`]), as many at once as the [`scheduler`] has jobs for: a [`plan`] looks through a
//! table's fragments for what is due, and the [`leaf_policy`] says what that is in a leaf. Some rewrite no rows and only
//! find out which are replaced ([`resolve`]). While something is flushed they write at its [`pace`].
//!
//! A bulk load writes its RowSets by itself ([`load`]), and the flush of what was committed before it takes them in.

pub(crate) mod background;
pub(crate) mod compact;
mod deletes;
pub(crate) mod edit;
pub(crate) mod edit_log;
pub(crate) mod files;
pub(crate) mod flush;
mod flush_rows;
pub(crate) mod fragment;
pub(crate) mod growth;
mod leaf_policy;
pub(crate) mod leaves;
pub(crate) mod load;
mod pace;
pub(crate) mod plan;
pub(crate) mod resolve;
pub(crate) mod scheduler;
mod splits;
pub(crate) mod state;
pub(crate) mod store;

#[cfg(test)]
mod resolve_tests;
