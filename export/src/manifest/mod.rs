//! The manifests of a snapshot: which data files live in it, and which delete entry each of them has.
//!
//! A commit changes the entries of a few files and looks at no others: [`Listing`] is a snapshot's list of manifests with an
//! [`index`] of each, by which a [`cache::ManifestCache`] finds the entries of given files. Who wants all entries, as readers and the
//! search for files worth a rewrite do, loads [`Manifests`]. Manifests never change, so indexes stay in memory as long as a snapshot has
//! their manifest, and entries as long as there is room: a tick reads only what the one before it wrote.

mod cache;
mod index;
mod read;

use std::collections::HashMap;
use std::sync::Arc;

use iceberg::spec::{DataContentType, DataFile, ManifestFile};

pub(crate) use cache::{Found, Listing, ManifestCache};
pub(crate) use read::{copy_of, live_manifests, read_entries, read_list};

use crate::error::{ExportError, Result};

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

/// The data file whose rows an entry deletes, or why that can't be said: it is of no kind that we write.
fn deletes_of(file: &DataFile) -> std::result::Result<String, &'static str> {
    if file.content_type() == DataContentType::EqualityDeletes {
        return Err("an equality delete, which another writer must have added");
    }
    file.referenced_data_file()
        .ok_or("a delete file of several data files, which another writer must have added")
}

impl Manifests {
    /// The delete entries by the data file that they belong to.
    pub(crate) fn delete_by_data_file(&self) -> Result<HashMap<String, Vec<&Entry>>> {
        let mut by_data_file: HashMap<String, Vec<&Entry>> = HashMap::new();
        for entry in self.deletes.iter().flat_map(|loaded| loaded.entries.iter()) {
            let foreign = |reason| ExportError::foreign(entry.file.file_path(), reason);
            let data_file = deletes_of(&entry.file).map_err(foreign)?;
            by_data_file.entry(data_file).or_default().push(entry);
        }
        Ok(by_data_file)
    }

    /// The live data files.
    pub(crate) fn data_files(&self) -> impl Iterator<Item = &Entry> {
        self.data.iter().flat_map(|loaded| loaded.entries.iter())
    }
}

#[cfg(test)]
mod tests;
