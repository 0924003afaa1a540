//! Which manifests the next snapshot of a table gets, and what is in them.
//!
//! Manifests without an entry that goes are listed again as they are. The others are written anew, those of one kind and partition
//! spec together, cut into as many as there have to be for none to be too large: so that an entry which goes takes few others along.
//! But for a few, new delete entries keep apart from those that stay. So entries of data files whose rows keep changing come to lie
//! together, and the manifests of the others are left alone.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use iceberg::spec::{DataFile, ManifestContentType, ManifestFile};

use super::plan::{NewFiles, Plan};
use crate::manifest::Entry;

/// Entries of a manifest of deletes.
const DELETES_MAX: usize = 256;
/// So many delete entries lie together whether or not they are new.
pub(super) const DELETES_TOGETHER: usize = 64;
/// Size of a manifest of data files, in bytes.
const DATA_BYTES_MAX: usize = 1 << 20;

/// The manifest of new data files.
const ADDED: &str = "added";
/// A manifest of data files in place of older ones.
const DATA: &str = "data";
/// A manifest of deletes.
const DELETES: &str = "deletes";

/// A manifest that is to be written.
#[derive(Debug)]
pub(super) struct NewManifest<'a> {
    /// What its file's name begins with.
    pub(super) name: String,
    pub(super) content: ManifestContentType,
    pub(super) spec_id: i32,
    pub(super) added: Vec<&'a DataFile>,
    pub(super) existing: Vec<&'a Entry>,
    pub(super) deleted: Vec<&'a Entry>,
}

impl NewManifest<'_> {
    fn empty(content: ManifestContentType, spec_id: i32) -> Self {
        NewManifest {
            name: String::new(),
            content,
            spec_id,
            added: Vec::new(),
            existing: Vec::new(),
            deleted: Vec::new(),
        }
    }
}

/// Entries of one kind and partition spec that are to be written.
#[derive(Default)]
struct Pool<'a> {
    added: &'a [DataFile],
    /// Of manifests that nothing goes from.
    joined: Vec<&'a Entry>,
    /// Of manifests that something goes from.
    left: Vec<&'a Entry>,
    deleted: Vec<&'a Entry>,
    /// Of manifests of data files, in bytes.
    size_bytes: usize,
}

/// How many entries of a manifest are live; as many as can be where that is not said.
pub(super) fn live_count(manifest: &ManifestFile) -> usize {
    let count = |count: Option<u32>| count.map_or(usize::MAX, |count| count as usize);
    count(manifest.added_files_count).saturating_add(count(manifest.existing_files_count))
}

/// How large a manifest is: in bytes if it is of data files, in entries if it is of deletes.
pub(crate) fn size(manifest: &ManifestFile) -> usize {
    match manifest.content {
        ManifestContentType::Data => usize::try_from(manifest.manifest_length).unwrap_or(0),
        ManifestContentType::Deletes => live_count(manifest),
    }
}

/// How large a manifest is to be at most, as [`size`] has it.
pub(crate) fn size_max(content: ManifestContentType) -> usize {
    match content {
        ManifestContentType::Data => DATA_BYTES_MAX,
        ManifestContentType::Deletes => DELETES_MAX,
    }
}

/// The manifests to be written, of a snapshot that has those of `listed`.
pub(super) fn new_manifests<'a>(
    listed: &[ManifestFile],
    plan: &'a Plan,
    added: &'a NewFiles,
) -> Vec<NewManifest<'a>> {
    let mut new = Vec::new();
    if !added.files.is_empty() {
        new.push(NewManifest {
            name: format!("{ADDED}-{}", added.spec_id),
            added: added.files.iter().collect(),
            ..NewManifest::empty(ManifestContentType::Data, added.spec_id)
        });
    }
    for content in [ManifestContentType::Data, ManifestContentType::Deletes] {
        for (spec_id, pool) in pools(content, listed, plan) {
            pool.cut(content, spec_id, &mut new);
        }
    }
    new
}

fn pools<'a>(
    content: ManifestContentType,
    listed: &[ManifestFile],
    plan: &'a Plan,
) -> BTreeMap<i32, Pool<'a>> {
    let mut pools: BTreeMap<i32, Pool<'a>> = BTreeMap::new();
    if content == ManifestContentType::Deletes {
        for (spec_id, files) in &plan.added {
            pools.entry(*spec_id).or_default().added = files;
        }
    }
    for (place, renewed) in &plan.renewed {
        let manifest = listed.get(*place);
        let Some(manifest) = manifest.filter(|manifest| manifest.content == content) else {
            continue;
        };
        let pool = pools.entry(manifest.partition_spec_id).or_default();
        for (number, entry) in renewed.entries.iter().enumerate() {
            if renewed.gone.contains(&number) {
                pool.deleted.push(entry);
            } else if renewed.gone.is_empty() {
                pool.joined.push(entry);
            } else {
                pool.left.push(entry);
            }
        }
        if content == ManifestContentType::Data {
            let entry_bytes = size(manifest) / renewed.entries.len().max(1);
            pool.size_bytes += entry_bytes * renewed.left_count();
        }
    }
    pools
}

