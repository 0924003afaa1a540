//! Finding many keys at once.
//!
//! The generations are asked key by key. What they don't know goes down its path in the tree, and of all keys on their
//! way a group asks one RowSet each at the same time, whichever those are: so the waits for memory overlap although the
//! keys of a group lie in different fragments.

use std::sync::Arc;

use super::lookup::Lookup;
use crate::error::Result;
use crate::row_set::multi_get::{GROUP_SIZE, HashedKey, get_group};
use crate::row_set::reader::RowSet;
use crate::tree::files::HeldRowSet;
use crate::tree::fragment::Fragment;

/// A key on its way down the tree.
struct Walk<'a, P> {
    /// The key's place among all.
    place: usize,
    key: HashedKey<'a>,
    /// The fragments that come next.
    path: P,
    /// The RowSets of the fragment at hand that come next.
    row_sets: std::slice::Iter<'a, Arc<HeldRowSet>>,
    /// RowSets that end before it hold nothing of the key.
    gone_seq: u64,
}

impl<'a> Lookup<'a> {
    /// Calls `found` with the place and the value of each key that has a row, in no order.
    pub(crate) fn multi_get(
        self,
        keys: &'a [HashedKey<'a>],
        mut found: impl FnMut(usize, &[u8]),
    ) -> Result<()> {
        let mut keys = keys.iter().enumerate();
        let mut group = Vec::with_capacity(GROUP_SIZE);
        let mut is_answered = [false; GROUP_SIZE];
        loop {
            while group.len() < GROUP_SIZE
                && let Some((place, key)) = keys.next()
            {
                if let Some(known) = self.get_in_generations(key.hash, key.key) {
                    if let Some(value) = known {
                        found(place, value.bytes());
                    }
                    continue;
                }
                let walk = Walk {
                    place,
                    key: *key,
                    path: self.tree.fragments.path(key.hash, key.key),
                    row_sets: [].iter(),
                    gone_seq: self.tree.gone_seq(key.key, self.seq),
                };
                group.extend(self.go_on(walk));
            }
            if group.is_empty() {
                return Ok(());
            }
            let mut questions = [None; GROUP_SIZE];
            for (question, (walk, row_set)) in questions.iter_mut().zip(&group) {
                *question = Some((*row_set, walk.key));
            }
            get_group(&questions, |i, row| {
                if let (Some(is_answered), Some((walk, _))) = (is_answered.get_mut(i), group.get(i))
                {
                    *is_answered = true;
                    if let Some(value) = row.value {
                        found(walk.place, value);
                    }
                }
            })?;
            let asked = group.drain(..).zip(std::mem::take(&mut is_answered));
            let unanswered = asked.filter_map(
                |((walk, _), is_answered)| {
                    if is_answered { None } else { self.go_on(walk) }
                },
            );
            group = unanswered.collect();
        }
    }

    /// The next RowSet that may hold the key of a walk.
    #[inline]
    fn go_on<P: Iterator<Item = &'a Fragment<Arc<HeldRowSet>>>>(
        self,
        mut walk: Walk<'a, P>,
    ) -> Option<(Walk<'a, P>, &'a RowSet)> {
        loop {
            let sees = |held: &&Arc<HeldRowSet>| self.sees(held, walk.gone_seq);
            if let Some(held) = walk.row_sets.find(sees) {
                return Some((walk, &held.row_set));
            }
            walk.row_sets = walk.path.next()?.row_sets.iter();
        }
    }
}
