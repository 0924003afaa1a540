//! DeltaPatches: which rows of older RowSets the rows of a RowSet replace, by ordinal.
//!
//! A patch lies beside its RowSet, in the same delta file or in a later one: finding out what is replaced rewrites no
//! rows. For each older RowSet of the leaf, its *target*, a page holds the ordinals, ascending, as the gaps between them.
//! A row is named by the next newer row of its key and by no other, so the counts of all patches add up.
//!
//! Targets are named by file number and offset. No file number is given twice, so an entry for a RowSet that was merged or
//! removed names nothing any more and does no harm.

use crate::codec::{Malformed, Reader, put_u32, put_u64, put_varint};
use crate::error::Result;

use super::file::DeltaFile;
use super::meta::RowSetMeta;
use super::page::{PageKind, PagePlace};

/// Where a RowSet lies: what names it for as long as the database lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowSetPlace {
    /// The delta file.
    pub file_number: u64,
    /// Where in the file the RowSet starts, in bytes.
    pub offset: u64,
}

/// The patch of a RowSet: for which older RowSets it is known which of their rows it replaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatchMeta {
    /// The delta file that the ordinals are in.
    pub file_number: u64,
    /// Where in the file the first page of ordinals lies, in bytes.
    pub offset: u64,
    /// All of them, the newest first; also those of which no row is replaced.
    pub targets: Box<[PatchTarget]>,
}

/// An older RowSet in a patch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PatchTarget {
    /// The RowSet.
    pub place: RowSetPlace,
    /// How many of its rows are replaced,
    pub ordinal_count: u32,
    /// and how many of those are no tombstones.
    pub live_count: u32,
    /// Stored bytes of the page of their ordinals; 0 if there are none.
    pub size_bytes: u64,
}

/// The ordinals of a target, on their way into a patch.
#[derive(Clone, Debug, Default)]
pub struct TargetOrdinals {
    /// The RowSet.
    pub place: RowSetPlace,
    ordinal_count: u32,
    live_count: u32,
    /// The next ordinal that is not below those that are there.
    next: u32,
    gaps: Vec<u8>,
}

impl TargetOrdinals {
    /// No ordinals yet.
    pub fn new(place: RowSetPlace) -> Self {
        TargetOrdinals {
            place,
            ..TargetOrdinals::default()
        }
    }

    /// Appends an ordinal above those that are there; `is_live` unless a tombstone lies there.
    pub fn push(&mut self, ordinal: u32, is_live: bool) {
        debug_assert!(ordinal >= self.next, "ordinals ascend");
        put_varint(&mut self.gaps, ordinal.saturating_sub(self.next).into());
        self.next = ordinal.saturating_add(1);
        self.ordinal_count += 1;
        self.live_count += u32::from(is_live);
    }

    /// Whether no row is replaced.
    pub fn is_empty(&self) -> bool {
        self.ordinal_count == 0
    }

    /// The content of the page.
    pub(crate) fn content(&self) -> &[u8] {
        &self.gaps
    }

    pub(crate) fn target(&self, size_bytes: u64) -> PatchTarget {
        PatchTarget {
            place: self.place,
            ordinal_count: self.ordinal_count,
            live_count: self.live_count,
            size_bytes,
        }
    }
}

impl PatchMeta {
    /// The patch of a RowSet that replaces nothing of those targets; it takes no bytes in any file.
    pub(crate) fn without_ordinals(newer: &RowSetMeta, targets: &[TargetOrdinals]) -> Self {
        PatchMeta {
            file_number: newer.file_number,
            offset: newer.offset,
            targets: targets.iter().map(|target| target.target(0)).collect(),
        }
    }

    /// The target that is this RowSet.
    pub fn target(&self, place: RowSetPlace) -> Option<&PatchTarget> {
        self.targets.iter().find(|target| target.place == place)
    }

    /// Bytes of all its pages.
    pub fn size_bytes(&self) -> u64 {
        self.targets.iter().map(|target| target.size_bytes).sum()
    }

    /// Marks the ordinals of a target in what is replaced of it. Nothing if it is no target.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) as the system answers, [`Error::Corrupt`](crate::Error::Corrupt) for a damaged page
    /// or ordinals that can't be.
    pub fn mark(&self, file: &DeltaFile, target: &RowSetMeta, marks: &mut Replaced) -> Result<()> {
        let mut offset = self.offset;
        for (number, candidate) in (0..).zip(&self.targets) {
            if candidate.place != target.place() {
                offset = offset.saturating_add(candidate.size_bytes);
                continue;
            }
            if candidate.ordinal_count == 0 {
                return Ok(());
            }
            let place = PagePlace {
                offset,
                kind: PageKind::Patch,
                number,
            };
            return file.read_page(place, candidate.size_bytes, |content| {
                decode_ordinals(content, candidate.ordinal_count, |ordinal| {
                    marks.insert(ordinal)
                })
            });
        }
        Ok(())
    }

    /// Appends what an edit says of it.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.file_number);
        put_u64(out, self.offset);
        put_u32(out, crate::codec::len_u32(self.targets.len()));
        for target in &self.targets {
            put_u64(out, target.place.file_number);
            put_u64(out, target.place.offset);
            put_u32(out, target.ordinal_count);
            put_u32(out, target.live_count);
            put_u64(out, target.size_bytes);
        }
    }

    /// Takes it from the front.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (file_number, offset) = (reader.u64()?, reader.u64()?);
        let count = reader.count(32)?;
        let target = |reader: &mut Reader<'_>| {
            Ok(PatchTarget {
                place: RowSetPlace {
                    file_number: reader.u64()?,
                    offset: reader.u64()?,
                },
                ordinal_count: reader.u32()?,
                live_count: reader.u32()?,
                size_bytes: reader.u64()?,
            })
        };
        let targets: Result<Box<[PatchTarget]>, Malformed> =
            (0..count).map(|_| target(reader)).collect();
        Ok(PatchMeta {
            file_number,
            offset,
            targets: targets?,
        })
    }
}

