//! What a reader takes of a table: its generations and its tree.

use std::sync::Arc;

use super::merge::{Merge, Source, not_stored};
use super::range::KeyRange;
use super::rows::Rows;
use crate::cache::table::TableState;
use crate::codec::Malformed;
use crate::error::{Error, Result};
use crate::generation::{Found, Generation, GenerationCursor, LOCATIONS_BIT};
use crate::row_set::reader::FoundRow;
use crate::shared::Shared;
use crate::tree::files::HeldRowSet;
use crate::tree::fragment::Fragment;
use crate::tree::state::{Exports, TableTree};

/// What a scan of all rows reads at once.
const READ_SIZE_BYTES: usize = 256 << 10;

/// A table, or the locations of its exported rows, at a commit sequence.
#[derive(Clone, Debug)]
pub(crate) struct View {
    table_id: u32,
    /// Newest first.
    generations: Arc<Vec<Arc<Generation>>>,
    tree: Arc<TableTree<Arc<HeldRowSet>>>,
    seq: u64,
    /// Only what was written after it.
    after_seq: u64,
}

/// A value, where it lies.
#[derive(Debug)]
pub(crate) enum FoundValue {
    /// In a record's body.
    Body {
        body: Arc<[u8]>,
        start: usize,
        len: usize,
    },
    /// In a page.
    Page(FoundRow),
}

impl FoundValue {
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

impl View {
    /// The table as of a commit sequence that is pinned.
    pub(crate) fn at(shared: &Shared, table: &TableState, seq: u64) -> Self {
        // The generations first: what leaves them meanwhile is in the tree then.
        let generations = shared.generations.list().clone();
        let tree = table.trees.load().rows.clone();
        View {
            table_id: table.id,
            generations,
            tree,
            seq,
            after_seq: 0,
        }
    }

    /// The newest state of the table, for one lookup. Nothing is pinned: the visible sequence is taken last, so all that
    /// the view holds below level 0 is at or before it.
    pub(crate) fn newest(shared: &Shared, table: &TableState) -> Self {
        loop {
            let load_count = shared.generations.load_count();
            let mut view = View::at(shared, table, 0);
            view.seq = shared.pins.visible_seq();
            // Else the generations may be older than rows of the tree.
            if shared.generations.load_count() == load_count {
                return view;
            }
        }
    }

    /// What changed of a table from its last committed export to a pinned sequence, the locations of its exported rows
    /// as of that export, and the export.
    pub(crate) fn of_changes(
        shared: &Shared,
        table: &TableState,
        seq: u64,
    ) -> (View, View, Arc<Exports>) {
        loop {
            let exports = table.exports.load_full();
            let generations = shared.generations.list().clone();
            let trees = table.trees.load_full();
            // Else the trees may hold locations of a later export.
            if !Arc::ptr_eq(&exports, &table.exports.load()) {
                continue;
            }
            let exported_seq = exports.base.as_ref().map_or(0, |base| base.seq);
            let rows = View {
                table_id: table.id,
                generations: generations.clone(),
                tree: trees.rows.clone(),
                seq,
                after_seq: exported_seq,
            };
            let locations = View {
                table_id: table.id | LOCATIONS_BIT,
                generations,
                tree: trees.locations.clone(),
                seq: exported_seq,
                after_seq: 0,
            };
            return (rows, locations, exports);
        }
    }

    /// The newest delta that emptied the table; 0 for none.
    pub(crate) fn truncate_seq(&self) -> u64 {
        let in_generations = self.generations.iter().filter_map(|generation| {
            let table = generation.table(self.table_id)?;
            Some(table.truncate_seq(self.seq))
        });
        in_generations
            .max()
            .unwrap_or(0)
            .max(self.tree.truncate_seq(self.seq))
    }

    /// Only what was written after the last export.
    pub(crate) fn after_seq(&self) -> u64 {
        self.after_seq
    }

    /// The row of a key.
    pub(crate) fn get(&self, hash: u64, key: &[u8]) -> Result<Option<FoundValue>> {
        for generation in self.generations.iter() {
            let Some(table) = generation.table(self.table_id) else {
                continue;
            };
            match table.get(generation.bodies(), hash, key, self.seq) {
                Found::Nothing => {}
                Found::Deleted => return Ok(None),
                Found::Row {
                    body,
                    value_start,
                    value_len,
                } => {
                    let body = generation.bodies().get(body).cloned();
                    return Ok(body.map(|body| FoundValue::Body {
                        body,
                        start: value_start as usize,
                        len: value_len as usize,
                    }));
                }
            }
        }
        let found = self.find(hash, key)?;
        let row = found.filter(|(_, found)| found.value().is_some());
        Ok(row.map(|(_, found)| FoundValue::Page(found)))
    }

