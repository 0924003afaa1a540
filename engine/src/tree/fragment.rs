//! A table's fragments: which RowSets hold a key, and how the tree grows.
//!
//! A tree never changes: a change makes a new one that shares what stayed, so a reader goes on with the one it took.
//!
//! Where keys are divided by their hash, a fragment's children are known by the hash's next bits, and a fragment that is
//! divided stays an inner one. Where they are divided by range, the tree stays flat: once an inner fragment has no RowSets
//! of its own, its children take its place. Else keys that only grow would make the tree one level deeper each time.

use std::collections::HashSet;
use std::sync::Arc;

use crate::codec::{Malformed, Reader, len_u32, put_blob, put_u32, put_u64};
use crate::sharding::Sharding;

/// Most levels of a tree times the bits of each: an id has 64 bits and its first stands before them.
const DEPTH_BITS_MAX: u32 = 63;
/// Most children of a fragment that is divided by hash, as bits.
const CHILD_BITS_MAX: u32 = 16;

/// Names a fragment within its table. The root is 1. In a tree that is divided by hash: a 1 and behind it the number of
/// the child at each level, in so many bits as the children need. In one divided by range: a number that no other
/// fragment has or had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FragmentId(pub(crate) u64);

/// How a fragment chooses the child of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Division {
    /// By the next bits of the shard hash.
    Hash {
        /// How many: 2^bits children.
        bits: u32,
    },
    /// By the key: the child number n holds the keys from split n - 1 on, and below split n.
    Range {
        /// Ascending; one fewer than children.
        splits: Arc<[Box<[u8]>]>,
        /// Those of the children.
        ids: Arc<[FragmentId]>,
    },
}

/// A node of the tree. `R` is what stands for a RowSet.
#[derive(Clone, Debug)]
pub(crate) struct Fragment<R> {
    pub(crate) id: FragmentId,
    /// Newest first: in the order that a key is looked for.
    pub(crate) row_sets: Arc<[R]>,
    pub(crate) children: Option<Children<R>>,
}

/// The children of a fragment that is divided.
#[derive(Clone, Debug)]
pub(crate) struct Children<R> {
    pub(crate) division: Division,
    pub(crate) fragments: Arc<[Arc<Fragment<R>>]>,
    /// Whether all of them are leaves.
    pub(crate) are_leaves: bool,
}

/// All fragments of a table.
#[derive(Clone, Debug)]
pub(crate) struct FragmentTree<R> {
    root: Arc<Fragment<R>>,
    sharding: Sharding,
}

impl FragmentId {
    /// The fragment that holds a whole table.
    pub(crate) const ROOT: FragmentId = FragmentId(1);

    fn depth_bits(self) -> u32 {
        self.0.checked_ilog2().unwrap_or(0)
    }

    /// The most bits that its children's ids may have more.
    pub(crate) fn child_bits_max(self) -> u32 {
        (DEPTH_BITS_MAX - self.depth_bits()).min(CHILD_BITS_MAX)
    }

    /// The bits of the numbers that lead to it.
    fn path(self) -> u64 {
        self.0 & !(1 << self.depth_bits())
    }

    /// The id of a child in a tree that is divided by hash, by its number and the bits that tell the children apart.
    fn child(self, number: usize, bits: u32) -> FragmentId {
        FragmentId(self.0 << bits | number as u64)
    }
}

impl Division {
    /// The ids of the children of a fragment, in order.
    pub(crate) fn child_ids(&self, of: FragmentId) -> Vec<FragmentId> {
        match self {
            Division::Hash { bits } => (0..1 << bits)
                .map(|number| of.child(number, *bits))
                .collect(),
            Division::Range { ids, .. } => ids.to_vec(),
        }
    }

