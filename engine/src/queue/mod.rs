//! Commits that wait to be written.
//!
//! The [`commit_queue`] gathers the records of concurrent commits and says who writes next; each who waits is woken by itself
//! (`wakers`). With the record of a transaction goes what must hold for it to be committed: its [`conditions`], and the
//! [`reads`] that it made. Who writes is in `commit`.

pub(crate) mod commit_queue;
pub(crate) mod conditions;
pub(crate) mod reads;
mod wakers;
