//! Expiry: snapshots that are too old or too many leave the table's metadata.
//!
//! Each commit writes the list of a table's snapshots, so an export a second would soon write megabytes a second. The newest
//! snapshots of each branch stay, by number and age; so do tags, until they are as old as they say, and what the engine's own note of the last export names.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use iceberg::spec::{MAIN_BRANCH, SnapshotReference, SnapshotRetention, TableMetadata};
use iceberg::{TableRequirement, TableUpdate};

use super::unneeded::unneeded_files;
use super::{MaintenanceAction, MaintenanceTask, Mode, Work};
use crate::catalog::{CatalogTable, Change};
use crate::commit::{Failure, Proposal};
use crate::config::{MaintenanceSettings, SNAPSHOT_AGE_MS, SNAPSHOTS_MIN};
use crate::error::{ExportError, Result};
use crate::pending::remove_files;
use crate::references::{export_branch, references};

/// By itself, expiry waits for so many snapshots, so that it is not one more commit an export.
const BATCH_SNAPSHOTS_MIN: usize = 20;

/// Does, or finds, what is due; removes what earlier calls left for readers that may have been at it.
pub(super) async fn run(work: &Work<'_>) -> Result<Option<MaintenanceAction>> {
    let Some(current) = work.current().await? else {
        return Ok(None);
    };
    let mut action = MaintenanceAction::new(&current, MaintenanceTask::ExpireSnapshots, 0);
    let mut expiry = Expiry::new(work);
    let settings = work.settings.of_table(current.metadata.properties());
    let expired = match work.believes_wall_time(settings.file_grace_ms) {
        true => expiry.expired(&current.metadata)?,
        false => Expired::default(),
    };
    let batch = work.mode.batch(BATCH_SNAPSHOTS_MIN);
    if expired.snapshots.len() >= batch || expired.references.len() >= batch {
        action.items = expired.snapshots.len().max(1) as u64;
        if work.mode != Mode::DryRun {
            let committed = work.commit(&mut expiry).await;
            let committed = committed.map_err(Failure::into_error)?;
            if may_remove_files(&committed.metadata) {
                expiry.note_unneeded(&committed).await?;
            }
        }
    }
    if work.mode != Mode::DryRun {
        action.files_removed = remove_due(work, &current).await;
        action.files_waiting = work.slot.unneeded.lock().len() as u64;
    }
    Ok((action.items + action.files_removed > 0).then_some(action))
}

/// Whether files of the table may be removed at all: another table may share them.
pub(super) fn may_remove_files(metadata: &TableMetadata) -> bool {
    let property = metadata.properties().get("gc.enabled");
    property.is_none_or(|enabled| enabled != "false")
}

/// Removes the unneeded files whose time has come.
async fn remove_due(work: &Work<'_>, table: &CatalogTable) -> u64 {
    let now_ms = work.core.environment.clock.monotonic_ms();
    let due: Vec<String> = {
        let mut unneeded = work.slot.unneeded.lock();
        let count = unneeded.partition_point(|(due_ms, _)| *due_ms <= now_ms);
        unneeded.drain(..count).map(|(_, path)| path).collect()
    };
    remove_files(&table.file_io, &due).await;
    due.len() as u64
}

struct Expiry<'a> {
    work: &'a Work<'a>,
    now_ms: i64,
    /// The table that the last change is of, and what it removes of it.
    removed: Option<(CatalogTable, Expired)>,
}

/// What is to go.
#[derive(Debug, Default)]
struct Expired {
    snapshots: HashSet<i64>,
    /// Branches and tags that are older than they say that they may become.
    references: Vec<String>,
}

