//! Flushing: a frozen generation becomes RowSets of all tables and fragments ([`super::flush_rows`]), and one edit says so.

use std::sync::Arc;

use super::deletes;
use super::flush_rows::{Rows, write_rows};
use super::leaf_policy::size_bytes;
use crate::cache::generations::Frozen;
use crate::codec::len_u32;
use crate::commit::committer;
use crate::error::{Error, Result};
use crate::exported::files::Exports;
use crate::generation::Generation;
use crate::row_set::budget::Charge;
use crate::row_set::file::delta_file_path;
use crate::row_set::index::HashSpill;
use crate::row_set::meta::{RowSetHead, RowSetMeta};
use crate::row_set::patch::{PatchMeta, TargetOrdinals};
use crate::row_set::rows_page::RowRef;
use crate::row_set::writer::{DeltaFileOptions, DeltaFileWriter};
use crate::shared::Shared;
use crate::sync::{self, Point};
use crate::tree::edit::Change;
use crate::tree::files::{HeldFile, HeldRowSet};
use crate::tree::fragment::FragmentId;
use crate::tree::growth::next_point;
use crate::tree::loaded::fits;
use crate::tree::state::Described;
use crate::tree::store::HeldState;
use crate::tree::table::TableState;

/// What a flush holds of a row: its number and what it is sorted by, in vectors that grow, and the index that is built of it.
const FLUSHED_ROW_SIZE_BYTES: u64 = 2 * 16 + INDEXED_ROW_SIZE_BYTES;
/// What the index takes for a row while it is built.
pub(super) const INDEXED_ROW_SIZE_BYTES: u64 = 32;

/// The file of a flush or a compaction, once a row or a patch is written.
pub(crate) struct OutputFile<'s> {
    shared: &'s Shared,
    write_size_bytes: usize,
    writer: Option<DeltaFileWriter>,
    /// For what the writer gathers.
    _buffer: Option<Charge>,
    number: u64,
    /// A RowSet that has no row yet.
    begun: Option<RowSetHead>,
    spill: Option<HashSpill>,
    row_sets: Vec<RowSetMeta>,
}

/// Takes a frozen generation below level 0.
///
/// # Errors
/// [`Error::NoSpace`]: nothing changed. [`Error::Io`] as the system answers: where the edit itself failed, whether it counts
/// is open until the next start.
pub(crate) fn flush(shared: &Shared, frozen: &Arc<Frozen>) -> Result<Flushed> {
    let (counters, read_bytes) = (&shared.counters, frozen.generation.size_bytes());
    let work = || {
        // Pages went for the generation while it grew.
        shared.store.cache.give_back_scattered();
        flush_generation(shared, frozen)
    };
    let written = counters.time_work(&counters.flushes, read_bytes, work)?;
    Ok(written.map_or(Flushed::Cancelled, |_| Flushed::Done))
}

/// Returns the bytes of the RowSets, `None` if the database is being closed meanwhile.
fn flush_generation(shared: &Shared, frozen: &Arc<Frozen>) -> Result<Option<u64>> {
    if shared.pins.durable_seq() < frozen.seq_to {
        // What is below level 0 must not get ahead of the log.
        committer::sync(shared)?;
    }
    // Until the edit is made no fragment that rows are on their way to may get children, or older rows from above.
    let _placing = shared.scheduler.placing.lock();
    let _turn = shared.scheduler.pace.flush();
    let _rows = shared.charge(row_count(&frozen.generation) * FLUSHED_ROW_SIZE_BYTES);
    let Some(rows) = write_rows(shared, frozen)? else {
        return Ok(None);
    };
    let written_bytes = size_bytes(&rows.row_sets);
    make_edit(shared, frozen, rows)?;
    shared.segments.note_flushed(frozen.seq_to);
    shared.scheduler.earn(written_bytes);
    shorten_log(shared, frozen);
    sync::point(Point::Publish);
    // Readers find the rows in the trees now. Last, so that who waits for it finds the log shortened.
    shared
        .generations
        .drop_flushed(frozen, || shared.readers.let_go());
    Ok(Some(written_bytes))
}

