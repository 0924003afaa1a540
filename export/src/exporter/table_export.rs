//! The export of one table.

use std::sync::Arc;

use arrow_array::RecordBatch;
use iceberg::spec::{DataFile, ManifestContentType};
use moonshine_engine::{Export, ExportFile, Snapshot, Table};
use parking_lot::Mutex;
use uuid::Uuid;

use super::core::TableState;
use super::{Core, TableExport};
use crate::checksum::RowsChecksum;
use crate::commit::{
    ExportCommit, Failure, NewFiles, RowDelta, remove_attempts, run, table_version,
};
use crate::config::FormatVersion;
use crate::delete::positions_of;
use crate::error::{ExportError, Result};
use crate::layout::{Destination, Layout, WrittenFile, write_data_files};
use crate::lineage::{KeptIds, WithRowIds};
use crate::pending::{data_file_path, find_commit, remove_files};
use crate::references::head;
use crate::summary::{Stamp, origins_by_source};

/// Rows of a batch that is asked of the engine.
const BATCH_ROWS: usize = 8192;

/// Requests for a delete file: the one before it is read, and it is written.
const DELETE_REQUESTS: usize = 2;
/// Requests for an attempt to commit, at most: three manifests and their list, the metadata file or the request, and a look
/// at the table before the next.
const ATTEMPT_REQUESTS: usize = 6;

impl Core {
    pub(super) async fn export_table(
        &self,
        table: &Table,
        snapshot: &Snapshot,
        state: &mut TableState,
    ) -> Result<Option<TableExport>> {
        self.follow_branch(table, state).await?;
        self.upgrade(table, state).await?;
        self.let_columns_go(table, state).await?;
        self.evolve(table, state).await?;
        self.lay_out(table, state).await?;
        let turn = self.turn_to_write(&self.slot(table)).await?;
        let (database, engine_table, snapshot) =
            (self.database.clone(), table.clone(), snapshot.clone());
        let begin = move || database.begin_export(&engine_table, &snapshot);
        let export = self.environment.work.away("the engine", begin).await??;
        if export.is_empty() {
            return Ok(None);
        }
        let stamp = self.owner.stamp(&state.current)?;
        let table_seq = stamp.map_or(0, |(_, stamp)| stamp.commit_seq);
        if table_seq != export.from_seq() {
            let table = state.current.ident.to_string();
            return Err(ExportError::Stale {
                table,
                table_seq,
                exported_seq: export.from_seq(),
            });
        }
        let commit_id = self.environment.identities.uuid();
        let mut paths = Vec::new();
        let written = self
            .write_and_prepare(table, export, commit_id, state, &mut paths)
            .await;
        drop(turn);
        self.slot(table).spend(paths.len());
        match written {
            Ok((export, delta)) => self
                .commit(table, export, commit_id, delta, paths, state)
                .await
                .map(Some),
            Err(error) => {
                remove_files(&state.current.file_io, &paths).await;
                Err(error)
            }
        }
    }

    /// Writes data files and records them in the engine. After an error nothing refers to the files.
    async fn write_and_prepare(
        &self,
        table: &Table,
        mut export: Export,
        commit_id: Uuid,
        state: &mut TableState,
        paths: &mut Vec<String>,
    ) -> Result<(Export, RowDelta)> {
        let removed = positions_of(export.removed());
        let spec_id = state.current.metadata.default_partition_spec_id();
        let mut written = Vec::new();
        let mut rows_checksum = RowsChecksum::default().text();
        if export.row_count() > 0 {
            let kept_ids = Arc::new(kept_ids(&export, state).await?);
            let shared = Arc::new(export);
            (written, rows_checksum) = self
                .write_files(table, (&shared, kept_ids), commit_id, state, paths)
                .await?;
            // The encoder, which had the other half, has ended.
            export = Arc::into_inner(shared).ok_or_else(|| {
                ExportError::unavailable("the Parquet encoder", "it has not ended")
            })?;
        }
        let mut added_data = NewFiles {
            spec_id,
            files: Vec::with_capacity(written.len()),
        };
        let mut files = Vec::with_capacity(written.len());
        for WrittenFile { entry, keys } in written {
            let file = ExportFile {
                path: entry.file_path().to_owned(),
                row_count: entry.record_count(),
            };
            files.push((file, keys.unwrap_or_else(|| export.file_keys())));
            added_data.files.push(entry);
        }
        let prepare = move || export.prepare_files(commit_id, files).map(|()| export);
        let export = self.environment.work.away("the engine", prepare).await??;
        Ok((
            export,
            RowDelta {
                added_data,
                removed,
                rows_checksum,
                ..RowDelta::default()
            },
        ))
    }

