//! Manifests: small ones are merged.
//!
//! Each export adds manifests, and a reader opens all of a snapshot. So once many of one kind are small they become one, as
//! in a log-structured merge: a manifest joins those that are together at least as large. So there are few of each size, and
//! an entry is written again only some times in its life, however many exports there are. The result is a snapshot of the same
//! files.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use iceberg::spec::{ManifestContentType, ManifestFile};
use uuid::Uuid;

use super::{MaintenanceAction, MaintenanceTask, Mode, Work};
use crate::catalog::{CatalogTable, Change};
use crate::commit::{Attempt, Deletes, Failure, NewFiles, Proposal, remove_attempts};
use crate::error::{ExportError, Result};
use crate::manifest::{LoadedManifest, Manifests, read_entries, read_list};
use crate::pending::find_commit;
use crate::references::head;

/// A manifest of this size is not merged any more, in bytes.
const TARGET_SIZE_BYTES: i64 = 8 << 20;

/// Does, or finds, what is due.
pub(super) async fn run(work: &Work<'_>) -> Result<Option<MaintenanceAction>> {
    let Some(current) = work.current().await? else {
        return Ok(None);
    };
    // Each snapshot adds one of each kind at most, so that the list needs to be read only now and then.
    let sequence_number = current.metadata.last_sequence_number();
    let is_early = sequence_number < work.slot.manifests_due.load(Ordering::SeqCst);
    if work.mode == Mode::Automatic && is_early {
        return Ok(None);
    }
    let found = manifests(&current).await?;
    let least = work.mode.batch(work.settings.manifests_max).max(2);
    let Some(merged) = chosen(&found, least) else {
        let most = most_of_a_kind(&found);
        let missing = work.settings.manifests_max.saturating_sub(most).max(1);
        let missing = i64::try_from(missing).unwrap_or(i64::MAX);
        let due = sequence_number.saturating_add(missing);
        work.slot.manifests_due.store(due, Ordering::SeqCst);
        return Ok(None);
    };
    let mut action = MaintenanceAction::new(
        &current,
        MaintenanceTask::MergeManifests,
        merged.len() as u64,
    );
    if work.mode != Mode::DryRun {
        // The manifest, and the list that names it.
        action.files_written = 2;
        action.bytes_written = commit(work, least).await?;
    }
    Ok(Some(action))
}

/// Commits; returns the size of the new manifest, in bytes.
async fn commit(work: &Work<'_>, least: usize) -> Result<u64> {
    let mut merge = Merge {
        work,
        id: work.core.environment.identities.uuid(),
        least,
        attempts: Vec::new(),
        file_io: None,
    };
    match work.commit(&mut merge).await {
        Ok(current) => {
            let landed = find_commit(&current.metadata, merge.id);
            remove_attempts(&current.file_io, &merge.attempts, landed).await;
            let found = manifests(&current).await?;
            let new = found
                .iter()
                .filter(|manifest| Some(manifest.added_snapshot_id) == landed);
            let size_bytes: i64 = new.map(|manifest| manifest.manifest_length).sum();
            Ok(u64::try_from(size_bytes).unwrap_or(0))
        }
        Err(Failure::NotCommitted(error)) => {
            if let Some(file_io) = &merge.file_io {
                remove_attempts(file_io, &merge.attempts, None).await;
            }
            Err(error)
        }
        Err(Failure::Unknown(error)) => Err(error),
    }
}

struct Merge<'a> {
    work: &'a Work<'a>,
    id: Uuid,
    /// So many manifests are worth it.
    least: usize,
    attempts: Vec<(i64, Vec<String>)>,
    /// Where the attempts' files are.
    file_io: Option<iceberg::io::FileIO>,
}

