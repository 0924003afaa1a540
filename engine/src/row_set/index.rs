//! The hash index of a RowSet: from a key's hash to the ordinals that it may have.
//!
//! 64-byte lines of ten slots, a fingerprint (16 bits of the hash) and an ordinal each; the line is chosen by other bits.
//! What does not fit into its line lies in the next ones, and each line that it passed keeps a bit for it, chosen by the
//! fingerprint. One cache line thus answers nearly every question, and a key that is not there gets past it about once in
//! 65,536 / (slots in use).

use std::collections::VecDeque;
use std::sync::Arc;

use super::spill::{Spill, Spilled};
use crate::codec::len_u32;
use crate::error::Error;

pub(crate) use crate::raw::LINE_SIZE_BYTES;
pub(crate) const LINES_PER_PAGE: usize = 64;
const SLOTS_PER_LINE: usize = 10;
const ORDINALS_AT: usize = 2 * SLOTS_PER_LINE;

/// Rows a line on average. Measured at 7: 9.1 bytes a row, 1.02 lines asked for a key that is not there, 1.08 for one
/// that is; at 8: 8 bytes, 1.11 and 1.25 lines.
const ROWS_PER_LINE: usize = 7;

/// A line of the index.
pub(crate) type Line = [u8; LINE_SIZE_BYTES];

/// Where to look for a hash: the line and the fingerprint in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Probe {
    pub(crate) line: u32,
    fingerprint: u16,
}

impl Probe {
    /// `home_line_count` is that of [`IndexShape`].
    #[inline]
    pub(crate) fn new(hash: u64, home_line_count: u32) -> Self {
        Self::from_mixed(mix(hash), home_line_count)
    }

    /// The line by multiply-shift (Lemire, Fast random integer generation in an interval, 2019).
    #[inline]
    fn from_mixed(mixed: u64, home_line_count: u32) -> Self {
        Probe {
            line: (((mixed >> 32) * u64::from(home_line_count)) >> 32) as u32,
            fingerprint: (mixed >> 16) as u16,
        }
    }

    /// The slots of a line that may hold the hash.
    #[inline]
    pub(crate) fn matches(self, line: &Line) -> Matches {
        let (fingerprints, rest) = line.as_chunks::<2>().0.split_at(SLOTS_PER_LINE);
        debug_assert_eq!(rest.len(), 22);
        let mut found = 0u32;
        for (slot, fingerprint) in fingerprints.iter().enumerate() {
            found |= u32::from(u16::from_le_bytes(*fingerprint) == self.fingerprint) << slot;
        }
        // The last bytes are the number of slots in use, a zero, and the bits of what passed.
        let [count, _, passed @ ..] = *line.last_chunk::<4>().unwrap_or(&[0; 4]);
        Matches {
            found: found & ((1 << (count & 15)) - 1),
            go_on: u16::from_le_bytes(passed) & passed_bit(self.fingerprint) != 0,
        }
    }
}

/// Spreads a hash over all 64 bits. The rows of a fragment share the first bits of theirs, so those alone must not choose
/// the line. The factor is 2^64 divided by the golden ratio (Knuth, The Art of Computer Programming 3, 6.4).
#[inline]
fn mix(hash: u64) -> u64 {
    hash.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The bit that a line keeps for fingerprints that found no room in it.
#[inline]
fn passed_bit(fingerprint: u16) -> u16 {
    1 << (fingerprint >> 12)
}

/// What a line knows of a hash.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Matches {
    /// A bit for each slot.
    found: u32,
    /// Whether the next line must be asked too.
    pub(crate) go_on: bool,
}

impl Matches {
    #[inline]
    pub(crate) fn is_empty(self) -> bool {
        self.found == 0
    }

