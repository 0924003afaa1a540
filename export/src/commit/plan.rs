//! What an export changes of one snapshot of its table: which entries come, and which go.
//!
//! Only the manifests that hold an entry of a data file that the export touches are looked into, so a plan costs what the export's
//! changes cost, and not what the table holds.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use futures::{FutureExt, StreamExt, TryStreamExt};
use iceberg::io::FileIO;
use iceberg::spec::{DataFile, ManifestContentType, ManifestFile, Struct};
use roaring::RoaringTreemap;

use super::new_manifests::{DELETES_TOGETHER, live_count};
use crate::catalog::CatalogTable;
use crate::delete::{FILES_IN_FLIGHT_MAX, Positions, read_positions};
use crate::error::{ExportError, Result};
use crate::manifest::{Entry, Found, Listing, ManifestCache, copy_of};

/// New data files, of one partition spec.
#[derive(Debug, Default)]
pub(crate) struct NewFiles {
    pub(crate) spec_id: i32,
    pub(crate) files: Vec<DataFile>,
}

/// What an export changes in its table, whatever else becomes of the table meanwhile.
#[derive(Debug, Default)]
pub(crate) struct RowDelta {
    /// New data files.
    pub(crate) added_data: NewFiles,
    /// Rows of older data files that are replaced or deleted.
    pub(crate) removed: Positions,
    /// The checksum of the new rows.
    pub(crate) rows_checksum: Option<String>,
    /// Older data files whose rows are in the new ones.
    pub(crate) rewritten: HashSet<String>,
    /// Rows of the new data files that count no more.
    pub(crate) dead: Positions,
}

/// What becomes of the manifests of one snapshot.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// All deleted positions, old and new, of the data files that stay, and of new ones.
    pub(super) positions: Positions,
    /// The partition of each of these data files, and the id of its spec.
    partitions: HashMap<String, (i32, Struct)>,
    /// The files with those positions by spec id, each in place of the one its data file had before.
    pub(super) added: BTreeMap<i32, Vec<DataFile>>,
    /// Manifests that are written anew, by their place in the list.
    pub(super) renewed: BTreeMap<usize, Renewed>,
    /// Whether the rows stay what they are.
    pub(super) is_rewrite: bool,
}

/// A manifest that is written anew.
#[derive(Debug)]
pub(crate) struct Renewed {
    pub(super) entries: Arc<Vec<Entry>>,
    /// The numbers of the entries that go.
    pub(super) gone: BTreeSet<usize>,
}

impl Renewed {
    /// One that keeps all its entries.
    pub(crate) fn whole(entries: Arc<Vec<Entry>>) -> Renewed {
        Renewed {
            entries,
            gone: BTreeSet::new(),
        }
    }

    pub(super) fn left_count(&self) -> usize {
        self.entries.len().saturating_sub(self.gone.len())
    }
}

/// Finds what of a snapshot an export changes; joins removed rows with those that were deleted before.
pub(super) async fn plan(
    table: &CatalogTable,
    (listing, cache): (&Listing, &mut ManifestCache),
    delta: &RowDelta,
) -> Result<Plan> {
    let file_io = &table.file_io;
    let mut plan = Plan {
        is_rewrite: !delta.rewritten.is_empty(),
        ..Plan::default()
    };
    plan.take_dead(delta);
    let touched = delta.removed.keys().chain(&delta.rewritten);
    let touched: BTreeSet<&str> = touched.map(String::as_str).collect();
    if !touched.is_empty() {
        let of_kind = ManifestContentType::Data;
        let files = cache.find(file_io, listing, of_kind, touched.iter().copied());
        let files = files.await?;
        let of_kind = ManifestContentType::Deletes;
        let deletes = cache.find(file_io, listing, of_kind, touched.iter().copied());
        let deletes = deletes.await?;
        for path in &touched {
            plan.let_go(&deletes, path);
        }
        plan.drop_rewritten(table, &files, delta)?;
        plan.remove_rows(table, listing, (&files, &deletes), delta)
            .await?;
    }
    plan.join_small(file_io, listing, cache).await?;
    Ok(plan)
}

/// Positions, and those that were deleted before.
async fn join(
    file_io: &FileIO,
    new: &RoaringTreemap,
    older: Vec<&Entry>,
) -> Result<RoaringTreemap> {
    let mut positions = new.clone();
    for entry in older {
        positions |= read_positions(file_io, &entry.file).await?;
    }
    Ok(positions)
}

fn check_positions(path: &str, positions: &RoaringTreemap, row_count: u64) -> Result<()> {
    match positions.max() {
        Some(position) if position >= row_count => Err(ExportError::corrupt(
            path,
            format!("row {position} is to be deleted, the file has {row_count} rows"),
        )),
        _ => Ok(()),
    }
}

impl Plan {
    /// Manifests become others with the same entries.
    pub(crate) fn of_merge(merged: BTreeMap<usize, Renewed>) -> Plan {
        Plan {
            renewed: merged,
            is_rewrite: true,
            ..Plan::default()
        }
    }

    /// Takes what is deleted of the new data files.
    fn take_dead(&mut self, delta: &RowDelta) {
        for file in &delta.added_data.files {
            if let Some(positions) = delta.dead.get(file.file_path()) {
                let partition = (delta.added_data.spec_id, file.partition().clone());
                self.keep(file.file_path(), positions.clone(), partition);
            }
        }
    }

