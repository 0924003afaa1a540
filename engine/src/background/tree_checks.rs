//! What holds of a table's tree at every moment, whatever was flushed, merged, divided and dropped.
//!
//! Every row lies where lookups go, once in each RowSet; what is newer lies further up and further in front; no RowSet has rows from
//! both sides of a snapshot that is held; and no two RowSets share a byte of a file.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::codec::key::hash_key;
use crate::tree::files::HeldRowSet;
use crate::tree::fragment::{Fragment, FragmentTree};
use crate::tree::state::Described;

/// Rows and tombstones of a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) rows: u64,
    pub(super) tombstones: u64,
}

/// Checks a tree of rows; `held` are the commit sequences of snapshots. What it counts.
pub(super) fn check_tree(tree: &FragmentTree<Arc<HeldRowSet>>, held: &[u64]) -> Counts {
    let mut extents: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    let mut counts = Counts::default();
    for fragment in tree.fragments() {
        check_order(fragment);
        for row_set in fragment.row_sets.iter() {
            let meta = row_set.meta();
            assert_eq!(meta.head.fragment_id, fragment.id.0);
            let (from, to) = (meta.head.seq_from, meta.head.seq_to);
            assert!(from < to, "a RowSet of nothing: {from} to {to}");
            let between = held.iter().find(|seq| (from + 1..to).contains(seq));
            assert_eq!(
                between, None,
                "a snapshot that {from} to {to} is on both sides of"
            );
            let place = (meta.file_number, meta.offset);
            let before = extents.insert(place, meta.size_bytes);
            assert_eq!(before, None, "{place:?} is there twice");
            counts.rows += meta.row_count;
            counts.tombstones += meta.tombstone_count;
            check_rows(tree, fragment, row_set);
        }
    }
    let places: Vec<_> = extents.into_iter().collect();
    for pair in places.windows(2) {
        let (((file, offset), size_bytes), (next, _)) = (pair[0], pair[1]);
        assert!(next.0 > file || offset + size_bytes <= next.1, "{pair:?}");
    }
    counts
}

/// Newer RowSets come first, and those of children are older.
fn check_order(fragment: &Fragment<Arc<HeldRowSet>>) {
    let oldest_from = |fragment: &Fragment<Arc<HeldRowSet>>| {
        let heads = fragment.row_sets.iter().map(|held| held.meta().head);
        heads.map(|head| head.seq_from).min()
    };
    for pair in fragment.row_sets.windows(2) {
        let (newer, older) = (pair[0].meta().head, pair[1].meta().head);
        assert!(newer.seq_from >= older.seq_to, "{newer:?}, {older:?}");
    }
    let (Some(from), Some(children)) = (oldest_from(fragment), &fragment.children) else {
        return;
    };
    let below = children
        .fragments
        .iter()
        .flat_map(|child| child.row_sets.iter());
    for older in below {
        let head = older.meta().head;
        assert!(head.seq_to <= from, "{head:?} below rows from {from} on");
    }
}

/// The rows of a RowSet ascend, and a lookup of each comes by.
fn check_rows(
    tree: &FragmentTree<Arc<HeldRowSet>>,
    fragment: &Fragment<Arc<HeldRowSet>>,
    held: &Arc<HeldRowSet>,
) {
    let mut cursor = held.row_set.cursor();
    cursor.seek_first().unwrap();
    let mut last: Option<Vec<u8>> = None;
    let mut count = 0;
    while let Some(row) = cursor.row() {
        let key = row.key.to_vec();
        let is_found = tree
            .path(hash_key(&key), &key)
            .any(|one| one.id == fragment.id);
        assert!(is_found, "{key:?} in {:?}", fragment.id);
        assert!(
            last.is_none_or(|last| last < key),
            "{key:?} is not in order"
        );
        last = Some(key);
        count += 1;
        cursor.advance().unwrap();
    }
    assert_eq!(count, held.meta().row_count);
}
