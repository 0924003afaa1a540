//! Flushing: a frozen generation becomes one delta file with the RowSets of all tables and fragments.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::deletes;
use super::edit::Change;
use super::files::{HeldFile, HeldRowSet};
use super::fragment::{Fragment, FragmentId, FragmentTree};
use super::load::fits;
use super::state::{Described, TableTree};
use super::store::HeldState;
use crate::cache::generations::Frozen;
use crate::codec::len_u32;
use crate::error::{Error, Result};
use crate::generation::{Generation, GenerationCursor, LOCATIONS_BIT};
use crate::log::committer;
use crate::row_set::budget::Charge;
use crate::row_set::file::delta_file_path;
use crate::row_set::meta::{RowSetHead, RowSetMeta};
use crate::row_set::patch::{PatchMeta, TargetOrdinals};
use crate::row_set::rows_page::RowRef;
use crate::row_set::writer::{DeltaFileOptions, DeltaFileWriter};
use crate::shared::Shared;

/// So many rows ahead their bytes are asked for: rows in key order lie anywhere.
const ROWS_AHEAD: usize = 16;

/// A row of a generation, where it lies.
struct PlacedRow {
    hash: u64,
    body: u32,
    key: (u32, u32),
    value: Option<(u32, u32)>,
}

/// What a flush holds of a row: where it lies and how it is sorted, and the index that is built of it.
const FLUSHED_ROW_SIZE_BYTES: u64 = size_of::<PlacedRow>() as u64 + 16 + INDEXED_ROW_SIZE_BYTES;
/// What the index takes for a row while it is built.
pub(super) const INDEXED_ROW_SIZE_BYTES: u64 = 32;

/// The file of a flush or a compaction, once something is written.
pub(crate) struct OutputFile<'s> {
    shared: &'s Shared,
    write_size_bytes: usize,
    writer: Option<DeltaFileWriter>,
    /// For what the writer gathers.
    _buffer: Option<Charge>,
    number: u64,
    row_sets: Vec<RowSetMeta>,
}

/// Takes a frozen generation below level 0.
///
/// # Errors
/// [`Error::NoSpace`]: nothing changed. [`Error::Io`] as the system answers: where the edit itself failed, whether it counts
/// is open until the next start.
pub(crate) fn flush(shared: &Shared, frozen: &Arc<Frozen>) -> Result<Flushed> {
    let (counters, read_bytes) = (&shared.counters, frozen.generation.size_bytes());
    let work = || flush_rows(shared, frozen);
    let written = counters.time_work(&counters.flushes, read_bytes, work)?;
    Ok(written.map_or(Flushed::Cancelled, |_| Flushed::Done))
}

