//! The rows of an SQL catalog, an SQLite file or a PostgreSQL database: two tables, as Iceberg's JDBC catalog and PyIceberg's SQL
//! catalog make them.
//!
//! Statements are written so that SQLite and PostgreSQL both take them. Each has a time limit, so that a database that does
//! not answer holds up nothing for ever.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use iceberg::TableIdent;
use reqwest::Url;
use sqlx::any::{AnyArguments, AnyPoolOptions, AnyRow, install_default_drivers};
use sqlx::error::DatabaseError;
use sqlx::pool::PoolConnection;
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, AnyPool, Executor, Row};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::located::{Located, Locations, NotTaken, Reason};
use crate::config::{SqlConfig, SqlPlace};
use crate::error::{At, ExportError, Result};

/// The database has so much longer to answer than it gives itself.
const ANSWER_MARGIN: Duration = Duration::from_secs(2);

/// How many connections are held at most.
const CONNECTIONS_MAX: u32 = 2;

/// The catalog's name within its database; other implementations have to be told it.
const CATALOG_NAME: &str = "moonshine";

/// PostgreSQL's codes for a table and a column that are not there.
const NO_SUCH_TABLE: &str = "42P01";
const NO_SUCH_COLUMN: &str = "42703";

/// Each table: what reads no row of it, and what makes it.
const TABLES: [(&str, &str); 2] = [
    (
        "SELECT 1 FROM iceberg_tables WHERE 1 = 0",
        "CREATE TABLE IF NOT EXISTS iceberg_tables (
            catalog_name VARCHAR(255) NOT NULL,
            table_namespace VARCHAR(255) NOT NULL,
            table_name VARCHAR(255) NOT NULL,
            metadata_location VARCHAR(1000),
            previous_metadata_location VARCHAR(1000),
            iceberg_type VARCHAR(5),
            PRIMARY KEY (catalog_name, table_namespace, table_name))",
    ),
    (
        "SELECT 1 FROM iceberg_namespace_properties WHERE 1 = 0",
        "CREATE TABLE IF NOT EXISTS iceberg_namespace_properties (
            catalog_name VARCHAR(255) NOT NULL,
            namespace VARCHAR(255) NOT NULL,
            property_key VARCHAR(255),
            property_value VARCHAR(1000),
            PRIMARY KEY (catalog_name, namespace, property_key))",
    ),
];

/// A row that stands for a table, as opposed to a view. The first version of the JDBC catalog, and PyIceberg, have no such
/// column.
const IS_TABLE: &str = " AND (iceberg_type = 'TABLE' OR iceberg_type IS NULL)";

/// The rows of a catalog.
#[derive(Debug)]
pub(super) struct Rows {
    pool: AnyPool,
    catalog_name: String,
    has_type: bool,
    place: String,
    /// How long the database has to answer.
    limit: Duration,
}

impl Rows {
    /// Connects; makes the tables where they are missing and `create` says so.
    pub(super) async fn open(place: &SqlPlace, config: &SqlConfig, create: bool) -> Result<Rows> {
        let mut rows = Self::connect(place, config, create).await?;
        for (probe, make) in TABLES {
            // Who finds them needs no right to make any.
            if create && !rows.has(probe, is_no_such_table).await? {
                rows.execute(sqlx::query(make)).await?;
            }
        }
        let typed = "SELECT iceberg_type FROM iceberg_tables WHERE 1 = 0";
        rows.has_type = rows.has(typed, is_no_such_column).await?;
        Ok(rows)
    }

    /// Whether the tables were made; of an SQLite file, whether there is one.
    pub(super) async fn exist(place: &SqlPlace, config: &SqlConfig) -> Result<bool> {
        if let SqlPlace::File(path) = place {
            let found = tokio::fs::try_exists(path).await;
            let place = format!("catalog {}", path.display());
            return found.map_err(|error| ExportError::unavailable(place, error));
        }
        let rows = Self::connect(place, config, false).await?;
        let [(probe, _), _] = TABLES;
        rows.has(probe, is_no_such_table).await
    }

    async fn connect(place: &SqlPlace, config: &SqlConfig, create: bool) -> Result<Rows> {
        install_default_drivers();
        let limit = config.timeout();
        let (pool, place) = match place {
            SqlPlace::File(path) => open_file(path, create, limit).await?,
            SqlPlace::Server(url) => open_server(url, config).await?,
        };
        let catalog_name = config.catalog_name.as_deref().unwrap_or(CATALOG_NAME);
        Ok(Rows {
            pool,
            catalog_name: catalog_name.to_owned(),
            has_type: true,
            place,
            limit: limit + ANSWER_MARGIN,
        })
    }