#[async_trait]
impl Proposal for Merge<'_> {
    fn is_in(&self, table: &CatalogTable) -> bool {
        find_commit(&table.metadata, self.id).is_some()
    }

    async fn change(&mut self, table: &CatalogTable) -> Result<Change> {
        let core = self.work.core;
        let writer = core.own_writer(self.work.table)?;
        core.check_ours(self.work.table, None, table)?;
        let found = manifests(table).await?;
        let merged = chosen(&found, self.least).ok_or_else(|| {
            ExportError::unavailable(&table.ident, "its manifests were merged by somebody else")
        })?;
        let stamp = core.carried_stamp(table, &writer, self.id)?;
        let attempt = Attempt {
            table,
            snapshot_id: core.environment.snapshot_id(),
            attempt_id: core.environment.identities.uuid(),
            now_ms: core.environment.clock.now_ms(),
        };
        self.attempts.push((attempt.snapshot_id, attempt.paths()));
        self.file_io = Some(table.file_io.clone());
        let manifests = load(table, found, &merged).await?;
        let deletes = Deletes {
            merged,
            is_rewrite: true,
            ..Deletes::default()
        };
        let updates = attempt
            .build(&manifests, &NewFiles::default(), &deletes, &stamp)
            .await?;
        Ok(Change::of(&table.metadata, updates))
    }
}

/// The manifests of the newest export, or of what came on top of it.
async fn manifests(table: &CatalogTable) -> Result<Vec<ManifestFile>> {
    let metadata = &table.metadata;
    let Some(snapshot) = head(metadata) else {
        return Ok(Vec::new());
    };
    let list = read_list(&table.file_io, metadata.format_version(), snapshot).await?;
    let is_live =
        |manifest: &&ManifestFile| manifest.has_added_files() || manifest.has_existing_files();
    Ok(list.entries().iter().filter(is_live).cloned().collect())
}

/// All manifests, with the entries of those that are merged: nobody looks at the others'.
async fn load(
    table: &CatalogTable,
    found: Vec<ManifestFile>,
    merged: &HashSet<String>,
) -> Result<Manifests> {
    let mut manifests = Manifests::default();
    for manifest in found {
        let entries = match merged.contains(&manifest.manifest_path) {
            true => read_entries(&table.file_io, &manifest).await?,
            false => Vec::new(),
        };
        let kind = match manifest.content {
            ManifestContentType::Data => &mut manifests.data,
            ManifestContentType::Deletes => &mut manifests.deletes,
        };
        kind.push(LoadedManifest {
            manifest,
            entries: Arc::new(entries),
        });
    }
    Ok(manifests)
}

/// Small manifests of one kind and one partition spec, from the smallest on, by path.
fn small(manifests: &[ManifestFile]) -> BTreeMap<(bool, i32), Vec<&ManifestFile>> {
    let mut kinds: BTreeMap<(bool, i32), Vec<&ManifestFile>> = BTreeMap::new();
    for manifest in manifests {
        if manifest.manifest_length < TARGET_SIZE_BYTES {
            let is_data = manifest.content == ManifestContentType::Data;
            let kind = (is_data, manifest.partition_spec_id);
            kinds.entry(kind).or_default().push(manifest);
        }
    }
    for kind in kinds.values_mut() {
        kind.sort_by_key(|manifest| manifest.manifest_length);
    }
    kinds
}

fn most_of_a_kind(manifests: &[ManifestFile]) -> usize {
    small(manifests).values().map(Vec::len).max().unwrap_or(0)
}

/// The manifests that are to become one: at least so many, of one kind.
fn chosen(manifests: &[ManifestFile], least: usize) -> Option<HashSet<String>> {
    let run = |kind: Vec<&ManifestFile>| {
        let mut paths = HashSet::new();
        let mut size_bytes = 0;
        for manifest in kind {
            let is_larger = paths.len() > 1 && manifest.manifest_length > size_bytes;
            if is_larger || size_bytes >= TARGET_SIZE_BYTES {
                break;
            }
            size_bytes += manifest.manifest_length;
            paths.insert(manifest.manifest_path.clone());
        }
        paths
    };
    let runs = small(manifests).into_values().map(run);
    runs.max_by_key(HashSet::len)
        .filter(|paths| paths.len() >= least)
}
