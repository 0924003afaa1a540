//! Catalogs: where an Iceberg table's newest metadata is looked up and changed.
//!
//! [`TableCatalog`] is the little that the exporter needs of one. What is to be changed is a [`Change`], a value: what
//! the table must still be, and what becomes of it then. A catalog decides, by compare and swap, who comes first.
//! A [`LocationCatalog`], of an SQL database, AWS Glue or a Hive metastore, makes the new metadata itself and swaps its location. [`RestCatalog`]
//! sends the change to a server. [`open`] makes the one that a configuration names.

mod change;
mod glue;
mod hive;
mod hive_like;
mod located;
mod metadata_file;
mod new_table;
mod rest;
mod sql;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use iceberg::TableIdent;
use iceberg::io::FileIO;
use iceberg::spec::TableMetadata;
use uuid::Uuid;

pub use change::Change;
pub use glue::GlueConfig;
pub(crate) use glue::GluePlaces;
pub use located::LocationCatalog;
pub(crate) use located::METADATA_DELETE_AFTER_COMMIT;
pub use new_table::NewTable;
pub(crate) use rest::address;
pub use rest::{RestCatalog, RestConfig, SigningConfig};

use crate::config::{CatalogType, IcebergConfig};
use crate::error::{ExportError, Result};
use crate::store::Store;

/// An Iceberg table as the catalog had it at one moment.
#[derive(Clone)]
pub struct CatalogTable {
    /// Its name.
    pub ident: TableIdent,
    /// Its metadata.
    pub metadata: Arc<TableMetadata>,
    /// Where that metadata is stored.
    pub metadata_location: String,
    /// Reads and writes its files, with the credentials that the catalog gave for it when it was loaded.
    pub file_io: FileIO,
}

/// Without the store, whose properties may hold keys.
impl fmt::Debug for CatalogTable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("CatalogTable");
        shown.field("ident", &self.ident);
        shown.field("metadata_location", &self.metadata_location);
        shown.finish_non_exhaustive()
    }
}

/// What became of a commit.
#[derive(Debug)]
pub enum CommitOutcome {
    /// The table now is this.
    Committed(CatalogTable),
    /// The table is no longer what the change demands, or is locked. This request changed nothing; a copy of it that the
    /// network made may have, or may still do so.
    Conflict,
    /// The catalog took no request just now; nothing was changed. It may say when to ask again.
    Busy {
        /// How long to wait, in milliseconds, if it says so.
        retry_after_ms: Option<u64>,
        /// What it answered.
        error: ExportError,
    },
    /// The catalog refused, and asking again is of no use before the cause is gone. This request changed nothing; a copy of it
    /// that the network made may have.
    Refused(ExportError),
    /// There was no answer that says whether the commit took place. It may still be on its way.
    Unknown(ExportError),
}

/// What a catalog compares before it changes a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// That nothing at all changed since the table was loaded.
    Metadata,
    /// The requirements of the change alone: a change of a property does not disturb a commit that is on its way.
    Requirements,
}

/// What the exporter needs of a catalog.
#[async_trait]
pub trait TableCatalog: Send + Sync + fmt::Debug {
    /// Where new tables go, without a slash at its end; `None` where the catalog finds a place itself.
    fn warehouse(&self) -> Option<&str>;

    /// What it compares.
    fn guard(&self) -> Guard;

    /// Every table, sorted by name.
    ///
    /// # Errors
    /// [`ExportError::Unavailable`].
    async fn list(&self) -> Result<Vec<TableIdent>>;

    /// The table as it is now, if there is one.
    ///
    /// # Errors
    /// [`ExportError::Unavailable`]; [`ExportError::Corrupt`] for its metadata.
    async fn load(&self, ident: &TableIdent) -> Result<Option<CatalogTable>>;

    /// Makes a table, and its namespace where that is missing. `file_id` names the metadata file.
    ///
    /// # Errors
    /// [`ExportError::Unavailable`], also if the table exists.
    async fn create(
        &self,
        ident: &TableIdent,
        table: NewTable,
        file_id: Uuid,
    ) -> Result<CatalogTable>;

    /// Makes `change`, if the table still is what it demands, and where the [guard](Self::guard) says so still `base`.
    /// `file_id` names the metadata file.
    async fn commit(&self, base: &CatalogTable, change: &Change, file_id: Uuid) -> CommitOutcome;

    /// What lists the files in the table's folder; `None` where nothing does.
    ///
    /// # Errors
    /// [`ExportError::Unavailable`]; [`ExportError::Config`].
    async fn store(&self, _table: &CatalogTable) -> Result<Option<Store>> {
        Ok(None)
    }

    /// Takes a table out of the catalog; its files stay. `false` if it was not there.
    ///
    /// # Errors
    /// [`ExportError::Unavailable`].
    async fn drop_table(&self, ident: &TableIdent) -> Result<bool>;
}

/// The catalog that a configuration names; one of an SQLite file is made if it is missing and `create` says so.
///
/// # Errors
/// [`ExportError::Config`]; [`ExportError::Unavailable`], also if it is missing and `create` is false.
pub async fn open(config: &IcebergConfig, create: bool) -> Result<Arc<dyn TableCatalog>> {
    Ok(match config.catalog_type {
        CatalogType::Rest => Arc::new(RestCatalog::open(config).await?),
        CatalogType::Glue => Arc::new(LocationCatalog::glue(config)?),
        CatalogType::Hive => Arc::new(LocationCatalog::hive(config)?),
        CatalogType::Sql => Arc::new(LocationCatalog::sql(config, create).await?),
    })
}

/// As [`open`] of a catalog that exists; `None` if there is none.
///
/// # Errors
/// As [`open`].
pub(crate) async fn open_if_exists(
    config: &IcebergConfig,
) -> Result<Option<Arc<dyn TableCatalog>>> {
    if config.catalog_type == CatalogType::Sql && !LocationCatalog::sql_exists(config).await? {
        return Ok(None);
    }
    open(config, false).await.map(Some)
}

/// Writes a whole file; it is on disk when this returns.
pub(crate) async fn write_file(
    file_io: &FileIO,
    location: &str,
    bytes: bytes::Bytes,
) -> Result<()> {
    let write = async {
        let mut writer = file_io.new_output(location)?.writer().await?;
        writer.write(bytes).await?;
        writer.close().await
    };
    write
        .await
        .map_err(|error| ExportError::unavailable(location, error))
}
