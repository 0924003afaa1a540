//! Group commit: what many threads commit is written to the log by one of them.
//!
//! A commit is let in ([`admission`]) and queued (`queue`). Whoever leads the queue has the records written as one block, puts
//! the deltas into the DeltaCache and makes them visible ([`committer`]). Whether the conditions of a transaction hold is
//! looked at twice: by the thread that commits, for all that is visible, and by who writes the block of the log, for what
//! came in between ([`validate`]).

mod admission;
pub(crate) mod committer;
pub(crate) mod refusal;
pub(crate) mod validate;