    /// The child of a row in the fragment `of`.
    pub(crate) fn child_of(&self, of: FragmentId, shard_hash: u64, key: &[u8]) -> usize {
        match self {
            Division::Hash { bits } => {
                let rest = shard_hash << of.depth_bits();
                rest.checked_shr(64 - bits).unwrap_or(0) as usize
            }
            Division::Range { splits, .. } => splits.partition_point(|split| **split <= *key),
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Division::Hash { bits } => {
                put_u32(out, 0);
                put_u32(out, *bits);
            }
            Division::Range { splits, ids } => {
                put_u32(out, 1);
                put_u32(out, len_u32(splits.len()));
                splits.iter().for_each(|split| put_blob(out, split));
                ids.iter().for_each(|id| put_u64(out, id.0));
            }
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        match reader.u32()? {
            0 => match reader.u32()? {
                bits @ 1..=CHILD_BITS_MAX => Ok(Division::Hash { bits }),
                _ => Err(Malformed(
                    "a division into a number of children that can't be",
                )),
            },
            1 => {
                let count = reader.count(12)?;
                let splits: Vec<Box<[u8]>> = (0..count)
                    .map(|_| reader.blob().map(Box::from))
                    .collect::<Result<_, _>>()?;
                let ids: Vec<FragmentId> = (0..=count)
                    .map(|_| reader.u64().map(FragmentId))
                    .collect::<Result<_, _>>()?;
                if splits.is_empty() || !ascend(&splits) {
                    return Err(Malformed("the splits of a division don't ascend"));
                }
                Ok(Division::Range {
                    splits: splits.into(),
                    ids: ids.into(),
                })
            }
            _ => Err(Malformed("a division of an unknown kind")),
        }
    }
}

fn ascend(splits: &[Box<[u8]>]) -> bool {
    splits.is_sorted_by(|a, b| a < b)
}

impl<R> Fragment<R> {
    fn empty(id: FragmentId) -> Self {
        Fragment {
            id,
            row_sets: Arc::new([]),
            children: None,
        }
    }

    /// The child that holds a key; `None` of a leaf.
    fn child(&self, shard_hash: u64, key: &[u8]) -> Option<&Arc<Fragment<R>>> {
        let children = self.children.as_ref()?;
        let number = children.division.child_of(self.id, shard_hash, key);
        children.fragments.get(number)
    }

    /// Itself and the fragments below it, each before its children.
    fn with_descendants(self: &Arc<Self>) -> Vec<&Arc<Self>> {
        let mut found = vec![self];
        let mut i = 0;
        while let Some(fragment) = found.get(i).copied() {
            if let Some(children) = &fragment.children {
                found.extend(children.fragments.iter());
            }
            i += 1;
        }
        found
    }
}

impl<R> Children<R> {
    fn new(division: Division, fragments: Vec<Arc<Fragment<R>>>) -> Self {
        Children {
            division,
            are_leaves: fragments.iter().all(|child| child.children.is_none()),
            fragments: fragments.into(),
        }
    }

    /// The number of the child of `parent` that is the fragment of an id or above it.
    fn towards(&self, parent: FragmentId, id: FragmentId) -> Option<usize> {
        match &self.division {
            Division::Hash { bits } => {
                let rest = id.depth_bits().checked_sub(parent.depth_bits() + bits)?;
                Some(((id.path() >> rest) & ((1 << bits) - 1)) as usize)
            }
            Division::Range { ids, .. } => {
                let is_above = |child: &Arc<Fragment<R>>| {
                    let below = child.children.as_ref();
                    below.is_some_and(|below| below.towards(child.id, id).is_some())
                };
                let itself = ids.iter().position(|child_id| *child_id == id);
                match itself {
                    None if !self.are_leaves => self.fragments.iter().position(is_above),
                    found => found,
                }
            }
        }
    }
}

impl<R> Default for FragmentTree<R> {
    /// One leaf without rows, divided by the hash of the whole key.
    fn default() -> Self {
        FragmentTree::new(Sharding::default())
    }
}

impl<R> FragmentTree<R> {
    /// One leaf without rows.
    pub(crate) fn new(sharding: Sharding) -> Self {
        FragmentTree {
            root: Arc::new(Fragment::empty(FragmentId::ROOT)),
            sharding,
        }
    }

    /// What rows are divided by.
    pub(crate) fn sharding(&self) -> &Sharding {
        &self.sharding
    }

    /// The fragment that holds a whole table.
    pub(crate) fn root(&self) -> &Arc<Fragment<R>> {
        &self.root
    }

    /// The hash that leads to the fragments of a key, whose own hash is given.
    pub(crate) fn shard_hash(&self, key_hash: u64, key: &[u8]) -> u64 {
        self.sharding.hash(key_hash, key)
    }