    /// Writes the rows that live now; the files, and the checksum of the rows.
    async fn write_files(
        &self,
        table: &Table,
        (export, kept_ids): (&Arc<Export>, Arc<KeptIds>),
        commit_id: Uuid,
        state: &TableState,
        paths: &mut Vec<String>,
    ) -> Result<(Vec<WrittenFile>, Option<String>)> {
        let layout = Layout::of(&state.current, table.schema(), self.settings(table))?;
        let checksum = Arc::new(Mutex::new(RowsChecksum::default()));
        let columns = table.schema().columns().iter();
        let field_ids: Vec<i32> = columns.map(|column| column.field_id).collect();
        let (source, summed) = (export.clone(), checksum.clone());
        let slot = self.slot(table);
        let batches = move || {
            // Rows may be asked for more than once; the last time counts.
            *summed.lock() = RowsChecksum::default();
            let (summed, field_ids, slot) = (summed.clone(), field_ids.clone(), slot.clone());
            let sum = move |batch: &RecordBatch| {
                slot.step();
                summed.lock().add(batch, &field_ids);
            };
            let batches = source.batches(None, BATCH_ROWS)?;
            let batches = batches.map(move |batch| batch.inspect(&sum).map_err(ExportError::from));
            Ok(WithRowIds::new(batches, &source, kept_ids.clone()))
        };
        let location = state.current.metadata.location().to_owned();
        let to_seq = export.to_seq();
        let path = move |number| data_file_path(&location, to_seq, commit_id, number);
        let destination = Destination {
            file_io: &state.current.file_io,
            work: &self.environment.work,
        };
        let export = Some(export.clone());
        let written = write_data_files(
            destination,
            table.schema(),
            layout,
            batches,
            path,
            paths,
            export,
        )
        .await?;
        let checksum = checksum.lock().text();
        Ok((written, checksum))
    }

    /// Commits to the catalog, then records that in the engine.
    async fn commit(
        &self,
        table: &Table,
        export: Export,
        commit_id: Uuid,
        delta: RowDelta,
        mut paths: Vec<String>,
        state: &mut TableState,
    ) -> Result<TableExport> {
        let stamp = Stamp {
            database_id: self.owner.database_id,
            commit_seq: export.to_seq(),
            commit_id,
            writer_epoch: state.writer.epoch,
            exporter_id: Some(state.writer.exporter_id),
            origins: origins_by_source(export.origins()),
            export_snapshot_id: None,
            export_commit_id: None,
            rows_checksum: delta.rows_checksum.clone(),
        };
        let base = state.current.clone();
        let mut commit = ExportCommit {
            environment: &self.environment,
            owner: &self.owner,
            base: base.clone(),
            writer: state.writer,
            delta: &delta,
            stamp: &stamp,
            manifests: &mut state.manifests,
            planned: None,
            delete_paths: Vec::new(),
            attempts: Vec::new(),
        };
        let catalog = self.catalog.as_ref();
        let committed = run(catalog, &self.environment, base, &mut commit).await;
        let slot = self.slot(table);
        slot.spend(commit.delete_paths.len() * DELETE_REQUESTS);
        slot.spend(commit.attempts.len() * ATTEMPT_REQUESTS);
        match committed {
            Ok(current) => {
                let snapshot_id = find_commit(&current.metadata, commit_id).ok_or_else(|| {
                    ExportError::foreign(&current.ident, "it does not show the commit that it took")
                })?;
                remove_attempts(&current.file_io, &commit.attempts, Some(snapshot_id)).await;
                let report = TableExport {
                    table: current.ident.to_string(),
                    snapshot_id,
                    commit_seq: export.to_seq(),
                    rows_written: export.row_count(),
                    rows_removed: export.removed().row_count(),
                    data_files: delta.added_data.files.len() as u64,
                    delete_files: commit.delete_files().count() as u64,
                    bytes_written: bytes_written(
                        delta.added_data.files.iter().chain(commit.delete_files()),
                    ),
                };
                state.current = current;
                let record = move || export.commit(snapshot_id.to_string());
                self.note(table, record).await??;
                Ok(report)
            }
            Err(Failure::NotCommitted(error)) => {
                let file_io = &state.current.file_io;
                paths.extend_from_slice(&commit.delete_paths);
                self.environment
                    .work
                    .away("the engine", move || export.abort())
                    .await??;
                remove_attempts(file_io, &commit.attempts, None).await;
                remove_files(file_io, &paths).await;
                Err(error)
            }
            // The dropped export stays pending in the engine; the next tick settles it.
            Err(Failure::Unknown(error)) => Err(error),
        }
    }

    /// Tells the engine that a commit of a table took place.
    pub(crate) async fn note<T: Send + 'static>(
        &self,
        table: &Table,
        record: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let noting = self.slot(table).noting.clone();
        let record = move || {
            let recorded = record();
            drop(noting);
            recorded
        };
        self.environment.work.away("the engine", record).await
    }
}

/// The ids that an export's rows take over from those that they replace, in a table that has ids.
async fn kept_ids(export: &Export, state: &mut TableState) -> Result<KeptIds> {
    let TableState {
        current, manifests, ..
    } = state;
    if table_version(current)? < FormatVersion::V3 || export.replaced_count() == 0 {
        return Ok(KeptIds::default());
    }
    let snapshot = head(&current.metadata).map(AsRef::as_ref);
    let file_io = &current.file_io;
    let listing = manifests.list(file_io, &current.metadata, snapshot).await?;
    let files = export.removed().files().map(|(path, _)| path.as_ref());
    let data = ManifestContentType::Data;
    let found = manifests.find(file_io, &listing, data, files).await?;
    Ok(KeptIds::new(export, &found))
}

fn bytes_written<'a>(files: impl Iterator<Item = &'a DataFile>) -> u64 {
    let content_size = |file: &DataFile| match file.content_size_in_bytes() {
        Some(size) => u64::try_from(size).unwrap_or(0),
        None => file.file_size_in_bytes(),
    };
    files.map(content_size).sum()
}
