//! Going through a generation's rows in key order, as of a commit sequence.
//!
//! What the order needs lies together in the sorted runs. The rows themselves lie where they were written: each is three
//! accesses to memory that wait for each other. So the cursor finds the next few rows by the runs alone and has them all
//! loaded at once.

use std::cmp::Ordering;
use std::hint::black_box;
use std::sync::Arc;

use super::sorted::{Ranked, Run, Sorted, key_of};
use super::versions::Version;
use super::{Generation, TableGeneration};
use crate::codec::key::prefix_of;
use crate::deletes::RangeDeletes;
use crate::row_set::rows_page::RowRef;

/// Rows that are loaded at once: a short range takes about as many of a generation.
const ROWS_AHEAD: usize = 8;

/// Where so many times as many versions are older than what is wanted, the newer ones are brought into order by themselves: who
/// asks again and again what is new pays for that, and not for all that the generation holds.
const OLD_PER_NEW: u32 = 8;

/// The rows and tombstones of a table at a commit sequence, each key once, in key order or against it.
#[derive(Debug)]
pub(crate) struct GenerationCursor {
    generation: Arc<Generation>,
    table: Arc<TableGeneration>,
    sorted: Arc<Sorted>,
    /// Of each run.
    positions: Vec<RunPosition>,
    descending: bool,
    seq: u64,
    /// The versions from this number on are newer than that.
    visible_count: u32,
    after_seq: u64,
    truncate_seq: u64,
    deletes: RangeDeletes,
    /// Of the next keys.
    ahead: Vec<Version>,
    /// The one it is at.
    at: usize,
}

/// How far a run was read: what is left of it.
#[derive(Debug)]
struct RunPosition {
    start: usize,
    end: usize,
}

impl GenerationCursor {
    /// A cursor before the first row of a table that was written after one sequence and at or before another; `None` if
    /// nothing of the table is here. A truncate, here or in a later generation, hides what was written before it.
    pub(crate) fn new(
        generation: &Arc<Generation>,
        table_id: u32,
        (after_seq, truncate_seq): (u64, u64),
        seq: u64,
        descending: bool,
    ) -> Option<Self> {
        let table = generation.table(table_id)?.clone();
        let visible_count = table.versions().count_at(seq);
        let old_count = table.versions().count_at(after_seq).min(visible_count);
        let are_few = visible_count - old_count <= old_count / OLD_PER_NEW;
        let bodies = generation.bodies();
        let (sorted, added) = match are_few {
            true => table.sorted_some(old_count..visible_count, bodies),
            false => table.sorted(visible_count, bodies),
        };
        generation.grow_order(added);
        let positions = sorted.runs.iter().map(|run| RunPosition {
            start: 0,
            end: run.len(),
        });
        Some(GenerationCursor {
            positions: positions.collect(),
            sorted,
            truncate_seq: truncate_seq.max(table.truncate_seq(seq)),
            deletes: table.deletes(),
            table,
            generation: generation.clone(),
            descending,
            seq,
            visible_count,
            after_seq,
            ahead: Vec::new(),
            at: 0,
        })
    }

    /// Leaves out the keys below one, or up to it.
    pub(crate) fn skip_below(&mut self, key: &[u8], inclusive: bool) {
        for i in 0..self.sorted.runs.len() {
            let at = self.partition(i, key, inclusive);
            if let Some(position) = self.positions.get_mut(i) {
                position.start = position.start.max(at);
            }
        }
    }

    /// Leaves out the keys above one, or from it on.
    pub(crate) fn skip_above(&mut self, key: &[u8], inclusive: bool) {
        for i in 0..self.sorted.runs.len() {
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
        self.sorted.runs.get(run).map_or(0, |run| {
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
        self.ahead.get(self.at)
    }

    /// The row it is at: key, and value unless it is a tombstone.
    pub(crate) fn row(&self) -> Option<RowRef<'_>> {
        let version = self.version()?;
        let bodies = self.generation.bodies();
        Some(RowRef {
            key: version.key(bodies),
            value: version.value_bytes(bodies),
        })
    }

    /// Goes to the next row; at first to the first one.
    #[inline]
    pub(crate) fn advance(&mut self) {
        self.at += 1;
        if self.at >= self.ahead.len() {
            self.look_ahead();
        }
    }

    /// Loads the next rows, and goes to the first of them.
    fn look_ahead(&mut self) {
        self.at = 0;
        let mut ahead = std::mem::take(&mut self.ahead);
        ahead.clear();
        while ahead.is_empty() {
            let mut numbers = [0; ROWS_AHEAD];
            let mut count = 0;
            for place in &mut numbers {
                let Some(number) = self.next_newest() else {
                    break;
                };
                *place = number;
                count += 1;
            }
            if count == 0 {
                break;
            }
            let found = numbers.iter().take(count);
            let versions = self.table.versions();
            ahead.extend(found.filter_map(|&number| versions.get(number)));
            let bodies = self.generation.bodies();
            let touched = ahead.iter().map(|version| version.touch(bodies));
            black_box(touched.fold(0, |sum, byte| sum ^ byte));
            ahead.retain(|version| self.sees(version));
        }
        self.ahead = ahead;
    }

    /// The newest version that is visible of the next key that has one.
    fn next_newest(&mut self) -> Option<u32> {
        loop {
            let next = self.next_key()?;
            if let Some(newest) = self.take_key(next) {
                return Some(newest);
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

    /// A version of the next key.
    fn next_key(&self) -> Option<Ranked> {
        let (versions, bodies) = (self.table.versions(), self.generation.bodies());
        let mut next: Option<Ranked> = None;
        for (run, position) in self.sorted.runs.iter().zip(&self.positions) {
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
        next
    }

    /// Goes past all versions of a key; returns the newest one that is visible.
    fn take_key(&mut self, key: Ranked) -> Option<u32> {
        let (versions, bodies) = (self.table.versions(), self.generation.bodies());
        let is_alike = |ranked: &Ranked| {
            ranked.prefix == key.prefix
                && (ranked.number == key.number
                    || key_of(versions, bodies, ranked.number)
                        == key_of(versions, bodies, key.number))
        };
        let is_too_new = |ranked: &Ranked| ranked.number >= self.visible_count;
        let mut newest: Option<u32> = None;
        for (run, position) in self.sorted.runs.iter().zip(&mut self.positions) {
            let alike = position.take_while(run, self.descending, is_alike);
            let seen = alike.get(alike.partition_point(is_too_new));
            newest = newest.max(seen.map(|ranked| ranked.number));
        }
        newest
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