    /// The fragments that may hold a key, the root first: newer rows lie further up. The hash is that of the key.
    pub(crate) fn path<'t, 'k>(
        &'t self,
        key_hash: u64,
        key: &'k [u8],
    ) -> impl Iterator<Item = &'t Fragment<R>> + use<'t, 'k, R> {
        let shard_hash = match self.root.children {
            Some(_) => self.shard_hash(key_hash, key),
            None => 0,
        };
        let mut next = Some(&self.root);
        std::iter::from_fn(move || {
            let fragment = next?;
            next = fragment.child(shard_hash, key);
            Some(&**fragment)
        })
    }

    /// The fragments that keys of one shard hash may lie in, the root first.
    pub(crate) fn hash_path(&self, shard_hash: u64) -> Vec<&Arc<Fragment<R>>> {
        let mut found = vec![&self.root];
        while let Some(child) = found
            .last()
            .and_then(|fragment| fragment.child(shard_hash, &[]))
        {
            found.push(child);
        }
        found
    }

    /// All fragments, each before its children.
    pub(crate) fn fragments(&self) -> Vec<&Arc<Fragment<R>>> {
        self.root.with_descendants()
    }

    /// The fragment of that id.
    pub(crate) fn fragment(&self, id: FragmentId) -> Option<&Arc<Fragment<R>>> {
        let mut fragment = &self.root;
        while fragment.id != id {
            let children = fragment.children.as_ref()?;
            let number = children.towards(fragment.id, id)?;
            fragment = children.fragments.get(number)?;
        }
        Some(fragment)
    }
}

impl<R: Clone> FragmentTree<R> {
    /// The tree with other RowSets in one fragment.
    pub(crate) fn with_row_sets(&self, id: FragmentId, row_sets: Arc<[R]>) -> Option<Self> {
        self.with_fragment(id, &|fragment| {
            Some(Fragment {
                row_sets: row_sets.clone(),
                ..fragment.clone()
            })
        })
    }

    /// The tree with a leaf divided; the children are empty, the leaf's own RowSets stay for now. `None` if there is no
    /// such leaf, or its children can't have these ids.
    pub(crate) fn divided(&self, id: FragmentId, division: &Division) -> Option<Self> {
        let is_range = matches!(self.sharding, Sharding::Range);
        let ids = division.child_ids(id);
        match division {
            Division::Hash { bits } => {
                if is_range || id.depth_bits() + bits > DEPTH_BITS_MAX {
                    return None;
                }
            }
            Division::Range { splits, .. } => {
                if !is_range {
                    return None;
                }
                let mut taken: HashSet<_> = self.fragments().iter().map(|one| one.id).collect();
                if ids.len() != splits.len() + 1 || !ids.iter().all(|&id| taken.insert(id)) {
                    return None;
                }
            }
        }
        self.with_fragment(id, &|fragment| {
            if fragment.children.is_some() {
                return None;
            }
            let children = ids.iter().map(|&id| Arc::new(Fragment::empty(id)));
            Some(Fragment {
                children: Some(Children::new(division.clone(), children.collect())),
                ..fragment.clone()
            })
        })
    }

    fn with_fragment(
        &self,
        id: FragmentId,
        change: &impl Fn(&Fragment<R>) -> Option<Fragment<R>>,
    ) -> Option<Self> {
        let root = replaced(&self.root, id, change)?;
        Some(FragmentTree {
            root,
            sharding: self.sharding.clone(),
        })
    }
}

/// The fragment with the one of that id, itself or one below it, changed.
fn replaced<R: Clone>(
    fragment: &Fragment<R>,
    id: FragmentId,
    change: &impl Fn(&Fragment<R>) -> Option<Fragment<R>>,
) -> Option<Arc<Fragment<R>>> {
    if fragment.id == id {
        return change(fragment).map(Arc::new);
    }
    let children = fragment.children.as_ref()?;
    let number = children.towards(fragment.id, id)?;
    let child = replaced(children.fragments.get(number)?, id, change)?;
    let children = match spliced(children, number, &child) {
        Some(children) => children?,
        None => {
            let mut fragments = children.fragments.to_vec();
            *fragments.get_mut(number)? = child;
            Children::new(children.division.clone(), fragments)
        }
    };
    Some(Arc::new(Fragment {
        id: fragment.id,
        row_sets: fragment.row_sets.clone(),
        children: Some(children),
    }))
}

