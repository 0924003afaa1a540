//! Rewrites: small data files become larger ones, and files with many deleted rows lose them.
//!
//! A rewrite reads and writes without holding anybody up. Exports go on meanwhile and always win: a row that is exported
//! anew keeps its newer place, and the rewritten file's row is deleted by the rewrite's own commit. Only the end is made under the
//! table's lock: the engine takes the new places of the rows ([`Relocation`]), the catalog the files, and the engine notes
//! that. Rows keep their ids and the number of the commit that last changed them.
//!
//! `choose` says which files are due, `merge` brings their rows into the key's order.

mod choose;
mod merge;

use std::collections::HashSet;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use futures::TryStreamExt;
use iceberg::spec::DataFile;
use moonshine_engine::{ExportFile, Placement, Relocation};
use roaring::RoaringTreemap;
use tokio::sync::MutexGuard;
use uuid::Uuid;

use self::choose::{Input, Wanted, choose};
use self::merge::MergedRows;
use super::{MaintenanceAction, MaintenanceTask, Work};
use crate::catalog::CatalogTable;
use crate::commit::{
    ExportCommit, Failure, NewFiles, RowDelta, remove_attempts, run as commit, table_version,
};
use crate::config::FormatVersion;
use crate::delete::Positions;
use crate::error::{At, ExportError, Result};
use crate::exporter::TableState;
use crate::layout::{Layout, write_data_files};
use crate::lineage::{FileLineage, ROW_ID};
use crate::pending::{data_file_path, find_commit, remove_files};
use crate::scan::{FileScan, scan_file};
use crate::schema::iceberg_schema;
use crate::summary::Stamp;

/// By itself, a rewrite waits for so many small files.
const FILES_MIN: usize = 8;
/// How often the rows are looked for before a rewrite gives way to exports that come in between, till next time.
const LOOKS_MAX: usize = 3;

/// Does, or finds, what is due.
pub(super) async fn run(work: &Work<'_>) -> Result<Option<MaintenanceAction>> {
    let Some((current, manifests)) = work.manifests().await? else {
        return Ok(None);
    };
    let schema = iceberg_schema(work.table.schema(), current.metadata.format_version())?;
    if schema.as_struct() != current.metadata.current_schema().as_struct() {
        // The next export gives the table its columns.
        return Ok(None);
    }
    let with_row_ids = table_version(&current)? >= FormatVersion::V3;
    let target_size_bytes = work.core.settings(work.table).target_file_size_bytes;
    let wanted = Wanted {
        spec_id: current.metadata.default_partition_spec_id(),
        target_size_bytes,
        files_min: work.mode.batch(FILES_MIN).max(2),
        with_row_ids,
    };
    let inputs = choose(&manifests, wanted)?;
    if inputs.is_empty() {
        return Ok(None);
    }
    let rewrite = Rewrite {
        work,
        id: work.core.environment.identities.uuid(),
        inputs,
        wanted,
        current,
    };
    if work.mode == super::Mode::DryRun {
        return Ok(Some(rewrite.action(&[])));
    }
    let mut paths = Vec::new();
    match rewrite.write(&mut paths).await {
        Ok(files) => rewrite.finish(files, paths).await,
        Err(error) => {
            remove_files(&rewrite.current.file_io, &paths).await;
            Err(error)
        }
    }
}

/// Keys of the new files' rows, with the ids of the rows where they have some.
type Keys = Vec<(RecordBatch, Option<Vec<u64>>)>;

/// Rows that are about to be noted at their new places, and the files that they were in.
type Found = (Relocation, HashSet<String>);

struct Rewrite<'a> {
    work: &'a Work<'a>,
    /// What its data files are called by.
    id: Uuid,
    inputs: Vec<Input>,
    wanted: Wanted,
    /// The table that the files were chosen of.
    current: CatalogTable,
}

/// New files, and what is known of their rows.
struct Moved {
    files: Vec<DataFile>,
    keys: Keys,
}

