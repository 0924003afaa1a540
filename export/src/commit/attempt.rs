//! The next snapshot of a table: its manifests, their list, and the updates that make it current.

use std::sync::Arc;

use futures::{FutureExt, StreamExt, TryStreamExt};
use iceberg::TableUpdate;
use iceberg::spec::{
    DataFile, Literal, ManifestContentType, ManifestFile, ManifestListWriter, ManifestWriter,
    ManifestWriterBuilder, NestedFieldRef, PartitionSpec, PrimitiveLiteral, PrimitiveType,
    SchemaRef, Snapshot, SnapshotReference, Struct, StructType,
};

use super::new_manifests::{NewManifest, new_manifests};
use super::plan::{NewFiles, Plan};
use crate::catalog::CatalogTable;
use crate::config::FormatVersion;
use crate::delete::FILES_IN_FLIGHT_MAX;
use crate::error::{At, ExportError, Result};
use crate::manifest::{Entry, copy_of};
use crate::references::{export_branch, export_branch_retention, head};
use crate::summary::{Counters, Stamp};

/// A new file takes its sequence number from the snapshot that adds it.
const SEQUENCE_NUMBER_INHERITED: i64 = -1;
/// The manifest list.
const LIST_FILE: &str = "snapshot.avro";

/// Where the files of one commit attempt go, and when it is.
pub(crate) struct Attempt<'a> {
    pub(crate) table: &'a CatalogTable,
    pub(crate) snapshot_id: i64,
    /// Distinguishes the files of this attempt.
    pub(crate) attempt_id: uuid::Uuid,
    pub(crate) now_ms: i64,
}

impl Attempt<'_> {
    /// Writes the manifests of the snapshot that comes after one with those of `listed`; returns the updates that make it the
    /// current one. `started` gets the path of each file that is begun.
    pub(crate) async fn build(
        &self,
        listed: &[ManifestFile],
        (added_data, plan): (&NewFiles, &Plan),
        stamp: &Stamp,
        started: &mut Vec<String>,
    ) -> Result<Vec<TableUpdate>> {
        let metadata = &self.table.metadata;
        let parent = head(metadata).map(Arc::as_ref);
        let new = new_manifests(listed, plan, added_data);
        let mut counters = Counters::new(plan.is_rewrite);
        for manifest in &new {
            manifest.added.iter().for_each(|file| counters.add(file));
            let gone = manifest.deleted.iter();
            gone.for_each(|entry| counters.remove(&entry.file));
        }
        let summary = counters.summary(&self.table.ident, stamp, parent)?;
        started.push(self.metadata_file(LIST_FILE));
        let mut writes = Vec::with_capacity(new.len());
        for manifest in new {
            let location = self.metadata_file(&format!("{}.avro", manifest.name));
            started.push(location.clone());
            writes.push(self.write_manifest(location, manifest).boxed());
        }
        let mut list: Vec<ManifestFile> = futures::stream::iter(writes)
            .buffered(FILES_IN_FLIGHT_MAX)
            .try_collect()
            .await?;
        let stay = (0..)
            .zip(listed)
            .filter(|(place, _)| !plan.renewed.contains_key(place));
        list.extend(stay.map(|(_, manifest)| manifest.clone()));

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
        let metadata = &self.table.metadata;
        let retention = export_branch_retention(metadata)?;
        Ok(TableUpdate::SetSnapshotRef {
            ref_name: export_branch(metadata).to_owned(),
            reference: SnapshotReference::new(self.snapshot_id, retention),
        })
    }

    async fn write_manifest(
        &self,
        location: String,
        manifest: NewManifest<'_>,
    ) -> Result<ManifestFile> {
        let (mut writer, partition_type) = self.manifest_writer(&location, &manifest)?;
        let mut write = || -> Result<()> {
            for file in &manifest.added {
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
            } in &manifest.existing
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
            } in &manifest.deleted
            {
                let file = widened(file, &partition_type)?;
                writer
                    .add_delete_file(file, *sequence_number, *file_sequence_number)
                    .at(&location)?;
            }
            Ok(())
        };
        write()?;
        let written = writer.write_manifest_file().await;
        written.map_err(|error| ExportError::unavailable(&location, error))
    }

    fn manifest_writer(
        &self,
        location: &str,
        manifest: &NewManifest<'_>,
    ) -> Result<(ManifestWriter, StructType)> {
        let (spec, schema) = self.spec(manifest.spec_id)?;
        let partition_type = spec.partition_type(&schema).at(location)?;
        let builder = ManifestWriterBuilder::new(
            self.table.file_io.new_output(location).at(location)?,
            Some(self.snapshot_id),
            schema,
            spec,
        );
        let writer = match (self.version()?, manifest.content) {
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
