//! Flushing: a frozen generation becomes one delta file with the RowSets of all tables and fragments.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::deletes;
use super::edit::Change;
use super::files::{HeldFile, HeldRowSet};
use super::fragment::{Division, FragmentId, FragmentTree};
use super::growth::next_point;
use super::load::fits;
use super::state::Described;
use super::store::HeldState;
use crate::cache::generations::Frozen;
use crate::cache::table::TableState;
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
use crate::shard_key::Sharding;
use crate::shared::{Shared, TreeSizes};

/// So many rows ahead their bytes are asked for: rows in key order lie anywhere.
const ROWS_AHEAD: usize = 16;

/// A row of a generation, where it lies.
struct PlacedRow {
    hash: u64,
    body: u32,
    key: (u32, u32),
    value: Option<(u32, u32)>,
}

/// A new table that gets such a part of P-Size by one flush begins divided.
const EARLY_SHARE: u64 = 8;

/// What a flush changes besides RowSets, by table.
#[derive(Default)]
struct News {
    truncates: Vec<(u32, Vec<u64>)>,
    divisions: Vec<(u32, Division)>,
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
    // Until the edit is made no fragment that rows are on their way to may get children, or older rows from above.
    let _placing = shared.scheduler.placing.lock();
    let _turn = shared.scheduler.pace.flush();
    let _rows = shared.charge(row_count(&frozen.generation) * FLUSHED_ROW_SIZE_BYTES);
    let mut output = OutputFile::new(shared, shared.write_size_bytes());
    let mut news = News::default();
    let written = write_tables(shared, frozen, &mut output, &mut news);
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
        table_changes(state, &tables, frozen, &mut changes);
        exported_changes(state, frozen, &mut changes);
        deletes::flushed_changes(shared, state, frozen, &mut changes);
        for (table_id, new) in news.truncates {
            let old = state.tree(table_id).map(|tree| tree.truncates.to_vec());
            let mut seqs = old.unwrap_or_default();
            seqs.extend(new);
            changes.push(Change::Truncates { table_id, seqs });
        }
        for (table_id, division) in news.divisions {
            changes.push(Change::Divide {
                table_id,
                fragment_id: FragmentId::ROOT,
                division,
            });
        }
        grown_changes(shared, state, &row_sets, &mut changes);
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
    // Who waits for the flush may have them compacted at once, and then finds their space free.
    drop(outputs);
    shared.scheduler.earn(written_bytes);
    shorten_log(shared, frozen);
    // Readers find the rows in the trees now. Last, so that who waits for it finds the log shortened.
    shared
        .generations
        .drop_flushed(frozen, || shared.readers.let_go());
    Ok(Some(written_bytes))
}

/// Which of the tables that the flush wrote have doubled.
fn grown_changes(
    shared: &Shared,
    state: &HeldState,
    row_sets: &[Arc<HeldRowSet>],
    changes: &mut Vec<Change<Arc<HeldRowSet>>>,
) {
    let size_bytes = |held: &Arc<HeldRowSet>| held.meta().size_bytes;
    let at = shared.io.unix_time();
    // They lie table by table.
    for of_table in row_sets.chunk_by(|a, b| a.meta().head.table_id == b.meta().head.table_id) {
        let Some(table_id) = of_table.first().map(|held| held.meta().head.table_id) else {
            continue;
        };
        let tree = state.tree(table_id);
        let fragments = tree.map_or_else(Vec::new, |tree| tree.fragments.fragments());
        let old = fragments.iter().flat_map(|fragment| &*fragment.row_sets);
        let total_bytes = old.chain(of_table).map(size_bytes).sum();
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
    news: &mut News,
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
        let size_bytes = share_bytes(&frozen.generation, table_id);
        let division = early_division(&shared.tree_sizes, &tree.fragments, size_bytes);
        let divided = division
            .as_ref()
            .and_then(|division| tree.fragments.divided(FragmentId::ROOT, division));
        let fragments = divided.as_ref().unwrap_or(&tree.fragments);
        let to = Target {
            sizes: &shared.tree_sizes,
            fragments,
            size_bytes,
            leaf_count: leaf_count(fragments, &frozen.generation, table_id),
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
            if !write_piece(shared, &frozen.generation, &to, head, output)? {
                return Ok(false);
            }
            seq_from = seq_to;
        }
        if divided.is_some() {
            news.divisions.extend(division.map(|one| (table_id, one)));
        }
        if let Some(table) = frozen.generation.table(table_id) {
            let seqs = table.truncates();
            if !seqs.is_empty() {
                news.truncates.push((table_id, seqs));
            }
        }
    }
    Ok(true)
}

