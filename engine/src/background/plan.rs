//! Which compaction is due in a table: looks through its fragments.

use std::cmp::Reverse;
use std::sync::Arc;

use super::deletes;
use super::flush::INDEXED_ROW_SIZE_BYTES;
use super::leaf_policy::{LEAF_ROW_SETS_MAX, Leaf, groups, row_count, size_bytes};
use super::resolve::sampled_dead_bytes;
use crate::error::Result;
use crate::generation::LOCATIONS_BIT;
use crate::schedule::job::{Job, JobKind};
use crate::schedule::{Depth, Planner};
use crate::sharding::Sharding;
use crate::shared::Shared;
use crate::tree::files::HeldRowSet;
use crate::tree::fragment::FragmentId;
use crate::tree::growth::TreeSizes;
use crate::tree::splits::can_split;
use crate::tree::state::{Described, TableTree};
use crate::tree::table::TableState;

/// The P-Size of a leaf is between 3/4 and 5/4 of what is set, so that uniform leaves don't divide all at once.
const JITTER_STEPS: u64 = 64;
/// What a small file costs at least.
const FILE_COST_BYTES: u64 = 4096;
/// The index of a leaf that held snapshots make large takes this part of the memory budget at most, once all of it is merged.
const INDEX_PARTS: u64 = 8;
/// While nobody writes, little goes down into so many files at most.
const IDLE_FILES_MAX: u64 = 256;

impl Planner for Shared {
    fn visible_seq(&self) -> u64 {
        self.pins.visible_seq()
    }

    fn is_flushing(&self) -> bool {
        self.generations.is_flushing()
    }

    fn plan(
        &self,
        table_id: u32,
        depth: Depth,
        is_claimed: &dyn Fn(u32, FragmentId) -> bool,
    ) -> Option<Job> {
        plan_table(self, &*self.table_state(table_id)?, depth, is_claimed)
    }
}

/// The compaction that is due first in a table, in fragments that nobody claims.
fn plan_table(
    shared: &Shared,
    table: &TableState,
    depth: Depth,
    is_claimed: impl Fn(u32, FragmentId) -> bool,
) -> Option<Job> {
    [table.id, table.id | LOCATIONS_BIT]
        .into_iter()
        .find_map(|table_id| {
            let trees = table.trees.load();
            let tree = if table_id & LOCATIONS_BIT == 0 {
                trees.rows.clone()
            } else {
                trees.locations.clone()
            };
            let job = plan_tree(shared, table_id, &tree, depth, &is_claimed);
            job.or_else(|| forget_job(shared, table_id, tree, depth, &is_claimed))
        })
}

fn plan_tree(
    shared: &Shared,
    table_id: u32,
    tree: &Arc<TableTree<Arc<HeldRowSet>>>,
    depth: Depth,
    is_claimed: &impl Fn(u32, FragmentId) -> bool,
) -> Option<Job> {
    // After the tree was taken: see `boundaries`.
    let boundaries = boundaries_of(shared, table_id);
    let fragments = tree.fragments.fragments();
    let mut filled: Vec<_> = fragments
        .into_iter()
        .filter(|fragment| !fragment.row_sets.is_empty() && !is_claimed(table_id, fragment.id))
        .collect();
    // Where there is more to do than can be done, none is left behind for those before it.
    filled.sort_by_key(|fragment| Reverse(fragment.row_sets.len()));
    filled.into_iter().find_map(|fragment| {
        let (dead, live): (Vec<_>, Vec<_>) = fragment
            .row_sets
            .iter()
            .cloned()
            .partition(|held| is_dead(held, tree, &boundaries));
        let job = |kind, inputs, is_bottom| Job {
            table_id,
            fragment_id: fragment.id,
            kind,
            depth,
            tree: tree.clone(),
            inputs,
            dead: dead.clone(),
            is_bottom,
        };
        if let Some(children) = &fragment.children
            && is_push_down_due(shared, children.fragments.len(), &live, depth)
        {
            return Some(job(JobKind::PushDown, live, false));
        }
        if fragment.children.is_none()
            && let Some(due) = leaf(shared, tree, table_id, fragment.id, &live, &boundaries)
                .due(depth, |left_bytes| shared.scheduler.spend(left_bytes))
        {
            let is_bottom = due.row_sets.end == live.len();
            let inputs = live.get(due.row_sets).unwrap_or_default().to_vec();
            return Some(job(due.kind, inputs, is_bottom));
        }
        (!dead.is_empty()).then(|| job(JobKind::Sweep, Vec::new(), false))
    })
}

