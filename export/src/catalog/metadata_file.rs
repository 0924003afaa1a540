//! Metadata files, for catalogs that store no more than where the newest one is.

use iceberg::io::FileIO;
use iceberg::spec::TableMetadata;
use uuid::Uuid;

use super::write_file;
use crate::error::{ExportError, Result};

/// The name of the metadata file that follows on `base`: `<version>-<id>.metadata.json` in the table's folder.
pub(super) fn next_location(table_location: &str, base: Option<&str>, file_id: Uuid) -> String {
    let version_of = |location: &str| {
        let (_, name) = location.rsplit_once('/')?;
        name.split('-').next()?.parse::<u64>().ok()
    };
    let version = base.map_or(0, |location| {
        version_of(location).map_or(1, |version| version + 1)
    });
    format!("{table_location}/metadata/{version:05}-{file_id}.metadata.json")
}

pub(super) async fn write(
    file_io: &FileIO,
    location: &str,
    metadata: &TableMetadata,
) -> Result<()> {
    let text =
        serde_json::to_vec(metadata).map_err(|error| ExportError::corrupt(location, error))?;
    write_file(file_io, location, text.into()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_files_are_numbered() {
        let id = Uuid::from_u128(5);
        let first = next_location("file:///t", None, id);
        assert_eq!(
            first,
            "file:///t/metadata/00000-00000000-0000-0000-0000-000000000005.metadata.json"
        );
        assert!(next_location("file:///t", Some(&first), id).contains("/00001-"));
        assert!(
            next_location("file:///t", Some("file:///t/metadata/v7.metadata.json"), id)
                .contains("/00001-")
        );
    }
}
