//! The next snapshot of a table: which manifests it consists of, and the updates that make it current.
//!
//! Manifests without a changed entry are listed again as they are. Those with one are written anew as a single
//! manifest of their kind: what stays as existing, what goes as deleted. New entries of deletes join that manifest,
//! so the number of delete manifests does not grow while the same data files keep changing.

use std::collections::HashSet;
use std::sync::Arc;

use iceberg::TableUpdate;
use iceberg::spec::{
    DataFile, MAIN_BRANCH, ManifestContentType, ManifestFile, ManifestListWriter, ManifestWriter,
    ManifestWriterBuilder, Operation, Snapshot, SnapshotReference, SnapshotRetention,
};
use roaring::RoaringTreemap;

use crate::catalog::CatalogTable;
use crate::config::FormatVersion;
use crate::delete::{Positions, read_positions};
use crate::error::{At, ExportError, Result};
use crate::manifest::{Entry, LoadedManifest, Manifests};
use crate::references::references;
use crate::summary::{Counters, Stamp};

/// A new file takes its sequence number from the snapshot that adds it.
const SEQUENCE_NUMBER_INHERITED: i64 = -1;

/// The manifest of new data files.
const ADDED_FILE: &str = "added.avro";
/// The manifest of data files in place of older ones.
const DATA_FILE: &str = "data.avro";
/// The manifest of new deletes, and of those in place of older ones.
const DELETES_FILE: &str = "deletes.avro";
/// The manifest list.
const LIST_FILE: &str = "snapshot.avro";

/// What an export changes in its table, whatever else becomes of the table meanwhile.
#[derive(Debug, Default)]
pub(crate) struct RowDelta {
    /// New data files.
    pub(crate) added_data: Vec<DataFile>,
    /// Rows of older data files that are replaced or deleted.
    pub(crate) removed: Positions,
    /// The checksum of the new rows.
    pub(crate) rows_checksum: Option<String>,
}

/// What an export's removed rows mean for one snapshot of its table.
#[derive(Debug, Default)]
pub(crate) struct Deletes {
    /// All deleted positions, old and new, of the data files that stay.
    pub(crate) positions: Positions,
    /// The files with those positions, each in place of the one its data file had before.
    pub(crate) added: Vec<DataFile>,
    /// Data files that have no row left.
    pub(crate) dropped_data: HashSet<String>,
    /// Data files of either kind: what delete files they have goes.
    pub(crate) touched: HashSet<String>,
    /// Manifests that are written anew, as one of their kind, though nothing in them changes.
    pub(crate) merged: HashSet<String>,
}

/// Joins removed rows with those that were deleted before.
pub(super) async fn plan_deletes(
    table: &CatalogTable,
    manifests: &Manifests,
    removed: Positions,
) -> Result<Deletes> {
    let mut plan = Deletes::default();
    if removed.is_empty() {
        return Ok(plan);
    }
    let deletes = manifests.delete_by_data_file()?;
    let row_counts: std::collections::HashMap<&str, u64> = manifests
        .data_files()
        .filter(|entry| removed.contains_key(entry.file.file_path()))
        .map(|entry| (entry.file.file_path(), entry.file.record_count()))
        .collect();
    for (path, new) in removed {
        let row_count = *row_counts.get(path.as_str()).ok_or_else(|| {
            ExportError::foreign(
                &table.ident,
                format!("data file {path} is gone, though rows of it are to be replaced"),
            )
        })?;
        let mut positions = new;
        for entry in deletes.get(&path).into_iter().flatten() {
            positions |= read_positions(&table.file_io, &entry.file).await?;
        }
        check_positions(&path, &positions, row_count)?;
        plan.touched.insert(path.clone());
        if positions.len() == row_count {
            plan.dropped_data.insert(path);
        } else {
            plan.positions.insert(path, positions);
        }
    }
    Ok(plan)
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

/// Where the files of one commit attempt go, and when it is.
pub(crate) struct Attempt<'a> {
    pub(crate) table: &'a CatalogTable,
    pub(crate) snapshot_id: i64,
    /// Distinguishes the files of this attempt.
    pub(crate) attempt_id: uuid::Uuid,
    pub(crate) now_ms: i64,
}

