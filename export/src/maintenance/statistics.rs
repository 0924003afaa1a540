//! Column statistics: how many different values each column has, for engines that plan joins by it.
//!
//! They are of one snapshot, of all of its live rows, so all files are read. That is done by hand only: no export waits for it,
//! and what changes by the second is not worth it.

use std::collections::HashMap;

use async_trait::async_trait;
use futures::TryStreamExt;
use iceberg::TableUpdate;
use iceberg::compression::CompressionCodec;
use iceberg::puffin::{APACHE_DATASKETCHES_THETA_V1, Blob, CREATED_BY_PROPERTY, PuffinWriter};
use iceberg::spec::{BlobMetadata, StatisticsFile};

use super::{MaintenanceAction, MaintenanceTask, Mode, Work};
use crate::catalog::{CatalogTable, Change};
use crate::commit::{Failure, Proposal};
use crate::error::{ExportError, Result};
use crate::layout::DistinctValues;
use crate::manifest::ManifestCache;
use crate::ownership::check_epoch;
use crate::pending::remove_files;
use crate::reader::IcebergSnapshot;
use crate::references::head;
use crate::summary::Stamp;

/// Bytes of a Puffin file before its blobs.
const PUFFIN_HEADER_BYTES: u64 = 4;

/// Makes the statistics of the newest snapshot, if it has none.
pub(super) async fn run(work: &Work<'_>) -> Result<Option<MaintenanceAction>> {
    if work.mode.is_by_itself() {
        return Ok(None);
    }
    let exported = work.core.database.exported(work.table);
    let (Some(current), Some(exported)) = (work.current().await?, exported) else {
        return Ok(None);
    };
    let metadata = &current.metadata;
    // Engines look at the newest snapshot. One of ours after the export has the same rows.
    let newest = head(metadata);
    let newest = newest.filter(|newest| Stamp::of(newest).is_some());
    let token = exported.token.parse().ok();
    let snapshot = newest.or_else(|| metadata.snapshot_by_id(token?));
    let Some(snapshot) = snapshot else {
        return Ok(None);
    };
    let snapshot_id = snapshot.snapshot_id();
    if metadata.statistics_for_snapshot(snapshot_id).is_some() {
        return Ok(None);
    }
    let mut action = MaintenanceAction::new(
        &current,
        MaintenanceTask::ColumnStatistics,
        work.table.schema().columns().len() as u64,
    );
    if work.mode == Mode::DryRun {
        return Ok(Some(action));
    }
    let mut manifests = ManifestCache::default();
    let read = IcebergSnapshot::load(work.table, &current, snapshot, &mut manifests).await?;
    let sketches = sketches(work, &read).await?;
    let sequence_number = snapshot.sequence_number();
    let statistics = write(work, &current, (snapshot_id, sequence_number), &sketches).await?;
    action.files_written = 1;
    action.bytes_written = u64::try_from(statistics.file_size_in_bytes).unwrap_or(0);
    let path = statistics.statistics_path.clone();
    match work.commit(&mut Statistics { work, statistics }).await {
        Ok(_) => Ok(Some(action)),
        Err(Failure::NotCommitted(error)) => {
            remove_files(&current.file_io, &[path]).await;
            Err(error)
        }
        Err(Failure::Unknown(error)) => Err(error),
    }
}

/// The sketches of all columns, over the live rows.
async fn sketches(work: &Work<'_>, snapshot: &IcebergSnapshot) -> Result<Vec<DistinctValues>> {
    let columns = work.table.schema().columns().iter();
    let mut sketches = columns
        .map(|_| DistinctValues::new())
        .collect::<Result<Vec<_>>>()?;
    for index in 0..snapshot.files().len() {
        let mut batches = snapshot.scan_file(index, None, &[]);
        while let Some(batch) = batches.try_next().await? {
            let observe = move || {
                for (sketch, column) in sketches.iter_mut().zip(batch.columns()) {
                    sketch.observe(column);
                }
                sketches
            };
            sketches = work
                .core
                .environment
                .work
                .away("the sketches", observe)
                .await?;
        }
    }
    Ok(sketches)
}

/// Writes the sketches of a snapshot, given by its id and sequence number.
async fn write(
    work: &Work<'_>,
    table: &CatalogTable,
    (snapshot_id, sequence_number): (i64, i64),
    sketches: &[DistinctValues],
) -> Result<StatisticsFile> {
    let uuid = work.core.environment.identities.uuid();
    let path = format!(
        "{}/metadata/{snapshot_id}-{uuid}.stats",
        table.metadata.location()
    );
    let unavailable = |error: iceberg::Error| ExportError::unavailable(&path, error);
    let output = table.file_io.new_output(&path).map_err(unavailable)?;
    let created_by = concat!("moonshine version ", env!("CARGO_PKG_VERSION")).to_owned();
    let properties = HashMap::from([(CREATED_BY_PROPERTY.to_owned(), created_by)]);
    let mut writer = PuffinWriter::new(&output, properties, false)
        .await
        .map_err(unavailable)?;
    let mut blob_metadata = Vec::new();
    let mut blob_bytes = PUFFIN_HEADER_BYTES;
    let columns = work.table.schema().columns().iter().zip(sketches);
    // Of lists, structs and maps nothing is counted.
    for (column, sketch) in columns.filter(|(column, _)| !column.column_type.is_nested()) {
        let properties = HashMap::from([("ndv".to_owned(), sketch.estimate().to_string())]);
        let data = sketch.serialized();
        blob_bytes += data.len() as u64;
        blob_metadata.push(BlobMetadata {
            r#type: APACHE_DATASKETCHES_THETA_V1.to_owned(),
            snapshot_id,
            sequence_number,
            fields: vec![column.field_id],
            properties: properties.clone(),
        });
        let blob = Blob::builder()
            .r#type(APACHE_DATASKETCHES_THETA_V1.to_owned())
            .fields(vec![column.field_id])
            .snapshot_id(snapshot_id)
            .sequence_number(sequence_number)
            .data(data)
            .properties(properties)
            .build();
        writer
            .add(blob, CompressionCodec::None)
            .await
            .map_err(unavailable)?;
    }
    writer.close().await.map_err(unavailable)?;
    let size = output
        .to_input_file()
        .metadata()
        .await
        .map_err(unavailable)?
        .size;
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    Ok(StatisticsFile {
        snapshot_id,
        statistics_path: path,
        file_size_in_bytes: bytes(size),
        file_footer_size_in_bytes: bytes(size.saturating_sub(blob_bytes)),
        key_metadata: None,
        blob_metadata,
    })
}

/// A statistics file on its way into its table.
struct Statistics<'a> {
    work: &'a Work<'a>,
    statistics: StatisticsFile,
}

#[async_trait]
impl Proposal for Statistics<'_> {
    fn is_in(&self, table: &CatalogTable) -> bool {
        let found = table
            .metadata
            .statistics_for_snapshot(self.statistics.snapshot_id);
        found.is_some_and(|found| found.statistics_path == self.statistics.statistics_path)
    }

    async fn change(&mut self, table: &CatalogTable) -> Result<Change> {
        let core = self.work.core;
        core.check_ours(self.work.table, None, table)?;
        check_epoch(table, &core.own_writer(self.work.table)?)?;
        let id = self.statistics.snapshot_id;
        if table.metadata.snapshot_by_id(id).is_none() {
            let reason = format!("snapshot {id} expired before its statistics were written");
            return Err(ExportError::unavailable(&table.ident, reason));
        }
        let updates = vec![TableUpdate::SetStatistics {
            statistics: self.statistics.clone(),
        }];
        Ok(Change::of(&table.metadata, updates))
    }
}