    fn keep(&mut self, data_file: &str, positions: RoaringTreemap, partition: (i32, Struct)) {
        self.positions.insert(data_file.to_owned(), positions);
        self.partitions.insert(data_file.to_owned(), partition);
    }

    /// The entries of a data file go.
    fn let_go(&mut self, found: &Found, data_file: &str) {
        for (place, number, _) in found.of(data_file) {
            if let Some(entries) = found.manifests.get(&place) {
                let renewed = self.renewed.entry(place);
                let renewed = renewed.or_insert_with(|| Renewed::whole(entries.clone()));
                renewed.gone.insert(number);
            }
        }
    }

    /// The files that new ones replace go.
    fn drop_rewritten(
        &mut self,
        table: &CatalogTable,
        files: &Found,
        delta: &RowDelta,
    ) -> Result<()> {
        for path in &delta.rewritten {
            if files.of(path).next().is_none() {
                let reason = "a data file that was rewritten is gone";
                return Err(ExportError::foreign(&table.ident, reason));
            }
            self.let_go(files, path);
        }
        Ok(())
    }

    /// Joins removed rows with those that were deleted before. A data file that has no row left goes.
    async fn remove_rows(
        &mut self,
        table: &CatalogTable,
        listing: &Listing,
        (files, deletes): (&Found, &Found),
        delta: &RowDelta,
    ) -> Result<()> {
        let join = |(path, new): (&String, _)| {
            let older = deletes.of(path).map(|(_, _, entry)| entry).collect();
            join(&table.file_io, new, older).boxed()
        };
        let joins: Vec<_> = delta.removed.iter().map(join).collect();
        let joined: Vec<RoaringTreemap> = futures::stream::iter(joins)
            .buffered(FILES_IN_FLIGHT_MAX)
            .try_collect()
            .await?;
        for (path, positions) in delta.removed.keys().zip(joined) {
            let found = files.of(path).next().and_then(|(place, _, entry)| {
                let manifest = listing.manifests.get(place)?;
                Some((manifest.partition_spec_id, &entry.file))
            });
            let (spec_id, file) = found.ok_or_else(|| {
                let reason =
                    format!("data file {path} is gone, though rows of it are to be replaced");
                ExportError::foreign(&table.ident, reason)
            })?;
            check_positions(path, &positions, file.record_count())?;
            if positions.len() == file.record_count() {
                self.let_go(files, path);
            } else {
                self.keep(path, positions, (spec_id, file.partition().clone()));
            }
        }
        Ok(())
    }

    /// Has few deletes join those of a small manifest, lest there is one more manifest with each commit.
    async fn join_small(
        &mut self,
        file_io: &FileIO,
        listing: &Listing,
        cache: &mut ManifestCache,
    ) -> Result<()> {
        // New entries, and those that stay of manifests that some go from.
        let mut counts: BTreeMap<i32, (usize, usize)> = BTreeMap::new();
        for (spec_id, _) in self.partitions.values() {
            counts.entry(*spec_id).or_default().0 += 1;
        }
        let deletes = listing.manifests.iter().enumerate();
        let deletes = deletes.filter(|(_, one)| one.content == ManifestContentType::Deletes);
        let deletes: Vec<(usize, &ManifestFile)> = deletes.collect();
        for (place, manifest) in &deletes {
            if let Some(renewed) = self.renewed.get(place) {
                counts.entry(manifest.partition_spec_id).or_default().1 += renewed.left_count();
            }
        }
        let mut small = Vec::new();
        for (spec_id, (added, left)) in counts {
            let are_together = added + left <= DELETES_TOGETHER;
            let count = if are_together { added + left } else { added };
            if count == 0 || count > DELETES_TOGETHER {
                continue;
            }
            let is_small = |(place, manifest): &&(usize, &ManifestFile)| {
                manifest.partition_spec_id == spec_id
                    && !self.renewed.contains_key(place)
                    && live_count(manifest) <= DELETES_TOGETHER
            };
            let smallest = deletes.iter().filter(is_small);
            let smallest = smallest.min_by_key(|(_, manifest)| live_count(manifest));
            small.extend(smallest.map(|(place, _)| *place));
        }
        for (place, entries) in cache.entries(file_io, listing, small).await? {
            self.renewed.insert(place, Renewed::whole(entries));
        }
        Ok(())
    }

    /// Takes the files that [`Plan::positions`] were written to. A delete file is of the partition of its data file.
    pub(super) fn take_files(&mut self, files: Vec<DataFile>) -> Result<()> {
        for file in files {
            let data_file = file.referenced_data_file().unwrap_or_default();
            let (spec_id, partition) =
                self.partitions.get(&data_file).cloned().ok_or_else(|| {
                    let reason = format!("it deletes rows of {data_file}, which has no partition");
                    ExportError::corrupt(file.file_path(), reason)
                })?;
            let file = copy_of(&file)
                .partition(partition)
                .partition_spec_id(spec_id)
                .build()
                .map_err(|error| ExportError::corrupt(file.file_path(), error))?;
            self.added.entry(spec_id).or_default().push(file);
        }
        Ok(())
    }
}
