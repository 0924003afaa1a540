//! PostgreSQL by logical replication.
//!
//! [`PostgresSource`] resolves the tables in the server's `catalog`, then either copies them (`copy`: a publication, a
//! replication `slot`, and the rows of the snapshot that the slot's stream starts at) or goes on from the engine's
//! origin. From there on `stream` follows the log: the replication `connection` delivers frames, `pgoutput` decodes
//! them to row changes, `types` decodes values, and `apply` builds one engine transaction a source transaction. The
//! server is told to forget a transaction once the engine has it durably.
//!
//! The origin is `copying` while the copy runs (a copy that was cut off starts over) and from then on the LSN behind
//! the newest transaction that the engine holds, such as `0/16B3748`.

mod apply;
mod catalog;
mod config;
mod connection;
mod copy;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod pgoutput;
mod slot;
mod sql;
mod stream;
mod types;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use moonshine_engine::{Database, Origin, Table};
use tokio_postgres::Client;
use tokio_postgres::types::PgLsn;

pub use config::PostgresConfig;

use crate::{Phase, RunMode, Source, SourceContext, SourceError};
use catalog::SourceTable;
use config::Settings;

/// The origin's position while the existing rows are being copied.
const COPYING: &str = "copying";
const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(250);
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(10);

/// A PostgreSQL database as a source.
///
/// ```
/// use moonshine_connectors::postgres::{PostgresConfig, PostgresSource};
///
/// let config: PostgresConfig =
///     serde_json::from_str(r#"{"url": "postgres://me@localhost/shop", "tables": ["public.*"]}"#)?;
/// let source = PostgresSource::new("shop".to_owned(), config)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct PostgresSource {
    name: String,
    settings: Settings,
}

/// A table of the server with the engine's table for it.
#[derive(Debug)]
struct MirroredTable {
    source: SourceTable,
    engine: Table,
}

/// Whether an origin says that its source's first copy was begun and not completed, so that its tables are in part.
///
/// ```
/// use moonshine_engine::Origin;
/// let origin = Origin { source: "shop".into(), position: "0/16B3748".into() };
/// assert!(!moonshine_connectors::postgres::is_unfinished_copy(&origin));
/// ```
pub fn is_unfinished_copy(origin: &Origin) -> bool {
    origin.position == COPYING
}

impl PostgresSource {
    /// Checks the configuration; nothing is connected yet.
    ///
    /// # Errors
    /// [`SourceError::Config`]: a URL that can't be read or asks for TLS, no tables, a table pattern or a name of a form
    /// that can't be.
    pub fn new(name: String, config: PostgresConfig) -> Result<Self, SourceError> {
        let settings = Settings::new(&name, config)?;
        Ok(Self { name, settings })
    }

    /// Connects once and runs until the end, an error, or a lost connection. `established` is set as soon as the
    /// server has proven to be usable.
    async fn run_connected(
        &self,
        context: &SourceContext,
        established: &mut bool,
    ) -> Result<(), SourceError> {
        let held = self.held_position(&context.database)?;
        match held {
            // After a lost connection: what the engine holds is whole, so its export need not wait for the server.
            Some(Held::Streaming(_)) if context.progress.read().phase == Phase::Streaming => {}
            Some(Held::Streaming(_)) => context.progress.set_phase(Phase::Starting),
            // What an unfinished copy left is in the tables already.
            Some(Held::Copying) | None => context.progress.set_phase(Phase::Copying),
        }
        let preparing = self.prepare(&context.database, held, established);
        let Some(prepared) = until_stopped(context, preparing).await? else {
            return Ok(());
        };
        let Prepared {
            client,
            server_version,
            tables,
        } = prepared;
        let start = match held {
            Some(Held::Streaming(origin)) => origin,
            Some(Held::Copying) | None => {
                let copy = copy::Copy::new(&self.name, &self.settings, context, &tables);
                match copy.run(&client, server_version).await? {
                    Some(consistent_point) => consistent_point,
                    None => return Ok(()),
                }
            }
        };
        let end = match context.mode {
            RunMode::Continuous => None,
            RunMode::Once => Some(current_position(&client).await?),
        };
        let binary = self.settings.binary && server_version >= catalog::BINARY_STREAM_VERSION;
        let starting = slot::start_streaming(&self.settings, start, binary);
        let Some(connection) = until_stopped(context, starting).await? else {
            return Ok(());
        };
        let applier =
            apply::Applier::new(self.name.clone(), context.database.clone(), tables, start);
        stream::Stream::new(connection, applier, context, client, end)
            .run()
            .await
    }

