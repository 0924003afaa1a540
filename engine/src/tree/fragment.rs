//! A table's fragments: which RowSets hold a key, and how the tree grows.
//!
//! A tree never changes: a change makes a new one that shares what stayed, so a reader goes on with the one it took.

use std::sync::Arc;

use crate::codec::{Malformed, Reader, len_u32, put_blob, put_u32};

/// Most levels of a tree times the bits of each: an id has 64 bits and its first stands before them.
const DEPTH_BITS_MAX: u32 = 63;
/// Most children of a fragment, as bits.
const CHILD_BITS_MAX: u32 = 16;

/// Names a fragment within its table: a 1 and behind it the number of the child at each level, in so many bits as the
/// children need. The root is 1.
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
}

/// All fragments of a table.
#[derive(Clone, Debug)]
pub(crate) struct FragmentTree<R> {
    root: Arc<Fragment<R>>,
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

    /// The id of a child, by its number and the bits that tell the children apart.
    pub(crate) fn child(self, number: usize, bits: u32) -> FragmentId {
        FragmentId(self.0 << bits | number as u64)
    }
}

impl Division {
    /// The number of children.
    pub(crate) fn child_count(&self) -> usize {
        match self {
            Division::Hash { bits } => 1 << bits,
            Division::Range { splits } => splits.len() + 1,
        }
    }

    /// Bits that tell the children apart.
    pub(crate) fn bits(&self) -> u32 {
        match self {
            Division::Hash { bits } => *bits,
            Division::Range { splits } => splits.len().checked_ilog2().map_or(0, |bits| bits + 1),
        }
    }

    /// The child of a row in the fragment `of`.
    pub(crate) fn child_of(&self, of: FragmentId, shard_hash: u64, key: &[u8]) -> usize {
        match self {
            Division::Hash { bits } => {
                let rest = shard_hash << of.depth_bits();
                rest.checked_shr(64 - bits).unwrap_or(0) as usize
            }
            Division::Range { splits } => splits.partition_point(|split| **split <= *key),
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Division::Hash { bits } => {
                put_u32(out, 0);
                put_u32(out, *bits);
            }
            Division::Range { splits } => {
                put_u32(out, 1);
                put_u32(out, len_u32(splits.len()));
                splits.iter().for_each(|split| put_blob(out, split));
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
                let count = reader.count(4)?;
                let splits: Vec<Box<[u8]>> = (0..count)
                    .map(|_| reader.blob().map(Box::from))
                    .collect::<Result<_, _>>()?;
                if splits.is_empty() || !splits.is_sorted_by(|a, b| a < b) {
                    return Err(Malformed("the splits of a division don't ascend"));
                }
                Ok(Division::Range {
                    splits: splits.into(),
                })
            }
            _ => Err(Malformed("a division of an unknown kind")),
        }
    }
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
    pub(crate) fn child(&self, shard_hash: u64, key: &[u8]) -> Option<&Arc<Fragment<R>>> {
        let children = self.children.as_ref()?;
        let number = children.division.child_of(self.id, shard_hash, key);
        children.fragments.get(number)
    }
}

impl<R> Default for FragmentTree<R> {
    /// One leaf without rows.
    fn default() -> Self {
        FragmentTree {
            root: Arc::new(Fragment::empty(FragmentId::ROOT)),
        }
    }
}

impl<R: Clone> FragmentTree<R> {
    /// The fragment that holds a whole table.
    pub(crate) fn root(&self) -> &Arc<Fragment<R>> {
        &self.root
    }