/// Has the tree take the rows of a generation, and those of the load that comes with it.
fn make_edit(shared: &Shared, frozen: &Frozen, rows: Rows) -> Result<()> {
    let tables: Vec<_> = shared.tables.read().iter().cloned().collect();
    // No longer than this: who waits for the flush may have them compacted at once, and then finds their space free.
    let outputs = rows.row_sets.clone();
    let load = frozen.load.as_deref();
    let loaded = load.map(|load| load.at_seq(&shared.store, frozen.seq_to));
    let loaded = loaded.transpose()?;
    let export = load.and_then(|load| load.export.as_ref());
    // Who looks for changes finds the locations of the export that it knows.
    let _publishing = export.map(|export| export.table.publishing.write());
    let made = shared.store.commit(&shared.tables, |state| {
        let mut changes = Vec::new();
        table_changes(state, &tables, frozen, &mut changes);
        exported_changes(state, frozen, &mut changes);
        deletes::flushed_changes(shared, state, frozen, &mut changes);
        row_changes(shared, state, rows, &mut changes);
        if let (Some(load), Some(loaded)) = (load, loaded)
            && load.decide(fits(state, &changes, &loaded))
        {
            changes.extend(loaded);
            changes
                .extend(export.and_then(|one| exported_change(state, one.table.id, &one.exports)));
        }
        changes.push(Change::Flushed {
            seq: frozen.seq_to,
            facts_through_block: frozen.block_number,
            log_start: frozen.log_start,
        });
        changes.push(Change::Origins(frozen.origins.clone()));
        changes
    });
    made.inspect_err(|error| {
        retire_unnamed(error, &outputs);
        load.into_iter().for_each(|load| load.undecide(error));
    })?;
    if let (Some(load), Some(export)) = (load, export)
        && matches!(load.is_taken(), Ok(true))
    {
        export.table.exports.store(export.exports.clone());
    }
    Ok(())
}

/// What becomes of the tables by a generation's rows.
fn row_changes(
    shared: &Shared,
    state: &HeldState,
    rows: Rows,
    changes: &mut Vec<Change<Arc<HeldRowSet>>>,
) {
    for (table_id, new) in rows.truncates {
        let old = state.tree(table_id).map(|tree| tree.truncates.to_vec());
        let mut seqs = old.unwrap_or_default();
        seqs.extend(new);
        changes.push(Change::Truncates { table_id, seqs });
    }
    for (table_id, division) in rows.divisions {
        changes.push(Change::Divide {
            table_id,
            fragment_id: FragmentId::ROOT,
            division,
        });
    }
    grown_changes(shared, state, &rows.row_sets, changes);
    changes.extend(rows.row_sets.into_iter().map(Change::Add));
}

/// Which of the tables that the flush wrote have doubled.
fn grown_changes(
    shared: &Shared,
    state: &HeldState,
    row_sets: &[Arc<HeldRowSet>],
    changes: &mut Vec<Change<Arc<HeldRowSet>>>,
) {
    let at = shared.io.unix_time();
    // They lie table by table.
    for of_table in row_sets.chunk_by(|a, b| a.meta().head.table_id == b.meta().head.table_id) {
        let Some(table_id) = of_table.first().map(|held| held.meta().head.table_id) else {
            continue;
        };
        let tree = state.tree(table_id);
        let fragments = tree.map_or_else(Vec::new, |tree| tree.fragments.fragments());
        let old = fragments
            .iter()
            .map(|fragment| size_bytes(&fragment.row_sets));
        let total_bytes = old.sum::<u64>() + size_bytes(of_table);
        let known = tree.map_or(&[][..], |tree| &tree.growth);
        let point = next_point(known, total_bytes, at, &shared.tree_sizes);
        changes.extend(point.map(|point| Change::Grown { table_id, point }));
    }
}

