//! Which compaction is due in a table: looks through its fragments.

use std::cmp::Reverse;
use std::sync::Arc;

use super::deletes;
use super::files::HeldRowSet;
use super::fragment::FragmentId;
use super::leaf_policy::{LEAF_ROW_SETS_MAX, Leaf, groups, size_bytes};
use super::resolve::sampled_dead_bytes;
use super::scheduler::Depth;
use super::splits::can_split;
use super::state::{Described, TableTree};
use crate::cache::table::TableState;
use crate::error::Result;
use crate::generation::LOCATIONS_BIT;
use crate::sharding::Sharding;
use crate::shared::{Shared, TreeSizes};

/// The P-Size of a leaf is between 3/4 and 5/4 of what is set, so that uniform leaves don't divide all at once.
const JITTER_STEPS: u64 = 64;

/// What is to be done with the RowSets of a fragment.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) table_id: u32,
    pub(crate) fragment_id: FragmentId,
    pub(crate) kind: JobKind,
    /// How thoroughly the table was looked at.
    pub(crate) depth: Depth,
    /// The tree that was looked at.
    pub(crate) tree: Arc<TableTree<Arc<HeldRowSet>>>,
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
    /// Truncates and range deletes go that mean nothing any more.
    Forget,
}

impl Job {
    /// Lets go of the RowSets that it read.
    pub(super) fn let_go(&mut self) {
        self.tree = Arc::default();
        self.inputs.clear();
        self.dead.clear();
    }
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
            JobKind::Forget => "forget",
        }
    }
}

/// The compaction that is due first in a table, in fragments that nobody claims.
pub(crate) fn plan_table(
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
        if fragment.children.is_some() && is_push_down_due(shared, &live, depth) {
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

/// While nobody writes also little goes down: what lies here when writers come back holds up all that they write.
fn is_push_down_due(shared: &Shared, live: &[Arc<HeldRowSet>], depth: Depth) -> bool {
    let sizes = &shared.tree_sizes;
    let (enough, all_bytes) = (
        sizes.flush_size_bytes_min << sizes.child_bits,
        size_bytes(live),
    );
    all_bytes > enough
        || live.len() > LEAF_ROW_SETS_MAX
        || (depth == Depth::Full && !live.is_empty())
        || (depth == Depth::Idle && !live.is_empty() && shared.scheduler.spend(all_bytes))
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
