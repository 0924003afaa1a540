//! Which of several sorted sources comes next.
//!
//! A tree of losers (Knuth, The Art of Computer Programming 3, 5.4.1) over the sources, newest first. Its matches are
//! mostly decided by the first eight bytes of the keys, which it holds. And since a key meets each newer one like it in
//! a match before it comes up, a match that ends even is also what finds the keys that are repeated.

use std::cmp::Ordering;

use crate::codec::key::prefix_of;

/// What takes part: at a key, or at its end.
pub(crate) trait Keyed {
    /// The key it is at; `None` at the end.
    fn key(&self) -> Option<&[u8]>;
}

/// A source in a match.
#[derive(Clone, Copy, Debug)]
struct Contender {
    /// Of its key, in the order that is wanted; all ones at its end.
    prefix: u64,
    source: usize,
}

/// The order of sources by their keys, and by their age where keys are equal.
#[derive(Debug)]
pub(crate) struct LoserTree {
    /// Of each source, whether a newer one has the key that it is at.
    repeats: Vec<bool>,
    /// The losers of the matches: that of node n is played by the winners of nodes 2n and 2n + 1; sources are the leaves.
    losers: Vec<Contender>,
    winner: Contender,
    /// While the winner's prefix is below this, no other source can come before it or have its key. 0 if that is not
    /// known: it is found without work where a source wins twice in a row.
    lead_until: u64,
    descending: bool,
}

const NOBODY: Contender = Contender {
    prefix: u64::MAX,
    source: usize::MAX,
};

impl LoserTree {
    /// Plays all matches. The first to come to a node waits there for the other.
    pub(crate) fn new<S: Keyed>(sources: &[S], descending: bool) -> Self {
        let count = sources.len();
        let mut tree = LoserTree {
            repeats: vec![false; count],
            losers: vec![NOBODY; count],
            winner: NOBODY,
            lead_until: 0,
            descending,
        };
        for source in 0..count {
            let mut winner = tree.contender(sources, source);
            let mut node = (source + count) / 2;
            while let Some(&other) = tree.losers.get(node).filter(|_| node > 0) {
                let waits = other.source == NOBODY.source;
                if waits || tree.beats(sources, other, winner) {
                    if let Some(place) = tree.losers.get_mut(node) {
                        *place = winner;
                    }
                    winner = other;
                }
                if waits {
                    break;
                }
                node /= 2;
            }
            if node == 0 {
                tree.winner = winner;
            }
        }
        tree
    }

    /// The source that comes next, if there is any; it may be at its end, as all are then.
    #[inline]
    pub(crate) fn first(&self) -> usize {
        self.winner.source
    }

    /// Whether a newer source had the key that the first one is at.
    #[inline]
    pub(crate) fn is_repeated(&self) -> bool {
        self.repeats.get(self.winner.source).is_some_and(|is| *is)
    }

    /// Finds who comes next after the first source went to its next key. Costs one comparison as long as that one leads.
    #[inline]
    pub(crate) fn replay<S: Keyed>(&mut self, sources: &[S]) {
        let contender = self.contender(sources, self.winner.source);
        if contender.prefix < self.lead_until {
            self.winner = contender;
            return;
        }
        self.replay_matches(sources, contender);
    }

    fn replay_matches<S: Keyed>(&mut self, sources: &[S], contender: Contender) {
        if let Some(repeats) = self.repeats.get_mut(contender.source) {
            *repeats = false;
        }
        let mut winner = contender;
        let mut best_loser = u64::MAX;
        let mut node = (winner.source + sources.len()) / 2;
        while node > 0 {
            let Some(&loser) = self.losers.get(node) else {
                break;
            };
            best_loser = best_loser.min(loser.prefix);
            if self.beats(sources, loser, winner) {
                if let Some(place) = self.losers.get_mut(node) {
                    *place = winner;
                }
                winner = loser;
            }
            node /= 2;
        }
        let is_same = winner.source == contender.source;
        // The others lost on its way up, each to it or to one of those.
        self.lead_until = if is_same { best_loser } else { 0 };
        self.winner = winner;
    }

    #[inline]
    fn contender<S: Keyed>(&self, sources: &[S], source: usize) -> Contender {
        let prefix = match sources.get(source).and_then(Keyed::key) {
            Some(key) if self.descending => !prefix_of(key),
            Some(key) => prefix_of(key),
            None => u64::MAX,
        };
        Contender { prefix, source }
    }

    /// Whether `a` comes before `b`.
    #[inline]
    fn beats<S: Keyed>(&mut self, sources: &[S], a: Contender, b: Contender) -> bool {
        if a.prefix == b.prefix {
            return self.beats_by_key(sources, a.source, b.source);
        }
        a.prefix < b.prefix
    }

    /// Whether `a` comes before `b`, by the whole keys; of two with one key, the newer does.
    fn beats_by_key<S: Keyed>(&mut self, sources: &[S], a: usize, b: usize) -> bool {
        let key = |source: usize| sources.get(source).and_then(Keyed::key);
        let order = match (key(a), key(b)) {
            (Some(a), Some(b)) if self.descending => b.cmp(a),
            (Some(a), Some(b)) => a.cmp(b),
            (Some(_), None) => return true,
            (None, _) => return false,
        };
        if order == Ordering::Equal
            && let Some(repeats) = self.repeats.get_mut(a.max(b))
        {
            *repeats = true;
        }
        order.then(a.cmp(&b)) == Ordering::Less
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    /// Sorted keys, and how far they were read.
    struct Keys(Vec<Vec<u8>>, usize);

    impl Keyed for Keys {
        fn key(&self) -> Option<&[u8]> {
            self.0.get(self.1).map(Vec::as_slice)
        }
    }

    /// Keys that are equal, the beginning of others, longer than what is held of them, or all ones.
    fn any_key() -> impl Strategy<Value = Vec<u8>> {
        let short = prop::collection::vec(prop::sample::select(vec![0u8, 1, 255]), 0..4);
        let long = prop::collection::vec(prop::sample::select(vec![0u8, 255]), 7..10);
        prop_oneof![3 => short, 1 => long]
    }

    proptest! {
        #[test]
        fn each_key_comes_once_in_order_from_the_newest(
            sources in prop::collection::vec(prop::collection::btree_set(any_key(), 0..12), 0..10),
            descending: bool,
        ) {
            let mut expected = BTreeMap::new();
            for (source, keys) in sources.iter().enumerate().rev() {
                expected.extend(keys.iter().map(|key| (key.clone(), source)));
            }
            let mut expected: Vec<_> = expected.into_iter().collect();
            let in_order = |keys: BTreeSet<Vec<u8>>| {
                let mut keys: Vec<_> = keys.into_iter().collect();
                if descending {
                    keys.reverse();
                }
                Keys(keys, 0)
            };
            let mut sources: Vec<_> = sources.into_iter().map(in_order).collect();
            if descending {
                expected.reverse();
            }
            let mut tree = LoserTree::new(&sources, descending);
            let mut given = Vec::new();
            while let Some(key) = sources.get(tree.first()).and_then(Keyed::key) {
                if !tree.is_repeated() {
                    given.push((key.to_vec(), tree.first()));
                }
                sources[tree.first()].1 += 1;
                tree.replay(&sources);
            }
            prop_assert_eq!(given, expected);
        }
    }
}
