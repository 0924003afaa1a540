//! The PostgreSQL source against a real server.

// Clippy's leave for tests does not reach their helpers.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::sync::Arc;
use std::time::Duration;

use moonshine_connectors::postgres::{PostgresConfig, PostgresSource};
use moonshine_connectors::{
    Phase, Progress, ProgressReading, RunMode, Source, SourceContext, SourceError,
};
use moonshine_engine::{Database, Options, Row, Value};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::postgres_server::PostgresServer;

mod refusals;
mod streaming;
mod values;

/// Far longer than anything here takes; past it a test fails instead of hanging.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A server with a database that mirrors it.
struct Mirror {
    server: PostgresServer,
    database: Database,
    folder: tempfile::TempDir,
    config: serde_json::Value,
}

impl Mirror {
    /// `None` if there is no PostgreSQL here.
    fn start(tables: &[&str]) -> Option<Self> {
        let server = PostgresServer::start()?;
        let config = json!({"url": server.url("postgres"), "tables": tables});
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(folder.path(), Options::unmeasured()).unwrap();
        Some(Self {
            server,
            database,
            folder,
            config,
        })
    }

    fn set(&mut self, name: &str, value: serde_json::Value) {
        self.config[name] = value;
    }

    fn source(&self) -> PostgresSource {
        let config: PostgresConfig = serde_json::from_value(self.config.clone()).unwrap();
        PostgresSource::new("shop".to_owned(), config).unwrap()
    }

    fn context(&self, mode: RunMode) -> SourceContext {
        SourceContext {
            database: self.database.clone(),
            mode,
            stop: CancellationToken::new(),
            progress: Arc::new(Progress::default()),
        }
    }

    /// Runs the source until it is ended, and waits for it to stream.
    async fn follow(&self) -> Following {
        let context = self.context(RunMode::Continuous);
        let (stop, progress) = (context.stop.clone(), Arc::clone(&context.progress));
        let source = self.source();
        let running = tokio::spawn(async move { source.run(context).await });
        self.until("the stream", |_| progress.read().phase == Phase::Streaming)
            .await;
        Following {
            running,
            stop,
            progress,
        }
    }

    async fn try_run_once(&self) -> Result<ProgressReading, SourceError> {
        let context = self.context(RunMode::Once);
        let progress = Arc::clone(&context.progress);
        tokio::time::timeout(WAIT_MAX, self.source().run(context))
            .await
            .expect("the source ends")?;
        let reading = progress.read();
        assert_eq!(reading.phase, Phase::Finished);
        Ok(reading)
    }

    async fn run_once(&self) -> ProgressReading {
        self.try_run_once().await.unwrap()
    }

    async fn refusal(&self) -> SourceError {
        self.try_run_once().await.unwrap_err()
    }

    /// Closes the database and opens it again.
    fn reopen(self) -> Self {
        let Self {
            server,
            database,
            folder,
            config,
        } = self;
        drop(database);
        let database = Database::open(folder.path(), Options::unmeasured()).unwrap();
        Self {
            server,
            database,
            folder,
            config,
        }
    }

    fn row(&self, table: &str, key: impl IntoKey) -> Option<Row> {
        let table = self.database.table(table).expect("the table");
        self.database
            .snapshot()
            .get(&table, &key.into_key())
            .unwrap()
    }

    fn row_count(&self, table: &str) -> u64 {
        let table = self.database.table(table).expect("the table");
        self.database.snapshot().row_count(&table).unwrap()
    }

    /// The LSN of the source's origin.
    fn origin(&self) -> String {
        self.database.origin("shop").expect("an origin").position
    }

    /// Waits until that holds.
    async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let poll = async {
            while !condition(self) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(WAIT_MAX, poll)
            .await
            .unwrap_or_else(|_| panic!("{what} does not come about"));
    }
}

/// A source that streams.
struct Following {
    running: tokio::task::JoinHandle<Result<(), SourceError>>,
    stop: CancellationToken,
    progress: Arc<Progress>,
}

impl Following {
    /// Stops it, and waits for its end, which is in order.
    async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(WAIT_MAX, self.running)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }
}

trait IntoKey {
    fn into_key(self) -> Vec<Value>;
}

impl IntoKey for i32 {
    fn into_key(self) -> Vec<Value> {
        vec![Value::Int32(self)]
    }
}

impl<const N: usize> IntoKey for [Value; N] {
    fn into_key(self) -> Vec<Value> {
        self.into()
    }
}

fn text(text: &str) -> Value {
    Value::Utf8(text.to_owned())
}