#[async_trait]
impl Proposal for Expiry<'_> {
    fn is_in(&self, table: &CatalogTable) -> bool {
        let metadata = &table.metadata;
        let is_gone = |id: &i64| metadata.snapshot_by_id(*id).is_none();
        let is_nameless = |name: &String| metadata.snapshot_for_ref(name).is_none();
        self.removed.as_ref().is_some_and(|(_, removed)| {
            removed.snapshots.iter().all(is_gone) && removed.references.iter().all(is_nameless)
        })
    }

    async fn change(&mut self, table: &CatalogTable) -> Result<Change> {
        let core = self.work.core;
        core.check_ours(self.work.table, None, table)?;
        let removed = self.expired(&table.metadata)?;
        if removed.snapshots.is_empty() && removed.references.is_empty() {
            let reason = "none of its snapshots is to go any more";
            return Err(ExportError::unavailable(&table.ident, reason));
        }
        let mut snapshot_ids: Vec<i64> = removed.snapshots.iter().copied().collect();
        snapshot_ids.sort_unstable();
        let metadata = &table.metadata;
        let mut updates = Vec::new();
        for &snapshot_id in &snapshot_ids {
            if metadata.statistics_for_snapshot(snapshot_id).is_some() {
                updates.push(TableUpdate::RemoveStatistics { snapshot_id });
            }
            if metadata
                .partition_statistics_for_snapshot(snapshot_id)
                .is_some()
            {
                updates.push(TableUpdate::RemovePartitionStatistics { snapshot_id });
            }
        }
        updates.extend(
            removed
                .references
                .iter()
                .map(|name| TableUpdate::RemoveSnapshotRef {
                    ref_name: name.clone(),
                }),
        );
        if !snapshot_ids.is_empty() {
            updates.push(TableUpdate::RemoveSnapshots { snapshot_ids });
        }
        let mut change = Change::of(metadata, updates);
        // A branch that moved meanwhile may need what is to go.
        for (name, reference) in references(metadata)? {
            if name != MAIN_BRANCH && name != export_branch(metadata) {
                change = change.demanding(TableRequirement::RefSnapshotIdMatch {
                    r#ref: name,
                    snapshot_id: Some(reference.snapshot_id),
                });
            }
        }
        self.removed = Some((table.clone(), removed));
        Ok(change)
    }
}

impl<'a> Expiry<'a> {
    fn new(work: &'a Work<'a>) -> Self {
        Expiry {
            work,
            now_ms: work.core.environment.clock.now_ms(),
            removed: None,
        }
    }

    /// Finds the files that nobody needs now that the snapshots are gone. A crash before they are removed leaves them to
    /// orphan removal.
    async fn note_unneeded(&self, committed: &CatalogTable) -> Result<()> {
        let Some((table, removed)) = &self.removed else {
            return Ok(());
        };
        let files = unneeded_files(table, &removed.snapshots, committed).await?;
        let settings = self.work.settings.of_table(table.metadata.properties());
        let now_ms = self.work.core.environment.clock.monotonic_ms();
        let due_ms = |replaced_ms: i64| {
            let grace_ms = settings.file_grace_ms;
            let waited_ms = match self.work.mode {
                // Somebody may read an old snapshot until it is gone.
                Mode::Automatic => 0,
                // Nobody is there any more to wait.
                Mode::AtEnd | Mode::ByHand | Mode::DryRun => {
                    self.now_ms.saturating_sub(replaced_ms).max(0)
                }
            };
            now_ms.saturating_add(grace_ms.saturating_sub(waited_ms).max(0))
        };
        let files = files
            .into_iter()
            .map(|(path, replaced_ms)| (due_ms(replaced_ms), path));
        let mut unneeded = self.work.slot.unneeded.lock();
        unneeded.extend(files);
        unneeded.make_contiguous().sort();
        Ok(())
    }

    /// What is to go.
    fn expired(&self, metadata: &TableMetadata) -> Result<Expired> {
        let (over, stay): (HashMap<_, _>, HashMap<_, _>) = references(metadata)?
            .into_iter()
            .partition(|(name, reference)| is_over(metadata, name, reference, self.now_ms));
        let settings = self.work.settings.of_table(metadata.properties());
        let mut kept = kept_snapshots(metadata, &stay, &settings, self.now_ms);
        let exported = self.work.core.database.exported(self.work.table);
        kept.extend(exported.and_then(|exported| exported.token.parse::<i64>().ok()));
        let all = metadata.snapshots().map(|snapshot| snapshot.snapshot_id());
        Ok(Expired {
            snapshots: all.filter(|id| !kept.contains(id)).collect(),
            references: over.into_keys().collect(),
        })
    }
}

