//! Range deletes of a table: which keys a delta deleted without naming them.
//!
//! A delete of a range at a commit sequence hides every row of the range that was written before it. It stays as it is, a
//! fact about the table, until no older row is left: nothing is looked for when it is made. Whoever reads asks for the
//! newest delete of a key, and passes over what is older.
//!
//! The ranges may overlap at will, so they are kept in *segment trees* (Bentley, 1977): a range stands at O(log n) nodes,
//! and a key is asked for at the O(log n) nodes above it. A tree never changes. New deletes make a small one, and trees of
//! similar size become one (the logarithmic method of Bentley and Saxe, 1980), so neither a delete nor a question ever
//! costs time linear in their number.

use std::sync::Arc;

use crate::codec::{Malformed, Reader, len_u32, put_blob, put_u32, put_u64};
use crate::key_range::{KeyInterval, united};

/// What one delta deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RangeDelete {
    pub(crate) seq: u64,
    pub(crate) interval: KeyInterval,
}

/// The range deletes of a table. A clone costs nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct RangeDeletes {
    /// Each more than twice as large as the next.
    trees: Arc<[Arc<SegmentTree>]>,
}

/// Range deletes that do not change.
#[derive(Debug)]
struct SegmentTree {
    /// By sequence.
    deletes: Vec<RangeDelete>,
    /// Where ranges begin and end, ascending: keys between two of them are deleted by the same.
    bounds: Vec<Vec<u8>>,
    /// A binary tree over the pieces between the bounds: the children of n are 2n and 2n + 1, the pieces from `piece_count`
    /// on. At each node the sequences of the ranges that cover it and not its parent, ascending.
    nodes: Vec<Vec<u64>>,
    /// A power of two.
    piece_count: usize,
}

/// Range deletes as they are seen by a reader, from all places where some are kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hidden {
    /// With the sequence up to which each counts.
    parts: Vec<(RangeDeletes, u64)>,
}

impl RangeDelete {
    /// About how many bytes of memory it takes.
    pub(crate) fn size_bytes(&self) -> usize {
        let end = self.interval.end.as_ref().map_or(0, Vec::len);
        size_of::<Self>() + 4 * (self.interval.start.len() + end + size_of::<Vec<u8>>())
    }
}