    /// Whether the database knows what `probe` names; `is_missing` tells that error from others.
    async fn has(&self, probe: &str, is_missing: fn(&dyn DatabaseError) -> bool) -> Result<bool> {
        match self.fetch(sqlx::query(probe)).await {
            Ok(_) => Ok(true),
            Err(sqlx::Error::Database(error)) if is_missing(error.as_ref()) => Ok(false),
            Err(error) => Err(error).at(&self.place),
        }
    }

    /// A statement whose first parameters are the catalog, and a table's namespace and name.
    fn of_table<'q>(
        &'q self,
        statement: &'q str,
        ident: &'q TableIdent,
    ) -> Query<'q, Any, AnyArguments<'q>> {
        sqlx::query(statement)
            .bind(&self.catalog_name)
            .bind(namespace(ident))
            .bind(ident.name())
    }

    /// What a statement reads.
    async fn fetch<'q>(
        &self,
        statement: Query<'q, Any, AnyArguments<'q>>,
    ) -> sqlx::Result<Vec<AnyRow>> {
        let mut connection = self.pool.acquire().await?;
        let answer = timeout(self.limit, statement.fetch_all(&mut *connection)).await;
        self.answered(connection, answer)
    }

    /// How many rows a statement changed.
    async fn execute<'q>(&self, statement: Query<'q, Any, AnyArguments<'q>>) -> Result<u64> {
        let connection = self.pool.acquire().await.at(&self.place)?;
        self.execute_on(connection, statement).await
    }

    async fn execute_on<'q>(
        &self,
        mut connection: PoolConnection<Any>,
        statement: Query<'q, Any, AnyArguments<'q>>,
    ) -> Result<u64> {
        let answer = timeout(self.limit, statement.execute(&mut *connection)).await;
        let done = self.answered(connection, answer).at(&self.place)?;
        Ok(done.rows_affected())
    }

    /// Makes a change of one row. A database makes no copies of what it is told.
    async fn change<'q>(
        &self,
        statement: Query<'q, Any, AnyArguments<'q>>,
    ) -> Result<(), NotTaken> {
        let connection = self.pool.acquire().await.at(&self.place);
        let not_sent = |error| NotTaken::certain(Reason::Busy(error));
        let connection = connection.map_err(not_sent)?;
        match self.execute_on(connection, statement).await {
            Ok(1) => Ok(()),
            Ok(_) => Err(NotTaken::certain(Reason::Conflict)),
            Err(error) => Err(NotTaken::likely(Reason::Unknown(error))),
        }
    }

    /// The answer, if it came in time. A connection without one is closed: the pool would wait for the answer before it
    /// lends the connection again, and has few of them.
    fn answered<T>(
        &self,
        connection: PoolConnection<Any>,
        answer: Result<sqlx::Result<T>, Elapsed>,
    ) -> sqlx::Result<T> {
        answer.unwrap_or_else(|_| {
            drop(connection.detach());
            let reason = format!("no answer to a statement within {:?}", self.limit);
            let late = std::io::Error::new(std::io::ErrorKind::TimedOut, reason);
            Err(sqlx::Error::Io(late))
        })
    }

    fn is_table(&self) -> &'static str {
        match self.has_type {
            true => IS_TABLE,
            false => "",
        }
    }
}

fn namespace(ident: &TableIdent) -> String {
    ident.namespace().join(".")
}

#[async_trait]
impl Locations for Rows {
    async fn find(&self, ident: &TableIdent) -> Result<Option<String>> {
        let statement = format!(
            "SELECT metadata_location FROM iceberg_tables \
             WHERE catalog_name = $1 AND table_namespace = $2 AND table_name = $3{}",
            self.is_table()
        );
        let statement = self.of_table(&statement, ident);
        let rows = self.fetch(statement).await.at(&self.place)?;
        let location = rows.first().map(|row| row.try_get(0));
        location.transpose().at(&self.place)
    }

    async fn list(&self) -> Result<Vec<TableIdent>> {
        let statement = format!(
            "SELECT table_namespace, table_name FROM iceberg_tables \
             WHERE catalog_name = $1{} ORDER BY table_namespace, table_name",
            self.is_table()
        );
        let statement = sqlx::query(&statement).bind(&self.catalog_name);
        let rows = self.fetch(statement).await.at(&self.place)?;
        let ident = |row: &AnyRow| {
            let namespace: String = row.try_get(0).at(&self.place)?;
            let name: String = row.try_get(1).at(&self.place)?;
            TableIdent::from_strs(namespace.split('.').chain([name.as_str()])).at(&self.place)
        };
        rows.iter().map(ident).collect()
    }

    async fn make_room(&self, ident: &TableIdent) -> Result<()> {
        let statement = sqlx::query(
            "INSERT INTO iceberg_namespace_properties (catalog_name, namespace, property_key, property_value) \
             VALUES ($1, $2, 'exists', 'true') ON CONFLICT DO NOTHING",
        )
        .bind(&self.catalog_name)
        .bind(namespace(ident));
        self.execute(statement).await.map(drop)
    }