/// Whether a branch or tag is older than it, or the table, says that it may become: its snapshot's age counts. The main branch and the
/// exports' have no end.
fn is_over(
    metadata: &TableMetadata,
    name: &str,
    reference: &SnapshotReference,
    now_ms: i64,
) -> bool {
    if name == MAIN_BRANCH || name == export_branch(metadata) {
        return false;
    }
    let (SnapshotRetention::Branch { max_ref_age_ms, .. }
    | SnapshotRetention::Tag { max_ref_age_ms }) = reference.retention;
    let of_table = metadata.properties().get("history.expire.max-ref-age-ms");
    let of_table = || of_table.and_then(|age_ms| age_ms.parse().ok());
    let snapshot = metadata.snapshot_by_id(reference.snapshot_id);
    let age_ms = snapshot.map(|snapshot| now_ms.saturating_sub(snapshot.timestamp_ms()));
    let age_max_ms: Option<i64> = max_ref_age_ms.or_else(of_table);
    age_max_ms
        .zip(age_ms)
        .is_some_and(|(age_max_ms, age_ms)| age_ms > age_max_ms)
}

/// The snapshots that stay, by these settings, and with these branches and tags.
fn kept_snapshots(
    metadata: &TableMetadata,
    references: &HashMap<String, SnapshotReference>,
    settings: &MaintenanceSettings,
    now_ms: i64,
) -> HashSet<i64> {
    let mut kept = HashSet::new();
    let mut in_history = HashSet::new();
    let number_of = |key: &str| -> Option<i64> { metadata.properties().get(key)?.parse().ok() };
    let is_young =
        |timestamp_ms: i64| now_ms.saturating_sub(timestamp_ms) <= settings.snapshot_age_ms;
    for reference in references.values() {
        let head = reference.snapshot_id;
        kept.insert(head);
        // A branch, or the table, may ask for more to be kept.
        let SnapshotRetention::Branch {
            min_snapshots_to_keep,
            max_snapshot_age_ms,
            ..
        } = reference.retention
        else {
            continue;
        };
        let own_min = min_snapshots_to_keep.map_or(0, |min| usize::try_from(min).unwrap_or(0));
        let asked_min = number_of(SNAPSHOTS_MIN).unwrap_or(0);
        let least = settings
            .snapshots_min
            .max(own_min)
            .max(usize::try_from(asked_min).unwrap_or(0));
        // No more than what is configured is what an exporter wrote there.
        let asked_ms =
            number_of(SNAPSHOT_AGE_MS).filter(|age_ms| *age_ms > settings.snapshot_age_ms);
        let age_max_ms = max_snapshot_age_ms.max(asked_ms);
        let is_asked_for = |timestamp_ms: i64| {
            let age_ms = now_ms.saturating_sub(timestamp_ms);
            age_max_ms.is_some_and(|age_max_ms| age_ms <= age_max_ms)
        };
        let mut number = 0;
        let mut snapshot = metadata.snapshot_by_id(head);
        while let Some(current) = snapshot {
            let (id, timestamp_ms) = (current.snapshot_id(), current.timestamp_ms());
            in_history.insert(id);
            number += 1;
            let is_few = number <= settings.snapshots_max;
            if number <= least || (is_few && is_young(timestamp_ms)) || is_asked_for(timestamp_ms) {
                kept.insert(id);
            }
            let parent = current.parent_snapshot_id();
            snapshot = parent.and_then(|parent| metadata.snapshot_by_id(parent));
        }
    }
    // What belongs to no branch may be on its way to one: an audit that is not published yet.
    let aside = metadata.snapshots().filter(|snapshot| {
        !in_history.contains(&snapshot.snapshot_id()) && is_young(snapshot.timestamp_ms())
    });
    kept.extend(aside.map(|snapshot| snapshot.snapshot_id()));
    kept
}