    /// The fragments that may hold a key, the root first: newer rows lie further up.
    pub(crate) fn path<'t, 'k>(
        &'t self,
        shard_hash: u64,
        key: &'k [u8],
    ) -> impl Iterator<Item = &'t Fragment<R>> + use<'t, 'k, R> {
        let mut next = Some(&self.root);
        std::iter::from_fn(move || {
            let fragment = next?;
            next = fragment.child(shard_hash, key);
            Some(&**fragment)
        })
    }

    /// All fragments, each before its children.
    pub(crate) fn fragments(&self) -> Vec<&Arc<Fragment<R>>> {
        let mut found = vec![&self.root];
        let mut i = 0;
        while let Some(fragment) = found.get(i).copied() {
            if let Some(children) = &fragment.children {
                found.extend(children.fragments.iter());
            }
            i += 1;
        }
        found
    }

    /// The fragment of that id.
    pub(crate) fn fragment(&self, id: FragmentId) -> Option<&Arc<Fragment<R>>> {
        let mut fragment = &self.root;
        while fragment.id != id {
            let children = fragment.children.as_ref()?;
            let bits = children.division.bits();
            let rest = id
                .depth_bits()
                .checked_sub(fragment.id.depth_bits() + bits)?;
            let number = (id.path() >> rest) & ((1 << bits) - 1);
            fragment = children.fragments.get(number as usize)?;
        }
        Some(fragment)
    }

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
    /// such leaf, or no room for its children's ids.
    pub(crate) fn divided(&self, id: FragmentId, division: &Division) -> Option<Self> {
        let bits = division.bits();
        if id.depth_bits() + bits > DEPTH_BITS_MAX {
            return None;
        }
        self.with_fragment(id, &|fragment| {
            if fragment.children.is_some() {
                return None;
            }
            let children = (0..division.child_count())
                .map(|number| Arc::new(Fragment::empty(id.child(number, bits))));
            Some(Fragment {
                children: Some(Children {
                    division: division.clone(),
                    fragments: children.collect(),
                }),
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
        Some(FragmentTree { root })
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
    let bits = children.division.bits();
    let rest = id
        .depth_bits()
        .checked_sub(fragment.id.depth_bits() + bits)?;
    let number = ((id.path() >> rest) & ((1 << bits) - 1)) as usize;
    let child = replaced(children.fragments.get(number)?, id, change)?;
    let mut fragments = children.fragments.to_vec();
    *fragments.get_mut(number)? = child;
    Some(Arc::new(Fragment {
        id: fragment.id,
        row_sets: fragment.row_sets.clone(),
        children: Some(Children {
            division: children.division.clone(),
            fragments: fragments.into(),
        }),
    }))
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

    fn any_division() -> impl Strategy<Value = Division> {
        let splits = prop::collection::btree_set(prop::collection::vec(any::<u8>(), 1..3), 1..6);
        prop_oneof![
            (1..4_u32).prop_map(|bits| Division::Hash { bits }),
            splits.prop_map(|splits| Division::Range {
                splits: splits.into_iter().map(Vec::into_boxed_slice).collect()
            }),
        ]
    }

    /// Divides some leaf each time.
    fn grown(divisions: &[(Division, usize)]) -> Tree {
        let mut tree = Tree::default();
        for (division, which) in divisions {
            let fragments = tree.fragments();
            let leaves: Vec<_> = fragments
                .iter()
                .filter(|one| one.children.is_none())
                .collect();
            let id = leaves[which % leaves.len()].id;
            if let Some(divided) = tree.divided(id, division) {
                tree = divided;
            }
        }
        tree
    }

    proptest! {
        #[test]
        fn every_key_has_one_leaf_and_every_fragment_one_id(
            divisions in prop::collection::vec((any_division(), any::<usize>()), 0..12),
            keys in prop::collection::vec((any::<u64>(), prop::collection::vec(any::<u8>(), 0..3)), 1..20),
        ) {
            let tree = grown(&divisions);
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
            }
        }

        /// A range division sends each key between the splits around it, a hash division by the bits not yet used.
        #[test]
        fn children_hold_what_their_division_says(
            division in any_division(), first_bits in 1..8_u32, hash: u64, key in prop::collection::vec(any::<u8>(), 0..3),
        ) {
            let number = division.child_of(FragmentId(1 << first_bits), hash, &key);
            prop_assert!(number < division.child_count());
            match &division {
                Division::Hash { bits } => prop_assert_eq!(number as u64, (hash >> (64 - first_bits - bits)) % (1 << bits)),
                Division::Range { splits } => {
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
            divisions in prop::collection::vec((any_division(), any::<usize>()), 0..8), which: usize,
        ) {
            let tree = grown(&divisions);
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