/// Calls `each` with the ordinals of a page.
pub(crate) fn decode_ordinals(
    content: &[u8],
    count: u32,
    mut each: impl FnMut(u32) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut reader = Reader::new(content);
    let mut next: u64 = 0;
    for _ in 0..count {
        let ordinal = next.saturating_add(reader.varint()?);
        each(u32::try_from(ordinal).map_err(|_| OUT_OF_RANGE)?)?;
        next = ordinal + 1;
    }
    reader.finish()
}

const OUT_OF_RANGE: Malformed = Malformed("a patch names a row that does not exist");

/// The rows of a RowSet that newer ones replace: a bit for each ordinal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replaced {
    words: Vec<u64>,
    ordinal_end: u32,
}

impl Replaced {
    /// None of a RowSet's rows.
    pub fn none_of(meta: &RowSetMeta) -> Self {
        let ordinal_end = meta.ordinal_end();
        Replaced {
            words: vec![0; (ordinal_end as usize).div_ceil(64)],
            ordinal_end,
        }
    }

    fn insert(&mut self, ordinal: u32) -> Result<(), Malformed> {
        match self.words.get_mut(ordinal as usize / 64) {
            Some(word) if ordinal < self.ordinal_end => *word |= 1 << (ordinal % 64),
            _ => return Err(OUT_OF_RANGE),
        }
        Ok(())
    }

    /// Whether a row is replaced.
    #[inline]
    pub fn contains(&self, ordinal: u32) -> bool {
        self.words
            .get(ordinal as usize / 64)
            .is_some_and(|word| word >> (ordinal % 64) & 1 == 1)
    }

    /// Whether one of so many rows is replaced, from an ordinal on.
    #[inline]
    pub fn contains_any(&self, start: u32, count: u32) -> bool {
        let end = start.saturating_add(count);
        let mut at = start;
        while at < end {
            let word = self.words.get(at as usize / 64).copied().unwrap_or(0);
            let bits = (64 - at % 64).min(end - at);
            if word >> (at % 64) & (u64::MAX >> (64 - bits)) != 0 {
                return true;
            }
            at += bits;
        }
        false
    }

    /// The ordinals, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0u32..).zip(&self.words).flat_map(|(i, &word)| {
            (0..64)
                .filter(move |bit| word >> bit & 1 == 1)
                .map(move |bit| i * 64 + bit)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ordinals_round_trip_and_any_bytes_are_taken_or_refused(
            ordinals in prop::collection::btree_set(0u32..5000, 0..200),
            position: prop::sample::Index, byte: u8, start in 0u32..5000, count in 0u32..600,
        ) {
            let mut written = TargetOrdinals::default();
            ordinals.iter().for_each(|ordinal| written.push(*ordinal, ordinal % 2 == 0));
            let meta = RowSetMeta { rows_page_count: 5000 / 8, rows_per_page_log2: 3, ..RowSetMeta::default() };
            let mut marks = Replaced::none_of(&meta);
            let len = ordinals.len() as u32;
            prop_assert_eq!(decode_ordinals(written.content(), len, |ordinal| marks.insert(ordinal)), Ok(()));
            prop_assert_eq!(marks.iter().collect::<Vec<_>>(), ordinals.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(marks.contains_any(start, count), ordinals.range(start..start + count).next().is_some());
            prop_assert!(ordinals.iter().all(|ordinal| marks.contains(*ordinal)));
            let target = written.target(9);
            prop_assert_eq!((target.ordinal_count, target.live_count), (len, ordinals.iter().filter(|o| *o % 2 == 0).count() as u32));
            if len > 0 {
                // One ordinal too many or too few.
                prop_assert!(decode_ordinals(written.content(), len + 1, |_| Ok(())).is_err());
                prop_assert!(decode_ordinals(written.content(), len - 1, |_| Ok(())).is_err());
                let mut damaged = written.content().to_vec();
                *position.get_mut(&mut damaged) = byte;
                let mut last = None;
                let _ = decode_ordinals(&damaged, len, |ordinal| {
                    assert!(last < Some(ordinal), "ordinals ascend whatever the bytes");
                    last = Some(ordinal);
                    marks.insert(ordinal)
                });
            }
        }
    }

    #[test]
    fn metas_round_trip_and_a_row_beyond_the_last_is_refused() {
        let target = PatchTarget {
            place: RowSetPlace {
                file_number: 3,
                offset: 48,
            },
            ordinal_count: 9,
            live_count: 8,
            size_bytes: 40,
        };
        let meta = PatchMeta {
            file_number: 7,
            offset: 1000,
            targets: [target, PatchTarget::default()].into(),
        };
        let mut bytes = Vec::new();
        meta.encode(&mut bytes);
        assert_eq!(PatchMeta::decode(&mut Reader::new(&bytes)), Ok(meta));
        bytes.pop();
        assert!(PatchMeta::decode(&mut Reader::new(&bytes)).is_err());
        let row_set = RowSetMeta {
            rows_page_count: 2,
            rows_per_page_log2: 2,
            ..RowSetMeta::default()
        };
        let mut marks = Replaced::none_of(&row_set);
        assert_eq!(marks.insert(7), Ok(()));
        assert_eq!(marks.insert(8), Err(OUT_OF_RANGE));
    }
}
