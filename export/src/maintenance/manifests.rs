//! Manifests: small ones are merged.
//!
//! Each export adds manifests, and a reader opens all of a snapshot. So once many of one kind are small they become one, as
//! in a log-structured merge: a manifest joins those that are together at least as large, up to the size that manifests have at most.
//! So there are few of each size, and an entry is written again only some times in its life, however many exports there are.
//! The result is a snapshot of the same files.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use iceberg::spec::{ManifestContentType, ManifestFile};
use uuid::Uuid;

use super::{MaintenanceAction, MaintenanceTask, Mode, Work};
use crate::catalog::{CatalogTable, Change};
use crate::commit::{
    Attempt, Failure, NewFiles, Plan, Proposal, Renewed, remove_attempts, size, size_max,
};
use crate::error::{ExportError, Result};
use crate::manifest::{Entry, live_manifests, read_entries};
use crate::pending::find_commit;

/// So many manifests at least become a full one.
const FULL_MIN: usize = 3;

/// Does, or finds, what is due.
pub(super) async fn run(work: &Work<'_>) -> Result<Option<MaintenanceAction>> {
    let Some(current) = work.current().await? else {
        return Ok(None);
    };
    // Each snapshot adds one of each kind at most, so that the list needs to be read only now and then.
    let sequence_number = current.metadata.last_sequence_number();
    let is_early = sequence_number < work.slot.manifests_due.load(Ordering::SeqCst);
    if work.mode.is_by_itself() && is_early {
        return Ok(None);
    }
    let found = live_manifests(&current).await?;
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
        entries: HashMap::new(),
        file_io: None,
    };
    match work.commit(&mut merge).await {
        Ok(current) => {
            let landed = find_commit(&current.metadata, merge.id);
            remove_attempts(&current.file_io, &merge.attempts, landed).await;
            let found = live_manifests(&current).await?;
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
    /// The entries of merged manifests that were read, by path.
    entries: HashMap<String, Arc<Vec<Entry>>>,
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
        let found = live_manifests(table).await?;
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
        self.file_io = Some(table.file_io.clone());
        let plan = Plan::of_merge(load(table, &found, &merged, &mut self.entries).await?);
        let new = (&NewFiles::default(), &plan);
        let mut started = Vec::new();
        let built = attempt.build(&found, new, &stamp, &mut started).await;
        self.attempts.push((attempt.snapshot_id, started));
        Ok(Change::of(&table.metadata, built?))
    }
}

/// The entries of the manifests that are merged, by their places among all.
async fn load(
    table: &CatalogTable,
    found: &[ManifestFile],
    merged: &HashSet<String>,
    known: &mut HashMap<String, Arc<Vec<Entry>>>,
) -> Result<BTreeMap<usize, Renewed>> {
    let mut renewed = BTreeMap::new();
    for (place, manifest) in found.iter().enumerate() {
        let path = &manifest.manifest_path;
        if !merged.contains(path) {
            continue;
        }
        let entries = match known.get(path) {
            Some(entries) => entries.clone(),
            None => {
                let entries = Arc::new(read_entries(&table.file_io, manifest).await?);
                known.insert(path.clone(), entries.clone());
                entries
            }
        };
        renewed.insert(place, Renewed::whole(entries));
    }
    Ok(renewed)
}

/// Small manifests of one kind and one partition spec, from the smallest on, by path.
fn small(manifests: &[ManifestFile]) -> BTreeMap<(bool, i32), Vec<&ManifestFile>> {
    let mut kinds: BTreeMap<(bool, i32), Vec<&ManifestFile>> = BTreeMap::new();
    for manifest in manifests {
        if size(manifest) < size_max(manifest.content) {
            let is_data = manifest.content == ManifestContentType::Data;
            let kind = (is_data, manifest.partition_spec_id);
            kinds.entry(kind).or_default().push(manifest);
        }
    }
    for kind in kinds.values_mut() {
        kind.sort_by_key(|manifest| size(manifest));
    }
    kinds
}

fn most_of_a_kind(manifests: &[ManifestFile]) -> usize {
    small(manifests).values().map(Vec::len).max().unwrap_or(0)
}

