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
use moonshine_engine::{ExportFile, Relocation};
use roaring::RoaringTreemap;
use tokio::sync::MutexGuard;
use uuid::Uuid;

use self::choose::{Input, Wanted, choose};
use self::merge::{INPUT_ROWS, MergedRows};
use super::{MaintenanceAction, MaintenanceTask, Mode, Work, load};
use crate::catalog::CatalogTable;
use crate::commit::{
    ExportCommit, Failure, NewFiles, RowDelta, remove_attempts, run_up_to, table_version,
};
use crate::config::FormatVersion;
use crate::delete::positions_of;
use crate::error::{ExportError, Result};
use crate::exporter::TableState;
use crate::layout::{Destination, Layout, write_data_files};
use crate::lineage::{FileLineage, ROW_ID};
use crate::manifest::Manifests;
use crate::pending::{data_file_path, find_commit, remove_files};
use crate::scan::{FileScan, scan_file};
use crate::schema::{has_columns, iceberg_schema};
use crate::summary::Stamp;

/// By itself, a rewrite waits for so many small files.
const FILES_MIN: usize = 8;
/// What is read of files at once takes about this share of the engine's memory budget, beside that budget, and no less than so many bytes.
const BUDGET_SHARE: u64 = 8;
const WINDOWS_BYTES_MIN: u64 = 8 << 20;
/// How often the rows are looked for before a rewrite gives way to exports that come in between, till next time.
const LOOKS_MAX: usize = 3;

/// Does, or finds, what is due: by itself one run of one partition, by hand all there is.
pub(super) async fn run(work: &Work<'_>) -> Result<Option<MaintenanceAction>> {
    let mut done: Option<MaintenanceAction> = None;
    loop {
        let action = run_once(work).await?;
        let is_over = action.is_none() || work.mode != Mode::ByHand;
        if let Some(action) = action {
            match &mut done {
                None => done = Some(action),
                Some(done) => {
                    done.items += action.items;
                    done.files_written += action.files_written;
                    done.bytes_written += action.bytes_written;
                }
            }
        }
        if is_over {
            return Ok(done);
        }
    }
}