fn leaf<'a>(
    shared: &Shared,
    tree: &TableTree<Arc<HeldRowSet>>,
    table_id: u32,
    id: FragmentId,
    live: &'a [Arc<HeldRowSet>],
    boundaries: &[u64],
) -> Leaf<'a> {
    Leaf {
        row_sets: live,
        groups: groups(live, &tree.truncates, boundaries),
        size_bytes_max: fragment_size_bytes_max(&shared.tree_sizes, id),
        can_divide: match tree.fragments.sharding() {
            Sharding::Range => can_split(live),
            _ => can_divide(id, shared.tree_sizes.child_bits),
        },
        rows_max: shared.store.cache.budget().limit_bytes() / INDEX_PARTS / INDEXED_ROW_SIZE_BYTES,
        has_patches: table_id & LOCATIONS_BIT == 0,
        // On a full disk the flush waits for just the space that compactions may free.
        is_flushing: shared.generations.has_flush_under_way(),
    }
}

/// A job as it is best done, after a look at a few rows of what is not resolved.
pub(super) fn refine(shared: &Shared, job: &mut Job) -> Result<()> {
    if !matches!(job.kind, JobKind::Divide | JobKind::Resolve) || job.table_id & LOCATIONS_BIT != 0
    {
        return Ok(());
    }
    let boundaries = boundaries_of(shared, job.table_id);
    let (id, inputs) = (job.fragment_id, &job.inputs);
    let leaf = leaf(shared, &job.tree, job.table_id, id, inputs, &boundaries);
    let more_dead_bytes = sampled_dead_bytes(inputs)?;
    job.kind = leaf.refined(job.kind, job.depth, more_dead_bytes, |left_bytes| {
        shared.scheduler.spend(left_bytes)
    });
    Ok(())
}

/// While nobody writes also little goes down, as far as it was earned and is worth its files: what lies here when writers
/// come back holds up all that they write.
fn is_push_down_due(
    shared: &Shared,
    child_count: usize,
    live: &[Arc<HeldRowSet>],
    depth: Depth,
) -> bool {
    let sizes = &shared.tree_sizes;
    let (enough, all_bytes) = (
        sizes.flush_size_bytes_min << sizes.child_bits,
        size_bytes(live),
    );
    all_bytes > enough
        || live.len() > LEAF_ROW_SETS_MAX
        || (depth == Depth::Full && !live.is_empty())
        || (depth == Depth::Idle && !live.is_empty() && {
            // Each child that gets a row gets a file.
            let file_count = row_count(live).min(child_count as u64);
            file_count <= IDLE_FILES_MAX
                && (shared.scheduler).spend(all_bytes + file_count * FILE_COST_BYTES)
        })
}

/// The boundaries of a table; its locations have none.
pub(super) fn boundaries_of(shared: &Shared, table_id: u32) -> Vec<u64> {
    if table_id & LOCATIONS_BIT == 0 {
        shared.boundaries(table_id)
    } else {
        Vec::new()
    }
}

/// P-Size of a leaf.
fn fragment_size_bytes_max(sizes: &TreeSizes, id: FragmentId) -> u64 {
    let step = xxhash_rust::xxh3::xxh3_64(&id.0.to_le_bytes()) % JITTER_STEPS;
    let size = sizes.fragment_size_bytes_max;
    size - size / 4 + size / 2 / JITTER_STEPS * step
}

