//! The next snapshot of a table: which manifests it consists of, and the updates that make it current.
//!
//! Manifests without a changed entry are listed again as they are. Those with one are written anew as a single
//! manifest of their kind and partition spec: what stays as existing, what goes as deleted. New entries of deletes join that manifest,
//! so the number of delete manifests does not grow while the same data files keep changing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures::{FutureExt, StreamExt, TryStreamExt};
use iceberg::TableUpdate;
use iceberg::io::FileIO;
use iceberg::spec::{
    DataFile, Literal, ManifestContentType, ManifestFile, ManifestListWriter, ManifestWriter,
    ManifestWriterBuilder, NestedFieldRef, PartitionSpec, PrimitiveLiteral, PrimitiveType,
    SchemaRef, Snapshot, SnapshotReference, SnapshotRetention, Struct, StructType,
};
use roaring::RoaringTreemap;

use crate::catalog::CatalogTable;
use crate::config::FormatVersion;
use crate::delete::{FILES_IN_FLIGHT_MAX, Positions, read_positions};
use crate::error::{At, ExportError, Result};
use crate::manifest::{Entry, LoadedManifest, Manifests, copy_of};
use crate::references::{export_branch, head, references};
use crate::summary::{Counters, Stamp};

/// A new file takes its sequence number from the snapshot that adds it.
const SEQUENCE_NUMBER_INHERITED: i64 = -1;

/// The manifest of new data files.
const ADDED: &str = "added";
/// The manifest of data files in place of older ones.
const DATA: &str = "data";
/// The manifest of new deletes, and of those in place of older ones.
const DELETES: &str = "deletes";
/// The manifest list.
const LIST_FILE: &str = "snapshot.avro";

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

/// What an export's removed rows mean for one snapshot of its table.
#[derive(Debug, Default)]
pub(crate) struct Deletes {
    /// All deleted positions, old and new, of the data files that stay.
    pub(crate) positions: Positions,
    /// The partition of each of these data files, and the id of its spec.
    pub(crate) partitions: HashMap<String, (i32, Struct)>,
    /// The files with those positions by spec id, each in place of the one its data file had before.
    pub(crate) added: BTreeMap<i32, Vec<DataFile>>,
    /// Data files that have no row left.
    pub(crate) dropped_data: HashSet<String>,
    /// Data files of either kind: what delete files they have goes.
    pub(crate) touched: HashSet<String>,
    /// Manifests that are written anew, as one of their kind, though nothing in them changes.
    pub(crate) merged: HashSet<String>,
    /// Whether the rows stay what they are.
    pub(crate) is_rewrite: bool,
}

/// Joins removed rows with those that were deleted before.
pub(super) async fn plan_deletes(
    table: &CatalogTable,
    manifests: &Manifests,
    delta: &RowDelta,
) -> Result<Deletes> {
    let mut plan = plan_rewrite(table, manifests, delta)?;
    let removed = delta.removed.clone();
    if removed.is_empty() {
        return Ok(plan);
    }
    let deletes = manifests.delete_by_data_file()?;
    let mut changed: HashMap<&str, (i32, &DataFile)> = HashMap::new();
    for loaded in &manifests.data {
        let entries = loaded.entries.iter().map(|entry| &entry.file);
        let entries = entries.filter(|file| removed.contains_key(file.file_path()));
        let spec_id = loaded.manifest.partition_spec_id;
        changed.extend(entries.map(|file| (file.file_path(), (spec_id, file))));
    }
    let mut joined = Vec::with_capacity(removed.len());
    for (path, new) in &removed {
        let older = deletes.get(path).map_or(&[][..], Vec::as_slice);
        joined.push(join(&table.file_io, new, older).boxed());
    }
    let joined: Vec<RoaringTreemap> = futures::stream::iter(joined)
        .buffered(FILES_IN_FLIGHT_MAX)
        .try_collect()
        .await?;
    for (path, positions) in removed.into_keys().zip(joined) {
        let (spec_id, file) = *changed.get(path.as_str()).ok_or_else(|| {
            ExportError::foreign(
                &table.ident,
                format!("data file {path} is gone, though rows of it are to be replaced"),
            )
        })?;
        let row_count = file.record_count();
        check_positions(&path, &positions, row_count)?;
        plan.touched.insert(path.clone());
        if positions.len() == row_count {
            plan.dropped_data.insert(path);
        } else {
            let partition = (spec_id, file.partition().clone());
            plan.partitions.insert(path.clone(), partition);
            plan.positions.insert(path, positions);
        }
    }
    Ok(plan)
}

/// Positions, and those that were deleted before.
async fn join(file_io: &FileIO, new: &RoaringTreemap, older: &[&Entry]) -> Result<RoaringTreemap> {
    let mut positions = new.clone();
    for entry in older {
        positions |= read_positions(file_io, &entry.file).await?;
    }
    Ok(positions)
}

