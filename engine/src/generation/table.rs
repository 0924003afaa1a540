//! One table's rows of a generation: a hash index of keys over versions.
//!
//! The index is an array of words, each (32 bits of the hash, number of the key's newest version), open addressing with
//! linear probing at half load. A write appends the version, links the older one to it and stores its number; when the
//! array is too full a larger one takes its place. A reader that knows a visible commit sequence sees an array that holds
//! everything up to it, since it was put in place before the sequence was published.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use super::Bodies;
use super::sorted::{Sorted, SortedRuns};
use super::versions::{NONE, Version, Versions};
use crate::codec::{Malformed, len_u32};
use crate::deletes::{RangeDelete, RangeDeletes};
use crate::key_range::KeyInterval;
use crate::log::delta::{DeltaRow, TablePart};
use crate::sync::{Mutex, RwLock};

/// Slots of a table's first array.
const SLOTS_MIN_LOG2: u32 = 6;

/// Rows whose cache misses overlap when they are written.
const ROWS_AT_ONCE: usize = 16;

/// What a generation knows of a key at a commit sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing: ask what is older.
    Nothing,
    /// There is no row, whatever is older.
    Deleted,
    /// The row's value: the record's number, start and length in its body.
    Row {
        body: u32,
        value_start: u32,
        value_len: u32,
    },
}

/// One table's rows of a generation.
#[derive(Debug)]
pub(crate) struct TableGeneration {
    slots: ArcSwap<Slots>,
    versions: Versions,
    /// Commit sequences of deltas that emptied the table, ascending, and the newest of them; 0 for none.
    truncates: RwLock<Vec<u64>>,
    newest_truncate_seq: AtomicU64,
    /// Ranges that deltas deleted, and the newest of those; 0 for none.
    deletes: ArcSwap<RangeDeletes>,
    newest_delete_seq: AtomicU64,
    sorted: SortedRuns,
    /// Keys there are. The one writer holds this while it writes.
    writer: Mutex<u32>,
}

#[derive(Debug)]
struct Slots {
    /// The slot of a hash is its first bits, so many of them shifted out.
    shift: u32,
    slots: Box<[AtomicU64]>,
}

/// Where a key is in the index, or would be.
struct Place {
    slot: usize,
    newest: Option<u32>,
}

impl Default for TableGeneration {
    fn default() -> Self {
        TableGeneration {
            slots: ArcSwap::from_pointee(Slots::new(SLOTS_MIN_LOG2)),
            versions: Versions::default(),
            truncates: RwLock::default(),
            newest_truncate_seq: AtomicU64::new(0),
            deletes: ArcSwap::default(),
            newest_delete_seq: AtomicU64::new(0),
            sorted: SortedRuns::default(),
            writer: Mutex::new(0),
        }
    }
}

impl TableGeneration {
    /// Takes a delta's rows; returns the bytes of memory that took.
    pub(super) fn write(
        &self,
        bodies: &Bodies,
        seq: u64,
        body: u32,
        part: &TablePart<'_>,
    ) -> Result<usize, Malformed> {
        let mut key_count = self.writer.lock();
        if part.truncate {
            self.truncates.write().push(seq);
            self.newest_truncate_seq.store(seq, Ordering::Release);
        }
        let mut taken = self.delete_ranges(seq, &part.deletes);
        // Rows come by the first bits of their hashes. Without room for all from the start, the first ones would crowd into
        // a part of the array, and each look for a place among all of them.
        let key_count_max = key_count.saturating_add(len_u32(part.row_count()));
        let (slots, grown_bytes) = self.slots_for(key_count_max);
        taken += grown_bytes;
        let mut rows = part.rows().peekable();
        let mut batch = Vec::with_capacity(part.row_count().min(ROWS_AT_ONCE));
        while rows.peek().is_some() {
            batch.clear();
            for row in rows.by_ref().take(ROWS_AT_ONCE) {
                batch.push(row?);
            }
            if batch.len() > 1 {
                self.warm(&slots, bodies, &batch);
            }
            for row in &batch {
                let (is_new, bytes) = self.write_row(&slots, bodies, seq, body, row)?;
                *key_count += u32::from(is_new);
                taken += bytes;
            }
        }
        Ok(taken)
    }

    /// Makes room for so many more keys at once; returns the bytes of memory that took.
    pub(super) fn reserve(&self, row_count: usize) -> usize {
        let key_count = self.writer.lock();
        self.slots_for(key_count.saturating_add(len_u32(row_count)))
            .1
    }

    /// The slots with room for so many keys, and the bytes of memory that took; for who holds the lock of the writer.
    fn slots_for(&self, key_count: u32) -> (Arc<Slots>, usize) {
        let slots = self.slots.load_full();
        if !slots.is_full(key_count) {
            return (slots, 0);
        }
        let larger = Arc::new(slots.grown(key_count));
        let taken = (larger.slots.len() - slots.slots.len()) * size_of::<AtomicU64>();
        self.slots.store(larger.clone());
        (larger, taken)
    }