impl RangeDeletes {
    /// Whether there are none.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.trees.is_empty()
    }

    /// The newest delete of a key up to a commit sequence; 0 for none.
    #[inline]
    pub(crate) fn newest_seq(&self, key: &[u8], seq: u64) -> u64 {
        let newest = self.trees.iter().map(|tree| tree.newest_seq(key, seq));
        newest.max().unwrap_or(0)
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &RangeDelete> {
        self.trees.iter().flat_map(|tree| &tree.deletes)
    }

    /// With more of them.
    pub(crate) fn with(&self, mut deletes: Vec<RangeDelete>) -> Self {
        let mut trees = self.trees.to_vec();
        deletes.retain(|delete| !delete.interval.is_empty());
        if deletes.is_empty() {
            return self.clone();
        }
        while let Some(last) = trees.pop_if(|last| last.deletes.len() <= 2 * deletes.len()) {
            deletes.extend_from_slice(&last.deletes);
        }
        trees.push(Arc::new(SegmentTree::new(deletes)));
        RangeDeletes {
            trees: trees.into(),
        }
    }

    /// Those that a condition holds for.
    pub(crate) fn filtered(&self, is_kept: impl Fn(&RangeDelete) -> bool) -> Self {
        let kept = self.iter().filter(|delete| is_kept(delete));
        RangeDeletes::default().with(kept.cloned().collect())
    }

    /// The same for all who read at one of some sequences, ascending, or behind all of these deletes: of several deletes
    /// of a key with none of the sequences between them, the newest.
    pub(crate) fn pruned(&self, boundaries: &[u64]) -> Self {
        let age = |delete: &RangeDelete| boundaries.partition_point(|&seq| seq < delete.seq);
        let mut deletes: Vec<_> = self.iter().cloned().collect();
        deletes.sort_by_key(|delete| delete.seq);
        let of_one_age = deletes.chunk_by(|a, b| age(a) == age(b));
        let pruned = of_one_age.flat_map(|deletes| SegmentTree::new(deletes.to_vec()).pieces());
        RangeDeletes::default().with(pruned.collect())
    }

    /// What was deleted after one sequence and up to another; ascending and disjoint.
    pub(crate) fn intervals(&self, after_seq: u64, seq: u64) -> Vec<KeyInterval> {
        let between = self
            .iter()
            .filter(|delete| delete.seq > after_seq && delete.seq <= seq);
        united(between.map(|delete| delete.interval.clone()).collect())
    }

    /// A key of some intervals that was deleted after a sequence.
    pub(crate) fn key_since(&self, after_seq: u64, intervals: &[KeyInterval]) -> Option<Vec<u8>> {
        let newer = self.iter().filter(|delete| delete.seq > after_seq);
        newer
            .filter_map(|delete| {
                let met = intervals
                    .iter()
                    .find(|one| one.overlaps(&delete.interval))?;
                Some(met.start.clone().max(delete.interval.start.clone()))
            })
            .next()
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_u32(out, len_u32(self.iter().count()));
        for delete in self.iter() {
            put_u64(out, delete.seq);
            encode_interval(&delete.interval, out);
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let count = reader.count(13)?;
        let deletes = (0..count).map(|_| {
            Ok(RangeDelete {
                seq: reader.u64()?,
                interval: decode_interval(reader)?,
            })
        });
        Ok(RangeDeletes::default().with(deletes.collect::<Result<_, _>>()?))
    }
}

impl PartialEq for RangeDeletes {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

/// The start, 0 or 1 for an end, and the end.
pub(crate) fn encode_interval(interval: &KeyInterval, out: &mut Vec<u8>) {
    put_blob(out, &interval.start);
    out.push(u8::from(interval.end.is_some()));
    if let Some(end) = &interval.end {
        put_blob(out, end);
    }
}

pub(crate) fn decode_interval(reader: &mut Reader<'_>) -> Result<KeyInterval, Malformed> {
    let start = reader.blob()?.to_vec();
    let end = match reader.u8()? {
        0 => None,
        _ => Some(reader.blob()?.to_vec()),
    };
    Ok(KeyInterval { start, end })
}

impl SegmentTree {
    fn new(mut deletes: Vec<RangeDelete>) -> Self {
        deletes.sort_by_key(|delete| delete.seq);
        let mut bounds: Vec<Vec<u8>> = deletes
            .iter()
            .flat_map(|delete| {
                let start = Some(&delete.interval.start);
                start.into_iter().chain(&delete.interval.end).cloned()
            })
            .filter(|bound| !bound.is_empty())
            .collect();
        bounds.sort_unstable();
        bounds.dedup();
        let piece_count = (bounds.len() + 1).next_power_of_two();
        let mut tree = SegmentTree {
            bounds,
            nodes: vec![Vec::new(); 2 * piece_count],
            piece_count,
            deletes,
        };
        for i in 0..tree.deletes.len() {
            tree.place(i);
        }
        tree
    }

    fn place(&mut self, number: usize) {
        let Some(RangeDelete { seq, interval }) = self.deletes.get(number) else {
            return;
        };
        let end = interval.end.as_ref();
        let mut from = self.piece_count + self.piece_of(&interval.start);
        let mut to = self.piece_count + end.map_or(self.piece_count, |end| self.piece_of(end));
        let seq = *seq;
        while from < to {
            if from % 2 == 1 {
                self.nodes
                    .get_mut(from)
                    .into_iter()
                    .for_each(|node| node.push(seq));
                from += 1;
            }
            if to % 2 == 1 {
                to -= 1;
                self.nodes
                    .get_mut(to)
                    .into_iter()
                    .for_each(|node| node.push(seq));
            }
            (from, to) = (from / 2, to / 2);
        }
    }

    fn piece_of(&self, key: &[u8]) -> usize {
        self.bounds.partition_point(|bound| bound.as_slice() <= key)
    }

    fn newest_seq(&self, key: &[u8], seq: u64) -> u64 {
        self.newest_of_piece(self.piece_of(key), seq)
    }

    fn newest_of_piece(&self, piece: usize, seq: u64) -> u64 {
        let (mut node, mut newest) = (self.piece_count + piece, 0);
        while node > 0 {
            if let Some(seqs) = self.nodes.get(node)
                && let Some(before) = seqs.partition_point(|&one| one <= seq).checked_sub(1)
            {
                newest = newest.max(seqs.get(before).copied().unwrap_or(0));
            }
            node /= 2;
        }
        newest
    }

    fn bound_of(
        &self,
        key: &[u8],
        written_seq: u64,
        seq: u64,
        descending: bool,
    ) -> Option<Option<&[u8]>> {
        let is_deleted = |piece: usize| self.newest_of_piece(piece, seq) > written_seq;
        let mut piece = self.piece_of(key);
        if !is_deleted(piece) {
            return None;
        }
        if descending {
            while piece > 0 && is_deleted(piece - 1) {
                piece -= 1;
            }
            return Some(piece.checked_sub(1).and_then(|before| self.bound(before)));
        }
        while piece < self.bounds.len() && is_deleted(piece + 1) {
            piece += 1;
        }
        Some(self.bound(piece))
    }

    fn bound(&self, number: usize) -> Option<&[u8]> {
        self.bounds.get(number).map(Vec::as_slice)
    }

    /// The newest delete of every key, in ranges that don't overlap.
    fn pieces(&self) -> Vec<RangeDelete> {
        let mut pieces: Vec<RangeDelete> = Vec::new();
        let starts = std::iter::once(Vec::new()).chain(self.bounds.iter().cloned());
        for (piece, start) in starts.enumerate() {
            let seq = self.newest_of_piece(piece, u64::MAX);
            let end = self.bounds.get(piece).cloned();
            match pieces.last_mut() {
                Some(last) if last.seq == seq && last.interval.end.as_ref() == Some(&start) => {
                    last.interval.end = end;
                }
                _ if seq > 0 => pieces.push(RangeDelete {
                    seq,
                    interval: KeyInterval { start, end },
                }),
                _ => {}
            }
        }
        pieces
    }
}

impl Hidden {
    /// Adds deletes as of a commit sequence.
    pub(crate) fn add(&mut self, deletes: &RangeDeletes, seq: u64) {
        if !deletes.is_empty() {
            self.parts.push((deletes.clone(), seq));
        }
    }

    /// Whether nothing is deleted.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// What was deleted after a sequence; ascending and disjoint.
    pub(crate) fn intervals(&self, after_seq: u64) -> Vec<KeyInterval> {
        let parts = self.parts.iter();
        united(
            parts
                .flat_map(|(deletes, seq)| deletes.intervals(after_seq, *seq))
                .collect(),
        )
    }

    /// Where the deleted keys around a deleted one end, or in descending order begin, for rows that were written at a
    /// sequence or before. `None` if the key is not deleted; within, `None` where there is no such bound.
    pub(crate) fn bound_of(
        &self,
        key: &[u8],
        written_seq: u64,
        descending: bool,
    ) -> Option<Option<&[u8]>> {
        let trees = self
            .parts
            .iter()
            .flat_map(|(deletes, seq)| deletes.trees.iter().map(move |tree| (tree, *seq)));
        trees
            .filter_map(|(tree, seq)| tree.bound_of(key, written_seq, seq, descending))
            .next()
    }

    /// Whether the row of a key is deleted that was written at a sequence, or before.
    pub(crate) fn hides(&self, key: &[u8], written_seq: u64) -> bool {
        let mut parts = self.parts.iter();
        parts.any(|(deletes, seq)| deletes.newest_seq(key, *seq) > written_seq)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_interval() -> impl Strategy<Value = KeyInterval> {
        let key = || prop::collection::vec(0..4_u8, 0..3);
        (key(), prop::option::of(key())).prop_map(|(start, end)| KeyInterval { start, end })
    }

    proptest! {
        #[test]
        fn deletes_of_a_key_are_found(
            batches in prop::collection::vec(prop::collection::vec(any_interval(), 1..4), 0..20),
            keys in prop::collection::vec(prop::collection::vec(0..4_u8, 0..4), 1..20),
            mut boundaries in prop::collection::vec(1..25_u64, 0..4),
        ) {
            boundaries.sort_unstable();
            let mut deletes = RangeDeletes::default();
            let mut all = Vec::new();
            for (seq, intervals) in (1..).zip(batches) {
                let new: Vec<_> = intervals.into_iter().map(|interval| RangeDelete { seq, interval }).collect();
                all.extend(new.clone());
                deletes = deletes.with(new);
            }
            let mut bytes = Vec::new();
            deletes.encode(&mut bytes);
            let decoded = RangeDeletes::decode(&mut Reader::new(&bytes)).unwrap();
            let pruned = decoded.pruned(&boundaries);
            let newest = |key: &[u8], seq| {
                let covering = all.iter().filter(|one| one.seq <= seq && one.interval.contains(key));
                covering.map(|one| one.seq).max().unwrap_or(0)
            };
            let intervals = deletes.intervals(3, 9);
            let mut hidden = Hidden::default();
            hidden.add(&deletes, 20);
            for (from, to) in keys.iter().zip(keys.iter().skip(1)) {
                for descending in [false, true] {
                    let Some(bound) = hidden.bound_of(from, 5, descending) else {
                        prop_assert!(!hidden.hides(from, 5));
                        continue;
                    };
                    let is_between = match (bound, descending) {
                        (None, false) => from <= to,
                        (None, true) => to <= from,
                        (Some(end), false) => from <= to && to.as_slice() < end,
                        (Some(start), true) => start <= to.as_slice() && to <= from,
                    };
                    prop_assert!(!is_between || hidden.hides(to, 5));
                }
            }
            for key in &keys {
                for seq in 0..25 {
                    prop_assert_eq!(deletes.newest_seq(key, seq), newest(key, seq));
                    prop_assert_eq!(decoded.newest_seq(key, seq), newest(key, seq));
                }
                // A row is hidden from who reads at a boundary, or behind all, as before.
                for &seq in boundaries.iter().chain(&[u64::MAX]) {
                    for written in boundaries.iter().chain(&[0, seq]).filter(|&&written| written <= seq) {
                        let hides = |deletes: &RangeDeletes| deletes.newest_seq(key, seq) > *written;
                        prop_assert_eq!(hides(&pruned), hides(&deletes));
                    }
                }
                let deleted = all.iter().any(|one| (4..=9).contains(&one.seq) && one.interval.contains(key));
                prop_assert_eq!(crate::key_range::is_in(&intervals, key), deleted);
            }
        }

        #[test]
        fn damaged_deletes_are_malformed_or_decode(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = RangeDeletes::decode(&mut Reader::new(&bytes));
        }
    }

    /// Whoever deletes up to a time, again and again, keeps one range and not one for each time.
    #[test]
    fn deletes_that_newer_ones_contain_are_forgotten() {
        let mut deletes = RangeDeletes::default();
        for seq in 1..=1000_u64 {
            let end = Some(seq.to_be_bytes().to_vec());
            let interval = KeyInterval {
                start: Vec::new(),
                end,
            };
            deletes = deletes.with(vec![RangeDelete { seq, interval }]);
        }
        assert!(deletes.trees.len() <= 10);
        assert_eq!(deletes.pruned(&[]).iter().count(), 1);
        assert_eq!(deletes.pruned(&[500]).iter().count(), 2);
    }
}
