//! SQL over a Moonshine database and its Iceberg tables, as one.
//!
//! A [`QuerySession`] holds one snapshot of the engine. Each table is a provider for DataFusion (`provider`): the files of
//! the table's last committed export, less the positions that changed since, and from the engine the rows that were
//! written since; so an answer is as fresh as the engine and as fast as Parquet. A lookup by the whole primary key asks
//! the engine alone. [`write_batches`] (`output`) writes an answer as a table, CSV, JSON lines or Parquet.

mod error;
mod output;
mod provider;
mod scalar;
mod session;

pub use error::{QueryError, Result};
pub use output::{OutputFormat, write_batches};
pub use session::{QueryResult, QuerySession};