impl Rewrite<'_> {
    fn action(&self, files: &[DataFile]) -> MaintenanceAction {
        MaintenanceAction {
            table: self.current.ident.to_string(),
            task: MaintenanceTask::RewriteFiles,
            items: self.inputs.len() as u64,
            files_written: files.len() as u64,
            bytes_written: files.iter().map(DataFile::file_size_in_bytes).sum(),
            files_removed: 0,
        }
    }

    fn scan(&self, file: &DataFile, deletes: &[DataFile]) -> FileScan {
        FileScan {
            file_io: self.current.file_io.clone(),
            schema: self.work.table.schema().clone(),
            file: file.clone(),
            deletes: deletes.to_vec(),
            projection: None,
            excluded: RoaringTreemap::new(),
            lineage: None,
        }
    }

    /// Writes the inputs' rows to new files.
    async fn write(&self, paths: &mut Vec<String>) -> Result<Moved> {
        let table = self.work.table;
        let layout = Layout::of(&self.current, table.schema(), self.wanted.target_size_bytes)?;
        let with_lineage = |input: &Input| FileScan {
            lineage: self.wanted.with_row_ids.then(|| FileLineage {
                first_row_id: input.file.first_row_id().unwrap_or(0),
                sequence_number: input.sequence_number,
            }),
            ..self.scan(&input.file, &input.deletes)
        };
        let scans: Vec<FileScan> = self.inputs.iter().map(with_lineage).collect();
        let (runtime, schema) = (tokio::runtime::Handle::current(), table.schema().clone());
        let batches = move || MergedRows::open(&runtime, &schema, scans.iter().cloned());
        let exported = self.work.core.database.exported(table);
        let seq = exported.map_or(0, |exported| exported.seq);
        let (location, id) = (self.current.metadata.location().to_owned(), self.id);
        let path = move |number| data_file_path(&location, seq, id, number);
        let file_io = &self.current.file_io;
        let files = write_data_files(file_io, table.schema(), layout, batches, path, paths)
            .await?
            .files;
        let mut keys = Keys::new();
        for file in &files {
            self.read_keys(file, &mut keys).await?;
        }
        Ok(Moved { files, keys })
    }

    /// Reads the keys of a new file back, which are in its order.
    async fn read_keys(&self, file: &DataFile, keys: &mut Keys) -> Result<()> {
        let key = self.work.table.schema().primary_key().to_vec();
        // Each row says its lineage, so the file's own does not matter.
        let nothing = FileLineage {
            first_row_id: 0,
            sequence_number: 0,
        };
        let scan = FileScan {
            projection: Some(key.clone()),
            lineage: self.wanted.with_row_ids.then_some(nothing),
            ..self.scan(file, &[])
        };
        let mut batches = scan_file(scan);
        while let Some(batch) = batches.try_next().await? {
            let ids = batch.column_by_name(ROW_ID);
            let ids = ids.and_then(|ids| ids.as_primitive_opt::<Int64Type>());
            let ids = ids.map(|ids| ids.values().iter().map(|id| id.unsigned_abs()).collect());
            let columns: Vec<usize> = (0..key.len()).collect();
            let batch = batch
                .project(&columns)
                .map_err(|error| ExportError::corrupt(file.file_path(), error))?;
            keys.push((batch, ids));
        }
        Ok(())
    }

    /// Brings the new files in. The engine looks for the rows before the table is locked, and again if an export came in
    /// between.
    async fn finish(
        &self,
        moved: Moved,
        mut paths: Vec<String>,
    ) -> Result<Option<MaintenanceAction>> {
        let (found, mut place) = self.find_at_last(&moved).await;
        let is_exported =
            !self.work.is_pending() && place.as_ref().is_some_and(|state| self.fits(state));
        let prepared = match found {
            Ok(Some((relocation, rewritten))) if is_exported => {
                self.prepare(&moved, relocation, rewritten).await
            }
            Ok(Some(_)) => Err(self.work.busy()),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        let (relocation, delta) = match prepared {
            Ok(Some(prepared)) => prepared,
            other => {
                remove_files(&self.current.file_io, &paths).await;
                return other.map(|_| None);
            }
        };
        // Taken out for as long as the end is not known: what comes next then looks at the table anew.
        let Some(mut state) = place.take() else {
            return Err(self.work.busy());
        };
        match self
            .commit(relocation, &delta, &mut state, &mut paths)
            .await
        {
            Ok(()) => {
                *place = Some(state);
                Ok(Some(self.action(&delta.added_data.files)))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the table has the columns and the partition spec that the new files have.
    fn fits(&self, state: &TableState) -> bool {
        let form = |table: &CatalogTable| {
            let metadata = &table.metadata;
            (
                metadata.current_schema_id(),
                metadata.default_partition_spec_id(),
                metadata.format_version(),
            )
        };
        form(&self.current) == form(&state.current)
    }

    /// Finds the rows, as of the last export, and locks the table.
    async fn find_at_last(
        &self,
        moved: &Moved,
    ) -> (Result<Option<Found>>, MutexGuard<'_, Option<TableState>>) {
        let mut looks = 1;
        loop {
            let found = self.find(moved).await;
            let place = self.work.slot.state.lock().await;
            match found {
                Ok(Some((relocation, _))) if !relocation.is_current() => {
                    if looks == LOOKS_MAX {
                        return (Err(self.work.busy()), place);
                    }
                }
                Err(_) if looks < LOOKS_MAX => {}
                found => return (found, place),
            }
            looks += 1;
        }
    }

    /// Has the engine look where the rows lie now, which were in these files; `None` if none of the files is left.
    async fn find(&self, moved: &Moved) -> Result<Option<Found>> {
        let Some((_, manifests)) = self.work.manifests().await? else {
            return Err(self.work.busy());
        };
        let live = manifests.data_files().map(|entry| entry.file.file_path());
        let live: HashSet<&str> = live.collect();
        let rewritten = self.inputs.iter().map(|input| input.file.file_path());
        let rewritten: HashSet<String> = rewritten
            .filter(|path| live.contains(path))
            .map(str::to_owned)
            .collect();
        if rewritten.is_empty() {
            return Ok(None);
        }
        let (database, table) = (self.work.core.database.clone(), self.work.table.clone());
        let replaced: Vec<String> = rewritten.iter().cloned().collect();
        let keys = moved.keys.clone();
        let commit_id = self.work.core.environment.identities.uuid();
        let find = move || -> Result<Relocation> {
            let mut relocation = database.begin_relocation(&table, commit_id, &replaced)?;
            for (keys, ids) in &keys {
                relocation.add(keys, ids.as_deref())?;
            }
            Ok(relocation)
        };
        let relocation = tokio::task::spawn_blocking(find).await.at("the engine")??;
        Ok(Some((relocation, rewritten)))
    }

    /// Has the engine note the new places; `None` if a new file is not worth it any more.
    async fn prepare(
        &self,
        moved: &Moved,
        mut relocation: Relocation,
        rewritten: HashSet<String>,
    ) -> Result<Option<(Relocation, RowDelta)>> {
        let files = export_files(&moved.files);
        let prepare = move || relocation.prepare(&files).map(|dead| (relocation, dead));
        let (relocation, dead) = tokio::task::spawn_blocking(prepare)
            .await
            .at("the engine")??;
        let dead = by_file(&dead);
        let is_dead = |file: &DataFile| {
            let count = dead.get(file.file_path()).map_or(0, RoaringTreemap::len);
            count == file.record_count()
        };
        if moved.files.iter().any(is_dead) {
            let abort = move || relocation.abort();
            tokio::task::spawn_blocking(abort)
                .await
                .at("the engine")??;
            return Ok(None);
        }
        let delta = RowDelta {
            added_data: NewFiles {
                spec_id: self.wanted.spec_id,
                files: moved.files.clone(),
            },
            rewritten,
            dead,
            ..RowDelta::default()
        };
        Ok(Some((relocation, delta)))
    }

    /// Commits to the catalog, then records that in the engine.
    async fn commit(
        &self,
        relocation: Relocation,
        delta: &RowDelta,
        state: &mut TableState,
        paths: &mut Vec<String>,
    ) -> Result<()> {
        let core = self.work.core;
        let stamp = core.owner.stamp(&state.current)?.map(|(_, stamp)| stamp);
        let stamp = stamp.filter(|stamp| stamp.commit_seq == relocation.base().seq);
        let stamp = Stamp {
            commit_id: relocation.commit_id(),
            writer_epoch: state.writer.epoch,
            exporter_id: Some(state.writer.exporter_id),
            export_snapshot_id: None,
            // It is of the rows that an export added.
            rows_checksum: None,
            ..stamp.ok_or_else(|| self.work.busy())?
        };
        let base = state.current.clone();
        let mut proposal = ExportCommit {
            environment: &core.environment,
            owner: &core.owner,
            base: base.clone(),
            writer: state.writer,
            delta,
            stamp: &stamp,
            manifests: &mut state.manifests,
            deletes: None,
            delete_paths: Vec::new(),
            attempts: Vec::new(),
        };
        match commit(
            core.catalog.as_ref(),
            &core.environment,
            base,
            &mut proposal,
        )
        .await
        {
            Ok(current) => {
                let snapshot_id =
                    find_commit(&current.metadata, stamp.commit_id).ok_or_else(|| {
                        ExportError::foreign(
                            &current.ident,
                            "it does not show the commit that it took",
                        )
                    })?;
                remove_attempts(&current.file_io, &proposal.attempts, Some(snapshot_id)).await;
                state.current = current;
                let record = move || relocation.commit(snapshot_id.to_string());
                Ok(tokio::task::spawn_blocking(record)
                    .await
                    .at("the engine")??)
            }
            Err(Failure::NotCommitted(error)) => {
                let file_io = &state.current.file_io;
                paths.extend_from_slice(&proposal.delete_paths);
                tokio::task::spawn_blocking(move || relocation.abort())
                    .await
                    .at("the engine")??;
                remove_attempts(file_io, &proposal.attempts, None).await;
                remove_files(file_io, paths).await;
                Err(error)
            }
            // The dropped relocation stays pending in the engine; the next tick settles it.
            Err(Failure::Unknown(error)) => Err(error),
        }
    }
}

fn export_files(files: &[DataFile]) -> Vec<ExportFile> {
    let file = |file: &DataFile| ExportFile {
        path: file.file_path().to_owned(),
        row_count: file.record_count(),
    };
    files.iter().map(file).collect()
}

fn by_file(placements: &[Placement]) -> Positions {
    let mut positions = Positions::new();
    for Placement { file, position } in placements {
        positions
            .entry(file.as_ref().to_owned())
            .or_default()
            .insert(*position);
    }
    positions
}
