//! Change streams into a Moonshine database.
//!
//! A [`Source`] reads one stream, turns it into transactions of the engine, and stores with each the position of the
//! stream that it reached (its [`Origin`](moonshine_engine::Origin)). It starts again from the origin that the engine
//! holds and acknowledges to its server only what is durable there. So a transaction of the source takes effect once,
//! across any number of crashes, and a source never needs a state file of its own.
//!
//! [`mod@file`] reads Debezium change events from JSON lines; [`postgres`] follows a PostgreSQL database by logical
//! replication. A new source is one more folder here.

pub mod file;
pub mod postgres;
mod progress;
mod source;

pub use progress::{Phase, Progress, ProgressReading};
pub use source::{RunMode, Source, SourceContext, SourceError};