impl<'a> Pool<'a> {
    /// Makes manifests of the entries. What goes is named by the first.
    fn cut(mut self, content: ManifestContentType, spec_id: i32, new: &mut Vec<NewManifest<'a>>) {
        let first = new.len();
        let is_data = content == ManifestContentType::Data;
        let are_few = self.added.len() + self.joined.len() + self.left.len() <= DELETES_TOGETHER;
        if is_data || are_few {
            self.joined.append(&mut self.left);
        }
        self.left
            .sort_by_key(|entry| Reverse(entry.sequence_number));
        for (added, existing) in [(self.added, self.joined), (&[][..], self.left)] {
            let live_count = added.len() + existing.len();
            let count = match content {
                ManifestContentType::Data => self.size_bytes.div_ceil(DATA_BYTES_MAX),
                ManifestContentType::Deletes => live_count.div_ceil(DELETES_MAX),
            };
            let share = live_count.div_ceil(count.max(1)).max(1);
            let (mut added, mut existing) = (added.iter(), existing.into_iter());
            for _ in 0..live_count.div_ceil(share) {
                let added: Vec<&DataFile> = added.by_ref().take(share).collect();
                let existing = existing.by_ref().take(share - added.len()).collect();
                new.push(NewManifest {
                    added,
                    existing,
                    ..NewManifest::empty(content, spec_id)
                });
            }
        }
        if new.len() == first && !self.deleted.is_empty() {
            new.push(NewManifest::empty(content, spec_id));
        }
        if let Some(manifest) = new.get_mut(first) {
            manifest.deleted = self.deleted;
        }
        let prefix = if is_data { DATA } else { DELETES };
        for (number, manifest) in new.iter_mut().skip(first).enumerate() {
            manifest.name = format!("{prefix}-{spec_id}-{number}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use iceberg::spec::{DataContentType, DataFileBuilder, DataFileFormat};

    use super::super::plan::Renewed;
    use super::*;

    fn file(path: String) -> DataFile {
        DataFileBuilder::default()
            .content(DataContentType::PositionDeletes)
            .file_path(path)
            .file_format(DataFileFormat::Puffin)
            .record_count(1)
            .file_size_in_bytes(1)
            .build()
            .unwrap()
    }

    fn manifest(content: ManifestContentType, count: usize, size_bytes: usize) -> ManifestFile {
        ManifestFile {
            manifest_path: String::new(),
            manifest_length: size_bytes as i64,
            partition_spec_id: 0,
            content,
            sequence_number: 1,
            min_sequence_number: 1,
            added_snapshot_id: 1,
            added_files_count: Some(count as u32),
            existing_files_count: Some(0),
            deleted_files_count: Some(0),
            added_rows_count: None,
            existing_rows_count: None,
            deleted_rows_count: None,
            partitions: None,
            key_metadata: None,
            first_row_id: None,
        }
    }

    /// `renewed`: how many entries each manifest has that is written anew, and how many of them go.
    fn cut(
        content: ManifestContentType,
        added: usize,
        renewed: &[(usize, usize)],
        entry_bytes: usize,
    ) -> Vec<[usize; 3]> {
        let entry = |number: usize| Entry {
            file: file(format!("old {number}")),
            snapshot_id: 1,
            sequence_number: number as i64,
            file_sequence_number: Some(1),
        };
        let mut listed = Vec::new();
        let mut plan = Plan::default();
        let mut all: Vec<String> = Vec::new();
        for (place, &(count, gone)) in renewed.iter().enumerate() {
            listed.push(manifest(content, count, count * entry_bytes));
            let numbers = (0..count).map(|number| place * 10_000 + number);
            let entries: Vec<Entry> = numbers.map(entry).collect();
            all.extend(
                entries
                    .iter()
                    .map(|entry| entry.file.file_path().to_owned()),
            );
            let renewed = Renewed {
                entries: Arc::new(entries),
                gone: (0..gone).collect(),
            };
            plan.renewed.insert(place, renewed);
        }
        let new = (0..added).map(|number| file(format!("new {number}")));
        plan.added.insert(0, new.collect());
        all.extend((0..added).map(|number| format!("new {number}")));
        let nothing = NewFiles::default();
        let made = new_manifests(&listed, &plan, &nothing);
        let mut found: Vec<String> = Vec::new();
        for manifest in &made {
            let added = manifest.added.iter().copied();
            let others = manifest.existing.iter().chain(&manifest.deleted);
            let files = added.chain(others.map(|entry| &entry.file));
            found.extend(files.map(|file| file.file_path().to_owned()));
        }
        all.sort();
        found.sort();
        assert_eq!(found, all, "each entry is in one manifest");
        let counts = made.iter().map(|manifest| {
            let counts = [&manifest.existing, &manifest.deleted].map(Vec::len);
            [manifest.added.len(), counts[0], counts[1]]
        });
        counts.collect()
    }

    #[test]
    fn deletes_are_cut_into_manifests_that_are_not_too_large() {
        let deletes = ManifestContentType::Deletes;
        assert_eq!(cut(deletes, 0, &[], 1), [[0; 3]; 0]);
        assert_eq!(cut(deletes, 5, &[(20, 5)], 1), [[5, 15, 5]], "few together");
        assert_eq!(
            cut(deletes, 0, &[(7, 7)], 1),
            [[0, 0, 7]],
            "what goes is said"
        );
        let apart = cut(deletes, 1, &[(256, 1), (9, 0)], 1);
        assert_eq!(
            apart,
            [[1, 9, 1], [0, 255, 0]],
            "new ones with the small manifest"
        );
        let many = cut(deletes, 300, &[(256, 200), (256, 100)], 1);
        assert_eq!(many, [[150, 0, 300], [150, 0, 0], [0, 212, 0]]);
    }

    #[test]
    fn data_manifests_are_cut_by_their_size_in_bytes() {
        let data = ManifestContentType::Data;
        let of_two = cut(data, 0, &[(1_000, 1), (1_000, 1)], 1_000);
        assert_eq!(of_two, [[0, 999, 2], [0, 999, 0]]);
        let merged = cut(data, 0, &[(100, 0), (100, 0)], 1_000);
        assert_eq!(merged, [[0, 200, 0]]);
    }
}
