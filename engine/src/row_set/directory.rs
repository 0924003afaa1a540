//! The directory of a RowSet: where each page lies and which keys it may hold.
//!
//! Two levels of one kind of node: the leaves know the pages of rows, the top, in the RowSet's footer, knows the leaves.
//! For each child a node holds a *separator*: the shortest key that is above all keys of the pages before and not above
//! the child's first.

use crate::codec::{Malformed, Reader, len_u32, put_u32, put_u64};

/// Pages of rows that a leaf knows.
pub(crate) const PAGES_PER_LEAF: u32 = 256;

/// A page of rows as its directory knows it: a key above all that lie before it in its RowSet and not above its first, and
/// its bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fence {
    pub(crate) key: Box<[u8]>,
    pub(crate) size_bytes: u64,
}

/// Gathers the children of a node.
#[derive(Debug, Default)]
pub(crate) struct NodeBuilder {
    offsets: Vec<u64>,
    separator_ends: Vec<u32>,
    separators: Vec<u8>,
}

impl NodeBuilder {
    /// Appends a child that starts at that offset.
    pub(crate) fn push(&mut self, offset: u64, separator: &[u8]) {
        self.offsets.push(offset);
        self.separators.extend_from_slice(separator);
        self.separator_ends.push(len_u32(self.separators.len()));
    }

    /// Where the first child starts.
    pub(crate) fn first_offset(&self) -> u64 {
        self.offsets.first().copied().unwrap_or(0)
    }

    /// The first child's separator.
    pub(crate) fn first_separator(&self) -> &[u8] {
        let end = self.separator_ends.first().copied().unwrap_or(0);
        self.separators.get(..end as usize).unwrap_or_default()
    }

    /// Appends the node; `end_offset` is where its last child ends.
    pub(crate) fn encode(&self, end_offset: u64, out: &mut Vec<u8>) {
        put_u32(out, len_u32(self.offsets.len()));
        for offset in &self.offsets {
            put_u64(out, *offset);
        }
        put_u64(out, end_offset);
        for end in &self.separator_ends {
            put_u32(out, *end);
        }
        out.extend_from_slice(&self.separators);
    }
}

/// The shortest key above `below` and not above `first`, which is above `below`.
pub(crate) fn separator<'a>(below: &[u8], first: &'a [u8]) -> &'a [u8] {
    let common = below.iter().zip(first).take_while(|(a, b)| a == b).count();
    first.get(..common + 1).unwrap_or(first)
}

/// A node, borrowed from its page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node<'a> {
    offsets: &'a [[u8; 8]],
    separator_ends: &'a [[u8; 4]],
    separators: &'a [u8],
}

impl<'a> Node<'a> {
    pub(crate) fn decode(content: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(content);
        let count = reader.count(12)?;
        let offsets = reader.bytes((count + 1) * 8)?.as_chunks().0;
        let separator_ends = reader.bytes(count * 4)?.as_chunks().0;
        Ok(Node {
            offsets,
            separator_ends,
            separators: reader.remaining(),
        })
    }

    pub(crate) fn child_count(&self) -> usize {
        self.separator_ends.len()
    }

    /// Where a child starts and ends.
    pub(crate) fn span(&self, child: usize) -> Result<(u64, u64), Malformed> {
        let offset = |i: usize| self.offsets.get(i).map(|bytes| u64::from_le_bytes(*bytes));
        match (offset(child), offset(child + 1)) {
            (Some(start), Some(end)) if start < end && child < self.child_count() => {
                Ok((start, end))
            }
            _ => Err(Malformed("the directory has no such page")),
        }
    }

    /// The child that holds the first key that is not below the given one; or that is the last before it.
    pub(crate) fn find(&self, key: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.child_count());
        while low < high {
            let middle = low.midpoint(high);
            if self.separator(middle) <= key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low.saturating_sub(1)
    }

    /// A key above all of the children before one, and not above its first.
    pub(crate) fn separator(&self, child: usize) -> &'a [u8] {
        let end = |i: usize| {
            self.separator_ends
                .get(i)
                .map_or(0, |bytes| u32::from_le_bytes(*bytes) as usize)
        };
        let start = child.checked_sub(1).map_or(0, end);
        self.separators.get(start..end(child)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn keys() -> impl Strategy<Value = BTreeSet<Vec<u8>>> {
        let key = prop::collection::vec(prop::sample::select(vec![0u8, 1, 255]), 0..6);
        prop::collection::btree_set(key, 2..60)
    }

    proptest! {
        #[test]
        fn a_separator_divides_and_is_short(keys in keys()) {
            for (below, first) in keys.iter().zip(keys.iter().skip(1)) {
                let found = separator(below, first);
                prop_assert!(&below[..] < found && found <= &first[..]);
                prop_assert!(found[..found.len() - 1] <= below[..]);
            }
        }

        #[test]
        fn a_node_finds_the_child_of_a_key(keys in keys(), probe in prop::collection::vec(any::<u8>(), 0..6)) {
            let keys: Vec<_> = keys.into_iter().collect();
            let pages: Vec<_> = keys.chunks(3).collect();
            let mut builder = NodeBuilder::default();
            let mut below: Option<&[u8]> = None;
            for (i, page) in pages.iter().enumerate() {
                builder.push(i as u64 * 10, below.map_or(&[], |below| separator(below, &page[0])));
                below = page.last().map(Vec::as_slice);
            }
            let mut content = Vec::new();
            builder.encode(pages.len() as u64 * 10, &mut content);
            let node = Node::decode(&content).unwrap();
            prop_assert_eq!(node.child_count(), pages.len());
            for (i, page) in pages.iter().enumerate() {
                prop_assert_eq!(node.span(i), Ok((i as u64 * 10, i as u64 * 10 + 10)));
                for key in *page {
                    prop_assert_eq!(node.find(key), i);
                }
            }
            prop_assert!(node.span(pages.len()).is_err());
            // Everything in pages before is below the probe, everything in pages behind is not.
            let found = node.find(&probe);
            prop_assert!(pages[..found].iter().all(|page| page.iter().all(|key| *key < probe)));
            prop_assert!(pages[found + 1..].iter().all(|page| page.iter().all(|key| *key >= probe)));
        }

        #[test]
        fn damaged_nodes_are_refused_or_read_without_a_panic(
            keys in keys(), position: prop::sample::Index, byte: u8, cut: prop::sample::Index,
        ) {
            let mut builder = NodeBuilder::default();
            for key in &keys {
                builder.push(1, key);
            }
            let mut content = Vec::new();
            builder.encode(9, &mut content);
            *position.get_mut(&mut content) = byte;
            content.truncate(cut.index(content.len() + 1));
            if let Ok(node) = Node::decode(&content) {
                for child in 0..node.child_count() + 2 {
                    let _ = node.span(child);
                }
                node.find(b"\x01\x02");
            }
        }
    }
}
