//! Catalogs that store no more of a table than where its newest metadata file is.
//!
//! A commit writes the next file and swaps its location for the old one's. How such a catalog keeps locations, and
//! compares before it swaps, is its [`Locations`]; all else is here.

use std::sync::Arc;

use async_trait::async_trait;
use iceberg::TableIdent;
use iceberg::io::FileIO;
use iceberg::spec::{MetadataLog, TableMetadata};
use uuid::Uuid;

use super::glue::GlueTables;
use super::sql::Rows;
use super::{CatalogTable, Change, CommitOutcome, Guard, NewTable, TableCatalog, metadata_file};
use crate::config::IcebergConfig;
use crate::error::{At, ExportError, Result};
use crate::store::{Store, StoreProperties};

/// The table property that has old metadata files deleted.
pub(crate) const METADATA_DELETE_AFTER_COMMIT: &str = "write.metadata.delete-after-commit.enabled";

/// What is to be the newest of a table.
#[derive(Clone, Copy)]
pub(super) struct Located<'a> {
    /// Where the metadata is.
    pub(super) location: &'a str,
    /// What it says.
    pub(super) metadata: &'a TableMetadata,
}

/// Why a location was not swapped.
#[derive(Debug)]
pub(super) enum NotSwapped {
    /// Another one was faster; nobody was told the new location.
    Moved,
    /// Another one was faster, though a copy of the request that the network made may have been the one.
    Conflict,
    /// Nothing was sent, or taken.
    NotSent(ExportError),
    /// The catalog refused.
    Refused(ExportError),
    /// Whether it took place is not known.
    Unknown(ExportError),
}

/// Where the newest metadata files of tables are.
#[async_trait]
pub(super) trait Locations: Send + Sync + std::fmt::Debug {
    /// Every table.
    async fn list(&self) -> Result<Vec<TableIdent>>;

    /// The location of a table.
    async fn find(&self, ident: &TableIdent) -> Result<Option<String>>;

    /// Checks that the catalog can have a table of that name, and makes its namespace where it is missing.
    async fn make_room(&self, ident: &TableIdent) -> Result<()>;

    /// Adds a table; false if there is one, or something else, of that name.
    async fn add(&self, ident: &TableIdent, first: Located<'_>) -> Result<bool>;

    /// Puts another metadata file in the place of `from`, if that is still the newest.
    async fn swap(&self, ident: &TableIdent, from: &str, to: Located<'_>)
    -> Result<(), NotSwapped>;

    /// Removes a table; false if there was none.
    async fn remove(&self, ident: &TableIdent) -> Result<bool>;
}

/// A catalog that stores no more of a table than where its newest metadata file is: an SQLite file, a PostgreSQL database,
/// AWS Glue.
#[derive(Debug)]
pub struct LocationCatalog {
    locations: Box<dyn Locations>,
    warehouse: String,
    /// The warehouse's.
    store: Store,
    store_properties: StoreProperties,
}

impl LocationCatalog {
    /// Whether the SQL catalog of that configuration was made.
    ///
    /// # Errors
    /// [`ExportError::Config`]; [`ExportError::Unavailable`] if that can't be seen.
    pub async fn sql_exists(config: &IcebergConfig) -> Result<bool> {
        Rows::exist(&config.sql_places()?.catalog, &config.sql).await
    }

    /// Opens the SQL catalog of that configuration, in an SQLite file or a PostgreSQL database, or makes it if it is missing
    /// and `create` says so.
    ///
    /// # Errors
    /// [`ExportError::Config`]; [`ExportError::Unavailable`], also if it is missing and `create` is false.
    pub async fn sql(config: &IcebergConfig, create: bool) -> Result<Self> {
        let places = config.sql_places()?;
        let rows = Rows::open(&places.catalog, &config.sql, create).await?;
        Self::of(Box::new(rows), places.warehouse, config)
    }

    /// The catalog of AWS Glue that a configuration names. No request is sent.
    ///
    /// # Errors
    /// [`ExportError::Config`].
    pub fn glue(config: &IcebergConfig) -> Result<Self> {
        let places = config.glue_places()?;
        let tables = GlueTables::open(&places, &config.store)?;
        Self::of(Box::new(tables), places.warehouse, config)
    }

    fn of(
        locations: Box<dyn Locations>,
        warehouse: String,
        config: &IcebergConfig,
    ) -> Result<Self> {
        Ok(LocationCatalog {
            locations,
            store: Store::open(&warehouse, &config.store)?,
            store_properties: config.store.clone(),
            warehouse,
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
impl TableCatalog for LocationCatalog {
    fn warehouse(&self) -> Option<&str> {
        Some(&self.warehouse)
    }

    fn guard(&self) -> Guard {
        Guard::Metadata
    }

    async fn list(&self) -> Result<Vec<TableIdent>> {
        self.locations.list().await
    }

    async fn load(&self, ident: &TableIdent) -> Result<Option<CatalogTable>> {
        let Some(metadata_location) = self.locations.find(ident).await? else {
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
        self.locations.make_room(ident).await?;
        let file_io = self.store_of(&folder)?.file_io();
        let metadata = table.metadata(&place, folder)?;
        let metadata_location = metadata_file::next_location(metadata.location(), None, file_id);
        metadata_file::write(&file_io, &metadata_location, &metadata).await?;
        let first = Located {
            location: &metadata_location,
            metadata: &metadata,
        };
        if !self.locations.add(ident, first).await? {
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
        let located = Located {
            location: &location,
            metadata: &next.metadata,
        };
        let swapped = self.locations.swap(&base.ident, base_location, located);
        let outcome = match swapped.await {
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
            // The table may have the file after all; orphan removal finds out.
            Err(NotSwapped::Conflict) => return CommitOutcome::Conflict,
            Err(NotSwapped::Refused(error)) => CommitOutcome::Refused(error),
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
        self.locations.remove(ident).await
    }
}
