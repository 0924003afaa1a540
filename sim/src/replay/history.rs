//! How a snapshot follows on its parent.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::manifest::Status;
use super::metadata::{Metadata, Snapshot};
use super::snapshot::{ReplayedRow, SnapshotRows};
use super::types::Type;
use super::{Finding, Replay, Result, ensure};

const COMMIT_SEQ: &str = "moonshine.commit-seq";
const COMMIT_ID: &str = "moonshine.commit-id";
const WRITER_EPOCH: &str = "moonshine.writer-epoch";

impl Replay {
    pub(super) fn check_history(
        &mut self,
        metadata: &Metadata,
        snapshots: &[Arc<SnapshotRows>],
    ) -> Result<()> {
        let by_id: BTreeMap<i64, &Arc<SnapshotRows>> = snapshots
            .iter()
            .map(|rows| (rows.snapshot.id, rows))
            .collect();
        for rows in snapshots {
            let parent = rows.snapshot.parent_id.and_then(|id| by_id.get(&id));
            let key = (
                rows.snapshot.manifest_list.clone(),
                rows.snapshot.id,
                parent.is_some(),
            );
            if !self.related.insert(key) {
                continue;
            }
            self.check_ranges(metadata, rows)?;
            if let Some(parent) = parent {
                check_files(parent, rows)?;
                check_order(&parent.snapshot, &rows.snapshot)?;
                check_lineage(parent, rows)?;
            }
        }
        metadata
            .references
            .values()
            .try_for_each(|head| check_stamps(metadata, *head))
    }

    /// No two data files of a table begin with the same row ids, and a file keeps its own.
    fn check_ranges(&mut self, metadata: &Metadata, rows: &SnapshotRows) -> Result<()> {
        if rows.snapshot.first_row_id.is_none() {
            return Ok(());
        }
        let ranges = self.row_ids.entry(metadata.uuid.clone()).or_default();
        for entry in rows.files(false) {
            let file = &entry.file;
            let first = file.first_row_id;
            let first = first.ok_or_else(|| Finding::new(&file.path, "no first_row_id"))?;
            let end = first + file.record_count;
            let before = ranges.range(..end).next_back();
            let is_free = before.is_none_or(|(start, (count, path))| {
                start + count <= first || (*path == file.path && *start == first)
            });
            ensure(is_free, &file.path, || {
                format!("its row ids {first} to {end} are also those of {before:?}")
            })?;
            ranges.insert(first, (file.record_count, file.path.clone()));
        }
        Ok(())
    }
}

fn check_order(parent: &Snapshot, snapshot: &Snapshot) -> Result<()> {
    let place = format!("snapshot {}", snapshot.id);
    ensure(
        parent.sequence_number < snapshot.sequence_number,
        &place,
        || format!("its parent has sequence number {}", parent.sequence_number),
    )?;
    ensure(
        parent.timestamp_ms <= snapshot.timestamp_ms + 60_000,
        &place,
        || {
            format!(
                "its parent is of {}, it of {}",
                parent.timestamp_ms, snapshot.timestamp_ms
            )
        },
    )
}

/// The files are those of the parent, with what the snapshot added and without what it removed.
fn check_files(parent: &SnapshotRows, child: &SnapshotRows) -> Result<()> {
    for (identity, entry) in &child.entries {
        let place = || format!("{}, file {}", child.place(), identity.0);
        let is_new = entry.status == Status::Added && entry.snapshot_id == child.snapshot.id;
        let Some(before) = parent.entries.get(identity) else {
            ensure(is_new, place(), || "nobody added it".to_owned())?;
            continue;
        };
        ensure(!is_new, place(), || "it was there before".to_owned())?;
        let (mut same, mut file) = (before.file.clone(), entry.file.clone());
        same.first_row_id = same.first_row_id.or(file.first_row_id);
        // What is said of a column may go with the column, and become wider with it.
        for said in [&mut same, &mut file] {
            for bounds in [&mut said.lower_bounds, &mut said.upper_bounds] {
                bounds.retain(|id, _| child.schema.field(*id).is_some());
                for (id, bound) in bounds {
                    let field = child.schema.field(*id);
                    *bound = widened(bound, field.map(|field| &field.field_type));
                }
            }
        }
        let is_same = same == file
            && before.sequence_number == entry.sequence_number
            && before.snapshot_id == entry.snapshot_id;
        ensure(is_same, place(), || {
            format!("it became another: {before:?}, {entry:?}")
        })?;
    }
    for (identity, entry) in &child.removed {
        let place = || format!("{}, file {}", child.place(), identity.0);
        let was_there = parent.entries.get(identity);
        ensure(was_there.is_some(), place(), || {
            "it is removed, and was not there".to_owned()
        })?;
        ensure(!child.entries.contains_key(identity), place(), || {
            "it is removed, and there".to_owned()
        })?;
        let number = was_there.map(|before| before.sequence_number);
        ensure(number == Some(entry.sequence_number), place(), || {
            format!(
                "it is removed with sequence number {}",
                entry.sequence_number
            )
        })?;
    }
    for identity in parent.entries.keys() {
        let is_known = child.entries.contains_key(identity) || child.removed.contains_key(identity);
        ensure(is_known, child.place(), || {
            format!("{} is gone without a word", identity.0)
        })?;
    }
    Ok(())
}

