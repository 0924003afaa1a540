//! Range deletes below level 0: how they get there, what they empty, and when they are forgotten.

use std::sync::Arc;

use super::plan::boundaries_of;
use crate::cache::generations::Frozen;
use crate::deletes::{RangeDelete, RangeDeletes};
use crate::row_set::meta::RowSetMeta;
use crate::shared::Shared;
use crate::tree::edit::Change;
use crate::tree::files::HeldRowSet;
use crate::tree::state::{Described, TableTree};
use crate::tree::store::HeldState;

/// The range deletes of tables with those of a generation that is flushed.
pub(super) fn flushed_changes(
    shared: &Shared,
    state: &HeldState,
    frozen: &Frozen,
    changes: &mut Vec<Change<Arc<HeldRowSet>>>,
) {
    for table_id in frozen.generation.table_ids() {
        let table = frozen.generation.table(table_id);
        let new: Vec<_> =
            table.map_or_else(Vec::new, |table| table.deletes().iter().cloned().collect());
        if new.is_empty() {
            continue;
        }
        let old = state.tree(table_id).map(|tree| tree.deletes.clone());
        let deletes = old.unwrap_or_default().with(new);
        // All of them are durable, and behind the visible sequence, so who comes later reads behind all of them.
        let deletes = deletes.pruned(&boundaries_of(shared, table_id));
        changes.push(Change::Deletes { table_id, deletes });
    }
}

/// The range deletes that stay, if some can go: nobody asks for the table before them, and no RowSet from before is left
/// in their range.
pub(super) fn forgettable(
    shared: &Shared,
    table_id: u32,
    tree: &TableTree<Arc<HeldRowSet>>,
) -> Option<RangeDeletes> {
    if tree.deletes.is_empty() {
        return None;
    }
    let boundaries = boundaries_of(shared, table_id);
    let fragments = tree.fragments.fragments();
    let row_sets: Vec<&RowSetMeta> = fragments
        .iter()
        .flat_map(|fragment| fragment.row_sets.iter().map(Described::meta))
        .collect();
    let kept = tree.deletes.filtered(|delete| {
        let is_older = |meta: &&RowSetMeta| meta.head.seq_to < delete.seq && overlaps(delete, meta);
        boundaries.iter().any(|&seq| seq < delete.seq) || row_sets.iter().any(is_older)
    });
    (kept.iter().count() < tree.deletes.iter().count()).then_some(kept)
}

/// Whether a delete emptied a RowSet, and no boundary before it needs the rows.
pub(super) fn is_emptied(meta: &RowSetMeta, deletes: &RangeDeletes, boundaries: &[u64]) -> bool {
    deletes.iter().any(|delete| {
        let is_needed = |&seq: &u64| meta.head.seq_from < seq && seq < delete.seq;
        delete.seq > meta.head.seq_to
            && delete.interval.contains(&meta.key_min)
            && delete.interval.contains(&meta.key_max)
            && !boundaries.iter().any(is_needed)
    })
}

fn overlaps(delete: &RangeDelete, meta: &RowSetMeta) -> bool {
    delete.interval.start.as_slice() <= meta.key_max.as_ref()
        && delete.interval.ends_after(&meta.key_min)
}