/// What goes with the files that new ones replace, and what is deleted of the new ones.
fn plan_rewrite(table: &CatalogTable, manifests: &Manifests, delta: &RowDelta) -> Result<Deletes> {
    let mut plan = Deletes {
        is_rewrite: !delta.rewritten.is_empty(),
        dropped_data: delta.rewritten.clone(),
        touched: delta.rewritten.clone(),
        ..Deletes::default()
    };
    if plan.is_rewrite {
        let is_rewritten = |entry: &&Entry| delta.rewritten.contains(entry.file.file_path());
        if manifests.data_files().filter(is_rewritten).count() != delta.rewritten.len() {
            let reason = "a data file that was rewritten is gone";
            return Err(ExportError::foreign(&table.ident, reason));
        }
    }
    for file in &delta.added_data.files {
        if let Some(positions) = delta.dead.get(file.file_path()) {
            let path = file.file_path().to_owned();
            let partition = (delta.added_data.spec_id, file.partition().clone());
            plan.partitions.insert(path.clone(), partition);
            plan.positions.insert(path, positions.clone());
        }
    }
    Ok(plan)
}

impl Deletes {
    /// Takes the files that [`Deletes::positions`] were written to. A delete file is of the partition of its data file.
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
        added_data: &NewFiles,
        changed: &Deletes,
        stamp: &Stamp,
    ) -> Result<Vec<TableUpdate>> {
        let metadata = &self.table.metadata;
        let parent = head(metadata).map(Arc::as_ref);
        let mut counters = Counters::new(changed.is_rewrite);
        let mut list = Vec::new();
        let added = Rewrite {
            added: &added_data.files,
            ..Rewrite::new(ManifestContentType::Data, added_data.spec_id)
        };
        list.extend(self.write_manifest(ADDED, added, &mut counters).await?);
        let dropped = |entry: &Entry| changed.dropped_data.contains(entry.file.file_path());
        let (nothing, merged) = (BTreeMap::new(), &changed.merged);
        let data = ManifestContentType::Data;
        for rewrite in rewrites(data, &manifests.data, merged, dropped, &nothing, &mut list) {
            list.extend(self.write_manifest(DATA, rewrite, &mut counters).await?);
        }
        let replaced = |entry: &Entry| {
            let data_file = entry.file.referenced_data_file();
            data_file.is_some_and(|data_file| changed.touched.contains(&data_file))
        };
        let (deletes, added) = (ManifestContentType::Deletes, &changed.added);
        for rewrite in rewrites(
            deletes,
            &manifests.deletes,
            merged,
            replaced,
            added,
            &mut list,
        ) {
            list.extend(self.write_manifest(DELETES, rewrite, &mut counters).await?);
        }

        let summary = counters.summary(&self.table.ident, stamp, parent)?;
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

    /// The new snapshot becomes the head of the exports' branch, which keeps its retention.
    fn becomes_current(&self) -> Result<TableUpdate> {
        let name = export_branch(&self.table.metadata);
        let branch = references(&self.table.metadata)?.remove(name);
        let retention = branch.map_or(SnapshotRetention::branch(None, None, None), |branch| {
            branch.retention
        });
        Ok(TableUpdate::SetSnapshotRef {
            ref_name: name.to_owned(),
            reference: SnapshotReference {
                snapshot_id: self.snapshot_id,
                retention,
            },
        })
    }

    async fn write_manifest(
        &self,
        name: &str,
        rewrite: Rewrite<'_>,
        counters: &mut Counters,
    ) -> Result<Option<ManifestFile>> {
        if rewrite.added.is_empty() && rewrite.deleted.is_empty() && rewrite.existing.is_empty() {
            return Ok(None);
        }
        let location = self.manifest_path(name, rewrite.spec_id);
        let (mut writer, partition_type) = self.manifest_writer(&location, &rewrite)?;
        let write = || -> Result<()> {
            for file in rewrite.added {
                counters.add(file);
                let file = widened(file, &partition_type)?;
                writer
                    .add_file(file, SEQUENCE_NUMBER_INHERITED)
                    .at(&location)?;
            }
            for Entry {
                file,
                snapshot_id,
                sequence_number,
                file_sequence_number,
            } in rewrite.existing
            {
                let file = widened(file, &partition_type)?;
                writer
                    .add_existing_file(file, *snapshot_id, *sequence_number, *file_sequence_number)
                    .at(&location)?;
            }
            for Entry {
                file,
                sequence_number,
                file_sequence_number,
                ..
            } in rewrite.deleted
            {
                counters.remove(file);
                let file = widened(file, &partition_type)?;
                writer
                    .add_delete_file(file, *sequence_number, *file_sequence_number)
                    .at(&location)?;
            }
            Ok(())
        };
        write()?;
        let manifest = writer.write_manifest_file().await;
        manifest
            .map(Some)
            .map_err(|error| ExportError::unavailable(&location, error))
    }

    fn manifest_writer(
        &self,
        location: &str,
        rewrite: &Rewrite<'_>,
    ) -> Result<(ManifestWriter, StructType)> {
        let (spec, schema) = self.spec(rewrite.spec_id)?;
        let partition_type = spec.partition_type(&schema).at(location)?;
        let builder = ManifestWriterBuilder::new(
            self.table.file_io.new_output(location).at(location)?,
            Some(self.snapshot_id),
            schema,
            spec,
        );
        let writer = match (self.version()?, rewrite.content) {
            (FormatVersion::V2, ManifestContentType::Data) => builder.build_v2_data(),
            (FormatVersion::V2, ManifestContentType::Deletes) => builder.build_v2_deletes(),
            (FormatVersion::V3, ManifestContentType::Data) => builder.build_v3_data(),
            (FormatVersion::V3, ManifestContentType::Deletes) => builder.build_v3_deletes(),
        };
        Ok((writer, partition_type))
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

    /// A partition spec, with the newest schema that has its columns.
    fn spec(&self, spec_id: i32) -> Result<(PartitionSpec, SchemaRef)> {
        let metadata = &self.table.metadata;
        let missing = || {
            let reason = format!("it has no partition spec {spec_id}, or not its columns");
            ExportError::foreign(&self.table.ident, reason)
        };
        let spec = metadata.partition_spec_by_id(spec_id).ok_or_else(missing)?;
        let mut schemas: Vec<&SchemaRef> = metadata.schemas_iter().collect();
        schemas.sort_by_key(|schema| schema.schema_id());
        let schemas = std::iter::once(metadata.current_schema()).chain(schemas.into_iter().rev());
        let schema = schemas
            .into_iter()
            .find(|schema| spec.partition_type(schema).is_ok());
        Ok((spec.as_ref().clone(), schema.ok_or_else(missing)?.clone()))
    }

    /// Every file that [`Attempt::build`] may have written.
    pub(crate) fn paths(&self) -> Vec<String> {
        let specs = self.table.metadata.partition_specs_iter();
        let manifests = specs.flat_map(|spec| {
            [ADDED, DATA, DELETES].map(|name| self.manifest_path(name, spec.spec_id()))
        });
        manifests.chain([self.metadata_file(LIST_FILE)]).collect()
    }

    fn manifest_path(&self, name: &str, spec_id: i32) -> String {
        self.metadata_file(&format!("{name}-{spec_id}.avro"))
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

/// The same entry, its partition values of the types that their columns have now.
fn widened(file: &DataFile, partition_type: &StructType) -> Result<DataFile> {
    let widened = |(value, field): (Option<&Literal>, &NestedFieldRef)| {
        let wide = field.field_type.as_primitive_type() == Some(&PrimitiveType::Long);
        match value {
            Some(Literal::Primitive(PrimitiveLiteral::Int(value))) if wide => {
                Some(Literal::long(i64::from(*value)))
            }
            value => value.cloned(),
        }
    };
    let values = file.partition().iter().zip(partition_type.fields());
    let partition: Struct = values.map(widened).collect();
    if partition == *file.partition() {
        return Ok(file.clone());
    }
    let copy = copy_of(file).partition(partition).build();
    copy.map_err(|error| ExportError::corrupt(file.file_path(), error))
}

/// The entries of a manifest that is to be written.
struct Rewrite<'a> {
    content: ManifestContentType,
    spec_id: i32,
    added: &'a [DataFile],
    existing: Vec<&'a Entry>,
    deleted: Vec<&'a Entry>,
}

impl Rewrite<'_> {
    fn new(content: ManifestContentType, spec_id: i32) -> Self {
        Rewrite {
            content,
            spec_id,
            added: &[],
            existing: Vec::new(),
            deleted: Vec::new(),
        }
    }
}

/// The manifests to be written: one for each spec that has new entries, or manifests to be written anew. The others are carried
/// over to `list`.
fn rewrites<'m>(
    content: ManifestContentType,
    manifests: &'m [LoadedManifest],
    merged: &HashSet<String>,
    drops: impl Fn(&Entry) -> bool,
    added: &'m BTreeMap<i32, Vec<DataFile>>,
    list: &mut Vec<ManifestFile>,
) -> Vec<Rewrite<'m>> {
    let mut by_spec: BTreeMap<i32, Rewrite<'m>> = BTreeMap::new();
    for (spec_id, files) in added {
        let rewrite = by_spec.entry(*spec_id);
        rewrite
            .or_insert_with(|| Rewrite::new(content, *spec_id))
            .added = files;
    }
    for loaded in manifests {
        let is_merged = merged.contains(&loaded.manifest.manifest_path);
        if !is_merged && !loaded.entries.iter().any(&drops) {
            list.push(loaded.manifest.clone());
            continue;
        }
        let spec_id = loaded.manifest.partition_spec_id;
        let rewrite = by_spec.entry(spec_id);
        let rewrite = rewrite.or_insert_with(|| Rewrite::new(content, spec_id));
        for entry in loaded.entries.iter() {
            if drops(entry) {
                rewrite.deleted.push(entry)
            } else {
                rewrite.existing.push(entry)
            }
        }
    }
    by_spec.into_values().collect()
}