    /// Takes the ordinal in the first matching slot.
    #[inline]
    pub(crate) fn next_ordinal(&mut self, line: &Line) -> Option<u32> {
        if self.found == 0 {
            return None;
        }
        let slot = self.found.trailing_zeros() as usize;
        self.found &= self.found - 1;
        line.get(ORDINALS_AT + 4 * slot..)
            .and_then(|rest| rest.first_chunk::<4>())
            .map(|bytes| u32::from_le_bytes(*bytes))
    }
}

/// How large an index is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct IndexShape {
    /// The lines that a hash is spread over.
    pub(crate) home_line_count: u32,
    /// All lines, with those behind the last home line that its overflow needs.
    pub(crate) line_count: u32,
}

/// Where hashes go until their RowSet ends, once so many are in memory.
#[derive(Clone, Debug)]
pub(crate) struct HashSpill {
    pub(crate) spill: Arc<Spill>,
    pub(crate) hashes_max: usize,
}

/// Gathers the hashes of a RowSet, 8 bytes a row, and lays out its index at the end.
#[derive(Debug, Default)]
pub(crate) struct IndexBuilder {
    mixed: Vec<u64>,
    spill: Option<HashSpill>,
    /// Those that were spilled, before the ones in memory.
    spilled: Vec<Spilled>,
}

impl IndexBuilder {
    pub(crate) fn new(spill: Option<HashSpill>) -> Self {
        IndexBuilder {
            spill,
            ..IndexBuilder::default()
        }
    }

    /// Puts hashes aside that are too many for the memory.
    ///
    /// # Errors
    /// As the system answers.
    pub(crate) fn relieve(&mut self) -> Result<(), Error> {
        if let Some(HashSpill { spill, hashes_max }) = &self.spill
            && self.mixed.len() >= *hashes_max
        {
            let bytes: Vec<u8> = self
                .mixed
                .iter()
                .copied()
                .flat_map(u64::to_le_bytes)
                .collect();
            self.spilled.push(spill.write(&bytes)?);
            self.mixed.clear();
        }
        Ok(())
    }

    /// Has all hashes in memory; to be called before [`finish`](Self::finish).
    ///
    /// # Errors
    /// As the system answers; [`Error::Corrupt`].
    pub(crate) fn gather(&mut self) -> Result<(), Error> {
        let Some(HashSpill { spill, .. }) =
            self.spill.as_ref().filter(|_| !self.spilled.is_empty())
        else {
            return Ok(());
        };
        let last = std::mem::take(&mut self.mixed);
        for spilled in self.spilled.drain(..) {
            let bytes = spill.read(spilled)?;
            let mixed = bytes.as_chunks::<8>().0.iter().copied();
            self.mixed.extend(mixed.map(u64::from_le_bytes));
        }
        self.mixed.extend(last);
        Ok(())
    }

    /// Takes the hash of the next row.
    #[inline]
    pub(crate) fn push(&mut self, hash: u64) {
        self.mixed.push(mix(hash));
    }

