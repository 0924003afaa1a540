//! The manifests of a snapshot: which data files live in it, and which delete entry each of them has.
//!
//! Manifests never change, so a [`ManifestCache`] keeps those of the newest snapshot in memory: a tick reads only
//! what others wrote, which is nothing.

use std::collections::HashMap;
use std::sync::Arc;

use iceberg::io::FileIO;
use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, FormatVersion, ManifestContentType, ManifestFile,
    ManifestList, ManifestStatus, Snapshot, TableMetadata,
};

use crate::error::{At, ExportError, Result};

/// A live entry of a manifest.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) file: DataFile,
    pub(crate) snapshot_id: i64,
    pub(crate) sequence_number: i64,
    pub(crate) file_sequence_number: Option<i64>,
}

/// A manifest and its live entries.
#[derive(Clone, Debug)]
pub(crate) struct LoadedManifest {
    pub(crate) manifest: ManifestFile,
    pub(crate) entries: Arc<Vec<Entry>>,
}

/// The live manifests of a snapshot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Manifests {
    pub(crate) data: Vec<LoadedManifest>,
    pub(crate) deletes: Vec<LoadedManifest>,
}

/// The entries of manifests that were read before.
#[derive(Clone, Debug, Default)]
pub(crate) struct ManifestCache {
    entries: HashMap<ManifestKey, Arc<Vec<Entry>>>,
}

/// A manifest's path, and the row id that its list gives to its first row: one from before format v3 gets that later.
type ManifestKey = (String, Option<u64>);

impl ManifestCache {
    /// Reads the manifests of a snapshot; forgets those that are not in it.
    pub(crate) async fn load(
        &mut self,
        file_io: &FileIO,
        metadata: &TableMetadata,
        snapshot: Option<&Snapshot>,
    ) -> Result<Manifests> {
        let mut manifests = Manifests::default();
        let mut kept = HashMap::new();
        if let Some(snapshot) = snapshot {
            let list = read_list(file_io, metadata.format_version(), snapshot).await?;
            for manifest in list.entries().iter().cloned() {
                if !manifest.has_added_files() && !manifest.has_existing_files() {
                    continue;
                }
                let key = (manifest.manifest_path.clone(), manifest.first_row_id);
                let entries = match self.entries.get(&key) {
                    Some(entries) => entries.clone(),
                    None => Arc::new(read_entries(file_io, &manifest).await?),
                };
                kept.insert(key, entries.clone());
                match manifest.content {
                    ManifestContentType::Data => {
                        manifests.data.push(LoadedManifest { manifest, entries })
                    }
                    ManifestContentType::Deletes => {
                        manifests.deletes.push(LoadedManifest { manifest, entries })
                    }
                }
            }
        }
        self.entries = kept;
        Ok(manifests)
    }
}

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

impl Manifests {
    /// The delete entries by the data file that they belong to.
    pub(crate) fn delete_by_data_file(&self) -> Result<HashMap<String, Vec<&Entry>>> {
        let mut by_data_file: HashMap<String, Vec<&Entry>> = HashMap::new();
        for entry in self.deletes.iter().flat_map(|loaded| loaded.entries.iter()) {
            let path = entry.file.file_path();
            if entry.file.content_type() == DataContentType::EqualityDeletes {
                return Err(ExportError::foreign(
                    path,
                    "an equality delete, which another writer must have added",
                ));
            }
            let data_file = entry.file.referenced_data_file().ok_or_else(|| {
                ExportError::foreign(
                    path,
                    "a delete file of several data files, which another writer must have added",
                )
            })?;
            by_data_file.entry(data_file).or_default().push(entry);
        }
        Ok(by_data_file)
    }

    /// The live data files.
    pub(crate) fn data_files(&self) -> impl Iterator<Item = &Entry> {
        self.data.iter().flat_map(|loaded| loaded.entries.iter())
    }
}
