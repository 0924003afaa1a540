//! Expiry: snapshots that are too old or too many leave the table's metadata.
//!
//! Each commit writes the list of a table's snapshots, so an export a second would soon write megabytes a second. The newest
//! snapshots of each branch stay, by number and age; so do tags, and what the engine's own note of the last export names.

use std::collections::HashSet;

use async_trait::async_trait;
use iceberg::TableUpdate;
use iceberg::spec::{SnapshotRetention, TableMetadata};

use super::{MaintenanceAction, MaintenanceTask, Mode, Work};
use crate::catalog::{CatalogTable, Change};
use crate::commit::{Failure, Proposal};
use crate::config::MaintenanceSettings;
use crate::error::Result;
use crate::references::references;

/// By itself, expiry waits for so many snapshots, so that it is not one more commit an export.
const BATCH_SNAPSHOTS_MIN: usize = 20;

/// Does, or finds, what is due.
pub(super) async fn run(work: &Work<'_>) -> Result<Option<MaintenanceAction>> {
    let Some(current) = work.current().await? else {
        return Ok(None);
    };
    let mut expiry = Expiry::new(work);
    let expired = expiry.expired(&current.metadata)?;
    let least = match work.mode {
        Mode::Automatic => BATCH_SNAPSHOTS_MIN,
        Mode::ByHand | Mode::DryRun => 1,
    };
    if expired.len() < least {
        return Ok(None);
    }
    if work.mode != Mode::DryRun {
        work.commit(&mut expiry)
            .await
            .map_err(Failure::into_error)?;
    }
    Ok(Some(MaintenanceAction {
        table: current.ident.to_string(),
        task: MaintenanceTask::ExpireSnapshots,
        items: expired.len() as u64,
        files_written: 0,
        bytes_written: 0,
        files_removed: 0,
    }))
}

struct Expiry<'a> {
    work: &'a Work<'a>,
    now_ms: i64,
    /// What the last change removes.
    removed: Option<HashSet<i64>>,
}

#[async_trait]
impl Proposal for Expiry<'_> {
    fn is_in(&self, table: &CatalogTable) -> bool {
        let is_gone = |id: &i64| table.metadata.snapshot_by_id(*id).is_none();
        self.removed
            .as_ref()
            .is_some_and(|removed| removed.iter().all(is_gone))
    }

    async fn change(&mut self, table: &CatalogTable) -> Result<Change> {
        let core = self.work.core;
        core.check_ours(self.work.table, None, table)?;
        crate::ownership::check_epoch(table, core.epoch())?;
        let removed = self.expired(&table.metadata)?;
        let mut snapshot_ids: Vec<i64> = removed.iter().copied().collect();
        snapshot_ids.sort_unstable();
        self.removed = Some(removed);
        Ok(Change::of(
            &table.metadata,
            vec![TableUpdate::RemoveSnapshots { snapshot_ids }],
        ))
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

    /// The snapshots that are to go.
    fn expired(&self, metadata: &TableMetadata) -> Result<HashSet<i64>> {
        let mut kept = kept_snapshots(metadata, self.work.settings, self.now_ms)?;
        let exported = self.work.core.database.exported(self.work.table);
        kept.extend(exported.and_then(|exported| exported.token.parse::<i64>().ok()));
        let all = metadata.snapshots().map(|snapshot| snapshot.snapshot_id());
        Ok(all.filter(|id| !kept.contains(id)).collect())
    }
}

/// The snapshots that stay, by these settings.
fn kept_snapshots(
    metadata: &TableMetadata,
    settings: &MaintenanceSettings,
    now_ms: i64,
) -> Result<HashSet<i64>> {
    let mut kept = HashSet::new();
    let mut in_history = HashSet::new();
    let is_young =
        |timestamp_ms: i64| now_ms.saturating_sub(timestamp_ms) <= settings.snapshot_age_ms;
    for reference in references(metadata)?.values() {
        let head = reference.snapshot_id;
        kept.insert(head);
        if matches!(reference.retention, SnapshotRetention::Tag { .. }) {
            continue;
        }
        let mut number = 0;
        let mut snapshot = metadata.snapshot_by_id(head);
        while let Some(current) = snapshot {
            let id = current.snapshot_id();
            in_history.insert(id);
            number += 1;
            let stays = number <= settings.snapshots_min
                || (number <= settings.snapshots_max && is_young(current.timestamp_ms()));
            if stays {
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
    Ok(kept)
}
