//! Orphan removal: files in a table's folder that nothing names, left by a crash, a lost answer or another writer's failure.
//!
//! A file goes only if it was old when it was listed, and is named by none of the snapshots and metadata files of the table
//! as it was loaded *after* that: what an attempt under way writes is younger than the bound, and what it commits is seen.
//! A table with an export of unknown end is left alone. Only folders that this table has for itself are looked at, as
//! another table's may lie below its own.

use std::collections::HashSet;

use futures::TryStreamExt;

use super::expiry::may_remove_files;
use super::{MaintenanceAction, MaintenanceTask, Mode, Work};
use crate::catalog::CatalogTable;
use crate::error::{At, Result};
use crate::exporter::TableSlot;
use crate::manifest::read_list;

/// By itself, the removal looks at a table's folder so long after the exporter began, in milliseconds, and then so often.
const FIRST_LOOK_MS: i64 = 60 * 60 * 1000;
const LOOK_INTERVAL_MS: i64 = 24 * 60 * 60 * 1000;

/// So many files are removed at most at a time; the next time finds the others.
const FILES_MAX: usize = 100_000;

/// Finds the files that nothing names, and removes them.
pub(super) async fn run(work: &Work<'_>) -> Result<Option<MaintenanceAction>> {
    let clock = &work.core.environment.clock;
    // Asked at each look, so that it is known since when.
    let is_believed = work.believes_wall_time(work.settings.orphan_age_ms);
    if work.mode.is_by_itself() && !(is_believed && is_due(&work.slot, clock.monotonic_ms())) {
        return Ok(None);
    }
    let Some(table) = work.current().await? else {
        return Ok(None);
    };
    if !may_remove_files(&table.metadata) {
        return Ok(None);
    }
    let Some(store) = work.core.catalog.store(&table).await? else {
        return Ok(None);
    };
    let settings = work.settings.of_table(table.metadata.properties());
    let oldest_kept_ms = clock.now_ms().saturating_sub(settings.orphan_age_ms);
    let mut old = HashSet::new();
    for folder in ["data", "metadata"] {
        let folder = format!("{}/{folder}", table.metadata.location());
        let mut files = store.list(&folder);
        while let Some(file) = files.try_next().await? {
            if file.modified_ms < oldest_kept_ms && is_own(&folder, &file.location) {
                old.insert(file.location);
            }
        }
    }
    // What was committed while the files were listed counts.
    let Some(table) = work.core.catalog.load(&table.ident).await? else {
        return Ok(None);
    };
    work.core.check_ours(work.table, None, &table)?;
    if !old.is_empty() {
        remove_named(&table, &mut old).await?;
    }
    if old.is_empty() || work.is_pending() {
        return Ok(None);
    }
    let mut orphans: Vec<String> = old.into_iter().collect();
    orphans.sort_unstable();
    orphans.truncate(FILES_MAX);
    for path in &orphans {
        tracing::info!(%path, is_dry_run = work.mode == Mode::DryRun, "nothing names this file");
    }
    let mut action =
        MaintenanceAction::new(&table, MaintenanceTask::RemoveOrphans, orphans.len() as u64);
    if work.mode != Mode::DryRun {
        action.files_removed = action.items;
        let paths = futures::stream::iter(orphans);
        let removed = table.file_io.delete_stream(paths).await;
        removed.at(table.metadata.location())?;
    }
    Ok(Some(action))
}

/// Whether the folder is to be looked at; if so, sets when next.
fn is_due(slot: &TableSlot, now_ms: i64) -> bool {
    let mut due_ms = slot.orphans_due_ms.lock();
    let is_due = due_ms.is_some_and(|due_ms| due_ms <= now_ms);
    if is_due || due_ms.is_none() {
        let wait_ms = if is_due {
            LOOK_INTERVAL_MS
        } else {
            FIRST_LOOK_MS
        };
        *due_ms = Some(now_ms.saturating_add(wait_ms));
    }
    is_due
}

/// Whether a file lies in the folder itself or below folders of partitions, `column=value`.
fn is_own(folder: &str, location: &str) -> bool {
    let below = location
        .strip_prefix(folder)
        .and_then(|below| below.strip_prefix('/'));
    let folders = below.and_then(|below| below.rsplit_once('/'));
    match (below, folders) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(_), Some((folders, _))) => folders.split('/').all(|folder| folder.contains('=')),
    }
}

/// Takes every file that the table names out of `files`.
async fn remove_named(table: &CatalogTable, files: &mut HashSet<String>) -> Result<()> {
    let metadata = &table.metadata;
    files.remove(&table.metadata_location);
    for older in metadata.metadata_log() {
        files.remove(&older.metadata_file);
    }
    for statistics in metadata.statistics_iter() {
        files.remove(&statistics.statistics_path);
    }
    for statistics in metadata.partition_statistics_iter() {
        files.remove(&statistics.statistics_path);
    }
    let mut read = HashSet::new();
    for snapshot in metadata.snapshots() {
        files.remove(snapshot.manifest_list());
        let list = read_list(&table.file_io, metadata.format_version(), snapshot).await?;
        for manifest in list.entries() {
            let path = &manifest.manifest_path;
            files.remove(path);
            if files.is_empty() {
                return Ok(());
            }
            if read.insert(path.clone()) {
                // An entry of a file that was removed names it, too: the snapshot before may be looked at.
                let manifest = manifest.load_manifest(&table.file_io).await.at(path)?;
                for entry in manifest.entries() {
                    files.remove(entry.data_file().file_path());
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::is_own;

    #[test]
    fn another_tables_folders_are_left_alone() {
        let folder = "s3://b/shop/orders/data";
        for (below, expected) in [
            ("/1.parquet", true),
            ("/day=2020-01-01/kind=a/1.parquet", true),
            ("/data/1.parquet", false),
            ("/day=1/data/1.parquet", false),
            ("-old/1.parquet", false),
        ] {
            assert_eq!(
                is_own(folder, &format!("{folder}{below}")),
                expected,
                "{below}"
            );
        }
    }
}
