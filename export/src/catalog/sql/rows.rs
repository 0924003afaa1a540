//! The rows of an SQL catalog: two tables, as Iceberg's JDBC catalog and PyIceberg's SQL catalog make them.
//!
//! Statements are written so that SQLite and PostgreSQL both take them.

use std::path::Path;
use std::time::Duration;

use reqwest::Url;
use sqlx::any::{AnyPoolOptions, install_default_drivers};
use sqlx::{AnyConnection, AnyPool, Executor};

use crate::config::{SqlConfig, SqlPlace};
use crate::error::{At, ExportError, Result};

/// How long a statement waits while another process writes to an SQLite file.
const BUSY_TIMEOUT_MS: u64 = 30_000;

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// How many connections are held at most.
const CONNECTIONS_MAX: u32 = 2;

/// The catalog's name within its database; other implementations have to be told it.
const CATALOG_NAME: &str = "moonshine";

/// PostgreSQL's code for that.
const NO_SUCH_TABLE: &str = "42P01";

const MAKE_TABLES: &str = "CREATE TABLE IF NOT EXISTS iceberg_tables (
        catalog_name VARCHAR(255) NOT NULL,
        table_namespace VARCHAR(255) NOT NULL,
        table_name VARCHAR(255) NOT NULL,
        metadata_location VARCHAR(1000),
        previous_metadata_location VARCHAR(1000),
        iceberg_type VARCHAR(5),
        PRIMARY KEY (catalog_name, table_namespace, table_name));
    CREATE TABLE IF NOT EXISTS iceberg_namespace_properties (
        catalog_name VARCHAR(255) NOT NULL,
        namespace VARCHAR(255) NOT NULL,
        property_key VARCHAR(255),
        property_value VARCHAR(1000),
        PRIMARY KEY (catalog_name, namespace, property_key))";

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
}

/// A table's name in the rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name<'a> {
    pub(super) namespace: &'a str,
    pub(super) table: &'a str,
}

/// Why a row was not changed.
#[derive(Debug)]
pub(super) enum NotSwapped {
    /// Another one was faster.
    Moved,
    /// The statement was not sent.
    NotSent(ExportError),
    /// Whether it took place is not known.
    Unknown(ExportError),
}

impl Rows {
    /// Connects; makes the tables where they are missing and `create` says so.
    pub(super) async fn open(place: &SqlPlace, config: &SqlConfig, create: bool) -> Result<Rows> {
        install_default_drivers();
        let (pool, place) = match place {
            SqlPlace::File(path) => open_file(path, create).await?,
            SqlPlace::Server(url) => open_server(url, config).await?,
        };
        if create {
            pool.execute(MAKE_TABLES).await.at(&place)?;
        }
        let typed = sqlx::query("SELECT iceberg_type FROM iceberg_tables WHERE 1 = 0");
        let has_type = typed.execute(&pool).await.is_ok();
        let catalog_name = config.catalog_name.as_deref().unwrap_or(CATALOG_NAME);
        Ok(Rows {
            pool,
            catalog_name: catalog_name.to_owned(),
            has_type,
            place,
        })
    }

    /// Whether the tables were made; of an SQLite file, whether there is one.
    pub(super) async fn exist(place: &SqlPlace, config: &SqlConfig) -> Result<bool> {
        install_default_drivers();
        let url = match place {
            SqlPlace::File(path) => {
                let found = tokio::fs::try_exists(path).await;
                let place = format!("catalog {}", path.display());
                return found.map_err(|error| ExportError::unavailable(place, error));
            }
            SqlPlace::Server(url) => url,
        };
        let (pool, place) = open_server(url, config).await?;
        let probe = sqlx::query("SELECT 1 FROM iceberg_tables WHERE 1 = 0");
        match probe.execute(&pool).await {
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(NO_SUCH_TABLE) => {
                Ok(false)
            }
            probed => probed.map(|_| true).at(&place),
        }
    }

