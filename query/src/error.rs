//! Why a query failed, by remedy.

/// What every fallible call of this crate returns.
pub type Result<T, E = QueryError> = std::result::Result<T, E>;

/// Why a query failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The SQL is not acceptable; mend it.
    #[error("{0}")]
    Sql(String),
    /// The engine could not read.
    #[error(transparent)]
    Engine(#[from] moonshine_engine::Error),
    /// The Iceberg tables could not be read.
    #[error(transparent)]
    Iceberg(#[from] moonshine_export::ExportError),
    /// Running the query failed.
    #[error("the query failed: {0}")]
    Execution(String),
    /// The answer could not be written.
    #[error("writing the answer: {0}")]
    Output(String),
}