/// The manifests that are to become one, of one kind: at least so many, or fewer that make one which is not merged any more.
fn chosen(manifests: &[ManifestFile], least: usize) -> Option<HashSet<String>> {
    let run = |kind: Vec<&ManifestFile>| {
        let mut paths = HashSet::new();
        let (mut sum, mut is_full) = (0, false);
        for manifest in kind {
            is_full = sum + size(manifest) > size_max(manifest.content);
            let is_larger = paths.len() > 1 && size(manifest) > sum;
            if is_larger || is_full {
                break;
            }
            sum += size(manifest);
            paths.insert(manifest.manifest_path.clone());
        }
        let is_due = paths.len() >= least || (is_full && paths.len() >= FULL_MIN);
        is_due.then_some(paths)
    };
    let runs = small(manifests).into_values().filter_map(run);
    runs.max_by_key(HashSet::len)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn manifest(
        number: usize,
        content: ManifestContentType,
        spec: i32,
        large: usize,
    ) -> ManifestFile {
        let count = u32::try_from(large).unwrap();
        ManifestFile {
            manifest_path: number.to_string(),
            manifest_length: i64::try_from(large).unwrap(),
            partition_spec_id: spec,
            content,
            sequence_number: 1,
            min_sequence_number: 1,
            added_snapshot_id: 1,
            added_files_count: Some(0),
            existing_files_count: Some(count),
            deleted_files_count: Some(0),
            added_rows_count: None,
            existing_rows_count: None,
            deleted_rows_count: None,
            partitions: None,
            key_metadata: None,
            first_row_id: None,
        }
    }

    /// Small ones, as exports write them, and some of every size up to a full one.
    fn any_manifests() -> impl Strategy<Value = Vec<ManifestFile>> {
        let one = (any::<bool>(), 0..2_i32, 0.0..1.2_f64, any::<bool>());
        prop::collection::vec(one, 0..80).prop_map(|all| {
            let manifest = |(number, (is_data, spec, share, is_small))| {
                let content = match is_data {
                    true => ManifestContentType::Data,
                    false => ManifestContentType::Deletes,
                };
                let share: f64 = if is_small { share / 500.0 } else { share };
                let large = (size_max(content) as f64 * share) as usize + 1;
                manifest(number, content, spec, large)
            };
            all.into_iter().enumerate().map(manifest).collect()
        })
    }

    proptest! {
        /// What becomes one manifest is of one kind and one spec, and becomes no larger than manifests are.
        #[test]
        fn merges_are_of_one_kind_and_bounded(all in any_manifests(), least in 2..25_usize) {
            let Some(paths) = chosen(&all, least) else { return Ok(()) };
            let merged: Vec<_> = all.iter().filter(|one| paths.contains(&one.manifest_path)).collect();
            prop_assert_eq!(merged.len(), paths.len());
            prop_assert!(merged.len() >= least.min(FULL_MIN) && merged.len() >= 2);
            let kinds: HashSet<_> = merged.iter().map(|one| (one.content, one.partition_spec_id)).collect();
            prop_assert_eq!(kinds.len(), 1, "kinds are mixed");
            let large: usize = merged.iter().map(|one| size(one)).sum();
            prop_assert!(large <= size_max(merged[0].content), "{large} is too large");
        }

        /// Merges come to an end, lose no entry, leave few manifests of a kind that are small, and write an entry again some times only.
        #[test]
        fn merges_end_and_leave_few(all in any_manifests(), least in 2..25_usize) {
            let sizes = |all: &[ManifestFile]| all.iter().map(size).sum::<usize>();
            let (mut all, mut times) = (all, HashMap::<String, u32>::new());
            let before = sizes(&all);
            let mut number = all.len();
            while let Some(paths) = chosen(&all, least) {
                let (merged, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|one| paths.contains(&one.manifest_path));
                all = rest;
                let new = manifest(number, merged[0].content, merged[0].partition_spec_id, sizes(&merged));
                let most = merged.iter().filter_map(|one| times.get(&one.manifest_path)).max().map_or(1, |times| times + 1);
                prop_assert!(most <= 24, "an entry is written again {most} times");
                times.insert(new.manifest_path.clone(), most);
                all.push(new);
                number += 1;
                prop_assert!(number < 1000, "merges without an end");
            }
            prop_assert_eq!(sizes(&all), before);
            // Of each size there are fewer than are merged; a larger one begins anew.
            prop_assert!(most_of_a_kind(&all) <= least * 24, "{} are left", most_of_a_kind(&all));
        }
    }
}
