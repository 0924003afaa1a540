//! What a leaf is due for, from the sizes of its RowSets (docs/fragment-tree.md, "Policies of a leaf").

use std::ops::Range;
use std::sync::Arc;

use super::resolve;
use crate::schedule::Depth;
use crate::schedule::job::JobKind;
use crate::tree::files::HeldRowSet;
use crate::tree::state::Described;

/// A leaf with more RowSets than this merges some.
pub(crate) const LEAF_ROW_SETS_MAX: usize = 14;
/// A leaf with more RowSets than this, which only held snapshots keep apart, is not resolved: the patch of each names all older ones, so
/// that what is known of a leaf grows with the square of their number.
const RESOLVED_ROW_SETS_MAX: usize = 4 * LEAF_ROW_SETS_MAX;
/// A leaf that held snapshots make too large is divided beyond so many times P-Size.
const HELD_SIZES_MAX: u64 = 8;
/// A group of RowSets is written anew where so large a part of what is alive is dead.
const DEAD_SHARE: u64 = 2;
/// The same while a generation is flushed.
const DEAD_SHARE_FLUSHING: u64 = 1;
/// The same while nobody writes, of all.
const DEAD_SHARE_IDLE: u64 = 16;

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
    /// The index of so many rows fits into memory beside all else.
    pub(super) rows_max: u64,
    /// Whether patches say what is replaced. If not, each row is taken to replace one.
    pub(super) has_patches: bool,
    /// Whether a generation is flushed, so that more is about to die.
    pub(super) is_flushing: bool,
}

/// What a leaf is due for, with which of its RowSets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) kind: JobKind,
    pub(super) row_sets: Range<usize>,
}

