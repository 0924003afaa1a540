//! Scans without order: a table as pieces of RowSets that are read by themselves, and what the generations hold.

use std::collections::HashMap;
use std::sync::Arc;

use super::key_filter::KeyFilter;
use super::merge::Merge;
use super::ordered::OrderedRows;
use super::piece::{AskedGeneration, PieceOfRowSet, RowFilter, Slots};
use super::rows::{Rows, TakeRows};
use super::view::View;
use crate::codec::Malformed;
use crate::codec::key::hash_key;
use crate::error::{Error, Result};
use crate::key_range::{KeyInterval, KeyRange};
use crate::row_set::meta::RowSetMeta;
use crate::row_set::rows_page::{RowRef, RowsView};
use crate::tree::files::HeldRowSet;
use crate::tree::fragment::{Fragment, FragmentId};

/// About what a reader takes at once: no reader is busy with its last piece for long.
const PIECE_SIZE_BYTES: u64 = 1 << 20;

/// Indexes of RowSets without patches are asked for single rows while they take up no more than this part of the memory
/// for pages; else a scan compares keys.
const INDEX_SHARE: u64 = 4;

impl View {
    /// The rows that a filter wants in no order, for so many readers that share them: each row goes to one of them.
    pub(crate) fn scan_unordered(
        &self,
        keys: &KeyFilter,
        reader_count: usize,
    ) -> Result<Vec<Rows>> {
        let pieces = self.pieces(keys)?;
        if !self.indexes_fit(&pieces) {
            return Ok(Rows::unordered(
                Vec::new(),
                RowFilter::default(),
                OrderedRows::new(self.clone(), keys.clone(), false),
                reader_count,
            ));
        }
        let filter = RowFilter {
            generations: self.generations_of_table(),
            hidden: self.hidden(),
            keys: keys.clone(),
        };
        let before = OrderedRows::in_memory(self.clone(), keys.clone());
        let pieces = pieces.into_iter().flat_map(cut).collect();
        Ok(Rows::unordered(pieces, filter, before, reader_count))
    }

    /// The rows that a filter wants in no order.
    pub(crate) fn scan_whole(&self, keys: &KeyFilter) -> Result<Rows> {
        let mut parts = self.scan_unordered(keys, 1)?;
        parts
            .pop()
            .ok_or_else(|| Error::Usage("a scan has no part".into()))
    }

    /// How many rows there are. What is resolved is counted without being read.
    pub(crate) fn row_count(&self) -> Result<u64> {
        let all = KeyFilter::all();
        let pieces = self.pieces(&all)?;
        let counted = pieces.iter().map(resolved_count).sum::<Option<u64>>();
        let truncate_seq = self.truncate_seq();
        let in_tree = truncate_seq == self.tree.truncate_seq(self.seq) && self.hidden().is_empty();
        if let Some(mut count) = counted.filter(|_| in_tree) {
            // Each key of the generations, and whether that is new.
            let sources = self.generation_sources(truncate_seq, false);
            let mut newest = Merge::new(sources, KeyRange::ALL, false, true);
            while newest.advance()? {
                let Some(row) = newest.row() else { break };
                count += u64::from(row.value.is_some());
                count -= u64::from(self.lives_below(row.key)?);
            }
            return Ok(count);
        }
        let mut counter = RowCounter(0);
        let mut rows = self.scan_whole(&all)?;
        while rows.give(usize::MAX, &mut counter)? > 0 {}
        Ok(counter.0)
    }
}

impl View {
    /// The pages of RowSets that may hold rows that are wanted, each with the newer RowSets that may replace some.
    fn pieces(&self, keys: &KeyFilter) -> Result<Vec<PieceOfRowSet>> {
        let mut pieces = Vec::new();
        let of_fragments = self.keys_of_fragments(keys);
        let root = self.tree.fragments.root();
        self.gather(root, &[], (keys, of_fragments.as_ref()), &mut pieces)?;
        Ok(pieces)
    }

    /// What each fragment can hold of the keys, where the hashes of their intervals tell; of others nothing. Else every leaf
    /// would read a page for each key that lies in another one.
    fn keys_of_fragments(&self, keys: &KeyFilter) -> Option<HashMap<FragmentId, KeyFilter>> {
        let tree = &self.tree.fragments;
        let mut wanted: HashMap<FragmentId, Vec<KeyInterval>> = HashMap::new();
        for interval in keys.intervals() {
            let shard_hash = tree.sharding().hash_of_range(&KeyRange::from(interval))?;
            for fragment in tree.hash_path(shard_hash) {
                let intervals = wanted.entry(fragment.id).or_default();
                intervals.push(interval.clone());
            }
        }
        let wanted = wanted.into_iter();
        let of_fragments = wanted.map(|(id, intervals)| (id, keys.within(intervals)));
        Some(of_fragments.collect())
    }

