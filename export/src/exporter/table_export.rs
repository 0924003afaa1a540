//! The export of one table.

use iceberg::spec::DataFile;
use moonshine_engine::{Export, ExportFile, Snapshot, Table};
use uuid::Uuid;

use super::{ATTEMPTS_MAX, Exporter, TableExport, TableState};
use crate::catalog::{CatalogTable, CommitOutcome};
use crate::commit::{Attempt, RowDelta, plan_deletes};
use crate::data_file::write_data_files;
use crate::delete::{Positions, write_positions};
use crate::error::{At, ExportError, Result};
use crate::ownership::check_epoch;
use crate::pending::{data_file_path, delete_file_path, find_commit, remove_files};
use crate::summary::{Stamp, origins_by_source};

/// Rows of a batch that is asked of the engine.
const BATCH_ROWS: usize = 8192;

impl Exporter {
    pub(super) async fn export_table(
        &self,
        table: &Table,
        snapshot: &Snapshot,
        state: &mut TableState,
    ) -> Result<Option<TableExport>> {
        self.evolve(table, state).await?;
        let (database, engine_table, snapshot) =
            (self.database.clone(), table.clone(), snapshot.clone());
        let begin = move || database.begin_export(&engine_table, &snapshot);
        let export = tokio::task::spawn_blocking(begin)
            .await
            .at("the engine")??;
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
        match self
            .write_and_prepare(table, export, commit_id, state, &mut paths)
            .await
        {
            Ok((export, delta)) => self
                .commit(export, commit_id, delta, paths, state)
                .await
                .map(Some),
            Err(error) => {
                remove_files(self.catalog.file_io(), &paths).await;
                Err(error)
            }
        }
    }

    /// Writes data and delete files and records them in the engine. After an error nothing refers to the files.
    async fn write_and_prepare(
        &self,
        table: &Table,
        mut export: Export,
        commit_id: Uuid,
        state: &mut TableState,
        paths: &mut Vec<String>,
    ) -> Result<(Export, RowDelta)> {
        let file_io = self.catalog.file_io();
        let metadata = state.current.metadata.clone();
        let (location, to_seq) = (metadata.location().to_owned(), export.to_seq());
        let mut delta = RowDelta::default();
        if export.row_count() > 0 {
            let batches = export
                .batches(None, BATCH_ROWS)?
                .map(|batch| batch.map_err(ExportError::from));
            let location = location.clone();
            let path = move |number| data_file_path(&location, to_seq, commit_id, number);
            let size = self.target_file_size_bytes;
            delta.added_data =
                write_data_files(file_io, table.schema(), batches, path, size, paths).await?;
        }
        let manifests = state
            .manifests
            .load(
                file_io,
                &metadata,
                metadata.current_snapshot().map(AsRef::as_ref),
            )
            .await?;
        let plan = plan_deletes(
            file_io,
            &state.current,
            &manifests,
            removed_positions(&export),
        )
        .await?;
        let path = |number: usize, extension: &str| {
            delete_file_path(&location, to_seq, commit_id, number, extension)
        };
        delta.added_deletes =
            write_positions(file_io, self.owner.version, &plan.positions, path, paths).await?;
        delta.dropped_data = plan.dropped_data;
        delta.undeleted = plan.touched;

        let files: Vec<ExportFile> = delta
            .added_data
            .iter()
            .map(|file| ExportFile {
                path: file.file_path().to_owned(),
                row_count: file.record_count(),
            })
            .collect();
        let prepare = move || export.prepare(commit_id, &files).map(|()| export);
        let export = tokio::task::spawn_blocking(prepare)
            .await
            .at("the engine")??;
        Ok((export, delta))
    }

    /// Commits to the catalog, then records that in the engine.
    async fn commit(
        &self,
        export: Export,
        commit_id: Uuid,
        delta: RowDelta,
        paths: Vec<String>,
        state: &mut TableState,
    ) -> Result<TableExport> {
        let stamp = Stamp {
            database_id: self.owner.database_id,
            commit_seq: export.to_seq(),
            commit_id,
            writer_epoch: self.epoch,
            origins: origins_by_source(export.origins()),
        };
        let report = TableExport {
            table: state.current.ident.to_string(),
            snapshot_id: 0,
            commit_seq: export.to_seq(),
            rows_written: export.row_count(),
            rows_removed: export.removed().len() as u64,
            data_files: delta.added_data.len() as u64,
            bytes_written: bytes_written(&delta),
        };
        match self.commit_to_catalog(&delta, &stamp, state).await {
            Ok(snapshot_id) => {
                record(export, snapshot_id).await?;
                Ok(TableExport {
                    snapshot_id,
                    ..report
                })
            }
            Err(Failure::NotCommitted(error)) => {
                tokio::task::spawn_blocking(move || export.abort())
                    .await
                    .at("the engine")??;
                remove_files(self.catalog.file_io(), &paths).await;
                Err(error)
            }
            // The dropped export stays pending in the engine; the next tick settles it.
            Err(Failure::Unknown(error)) => Err(error),
        }
    }

