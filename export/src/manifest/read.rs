//! Reading manifests and their lists.

use iceberg::io::FileIO;
use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, FormatVersion, ManifestFile, ManifestList,
    ManifestStatus, Snapshot,
};

use super::Entry;
use crate::catalog::CatalogTable;
use crate::error::{At, ExportError, Result};
use crate::references::head;

/// Reads a snapshot's list of manifests.
pub(crate) async fn read_list(
    file_io: &FileIO,
    version: FormatVersion,
    snapshot: &Snapshot,
) -> Result<ManifestList> {
    let place = snapshot.manifest_list();
    let bytes = file_io.new_input(place).at(place)?.read().await.at(place)?;
    ManifestList::parse_with_version(&bytes, version).at(place)
}

/// Reads which manifests with live entries a snapshot has.
pub(super) async fn live_of(
    file_io: &FileIO,
    version: FormatVersion,
    snapshot: &Snapshot,
) -> Result<Vec<ManifestFile>> {
    let list = read_list(file_io, version, snapshot).await?;
    let is_live =
        |manifest: &&ManifestFile| manifest.has_added_files() || manifest.has_existing_files();
    Ok(list.entries().iter().filter(is_live).cloned().collect())
}

/// The manifests with live entries of the newest snapshot of a table's exports.
pub(crate) async fn live_manifests(table: &CatalogTable) -> Result<Vec<ManifestFile>> {
    let metadata = &table.metadata;
    match head(metadata) {
        None => Ok(Vec::new()),
        Some(snapshot) => live_of(&table.file_io, metadata.format_version(), snapshot).await,
    }
}

/// Reads the live entries of a manifest.
pub(crate) async fn read_entries(file_io: &FileIO, manifest: &ManifestFile) -> Result<Vec<Entry>> {
    let place = &manifest.manifest_path;
    let loaded = manifest.load_manifest(file_io).await.at(place)?;
    // Row ids are inherited in the order of the entries (specification, "First Row ID Inheritance").
    let mut next_row_id = manifest.first_row_id;
    let mut entries = Vec::with_capacity(loaded.entries().len());
    for entry in loaded.entries() {
        if entry.status() == ManifestStatus::Deleted {
            continue;
        }
        let mut file = entry.data_file().clone();
        if let (DataContentType::Data, None, Some(row_id)) =
            (file.content_type(), file.first_row_id(), next_row_id)
        {
            next_row_id = row_id.checked_add(file.record_count());
            file = with_first_row_id(&file, row_id)
                .map_err(|reason| ExportError::corrupt(place, reason))?;
        }
        let (Some(snapshot_id), Some(sequence_number)) =
            (entry.snapshot_id(), entry.sequence_number())
        else {
            return Err(ExportError::corrupt(
                place,
                format!("{} has no sequence number", file.file_path()),
            ));
        };
        let file_sequence_number = entry.file_sequence_number;
        entries.push(Entry {
            file,
            snapshot_id,
            sequence_number,
            file_sequence_number,
        });
    }
    Ok(entries)
}

/// The same file, with the row id of its first row said outright.
fn with_first_row_id(file: &DataFile, row_id: u64) -> Result<DataFile, String> {
    let row_id = i64::try_from(row_id).map_err(|error| format!("row id {row_id}: {error}"))?;
    let mut builder = copy_of(file);
    let built = builder.first_row_id(Some(row_id)).build();
    built.map_err(|error| error.to_string())
}

/// What makes the same entry again. The id of its partition spec is the manifest's, which the caller knows.
pub(crate) fn copy_of(file: &DataFile) -> DataFileBuilder {
    let mut builder = DataFileBuilder::default();
    builder
        .content(file.content_type())
        .file_path(file.file_path().to_owned())
        .file_format(file.file_format())
        .partition(file.partition().clone())
        .record_count(file.record_count())
        .file_size_in_bytes(file.file_size_in_bytes())
        .column_sizes(file.column_sizes().clone())
        .value_counts(file.value_counts().clone())
        .null_value_counts(file.null_value_counts().clone())
        .nan_value_counts(file.nan_value_counts().clone())
        .lower_bounds(file.lower_bounds().clone())
        .upper_bounds(file.upper_bounds().clone())
        .key_metadata(file.key_metadata().map(<[u8]>::to_vec))
        .split_offsets(file.split_offsets().map(<[i64]>::to_vec))
        .equality_ids(file.equality_ids())
        .first_row_id(file.first_row_id())
        .referenced_data_file(file.referenced_data_file())
        .content_offset(file.content_offset())
        .content_size_in_bytes(file.content_size_in_bytes());
    if let Some(sort_order_id) = file.sort_order_id() {
        builder.sort_order_id(sort_order_id);
    }
    builder
}
