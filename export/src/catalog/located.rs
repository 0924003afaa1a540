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
use super::hive::HiveTables;
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

/// Why a catalog does not say that it took a location.
#[derive(Debug)]
pub(super) enum Reason {
    /// Another one was faster.
    Conflict,
    /// It takes nothing just now.
    Busy(ExportError),
    /// The catalog refused.
    Refused(ExportError),
    /// Whether it took place is not known.
    Unknown(ExportError),
}

/// A location that a catalog does not say that it took.
#[derive(Debug)]
pub(super) struct NotTaken {
    pub(super) reason: Reason,
    /// Whether the catalog may have it all the same. What is answered may be said of a copy of the request that the network made,
    /// and another copy may have been taken before.
    pub(super) may_be_there: bool,
}

impl NotTaken {
    /// Nobody was told the location, or it was told once to who certainly did not take it.
    pub(super) fn certain(reason: Reason) -> Self {
        NotTaken {
            reason,
            may_be_there: false,
        }
    }

    /// As far as the answer says, if there is one.
    pub(super) fn likely(reason: Reason) -> Self {
        NotTaken {
            reason,
            may_be_there: true,
        }
    }
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

    /// Adds a table; a conflict if there is one, or something else, of that name.
    async fn add(&self, ident: &TableIdent, first: Located<'_>) -> Result<(), NotTaken>;

    /// Puts another metadata file in the place of `from`, if that is still the newest.
    async fn swap(&self, ident: &TableIdent, from: &str, to: Located<'_>) -> Result<(), NotTaken>;

    /// Removes a table; false if there was none.
    async fn remove(&self, ident: &TableIdent) -> Result<bool>;
}

/// A catalog that stores no more of a table than where its newest metadata file is: an SQLite file, a PostgreSQL database,
/// AWS Glue, a Hive metastore.
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

    /// The catalog of a Hive metastore that a configuration names. Nothing is asked of it yet.
    ///
    /// # Errors
    /// [`ExportError::Config`].
    pub fn hive(config: &IcebergConfig) -> Result<Self> {
        let (address, warehouse) = config.hive_places()?;
        let tables = HiveTables::open(&address)?;
        Self::of(Box::new(tables), warehouse, config)
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

    /// Whether the catalog has a table that it does not say that it added; `None` if it may still come to have it.
    async fn has_added(
        &self,
        ident: &TableIdent,
        location: &str,
        not_taken: &NotTaken,
    ) -> Option<bool> {
        if !not_taken.may_be_there {
            return Some(false);
        }
        match self.locations.find(ident).await {
            Ok(Some(found)) if found == location => Some(true),
            // The name is another one's, whatever may still be on its way.
            Ok(Some(_)) | Err(ExportError::Foreign { .. }) => Some(false),
            Ok(None) if matches!(not_taken.reason, Reason::Refused(_)) => Some(false),
            _ => None,
        }
    }
}

/// Deletes a metadata file that nobody can come to refer to. One that stays behind does no harm.
async fn delete_unused(file_io: &FileIO, location: &str) {
    if let Err(error) = file_io.delete(location).await {
        tracing::warn!(%location, %error, "an unused metadata file stays behind");
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
        if let Err(not_taken) = self.locations.add(ident, first).await {
            let location = &metadata_location;
            let has_added = self.has_added(ident, location, &not_taken).await;
            if has_added == Some(false) {
                delete_unused(&file_io, &metadata_location).await;
            }
            if has_added != Some(true) {
                return Err(match not_taken.reason {
                    Reason::Conflict => {
                        let reason = "the catalog has a table or a view of that name";
                        ExportError::unavailable(place, reason)
                    }
                    Reason::Busy(error) | Reason::Refused(error) | Reason::Unknown(error) => error,
                });
            }
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
        let Err(not_taken) = swapped.await else {
            let expired = next.expired_metadata_logs;
            delete_expired(&base.file_io, &next.metadata, expired).await;
            return CommitOutcome::Committed(CatalogTable {
                metadata: Arc::new(next.metadata),
                metadata_location: location,
                ..base.clone()
            });
        };
        // Whether the table has it after all, orphan removal finds out.
        if !not_taken.may_be_there {
            delete_unused(&base.file_io, &location).await;
        }
        match not_taken.reason {
            Reason::Conflict => CommitOutcome::Conflict,
            Reason::Busy(error) => CommitOutcome::Busy {
                retry_after_ms: None,
                error,
            },
            Reason::Refused(error) => CommitOutcome::Refused(error),
            Reason::Unknown(error) => CommitOutcome::Unknown(error),
        }
    }

    async fn store(&self, table: &CatalogTable) -> Result<Option<Store>> {
        self.store_of(table.metadata.location()).map(Some)
    }

    async fn drop_table(&self, ident: &TableIdent) -> Result<bool> {
        self.locations.remove(ident).await
    }
}
