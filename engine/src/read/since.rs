//! What was written to a table after a commit sequence, whether it is visible yet or not.
//!
//! The sequence is pinned, so no RowSet reaches from before it to behind it: one that ends later holds nothing older. A
//! key that came and went in between may have left no trace below level 0; then it is as it was.

use std::sync::Arc;

use crate::cache::table::TableState;
use crate::error::Result;
use crate::generation::{Found, Generation};
use crate::key_range::{KeyInterval, is_in};
use crate::shared::Shared;
use crate::tree::files::HeldRowSet;
use crate::tree::state::TableTree;

/// What became of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// It has a row.
    Row,
    /// It has none.
    Gone,
}

/// What was written to a table after a commit sequence.
#[derive(Debug)]
pub(crate) struct Since {
    table_id: u32,
    after_seq: u64,
    /// Newest first, back to the one in which the sequence lies.
    generations: Vec<Arc<Generation>>,
    /// Only if that one was flushed.
    tree: Option<Arc<TableTree<Arc<HeldRowSet>>>>,
}

impl Since {
    /// What came after a sequence that is pinned.
    pub(crate) fn new(shared: &Shared, table: &TableState, after_seq: u64) -> Self {
        // The generations first: what leaves them meanwhile is in the tree then.
        let list = shared.generations.list().clone();
        let oldest = list.iter().position(|one| one.seq_from() <= after_seq);
        Since {
            table_id: table.id,
            after_seq,
            generations: match oldest {
                Some(oldest) => list.iter().take(oldest + 1).cloned().collect(),
                None => list.to_vec(),
            },
            tree: match oldest {
                Some(_) => None,
                None => Some(table.trees.load().rows.clone()),
            },
        }
    }

    /// What was written of a key last; `None` if nothing was.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt) or [`Error::Io`](crate::Error::Io) if a RowSet can't be read.
    pub(crate) fn key(&self, hash: u64, key: &[u8]) -> Result<Option<Written>> {
        for generation in &self.generations {
            let Some(table) = generation.table(self.table_id) else {
                continue;
            };
            match table.written_since(generation.bodies(), hash, key, self.after_seq) {
                Found::Nothing => {}
                Found::Deleted => return Ok(Some(Written::Gone)),
                Found::Row { .. } => return Ok(Some(Written::Row)),
            }
        }
        let Some(tree) = &self.tree else {
            return Ok(None);
        };
        let gone_seq = tree.gone_seq(key, u64::MAX);
        for fragment in tree.fragments.path(hash, key) {
            for held in fragment.row_sets.iter().filter(|held| self.is_newer(held)) {
                if let Some(found) = held.row_set.get(hash, key)? {
                    let lives =
                        found.value().is_some() && held.row_set.meta().head.seq_to >= gone_seq;
                    return Ok(Some(if lives { Written::Row } else { Written::Gone }));
                }
            }
        }
        Ok((gone_seq > self.after_seq).then_some(Written::Gone))
    }

    /// A key that was written in some intervals, which ascend and don't touch; an empty one if all of the table was.
    ///
    /// # Errors
    /// As [`key`](Self::key).
    pub(crate) fn key_in(&self, intervals: &[KeyInterval]) -> Result<Option<Vec<u8>>> {
        if intervals.is_empty() {
            return Ok(None);
        }
        for generation in &self.generations {
            let Some(table) = generation.table(self.table_id) else {
                continue;
            };
            if table.truncate_seq(u64::MAX) > self.after_seq {
                return Ok(Some(Vec::new()));
            }
            if let Some(key) = table.deletes().key_since(self.after_seq, intervals) {
                return Ok(Some(key));
            }
            let wanted = |key: &[u8]| is_in(intervals, key);
            let found = table.key_since(generation.bodies(), self.after_seq, wanted);
            if let Some(key) = found {
                return Ok(Some(key.to_vec()));
            }
        }
        let Some(tree) = &self.tree else {
            return Ok(None);
        };
        if tree.truncate_seq(u64::MAX) > self.after_seq {
            return Ok(Some(Vec::new()));
        }
        if let Some(key) = tree.deletes.key_since(self.after_seq, intervals) {
            return Ok(Some(key));
        }
        let fragments = tree.fragments.fragments();
        let row_sets = fragments
            .iter()
            .flat_map(|fragment| fragment.row_sets.iter());
        for held in row_sets.filter(|held| self.is_newer(held)) {
            for interval in intervals {
                if let Some(key) = first_in(held, interval)? {
                    return Ok(Some(key));
                }
            }
        }
        Ok(None)
    }

    fn is_newer(&self, held: &HeldRowSet) -> bool {
        held.row_set.meta().head.seq_to > self.after_seq
    }
}

/// The first key of a RowSet in an interval.
fn first_in(held: &HeldRowSet, interval: &KeyInterval) -> Result<Option<Vec<u8>>> {
    let meta = held.row_set.meta();
    if meta.key_max.as_ref() < interval.start.as_slice() || !interval.ends_after(&meta.key_min) {
        return Ok(None);
    }
    let mut cursor = held.row_set.cursor();
    cursor.seek(&interval.start)?;
    let row = cursor.row().filter(|row| interval.ends_after(row.key));
    Ok(row.map(|row| row.key.to_vec()))
}