/// The children with those of one of them in its place, if they are divided by range and it holds nothing but them;
/// `None` inside if their splits don't fit.
fn spliced<R: Clone>(
    children: &Children<R>,
    number: usize,
    child: &Fragment<R>,
) -> Option<Option<Children<R>>> {
    let (Division::Range { splits, ids }, true) = (&children.division, child.row_sets.is_empty())
    else {
        return None;
    };
    let below = child.children.as_ref()?;
    let Division::Range {
        splits: splits_below,
        ids: ids_below,
    } = &below.division
    else {
        return None;
    };
    let (mut splits, mut ids) = (splits.to_vec(), ids.to_vec());
    let mut fragments = children.fragments.to_vec();
    splits.splice(number..number, splits_below.iter().cloned());
    ids.splice(number..=number, ids_below.iter().copied());
    fragments.splice(number..=number, below.fragments.iter().cloned());
    let division = Division::Range {
        splits: splits.into(),
        ids: ids.into(),
    };
    let fits = matches!(&division, Division::Range { splits, .. } if ascend(splits));
    Some(fits.then(|| Children::new(division, fragments)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Tree = FragmentTree<u32>;

    fn ids(tree: &Tree) -> Vec<FragmentId> {
        tree.fragments()
            .iter()
            .map(|fragment| fragment.id)
            .collect()
    }

    /// Divisions of leaves, all by hash or all by range.
    fn any_divisions() -> impl Strategy<Value = Vec<(Division, usize)>> {
        let splits = prop::collection::btree_set(prop::collection::vec(any::<u8>(), 1..3), 1..6);
        let by_hash = (1..4_u32).prop_map(|bits| Division::Hash { bits });
        let by_range = splits.prop_map(|splits| Division::Range {
            ids: (0..=splits.len()).map(|i| FragmentId(i as u64)).collect(),
            splits: splits.into_iter().map(Vec::into_boxed_slice).collect(),
        });
        prop_oneof![
            prop::collection::vec((by_hash, any::<usize>()), 0..12),
            prop::collection::vec((by_range, any::<usize>()), 0..12),
        ]
    }

    fn tree_for(divisions: &[(Division, usize)]) -> Tree {
        match divisions.first() {
            Some((Division::Range { .. }, _)) => Tree::new(Sharding::Range),
            _ => Tree::default(),
        }
    }

    /// Divides some leaf each time. With `hold` a leaf has a RowSet when it is divided, and keeps it.
    fn grown(divisions: &[(Division, usize)], hold: bool) -> Tree {
        let mut tree = tree_for(divisions);
        let mut next_id = 2;
        for (division, which) in divisions {
            let fragments = tree.fragments();
            let leaves: Vec<_> = fragments
                .iter()
                .filter(|one| one.children.is_none())
                .collect();
            let id = leaves[which % leaves.len()].id;
            let division = match division {
                Division::Hash { .. } => division.clone(),
                Division::Range { splits, ids } => {
                    next_id += ids.len() as u64;
                    Division::Range {
                        splits: splits.clone(),
                        ids: ids.iter().map(|id| FragmentId(next_id + id.0)).collect(),
                    }
                }
            };
            if hold {
                tree = tree.with_row_sets(id, Arc::new([1])).unwrap();
            }
            if let Some(divided) = tree.divided(id, &division) {
                tree = divided;
            }
        }
        tree
    }

    proptest! {
        #[test]
        fn every_key_has_one_leaf_and_every_fragment_one_id(
            divisions in any_divisions(), hold: bool,
            keys in prop::collection::vec((any::<u64>(), prop::collection::vec(any::<u8>(), 0..3)), 1..20),
        ) {
            let tree = grown(&divisions, hold);
            let mut all = ids(&tree);
            for id in &all {
                prop_assert_eq!(tree.fragment(*id).map(|fragment| fragment.id), Some(*id));
            }
            let count = all.len();
            all.sort();
            all.dedup();
            prop_assert_eq!(all.len(), count);
            prop_assert!(tree.fragment(FragmentId(u64::MAX)).is_none());
            for (hash, key) in &keys {
                let path: Vec<_> = tree.path(*hash, key).collect();
                prop_assert_eq!(path[0].id, FragmentId::ROOT);
                prop_assert!(path.last().unwrap().children.is_none());
                prop_assert!(path.windows(2).all(|pair| pair[0].id < pair[1].id));
                let path: Vec<_> = path.iter().map(|fragment| fragment.id).collect();
                if !matches!(tree.sharding(), Sharding::Range) {
                    let by_hash: Vec<_> = tree.hash_path(*hash).iter().map(|one| one.id).collect();
                    prop_assert_eq!(by_hash, path);
                } else if !hold {
                    prop_assert!(path.len() <= 2, "{:?}", path);
                }
            }
        }

        /// What held RowSets while it was divided makes way for its children when they are gone.
        #[test]
        fn a_tree_that_is_divided_by_range_becomes_flat(divisions in any_divisions()) {
            let mut tree = grown(&divisions, true);
            let flat = grown(&divisions, false);
            for id in ids(&tree) {
                if let Some(changed) = tree.with_row_sets(id, Arc::new([])) {
                    tree = changed;
                }
            }
            // Leaves that could not be divided in one of them, for splits that don't fit, make them differ.
            if let (Some(Division::Range { .. }), true) = (
                divisions.first().map(|(division, _)| division.clone()),
                divisions.len() < 2,
            ) {
                prop_assert_eq!(ids(&tree), ids(&flat));
            }
            if let Some(children) = &tree.root().children && matches!(tree.sharding(), Sharding::Range) {
                let splits_ascend = matches!(&children.division, Division::Range { splits, .. } if ascend(splits));
                prop_assert!(splits_ascend);
            }
        }

        /// A range division sends each key between the splits around it, a hash division by the bits not yet used.
        #[test]
        fn children_hold_what_their_division_says(
            divisions in any_divisions(), first_bits in 1..8_u32, hash: u64, key in prop::collection::vec(any::<u8>(), 0..3),
        ) {
            let Some((division, _)) = divisions.into_iter().next() else { return Ok(()) };
            let number = division.child_of(FragmentId(1 << first_bits), hash, &key);
            prop_assert!(number < division.child_ids(FragmentId::ROOT).len());
            match &division {
                Division::Hash { bits } => prop_assert_eq!(number as u64, (hash >> (64 - first_bits - bits)) % (1 << bits)),
                Division::Range { splits, .. } => {
                    prop_assert!(number == 0 || *splits[number - 1] <= *key);
                    prop_assert!(number == splits.len() || *key < *splits[number]);
                }
            }
            let mut bytes = Vec::new();
            division.encode(&mut bytes);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(Division::decode(&mut reader), Ok(division));
            prop_assert_eq!(reader.finish(), Ok(()));
        }

        /// A change makes a new tree in which only that fragment is another; the old one stays.
        #[test]
        fn a_change_touches_one_fragment(
            divisions in any_divisions(), which: usize,
        ) {
            let tree = grown(&divisions, false);
            let all = ids(&tree);
            let id = all[which % all.len()];
            let changed = tree.with_row_sets(id, Arc::new([7])).unwrap();
            prop_assert_eq!(ids(&changed), all.clone());
            for other in all {
                let expected: &[u32] = if other == id { &[7] } else { &[] };
                prop_assert_eq!(&*changed.fragment(other).unwrap().row_sets, expected);
                prop_assert!(tree.fragment(other).unwrap().row_sets.is_empty());
            }
        }
    }

    #[test]
    fn only_leaves_divide_and_only_while_ids_have_room() {
        let mut tree = Tree::default();
        let division = Division::Hash { bits: 16 };
        let mut id = FragmentId::ROOT;
        for _ in 0..3 {
            tree = tree.divided(id, &division).unwrap();
            assert!(tree.divided(id, &division).is_none());
            id = id.child(65_535, 16);
        }
        assert!(tree.divided(id, &division).is_none());
        assert!(tree.divided(id, &Division::Hash { bits: 15 }).is_some());
        assert!(tree.with_row_sets(FragmentId(0), Arc::new([1])).is_none());
    }
}