#[cfg(test)]
mod tests {
    use iceberg::spec::{
        FormatVersion, Operation, PartitionSpec, Schema, Snapshot, SortOrder, Summary,
        TableMetadataBuilder,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::references::export_branch_retention;
    use crate::summary::EXPORT_BRANCH;

    const SIDE: &str = "side";
    const STEP_MS: i64 = 1000;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// A snapshot on top of a branch, so many steps of time later.
        Write { on_side: bool, later: i64 },
        /// The main branch goes back to the snapshot before.
        RollBack,
        /// The other branch begins, or begins anew, at the main one's newest snapshot.
        Branch,
        /// A tag for the main branch's newest snapshot, which lasts so many steps of time.
        Tag { lasts: Option<i64> },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (any::<bool>(), 0_i64..5).prop_map(|(on_side, later)| Step::Write { on_side, later }),
            1 => Just(Step::RollBack),
            1 => Just(Step::Branch),
            1 => proptest::option::of(0_i64..20).prop_map(|lasts| Step::Tag { lasts }),
        ]
    }

    fn branch(snapshot_id: i64, min: Option<i32>, age: Option<i64>) -> SnapshotReference {
        let retention = SnapshotRetention::branch(min, age.map(|age| age * STEP_MS), None);
        SnapshotReference::new(snapshot_id, retention)
    }

    fn snapshot(id: i64, parent: Option<i64>, timestamp_ms: i64) -> Snapshot {
        Snapshot::builder()
            .with_snapshot_id(id)
            .with_parent_snapshot_id(parent)
            .with_sequence_number(id)
            .with_timestamp_ms(timestamp_ms)
            .with_manifest_list(format!("memory:///{id}.avro"))
            .with_summary(Summary {
                operation: Operation::Append,
                additional_properties: HashMap::new(),
            })
            .build()
    }

    /// A table with that history, and the time behind it.
    fn table(steps: &[Step], side_min: Option<i32>, side_age: Option<i64>) -> (TableMetadata, i64) {
        let mut builder = TableMetadataBuilder::new(
            Schema::builder().build().unwrap(),
            PartitionSpec::unpartition_spec(),
            SortOrder::unsorted_order(),
            "memory:///m".to_owned(),
            FormatVersion::V2,
            HashMap::new(),
        )
        .unwrap();
        // Long ago by the system's clock, which the builder looks at.
        let mut now_ms = 1_700_000_000_000;
        let mut parents: Vec<Option<i64>> = Vec::new();
        let (mut main, mut side): (Option<i64>, Option<i64>) = (None, None);
        for (number, step) in steps.iter().enumerate() {
            match *step {
                Step::Write { on_side, later } => {
                    now_ms += later * STEP_MS;
                    let head = match side {
                        Some(_) if on_side => &mut side,
                        _ => &mut main,
                    };
                    let id = parents.len() as i64 + 1;
                    builder = builder.add_snapshot(snapshot(id, *head, now_ms)).unwrap();
                    parents.push(head.replace(id));
                }
                Step::RollBack => {
                    let before = main.and_then(|head| parents[head as usize - 1]);
                    main = before.or(main);
                }
                Step::Branch => side = main.or(side),
                Step::Tag { lasts } => {
                    if let Some(head) = main {
                        let retention = SnapshotRetention::Tag {
                            max_ref_age_ms: lasts.map(|lasts| lasts * STEP_MS),
                        };
                        let tag = SnapshotReference::new(head, retention);
                        builder = builder.set_ref(&format!("tag{number}"), tag).unwrap();
                    }
                }
            }
            if let Some(main) = main {
                builder = builder
                    .set_ref(MAIN_BRANCH, branch(main, None, None))
                    .unwrap();
            }
            if let Some(side) = side {
                builder = builder
                    .set_ref(SIDE, branch(side, side_min, side_age))
                    .unwrap();
            }
        }
        (builder.build().unwrap().metadata, now_ms)
    }

    /// The snapshots of a branch, the newest first.
    fn line<'m>(metadata: &'m TableMetadata, name: &str) -> Vec<&'m Snapshot> {
        let head = metadata.snapshot_for_ref(name);
        let line = crate::references::history(metadata, head);
        line.map(AsRef::as_ref).collect()
    }

    proptest! {
        /// *Bounded*, and nothing is lost that somebody named or may still read: a snapshot goes when no branch wants it by number or by age, no
        /// tag names it, and it is not on its way to a branch. What is left is the same when it is looked at again, and less later.
        #[test]
        fn what_expires_is_wanted_by_nothing(
            steps in proptest::collection::vec(step(), 1..40),
            (snapshots_min, more, age, side_min, side_age, later) in (
                1_usize..6, 0_usize..12, 0_i64..30, proptest::option::of(1_i32..8),
                proptest::option::of(0_i64..40), 0_i64..40,
            ),
        ) {
            let (metadata, written_ms) = table(&steps, side_min, side_age);
            let settings = MaintenanceSettings {
                snapshots_min,
                snapshots_max: snapshots_min + more,
                snapshot_age_ms: age * STEP_MS,
                ..MaintenanceSettings::default()
            };
            let now_ms = written_ms + later * STEP_MS;
            let kept_of = |metadata: &TableMetadata, now_ms: i64| {
                let references = references(metadata).unwrap();
                kept_snapshots(metadata, &references, &settings, now_ms)
            };
            let kept = kept_of(&metadata, now_ms);
            let mut wanted: HashSet<i64> = HashSet::new();
            let mut in_history: HashSet<i64> = HashSet::new();
            for (name, own_min, own_age) in [(MAIN_BRANCH, None, None), (SIDE, side_min, side_age)] {
                for (before, snapshot) in line(&metadata, name).into_iter().enumerate() {
                    let age_ms = now_ms - snapshot.timestamp_ms();
                    in_history.insert(snapshot.snapshot_id());
                    let is_of_the_newest = before < snapshots_min.max(own_min.unwrap_or(0) as usize);
                    let is_young = before < snapshots_min + more && age_ms <= age * STEP_MS;
                    let is_asked_for = own_age.is_some_and(|own_age| age_ms <= own_age * STEP_MS);
                    if is_of_the_newest || is_young || is_asked_for {
                        wanted.insert(snapshot.snapshot_id());
                    }
                }
            }
            for snapshot in metadata.snapshots() {
                let id = snapshot.snapshot_id();
                let is_young = now_ms - snapshot.timestamp_ms() <= age * STEP_MS;
                if is_young && !in_history.contains(&id) {
                    wanted.insert(id);
                }
            }
            wanted.extend(references(&metadata).unwrap().values().map(|named| named.snapshot_id));
            prop_assert_eq!(&kept, &wanted);

            let all = metadata.snapshots().map(|snapshot| snapshot.snapshot_id());
            let gone: Vec<i64> = all.filter(|id| !kept.contains(id)).collect();
            let rest = metadata.clone().into_builder(None).remove_snapshots(&gone);
            let rest = rest.build().unwrap().metadata;
            prop_assert_eq!(&kept_of(&rest, now_ms), &kept);
            prop_assert!(kept_of(&metadata, now_ms + STEP_MS).is_subset(&kept));
        }

        /// What a branch says of how long it is kept is known of the one that exports go to, whether it says something or not.
        #[test]
        fn the_retention_of_the_branch_of_exports_is_what_it_says(
            steps in proptest::collection::vec(step(), 1..20),
            side_min in proptest::option::of(1_i32..8),
            side_age in proptest::option::of(0_i64..40),
        ) {
            let (metadata, _) = table(&steps, side_min, side_age);
            for name in [MAIN_BRANCH, SIDE] {
                let goes_to = HashMap::from([(EXPORT_BRANCH.to_owned(), name.to_owned())]);
                let builder = metadata.clone().into_builder(None).set_properties(goes_to);
                let metadata = builder.unwrap().build().unwrap().metadata;
                let named = references(&metadata).unwrap().remove(name);
                let unset = SnapshotRetention::branch(None, None, None);
                let expected = named.map_or(unset, |named| named.retention);
                prop_assert_eq!(export_branch_retention(&metadata).unwrap(), expected);
            }
        }

        /// A tag goes when it is as old as it says, by its snapshot's age, and a branch that says nothing stays.
        #[test]
        fn references_end_when_they_say(
            steps in proptest::collection::vec(step(), 1..30),
            later in 0_i64..30,
        ) {
            let (metadata, written_ms) = table(&steps, None, None);
            let now_ms = written_ms + later * STEP_MS;
            for (name, reference) in references(&metadata).unwrap() {
                let snapshot = metadata.snapshot_by_id(reference.snapshot_id).unwrap();
                let lasts_ms = match reference.retention {
                    SnapshotRetention::Tag { max_ref_age_ms } => max_ref_age_ms,
                    SnapshotRetention::Branch { .. } => None,
                };
                let age_ms = now_ms - snapshot.timestamp_ms();
                let expected = lasts_ms.is_some_and(|lasts_ms| age_ms > lasts_ms);
                prop_assert_eq!(is_over(&metadata, &name, &reference, now_ms), expected, "{}", name);
            }
        }
    }
}