/// Writes a table's rows of a piece of the commit sequence, a RowSet for each fragment.
fn write_piece(
    shared: &Shared,
    generation: &Arc<Generation>,
    to: &Target<'_>,
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
    let mut fragments: BTreeMap<FragmentId, Vec<PlacedRow>> = BTreeMap::new();
    loop {
        cursor.advance();
        let (Some(version), Some(row)) = (cursor.version(), cursor.row()) else {
            break;
        };
        if shared.generations.is_stopping() {
            return Ok(false);
        }
        let fragment_id = to.fragment(version.hash, row.key);
        fragments.entry(fragment_id).or_default().push(PlacedRow {
            hash: version.hash,
            body: version.record,
            key: (version.key_start, version.key_len),
            value: version.value,
        });
    }
    let bodies = generation.bodies();
    let mut piece_bytes = 0;
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
            piece_bytes += placed.key.len() + placed.value.map_or(0, <[u8]>::len);
            if piece_bytes >= shared.write_size_bytes() {
                shared.scheduler.pace.flushed(piece_bytes as u64);
                piece_bytes = 0;
            }
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

/// The children that a table without rows below level 0 begins with, if it gets so many at once that it will divide
/// anyway: a division costs nothing as long as there is nothing to be written again.
fn early_division(
    sizes: &TreeSizes,
    fragments: &FragmentTree<Arc<HeldRowSet>>,
    size_bytes: u64,
) -> Option<Division> {
    let root = fragments.root();
    let is_new = root.children.is_none() && root.row_sets.is_empty();
    let is_much = size_bytes >= sizes.flush_size_bytes_min << sizes.child_bits
        && size_bytes >= sizes.fragment_size_bytes_max / EARLY_SHARE;
    (is_new && is_much).then_some(Division::Hash {
        bits: sizes.child_bits,
    })
}

/// Where the rows of a table go.
struct Target<'a> {
    sizes: &'a TreeSizes,
    fragments: &'a FragmentTree<Arc<HeldRowSet>>,
    /// What the flush has of the table.
    size_bytes: u64,
    /// See [`leaf_count`].
    leaf_count: u64,
}

impl Target<'_> {
    /// The fragment that a row goes to: as far down as no older row is above, and as a flush of that size gives each
    /// fragment enough.
    fn fragment(&self, hash: u64, key: &[u8]) -> FragmentId {
        let mut target = FragmentId::ROOT;
        let mut share_bytes = self.size_bytes;
        for fragment in self.fragments.path(hash, key) {
            target = fragment.id;
            let Some(children) = &fragment.children else {
                break;
            };
            share_bytes /= match &children.division {
                // Keys may well be few of all there could be.
                Division::Range { .. } => self.leaf_count,
                Division::Hash { bits } => 1 << bits,
            };
            let is_enough = share_bytes >= self.sizes.flush_size_bytes_min;
            if !fragment.row_sets.is_empty() || !is_enough {
                break;
            }
        }
        target
    }
}

/// How many leaves of a tree that is divided by range a table's rows of a generation lie in, at most; 1 of other trees.
fn leaf_count(
    tree: &FragmentTree<Arc<HeldRowSet>>,
    generation: &Arc<Generation>,
    table_id: u32,
) -> u64 {
    let Some(children) = &tree.root().children else {
        return 1;
    };
    if !matches!(tree.sharding(), Sharding::Range) {
        return 1;
    }
    let leaf_at = |descending| {
        let mut cursor = GenerationCursor::new(generation, table_id, 0, u64::MAX, descending)?;
        cursor.advance();
        let key = cursor.row()?.key;
        Some(children.division.child_of(FragmentId::ROOT, 0, key))
    };
    match (leaf_at(false), leaf_at(true)) {
        (Some(first), Some(last)) => 1 + last.saturating_sub(first) as u64,
        _ => 1,
    }
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
pub(super) fn shared_write_size_bytes(shared: &Shared, writers: usize) -> usize {
    let all = shared.buffer_size_bytes(DIVISION_SIZE_BYTES_MAX);
    (all / len_u32(writers).max(1) as usize).clamp(8 << 10, 1 << 20)
}
