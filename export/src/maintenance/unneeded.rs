//! Which files no snapshot needs any more, once some expired.
//!
//! A file is live in consecutive snapshots of a history: from the one that adds it to the one before it is removed. So
//! a file of an expired snapshot that a kept one needs, too, is in a *neighbour*: a kept snapshot right before or behind an
//! expired one. Only neighbours are compared, and of those only the manifests that the expired snapshots don't all share:
//! the work follows what expired, not the size of the table. Where others wrote snapshots too, or not every snapshot is the
//! child of the one before it (after a rollback, or where one with a name outlived its neighbours), a file may be in two of them
//! without being in what lies between, so all kept snapshots are compared.

use std::collections::{HashMap, HashSet};

use iceberg::spec::{ManifestFile, SnapshotRef, TableMetadata};

use crate::catalog::CatalogTable;
use crate::error::Result;
use crate::manifest::{read_entries, read_list};
use crate::summary::Stamp;

/// The manifests of a snapshot, by path.
type ByPath = HashMap<String, ManifestFile>;

/// The files that were needed by the `expired` snapshots of `table` alone, which still names them, each with when the last one
/// that needed it was replaced, in milliseconds since 1970; `after` is the table without them, which may have snapshots of others
/// that came between.
pub(super) async fn unneeded_files(
    table: &CatalogTable,
    expired: &HashSet<i64>,
    after: &CatalogTable,
) -> Result<HashMap<String, i64>> {
    let metadata = &table.metadata;
    let mut unneeded = Unneeded::default();
    let mut of_expired: Vec<(ByPath, i64)> = Vec::new();
    let gone = |snapshot: &&SnapshotRef| expired.contains(&snapshot.snapshot_id());
    for snapshot in metadata.snapshots().filter(gone) {
        let id = snapshot.snapshot_id();
        let replaced_ms = replaced_ms(metadata, snapshot);
        of_expired.push((manifests(table, snapshot).await?, replaced_ms));
        unneeded.add(snapshot.manifest_list(), replaced_ms);
        if let Some(statistics) = metadata.statistics_for_snapshot(id) {
            unneeded.add(&statistics.statistics_path, replaced_ms);
        }
        if let Some(statistics) = metadata.partition_statistics_for_snapshot(id) {
            unneeded.add(&statistics.statistics_path, replaced_ms);
        }
    }
    let mut kept = ByPath::new();
    let is_new =
        |snapshot: &&SnapshotRef| metadata.snapshot_by_id(snapshot.snapshot_id()).is_none();
    let new = after.metadata.snapshots().filter(is_new);
    for snapshot in compared(metadata, expired).into_iter().chain(new) {
        kept.extend(manifests(table, snapshot).await?);
    }

    let mut last: HashMap<&String, (&ManifestFile, i64)> = HashMap::new();
    for (manifests, replaced_ms) in &of_expired {
        for (path, manifest) in manifests
            .iter()
            .filter(|(path, _)| !kept.contains_key(*path))
        {
            let known = last.entry(path).or_insert((manifest, *replaced_ms));
            known.1 = known.1.max(*replaced_ms);
        }
    }
    let mut files = Unneeded::default();
    for (manifest, replaced_ms) in last.into_values() {
        unneeded.add(&manifest.manifest_path, replaced_ms);
        for entry in read_entries(&table.file_io, manifest).await? {
            files.add(entry.file.file_path(), replaced_ms);
        }
    }
    if !files.0.is_empty() {
        // One that all expired snapshots have holds none of those files: they would have had them twice.
        let is_shared = |path| {
            of_expired
                .iter()
                .all(|(manifests, _)| manifests.contains_key(path))
        };
        for manifest in kept
            .values()
            .filter(|manifest| !is_shared(&manifest.manifest_path))
        {
            for entry in read_entries(&table.file_io, manifest).await? {
                files.0.remove(entry.file.file_path());
            }
        }
    }
    unneeded.0.extend(files.0);
    Ok(unneeded.0)
}

/// Files, each with when the last snapshot that needed it was replaced.
#[derive(Default)]
struct Unneeded(HashMap<String, i64>);

impl Unneeded {
    fn add(&mut self, path: &str, replaced_ms: i64) {
        let known = self.0.entry(path.to_owned()).or_insert(replaced_ms);
        *known = (*known).max(replaced_ms);
    }
}

/// When another snapshot came in its place; when it was made if none did.
fn replaced_ms(metadata: &TableMetadata, snapshot: &SnapshotRef) -> i64 {
    let id = Some(snapshot.snapshot_id());
    let next = metadata
        .snapshots()
        .filter(|next| next.parent_snapshot_id() == id);
    let next_ms = next.map(|next| next.timestamp_ms()).max();
    next_ms.unwrap_or(snapshot.timestamp_ms())
}

async fn manifests(table: &CatalogTable, snapshot: &SnapshotRef) -> Result<ByPath> {
    let list = read_list(&table.file_io, table.metadata.format_version(), snapshot).await?;
    let manifests = list.entries().iter().cloned();
    Ok(manifests
        .map(|manifest| (manifest.manifest_path.clone(), manifest))
        .collect())
}

/// The kept snapshots that may need a file of an expired one.
fn compared<'a>(metadata: &'a TableMetadata, expired: &HashSet<i64>) -> Vec<&'a SnapshotRef> {
    let mut in_order: Vec<&SnapshotRef> = metadata.snapshots().collect();
    in_order.sort_by_key(|snapshot| snapshot.sequence_number());
    let is_ours = in_order
        .iter()
        .all(|snapshot| Stamp::of(snapshot).is_some());
    let is_line = in_order
        .iter()
        .zip(in_order.iter().skip(1))
        .all(|(before, snapshot)| snapshot.parent_snapshot_id() == Some(before.snapshot_id()));
    let gone = |snapshot: &&SnapshotRef| expired.contains(&snapshot.snapshot_id());
    let before: HashSet<i64> = metadata
        .snapshots()
        .filter(gone)
        .filter_map(|snapshot| snapshot.parent_snapshot_id())
        .collect();
    let is_neighbour = |snapshot: &&SnapshotRef| {
        let parent = snapshot.parent_snapshot_id();
        before.contains(&snapshot.snapshot_id())
            || parent.is_some_and(|parent| expired.contains(&parent))
    };
    metadata
        .snapshots()
        .filter(|snapshot| !gone(snapshot) && (!(is_ours && is_line) || is_neighbour(snapshot)))
        .collect()
}