/// Returns the bytes of the RowSets, `None` if the database is being closed meanwhile.
fn flush_rows(shared: &Shared, frozen: &Arc<Frozen>) -> Result<Option<u64>> {
    if shared.pins.durable_seq() < frozen.seq_to {
        // What is below level 0 must not get ahead of the log.
        committer::sync(shared)?;
    }
    let _rows = shared.charge(row_count(&frozen.generation) * FLUSHED_ROW_SIZE_BYTES);
    let mut output = OutputFile::new(shared, shared.write_size_bytes());
    let mut truncates = Vec::new();
    let written = write_tables(shared, frozen, &mut output, &mut truncates);
    let row_sets = match written {
        Ok(true) => output.finish()?,
        Ok(false) => {
            output.discard();
            return Ok(None);
        }
        Err(error) => {
            output.discard();
            return Err(error);
        }
    };
    let written_bytes = row_sets.iter().map(|held| held.meta().size_bytes).sum();
    let tables: Vec<_> = shared.tables.read().iter().cloned().collect();
    let outputs = row_sets.clone();
    let load = frozen.load.as_deref();
    let loaded = load.map(|load| load.at_seq(&shared.store, frozen.seq_to));
    let loaded = loaded.transpose()?;
    let made = shared.store.commit(&shared.tables, |state| {
        let mut changes = Vec::new();
        for table in tables
            .iter()
            .take(frozen.exports.len())
            .skip(state.tables.len())
        {
            changes.push(Change::Table {
                record: table.record.clone(),
            });
        }
        exported_changes(state, frozen, &mut changes);
        deletes::flushed_changes(shared, state, frozen, &mut changes);
        for (table_id, new) in truncates {
            let old = state.tree(table_id).map(|tree| tree.truncates.to_vec());
            let mut seqs = old.unwrap_or_default();
            seqs.extend(new);
            changes.push(Change::Truncates { table_id, seqs });
        }
        changes.extend(row_sets.into_iter().map(Change::Add));
        if let (Some(load), Some(loaded)) = (load, loaded)
            && load.decide(fits(state, &changes, &loaded))
        {
            changes.extend(loaded);
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
    if let Err(error) = shared
        .segments
        .remove_before(&*shared.io, frozen.log_start.segment_number)
    {
        // The next start removes it.
        tracing::warn!(%error, "a segment of the log that is of no use is left");
    }
    // Readers find the rows in the trees now. Last, so that who waits for it finds the log shortened.
    shared.generations.drop_flushed(frozen);
    Ok(Some(written_bytes))
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

/// How far each table was exported when the generation was frozen.
fn exported_changes(
    state: &HeldState,
    frozen: &Frozen,
    changes: &mut Vec<Change<Arc<HeldRowSet>>>,
) {
    for (table_id, exports) in (0..).zip(&frozen.exports) {
        let old = state
            .tables
            .get(table_id as usize)
            .map(|table| table.exports.clone())
            .unwrap_or_default();
        if let Some(base) = &exports.base
            && old.base.as_ref() != Some(base)
        {
            changes.push(Change::Exported {
                table_id,
                base: base.clone(),
                new_files: exports
                    .files
                    .iter()
                    .skip(old.files.len())
                    .cloned()
                    .collect(),
            });
        }
    }
}

/// Writes the RowSets of all tables; false if the database is being closed meanwhile.
fn write_tables(
    shared: &Shared,
    frozen: &Frozen,
    output: &mut OutputFile<'_>,
    truncates: &mut Vec<(u32, Vec<u64>)>,
) -> Result<bool> {
    for table_id in frozen.generation.table_ids() {
        let Some(table) = shared.table_state(table_id & !LOCATIONS_BIT) else {
            continue;
        };
        let trees = table.trees.load_full();
        let is_locations = table_id & LOCATIONS_BIT != 0;
        let tree = if is_locations {
            &trees.locations
        } else {
            &trees.rows
        };
        // The locations are read as of the last export only, so they know no boundaries.
        let mut cuts = if is_locations {
            Vec::new()
        } else {
            shared.boundaries(table_id)
        };
        cuts.retain(|&seq| frozen.generation.seq_from() < seq && seq < frozen.seq_to);
        cuts.push(frozen.seq_to);
        let mut seq_from = frozen.generation.seq_from();
        for seq_to in cuts {
            let head = RowSetHead {
                table_id,
                fragment_id: FragmentId::ROOT.0,
                seq_from,
                seq_to,
            };
            if !write_piece(shared, &frozen.generation, tree, head, output)? {
                return Ok(false);
            }
            seq_from = seq_to;
        }
        if let Some(table) = frozen.generation.table(table_id) {
            let seqs = table.truncates();
            if !seqs.is_empty() {
                truncates.push((table_id, seqs));
            }
        }
    }
    Ok(true)
}

/// Writes a table's rows of a piece of the commit sequence, a RowSet for each fragment.
fn write_piece(
    shared: &Shared,
    generation: &Arc<Generation>,
    tree: &TableTree<Arc<HeldRowSet>>,
    head: RowSetHead,
    output: &mut OutputFile<'_>,
) -> Result<bool> {
    // The locations of exported rows bear the exported sequence, which may lie before the generation.
    let (after_seq, seq) = if head.table_id & LOCATIONS_BIT == 0 {
        (head.seq_from, head.seq_to)
    } else {
        (0, u64::MAX)
    };
    let cursor = GenerationCursor::new(generation, head.table_id, after_seq, seq, false);
    let Some(mut cursor) = cursor else {
        return Ok(true);
    };
    let size_bytes = share_bytes(generation, head.table_id);
    let mut fragments: BTreeMap<FragmentId, Vec<PlacedRow>> = BTreeMap::new();
    loop {
        cursor.advance();
        let (Some(version), Some(row)) = (cursor.version(), cursor.row()) else {
            break;
        };
        if shared.generations.is_stopping() {
            return Ok(false);
        }
        let fragment_id = target(shared, &tree.fragments, version.hash, row.key, size_bytes);
        fragments.entry(fragment_id).or_default().push(PlacedRow {
            hash: version.hash,
            body: version.record,
            key: (version.key_start, version.key_len),
            value: version.value,
        });
    }
    let bodies = generation.bodies();
    for (fragment_id, rows) in fragments {
        output.begin(RowSetHead {
            fragment_id: fragment_id.0,
            ..head
        })?;
        for (i, row) in rows.iter().enumerate() {
            if let Some(ahead) = rows.get(i + ROWS_AHEAD) {
                // Has the processor fetch it.
                std::hint::black_box(bodies.slice(ahead.body, ahead.key.0, 1).first());
                let value_start = ahead.value.map_or(0, |(start, _)| start);
                std::hint::black_box(bodies.slice(ahead.body, value_start, 1).first());
            }
            let at = |(start, len)| bodies.slice(row.body, start, len);
            let placed = RowRef {
                key: at(row.key),
                value: row.value.map(at),
            };
            output.push(placed, row.hash)?;
        }
        output.end()?;
        if shared.generations.is_stopping() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Versions of all tables.
fn row_count(generation: &Generation) -> u64 {
    let tables = generation.table_ids().into_iter();
    let tables = tables.filter_map(|table_id| generation.table(table_id));
    tables.map(|table| u64::from(table.version_count())).sum()
}

/// About how many bytes of a generation are those of a table.
fn share_bytes(generation: &Generation, table_id: u32) -> u64 {
    let versions = |table_id| {
        let table = generation.table(table_id);
        u64::from(table.map_or(0, |table| table.version_count()))
    };
    let all: u64 = generation.table_ids().into_iter().map(versions).sum();
    let share = u128::from(generation.size_bytes()) * u128::from(versions(table_id));
    u64::try_from(share / u128::from(all.max(1))).unwrap_or(u64::MAX)
}

/// The fragment that a flushed row goes to: as far down as no older row is above, and as a flush of that size gives each
/// fragment enough.
fn target(
    shared: &Shared,
    tree: &FragmentTree<Arc<HeldRowSet>>,
    hash: u64,
    key: &[u8],
    size_bytes: u64,
) -> FragmentId {
    let mut fragment: &Fragment<Arc<HeldRowSet>> = tree.root();
    let mut share_bytes = size_bytes;
    while fragment.row_sets.is_empty()
        && let Some(children) = &fragment.children
    {
        share_bytes /= children.fragments.len().max(1) as u64;
        let Some(child) = fragment.child(hash, key) else {
            break;
        };
        if share_bytes < shared.tree_sizes.flush_size_bytes_min {
            break;
        }
        fragment = child;
    }
    fragment.id
}

impl<'s> OutputFile<'s> {
    pub(crate) fn new(shared: &'s Shared, write_size_bytes: usize) -> Self {
        OutputFile {
            shared,
            write_size_bytes,
            writer: None,
            _buffer: None,
            number: 0,
            row_sets: Vec::new(),
        }
    }

    /// Begins a RowSet, and the file with the first one.
    pub(crate) fn begin(&mut self, head: RowSetHead) -> Result<()> {
        self.writer()?.begin(head)
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
                none.insert(DeltaFileWriter::create(
                    self.shared.io.clone(),
                    &delta_file_path(&store.folder, self.number),
                    store.database_id,
                    self.number,
                    DeltaFileOptions {
                        write_size_bytes: self.write_size_bytes,
                        ..DeltaFileOptions::default()
                    },
                )?)
            }
        })
    }

    pub(crate) fn push(&mut self, row: RowRef<'_>, hash: u64) -> Result<()> {
        match &mut self.writer {
            Some(writer) => writer.push(row, hash, None),
            None => Err(Error::Usage("a row outside of a RowSet".into())),
        }
    }

    pub(crate) fn end(&mut self) -> Result<()> {
        if let Some(writer) = &mut self.writer {
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
            Ok(file) => Ok(Some(HeldFile::new(file, self.shared.io.clone()))),
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
pub(super) fn shared_write_size_bytes(shared: &Shared, writers: usize) -> usize {
    let all = shared.buffer_size_bytes(DIVISION_SIZE_BYTES_MAX);
    (all / len_u32(writers).max(1) as usize).clamp(8 << 10, 1 << 20)
}
