//! The rows of a flush: told apart by fragment, then sorted and written on several threads, a file each.

use std::sync::Arc;

use super::flush::{OutputFile, shared_write_size_bytes};
use crate::cache::generations::Frozen;
use crate::error::{Error, Result};
use crate::generation::{GatheredRows, Generation, LOCATIONS_BIT};
use crate::parallel;
use crate::row_set::meta::RowSetHead;
use crate::sharding::Sharding;
use crate::shared::Shared;
use crate::sync::Mutex;
use crate::tree::files::HeldRowSet;
use crate::tree::fragment::{Division, FragmentId, FragmentTree};
use crate::tree::growth::TreeSizes;
use crate::tree::table::TableState;

/// A new table that gets such a part of P-Size by one flush begins divided.
const EARLY_SHARE: u64 = 8;
/// Rows of so many bytes are worth a thread and a file.
const FILE_SIZE_BYTES_MIN: u64 = 2 << 20;

/// What a flush wrote, and what it changes besides, by table.
#[derive(Default)]
pub(super) struct Rows {
    /// Table by table.
    pub(super) row_sets: Vec<Arc<HeldRowSet>>,
    pub(super) truncates: Vec<(u32, Vec<u64>)>,
    pub(super) divisions: Vec<(u32, Division)>,
}

/// Rows that become a RowSet.
struct Part {
    head: RowSetHead,
    size_bytes: u64,
    /// Until they are written.
    rows: Mutex<GatheredRows>,
}

/// Writes the RowSets of all tables; `None` if the database is being closed meanwhile.
pub(super) fn write_rows(shared: &Shared, frozen: &Frozen) -> Result<Option<Rows>> {
    let mut news = Rows::default();
    let mut parts = Vec::new();
    for table_id in frozen.generation.table_ids() {
        let Some(table) = shared.table_state(table_id & !LOCATIONS_BIT) else {
            continue;
        };
        gather(shared, frozen, table_id, &table, &mut parts, &mut news);
        if shared.generations.is_stopping() {
            return Ok(None);
        }
    }
    let threads = shared.tree_sizes.compaction_threads;
    let files = shared_out(&parts, threads);
    let write_size_bytes = match files.len() {
        1 => shared.write_size_bytes(),
        count => shared_write_size_bytes(shared, count),
    };
    let written = parallel::map(&files, threads, |parts| {
        write_file(shared, &frozen.generation, parts, write_size_bytes)
    });
    let mut failed = None;
    for row_sets in written {
        match row_sets {
            Ok(Some(row_sets)) => news.row_sets.extend(row_sets),
            // Neither a cancel nor a lack of space hides what ends writing.
            other if !failed.as_ref().is_some_and(ends_writing) => {
                failed = Some(other.map(|_| ()));
            }
            _ => {}
        }
    }
    match failed {
        None => Ok(Some(news)),
        Some(failed) => {
            news.row_sets.iter().for_each(|held| held.file.retire());
            failed.map(|()| None)
        }
    }
}

/// Whether what became of a file is a failure that a flush is not tried again after.
fn ends_writing(failed: &Result<()>) -> bool {
    matches!(failed, Err(error) if !matches!(error, Error::NoSpace { .. }))
}

/// Tells a table's rows apart by fragment. Ends early if the database is being closed: each snapshot within the generation
/// costs a look at all of them.
fn gather(
    shared: &Shared,
    frozen: &Frozen,
    table_id: u32,
    table: &TableState,
    parts: &mut Vec<Part>,
    news: &mut Rows,
) {
    let generation = &*frozen.generation;
    let Some(rows) = generation.table(table_id) else {
        return;
    };
    let trees = table.trees.load_full();
    let is_locations = table_id & LOCATIONS_BIT != 0;
    let tree = if is_locations {
        &trees.locations
    } else {
        &trees.rows
    };
    let size_bytes = share_bytes(generation, table_id);
    let division = early_division(&shared.tree_sizes, &tree.fragments, size_bytes);
    let divided = division
        .as_ref()
        .and_then(|division| tree.fragments.divided(FragmentId::ROOT, division));
    let fragments = divided.as_ref().unwrap_or(&tree.fragments);
    let to = Target {
        sizes: &shared.tree_sizes,
        fragments,
        size_bytes,
        leaf_count: leaf_count(fragments, generation, table_id),
    };
    // The locations are read as of the last export only, so they know no boundaries.
    let mut cuts = if is_locations {
        Vec::new()
    } else {
        shared.boundaries(table_id)
    };
    cuts.retain(|&seq| generation.seq_from() < seq && seq < frozen.seq_to);
    cuts.push(frozen.seq_to);
    let mut seq_from = generation.seq_from();
    for seq_to in cuts {
        if shared.generations.is_stopping() {
            return;
        }
        let (after_seq, seq) = written_between(table_id, seq_from, seq_to);
        let fragment_of = |hash, key: &[u8]| to.fragment(hash, key);
        let gathered = rows.gather(generation.bodies(), after_seq, seq, fragment_of);
        parts.extend(gathered.into_iter().map(|(fragment_id, rows)| Part {
            head: RowSetHead {
                table_id,
                fragment_id: fragment_id.0,
                seq_from,
                seq_to,
            },
            size_bytes: rows.size_bytes(),
            rows: Mutex::new(rows),
        }));
        seq_from = seq_to;
    }
    if divided.is_some() {
        news.divisions.extend(division.map(|one| (table_id, one)));
    }
    let seqs = rows.truncates();
    if !seqs.is_empty() {
        news.truncates.push((table_id, seqs));
    }
}

