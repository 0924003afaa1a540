//! Exports that were prepared and whose end is not recorded: after a crash, or after a commit without an answer.
//!
//! The Iceberg table knows: if a snapshot in its history carries the commit id, the commit took place.

use iceberg::io::FileIO;
use iceberg::spec::{SnapshotRef, TableMetadata};
use moonshine_engine::{Exported, PendingExport};
use uuid::Uuid;

use crate::catalog::CatalogTable;
use crate::error::Result;
use crate::references::{head, history};
use crate::summary::{self, Stamp};

/// The snapshot of that commit, if it is the newest one of the exports' branch or an ancestor of it.
pub(crate) fn find_commit(metadata: &TableMetadata, commit_id: Uuid) -> Option<i64> {
    let is_it = |snapshot: &&SnapshotRef| summary::commit_id(snapshot) == Some(commit_id);
    let found = history(metadata, head(metadata)).find(is_it);
    found.map(|snapshot| snapshot.snapshot_id())
}

/// The snapshot of that export, if the newest one of the exports' branch holds its rows. It may have expired: what lies on
/// top of it without rows of its own names it.
fn find_export(metadata: &TableMetadata, commit_id: Uuid) -> Option<i64> {
    history(metadata, head(metadata)).find_map(|snapshot| {
        let stamp = Stamp::of(snapshot)?;
        match stamp.export_commit_id {
            Some(export_commit_id) if export_commit_id == commit_id => stamp.export_snapshot_id,
            _ => (stamp.commit_id == commit_id).then_some(snapshot.snapshot_id()),
        }
    })
}

/// How far the table's export is, once `pending` is settled by what the table says.
pub(crate) fn exported_after(
    metadata: &TableMetadata,
    exported: Option<Exported>,
    pending: Option<&PendingExport>,
) -> Option<Exported> {
    let settled = pending.and_then(|pending| {
        let token = find_export(metadata, pending.commit_id())?.to_string();
        Some(Exported {
            seq: pending.to_seq(),
            token,
        })
    });
    settled.or(exported)
}

/// Records what became of a pending export; removes the files of one that was not committed, unless its table is gone.
pub(crate) async fn settle(pending: PendingExport, current: Option<&CatalogTable>) -> Result<()> {
    let table = pending.table().name().to_owned();
    let find = |current: &CatalogTable| find_export(&current.metadata, pending.commit_id());
    if let Some(snapshot_id) = current.and_then(find) {
        tracing::info!(%table, snapshot_id, commit_seq = pending.to_seq(), "an earlier export was committed");
        return Ok(pending.commit(snapshot_id.to_string())?);
    }
    tracing::info!(%table, commit_seq = pending.to_seq(), "an earlier export was not committed");
    let paths = match current {
        Some(current) => written_files(&pending, current).await,
        None => Vec::new(),
    };
    // Recorded first: a file that is gone must not belong to an export that may still count.
    pending.abort()?;
    if let Some(current) = current
        && is_one_line(&current.metadata)
    {
        remove_files(&current.file_io, &paths).await;
    }
    Ok(())
}

/// Whether every snapshot is the newest one of the exports' branch or an ancestor of it. If not, somebody rolled the table back, maybe over
/// the export, whose snapshot names its files as long as it is there; what nothing names any more goes as orphans do.
fn is_one_line(metadata: &TableMetadata) -> bool {
    history(metadata, head(metadata)).count() == metadata.snapshots().count()
}

/// The data files and delete files of a pending export.
async fn written_files(pending: &PendingExport, current: &CatalogTable) -> Vec<String> {
    let files = pending.files().iter();
    let mut paths: Vec<String> = files.map(|file| file.path.clone()).collect();
    let (location, commit_id) = (current.metadata.location(), pending.commit_id());
    for extension in ["puffin", "parquet"] {
        let path =
            |number| delete_file_path(location, pending.to_seq(), commit_id, number, extension);
        let mut number = 0;
        while current.file_io.exists(path(number)).await.unwrap_or(false) {
            paths.push(path(number));
            number += 1;
        }
    }
    paths
}

/// Where an export's n-th data file goes.
pub(crate) fn data_file_path(
    location: &str,
    commit_seq: u64,
    commit_id: Uuid,
    number: usize,
) -> String {
    format!("{location}/data/{commit_seq:012}-{commit_id}-{number:05}.parquet")
}

/// Where an export's n-th delete file goes.
pub(crate) fn delete_file_path(
    location: &str,
    commit_seq: u64,
    commit_id: Uuid,
    number: usize,
    extension: &str,
) -> String {
    format!("{location}/data/{commit_seq:012}-{commit_id}-deletes-{number:05}.{extension}")
}

/// Removes files that no table refers to. One that stays behind does no harm but take space.
pub(crate) async fn remove_files(file_io: &FileIO, paths: &[String]) {
    for path in paths {
        if let Err(error) = file_io.delete(path).await {
            tracing::warn!(%path, %error, "an unused file stays behind");
        }
    }
}
