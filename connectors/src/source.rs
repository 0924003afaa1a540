//! What a source is to the program that runs it.

use std::sync::Arc;

use async_trait::async_trait;
use moonshine_engine::Database;
use tokio_util::sync::CancellationToken;

use crate::Progress;

/// When a source is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunMode {
    /// Follow the stream until cancelled.
    Continuous,
    /// Stop at the end of the stream or, where it has none, at the position that was current when the source started.
    Once,
}

/// What a running source is given.
#[derive(Clone, Debug)]
pub struct SourceContext {
    /// Where transactions go and origins come from.
    pub database: Database,
    /// When to stop by itself.
    pub mode: RunMode,
    /// Cancelled when the program drains: the source finishes the transaction it is in, waits until what it submitted
    /// is durable, acknowledges it, and returns `Ok`.
    pub stop: CancellationToken,
    /// Where the source reports how far it is.
    pub progress: Arc<Progress>,
}

/// A change stream.
#[async_trait]
pub trait Source: Send + Sync {
    /// The source's name, unique in a database; its origins are stored under it.
    fn name(&self) -> &str;

    /// Checks, without changing anything anywhere, that the source could start (its file exists, its server answers).
    ///
    /// # Errors
    /// As [`run`](Self::run).
    async fn check(&self) -> Result<(), SourceError>;

    /// Reads the stream into the database, from the origin that the database holds. On `Ok`, and also on an error,
    /// every transaction that was read whole before is durable.
    ///
    /// # Errors
    /// See the variants of [`SourceError`].
    async fn run(&self, context: SourceContext) -> Result<(), SourceError>;
}

/// Why a source stopped, grouped by remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The configuration names something that is not there or can't be mirrored (a table without a primary key, a
    /// missing file); mend the configuration or the source.
    #[error("{0}")]
    Config(String),
    /// A record of the stream can't be used; `place` says which (`file:line`, or table and LSN).
    #[error("{place}: {reason}")]
    Record {
        /// Where the record stands.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The server can't be reached or went away; try again later.
    #[error("{0}")]
    Unavailable(String),
    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] moonshine_engine::Error),
}