async fn run_once(work: &Work<'_>) -> Result<Option<MaintenanceAction>> {
    let Some((current, manifests)) = work.manifests().await? else {
        return Ok(None);
    };
    let schema = iceberg_schema(work.table.schema(), current.metadata.format_version())?;
    if !has_columns(current.metadata.current_schema(), &schema) {
        // The next export gives the table its columns.
        return Ok(None);
    }
    let own = work.core.database.export_files(work.table);
    let wanted = Wanted {
        target_size_bytes: work.core.settings(work.table).target_file_size_bytes,
        files_min: work.mode.batch(FILES_MIN).max(2),
        with_row_ids: table_version(&current)? >= FormatVersion::V3,
    };
    let mut due = choose(&manifests, &own.into_iter().collect(), wanted)?.into_iter();
    let Some(mut inputs) = due.next() else {
        work.note_compact(&current);
        return Ok(None);
    };
    let is_dry_run = work.mode == Mode::DryRun;
    if is_dry_run {
        inputs.extend(due.flatten());
    }
    // The files are read beside each other.
    let budget_bytes = work.core.database.statistics().memory.budget_bytes;
    let windows_bytes = (budget_bytes / BUDGET_SHARE).max(WINDOWS_BYTES_MIN);
    let rewrite = Rewrite {
        work,
        id: work.core.environment.identities.uuid(),
        window_bytes_max: windows_bytes / inputs.len().max(1) as u64,
        inputs,
        wanted,
        current,
    };
    if is_dry_run {
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
    /// What is read of each file at once.
    window_bytes_max: u64,
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
        let items = self.inputs.len() as u64;
        MaintenanceAction {
            files_written: files.len() as u64,
            bytes_written: files.iter().map(DataFile::file_size_in_bytes).sum(),
            ..MaintenanceAction::new(&self.current, MaintenanceTask::RewriteFiles, items)
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
            batch_rows: INPUT_ROWS,
            window_bytes_max: Some(self.window_bytes_max),
        }
    }

    /// Writes the inputs' rows to new files.
    async fn write(&self, paths: &mut Vec<String>) -> Result<Moved> {
        let table = self.work.table;
        let mut layout = Layout::of(
            &self.current,
            table.schema(),
            self.work.core.settings(table),
        )?;
        let order_id = self.current.metadata.default_sort_order().order_id;
        let is_ordered = |input: &Input| {
            input
                .file
                .sort_order_id()
                .is_some_and(|id| i64::from(id) == order_id)
        };
        if !self.inputs.iter().all(is_ordered) {
            layout = layout.of_unordered_rows();
        }
        let with_lineage = |input: &Input| FileScan {
            lineage: self.wanted.with_row_ids.then(|| FileLineage {
                first_row_id: input.file.first_row_id().unwrap_or(0),
                sequence_number: input.sequence_number,
            }),
            ..self.scan(&input.file, &input.deletes)
        };
        let scans: Vec<FileScan> = self.inputs.iter().map(with_lineage).collect();
        let environment = &self.work.core.environment;
        let (work, schema) = (environment.work.clone(), table.schema().clone());
        let batches = move || MergedRows::open(&work, &schema, scans.iter().cloned());
        let exported = self.work.core.database.exported(table);
        let seq = exported.map_or(0, |exported| exported.seq);
        let (location, id) = (self.current.metadata.location().to_owned(), self.id);
        let path = move |number| data_file_path(&location, seq, id, number);
        let destination = Destination {
            file_io: &self.current.file_io,
            work: &environment.work,
        };
        let written = write_data_files(
            destination,
            table.schema(),
            layout,
            batches,
            path,
            paths,
            None,
        )
        .await?;
        let files: Vec<DataFile> = written.into_iter().map(|file| file.entry).collect();
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
        let (found, mut place) = match self.find_at_last(&moved).await {
            Ok(found) => found,
            Err(error) => {
                remove_files(&self.current.file_io, &paths).await;
                return Err(error);
            }
        };
        let fits = place.as_ref().is_some_and(|state| self.fits(state));
        let prepared = match found {
            Some((relocation, rewritten)) if fits && !self.work.is_pending() => {
                self.prepare(&moved, relocation, rewritten).await
            }
            Some(_) => Err(self.work.busy()),
            None => Ok(None),
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

    /// Finds the rows, as of the last export, and locks the table: while exports come in between, at last under the lock.
    async fn find_at_last(
        &self,
        moved: &Moved,
    ) -> Result<(Option<Found>, MutexGuard<'_, Option<TableState>>)> {
        for _ in 1..LOOKS_MAX {
            let Some((_, manifests)) = self.work.manifests().await? else {
                return Err(self.work.busy());
            };
            let found = self.find(moved, &manifests).await;
            let place = self.work.lock().await?;
            match found {
                Ok(Some((relocation, _))) if !relocation.is_current() => {}
                // A file may have gone in between.
                Err(_) => {}
                found => return Ok((found?, place)),
            }
        }
        let mut place = self.work.lock().await?;
        let state = place.as_mut().ok_or_else(|| self.work.busy())?;
        let manifests = load(&state.current, &mut state.manifests).await?;
        let found = self.find(moved, &manifests).await?;
        Ok((found, place))
    }

    /// Has the engine look where the rows lie now, which were in these files; `None` if none of the files is left.
    async fn find(&self, moved: &Moved, manifests: &Manifests) -> Result<Option<Found>> {
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
        let relocation = self
            .work
            .core
            .environment
            .work
            .away("the engine", find)
            .await??;
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
        let (relocation, dead) = self
            .work
            .core
            .environment
            .work
            .away("the engine", prepare)
            .await??;
        let dead = positions_of(&dead);
        let is_dead = |file: &DataFile| {
            let count = dead.get(file.file_path()).map_or(0, RoaringTreemap::len);
            count == file.record_count()
        };
        let (dead_files, files): (Vec<DataFile>, Vec<DataFile>) =
            moved.files.iter().cloned().partition(is_dead);
        if files.is_empty() {
            let abort = move || relocation.abort();
            self.work
                .core
                .environment
                .work
                .away("the engine", abort)
                .await??;
            return Ok(None);
        }
        // The engine counts no row of them either.
        let dead_paths = dead_files.iter().map(|file| file.file_path().to_owned());
        remove_files(&self.current.file_io, &dead_paths.collect::<Vec<_>>()).await;
        let delta = RowDelta {
            added_data: NewFiles {
                spec_id: self.current.metadata.default_partition_spec_id(),
                files,
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
            export_commit_id: None,
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
            planned: None,
            delete_paths: Vec::new(),
            attempts: Vec::new(),
        };
        match run_up_to(
            self.work.attempts_max(),
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
                let core = self.work.core;
                Ok(core.note(self.work.table, record).await??)
            }
            Err(Failure::NotCommitted(error)) => {
                let file_io = &state.current.file_io;
                paths.extend_from_slice(&proposal.delete_paths);
                self.work
                    .core
                    .environment
                    .work
                    .away("the engine", move || relocation.abort())
                    .await??;
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
