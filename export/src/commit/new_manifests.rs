//! Which manifests the next snapshot of a table gets, and what is in them.
//!
//! Manifests without an entry that goes are listed again as they are. The others are written anew, those of one kind and partition
//! spec together, cut into as many as there have to be for none to be too large: so that an entry which goes takes few others along.
//! New delete entries come first and then the newest ones. So those of data files whose rows keep changing come to lie together,
//! and manifests of the others are left alone.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use iceberg::spec::{DataFile, ManifestContentType, ManifestFile};

use super::plan::{NewFiles, Plan};
use crate::manifest::Entry;

/// Entries of a manifest of deletes.
pub(crate) const DELETES_MAX: usize = 256;
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

/// Entries of one kind and partition spec that are to be written.
#[derive(Default)]
struct Pool<'a> {
    added: &'a [DataFile],
    existing: Vec<&'a Entry>,
    deleted: Vec<&'a Entry>,
    /// Of the live entries, as [`size`] has it.
    size: usize,
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
            content: ManifestContentType::Data,
            spec_id: added.spec_id,
            added: added.files.iter().collect(),
            existing: Vec::new(),
            deleted: Vec::new(),
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
            let pool = pools.entry(*spec_id).or_default();
            (pool.added, pool.size) = (files, files.len());
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
            } else {
                pool.existing.push(entry);
            }
        }
        let left_count = renewed.left_count();
        pool.size += match content {
            ManifestContentType::Data => size(manifest) / renewed.entries.len().max(1) * left_count,
            ManifestContentType::Deletes => left_count,
        };
    }
    pools
}

impl<'a> Pool<'a> {
    /// Cuts the entries into manifests of about the same size. What goes is named by the first.
    fn cut(mut self, content: ManifestContentType, spec_id: i32, new: &mut Vec<NewManifest<'a>>) {
        let prefix = match content {
            ManifestContentType::Data => DATA,
            ManifestContentType::Deletes => {
                self.existing
                    .sort_by_key(|entry| Reverse(entry.sequence_number));
                DELETES
            }
        };
        let live_count = self.added.len() + self.existing.len();
        let count = self.size.div_ceil(size_max(content)).max(1);
        let share = live_count.div_ceil(count).max(1);
        let mut added = self.added.iter();
        let mut existing = self.existing.into_iter();
        for number in 0..live_count.div_ceil(share).max(1) {
            let added: Vec<&DataFile> = added.by_ref().take(share).collect();
            let room = share - added.len();
            new.push(NewManifest {
                name: format!("{prefix}-{spec_id}-{number}"),
                content,
                spec_id,
                added,
                existing: existing.by_ref().take(room).collect(),
                deleted: std::mem::take(&mut self.deleted),
            });
        }
    }
}
