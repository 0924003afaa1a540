//! What a reader takes of a table: its generations and its tree.

use std::sync::Arc;

use super::leaves::Leaves;
use super::lookup::{FoundValue, Lookup};
use super::merge::{Merge, Source};
use crate::deletes::Hidden;
use crate::error::Result;
use crate::exported::files::Exports;
use crate::generation::{Generation, GenerationCursor, LOCATIONS_BIT};
use crate::key_range::{KeyInterval, KeyRange};
use crate::row_set::meta::RowSetMeta;
use crate::sharding::Sharding;
use crate::shared::Shared;
use crate::sync::{self, Point};
use crate::tree::files::HeldRowSet;
use crate::tree::fragment::{Fragment, FragmentTree};
use crate::tree::state::TableTree;
use crate::tree::table::TableState;

/// What a scan past the page cache reads at once of a RowSet.
const STREAM_SIZE_BYTES: usize = 64 << 10;

/// A table, or the locations of its exported rows, at a commit sequence.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(super) table_id: u32,
    /// Newest first.
    pub(crate) generations: Arc<Vec<Arc<Generation>>>,
    pub(super) tree: Arc<TableTree<Arc<HeldRowSet>>>,
    pub(super) seq: u64,
    /// Only what was written after it.
    after_seq: u64,
    /// Whether its ordered scans read past the page cache, since they read a whole table once.
    streams: bool,
    /// What a transaction wrote that is not committed.
    pub(super) own: Option<Arc<Generation>>,
}

impl View {
    /// The table as of a commit sequence that is pinned.
    pub(crate) fn at(shared: &Shared, table: &TableState, seq: u64) -> Self {
        // The generations first: what leaves them meanwhile is in the tree then.
        let generations = shared.generations.list().clone();
        sync::point(Point::Publish);
        let tree = table.trees.load().rows.clone();
        View {
            table_id: table.id,
            generations,
            tree,
            seq,
            after_seq: 0,
            streams: false,
            own: None,
        }
    }

    /// The same with what a transaction wrote over it; for scans.
    pub(crate) fn under(self, own: Option<Arc<Generation>>) -> Self {
        View { own, ..self }
    }

    /// What changed of a table from its last committed export to a pinned sequence, the locations of its exported rows
    /// as of that export, and the export.
    pub(crate) fn of_changes(
        shared: &Shared,
        table: &TableState,
        seq: u64,
    ) -> (View, View, Arc<Exports>) {
        let _published = table.publishing.read();
        loop {
            let exports = table.exports.load_full();
            let generations = shared.generations.list().clone();
            sync::point(Point::Publish);
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
                streams: exports.base.is_none(),
                own: None,
            };
            let locations = View {
                table_id: table.id | LOCATIONS_BIT,
                generations,
                tree: trees.locations.clone(),
                seq: exports.placement_count,
                after_seq: 0,
                streams: false,
                own: None,
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
        let own = self.own.as_ref().and_then(|own| own.table(self.table_id));
        let own = own.map(|table| table.truncate_seq(u64::MAX));
        in_generations
            .chain(own)
            .max()
            .unwrap_or(0)
            .max(self.tree.truncate_seq(self.seq))
    }

    /// Only what was written after the last export.
    pub(crate) fn after_seq(&self) -> u64 {
        self.after_seq
    }

    /// What it asks for single keys.
    pub(crate) fn lookup(&self) -> Lookup<'_> {
        Lookup {
            table_id: self.table_id,
            generations: &self.generations,
            tree: &self.tree,
            seq: self.seq,
        }
    }