    /// Takes the ranges that a delta deleted; returns the bytes of memory that took.
    fn delete_ranges(&self, seq: u64, intervals: &[KeyInterval]) -> usize {
        if intervals.is_empty() {
            return 0;
        }
        let deletes = intervals.iter().map(|interval| RangeDelete {
            seq,
            interval: interval.clone(),
        });
        let deletes: Vec<_> = deletes.collect();
        let size_bytes = deletes.iter().map(RangeDelete::size_bytes).sum();
        let all = self.deletes.load().with(deletes);
        self.deletes.store(Arc::new(all));
        self.newest_delete_seq.store(seq, Ordering::Release);
        size_bytes
    }

    /// Reads what finding some rows will read, step by step for all of them, so that the processor waits for their cache
    /// misses side by side.
    fn warm(&self, slots: &Slots, bodies: &Bodies, rows: &[DeltaRow<'_>]) {
        let mut same: [Option<u32>; ROWS_AT_ONCE] = [None; ROWS_AT_ONCE];
        for (same, row) in same.iter_mut().zip(rows) {
            let slot = slots.slots.get(slots.home(row.hash));
            let word = slot.map_or(0, |slot| slot.load(Ordering::Relaxed));
            *same = number_of(word).filter(|_| word >> 32 == tag_of(row.hash));
        }
        let mut keys: [Option<(u32, u32)>; ROWS_AT_ONCE] = [None; ROWS_AT_ONCE];
        for (key, number) in keys.iter_mut().zip(same) {
            let version = number.and_then(|number| self.versions.get(number));
            *key = version.map(|version| (version.record, version.key_start));
        }
        let first_bytes = keys.iter().flatten().map(|&(record, start)| {
            let byte = bodies.slice(record, start, 1).first();
            u32::from(byte.copied().unwrap_or(0))
        });
        std::hint::black_box(first_bytes.sum::<u32>());
    }

    fn write_row(
        &self,
        slots: &Slots,
        bodies: &Bodies,
        seq: u64,
        body: u32,
        row: &DeltaRow<'_>,
    ) -> Result<(bool, usize), Malformed> {
        let place = self
            .find(slots, bodies, row.hash, row.key)
            .ok_or(Malformed("a table's index has no place"))?;
        let version = Version {
            seq,
            hash: row.hash,
            record: body,
            key_start: row.key_offset,
            key_len: len_u32(row.key.len()),
            older: place.newest.unwrap_or(NONE),
            value: row.value_size_bytes.map(|len| (row.value_offset, len)),
        };
        let (number, taken) = self
            .versions
            .push(&version)
            .ok_or(Malformed("a generation holds at most 2^32 - 1 versions"))?;
        if let Some(slot) = slots.slots.get(place.slot) {
            slot.store(entry(row.hash, number), Ordering::Release);
        }
        Ok((place.newest.is_none(), taken))
    }

    /// What is known of a key at a commit sequence.
    #[inline]
    pub(crate) fn get(&self, bodies: &Bodies, hash: u64, key: &[u8], seq: u64) -> Found {
        let newest = self.newest_number(bodies, hash, key);
        let version = newest.and_then(|newest| self.version_at(newest, seq));
        let gone_seq = self.gone_seq(key, seq);
        match version {
            Some(version) if version.seq >= gone_seq => version.found(),
            _ if gone_seq > 0 => Found::Deleted,
            _ => Found::Nothing,
        }
    }

    /// The newest version of a key, visible or not.
    pub(super) fn newest(&self, bodies: &Bodies, hash: u64, key: &[u8]) -> Option<Version> {
        self.versions.get(self.newest_number(bodies, hash, key)?)
    }

    fn newest_number(&self, bodies: &Bodies, hash: u64, key: &[u8]) -> Option<u32> {
        let slots = self.slots.load();
        self.find(&slots, bodies, hash, key)?.newest
    }

    /// The newest version of a key at a commit sequence, from its newest one of all.
    fn version_at(&self, newest: u32, seq: u64) -> Option<Version> {
        let mut version = self.versions.get(newest)?;
        while version.seq > seq {
            if version.older == NONE {
                return None;
            }
            version = self.versions.get(version.older)?;
        }
        Some(version)
    }

    /// The newest delta up to a commit sequence that deleted a key with others; 0 if there is none here.
    pub(super) fn gone_seq(&self, key: &[u8], seq: u64) -> u64 {
        let truncate_seq = self.truncate_seq(seq);
        if self.newest_delete_seq.load(Ordering::Acquire) == 0 {
            return truncate_seq;
        }
        truncate_seq.max(self.deletes.load().newest_seq(key, seq))
    }

    /// The ranges that deltas deleted.
    pub(crate) fn deletes(&self) -> RangeDeletes {
        RangeDeletes::clone(&self.deletes.load())
    }

    /// The newest delta up to a commit sequence that emptied the table; 0 if there is none here.
    pub(crate) fn truncate_seq(&self, seq: u64) -> u64 {
        let newest = self.newest_truncate_seq.load(Ordering::Acquire);
        if newest <= seq {
            return newest;
        }
        let truncates = self.truncates.read();
        let older = truncates.partition_point(|&truncate| truncate <= seq);
        older
            .checked_sub(1)
            .and_then(|i| truncates.get(i).copied())
            .unwrap_or(0)
    }

    /// The deltas that emptied the table, ascending.
    pub(crate) fn truncates(&self) -> Vec<u64> {
        self.truncates.read().clone()
    }

    /// At least so many of the first versions, in a few sorted runs; and the bytes that this took anew.
    pub(super) fn sorted(&self, count: u32, bodies: &Bodies) -> (Arc<Sorted>, usize) {
        self.sorted.of_first(count, &self.versions, bodies)
    }

    /// The versions with these numbers, in one sorted run; and the bytes that this took anew.
    pub(super) fn sorted_some(&self, numbers: Range<u32>, bodies: &Bodies) -> (Arc<Sorted>, usize) {
        self.sorted.of_some(numbers, &self.versions, bodies)
    }

    #[cfg(test)]
    pub(super) fn displacement_max(&self) -> usize {
        self.slots.load().displacement_max()
    }

    pub(super) fn versions(&self) -> &Versions {
        &self.versions
    }

    /// How many versions there are.
    pub(crate) fn version_count(&self) -> u32 {
        self.versions.len()
    }

    /// `None` only if no slot is free, which the load factor rules out.
    #[inline]
    fn find(&self, slots: &Slots, bodies: &Bodies, hash: u64, key: &[u8]) -> Option<Place> {
        let mask = slots.slots.len() - 1;
        let mut slot = slots.home(hash);
        for _ in 0..=mask {
            let word = slots.slots.get(slot)?.load(Ordering::Acquire);
            let Some(number) = number_of(word) else {
                return Some(Place { slot, newest: None });
            };
            if word >> 32 == tag_of(hash)
                && let Some(version) = self.versions.get(number)
                && version.hash == hash
                && bodies.slice(version.record, version.key_start, version.key_len) == key
            {
                return Some(Place {
                    slot,
                    newest: Some(number),
                });
            }
            slot = (slot + 1) & mask;
        }
        None
    }
}

impl Version {
    pub(super) fn found(&self) -> Found {
        match self.value {
            None => Found::Deleted,
            Some((value_start, value_len)) => Found::Row {
                body: self.record,
                value_start,
                value_len,
            },
        }
    }
}

impl Slots {
    fn new(len_log2: u32) -> Self {
        Slots {
            shift: 64 - len_log2,
            slots: (0..1_usize << len_log2)
                .map(|_| AtomicU64::new(0))
                .collect(),
        }
    }