/// A bound as a column has it that was widened since, or as it is.
fn widened(bound: &[u8], now: Option<&Type>) -> Vec<u8> {
    let Ok(narrow) = <[u8; 4]>::try_from(bound) else {
        return bound.to_vec();
    };
    match now {
        Some(Type::Long) => i64::from(i32::from_le_bytes(narrow)).to_le_bytes().to_vec(),
        Some(Type::Double) => f64::from(f32::from_le_bytes(narrow)).to_le_bytes().to_vec(),
        _ => bound.to_vec(),
    }
}

/// A row keeps its id while its key lives, and says who changed it last. Of other writers' snapshots nothing is asked.
fn check_lineage(parent: &SnapshotRows, child: &SnapshotRows) -> Result<()> {
    let ids = &child.schema.identifier_ids;
    let is_replace = child.snapshot.operation == "replace";
    if ids.is_empty() || *ids != parent.schema.identifier_ids || !child.is_ours() {
        return Ok(());
    }
    let (before, after) = (parent.by_key(ids)?, child.by_key(ids)?);
    let is_comparable = parent.schema == child.schema;
    ensure(
        !is_replace || before.keys().eq(after.keys()),
        child.place(),
        || "a rewrite has other rows".to_owned(),
    )?;
    let number = child.snapshot.sequence_number;
    for (key, row) in after {
        let place = || format!("{}, row {key:?}", child.place());
        let updated = row.updated_sequence_number;
        let Some(old) = before.get(&key) else {
            let first = child.snapshot.first_row_id;
            let is_fresh = row.row_id.is_none() || row.row_id >= first;
            ensure(is_fresh && updated == number, place(), || {
                format!(
                    "it is new, and has id {:?}, updated by {updated}",
                    row.row_id
                )
            })?;
            continue;
        };
        let keeps_id = old.row_id.is_none() || old.row_id == row.row_id;
        ensure(keeps_id, place(), || {
            format!("its id {:?} became {:?}", old.row_id, row.row_id)
        })?;
        let is_same = old.values == row.values;
        ensure(!is_replace || !is_comparable || is_same, place(), || {
            "a rewrite changed it".to_owned()
        })?;
        if child.snapshot.first_row_id.is_none() || old.row_id.is_none() {
            continue;
        }
        let has_moved = |row: &ReplayedRow| (row.file.clone(), row.position);
        let is_kept = is_replace || has_moved(old) == has_moved(row);
        let expected = if is_kept {
            old.updated_sequence_number
        } else {
            number
        };
        ensure(updated == expected, place(), || {
            format!("it says it was updated by {updated}, which was {expected}")
        })?;
    }
    Ok(())
}

/// Positions never go back, and each commit is there once.
fn check_stamps(metadata: &Metadata, head: i64) -> Result<()> {
    let mut commits = HashSet::new();
    let mut later: Option<(u64, u64)> = None;
    for snapshot in metadata.ancestry(head) {
        let place = || format!("snapshot {}", snapshot.id);
        let Some(commit_id) = snapshot.summary.get(COMMIT_ID) else {
            continue;
        };
        ensure(commits.insert(commit_id), place(), || {
            format!("commit {commit_id} is there twice")
        })?;
        let number = |name: &str| {
            let text = snapshot.summary.get(name);
            let number = text.and_then(|text| text.parse::<u64>().ok());
            number.ok_or_else(|| Finding::new(place(), format!("its stamp has no {name}")))
        };
        let stamp = (number(COMMIT_SEQ)?, number(WRITER_EPOCH)?);
        if let Some(later) = later {
            ensure(stamp.0 <= later.0 && stamp.1 <= later.1, place(), || {
                format!("commit sequence and epoch {stamp:?}, behind it {later:?}")
            })?;
        }
        later = Some(stamp);
    }
    Ok(())
}
