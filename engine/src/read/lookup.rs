//! Finding one key: the generations newest first, then the fragments on the key's path.
//!
//! A [`Lookup`] borrows what it asks. Counting references would cost more than the lookup where several threads read, as
//! all of them would write the same counts.

use std::sync::Arc;

use super::merge::not_stored;
use crate::codec::Malformed;
use crate::error::{Error, Result};
use crate::generation::{Found, Generation, LOCATIONS_BIT};
use crate::row_set::get::get_from_first;
use crate::row_set::reader::FoundRow;
use crate::shared::Shared;
use crate::sync::{self, Point};
use crate::tree::files::HeldRowSet;
use crate::tree::state::TableTree;
use crate::tree::table::TableState;

/// A table at a commit sequence, borrowed for as long as it is asked for keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lookup<'a> {
    pub(super) table_id: u32,
    /// Newest first.
    pub(super) generations: &'a [Arc<Generation>],
    pub(super) tree: &'a TableTree<Arc<HeldRowSet>>,
    pub(super) seq: u64,
}

/// A value, where it lies.
#[derive(Debug)]
pub(crate) enum FoundValue<'a> {
    /// In a record's body.
    Body {
        body: &'a Arc<[u8]>,
        start: usize,
        len: usize,
    },
    /// In a page.
    Page(FoundRow),
}

impl FoundValue<'_> {
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            FoundValue::Body { body, start, len } => body
                .get(*start..)
                .and_then(|rest| rest.get(..*len))
                .unwrap_or_default(),
            FoundValue::Page(row) => row.value().unwrap_or_default(),
        }
    }
}

impl<'a> Lookup<'a> {
    /// Asks a table at a commit sequence that is pinned; without one, at the newest.
    #[inline]
    pub(crate) fn at<T>(
        shared: &Shared,
        table: &TableState,
        seq: Option<u64>,
        ask: impl FnOnce(Lookup<'_>) -> T,
    ) -> T {
        loop {
            let load_count = shared.generations.load_count();
            // The generations first: what leaves them meanwhile is in the tree then.
            let generations = shared.generations.list();
            shared.counters.count_gets(1, generations.len());
            sync::point(Point::Publish);
            let trees = table.trees.load();
            sync::point(Point::Publish);
            // The visible sequence last, so that all that is below level 0 is at or before it. Nothing is pinned then.
            let newest_seq = seq.unwrap_or_else(|| shared.pins.visible_seq());
            // Else a bulk load has become visible, and its rows are newer than the generations.
            if seq.is_some() || shared.generations.load_count() == load_count {
                return ask(Lookup {
                    table_id: table.id,
                    generations: &generations,
                    tree: &trees.rows,
                    seq: newest_seq,
                });
            }
        }
    }

    /// How many generations it asks at most.
    pub(crate) fn generation_count(self) -> usize {
        self.generations.len()
    }

    /// The row of a key.
    #[inline]
    pub(crate) fn get(self, hash: u64, key: &[u8]) -> Result<Option<FoundValue<'a>>> {
        match self.get_in_generations(hash, key) {
            Some(found) => Ok(found),
            None => {
                let found = self.find(hash, key)?;
                let row = found.filter(|(_, found)| found.value().is_some());
                Ok(row.map(|(_, found)| FoundValue::Page(found)))
            }
        }
    }

    /// What the generations say became of a key; `None` where they don't know it.
    #[inline]
    pub(crate) fn get_in_generations(
        self,
        hash: u64,
        key: &[u8],
    ) -> Option<Option<FoundValue<'a>>> {
        for generation in self.generations {
            let Some(table) = generation.table(self.table_id) else {
                continue;
            };
            match table.get(generation.bodies(), hash, key, self.seq) {
                Found::Nothing => {}
                Found::Deleted => return Some(None),
                Found::Row {
                    body,
                    value_start,
                    value_len,
                } => {
                    let body = generation.bodies().get(body);
                    return Some(body.map(|body| FoundValue::Body {
                        body,
                        start: value_start as usize,
                        len: value_len as usize,
                    }));
                }
            }
        }
        None
    }

    /// The newest row or tombstone of a key below level 0, and the RowSet that has it.
    #[inline]
    fn find(self, hash: u64, key: &[u8]) -> Result<Option<(&'a HeldRowSet, FoundRow)>> {
        let gone_seq = self.tree.gone_seq(key, self.seq);
        for fragment in self.tree.fragments.path(hash, key) {
            let seen = || {
                let row_sets = fragment.row_sets.iter();
                row_sets.filter(|held| self.sees(held, gone_seq))
            };
            let row_sets = seen().map(|held| &held.row_set);
            if let Some((number, found)) = get_from_first(row_sets, hash, key)? {
                return Ok(seen().nth(number).map(|held| (&**held, found)));
            }
        }
        Ok(None)
    }

    /// The error for a row that [`get`](Self::get) found and that is not what its place says.
    #[cold]
    pub(crate) fn corrupt(self, hash: u64, key: &[u8], malformed: Malformed) -> Error {
        match self.find(hash, key) {
            Ok(Some((held, _))) => held.corrupt(malformed.0),
            Ok(None) => not_stored(malformed),
            Err(error) => error,
        }
    }

    /// Whether a RowSet's rows were committed before the end, and not all before what is asked for was
    /// deleted with others. Locations are all
    /// of exports before the end.
    #[inline]
    pub(super) fn sees(self, held: &HeldRowSet, gone_seq: u64) -> bool {
        let head = &held.row_set.meta().head;
        (head.seq_from < self.seq || self.table_id & LOCATIONS_BIT != 0) && head.seq_to >= gone_seq
    }
}