    /// Of a hash, or of a word that was made from it.
    fn home(&self, hash: u64) -> usize {
        (tag_of(hash) << 32 >> self.shift) as usize
    }

    fn is_full(&self, key_count: u32) -> bool {
        key_count as usize >= self.slots.len() / 2
    }

    /// Slots for so many keys with the same content. Words go in the order of their hashes, so the new array is filled from
    /// its start to its end.
    fn grown(&self, key_count: u32) -> Slots {
        let slot_count = (2 * u64::from(key_count) + 1).next_power_of_two();
        let grown = Slots::new(slot_count.ilog2());
        let mask = grown.slots.len() - 1;
        for word in &self.slots {
            let word = word.load(Ordering::Relaxed);
            if word == 0 {
                continue;
            }
            let mut slot = grown.home(word);
            while let Some(place) = grown.slots.get(slot) {
                if place.load(Ordering::Relaxed) == 0 {
                    place.store(word, Ordering::Relaxed);
                    break;
                }
                slot = (slot + 1) & mask;
            }
        }
        grown
    }

    /// The most places that a word is behind its own.
    #[cfg(test)]
    fn displacement_max(&self) -> usize {
        let mask = self.slots.len() - 1;
        let words = self.slots.iter().map(|word| word.load(Ordering::Relaxed));
        let taken = words.enumerate().filter(|(_, word)| *word != 0);
        let displacements = taken.map(|(slot, word)| slot.wrapping_sub(self.home(word)) & mask);
        displacements.max().unwrap_or(0)
    }
}

/// The bits of a hash that a word keeps: the first, from which its slot follows too, so that the index grows without a
/// look at the versions. Those behind the slot's tell keys apart.
fn tag_of(hash: u64) -> u64 {
    hash >> 32
}

fn entry(hash: u64, number: u32) -> u64 {
    // Numbers count from 0, and 0 stands for an empty slot.
    tag_of(hash) << 32 | u64::from(number + 1)
}

fn number_of(word: u64) -> Option<u32> {
    (word as u32).checked_sub(1)
}
