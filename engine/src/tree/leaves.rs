//! The leaves of a tree that is divided by range, in key order.

use std::ops::Bound;
use std::sync::Arc;

use super::fragment::{Division, Fragment, FragmentTree};
use crate::key_range::KeyRange;

/// Where a leaf is looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LeafAt<'k> {
    First,
    /// The one that holds a key.
    Key(&'k [u8]),
    /// The last one that may hold keys below that key.
    Below(&'k [u8]),
    Last,
}

/// A leaf, and the keys it may hold: from one on, and below another.
#[derive(Debug)]
pub(crate) struct LeafPlace<'t, R> {
    pub(crate) leaf: &'t Arc<Fragment<R>>,
    pub(crate) lower: Option<&'t [u8]>,
    pub(crate) upper: Option<&'t [u8]>,
}

impl<'k> LeafAt<'k> {
    /// The leaf that the rows of a range begin in.
    pub(crate) fn start_of(range: &'k KeyRange, descending: bool) -> Self {
        if descending {
            match &range.end {
                Bound::Unbounded => LeafAt::Last,
                Bound::Included(key) => LeafAt::Key(key),
                Bound::Excluded(key) => LeafAt::Below(key),
            }
        } else {
            match &range.start {
                Bound::Unbounded => LeafAt::First,
                Bound::Included(key) | Bound::Excluded(key) => LeafAt::Key(key),
            }
        }
    }

    fn child_in(self, splits: &[Box<[u8]>]) -> usize {
        match self {
            LeafAt::First => 0,
            LeafAt::Key(key) => splits.partition_point(|split| **split <= *key),
            LeafAt::Below(key) => splits.partition_point(|split| **split < *key),
            LeafAt::Last => splits.len(),
        }
    }
}

impl<'t, R> LeafPlace<'t, R> {
    /// Where its keys end, seen from where they begin.
    pub(crate) fn end(&self, descending: bool) -> Option<&'t [u8]> {
        if descending { self.lower } else { self.upper }
    }

    /// Whether no key of a range lies beyond it, seen from where the range begins.
    pub(crate) fn holds_all_of(&self, range: &KeyRange, descending: bool) -> bool {
        match (self.end(descending), descending) {
            (None, _) => true,
            (Some(lower), true) => match &range.start {
                Bound::Unbounded => false,
                Bound::Included(start) | Bound::Excluded(start) => **start >= *lower,
            },
            (Some(upper), false) => match &range.end {
                Bound::Unbounded => false,
                Bound::Included(end) => **end < *upper,
                Bound::Excluded(end) => **end <= *upper,
            },
        }
    }
}

impl<R> FragmentTree<R> {
    /// A leaf; `None` where the tree is not divided by range.
    pub(crate) fn leaf(&self, at: LeafAt<'_>) -> Option<LeafPlace<'_, R>> {
        let mut place = LeafPlace {
            leaf: self.root(),
            lower: None,
            upper: None,
        };
        while let Some(children) = &place.leaf.children {
            let Division::Range { splits, .. } = &children.division else {
                return None;
            };
            let number = at.child_in(splits);
            let below = number.checked_sub(1).and_then(|i| splits.get(i));
            place = LeafPlace {
                leaf: children.fragments.get(number)?,
                lower: below.map(|split| &**split).or(place.lower),
                upper: splits.get(number).map(|split| &**split).or(place.upper),
            };
        }
        Some(place)
    }

    /// The fragments that are divided, each before those below it.
    pub(crate) fn divided_fragments(&self) -> Vec<&Arc<Fragment<R>>> {
        let mut found = Vec::new();
        if self.root().children.is_some() {
            found.push(self.root());
        }
        let mut i = 0;
        while let Some(fragment) = found.get(i).copied() {
            // Among thousands of leaves mostly none is divided.
            let children = fragment.children.as_ref().filter(|one| !one.are_leaves);
            let children = children.into_iter().flat_map(|one| one.fragments.iter());
            found.extend(children.filter(|child| child.children.is_some()));
            i += 1;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sharding::Sharding;
    use crate::tree::fragment::FragmentId;

    fn tree(splits: Vec<Vec<u8>>, splits_of_one: Vec<Vec<u8>>, which: usize) -> FragmentTree<u32> {
        let boxed = |splits: Vec<Vec<u8>>| splits.into_iter().map(Vec::into_boxed_slice).collect();
        let ids = |first, count| (first..).take(count).map(FragmentId).collect::<Vec<_>>();
        let root_ids = ids(10, splits.len() + 1);
        let id = root_ids[which % root_ids.len()];
        let tree = FragmentTree::new(Sharding::Range)
            .divided(
                FragmentId::ROOT,
                &Division::Range {
                    splits: boxed(splits),
                    ids: root_ids.into(),
                },
            )
            .unwrap();
        // It stays an inner one as long as it has a RowSet.
        let tree = tree.with_row_sets(id, Arc::new([1])).unwrap();
        let division = Division::Range {
            ids: ids(100, splits_of_one.len() + 1).into(),
            splits: boxed(splits_of_one),
        };
        tree.divided(id, &division).unwrap()
    }

    proptest! {
        #[test]
        fn leaves_follow_one_another(
            splits in prop::collection::btree_set(10..200_u8, 1..6), which: usize, probe: u8,
        ) {
            let keys: Vec<Vec<u8>> = splits.iter().map(|&byte| vec![byte]).collect();
            let bounds: Vec<Option<Vec<u8>>> = keys.iter().cloned().map(Some).collect();
            let number = which % (keys.len() + 1);
            let lower = number.checked_sub(1).map_or(vec![0], |i| keys[i].clone());
            let inner = vec![[lower.clone(), vec![1]].concat(), [lower, vec![2]].concat()];
            let tree = tree(keys, inner.clone(), which);
            let mut expected = bounds;
            let inner = inner.into_iter().map(Some);
            expected.splice(number..number, inner);
            expected.push(None);

            let mut found = Vec::new();
            let mut at = tree.leaf(LeafAt::First).unwrap();
            prop_assert!(at.lower.is_none());
            loop {
                found.push(at.upper.map(<[u8]>::to_vec));
                let Some(upper) = at.upper else { break };
                let next = tree.leaf(LeafAt::Key(upper)).unwrap();
                prop_assert_eq!(next.lower, at.upper);
                prop_assert_eq!(tree.leaf(LeafAt::Below(upper)).unwrap().leaf.id, at.leaf.id);
                at = next;
            }
            prop_assert_eq!(at.leaf.id, tree.leaf(LeafAt::Last).unwrap().leaf.id);
            prop_assert_eq!(found, expected);

            let place = tree.leaf(LeafAt::Key(&[probe])).unwrap();
            let path: Vec<_> = tree.path(0, &[probe]).map(|fragment| fragment.id).collect();
            prop_assert_eq!(path.last(), Some(&place.leaf.id));
            prop_assert_eq!(tree.divided_fragments().len(), 2);
        }
    }
}
