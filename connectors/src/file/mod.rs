//! Debezium change events from JSON lines: a file, a folder that grows, or standard input.
//!
//! `files` and `lines` cut the bytes into lines, each with its `position`; `event` reads a line as a change
//! event, whichever of Debezium's wrappings it has; `tables` finds its table and, by the event's own schema
//! (`connect`) or the declared columns, the `plan` by which `value` turns JSON text into values; `apply`
//! collects the changes into transactions; `run` drives it all.
//!
//! Events of one source transaction (`transaction.id`, else `source.txId` with `source.lsn`, else `source.gtid`) form
//! one transaction of the engine; others, and the rows of a snapshot (`op: r`), are taken in batches. The position
//! after a transaction is stored with it, so a restart goes on at the line after and applies nothing twice. Standard
//! input can't be gone back in: each run applies it from its first byte, and since changes are by key, giving it the
//! same stream from the start again ends in the same rows.

mod apply;
mod config;
mod connect;
mod decimal;
mod event;
mod files;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod input;
mod lines;
mod nested;
mod plan;
mod position;
mod run;
mod tables;
mod value;

use async_trait::async_trait;

pub use config::{FileConfig, FileTable, OtherTables};

use crate::{Source, SourceContext, SourceError};

/// A source of Debezium change events as JSON lines.
#[derive(Debug)]
pub struct FileSource {
    name: String,
    config: FileConfig,
}

impl FileSource {
    /// A source of that name, unique in its database.
    ///
    /// # Errors
    /// [`SourceError::Config`], naming the wrong setting.
    ///
    /// ```
    /// use moonshine_connectors::file::{FileConfig, FileSource, FileTable};
    /// use moonshine_connectors::Source as _;
    /// let config = FileConfig::new("orders.jsonl", vec![FileTable::new("shop.orders", ["order_id"])]);
    /// assert_eq!(FileSource::new("orders".into(), config)?.name(), "orders");
    /// # Ok::<(), moonshine_connectors::SourceError>(())
    /// ```
    pub fn new(name: String, config: FileConfig) -> Result<FileSource, SourceError> {
        config.validate(&name)?;
        Ok(FileSource { name, config })
    }
}

#[async_trait]
impl Source for FileSource {
    fn name(&self) -> &str {
        &self.name
    }

    async fn check(&self) -> Result<(), SourceError> {
        if let config::InputPath::Path(path) = self.config.input() {
            files::Files::open(&path, None, false)?;
        }
        Ok(())
    }

    async fn run(&self, context: SourceContext) -> Result<(), SourceError> {
        let (name, config) = (self.name.clone(), self.config.clone());
        let runtime = tokio::runtime::Handle::current();
        let task = tokio::task::spawn_blocking(move || {
            run::run(&name, &config, &context, &runtime, std::io::stdin())
        });
        match task.await {
            Ok(outcome) => outcome,
            Err(failure) => Err(SourceError::Unavailable(format!(
                "source '{}' came down: {failure}",
                self.name
            ))),
        }
    }
}
