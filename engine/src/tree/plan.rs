//! Which compaction is due.

use std::sync::Arc;

use super::deletes;
use super::files::HeldRowSet;
use super::fragment::{Fragment, FragmentId};
use super::resolve;
use super::state::{Described, TableTree};
use crate::generation::LOCATIONS_BIT;
use crate::shared::{Shared, TreeSizes};

/// A leaf with more RowSets than this merges some.
const LEAF_ROW_SETS_MAX: usize = 8;
/// A merge takes the next older RowSet in while that is not larger than so many times what it has.
const SIMILAR_FACTOR: u64 = 4;
/// The P-Size of a leaf is between 3/4 and 5/4 of what is set, so that uniform leaves don't divide all at once.
const JITTER_STEPS: u64 = 64;

/// What is to be done with the RowSets of a fragment.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) table_id: u32,
    pub(crate) fragment_id: FragmentId,
    pub(crate) kind: JobKind,
    /// Newest first.
    pub(crate) inputs: Vec<Arc<HeldRowSet>>,
    /// RowSets and truncates that nobody can see any more.
    pub(crate) dead: Vec<Arc<HeldRowSet>>,
    /// Whether the fragment holds nothing older than the inputs.
    pub(crate) is_bottom: bool,
}

/// The kinds of compaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JobKind {
    /// RowSets of a leaf become one.
    Merge,
    /// The rows of a leaf go to new children.
    Divide,
    /// The rows of a fragment go to its children.
    PushDown,
    /// What the RowSets of a leaf replace becomes known.
    Resolve,
    /// Only what is dead goes.
    Sweep,
}

impl JobKind {
    /// As statistics name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            JobKind::Merge => "merge",
            JobKind::Resolve => "resolve",
            JobKind::Divide => "divide",
            JobKind::PushDown => "push_down",
            JobKind::Sweep => "sweep",
        }
    }
}

/// The compaction that is due first in a tree, if any.
pub(crate) fn plan(
    shared: &Shared,
    table_id: u32,
    tree: &TableTree<Arc<HeldRowSet>>,
) -> Option<Job> {
    // After the tree was taken: see `boundaries`.
    let boundaries = boundaries_of(shared, table_id);
    for fragment in tree.fragments.fragments() {
        if fragment.row_sets.is_empty() {
            continue;
        }
        let dead_from = dead_from(fragment, tree, &boundaries);
        let (live, dead): (Vec<_>, Vec<_>) = fragment
            .row_sets
            .iter()
            .cloned()
            .partition(|held| !dead_from.contains(&place(held)));
        let job = |kind, inputs, is_bottom| Job {
            table_id,
            fragment_id: fragment.id,
            kind,
            inputs,
            dead: dead.clone(),
            is_bottom,
        };
        let sizes = &shared.tree_sizes;
        if fragment.children.is_some() {
            let total: u64 = live.iter().map(|held| held.meta().size_bytes).sum();
            let enough = sizes.flush_size_bytes_min << sizes.child_bits;
            if total > enough || live.len() > LEAF_ROW_SETS_MAX {
                return Some(job(JobKind::PushDown, live, false));
            }
        } else if size_bytes(&live) > fragment_size_bytes_max(sizes, fragment.id)
            && can_divide(fragment.id, sizes.child_bits)
        {
            return Some(job(JobKind::Divide, live, true));
        } else if let Some((start, end)) = similar(&live, &tree.truncates, &boundaries) {
            let is_bottom = end == live.len();
            let inputs = live.get(start..end).unwrap_or_default().to_vec();
            return Some(job(JobKind::Merge, inputs, is_bottom));
        } else if is_mostly_dead(&live, &tree.truncates, &boundaries) {
            return Some(job(JobKind::Merge, live, true));
        } else if table_id & LOCATIONS_BIT == 0 && resolve::is_due(&live) {
            return Some(Job {
                dead: Vec::new(),
                ..job(JobKind::Resolve, live, false)
            });
        }
        if !dead.is_empty() {
            return Some(job(JobKind::Sweep, Vec::new(), false));
        }
    }
    None
}