/// Lets the files of an edit go that found no space. After any other error the edit may count.
pub(super) fn retire_unnamed(error: &Error, row_sets: &[Arc<HeldRowSet>]) {
    if matches!(error, Error::NoSpace { .. }) {
        row_sets.iter().for_each(|held| held.file.retire());
    }
}

/// What became of a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// The rows are below level 0.
    Done,
    /// The database is being closed; nothing changed.
    Cancelled,
}

/// Removes the segments of the log that nothing needs any more.
fn shorten_log(shared: &Shared, frozen: &Frozen) {
    let first = frozen.log_start.segment_number;
    if let Err(error) = shared.segments.remove_before(&*shared.io, first) {
        // The next start removes it.
        tracing::warn!(%error, "a segment of the log that is of no use is left");
    }
}

/// The tables that are new, and those whose columns changed.
fn table_changes(
    state: &HeldState,
    tables: &[Arc<TableState>],
    frozen: &Frozen,
    changes: &mut Vec<Change<Arc<HeldRowSet>>>,
) {
    for (i, table) in tables.iter().take(frozen.exports.len()).enumerate() {
        let record = table.record();
        // It may be of a later version than the generation knows: rows say their own.
        if state
            .tables
            .get(i)
            .is_none_or(|known| known.record != record)
        {
            changes.push(Change::Table { record });
        }
    }
}

/// How far each table was exported when the generation was frozen.
fn exported_changes(
    state: &HeldState,
    frozen: &Frozen,
    changes: &mut Vec<Change<Arc<HeldRowSet>>>,
) {
    for (table_id, exports) in (0..).zip(&frozen.exports) {
        changes.extend(exported_change(state, table_id, exports));
    }
}

/// How a table's exports become others than those that the tree knows, if they do.
fn exported_change(
    state: &HeldState,
    table_id: u32,
    exports: &Exports,
) -> Option<Change<Arc<HeldRowSet>>> {
    let old = state.tables.get(table_id as usize);
    let old = old.map(|table| table.exports.clone()).unwrap_or_default();
    let base = exports.base.clone().filter(|_| !exports.is_as(&old))?;
    Some(Change::Exported {
        table_id,
        base,
        files: exports.changes_since(&old),
    })
}

/// Versions of all tables.
fn row_count(generation: &Generation) -> u64 {
    let tables = generation.table_ids().into_iter();
    let tables = tables.filter_map(|table_id| generation.table(table_id));
    tables.map(|table| u64::from(table.version_count())).sum()
}

impl<'s> OutputFile<'s> {
    pub(crate) fn new(shared: &'s Shared, write_size_bytes: usize) -> Self {
        OutputFile {
            shared,
            write_size_bytes,
            writer: None,
            _buffer: None,
            number: 0,
            begun: None,
            spill: None,
            row_sets: Vec::new(),
        }
    }

    /// Has the hashes of its rows put aside until their RowSets end.
    pub(crate) fn spill_hashes(self, spill: Option<HashSpill>) -> Self {
        OutputFile { spill, ..self }
    }

    /// Begins a RowSet. There is none without rows, and no file without a RowSet.
    pub(crate) fn begin(&mut self, head: RowSetHead) {
        self.begun = Some(head);
    }

    /// Writes a patch.
    pub(super) fn patch(&mut self, targets: &[TargetOrdinals]) -> Result<PatchMeta> {
        self.writer()?.write_patch(targets)
    }

    fn writer(&mut self) -> Result<&mut DeltaFileWriter> {
        Ok(match &mut self.writer {
            Some(writer) => writer,
            none => {
                let store = &self.shared.store;
                self.number = store.next_file_number();
                self._buffer = Some(self.shared.charge(self.write_size_bytes as u64));
                let options = DeltaFileOptions {
                    write_size_bytes: self.write_size_bytes,
                    ..DeltaFileOptions::default()
                };
                let mut writer = DeltaFileWriter::create(
                    self.shared.io.clone(),
                    &delta_file_path(&store.folder, self.number),
                    store.database_id,
                    self.number,
                    options,
                )?;
                if let Some(spill) = self.spill.take() {
                    writer.spill_hashes(spill);
                }
                none.insert(writer)
            }
        })
    }