/// The sequences that a RowSet's rows were written after and up to. Locations of exported rows bear numbers of their own, so all
/// in a generation are taken.
fn written_between(table_id: u32, seq_from: u64, seq_to: u64) -> (u64, u64) {
    if table_id & LOCATIONS_BIT == 0 {
        (seq_from, seq_to)
    } else {
        (0, u64::MAX)
    }
}

/// Shares parts out to files of about the same size, at most so many, in the order of the parts.
fn shared_out(parts: &[Part], files_max: usize) -> Vec<&[Part]> {
    let all: u64 = parts.iter().map(|part| part.size_bytes).sum();
    let count = (all / FILE_SIZE_BYTES_MIN).clamp(1, files_max.max(1) as u64);
    let share = all.div_ceil(count).max(1);
    let mut before: u64 = 0;
    // A part is in the share that its first byte lies in.
    let numbers = parts.iter().map(|part| {
        let number = before / share;
        before += part.size_bytes;
        number
    });
    let numbers: Vec<u64> = numbers.collect();
    let mut left = parts;
    numbers
        .chunk_by(|a, b| a == b)
        .filter_map(|of_file| left.split_off(..of_file.len()))
        .collect()
}

/// Writes parts to a file of their own; `None` if the database is being closed meanwhile.
fn write_file(
    shared: &Shared,
    generation: &Generation,
    parts: &[Part],
    write_size_bytes: usize,
) -> Result<Option<Vec<Arc<HeldRowSet>>>> {
    let mut file = OutputFile::new(shared, write_size_bytes);
    let mut piece_bytes = 0;
    for part in parts {
        let written = write_part(shared, generation, part, &mut file, &mut piece_bytes);
        if !matches!(written, Ok(true)) {
            file.discard();
            return written.map(|_| None);
        }
    }
    shared.scheduler.pace.flushed(piece_bytes as u64);
    file.finish().map(Some)
}

/// Whether the RowSet was written to its end. `piece_bytes` are those that the pace was not told of yet, of all parts of the
/// file: each may be less than a piece.
fn write_part(
    shared: &Shared,
    generation: &Generation,
    part: &Part,
    file: &mut OutputFile<'_>,
    piece_bytes: &mut usize,
) -> Result<bool> {
    let head = part.head;
    let Some(table) = generation.table(head.table_id) else {
        return Ok(true);
    };
    let rows = std::mem::take(&mut *part.rows.lock());
    let (_, seq) = written_between(head.table_id, head.seq_from, head.seq_to);
    file.begin(head);
    let is_whole = table.each_sorted(generation.bodies(), rows, seq, |row, hash| {
        file.push(row, hash)?;
        *piece_bytes += row.key.len() + row.value.map_or(0, <[u8]>::len);
        if *piece_bytes >= shared.write_size_bytes() {
            shared.scheduler.pace.flushed(*piece_bytes as u64);
            *piece_bytes = 0;
        }
        Ok(!shared.generations.is_stopping())
    })?;
    file.end()?;
    Ok(is_whole)
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
fn leaf_count(tree: &FragmentTree<Arc<HeldRowSet>>, generation: &Generation, table_id: u32) -> u64 {
    let Some(children) = &tree.root().children else {
        return 1;
    };
    if !matches!(tree.sharding(), Sharding::Range) {
        return 1;
    }
    let table = generation.table(table_id);
    let bounds = table.and_then(|table| table.key_bounds(generation.bodies()));
    let leaf_of = |key| children.division.child_of(FragmentId::ROOT, 0, key);
    bounds.map_or(1, |(first, last)| {
        1 + leaf_of(last).saturating_sub(leaf_of(first)) as u64
    })
}