    async fn commit_to_catalog(
        &self,
        delta: &RowDelta,
        stamp: &Stamp,
        state: &mut TableState,
    ) -> Result<i64, Failure> {
        for _ in 0..ATTEMPTS_MAX {
            if let Some(snapshot_id) = self.try_commit(delta, stamp, state).await? {
                return Ok(snapshot_id);
            }
        }
        let table = state.current.ident.to_string();
        Err(Failure::NotCommitted(ExportError::Conflict {
            table,
            attempts: ATTEMPTS_MAX,
        }))
    }

    /// One attempt at the commit; `None` if it met changed metadata, on which it can be tried again.
    async fn try_commit(
        &self,
        delta: &RowDelta,
        stamp: &Stamp,
        state: &mut TableState,
    ) -> Result<Option<i64>, Failure> {
        let file_io = self.catalog.file_io();
        let base = state.current.clone();
        let parent = base.metadata.current_snapshot().map(AsRef::as_ref);
        let manifests = state.manifests.load(file_io, &base.metadata, parent).await;
        let manifests = manifests.map_err(Failure::NotCommitted)?;
        let attempt = Attempt {
            file_io,
            table: &base,
            snapshot_id: self.environment.snapshot_id(),
            attempt_id: self.environment.identities.uuid(),
            now_ms: self.environment.clock.now_ms(),
        };
        let change = match attempt.build(&manifests, delta, stamp).await {
            Ok(change) => change,
            Err(error) => {
                remove_files(file_io, &attempt.paths()).await;
                return Err(Failure::NotCommitted(error));
            }
        };
        match self.swap(&base, change).await {
            Ok(CommitOutcome::Committed(current)) => {
                state.current = current;
                Ok(Some(attempt.snapshot_id))
            }
            Ok(CommitOutcome::Conflict) => {
                remove_files(file_io, &attempt.paths()).await;
                let found = self.reload(state).await.map_err(Failure::NotCommitted)?;
                self.check_unmoved(&base, &found)
                    .map_err(Failure::NotCommitted)?;
                state.current = found;
                Ok(None)
            }
            // Without an answer only what the table says counts; if it does not say, the engine keeps the export as
            // pending and the next tick settles it.
            Err(error) => match self.reload(state).await {
                Ok(found) => match find_commit(&found.metadata, stamp.commit_id) {
                    Some(snapshot_id) => {
                        state.current = found;
                        Ok(Some(snapshot_id))
                    }
                    None => Err(Failure::Unknown(error)),
                },
                Err(_) => Err(Failure::Unknown(error)),
            },
        }
    }

    pub(super) async fn reload(&self, state: &TableState) -> Result<CatalogTable> {
        let ident = &state.current.ident;
        let found = self.catalog.load(ident).await?;
        found.ok_or_else(|| ExportError::foreign(ident, "it is gone from the catalog"))
    }

    /// After a conflict: whether only the table's metadata changed, so that the commit can be tried again on it.
    fn check_unmoved(&self, base: &CatalogTable, found: &CatalogTable) -> Result<()> {
        check_epoch(found, self.epoch)?;
        self.owner.stamp(found)?;
        let same_table = base.metadata.uuid() == found.metadata.uuid();
        if !same_table
            || base.metadata.current_snapshot_id() != found.metadata.current_snapshot_id()
        {
            return Err(ExportError::foreign(
                &base.ident,
                "its rows were changed or rolled back by another writer",
            ));
        }
        if base.metadata.current_schema().as_struct() != found.metadata.current_schema().as_struct()
        {
            return Err(ExportError::foreign(
                &base.ident,
                "its columns were changed by another writer",
            ));
        }
        Ok(())
    }
}

/// How a commit to the catalog failed.
enum Failure {
    /// Nothing was committed.
    NotCommitted(ExportError),
    /// Whether it was cannot be told yet.
    Unknown(ExportError),
}

/// Records in the engine that an export was committed.
async fn record(export: Export, snapshot_id: i64) -> Result<()> {
    let commit = move || export.commit(snapshot_id.to_string());
    Ok(tokio::task::spawn_blocking(commit)
        .await
        .at("the engine")??)
}

fn removed_positions(export: &Export) -> Positions {
    let mut removed = Positions::new();
    for run in export
        .removed()
        .chunk_by(|left, right| left.file == right.file)
    {
        if let Some(first) = run.first() {
            let positions = removed.entry(first.file.as_ref().to_owned()).or_default();
            positions.extend(run.iter().map(|placement| placement.position));
        }
    }
    removed
}

fn bytes_written(delta: &RowDelta) -> u64 {
    let content_size = |file: &DataFile| match file.content_size_in_bytes() {
        Some(size) => u64::try_from(size).unwrap_or(0),
        None => file.file_size_in_bytes(),
    };
    delta
        .added_data
        .iter()
        .chain(&delta.added_deletes)
        .map(content_size)
        .sum()
}
