//! The SQL catalog in an SQLite file, in the tables that Iceberg's other implementations use too.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use iceberg::io::{FileIO, LocalFsStorageFactory};
use iceberg::spec::{MetadataLog, TableMetadata};
use iceberg::{Catalog, CatalogBuilder, NamespaceIdent, TableIdent};
use iceberg_catalog_sql::{SqlBindStyle, SqlCatalogBuilder};
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use uuid::Uuid;

use super::{CatalogTable, Change, CommitOutcome, Guard, NewTable, TableCatalog, metadata_file};
use crate::config::IcebergConfig;
use crate::error::{At, ExportError, Result};

/// The catalog's name within its SQLite file; other implementations have to be told it.
pub(crate) const CATALOG_NAME: &str = "moonshine";

/// The table property that has old metadata files deleted.
pub(crate) const METADATA_DELETE_AFTER_COMMIT: &str = "write.metadata.delete-after-commit.enabled";

/// How long a statement waits while another process writes to the catalog.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// How many connections to the SQLite file are held at most.
const CONNECTIONS_MAX: u32 = 2;

/// An SQL catalog in an SQLite file, for a warehouse in a local folder.
#[derive(Debug)]
pub struct SqlCatalog {
    inner: iceberg_catalog_sql::SqlCatalog,
    pool: SqlitePool,
    file_io: FileIO,
    warehouse: String,
    place: String,
}

impl SqlCatalog {
    /// Whether the catalog of that configuration was made.
    ///
    /// # Errors
    /// [`ExportError::Config`]; [`ExportError::Unavailable`] if that can't be seen.
    pub async fn exists(config: &IcebergConfig) -> Result<bool> {
        let catalog_file = config.places()?.catalog_file;
        let place = format!("catalog {}", catalog_file.display());
        tokio::fs::try_exists(&catalog_file)
            .await
            .map_err(|error| ExportError::unavailable(&place, error))
    }

    /// Opens the catalog of that configuration, or makes it if it is missing and `create` says so.
    ///
    /// # Errors
    /// [`ExportError::Config`]; [`ExportError::Unavailable`], also if it is missing and `create` is false.
    pub async fn open(config: &IcebergConfig, create: bool) -> Result<Self> {
        let places = &config.places()?;
        let place = format!("catalog {}", places.catalog_file.display());
        if create {
            create_folder(&places.catalog_file).await?;
        }
        let mut options = SqliteConnectOptions::new()
            .filename(&places.catalog_file)
            .create_if_missing(create)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT);
        if create {
            // Others may read while we commit.
            options = options.journal_mode(SqliteJournalMode::Wal);
        }
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .connect_with(options)
            .await
            .at(&place)?;
        let uri = format!(
            "sqlite://{}?mode=rw",
            percent_encoded(&places.catalog_file)?
        );
        let inner = SqlCatalogBuilder::default()
            .uri(uri)
            .warehouse_location(&places.warehouse)
            .sql_bind_style(SqlBindStyle::QMark)
            .prop("pool.max-connections", CONNECTIONS_MAX.to_string())
            .with_storage_factory(Arc::new(LocalFsStorageFactory))
            .load(CATALOG_NAME, std::collections::HashMap::new())
            .await
            .at(&place)?;
        Ok(SqlCatalog {
            inner,
            pool,
            file_io: FileIO::new_with_fs(),
            warehouse: places.warehouse.clone(),
            place,
        })
    }

    /// Deletes the metadata files that fell off the end of the log, if the table is set to.
    async fn delete_expired(&self, metadata: &TableMetadata, expired: Vec<MetadataLog>) {
        if metadata
            .properties()
            .get(METADATA_DELETE_AFTER_COMMIT)
            .is_none_or(|set| set != "true")
        {
            return;
        }
        for file in expired {
            if let Err(error) = self.file_io.delete(&file.metadata_file).await {
                tracing::warn!(location = %file.metadata_file, %error, "an old metadata file stays behind");
            }
        }
    }

    /// Puts another metadata file in the place of `base`'s; false if that is no longer the newest.
    async fn swap(&self, base: &CatalogTable, location: &str) -> Result<bool> {
        let swapped = sqlx::query(
            "UPDATE iceberg_tables SET metadata_location = ?, previous_metadata_location = ? \
             WHERE catalog_name = ? AND table_namespace = ? AND table_name = ? \
             AND (iceberg_type = 'TABLE' OR iceberg_type IS NULL) AND metadata_location = ?",
        )
        .bind(location)
        .bind(&base.metadata_location)
        .bind(CATALOG_NAME)
        .bind(base.ident.namespace().join("."))
        .bind(base.ident.name())
        .bind(&base.metadata_location)
        .execute(&self.pool)
        .await
        .at(&self.place)?;
        Ok(swapped.rows_affected() == 1)
    }

    async fn create_namespace(&self, namespace: &NamespaceIdent) -> Result<()> {
        if self
            .inner
            .namespace_exists(namespace)
            .await
            .at(&self.place)?
        {
            return Ok(());
        }
        self.inner
            .create_namespace(namespace, std::collections::HashMap::new())
            .await
            .at(&self.place)
            .map(drop)
    }
}