    /// The newest row or tombstone of a key below level 0, and the RowSet that has it.
    fn find(&self, hash: u64, key: &[u8]) -> Result<Option<(&HeldRowSet, FoundRow)>> {
        let truncate_seq = self.tree.truncate_seq(self.seq);
        for fragment in self.tree.fragments.path(hash, key) {
            for held in fragment.row_sets.iter() {
                if !self.sees(held) || held.row_set.meta().head.seq_to < truncate_seq {
                    continue;
                }
                if let Some(found) = held.row_set.get(hash, key)? {
                    return Ok(Some((held, found)));
                }
            }
        }
        Ok(None)
    }

    /// The error for a row that [`get`](Self::get) found and that is not what its place says.
    pub(crate) fn corrupt(&self, hash: u64, key: &[u8], malformed: Malformed) -> Error {
        match self.find(hash, key) {
            Ok(Some((held, _))) => held.corrupt(malformed.0),
            Ok(None) => not_stored(malformed),
            Err(error) => error,
        }
    }

    /// Whether the rows of a RowSet were committed before the view's end. Locations are all of exports before it.
    fn sees(&self, held: &HeldRowSet) -> bool {
        let head = held.row_set.meta().head;
        head.seq_from < self.seq || self.table_id & LOCATIONS_BIT != 0
    }

    /// The rows of a range in key order, or against it; with `tombstones`, also the keys that are deleted.
    pub(crate) fn scan(&self, range: KeyRange, descending: bool, tombstones: bool) -> Merge {
        let truncate_seq = self.truncate_seq();
        let mut sources = self.generation_sources(truncate_seq, descending);
        // Fragments of one level share no key, and newer rows lie further up.
        for fragment in self.tree.fragments.fragments() {
            for held in self.wanted(fragment, &range, truncate_seq) {
                sources.push(Source::RowSet(held.row_set.cursor(), held.clone()));
            }
        }
        Merge::new(sources, range, descending, tombstones)
    }

    /// The rows of a range in no order.
    pub(crate) fn scan_unordered(&self, range: KeyRange) -> Rows {
        let fragments = self.tree.fragments.fragments();
        let is_mixed = |fragment: &Arc<Fragment<_>>| {
            fragment.children.is_some() && !fragment.row_sets.is_empty()
        };
        if fragments.iter().any(|fragment| is_mixed(fragment)) {
            // Rows on their way down replace some of several leaves.
            let merge = self.scan(range, false, false);
            return Rows::ordered(self.clone(), merge);
        }
        let truncate_seq = self.truncate_seq();
        let leaves = fragments.into_iter().map(|fragment| {
            let wanted = self.wanted(fragment, &range, truncate_seq);
            let sources = wanted.map(|held| {
                let cursor = held.row_set.stream(READ_SIZE_BYTES);
                Source::RowSet(cursor, held.clone())
            });
            Merge::new(sources.collect(), range.clone(), false, false)
        });
        let leaves = leaves.collect();
        let sources = self.generation_sources(truncate_seq, false);
        let generations = Merge::new(sources, range, false, false);
        Rows::of_leaves(self.clone(), leaves, generations)
    }

    /// Whether a generation says what became of a key.
    pub(crate) fn generations_know(&self, hash: u64, key: &[u8]) -> bool {
        self.generations.iter().any(|generation| {
            generation.table(self.table_id).is_some_and(|table| {
                table.get(generation.bodies(), hash, key, self.seq) != Found::Nothing
            })
        })
    }

    fn generation_sources(&self, truncate_seq: u64, descending: bool) -> Vec<Source> {
        // A truncate hides what was written before it, also in older generations.
        let after_seq = self.after_seq.max(truncate_seq.saturating_sub(1));
        let cursors = self.generations.iter().filter_map(|generation| {
            GenerationCursor::new(generation, self.table_id, after_seq, self.seq, descending)
        });
        cursors.map(Source::Generation).collect()
    }

    /// The RowSets of a fragment that hold rows of a range.
    fn wanted<'f>(
        &self,
        fragment: &'f Fragment<Arc<HeldRowSet>>,
        range: &KeyRange,
        truncate_seq: u64,
    ) -> impl Iterator<Item = &'f Arc<HeldRowSet>> {
        // What the oldest generation still holds may be in the tree already.
        let oldest_seq = self
            .generations
            .last()
            .map_or(u64::MAX, |one| one.seq_from());
        fragment.row_sets.iter().filter(move |held| {
            let meta = held.row_set.meta();
            self.sees(held)
                && meta.head.seq_from < oldest_seq
                && meta.head.seq_from >= self.after_seq
                && meta.head.seq_to >= truncate_seq
                && range.starts_before(&meta.key_max)
                && range.ends_after(&meta.key_min)
        })
    }
}
