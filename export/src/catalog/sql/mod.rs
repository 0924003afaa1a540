//! The SQL catalog: an SQLite file or a PostgreSQL database, in the tables that Iceberg's other implementations use too.
//!
//! It stores where a table's newest metadata file is. A commit writes the next file and swaps its location for the old
//! one's, by one statement.

mod rows;

use std::sync::Arc;

use async_trait::async_trait;
use iceberg::TableIdent;
use iceberg::io::FileIO;
use iceberg::spec::{MetadataLog, TableMetadata};
use uuid::Uuid;

use self::rows::{Name, NotSwapped, Rows};
use super::{CatalogTable, Change, CommitOutcome, Guard, NewTable, TableCatalog, metadata_file};
use crate::config::IcebergConfig;
use crate::error::{At, ExportError, Result};
use crate::store::{Store, StoreProperties};

/// The table property that has old metadata files deleted.
pub(crate) const METADATA_DELETE_AFTER_COMMIT: &str = "write.metadata.delete-after-commit.enabled";

/// An SQL catalog in an SQLite file or a PostgreSQL database.
#[derive(Debug)]
pub struct SqlCatalog {
    rows: Rows,
    warehouse: String,
    /// The warehouse's.
    store: Store,
    store_properties: StoreProperties,
}

impl SqlCatalog {
    /// Whether the catalog of that configuration was made.
    ///
    /// # Errors
    /// [`ExportError::Config`]; [`ExportError::Unavailable`] if that can't be seen.
    pub async fn exists(config: &IcebergConfig) -> Result<bool> {
        Rows::exist(&config.sql_places()?.catalog, &config.sql).await
    }

    /// Opens the catalog of that configuration, or makes it if it is missing and `create` says so.
    ///
    /// # Errors
    /// [`ExportError::Config`]; [`ExportError::Unavailable`], also if it is missing and `create` is false.
    pub async fn open(config: &IcebergConfig, create: bool) -> Result<Self> {
        let places = config.sql_places()?;
        Ok(SqlCatalog {
            rows: Rows::open(&places.catalog, &config.sql, create).await?,
            store: Store::open(&places.warehouse, &config.store)?,
            store_properties: config.store.clone(),
            warehouse: places.warehouse,
        })
    }

    /// The store of a location; those of tables that others made may lie elsewhere.
    fn store_of(&self, location: &str) -> Result<Store> {
        match self.store.holds(location) {
            true => Ok(self.store.clone()),
            false => Store::open(location, &self.store_properties),
        }
    }
}

/// Deletes the metadata files that fell off the end of the log, if the table is set to.
async fn delete_expired(file_io: &FileIO, metadata: &TableMetadata, expired: Vec<MetadataLog>) {
    let is_set = metadata.properties().get(METADATA_DELETE_AFTER_COMMIT);
    if is_set.is_none_or(|set| set != "true") {
        return;
    }
    for file in expired {
        if let Err(error) = file_io.delete(&file.metadata_file).await {
            tracing::warn!(location = %file.metadata_file, %error, "an old metadata file stays behind");
        }
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
        let ident = |(namespace, name): (String, String)| {
            TableIdent::from_strs(namespace.split('.').chain([name.as_str()])).at("catalog")
        };
        self.rows.list().await?.into_iter().map(ident).collect()
    }

    async fn load(&self, ident: &TableIdent) -> Result<Option<CatalogTable>> {
        let namespace = ident.namespace().join(".");
        let name = name(&namespace, ident);
        let Some(metadata_location) = self.rows.metadata_location(name).await? else {
            return Ok(None);
        };
        let file_io = self.store_of(&metadata_location)?.file_io();
        let metadata = TableMetadata::read_from(&file_io, &metadata_location).await;
        Ok(Some(CatalogTable {
            ident: ident.clone(),
            metadata: Arc::new(metadata.at(&metadata_location)?),
            metadata_location,
            file_io,
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
        let namespace = ident.namespace().join(".");
        self.rows.add_namespace(&namespace).await?;
        let file_io = self.store_of(&folder)?.file_io();
        let metadata = table.metadata(&place, folder)?;
        let metadata_location = metadata_file::next_location(metadata.location(), None, file_id);
        metadata_file::write(&file_io, &metadata_location, &metadata).await?;
        if !self
            .rows
            .add(name(&namespace, ident), &metadata_location)
            .await?
        {
            return Err(ExportError::unavailable(
                place,
                "the catalog has a table or a view of that name",
            ));
        }
        Ok(CatalogTable {
            ident: ident.clone(),
            metadata: Arc::new(metadata),
            metadata_location,
            file_io,
        })
    }

    async fn commit(&self, base: &CatalogTable, change: &Change, file_id: Uuid) -> CommitOutcome {
        if !change.may_follow(&base.metadata) {
            return CommitOutcome::Conflict;
        }
        let next = match change.apply(base) {
            Ok(next) => next,
            Err(error) => return CommitOutcome::Refused(error),
        };
        let base_location = base.metadata_location.as_str();
        let location =
            metadata_file::next_location(next.metadata.location(), Some(base_location), file_id);
        // Nothing was sent to the catalog: a store that is well again takes the next attempt.
        if let Err(error) = metadata_file::write(&base.file_io, &location, &next.metadata).await {
            return CommitOutcome::Busy {
                retry_after_ms: None,
                error,
            };
        }
        let namespace = base.ident.namespace().join(".");
        let name = name(&namespace, &base.ident);
        let swapped = self.rows.swap(name, base_location, &location).await;
        let outcome = match swapped {
            Ok(()) => {
                let expired = next.expired_metadata_logs;
                delete_expired(&base.file_io, &next.metadata, expired).await;
                return CommitOutcome::Committed(CatalogTable {
                    metadata: Arc::new(next.metadata),
                    metadata_location: location,
                    ..base.clone()
                });
            }
            Err(NotSwapped::Unknown(error)) => return CommitOutcome::Unknown(error),
            Err(NotSwapped::Moved) => CommitOutcome::Conflict,
            Err(NotSwapped::NotSent(error)) => CommitOutcome::Busy {
                retry_after_ms: None,
                error,
            },
        };
        // Nobody can come to refer to the file now; one that stays behind does no harm.
        if let Err(error) = base.file_io.delete(&location).await {
            tracing::warn!(%location, %error, "an unused metadata file stays behind");
        }
        outcome
    }

    async fn store(&self, table: &CatalogTable) -> Result<Option<Store>> {
        self.store_of(table.metadata.location()).map(Some)
    }

    async fn drop_table(&self, ident: &TableIdent) -> Result<bool> {
        let namespace = ident.namespace().join(".");
        self.rows.remove(name(&namespace, ident)).await
    }
}

fn name<'a>(namespace: &'a str, ident: &'a TableIdent) -> Name<'a> {
    Name {
        namespace,
        table: ident.name(),
    }
}