    async fn add(&self, ident: &TableIdent, first: Located<'_>) -> Result<(), NotTaken> {
        let (column, value) = match self.has_type {
            true => (", iceberg_type", ", 'TABLE'"),
            false => ("", ""),
        };
        let statement = format!(
            "INSERT INTO iceberg_tables (catalog_name, table_namespace, table_name, metadata_location{column}) \
             VALUES ($1, $2, $3, $4{value}) ON CONFLICT DO NOTHING"
        );
        let statement = self.of_table(&statement, ident).bind(first.location);
        self.change(statement).await
    }

    async fn swap(&self, ident: &TableIdent, from: &str, to: Located<'_>) -> Result<(), NotTaken> {
        let statement = format!(
            "UPDATE iceberg_tables SET metadata_location = $1, previous_metadata_location = $2 \
             WHERE catalog_name = $3 AND table_namespace = $4 AND table_name = $5 AND metadata_location = $6{}",
            self.is_table()
        );
        let statement = sqlx::query(&statement)
            .bind(to.location)
            .bind(from)
            .bind(&self.catalog_name)
            .bind(namespace(ident))
            .bind(ident.name())
            .bind(from);
        self.change(statement).await
    }

    async fn remove(&self, ident: &TableIdent) -> Result<bool> {
        let statement = format!(
            "DELETE FROM iceberg_tables \
             WHERE catalog_name = $1 AND table_namespace = $2 AND table_name = $3{}",
            self.is_table()
        );
        let statement = self.of_table(&statement, ident);
        Ok(self.execute(statement).await? == 1)
    }
}

fn is_no_such_table(error: &dyn DatabaseError) -> bool {
    error.code().as_deref() == Some(NO_SUCH_TABLE) || error.message().starts_with("no such table")
}

fn is_no_such_column(error: &dyn DatabaseError) -> bool {
    error.code().as_deref() == Some(NO_SUCH_COLUMN) || error.message().starts_with("no such column")
}

/// Connections that begin with these statements.
fn pool_options(limit: Duration, settings: String) -> AnyPoolOptions {
    AnyPoolOptions::new()
        .max_connections(CONNECTIONS_MAX)
        .acquire_timeout(limit)
        .after_connect(move |connection: &mut AnyConnection, _| {
            let settings = settings.clone();
            Box::pin(async move { connection.execute(settings.as_str()).await.map(drop) })
        })
}

async fn open_file(path: &Path, create: bool, limit: Duration) -> Result<(AnyPool, String)> {
    let place = format!("catalog {}", path.display());
    if create {
        create_folder(path).await?;
    }
    // Others may read while we commit, and what is committed is on disk.
    let settings = format!(
        "PRAGMA busy_timeout = {}; PRAGMA synchronous = FULL;{}",
        limit.as_millis(),
        match create {
            true => "PRAGMA journal_mode = WAL;",
            false => "",
        }
    );
    let mode = match create {
        true => "rwc",
        false => "rw",
    };
    let uri = format!("sqlite://{}?mode={mode}", percent_encoded(path)?);
    let pool = pool_options(limit, settings).connect(&uri).await;
    Ok((pool.at(&place)?, place))
}

async fn open_server(url: &Url, config: &SqlConfig) -> Result<(AnyPool, String)> {
    let place = format!("catalog {url}");
    let mut secret = url.clone();
    if let Some(password) = &config.password {
        let refused = |()| ExportError::Config("catalog_uri: it has no host".into());
        secret
            .set_password(Some(password.reveal()))
            .map_err(refused)?;
    }
    let limit = config.timeout();
    // A statement that waits for a lock must not take place once nobody waits for it any more.
    let settings = format!("SET statement_timeout = {}", limit.as_millis());
    let pool = pool_options(limit, settings).connect(secret.as_str()).await;
    Ok((pool.at(&place)?, place))
}

/// SQLite makes its file, but not the folder of it.
async fn create_folder(catalog_file: &Path) -> Result<()> {
    let Some(folder) = catalog_file.parent() else {
        return Ok(());
    };
    tokio::fs::create_dir_all(folder)
        .await
        .map_err(|error| ExportError::unavailable(format!("folder {}", folder.display()), error))
}

fn percent_encoded(path: &Path) -> Result<String> {
    let text = path.to_str().ok_or_else(|| {
        ExportError::Config(format!("catalog_uri: '{}' is not UTF-8", path.display()))
    })?;
    let encode = |byte: u8| match byte {
        b'/' | b'.' | b'-' | b'_' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    Ok(text.bytes().map(encode).collect())
}