    pub(crate) fn push(&mut self, row: RowRef<'_>, hash: u64) -> Result<()> {
        if let Some(head) = self.begun.take() {
            self.writer()?.begin(head)?;
        }
        match &mut self.writer {
            Some(writer) => writer.push(row, hash, None),
            None => Err(Error::Usage("a row outside of a RowSet".into())),
        }
    }

    pub(crate) fn end(&mut self) -> Result<()> {
        if self.begun.take().is_none()
            && let Some(writer) = &mut self.writer
        {
            self.row_sets.extend(writer.finish_row_set()?);
        }
        Ok(())
    }

    /// Makes the file durable; its RowSets can be read, and count once an edit names them.
    pub(crate) fn finish(mut self) -> Result<Vec<Arc<HeldRowSet>>> {
        let Some(writer) = self.writer.take() else {
            return Ok(Vec::new());
        };
        let finished = writer.finish().and_then(|file| {
            file.limit(&self.shared.store.open_files);
            let held = HeldFile::new(file, self.shared.io.clone());
            let row_sets = self.row_sets.drain(..);
            row_sets
                .map(|meta| self.shared.store.hold(meta, &held))
                .collect::<Result<Vec<_>>>()
        });
        match finished {
            Ok(row_sets) if !row_sets.is_empty() => Ok(row_sets),
            // An error, or a merge of which nothing was left.
            other => {
                self.remove();
                other
            }
        }
    }

    /// Makes a file durable that holds patches alone, if there are any.
    pub(super) fn finish_patches(mut self) -> Result<Option<Arc<HeldFile>>> {
        let Some(writer) = self.writer.take() else {
            return Ok(None);
        };
        match writer.finish() {
            Ok(file) => {
                file.limit(&self.shared.store.open_files);
                Ok(Some(HeldFile::new(file, self.shared.io.clone())))
            }
            Err(error) => {
                self.remove();
                Err(error)
            }
        }
    }

    /// Gives the file up.
    pub(crate) fn discard(mut self) {
        if self.writer.take().is_some() {
            self.remove();
        }
    }

    fn remove(&self) {
        let path = delta_file_path(&self.shared.store.folder, self.number);
        if let Err(error) = self.shared.io.remove(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            // The next start removes what no edit names.
            tracing::warn!(path = %path.display(), %error, "a file of no use is left");
        }
    }
}

impl Shared {
    /// Bytes that a delta file is written in at once: S-Size, and at least a mebibyte, if there is memory for it.
    pub(crate) fn write_size_bytes(&self) -> usize {
        let size_bytes = usize::try_from(self.profile.s_size_bytes())
            .unwrap_or(1 << 20)
            .clamp(1 << 20, 16 << 20);
        self.buffer_size_bytes(size_bytes)
    }

    /// The size of buffers for work in the background, all together: so much, or a part of the memory budget.
    pub(super) fn buffer_size_bytes(&self, most: usize) -> usize {
        let budget = self.store.cache.budget();
        budget.share(BUFFERS_SHARE, BUFFERS_SIZE_BYTES_MIN, most)
    }
}

/// The most that the writers of a division gather, each its share.
const DIVISION_SIZE_BYTES_MAX: usize = 16 << 20;
/// Buffers of a flush or a compaction take at most this part of the memory budget, and at least so many bytes.
const BUFFERS_SHARE: u64 = 32;
const BUFFERS_SIZE_BYTES_MIN: usize = 64 << 10;

/// The write size of one of so many writers.
pub(crate) fn shared_write_size_bytes(shared: &Shared, writers: usize) -> usize {
    let all = shared.buffer_size_bytes(DIVISION_SIZE_BYTES_MAX);
    (all / len_u32(writers).max(1) as usize).clamp(8 << 10, 1 << 20)
}
