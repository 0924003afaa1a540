//! What a leaf is due for, from the sizes of its RowSets (docs/fragment-tree.md, "Policies of a leaf").

use std::ops::Range;
use std::sync::Arc;

use super::files::HeldRowSet;
use super::plan::JobKind;
use super::scheduler::Depth;
use super::state::Described;

/// A leaf with more RowSets than this merges some.
pub(crate) const LEAF_ROW_SETS_MAX: usize = 12;
/// Deletes that may have emptied one in so many of a leaf's bytes have it written anew.
const DELETED_SHARE: u64 = 3;

/// A leaf's RowSets.
#[derive(Debug)]
pub(super) struct Leaf<'a> {
    /// Newest first, without those that a truncate emptied.
    pub(super) row_sets: &'a [Arc<HeldRowSet>],
    /// See [`groups`].
    pub(super) groups: Vec<Range<usize>>,
    /// P-Size.
    pub(super) size_bytes_max: u64,
    pub(super) can_divide: bool,
}

/// What a leaf is due for, with which of its RowSets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) kind: JobKind,
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) if_worth: bool,
}

impl Due {
    fn merge(range: Range<usize>, if_worth: bool) -> Self {
        Due {
            kind: JobKind::Merge,
            start: range.start,
            end: range.end,
            if_worth,
        }
    }
}

impl Leaf<'_> {
    pub(super) fn due(&self, depth: Depth) -> Option<Due> {
        let end = self.row_sets.len();
        // One that would soon be divided is not merged before.
        let is_many = end > LEAF_ROW_SETS_MAX;
        let size_bytes_max = self.size_bytes_max / 4 * if is_many { 3 } else { 4 };
        if self.can_divide && size_bytes(self.row_sets) > size_bytes_max {
            return Some(Due {
                kind: JobKind::Divide,
                start: 0,
                end,
                if_worth: false,
            });
        }
        let merge = match depth {
            Depth::Regular => None,
            Depth::Idle => self.stirred_group().map(|range| Due::merge(range, true)),
            Depth::Full => self.reducible_group().map(|range| Due::merge(range, false)),
        };
        let regular = || {
            self.cheapest()
                .or_else(|| self.deleted())
                .map(|range| Due::merge(range, false))
        };
        match depth {
            Depth::Full => merge.or_else(regular),
            _ => regular().or(merge),
        }
    }

    fn of(&self, range: &Range<usize>) -> &[Arc<HeldRowSet>] {
        self.row_sets.get(range.clone()).unwrap_or_default()
    }

    /// Whether writing a group anew may leave fewer rows. Tombstones go where nothing older is.
    fn is_reducible(&self, range: &Range<usize>) -> bool {
        let is_bottom = range.end == self.row_sets.len();
        range.len() > 1 || (is_bottom && tombstones(self.of(range)) > 0)
    }

    fn reducible_group(&self) -> Option<Range<usize>> {
        let mut groups = self.groups.iter();
        groups.find(|range| self.is_reducible(range)).cloned()
    }

    /// A group that was not surveyed since it got its newest RowSet.
    fn stirred_group(&self) -> Option<Range<usize>> {
        let is_new = |range: &&Range<usize>| {
            let newest = self.row_sets.get(range.start);
            self.is_reducible(range) && newest.is_some_and(|held| !held.is_surveyed())
        };
        self.groups.iter().find(is_new).cloned()
    }

    /// The oldest group, if its tombstones may well have emptied much of it.
    fn deleted(&self) -> Option<Range<usize>> {
        let range = self.groups.last()?.clone();
        let row_sets = self.of(&range);
        let oldest = row_sets.last()?.meta();
        let row_size_bytes = oldest.size_bytes / oldest.row_count.max(1);
        let deleted_bytes = tombstones(row_sets).saturating_mul(row_size_bytes);
        let is_due = self.is_reducible(&range)
            && deleted_bytes.saturating_mul(DELETED_SHARE) >= size_bytes(row_sets);
        is_due.then_some(range)
    }

    /// The RowSets that stand together of which merging costs the fewest bytes for each that is saved, if the leaf has too
    /// many. Half of the most a leaf may have at least, where so many may become one, so that a row is written again about
    /// once for each tenfold growth of its leaf, and the large ones are left alone.
    fn cheapest(&self) -> Option<Range<usize>> {
        if self.row_sets.len() <= LEAF_ROW_SETS_MAX {
            return None;
        }
        let runs = self.groups.iter().flat_map(|group| {
            let starts = group.clone();
            starts.flat_map(move |start| (start + 2..=group.end).map(move |end| start..end))
        });
        runs.min_by_key(|run| {
            let is_short = run.len() <= LEAF_ROW_SETS_MAX / 2;
            (is_short, size_bytes(self.of(run)) / (run.len() as u64 - 1))
        })
    }
}

pub(super) fn size_bytes(row_sets: &[Arc<HeldRowSet>]) -> u64 {
    row_sets.iter().map(|held| held.meta().size_bytes).sum()
}

fn tombstones(row_sets: &[Arc<HeldRowSet>]) -> u64 {
    row_sets
        .iter()
        .map(|held| held.meta().tombstone_count)
        .sum()
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

/// The RowSets, newest first, in groups of which each may become one RowSet.
pub(super) fn groups(
    row_sets: &[Arc<HeldRowSet>],
    truncates: &[u64],
    boundaries: &[u64],
) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut newest: Option<&Arc<HeldRowSet>> = None;
    for (i, held) in row_sets.iter().enumerate() {
        match (newest, groups.last_mut()) {
            (Some(newest), Some(group)) if may_merge(held, newest, truncates, boundaries) => {
                group.end = i + 1;
            }
            _ => {
                newest = Some(held);
                groups.push(i..i + 1);
            }
        }
    }
    groups
}
