//! A generation's versions in key order.
//!
//! Writing keeps no order. Who asks for one pays for it: the versions that came since the last time are sorted into a
//! run, and runs of similar size are merged (the logarithmic method of Bentley and Saxe, 1980), so that a table that is
//! scanned all the time pays O(log n) a version, and one that never is, nothing.

use std::cmp::Ordering;
use std::sync::Arc;

use parking_lot::Mutex;

use super::versions::{Version, Versions};
use super::{Bodies, Generation, TableGeneration};
use crate::codec::key::prefix_of;
use crate::deletes::RangeDeletes;
use crate::row_set::rows_page::RowRef;

/// A version's number with the first bytes of its key, which mostly decide.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ranked {
    pub(super) prefix: u64,
    pub(super) number: u32,
}

type Run = Arc<[Ranked]>;
/// Held as a whole: threads that count references to each run would wait for each other.
pub(super) type Runs = Arc<[Run]>;

/// Versions in key order; of one key the newest first.
#[derive(Debug, Default)]
pub(super) struct SortedRuns {
    state: Mutex<Sorted>,
}

#[derive(Debug, Default)]
struct Sorted {
    /// Each much longer than the next.
    runs: Runs,
    /// The versions below this number are in the runs.
    covered: u32,
}

impl SortedRuns {
    /// All versions that are there now, in a few runs.
    pub(super) fn runs(&self, versions: &Versions, bodies: &Bodies) -> Runs {
        let mut sorted = self.state.lock();
        let len = versions.len();
        if sorted.covered < len {
            let ranked = (sorted.covered..len).filter_map(|number| {
                let version = versions.get(number)?;
                let prefix = prefix_of(version.key(bodies));
                Some(Ranked { prefix, number })
            });
            let mut run: Vec<Ranked> = ranked.collect();
            sort(&mut run, versions, bodies);
            let mut runs = sorted.runs.to_vec();
            while let Some(last) = runs.pop_if(|last| last.len() <= run.len() * 2) {
                // The standard library's sort finds the two runs and merges them.
                run.extend_from_slice(&last);
                run.sort_by(|a, b| compare(versions, bodies, a, b));
            }
            runs.push(run.into());
            sorted.runs = runs.into();
            sorted.covered = len;
        }
        sorted.runs.clone()
    }
}

/// The rows and tombstones of a table at a commit sequence, each key once, in key order or against it.
#[derive(Debug)]
pub(crate) struct GenerationCursor {
    generation: Arc<Generation>,
    table: Arc<TableGeneration>,
    runs: Runs,
    /// Of each run.
    positions: Vec<RunPosition>,
    descending: bool,
    seq: u64,
    after_seq: u64,
    truncate_seq: u64,
    deletes: RangeDeletes,
    current: Option<Version>,
}

/// How far a run was read: what is left of it.
#[derive(Debug)]
struct RunPosition {
    start: usize,
    end: usize,
}

impl GenerationCursor {
    /// A cursor before the first row of a table that was written after one sequence and at or before another; `None` if
    /// nothing of the table is here.
    pub(crate) fn new(
        generation: &Arc<Generation>,
        table_id: u32,
        after_seq: u64,
        seq: u64,
        descending: bool,
    ) -> Option<Self> {
        let table = generation.table(table_id)?.clone();
        let runs = table.runs(generation.bodies());
        let positions = runs.iter().map(|run| RunPosition {
            start: 0,
            end: run.len(),
        });
        Some(GenerationCursor {
            positions: positions.collect(),
            runs,
            truncate_seq: table.truncate_seq(seq),
            deletes: table.deletes(),
            table,
            generation: generation.clone(),
            descending,
            seq,
            after_seq,
            current: None,
        })
    }

    /// Leaves out the keys below one, or up to it.
    pub(crate) fn skip_below(&mut self, key: &[u8], inclusive: bool) {
        for i in 0..self.runs.len() {
            let at = self.partition(i, key, inclusive);
            if let Some(position) = self.positions.get_mut(i) {
                position.start = position.start.max(at);
            }
        }
    }

    /// Leaves out the keys above one, or from it on.
    pub(crate) fn skip_above(&mut self, key: &[u8], inclusive: bool) {
        for i in 0..self.runs.len() {
            let at = self.partition(i, key, !inclusive);
            if let Some(position) = self.positions.get_mut(i) {
                position.end = position.end.min(at);
            }
        }
    }

    /// How many of a run's versions have keys below one, or up to it.
    fn partition(&self, run: usize, key: &[u8], inclusive: bool) -> usize {
        let (versions, bodies) = (self.table.versions(), self.generation.bodies());
        let prefix = prefix_of(key);
        self.runs.get(run).map_or(0, |run| {
            run.partition_point(|ranked| {
                let order = ranked
                    .prefix
                    .cmp(&prefix)
                    .then_with(|| key_of(versions, bodies, ranked.number).cmp(key));
                order.is_lt() || (inclusive && order.is_eq())
            })
        })
    }

    /// The version it is at.
    pub(crate) fn version(&self) -> Option<&Version> {
        self.current.as_ref()
    }