impl Leaf<'_> {
    /// What is due first. `spend` is asked for the bytes that a job writes which only gives back space.
    pub(super) fn due(&self, depth: Depth, spend: impl FnOnce(u64) -> bool) -> Option<Due> {
        let due = |kind, row_sets| Some(Due { kind, row_sets });
        let all = 0..self.row_sets.len();
        if let Some(row_sets) = self.left_apart() {
            return due(JobKind::Merge, row_sets);
        }
        if self.is_too_large(0) {
            return if self.would_fit() {
                due(JobKind::Merge, all)
            } else {
                due(JobKind::Divide, all)
            };
        }
        let reducible = match depth {
            Depth::Full => self.reducible_group(),
            _ => self.cheapest().or_else(|| self.dead_group()),
        };
        if let Some(row_sets) = reducible {
            return due(JobKind::Merge, row_sets);
        }
        let is_idle = depth == Depth::Idle;
        if self.has_patches
            && self.may_be_resolved()
            && resolve::is_due(self.row_sets, is_idle, self.is_flushing)
        {
            return due(JobKind::Resolve, all);
        }
        if is_idle
            && let Some((row_sets, left_bytes)) = self.wasteful_group()
            && spend(left_bytes)
        {
            return due(JobKind::Merge, row_sets);
        }
        None
    }

    fn of(&self, range: &Range<usize>) -> &[Arc<HeldRowSet>] {
        self.row_sets.get(range.clone()).unwrap_or_default()
    }

    /// Whether it is to be divided, if so many more bytes are dead than patches tell. What a merge gives back is no reason
    /// to, within limits: compactions need memory for all. A leaf that would soon be divided is not merged before, where
    /// that costs about as much.
    fn is_too_large(&self, more_dead_bytes: u64) -> bool {
        let (all_bytes, size_bytes_max) = (size_bytes(self.row_sets), self.size_bytes_max);
        let nearly_bytes = size_bytes_max / 4 * 3;
        if !self.can_divide || all_bytes <= nearly_bytes || self.is_only_held() {
            return false;
        }
        let dead_bytes = self.reclaimable_bytes().saturating_add(more_dead_bytes);
        let live_bytes = all_bytes.saturating_sub(dead_bytes);
        let merged = || self.cheapest().map_or(0, |run| size_bytes(self.of(&run)));
        live_bytes > size_bytes_max
            || all_bytes > (size_bytes_max / 2).saturating_mul(3)
            || (live_bytes > nearly_bytes && merged() > live_bytes / 2)
    }

    /// Whether each group of a leaf's RowSets is small enough: what makes the leaf large may be versions that go with the snapshots that
    /// keep the groups apart, and leaves that were divided for them would stay small for ever. Nobody merges them all before, and within
    /// limits there is memory for it then.
    fn is_only_held(&self) -> bool {
        let mut groups = self.groups.iter();
        self.groups.len() > 1
            && row_count(self.row_sets) <= self.rows_max
            && size_bytes(self.row_sets) / HELD_SIZES_MAX <= self.size_bytes_max
            && groups.all(|group| size_bytes(self.of(group)) <= self.size_bytes_max)
    }

    /// RowSets to be merged of a leaf that snapshots kept from it: they hold many versions of the same rows, so what of it is alive
    /// is not known before, nor whether it is too large.
    fn left_apart(&self) -> Option<Range<usize>> {
        if self.may_be_resolved() {
            return None;
        }
        let run = self.cheapest()?;
        (row_count(self.of(&run)) <= self.rows_max).then_some(run)
    }

    fn may_be_resolved(&self) -> bool {
        self.row_sets.len() <= RESOLVED_ROW_SETS_MAX
    }

    /// Whether a leaf that is too large is so only for what is dead in it.
    fn would_fit(&self) -> bool {
        let all = 0..self.row_sets.len();
        self.is_reducible(&all) && self.fits_after(self.dead_bytes(&all))
    }

    /// Whether a merge of all makes a leaf of which so much is dead small enough.
    fn fits_after(&self, dead_bytes: u64) -> bool {
        let left_bytes = size_bytes(self.row_sets).saturating_sub(dead_bytes);
        self.groups.len() == 1 && left_bytes < self.size_bytes_max / 2
    }

    /// What a job of the whole leaf is done as, if so many more bytes are dead than patches tell: where most is replaced,
    /// merging at once saves finding out what.
    pub(super) fn refined(
        &self,
        kind: JobKind,
        depth: Depth,
        more_dead_bytes: u64,
        spend: impl FnOnce(u64) -> bool,
    ) -> JobKind {
        let all = 0..self.row_sets.len();
        let dead_bytes = self.dead_bytes(&all).saturating_add(more_dead_bytes);
        let all_bytes = size_bytes(self.row_sets);
        let left_bytes = all_bytes.saturating_sub(dead_bytes);
        let pays = match kind {
            JobKind::Divide => self.fits_after(dead_bytes),
            JobKind::Resolve => {
                let is_wasteful = depth == Depth::Idle && dead_bytes >= all_bytes / DEAD_SHARE_IDLE;
                dead_bytes >= left_bytes / DEAD_SHARE || (is_wasteful && spend(left_bytes))
            }
            _ => false,
        };
        if self.groups.len() != 1 {
            return kind;
        }
        match kind {
            _ if pays => JobKind::Merge,
            // Once so much is known to be dead, the leaf is not too large. Then nothing more is unknown, so this ends.
            JobKind::Divide if more_dead_bytes > 0 && !self.is_too_large(more_dead_bytes) => {
                match self.may_be_resolved() {
                    true => JobKind::Resolve,
                    false => JobKind::Merge,
                }
            }
            kind => kind,
        }
    }

    /// Whether writing a group anew may leave fewer rows. Tombstones go where nothing older is.
    fn is_reducible(&self, range: &Range<usize>) -> bool {
        range.len() > 1 || self.droppable_bytes(range) > 0
    }

    fn reducible_group(&self) -> Option<Range<usize>> {
        let mut groups = self.groups.iter();
        groups.find(|range| self.is_reducible(range)).cloned()
    }

    /// Bytes of the tombstones that go when a group is written anew.
    fn droppable_bytes(&self, range: &Range<usize>) -> u64 {
        let tombstone_bytes = |held: &Arc<HeldRowSet>| {
            let meta = held.meta();
            share(meta.size_bytes, meta.tombstone_count, meta.row_count)
        };
        let is_bottom = range.end == self.row_sets.len();
        let all = self.of(range).iter().map(tombstone_bytes);
        if is_bottom { all.sum() } else { 0 }
    }

    /// Bytes that go when a group is written anew, as far as is known.
    fn dead_bytes(&self, range: &Range<usize>) -> u64 {
        let row_sets = self.of(range);
        let replaced_bytes = if self.has_patches {
            resolve::dead_bytes(row_sets, |_, _| true)
        } else {
            size_bytes(row_sets.split_last().map_or(&[][..], |(_, newer)| newer))
        };
        self.droppable_bytes(range).saturating_add(replaced_bytes)
    }

    /// Bytes that go when each group is written anew, as far as patches tell. Without patches nothing is known.
    fn reclaimable_bytes(&self) -> u64 {
        let groups = self.groups.iter().filter(|_| self.has_patches);
        groups.map(|range| self.dead_bytes(range)).sum()
    }

    /// A group of which much is dead.
    fn dead_group(&self) -> Option<Range<usize>> {
        let dead_share = if self.is_flushing {
            DEAD_SHARE_FLUSHING
        } else {
            DEAD_SHARE
        };
        let is_due = |range: &&Range<usize>| {
            let dead_bytes = self.dead_bytes(range);
            let left_bytes = size_bytes(self.of(range)).saturating_sub(dead_bytes);
            dead_bytes > 0 && dead_bytes >= left_bytes / dead_share
        };
        self.groups.iter().find(is_due).cloned()
    }

    /// A group of which something is dead, and the bytes that are not.
    fn wasteful_group(&self) -> Option<(Range<usize>, u64)> {
        let mut groups = self.groups.iter();
        groups.find_map(|range| {
            let (dead_bytes, all_bytes) = (self.dead_bytes(range), size_bytes(self.of(range)));
            let is_due = dead_bytes > 0 && dead_bytes >= all_bytes / DEAD_SHARE_IDLE;
            is_due.then(|| (range.clone(), all_bytes.saturating_sub(dead_bytes)))
        })
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

pub(super) fn row_count(row_sets: &[Arc<HeldRowSet>]) -> u64 {
    row_sets.iter().map(|held| held.meta().row_count).sum()
}

/// `bytes` × `part` / `whole`.
pub(super) fn share(bytes: u64, part: u64, whole: u64) -> u64 {
    let product = u128::from(bytes) * u128::from(part);
    u64::try_from(product / u128::from(whole.max(1))).unwrap_or(u64::MAX)
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

#[cfg(test)]
mod tests;
