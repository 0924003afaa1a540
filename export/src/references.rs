//! A table's branches and tags, and which of them exports go to.
//!
//! A table says itself, by a property, which branch it is exported to. So the exporter, its maintenance, and whoever names or
//! publishes a snapshot agree on it, whatever configuration they were started with.

use std::collections::HashMap;

use iceberg::spec::{
    MAIN_BRANCH, SnapshotRef, SnapshotReference, SnapshotRetention, TableMetadata,
};
use serde::Deserialize;

use crate::error::{ExportError, Result};
use crate::summary::{EXPORT_BRANCH, Stamp};

/// Every branch and tag, by name.
///
/// The `iceberg` crate (0.10) keeps them to itself, but for looking one up by its name; its JSON form has them all.
pub(crate) fn references(metadata: &TableMetadata) -> Result<HashMap<String, SnapshotReference>> {
    let unreadable = |error| ExportError::corrupt(metadata.location(), error);
    // Text, of which all else is stepped over: a tree of values allocates for each text of each snapshot.
    let json = serde_json::to_vec(metadata).map_err(unreadable)?;
    let named: Named = serde_json::from_slice(&json).map_err(unreadable)?;
    Ok(named.refs)
}

/// Of a table's metadata what names snapshots.
#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    refs: HashMap<String, SnapshotReference>,
}

/// The branch that exports go to.
pub(crate) fn export_branch(metadata: &TableMetadata) -> &str {
    let branch = metadata.properties().get(EXPORT_BRANCH);
    branch.map_or(MAIN_BRANCH, String::as_str)
}

/// The newest snapshot of the branch that exports go to.
pub(crate) fn head(metadata: &TableMetadata) -> Option<&SnapshotRef> {
    match export_branch(metadata) {
        MAIN_BRANCH => metadata.current_snapshot(),
        branch => metadata.snapshot_for_ref(branch),
    }
}

/// What the branch that exports go to says itself of how long it is kept.
pub(crate) fn export_branch_retention(metadata: &TableMetadata) -> Result<SnapshotRetention> {
    let unset = SnapshotRetention::branch(None, None, None);
    let Some(head) = head(metadata) else {
        return Ok(unset);
    };
    // Mostly it says nothing. Then nothing is changed by setting it so, which is known without a look at every snapshot.
    let name = export_branch(metadata);
    let reference = SnapshotReference::new(head.snapshot_id(), unset.clone());
    let builder = metadata.clone().into_builder(None);
    let set = builder.set_ref(name, reference);
    if set.is_ok_and(|set| set.build().is_ok_and(|built| built.changes.is_empty())) {
        return Ok(unset);
    }
    let branch = references(metadata)?.remove(name);
    Ok(branch.map_or(unset, |branch| branch.retention))
}

/// A snapshot and those before it that are still there, the newest first.
pub(crate) fn history<'a>(
    metadata: &'a TableMetadata,
    newest: Option<&'a SnapshotRef>,
) -> impl Iterator<Item = &'a SnapshotRef> {
    std::iter::successors(newest, |snapshot| {
        let parent = snapshot.parent_snapshot_id();
        parent.and_then(|parent| metadata.snapshot_by_id(parent))
    })
}

/// Whether `newer` is `older`, or goes back to it.
///
/// What lies between may have expired, so that the parents don't lead there any more. The snapshots that one database makes
/// of a table are one line all the same: an exporter goes on from its own newest, or stops. Their order then says it.
pub(crate) fn goes_back_to(
    metadata: &TableMetadata,
    newer: &SnapshotRef,
    older: &SnapshotRef,
) -> bool {
    let mut oldest = newer;
    for snapshot in history(metadata, Some(newer)) {
        if snapshot.snapshot_id() == older.snapshot_id() {
            return true;
        }
        oldest = snapshot;
    }
    match (Stamp::of(oldest), Stamp::of(older)) {
        (Some(newer), Some(found)) => {
            oldest.parent_snapshot_id().is_some()
                && newer.database_id == found.database_id
                && newer.commit_seq >= found.commit_seq
                && oldest.sequence_number() > older.sequence_number()
        }
        _ => false,
    }
}