    fn is_table(&self) -> &'static str {
        match self.has_type {
            true => IS_TABLE,
            false => "",
        }
    }

    /// Where the metadata of a table is.
    pub(super) async fn metadata_location(&self, name: Name<'_>) -> Result<Option<String>> {
        let statement = format!(
            "SELECT metadata_location FROM iceberg_tables \
             WHERE catalog_name = $1 AND table_namespace = $2 AND table_name = $3{}",
            self.is_table()
        );
        sqlx::query_scalar(&statement)
            .bind(&self.catalog_name)
            .bind(name.namespace)
            .bind(name.table)
            .fetch_optional(&self.pool)
            .await
            .at(&self.place)
    }

    /// Namespace and name of each table.
    pub(super) async fn list(&self) -> Result<Vec<(String, String)>> {
        let statement = format!(
            "SELECT table_namespace, table_name FROM iceberg_tables \
             WHERE catalog_name = $1{} ORDER BY table_namespace, table_name",
            self.is_table()
        );
        sqlx::query_as(&statement)
            .bind(&self.catalog_name)
            .fetch_all(&self.pool)
            .await
            .at(&self.place)
    }

    pub(super) async fn add_namespace(&self, namespace: &str) -> Result<()> {
        sqlx::query(
            "INSERT INTO iceberg_namespace_properties (catalog_name, namespace, property_key, property_value) \
             VALUES ($1, $2, 'exists', 'true') ON CONFLICT DO NOTHING",
        )
        .bind(&self.catalog_name)
        .bind(namespace)
        .execute(&self.pool)
        .await
        .at(&self.place)
        .map(drop)
    }

    /// Adds a table; false if there is one, or a view, of that name.
    pub(super) async fn add(&self, name: Name<'_>, location: &str) -> Result<bool> {
        let (column, value) = match self.has_type {
            true => (", iceberg_type", ", 'TABLE'"),
            false => ("", ""),
        };
        let statement = format!(
            "INSERT INTO iceberg_tables (catalog_name, table_namespace, table_name, metadata_location{column}) \
             VALUES ($1, $2, $3, $4{value}) ON CONFLICT DO NOTHING"
        );
        let added = sqlx::query(&statement)
            .bind(&self.catalog_name)
            .bind(name.namespace)
            .bind(name.table)
            .bind(location)
            .execute(&self.pool)
            .await
            .at(&self.place)?;
        Ok(added.rows_affected() == 1)
    }

    /// Puts another metadata file in the place of `from`, if that is still the newest.
    pub(super) async fn swap(
        &self,
        name: Name<'_>,
        from: &str,
        to: &str,
    ) -> Result<(), NotSwapped> {
        let statement = format!(
            "UPDATE iceberg_tables SET metadata_location = $1, previous_metadata_location = $2 \
             WHERE catalog_name = $3 AND table_namespace = $4 AND table_name = $5 AND metadata_location = $6{}",
            self.is_table()
        );
        let connection = self.pool.acquire().await.at(&self.place);
        let mut connection = connection.map_err(NotSwapped::NotSent)?;
        let swapped = sqlx::query(&statement)
            .bind(to)
            .bind(from)
            .bind(&self.catalog_name)
            .bind(name.namespace)
            .bind(name.table)
            .bind(from)
            .execute(&mut *connection)
            .await
            .at(&self.place)
            .map_err(NotSwapped::Unknown)?;
        match swapped.rows_affected() {
            1 => Ok(()),
            _ => Err(NotSwapped::Moved),
        }
    }

    /// Removes a table; false if there was none.
    pub(super) async fn remove(&self, name: Name<'_>) -> Result<bool> {
        let statement = format!(
            "DELETE FROM iceberg_tables \
             WHERE catalog_name = $1 AND table_namespace = $2 AND table_name = $3{}",
            self.is_table()
        );
        let removed = sqlx::query(&statement)
            .bind(&self.catalog_name)
            .bind(name.namespace)
            .bind(name.table)
            .execute(&self.pool)
            .await
            .at(&self.place)?;
        Ok(removed.rows_affected() == 1)
    }
}

fn pool_options() -> AnyPoolOptions {
    AnyPoolOptions::new()
        .max_connections(CONNECTIONS_MAX)
        .acquire_timeout(CONNECT_TIMEOUT)
}

async fn open_file(path: &Path, create: bool) -> Result<(AnyPool, String)> {
    let place = format!("catalog {}", path.display());
    if create {
        create_folder(path).await?;
    }
    // Others may read while we commit, and what is committed is on disk.
    let settings = format!(
        "PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}; PRAGMA synchronous = FULL;{}",
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
    let options = pool_options().after_connect(move |connection: &mut AnyConnection, _| {
        let settings = settings.clone();
        Box::pin(async move { connection.execute(settings.as_str()).await.map(drop) })
    });
    let pool = options.connect(&uri).await.at(&place)?;
    Ok((pool, place))
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
    let connected = pool_options().connect(secret.as_str()).await;
    Ok((connected.at(&place)?, place))
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