/// The boundaries of a table; its locations have none.
pub(super) fn boundaries_of(shared: &Shared, table_id: u32) -> Vec<u64> {
    if table_id & LOCATIONS_BIT == 0 {
        shared.boundaries(table_id)
    } else {
        Vec::new()
    }
}

fn place(held: &Arc<HeldRowSet>) -> (u64, u64) {
    (held.meta().file_number, held.meta().offset)
}

fn size_bytes(row_sets: &[Arc<HeldRowSet>]) -> u64 {
    row_sets.iter().map(|held| held.meta().size_bytes).sum()
}

/// P-Size of a leaf.
fn fragment_size_bytes_max(sizes: &TreeSizes, id: FragmentId) -> u64 {
    let step = xxhash_rust::xxh3::xxh3_64(&id.0.to_le_bytes()) % JITTER_STEPS;
    let size = sizes.fragment_size_bytes_max;
    size - size / 4 + size / 2 / JITTER_STEPS * step
}

/// Whether an id has room for those of its children.
fn can_divide(id: FragmentId, child_bits: u32) -> bool {
    id.0.leading_zeros() >= child_bits
}

/// The RowSets that a truncate or a range delete emptied and that no boundary before it needs.
fn dead_from(
    fragment: &Fragment<Arc<HeldRowSet>>,
    tree: &TableTree<Arc<HeldRowSet>>,
    boundaries: &[u64],
) -> Vec<(u64, u64)> {
    let truncates = &tree.truncates;
    let is_dead = |held: &&Arc<HeldRowSet>| {
        let head = held.meta().head;
        let after = truncates.partition_point(|&truncate| truncate <= head.seq_to);
        let is_truncated = truncates.get(after).is_some_and(|&truncate| {
            let is_needed = |&seq: &u64| head.seq_from < seq && seq < truncate;
            !boundaries.iter().any(is_needed)
        });
        is_truncated || deletes::is_emptied(held.meta(), &tree.deletes, boundaries)
    };
    fragment
        .row_sets
        .iter()
        .filter(is_dead)
        .map(place)
        .collect()
}

/// Whether a merge of all RowSets of a leaf would free half of the largest one.
fn is_mostly_dead(row_sets: &[Arc<HeldRowSet>], truncates: &[u64], boundaries: &[u64]) -> bool {
    let largest = row_sets.iter().map(|held| held.meta().size_bytes).max();
    let dead = resolve::dead_bytes(row_sets, |older, newer| {
        may_merge(older, newer, truncates, boundaries)
    });
    dead > 0 && dead >= largest.unwrap_or(0) / 2
}

/// Whether an older and a newer RowSet may become one.
pub(super) fn may_merge(
    older: &Arc<HeldRowSet>,
    newer: &Arc<HeldRowSet>,
    truncates: &[u64],
    boundaries: &[u64],
) -> bool {
    let (older, newer) = (older.meta().head, newer.meta().head);
    let between = |&seq: &u64| older.seq_from < seq && seq < newer.seq_to;
    let divides = |&truncate: &u64| older.seq_to < truncate && truncate <= newer.seq_to;
    !boundaries.iter().any(between) && !truncates.iter().any(divides)
}

/// The RowSets of a leaf that are to be merged: from a place, newest first, to the one behind the last.
fn similar(
    row_sets: &[Arc<HeldRowSet>],
    truncates: &[u64],
    boundaries: &[u64],
) -> Option<(usize, usize)> {
    if row_sets.len() <= LEAF_ROW_SETS_MAX {
        return None;
    }
    let mut best: Option<(usize, usize)> = None;
    for start in 0..row_sets.len() {
        let mut end = start + 1;
        while let (Some(newest), Some(older)) = (row_sets.get(start), row_sets.get(end)) {
            let taken = size_bytes(row_sets.get(start..end).unwrap_or_default());
            if older.meta().size_bytes > taken.saturating_mul(SIMILAR_FACTOR)
                || !may_merge(older, newest, truncates, boundaries)
            {
                break;
            }
            end += 1;
        }
        if end - start > best.map_or(1, |(start, end)| end - start) {
            best = Some((start, end));
        }
    }
    best
}