    /// Those of a fragment and what is below it; `above` holds what is above it, all of it newer.
    fn gather(
        &self,
        fragment: &Fragment<Arc<HeldRowSet>>,
        above: &[Arc<HeldRowSet>],
        (keys, of_fragments): (&KeyFilter, Option<&HashMap<FragmentId, KeyFilter>>),
        pieces: &mut Vec<PieceOfRowSet>,
    ) -> Result<()> {
        let mut newer = above.to_vec();
        let here = of_fragments.and_then(|all| all.get(&fragment.id));
        let here = here.unwrap_or(keys);
        let may_want =
            |meta: &RowSetMeta| here.may_want(&meta.key_min, &[&*meta.key_max, &[0]].concat());
        for held in self.wanted(fragment, may_want, self.truncate_seq()) {
            let meta = held.row_set.meta();
            let meets = |other: &&Arc<HeldRowSet>| {
                let other = other.row_set.meta();
                *other.key_min <= *meta.key_max && *meta.key_min <= *other.key_max
            };
            let piece = PieceOfRowSet {
                newer: newer.iter().filter(meets).cloned().collect(),
                known: Arc::default(),
                pages: 0..0,
                held: held.clone(),
            };
            let pages = here.pages_of(&held.row_set)?.into_iter();
            pieces.extend(pages.map(|pages| PieceOfRowSet {
                pages,
                ..piece.clone()
            }));
            newer.push(held.clone());
        }
        let children = fragment.children.iter();
        let children = children.flat_map(|children| children.fragments.iter());
        let may_hold = |id: &FragmentId| of_fragments.is_none_or(|all| all.contains_key(id));
        for child in children.filter(|child| may_hold(&child.id)) {
            self.gather(child, &newer, (keys, of_fragments), pieces)?;
        }
        Ok(())
    }

    /// Whether the indexes that are asked for every row stay in memory.
    fn indexes_fit(&self, pieces: &[PieceOfRowSet]) -> bool {
        let mut asked: Vec<&Arc<HeldRowSet>> = pieces.iter().flat_map(overlays).collect();
        asked.sort_unstable_by_key(|held| held.row_set.meta().place());
        asked.dedup_by_key(|held| held.row_set.meta().place());
        let limit = pieces.first().map_or(u64::MAX, |piece| {
            piece.held.row_set.cache_limit_bytes() / INDEX_SHARE
        });
        let size_bytes: u64 = asked
            .iter()
            .map(|held| held.row_set.meta().index_size_bytes())
            .sum();
        size_bytes <= limit
    }

    /// The generations that know the table.
    fn generations_of_table(&self) -> Vec<AskedGeneration> {
        let own = self.own.iter().map(|own| (own, u64::MAX));
        let committed = self.generations.iter().map(|one| (one, self.seq));
        let known = own.chain(committed).filter_map(|(generation, seq)| {
            Some(AskedGeneration {
                generation: generation.clone(),
                table: generation.table(self.table_id)?.clone(),
                seq,
            })
        });
        known.collect()
    }

    /// Whether a key has a row below level 0.
    fn lives_below(&self, key: &[u8]) -> Result<bool> {
        let hash = hash_key(key);
        for fragment in self.tree.fragments.path(hash, key) {
            for held in self.wanted(fragment, |_| true, self.truncate_seq()) {
                if let Some(found) = held.row_set.get(hash, key)? {
                    return Ok(found.value().is_some());
                }
            }
        }
        Ok(false)
    }
}

/// The newer RowSets that have no patch for that of a piece.
fn overlays(piece: &PieceOfRowSet) -> impl Iterator<Item = &Arc<HeldRowSet>> {
    let meta = piece.held.row_set.meta();
    let newer = piece.newer.iter();
    newer.filter(move |newer| newer.row_set.meta().target(meta).is_none())
}

/// The rows of a whole RowSet that no newer one replaces, if patches tell.
fn resolved_count(piece: &PieceOfRowSet) -> Option<u64> {
    let meta = piece.held.row_set.meta();
    let mut count = meta.row_count.checked_sub(meta.tombstone_count)?;
    for newer in piece.newer.iter() {
        let target = newer.row_set.meta().target(meta)?;
        count = count.checked_sub(target.live_count.into())?;
    }
    Some(count)
}

/// Cuts a piece into smaller ones, at the bounds of pages.
fn cut(piece: PieceOfRowSet) -> impl Iterator<Item = PieceOfRowSet> {
    let meta = piece.held.row_set.meta();
    let rows_size_bytes = meta.locations_offset.saturating_sub(meta.offset);
    let page_size_bytes = (rows_size_bytes / u64::from(meta.rows_page_count.max(1))).max(1);
    let step = usize::try_from(PIECE_SIZE_BYTES / page_size_bytes).unwrap_or(1);
    let pages = piece.pages.clone();
    pages.clone().step_by(step.max(1)).map(move |start| {
        let end = start.saturating_add(crate::codec::len_u32(step.max(1)));
        PieceOfRowSet {
            pages: start..end.min(pages.end),
            ..piece.clone()
        }
    })
}

/// Counts rows.
struct RowCounter(u64);

impl TakeRows for RowCounter {
    fn take_page(&mut self, _rows: RowsView<'_>, slots: Slots<'_>) -> Result<(), Malformed> {
        self.0 += slots.len() as u64;
        Ok(())
    }

    fn take_row(&mut self, _row: RowRef<'_>) -> Result<(), Malformed> {
        self.0 += 1;
        Ok(())
    }
}