    /// Lays out the index and hands on its pages, in order: a distribution by line (Knuth 5.2, algorithm D), so linear in
    /// the rows whatever their hashes. `ordinals` are those of the rows, in the order of their hashes.
    ///
    /// # Errors
    /// What `page` returns.
    pub(crate) fn finish<E>(
        &mut self,
        ordinals: impl Iterator<Item = u32>,
        mut page: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<IndexShape, E> {
        let home_line_count = len_u32(self.mixed.len().div_ceil(ROWS_PER_LINE).max(1));
        let (sorted, ends) = distribute(&self.mixed, ordinals, home_line_count);
        self.mixed = Vec::new();
        let mut lines = LineWriter::default();
        let mut start = 0;
        for end in ends {
            let end = end as usize;
            lines.put(sorted.get(start..end).unwrap_or_default(), &mut page)?;
            start = end;
        }
        while !lines.carried.is_empty() {
            lines.put(&[], &mut page)?;
        }
        let line_count = lines.line_count;
        lines.flush(&mut page)?;
        Ok(IndexShape {
            home_line_count,
            line_count,
        })
    }
}

/// An entry as fingerprint × 2^32 + ordinal.
type Entry = u64;

/// Entries by home line, and where those of each line end.
fn distribute(
    mixed: &[u64],
    ordinals: impl Iterator<Item = u32>,
    home_line_count: u32,
) -> (Vec<Entry>, Vec<u32>) {
    let line = |mixed| Probe::from_mixed(mixed, home_line_count).line as usize;
    // Counts, then starts, and while rows are placed, ends.
    let mut ends = vec![0u32; home_line_count as usize];
    for &mixed in mixed {
        if let Some(count) = ends.get_mut(line(mixed)) {
            *count += 1;
        }
    }
    let mut start = 0;
    for end in &mut ends {
        start += std::mem::replace(end, start);
    }
    let mut sorted = vec![0; mixed.len()];
    for (&mixed, ordinal) in mixed.iter().zip(ordinals) {
        if let Some(end) = ends.get_mut(line(mixed)) {
            if let Some(entry) = sorted.get_mut(*end as usize) {
                let fingerprint = Probe::from_mixed(mixed, home_line_count).fingerprint;
                *entry = u64::from(fingerprint) << 32 | u64::from(ordinal);
            }
            *end += 1;
        }
    }
    (sorted, ends)
}

/// Fills lines one after the other and hands on full pages of them.
#[derive(Default)]
struct LineWriter {
    page: Vec<u8>,
    line_count: u32,
    /// Entries that found no room in their line.
    carried: VecDeque<Entry>,
}

impl LineWriter {
    /// Writes the next line, whose own entries are these.
    fn put<E>(
        &mut self,
        own: &[Entry],
        page: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let (kept, left_over) = own.split_at(own.len().min(SLOTS_PER_LINE));
        let carried_count = self.carried.len().min(SLOTS_PER_LINE - kept.len());
        let mut line = [0; LINE_SIZE_BYTES];
        let (fingerprints, rest) = line.split_at_mut(ORDINALS_AT);
        let (ordinals, state) = rest.split_at_mut(4 * SLOTS_PER_LINE);
        let slots = fingerprints
            .as_chunks_mut::<2>()
            .0
            .iter_mut()
            .zip(ordinals.as_chunks_mut::<4>().0);
        let entries = kept
            .iter()
            .copied()
            .chain(self.carried.drain(..carried_count));
        for ((fingerprint, ordinal), entry) in slots.zip(entries) {
            *fingerprint = ((entry >> 32) as u16).to_le_bytes();
            *ordinal = (entry as u32).to_le_bytes();
        }
        self.carried.extend(left_over);
        let passed = self
            .carried
            .iter()
            .fold(0, |bits, entry| bits | passed_bit((entry >> 32) as u16));
        let count = (kept.len() + carried_count) as u8;
        let [low, high] = passed.to_le_bytes();
        state.copy_from_slice(&[count, 0, low, high]);
        self.page.extend_from_slice(&line);
        self.line_count += 1;
        if self.page.len() == LINES_PER_PAGE * LINE_SIZE_BYTES {
            self.flush(page)?;
        }
        Ok(())
    }

