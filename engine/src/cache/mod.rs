//! The DeltaCache: the newest deltas in memory, in generations that readers need no lock for.
//!
//! [`generations`] is the list of them: the committer writes into the active one and freezes it when it is full; the
//! flush takes the frozen ones to the fragment tree. [`pins`] knows which commit sequences
//! readers hold, and with that which older versions a flush and a compaction have to keep.

pub(crate) mod generations;
#[cfg(test)]
mod generations_tests;
pub(crate) mod pins;
pub(crate) mod readers;
