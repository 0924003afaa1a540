//! The versions of a table's rows in one generation, in commit order: forty bytes each, never changed once written.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::append::AppendVec;

/// In place of a number: there is no older version.
pub(crate) const NONE: u32 = u32::MAX;
/// In place of a value's length: the row was deleted.
const TOMBSTONE: u32 = u32::MAX;

/// What was written of a row at a commit sequence. Offsets are of the body of its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) seq: u64,
    pub(crate) hash: u64,
    pub(crate) record: u32,
    pub(crate) key_start: u32,
    pub(crate) key_len: u32,
    /// The next older version of the key; [`NONE`] at the end.
    pub(crate) older: u32,
    /// Start and length of the value; `None` for a tombstone.
    pub(crate) value: Option<(u32, u32)>,
}

/// The five words of a version.
#[derive(Debug, Default)]
struct Words([AtomicU64; 5]);

/// An append-only list of versions. One thread appends.
#[derive(Debug, Default)]
pub(crate) struct Versions {
    words: AppendVec<Words>,
    len: AtomicU32,
}

impl Versions {
    /// How many there are; all of them are whole.
    pub(crate) fn len(&self) -> u32 {
        self.len.load(Ordering::Acquire)
    }

    /// Appends a version; returns its number, and the bytes of memory that were newly taken. `None` if 2^32 - 1 versions
    /// are there.
    pub(crate) fn push(&self, version: &Version) -> Option<(u32, usize)> {
        let number = self.len.load(Ordering::Relaxed);
        if number == NONE {
            return None;
        }
        let (words, made) = self.words.reserve(number);
        let (value_start, value_len) = version.value.unwrap_or((0, TOMBSTONE));
        let values = [
            version.seq,
            version.hash,
            pack(version.record, version.key_start),
            pack(version.key_len, version.older),
            pack(value_start, value_len),
        ];
        for (word, value) in words?.0.iter().zip(values) {
            word.store(value, Ordering::Relaxed);
        }
        self.len.store(number + 1, Ordering::Release);
        Some((number, made * size_of::<Words>()))
    }

    /// How many were written up to a commit sequence. Mostly that is all but the last few, so the search starts there.
    pub(crate) fn count_at(&self, seq: u64) -> u32 {
        let is_newer = |number: u32| {
            let words = self.words.get(number);
            words.is_some_and(|Words([written, ..])| written.load(Ordering::Relaxed) > seq)
        };
        let len = self.len();
        let mut back = 1;
        while len.checked_sub(back).is_some_and(is_newer) && back <= len / 2 {
            back *= 2;
        }
        let mut start = if back > len / 2 { 0 } else { len - back };
        let mut end = len - back / 2;
        while start < end {
            let middle = start.midpoint(end);
            if is_newer(middle) {
                end = middle;
            } else {
                start = middle + 1;
            }
        }
        start
    }

    /// The version of a number that was read from where the appender published it.
    #[inline]
    pub(crate) fn get(&self, number: u32) -> Option<Version> {
        let Words(words) = self.words.get(number)?;
        let [seq, hash, at, chain, value] = words;
        let (record, key_start) = unpack(at.load(Ordering::Relaxed));
        let (key_len, older) = unpack(chain.load(Ordering::Relaxed));
        let (value_start, value_len) = unpack(value.load(Ordering::Relaxed));
        Some(Version {
            seq: seq.load(Ordering::Relaxed),
            hash: hash.load(Ordering::Relaxed),
            record,
            key_start,
            key_len,
            older,
            value: (value_len != TOMBSTONE).then_some((value_start, value_len)),
        })
    }
}

fn pack(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

fn unpack(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_version_is_read_as_it_was_written(
            seq: u64, hash: u64, record: u32, key_start: u32, key_len: u32, older: u32,
            value in prop::option::of((any::<u32>(), 0..u32::MAX)),
        ) {
            let versions = Versions::default();
            let version = Version { seq, hash, record, key_start, key_len, older, value };
            for number in 0..3 {
                prop_assert_eq!(versions.push(&version).unwrap().0, number);
            }
            prop_assert_eq!(versions.get(2), Some(version));
            prop_assert_eq!(versions.len(), 3);
        }

        /// Invariant: ordered. What a snapshot counts as its own is what was written up to its sequence.
        #[test]
        fn those_up_to_a_sequence_are_counted(
            mut seqs in prop::collection::vec(0_u64..20, 0..70),
            seq in 0_u64..21,
        ) {
            seqs.sort_unstable();
            let versions = Versions::default();
            for &seq in &seqs {
                let version = Version {
                    seq, hash: 0, record: 0, key_start: 0, key_len: 0, older: NONE, value: None,
                };
                versions.push(&version).unwrap();
            }
            let expected = seqs.partition_point(|&written| written <= seq);
            prop_assert_eq!(versions.count_at(seq) as usize, expected);
        }
    }
}