    /// The row it is at: key, and value unless it is a tombstone.
    pub(crate) fn row(&self) -> Option<RowRef<'_>> {
        let version = self.current.as_ref()?;
        let bodies = self.generation.bodies();
        Some(RowRef {
            key: version.key(bodies),
            value: version.value_bytes(bodies),
        })
    }

    /// Goes to the next row; at first to the first one.
    pub(crate) fn advance(&mut self) {
        loop {
            let Some((prefix, number)) = self.next_key() else {
                self.current = None;
                return;
            };
            let newest = self.take_key(prefix, number);
            let seen = newest.filter(|version| self.sees(version));
            if seen.is_some() {
                self.current = seen;
                return;
            }
        }
    }

    fn sees(&self, version: &Version) -> bool {
        version.seq > self.after_seq
            && version.seq >= self.truncate_seq
            && (self.deletes.is_empty() || {
                let key = version.key(self.generation.bodies());
                version.seq >= self.deletes.newest_seq(key, self.seq)
            })
    }

    /// A version of the next key, with the prefix of the key.
    fn next_key(&self) -> Option<(u64, u32)> {
        let (versions, bodies) = (self.table.versions(), self.generation.bodies());
        let mut next: Option<Ranked> = None;
        for (run, position) in self.runs.iter().zip(&self.positions) {
            let Some(head) = position.head(run, self.descending) else {
                continue;
            };
            let wins = next.is_none_or(|next| {
                let order = head.prefix.cmp(&next.prefix).then_with(|| {
                    key_of(versions, bodies, head.number).cmp(key_of(versions, bodies, next.number))
                });
                order
                    == if self.descending {
                        Ordering::Greater
                    } else {
                        Ordering::Less
                    }
            });
            if wins {
                next = Some(head);
            }
        }
        next.map(|next| (next.prefix, next.number))
    }

    /// Goes past all versions of a key; returns the newest one that is seen.
    fn take_key(&mut self, prefix: u64, number: u32) -> Option<Version> {
        let (versions, bodies) = (self.table.versions(), self.generation.bodies());
        let key = key_of(versions, bodies, number);
        let is_alike = |ranked: &Ranked| {
            ranked.prefix == prefix && key_of(versions, bodies, ranked.number) == key
        };
        let is_too_new = |ranked: &Ranked| {
            let version = versions.get(ranked.number);
            version.is_some_and(|version| version.seq > self.seq)
        };
        let mut newest: Option<u32> = None;
        for (run, position) in self.runs.iter().zip(&mut self.positions) {
            let alike = position.take_while(run, self.descending, is_alike);
            let seen = alike.get(alike.partition_point(is_too_new));
            newest = newest.max(seen.map(|ranked| ranked.number));
        }
        versions.get(newest?)
    }
}

impl RunPosition {
    fn head(&self, run: &Run, descending: bool) -> Option<Ranked> {
        if self.start >= self.end {
            return None;
        }
        let at = if descending { self.end - 1 } else { self.start };
        run.get(at).copied()
    }

    /// Goes past the versions that come next and for which a condition holds; they are the first, or against the order
    /// the last. A key that is written all the time has very many, so their end is searched for in growing steps (Bentley
    /// and Yao, An almost optimal algorithm for unbounded searching, 1976).
    fn take_while<'r>(
        &mut self,
        run: &'r Run,
        descending: bool,
        holds: impl Fn(&Ranked) -> bool,
    ) -> &'r [Ranked] {
        let left = run.get(self.start..self.end).unwrap_or_default();
        let nth = |i: usize| if descending { left.len() - 1 - i } else { i };
        let holds_at = |i: usize| left.get(nth(i)).is_some_and(&holds);
        let mut beyond = 0;
        while beyond < left.len() && holds_at(beyond) {
            beyond = 2 * beyond + 1;
        }
        // It holds up to half of the way.
        let (mut count, mut end) = (beyond.div_ceil(2), beyond.min(left.len()));
        while count < end {
            let middle = count.midpoint(end);
            if holds_at(middle) {
                count = middle + 1;
            } else {
                end = middle;
            }
        }
        let taken = if descending {
            self.end -= count;
            left.get(left.len() - count..)
        } else {
            self.start += count;
            left.get(..count)
        };
        taken.unwrap_or_default()
    }
}

/// Sorts by key; of one key the newest comes first.
pub(super) fn sort(ranked: &mut [Ranked], versions: &Versions, bodies: &Bodies) {
    // Numbers alone, and keys only where their first bytes are the same.
    ranked.sort_unstable_by_key(|ranked| (ranked.prefix, !ranked.number));
    for alike in ranked.chunk_by_mut(|a, b| a.prefix == b.prefix) {
        if alike.len() > 1 {
            alike.sort_unstable_by(|a, b| compare(versions, bodies, a, b));
        }
    }
}

pub(super) fn key_of<'b>(versions: &Versions, bodies: &'b Bodies, number: u32) -> &'b [u8] {
    let version = versions.get(number);
    version.map_or(&[], |version| version.key(bodies))
}

impl Version {
    /// The key's bytes.
    pub(crate) fn key<'b>(&self, bodies: &'b Bodies) -> &'b [u8] {
        bodies.slice(self.record, self.key_start, self.key_len)
    }

    /// The value's bytes; `None` for a tombstone.
    pub(super) fn value_bytes<'b>(&self, bodies: &'b Bodies) -> Option<&'b [u8]> {
        let (start, len) = self.value?;
        Some(bodies.slice(self.record, start, len))
    }
}

fn compare(versions: &Versions, bodies: &Bodies, a: &Ranked, b: &Ranked) -> Ordering {
    a.prefix
        .cmp(&b.prefix)
        .then_with(|| key_of(versions, bodies, a.number).cmp(key_of(versions, bodies, b.number)))
        .then(b.number.cmp(&a.number))
}
