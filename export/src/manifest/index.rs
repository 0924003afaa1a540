//! Which entry of a manifest belongs to which data file.

use iceberg::spec::DataContentType;
use xxhash_rust::xxh3::xxh3_64;

use super::{Entry, deletes_of};
use crate::error::{ExportError, Result};

/// Finds a manifest's entries by data file: 12 bytes each, however many columns the table has.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// The hash of each data file's path, ascending. Two paths may have the same.
    hashes: Vec<u64>,
    /// The number of the entry of each hash.
    entries: Vec<u32>,
    /// A delete file that belongs to no single data file, and why it is not ours.
    foreign: Option<(String, &'static str)>,
}

impl Index {
    pub(crate) fn of(entries: &[Entry]) -> Index {
        let mut index = Index::default();
        let mut places = Vec::with_capacity(entries.len());
        for (number, entry) in (0u32..).zip(entries) {
            let file = &entry.file;
            if file.content_type() == DataContentType::Data {
                places.push((xxh3_64(file.file_path().as_bytes()), number));
                continue;
            }
            match deletes_of(file) {
                Ok(data_file) => places.push((xxh3_64(data_file.as_bytes()), number)),
                Err(reason) => index.foreign = Some((file.file_path().to_owned(), reason)),
            }
        }
        places.sort_unstable();
        (index.hashes, index.entries) = places.into_iter().unzip();
        index
    }

    /// The entries that may belong to a data file: those of all paths with its hash.
    pub(crate) fn find(&self, data_file: &str) -> impl Iterator<Item = usize> {
        let hash = xxh3_64(data_file.as_bytes());
        let start = self.hashes.partition_point(|other| *other < hash);
        let same = self.hashes.iter().skip(start);
        let same = same.take_while(move |other| **other == hash);
        same.zip(self.entries.iter().skip(start))
            .map(|(_, entry)| *entry as usize)
    }

    /// # Errors
    /// [`ExportError::Foreign`] if there is a delete file that may delete rows of any data file.
    pub(crate) fn check_ours(&self) -> Result<()> {
        match &self.foreign {
            None => Ok(()),
            Some((path, reason)) => Err(ExportError::foreign(path, *reason)),
        }
    }
}

/// Whether an entry is a data file, or deletes rows of it.
pub(crate) fn belongs_to(entry: &Entry, data_file: &str) -> bool {
    match entry.file.content_type() {
        DataContentType::Data => entry.file.file_path() == data_file,
        _ => entry.file.referenced_data_file().as_deref() == Some(data_file),
    }
}
