//! Orphan removal: files in a table's folder that nothing names, left by a crash, a lost answer or another writer's failure.
//!
//! A file goes only if it was old when it was listed, and is named by none of the snapshots and metadata files of the table
//! as it was loaded *after* that: what an attempt under way writes is younger than the bound, and what it commits is seen.
//! A table with an export of unknown end is left alone. Only folders that this table has for itself are looked at, as
//! another table's may lie below its own.
//!
//! Neither the names of a table's files nor those in its folder are held together, as there may be many: what the table names is in
//! a [`NameFilter`], which may keep an orphan until another look, and what is listed is held against it page by page.

use std::collections::HashSet;

use futures::TryStreamExt;
use iceberg::spec::ManifestFile;

use super::expiry::may_remove_files;
use super::name_filter::NameFilter;
use super::{MaintenanceAction, MaintenanceTask, Mode, Work};
use crate::catalog::CatalogTable;
use crate::error::{At, Result};
use crate::exporter::TableSlot;
use crate::manifest::read_list;

/// By itself, the removal looks at a table's folder so long after the exporter began, in milliseconds, and then so often.
const FIRST_LOOK_MS: i64 = 60 * 60 * 1000;
const LOOK_INTERVAL_MS: i64 = 24 * 60 * 60 * 1000;

/// So many files are removed at most at a time; the next time finds the others.
const FILES_MAX: u64 = 100_000;
/// Before so many go, the table is loaded again.
const FILES_TOGETHER: usize = 4096;

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
    let mut removal = Removal {
        work,
        table: &table,
        named: None,
        unnamed: Vec::new(),
        count: 0,
    };
    for folder in ["data", "metadata"] {
        let folder = format!("{}/{folder}", table.metadata.location());
        let mut files = store.list(&folder);
        while removal.count < FILES_MAX
            && let Some(file) = files.try_next().await?
        {
            let is_old = file.modified_ms < oldest_kept_ms && is_own(&folder, &file.location);
            if is_old && !removal.take(file.location).await? {
                return Ok(removal.action());
            }
        }
    }
    removal.remove().await?;
    Ok(removal.action())
}

/// A removal that is under way.
struct Removal<'a> {
    work: &'a Work<'a>,
    /// As it was before its folder was listed.
    table: &'a CatalogTable,
    named: Option<Named>,
    /// Old files that nothing named, as far as is known.
    unnamed: Vec<String>,
    count: u64,
}

impl Removal<'_> {
    /// Takes an old file; false if the table is to be left alone.
    async fn take(&mut self, location: String) -> Result<bool> {
        let named = match &mut self.named {
            Some(named) => named,
            none => {
                let seed = self.work.core.environment.identities.uuid();
                let named = none.insert(Named::new(seed.as_u64_pair().0));
                named.add_all_of(self.table).await?;
                named
            }
        };
        if !named.filter.may_contain(&location) {
            self.unnamed.push(location);
        }
        match self.unnamed.len() < FILES_TOGETHER {
            true => Ok(true),
            false => self.remove().await,
        }
    }

    /// Removes the files that nothing names in the table as it is now; false if it is to be left alone.
    async fn remove(&mut self) -> Result<bool> {
        let (work, ident) = (self.work, &self.table.ident);
        let mut orphans = std::mem::take(&mut self.unnamed);
        let Some(named) = self.named.as_mut().filter(|_| !orphans.is_empty()) else {
            return Ok(true);
        };
        // What was committed while the files were listed counts.
        let Some(table) = work.core.catalog.load(ident).await? else {
            return Ok(false);
        };
        work.core.check_ours(work.table, None, &table)?;
        named.add_all_of(&table).await?;
        if work.is_pending() {
            return Ok(false);
        }
        orphans.retain(|path| !named.filter.may_contain(path));
        orphans.sort_unstable();
        let is_dry_run = work.mode == Mode::DryRun;
        for path in &orphans {
            tracing::info!(%path, is_dry_run, "nothing names this file");
        }
        let count = orphans.len() as u64;
        if !is_dry_run {
            let paths = futures::stream::iter(orphans);
            let removed = table.file_io.delete_stream(paths).await;
            removed.at(table.metadata.location())?;
        }
        self.count += count;
        Ok(true)
    }

    /// What was done; `None` for nothing.
    fn action(self) -> Option<MaintenanceAction> {
        let task = MaintenanceTask::RemoveOrphans;
        let mut action = MaintenanceAction::new(self.table, task, self.count);
        if self.work.mode != Mode::DryRun {
            action.files_removed = self.count;
        }
        (self.count > 0).then_some(action)
    }
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

/// Every file that a table names, or has named.
struct Named {
    filter: NameFilter,
    /// The lists of manifests and the manifests whose names are there; they are few beside the files.
    read: HashSet<String>,
}

impl Named {
    fn new(seed: u64) -> Self {
        Named {
            filter: NameFilter::new(seed),
            read: HashSet::new(),
        }
    }

    async fn add_all_of(&mut self, table: &CatalogTable) -> Result<()> {
        let metadata = &table.metadata;
        self.filter.add(&table.metadata_location);
        for older in metadata.metadata_log() {
            self.filter.add(&older.metadata_file);
        }
        for statistics in metadata.statistics_iter() {
            self.filter.add(&statistics.statistics_path);
        }
        for statistics in metadata.partition_statistics_iter() {
            self.filter.add(&statistics.statistics_path);
        }
        for snapshot in metadata.snapshots() {
            if self.read.contains(snapshot.manifest_list()) {
                continue;
            }
            let list = read_list(&table.file_io, metadata.format_version(), snapshot).await?;
            for manifest in list.entries() {
                self.add_manifest(table, manifest).await?;
            }
            self.add_read(snapshot.manifest_list());
        }
        Ok(())
    }

    async fn add_manifest(&mut self, table: &CatalogTable, manifest: &ManifestFile) -> Result<()> {
        let path = &manifest.manifest_path;
        if !self.read.contains(path) {
            // An entry of a file that was removed names it, too: the snapshot before may be looked at.
            let loaded = manifest.load_manifest(&table.file_io).await.at(path)?;
            for entry in loaded.entries() {
                self.filter.add(entry.data_file().file_path());
            }
            self.add_read(path);
        }
        Ok(())
    }

    fn add_read(&mut self, path: &str) {
        self.filter.add(path);
        self.read.insert(path.to_owned());
    }
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