impl Attempt<'_> {
    /// Writes the manifests of the next snapshot; returns the updates that make it the current one.
    pub(crate) async fn build(
        &self,
        manifests: &Manifests,
        added_data: &[DataFile],
        changed: &Deletes,
        stamp: &Stamp,
    ) -> Result<Vec<TableUpdate>> {
        let metadata = &self.table.metadata;
        let parent = metadata.current_snapshot().map(Arc::as_ref);
        let mut counters = Counters::default();
        let mut list = Vec::new();
        let added = Rewrite {
            added: added_data,
            ..Rewrite::new(ManifestContentType::Data, ADDED_FILE)
        };
        list.extend(self.write_manifest(added, &mut counters).await?);
        let dropped = |entry: &Entry| changed.dropped_data.contains(entry.file.file_path());
        let data = Rewrite::new(ManifestContentType::Data, DATA_FILE);
        list.extend(
            self.rewrite(
                &manifests.data,
                &changed.merged,
                dropped,
                data,
                &mut counters,
            )
            .await?,
        );
        let replaced = |entry: &Entry| {
            let data_file = entry.file.referenced_data_file();
            data_file.is_some_and(|data_file| changed.touched.contains(&data_file))
        };
        let deletes = Rewrite {
            added: &changed.added,
            ..Rewrite::new(ManifestContentType::Deletes, DELETES_FILE)
        };
        list.extend(
            self.rewrite(
                &manifests.deletes,
                &changed.merged,
                replaced,
                deletes,
                &mut counters,
            )
            .await?,
        );

        let mut summary = counters.summary(&self.table.ident, stamp, parent)?;
        if !changed.merged.is_empty() {
            summary.operation = Operation::Replace;
        }
        let (manifest_list, added_rows) = self
            .write_list(list, parent.map(Snapshot::snapshot_id))
            .await?;
        let snapshot = Snapshot::builder()
            .with_snapshot_id(self.snapshot_id)
            .with_parent_snapshot_id(parent.map(Snapshot::snapshot_id))
            .with_sequence_number(metadata.next_sequence_number())
            .with_timestamp_ms(self.now_ms.max(metadata.last_updated_ms()))
            .with_manifest_list(manifest_list)
            .with_summary(summary)
            .with_schema_id(metadata.current_schema_id());
        let snapshot = match added_rows {
            Some(added_rows) => snapshot
                .with_row_range(metadata.next_row_id(), added_rows)
                .build(),
            None => snapshot.build(),
        };
        Ok(vec![
            TableUpdate::AddSnapshot { snapshot },
            self.becomes_current()?,
        ])
    }

    /// The new snapshot becomes the head of the main branch, which keeps its retention.
    fn becomes_current(&self) -> Result<TableUpdate> {
        let main = references(&self.table.metadata)?.remove(MAIN_BRANCH);
        let retention = main.map_or(SnapshotRetention::branch(None, None, None), |main| {
            main.retention
        });
        Ok(TableUpdate::SetSnapshotRef {
            ref_name: MAIN_BRANCH.to_owned(),
            reference: SnapshotReference {
                snapshot_id: self.snapshot_id,
                retention,
            },
        })
    }

    /// Carries manifests over, writing those anew that have an entry to drop or are to be merged.
    async fn rewrite<'m>(
        &self,
        manifests: &'m [LoadedManifest],
        merged: &HashSet<String>,
        drops: impl Fn(&Entry) -> bool,
        mut rewrite: Rewrite<'m>,
        counters: &mut Counters,
    ) -> Result<Vec<ManifestFile>> {
        let mut list = Vec::new();
        for loaded in manifests {
            let is_merged = merged.contains(&loaded.manifest.manifest_path);
            if !is_merged && !loaded.entries.iter().any(&drops) {
                list.push(loaded.manifest.clone());
                continue;
            }
            for entry in loaded.entries.iter() {
                if drops(entry) {
                    rewrite.deleted.push(entry)
                } else {
                    rewrite.existing.push(entry)
                }
            }
        }
        list.extend(self.write_manifest(rewrite, counters).await?);
        Ok(list)
    }

    async fn write_manifest(
        &self,
        rewrite: Rewrite<'_>,
        counters: &mut Counters,
    ) -> Result<Option<ManifestFile>> {
        if rewrite.added.is_empty() && rewrite.deleted.is_empty() && rewrite.existing.is_empty() {
            return Ok(None);
        }
        let location = self.metadata_file(rewrite.name);
        let mut writer = self.manifest_writer(&location, rewrite.content)?;
        let write = || -> iceberg::Result<()> {
            for file in rewrite.added {
                counters.add(file);
                writer.add_file(file.clone(), SEQUENCE_NUMBER_INHERITED)?;
            }
            for Entry {
                file,
                snapshot_id,
                sequence_number,
                file_sequence_number,
            } in rewrite.existing
            {
                writer.add_existing_file(
                    file.clone(),
                    *snapshot_id,
                    *sequence_number,
                    *file_sequence_number,
                )?;
            }
            for Entry {
                file,
                sequence_number,
                file_sequence_number,
                ..
            } in rewrite.deleted
            {
                counters.remove(file);
                writer.add_delete_file(file.clone(), *sequence_number, *file_sequence_number)?;
            }
            Ok(())
        };
        write().at(&location)?;
        let manifest = writer.write_manifest_file().await;
        manifest
            .map(Some)
            .map_err(|error| ExportError::unavailable(&location, error))
    }

    fn manifest_writer(
        &self,
        location: &str,
        content: ManifestContentType,
    ) -> Result<ManifestWriter> {
        let metadata = &self.table.metadata;
        let builder = ManifestWriterBuilder::new(
            self.table.file_io.new_output(location).at(location)?,
            Some(self.snapshot_id),
            metadata.current_schema().clone(),
            metadata.default_partition_spec().as_ref().clone(),
        );
        Ok(match (self.version()?, content) {
            (FormatVersion::V2, ManifestContentType::Data) => builder.build_v2_data(),
            (FormatVersion::V2, ManifestContentType::Deletes) => builder.build_v2_deletes(),
            (FormatVersion::V3, ManifestContentType::Data) => builder.build_v3_data(),
            (FormatVersion::V3, ManifestContentType::Deletes) => builder.build_v3_deletes(),
        })
    }

    /// Writes the manifest list; returns its location and, in format v3, for how many rows it assigned row ids.
    async fn write_list(
        &self,
        list: Vec<ManifestFile>,
        parent: Option<i64>,
    ) -> Result<(String, Option<u64>)> {
        let metadata = &self.table.metadata;
        let location = self.metadata_file(LIST_FILE);
        let unavailable = |error: iceberg::Error| ExportError::unavailable(&location, error);
        let output = self
            .table
            .file_io
            .new_output(&location)
            .map_err(unavailable)?;
        let output = output.writer().await.map_err(unavailable)?;
        let sequence_number = metadata.next_sequence_number();
        let first_row_id = metadata.next_row_id();
        let version = self.version()?;
        let mut writer = match version {
            FormatVersion::V2 => {
                ManifestListWriter::v2(output, self.snapshot_id, parent, sequence_number)
            }
            FormatVersion::V3 => ManifestListWriter::v3(
                output,
                self.snapshot_id,
                parent,
                sequence_number,
                Some(first_row_id),
            ),
        };
        writer.add_manifests(list.into_iter()).at(&location)?;
        let next_row_id = writer.next_row_id();
        writer.close().await.map_err(unavailable)?;
        Ok((
            location,
            next_row_id.map(|next| next.saturating_sub(first_row_id)),
        ))
    }

    /// Every file that [`Attempt::build`] may have written.
    pub(crate) fn paths(&self) -> Vec<String> {
        [ADDED_FILE, DATA_FILE, DELETES_FILE, LIST_FILE]
            .iter()
            .map(|name| self.metadata_file(name))
            .collect()
    }

    fn metadata_file(&self, name: &str) -> String {
        format!(
            "{}/metadata/{}-{}-{name}",
            self.table.metadata.location(),
            self.snapshot_id,
            self.attempt_id
        )
    }

    fn version(&self) -> Result<FormatVersion> {
        table_version(self.table)
    }
}

/// The format version of a table, if we can write it.
pub(crate) fn table_version(table: &CatalogTable) -> Result<FormatVersion> {
    match table.metadata.format_version() {
        iceberg::spec::FormatVersion::V2 => Ok(FormatVersion::V2),
        iceberg::spec::FormatVersion::V3 => Ok(FormatVersion::V3),
        iceberg::spec::FormatVersion::V1 => Err(ExportError::foreign(
            &table.ident,
            "it is of format version 1",
        )),
    }
}

/// The entries of a manifest that is to be written.
struct Rewrite<'a> {
    content: ManifestContentType,
    name: &'static str,
    added: &'a [DataFile],
    existing: Vec<&'a Entry>,
    deleted: Vec<&'a Entry>,
}

impl Rewrite<'_> {
    fn new(content: ManifestContentType, name: &'static str) -> Self {
        Rewrite {
            content,
            name,
            added: &[],
            existing: Vec::new(),
            deleted: Vec::new(),
        }
    }
}