    fn flush<E>(&mut self, page: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        if !self.page.is_empty() {
            page(&self.page)?;
            self.page.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::convert::Infallible;

    use proptest::prelude::*;
    use xxhash_rust::xxh3::xxh3_64;

    use super::*;

    fn build(hashes: impl IntoIterator<Item = u64>) -> (Vec<Line>, IndexShape) {
        let mut builder = IndexBuilder::default();
        hashes.into_iter().for_each(|hash| builder.push(hash));
        finish(builder)
    }

    fn finish(mut builder: IndexBuilder) -> (Vec<Line>, IndexShape) {
        let mut lines = Vec::new();
        let shape = builder
            .finish::<Infallible>(0.., |page| {
                assert!(page.len() <= LINES_PER_PAGE * LINE_SIZE_BYTES);
                lines.extend_from_slice(page.as_chunks::<LINE_SIZE_BYTES>().0);
                Ok(())
            })
            .unwrap();
        assert_eq!(lines.len(), shape.line_count as usize);
        (lines, shape)
    }

    fn lookup(lines: &[Line], shape: IndexShape, hash: u64) -> (Vec<u32>, usize) {
        let probe = Probe::new(hash, shape.home_line_count);
        let mut found = Vec::new();
        for (asked, line) in lines[probe.line as usize..].iter().enumerate() {
            let mut matches = probe.matches(line);
            while let Some(ordinal) = matches.next_ordinal(line) {
                found.push(ordinal);
            }
            if !matches.go_on {
                return (found, asked + 1);
            }
        }
        panic!("the last line overflows");
    }

    proptest! {
        #[test]
        fn every_row_is_found_whatever_the_hashes(
            hashes in prop::collection::vec(prop_oneof![any::<u64>(), 0..4u64, Just(u64::MAX)], 0..600),
            prefix in 0..64u32,
        ) {
            // Rows of a fragment share the first bits.
            let hashes: Vec<_> = hashes.iter().map(|hash| hash >> prefix).collect();
            let (lines, shape) = build(hashes.iter().copied());
            for (ordinal, hash) in hashes.iter().enumerate() {
                prop_assert!(lookup(&lines, shape, *hash).0.contains(&(ordinal as u32)));
            }
            let all: HashSet<u32> = lines
                .iter()
                .flat_map(|line| (0..line[60] as usize).map(|slot| Matches { found: 1 << slot, go_on: false }.next_ordinal(line).unwrap()))
                .collect();
            prop_assert_eq!(all.len(), hashes.len());
        }

        #[test]
        fn hashes_that_were_put_aside_are_in_the_index(
            pages in prop::collection::vec(prop::collection::vec(any::<u64>(), 0..40), 0..20),
            hashes_max in 1..100_usize,
        ) {
            let io = Arc::new(crate::io::SimulatedIo::new(1));
            let spill = Arc::new(Spill::new(io.clone(), "/hashes".into()));
            let mut builder = IndexBuilder::new(Some(HashSpill { spill, hashes_max }));
            for page in &pages {
                page.iter().for_each(|hash| builder.push(*hash));
                builder.relieve().unwrap();
                prop_assert!(builder.mixed.len() < hashes_max);
            }
            builder.gather().unwrap();
            prop_assert_eq!(finish(builder), build(pages.concat()));
            prop_assert_eq!(io.files(), []);
        }
    }

    #[test]
    fn misses_are_told_about_as_often_as_fingerprints_collide() {
        let hash = |i: u64| xxh3_64(&i.to_le_bytes());
        let rows = 100_000;
        // The whole range of hashes, and the rows of a fragment 12 bits down.
        for shift in [0, 12] {
            let (lines, shape) = build((0..rows).map(|i| hash(i) >> shift));
            let misses = 2_000_000u64;
            let (mut wrong, mut asked) = (0, 0);
            for i in rows..rows + misses {
                let (found, lines_asked) = lookup(&lines, shape, hash(i) >> shift);
                wrong += found.len() as u64;
                asked += lines_asked as u64;
            }
            let lines_a_miss = asked as f64 / misses as f64;
            let slots_a_line = rows as f64 / f64::from(shape.line_count);
            let expected = misses as f64 * lines_a_miss * slots_a_line / 65536.0;
            let ratio = wrong as f64 / expected;
            assert!(
                (0.7..1.3).contains(&ratio),
                "{wrong} wrong, {expected} expected"
            );
            let asked: usize = (0..rows)
                .map(|i| lookup(&lines, shape, hash(i) >> shift).1)
                .sum();
            let lines_a_hit = asked as f64 / rows as f64;
            assert!(lines_a_miss < 1.04, "{lines_a_miss} lines a miss");
            assert!(lines_a_hit < 1.1, "{lines_a_hit} lines a hit");
            assert!(f64::from(shape.line_count) * 64.0 / (rows as f64) < 9.2);
        }
    }
}
