//! Work in the background: what leaves the DeltaCache for the fragment tree, and what becomes of it there.
//!
//! One of the [`threads`] has one generation after the other [`flush`]ed, whose rows several write ([`flush_rows`]). Others
//! do compactions ([`compact`]), as many at once as the scheduler (`schedule`) has jobs for: a [`plan`] looks through a table's
//! fragments for what is due, and the [`leaf_policy`] says what that is in a leaf. Some rewrite no rows and only find out
//! which are replaced ([`resolve`]). While something is flushed they write at its pace.
//!
//! A load writes its RowSets by itself ([`crate::load`]), and the flush of what was committed before it takes them in.

pub(crate) mod compact;
mod deletes;
pub(crate) mod flush;
mod flush_rows;
mod leaf_policy;
pub(crate) mod plan;
pub(crate) mod resolve;
pub(crate) mod threads;

#[cfg(test)]
mod resolve_tests;
#[cfg(test)]
mod tree_checks;