/// Whether an id has room for those of its children.
fn can_divide(id: FragmentId, child_bits: u32) -> bool {
    id.child_bits_max() >= child_bits
}

/// Whether a truncate or a range delete emptied a RowSet, and no boundary before it needs it.
fn is_dead(held: &Arc<HeldRowSet>, tree: &TableTree<Arc<HeldRowSet>>, boundaries: &[u64]) -> bool {
    let head = held.meta().head;
    let truncates = &tree.truncates;
    let after = truncates.partition_point(|&truncate| truncate <= head.seq_to);
    let is_truncated = truncates.get(after).is_some_and(|&truncate| {
        let is_needed = |&seq: &u64| head.seq_from < seq && seq < truncate;
        !boundaries.iter().any(is_needed)
    });
    is_truncated || deletes::is_emptied(held.meta(), &tree.deletes, boundaries)
}

/// Takes truncates and range deletes out that mean nothing any more. It claims the root, as any fragment would do.
fn forget_job(
    shared: &Shared,
    table_id: u32,
    tree: Arc<TableTree<Arc<HeldRowSet>>>,
    depth: Depth,
    is_claimed: &impl Fn(u32, FragmentId) -> bool,
) -> Option<Job> {
    if is_claimed(table_id, FragmentId::ROOT) {
        return None;
    }
    let is_due = forgettable(shared, table_id, &tree).is_some()
        || deletes::forgettable(shared, table_id, &tree).is_some();
    is_due.then(|| Job {
        table_id,
        fragment_id: FragmentId::ROOT,
        kind: JobKind::Forget,
        depth,
        tree,
        inputs: Vec::new(),
        dead: Vec::new(),
        is_bottom: false,
    })
}

/// The truncates that stay, if some can go: nobody asks for the table before them, and no RowSet from before is left.
pub(super) fn forgettable(
    shared: &Shared,
    table_id: u32,
    tree: &TableTree<Arc<HeldRowSet>>,
) -> Option<Vec<u64>> {
    if tree.truncates.is_empty() {
        return None;
    }
    let boundaries = boundaries_of(shared, table_id);
    let fragments = tree.fragments.fragments();
    let oldest = fragments
        .iter()
        .flat_map(|fragment| fragment.row_sets.iter())
        .map(|held| held.meta().head.seq_to)
        .min();
    let is_needed = |(i, &truncate): (usize, &u64)| match tree.truncates.get(i + 1) {
        // The next one says the same to all that read at or after it.
        Some(&next) => boundaries.iter().any(|&seq| truncate <= seq && seq < next),
        None => {
            oldest.is_some_and(|oldest| oldest < truncate)
                || boundaries.iter().any(|&seq| seq < truncate)
        }
    };
    let kept: Vec<u64> = tree
        .truncates
        .iter()
        .enumerate()
        .filter(|one| is_needed(*one))
        .map(|(_, &truncate)| truncate)
        .collect();
    (kept.len() < tree.truncates.len()).then_some(kept)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn leaves_differ_in_when_they_divide() {
        let sizes = TreeSizes {
            fragment_size_bytes_max: 1 << 20,
            flush_size_bytes_min: 1 << 10,
            child_bits: 2,
            compaction_threads: 1,
        };
        let size = |id| fragment_size_bytes_max(&sizes, FragmentId(id));
        // The 64 children of a root, as they grow alike.
        let found: Vec<u64> = (64..128).map(size).collect();
        let (least, most) = (found.iter().min().unwrap(), found.iter().max().unwrap());
        let middle = sizes.fragment_size_bytes_max;
        assert!(*least >= middle / 4 * 3 && *most < middle / 4 * 5);
        assert!(*least < middle / 8 * 7 && *most > middle / 8 * 9);
        assert!(found.iter().collect::<BTreeSet<_>>().len() > 20);
        assert_eq!(found, (64..128).map(size).collect::<Vec<u64>>());
    }
}