    /// The row of a key.
    pub(crate) fn get(&self, hash: u64, key: &[u8]) -> Result<Option<FoundValue<'_>>> {
        self.lookup().get(hash, key)
    }

    /// The rows of a range in key order, or against it; with `tombstones`, also the keys that are deleted.
    pub(crate) fn scan(&self, range: KeyRange, descending: bool, tombstones: bool) -> Merge {
        let truncate_seq = self.truncate_seq();
        let mut sources = self.generation_sources(truncate_seq, descending);
        let tree = &self.tree.fragments;
        let shard_hash = tree.sharding().hash_of_range(&range);
        // Fragments of one level share no key, and newer rows lie further up.
        let fragments = match (tree.sharding(), shard_hash) {
            (Sharding::Range, _) => tree.divided_fragments(),
            (_, Some(shard_hash)) => tree.hash_path(shard_hash),
            _ => tree.fragments(),
        };
        for fragment in fragments {
            sources.extend(self.fragment_sources(fragment, &range, truncate_seq));
        }
        let leaves = matches!(tree.sharding(), Sharding::Range)
            .then(|| Leaves::new(self.clone(), truncate_seq, range.clone(), descending));
        let merge = Merge::new(sources, range, descending, tombstones).without(self.hidden());
        match leaves {
            Some(leaves) => merge.above(leaves),
            None => merge,
        }
    }

    /// What was deleted by ranges.
    pub(super) fn hidden(&self) -> Hidden {
        let mut hidden = Hidden::default();
        let own = self.own.iter().map(|own| (own, u64::MAX));
        let committed = self.generations.iter().map(|one| (one, self.seq));
        for (generation, seq) in own.chain(committed) {
            if let Some(table) = generation.table(self.table_id) {
                hidden.add(&table.deletes(), seq);
            }
        }
        hidden.add(&self.tree.deletes, self.seq);
        hidden
    }

    /// The ranges that were deleted after the last export; ascending and disjoint.
    pub(crate) fn deleted(&self) -> Vec<KeyInterval> {
        self.hidden().intervals(self.after_seq)
    }

    /// Cursors of the RowSets of a fragment that hold rows of a range, newest first.
    pub(super) fn fragment_sources(
        &self,
        fragment: &Fragment<Arc<HeldRowSet>>,
        range: &KeyRange,
        truncate_seq: u64,
    ) -> impl Iterator<Item = Source> {
        let meets = |meta: &RowSetMeta| {
            range.starts_before(&meta.key_max) && range.ends_after(&meta.key_min)
        };
        let wanted = self.wanted(fragment, meets, truncate_seq);
        let streams = self.streams;
        wanted.map(move |held| {
            let cursor = match streams {
                true => held.row_set.stream(STREAM_SIZE_BYTES),
                false => held.row_set.cursor(),
            };
            Source::RowSet(cursor, held.clone())
        })
    }

    /// The table's fragments.
    pub(super) fn fragments(&self) -> &FragmentTree<Arc<HeldRowSet>> {
        &self.tree.fragments
    }

    pub(super) fn generation_sources(&self, truncate_seq: u64, descending: bool) -> Vec<Source> {
        let own = self.own.iter().map(|own| (own, u64::MAX));
        let committed = self.generations.iter().map(|one| (one, self.seq));
        let cursors = own.chain(committed).filter_map(|(generation, seq)| {
            let after = (self.after_seq, truncate_seq);
            GenerationCursor::new(generation, self.table_id, after, seq, descending)
        });
        cursors.map(Source::Generation).collect()
    }

    /// The RowSets of a fragment that hold rows, and may hold some that are wanted.
    pub(super) fn wanted<'f>(
        &self,
        fragment: &'f Fragment<Arc<HeldRowSet>>,
        may_want: impl Fn(&RowSetMeta) -> bool,
        truncate_seq: u64,
    ) -> impl Iterator<Item = &'f Arc<HeldRowSet>> {
        // What the oldest generation still holds may be in the tree already.
        let oldest_seq = self
            .generations
            .last()
            .map_or(u64::MAX, |one| one.seq_from());
        let lookup = self.lookup();
        fragment.row_sets.iter().filter(move |held| {
            let meta = held.row_set.meta();
            lookup.sees(held, truncate_seq)
                && meta.head.seq_from < oldest_seq
                && meta.head.seq_from >= self.after_seq
                && may_want(meta)
        })
    }
}
