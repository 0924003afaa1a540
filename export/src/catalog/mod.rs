//! Catalogs: where an Iceberg table's newest metadata is looked up and swapped.
//!
//! [`TableCatalog`] is the little that the exporter needs of one; the exporter makes the new metadata, the catalog
//! stores it and decides, by compare and swap, who comes first. [`SqlCatalog`] is the one of an SQLite file. A
//! catalog server's commit request is made of the same [`TableMetadataBuildResult`]: its `changes` are the updates.

mod sql;

use std::sync::Arc;

use async_trait::async_trait;
use iceberg::TableIdent;
use iceberg::io::FileIO;
use iceberg::spec::{TableMetadata, TableMetadataBuildResult};
use uuid::Uuid;

pub(crate) use sql::METADATA_DELETE_AFTER_COMMIT;
pub use sql::SqlCatalog;

use crate::error::{ExportError, Result};

/// An Iceberg table as the catalog had it at one moment.
#[derive(Clone, Debug)]
pub struct CatalogTable {
    /// Its name.
    pub ident: TableIdent,
    /// Its metadata.
    pub metadata: Arc<TableMetadata>,
    /// Where that metadata is stored.
    pub metadata_location: String,
}

/// What became of a commit.
#[derive(Debug)]
pub enum CommitOutcome {
    /// The table now is this.
    Committed(CatalogTable),
    /// Somebody else changed the table since it was loaded; nothing was changed by us.
    Conflict,
}

/// What the exporter needs of a catalog.
#[async_trait]
pub trait TableCatalog: Send + Sync + std::fmt::Debug {
    /// Reads and writes the tables' files.
    fn file_io(&self) -> &FileIO;

    /// Where new tables go, without a slash at its end.
    fn warehouse(&self) -> &str;

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
        metadata: TableMetadata,
        file_id: Uuid,
    ) -> Result<CatalogTable>;

    /// Replaces `base` by `change`, if `base` still is the table's state. `file_id` names the metadata file.
    ///
    /// # Errors
    /// Any error leaves open whether the commit took place: load the table again and look.
    async fn commit(
        &self,
        base: &CatalogTable,
        change: TableMetadataBuildResult,
        file_id: Uuid,
    ) -> Result<CommitOutcome>;
}

/// The name of the metadata file that follows on `base`: `<version>-<id>.metadata.json` in the table's folder.
fn next_metadata_location(table_location: &str, base: Option<&str>, file_id: Uuid) -> String {
    let version_of = |location: &str| {
        let (_, name) = location.rsplit_once('/')?;
        name.split('-').next()?.parse::<u64>().ok()
    };
    let version = base.map_or(0, |location| {
        version_of(location).map_or(1, |version| version + 1)
    });
    format!("{table_location}/metadata/{version:05}-{file_id}.metadata.json")
}

async fn write_metadata(file_io: &FileIO, location: &str, metadata: &TableMetadata) -> Result<()> {
    let text =
        serde_json::to_vec(metadata).map_err(|error| ExportError::corrupt(location, error))?;
    write_file(file_io, location, text.into()).await
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_files_are_numbered() {
        let id = Uuid::from_u128(5);
        let first = next_metadata_location("file:///t", None, id);
        assert_eq!(
            first,
            "file:///t/metadata/00000-00000000-0000-0000-0000-000000000005.metadata.json"
        );
        assert!(next_metadata_location("file:///t", Some(&first), id).contains("/00001-"));
        assert!(
            next_metadata_location("file:///t", Some("file:///t/metadata/v7.metadata.json"), id)
                .contains("/00001-")
        );
    }
}