#[async_trait]
impl TableCatalog for SqlCatalog {
    fn warehouse(&self) -> Option<&str> {
        Some(&self.warehouse)
    }

    fn guard(&self) -> Guard {
        Guard::Metadata
    }

    async fn list(&self) -> Result<Vec<TableIdent>> {
        let rows: Vec<(String, String)> = sqlx::query_as(
            "SELECT table_namespace, table_name FROM iceberg_tables \
             WHERE catalog_name = ? AND (iceberg_type = 'TABLE' OR iceberg_type IS NULL) \
             ORDER BY table_namespace, table_name",
        )
        .bind(CATALOG_NAME)
        .fetch_all(&self.pool)
        .await
        .at(&self.place)?;
        let ident = |(namespace, name): (String, String)| {
            TableIdent::from_strs(namespace.split('.').chain([name.as_str()])).at(&self.place)
        };
        rows.into_iter().map(ident).collect()
    }

    async fn load(&self, ident: &TableIdent) -> Result<Option<CatalogTable>> {
        let table = match self.inner.load_table(ident).await {
            Err(error) if error.kind() == iceberg::ErrorKind::TableNotFound => return Ok(None),
            loaded => loaded.at(format!("table '{ident}'"))?,
        };
        let metadata_location = table
            .metadata_location_result()
            .at(format!("table '{ident}'"))?
            .to_owned();
        Ok(Some(CatalogTable {
            ident: ident.clone(),
            metadata: table.metadata_ref(),
            metadata_location,
            file_io: self.file_io.clone(),
        }))
    }

    async fn create(
        &self,
        ident: &TableIdent,
        table: NewTable,
        file_id: Uuid,
    ) -> Result<CatalogTable> {
        let place = format!("table '{ident}'");
        let folder = table.location.clone().ok_or_else(|| {
            ExportError::Config(format!("{place}: this catalog does not choose its folder"))
        })?;
        self.create_namespace(ident.namespace()).await?;
        // Creation through the catalog would number the columns anew; registration takes the metadata as it is.
        let metadata = table.metadata(&place, folder)?;
        let location = metadata_file::next_location(metadata.location(), None, file_id);
        metadata_file::write(&self.file_io, &location, &metadata).await?;
        self.inner
            .register_table(ident, location.clone())
            .await
            .at(&place)?;
        // iceberg-catalog-sql passes over what the commit of its transaction answers (0.10: `execute`), so look.
        match self.load(ident).await? {
            Some(table) if table.metadata_location == location => Ok(table),
            _ => Err(ExportError::unavailable(
                place,
                "the catalog did not keep it",
            )),
        }
    }

    async fn commit(&self, base: &CatalogTable, change: &Change, file_id: Uuid) -> CommitOutcome {
        if !change.may_follow(&base.metadata) {
            return CommitOutcome::Conflict;
        }
        let next = match change.apply(base) {
            Ok(next) => next,
            Err(error) => return CommitOutcome::Refused(error),
        };
        let base_location = Some(base.metadata_location.as_str());
        let location =
            metadata_file::next_location(next.metadata.location(), base_location, file_id);
        if let Err(error) = metadata_file::write(&self.file_io, &location, &next.metadata).await {
            return CommitOutcome::Refused(error);
        }
        match self.swap(base, &location).await {
            Err(error) => CommitOutcome::Unknown(error),
            Ok(true) => {
                self.delete_expired(&next.metadata, next.expired_metadata_logs)
                    .await;
                CommitOutcome::Committed(CatalogTable {
                    ident: base.ident.clone(),
                    metadata: Arc::new(next.metadata),
                    metadata_location: location,
                    file_io: self.file_io.clone(),
                })
            }
            Ok(false) => {
                // Nobody can come to refer to the file now; one that stays behind does no harm.
                if let Err(error) = self.file_io.delete(&location).await {
                    tracing::warn!(%location, %error, "an unused metadata file stays behind");
                }
                CommitOutcome::Conflict
            }
        }
    }

    async fn drop_table(&self, ident: &TableIdent) -> Result<bool> {
        match self.inner.drop_table(ident).await {
            Err(error) if error.kind() == iceberg::ErrorKind::TableNotFound => Ok(false),
            dropped => dropped.at(format!("table '{ident}'")).map(|()| true),
        }
    }
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