    /// Connects, and checks that the source can go on from what the engine holds.
    async fn prepare(
        &self,
        database: &Database,
        held: Option<Held>,
        established: &mut bool,
    ) -> Result<Prepared, SourceError> {
        let client = sql::connect(&self.settings.connection).await?;
        let server_version = catalog::check_server(&client).await?;
        let tables = catalog::load_tables(&client, &self.settings.patterns).await?;
        *established = true;
        match held {
            Some(Held::Streaming(origin)) => {
                check_copied(database, &tables)?;
                slot::check_slot(&client, &self.settings, origin).await?;
                slot::check_publication(&client, &self.settings, server_version, &tables).await?;
            }
            Some(Held::Copying) => {}
            None if slot::slot_exists(&client, &self.settings).await? => {
                return Err(slot::foreign_slot(&self.settings));
            }
            None => {}
        }
        let tables = create_tables(database, tables).await?;
        Ok(Prepared {
            client,
            server_version,
            tables,
        })
    }

    fn held_position(&self, database: &Database) -> Result<Option<Held>, SourceError> {
        match database.origin(&self.name) {
            None => Ok(None),
            Some(Origin { position, .. }) if position == COPYING => Ok(Some(Held::Copying)),
            Some(Origin { position, .. }) => match position.parse() {
                Ok(lsn) => Ok(Some(Held::Streaming(lsn))),
                Err(_) => Err(SourceError::Config(format!(
                    "the database holds the origin '{position}' for source '{}', which is no position of PostgreSQL; was \
                     the name another source's before?",
                    self.name
                ))),
            },
        }
    }
}

/// What the engine's origin says.
#[derive(Clone, Copy)]
enum Held {
    Copying,
    Streaming(PgLsn),
}

/// A server and tables that are fit for replication.
struct Prepared {
    client: Client,
    server_version: i32,
    tables: Vec<Arc<MirroredTable>>,
}

#[async_trait]
impl Source for PostgresSource {
    fn name(&self) -> &str {
        &self.name
    }

    async fn check(&self) -> Result<(), SourceError> {
        let client = sql::connect(&self.settings.connection).await?;
        catalog::check_server(&client).await?;
        for table in catalog::load_tables(&client, &self.settings.patterns).await? {
            table.engine_schema()?;
        }
        Ok(())
    }

    async fn run(&self, context: SourceContext) -> Result<(), SourceError> {
        let mut established = false;
        let mut pause = RECONNECT_PAUSE_MIN;
        loop {
            let started = tokio::time::Instant::now();
            match self.run_connected(&context, &mut established).await {
                Ok(()) => {
                    // A copy that was cut off leaves its phase as a sign that the tables are not whole.
                    if let Some(Held::Streaming(_)) = self.held_position(&context.database)? {
                        context.progress.set_phase(Phase::Finished);
                    }
                    return Ok(());
                }
                Err(SourceError::Unavailable(reason))
                    if established && context.mode == RunMode::Continuous =>
                {
                    if started.elapsed() > RECONNECT_PAUSE_MAX {
                        pause = RECONNECT_PAUSE_MIN;
                    }
                    tracing::warn!(
                        source = self.name,
                        reason,
                        pause_ms = pause.as_millis(),
                        "connecting again"
                    );
                    tokio::select! {
                        () = context.stop.cancelled() => return Ok(()),
                        () = tokio::time::sleep(pause) => {}
                    }
                    pause = (pause * 2).min(RECONNECT_PAUSE_MAX);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Waits for the work, or gives it up and returns `None` when the source is to stop.
async fn until_stopped<T>(
    context: &SourceContext,
    work: impl Future<Output = Result<T, SourceError>>,
) -> Result<Option<T>, SourceError> {
    tokio::select! {
        biased;
        () = context.stop.cancelled() => Ok(None),
        done = work => done.map(Some),
    }
}

/// Refuses tables whose existing rows were not part of the copy.
fn check_copied(database: &Database, tables: &[SourceTable]) -> Result<(), SourceError> {
    match tables
        .iter()
        .find(|table| database.table(&table.full_name()).is_none())
    {
        None => Ok(()),
        Some(table) => Err(SourceError::Config(format!(
            "table '{}' was not there when the tables were copied, so its earlier rows are missing: mirror it by a source \
             of another name, or leave it out of postgres.tables",
            table.full_name()
        ))),
    }
}

async fn create_tables(
    database: &Database,
    tables: Vec<SourceTable>,
) -> Result<Vec<Arc<MirroredTable>>, SourceError> {
    let database = database.clone();
    blocking(move || {
        let create = |source: SourceTable| {
            let engine = database.create_table(source.engine_schema()?)?;
            Ok(Arc::new(MirroredTable { source, engine }))
        };
        tables.into_iter().map(create).collect()
    })
    .await
}

/// The end of the server's log.
async fn current_position(client: &Client) -> Result<PgLsn, SourceError> {
    let row = client.query_one("SELECT pg_current_wal_lsn()", &[]).await;
    catalog::get(
        &row.map_err(|error| sql::sql_error("reading its log position", &error))?,
        0,
    )
}

/// Runs a call of the engine, which may wait for the disk, without holding up other tasks.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, SourceError> + Send + 'static,
) -> Result<T, SourceError> {
    match tokio::task::spawn_blocking(call).await {
        Ok(result) => result,
        Err(error) => Err(SourceError::Unavailable(format!(
            "a call of the engine did not end: {error}"
        ))),
    }
}
