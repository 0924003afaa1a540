//! Rows of a load in memory: in the order they came, and then sorted.

use crate::codec::key::prefix_of;
use crate::codec::len_u32;
use crate::error::{Error, Result};
use crate::row_set::rows_page::RowRef;

/// Largest encoded row, in bytes, its key included.
const ROW_SIZE_BYTES_MAX: usize = 256 << 20;
/// Rows whose cache misses overlap: sorted rows lie anywhere.
const ROWS_AT_ONCE: usize = 32;
/// What the processor fetches at once.
const CACHE_LINE_SIZE_BYTES: usize = 64;
/// Cache lines of a row that are fetched ahead; the processor itself goes on from there.
const ROW_LINES: usize = 3;

/// Rows one behind the other: the lengths of key and value, four bytes each, and both.
#[derive(Debug, Default)]
pub(super) struct RowBuffer {
    arena: Vec<u8>,
    places: Vec<Place>,
}

/// The first eight bytes of a key and where its row starts, in one integer that compares as they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place(u128);

impl Place {
    fn new(key: &[u8], start: usize) -> Self {
        Place(u128::from(prefix_of(key)) << 64 | start as u128)
    }

    fn prefix(self) -> u64 {
        (self.0 >> 64) as u64
    }

    fn start(self) -> usize {
        self.0 as u64 as usize
    }
}

impl RowBuffer {
    /// Takes a row; returns its bytes.
    pub(super) fn push(
        &mut self,
        key: impl FnOnce(&mut Vec<u8>) -> Result<()>,
        value: impl FnOnce(&mut Vec<u8>),
    ) -> Result<u64> {
        let start = self.arena.len();
        self.arena.extend_from_slice(&[0; 8]);
        let key_start = self.arena.len();
        key(&mut self.arena).inspect_err(|_| self.arena.truncate(start))?;
        let key_end = self.arena.len();
        value(&mut self.arena);
        let size_bytes = self.arena.len() - key_start;
        if size_bytes > ROW_SIZE_BYTES_MAX {
            self.arena.truncate(start);
            return Err(Error::Row(format!(
                "a row of {size_bytes} bytes, at most {ROW_SIZE_BYTES_MAX} are supported"
            )));
        }
        let key_len = key_end - key_start;
        let lens = [len_u32(key_len), len_u32(size_bytes - key_len)].map(u32::to_le_bytes);
        if let Some(place) = self.arena.get_mut(start..key_start) {
            place.copy_from_slice(lens.as_flattened());
        }
        let key = self.arena.get(key_start..key_end).unwrap_or_default();
        self.places.push(Place::new(key, start));
        Ok(size_bytes as u64)
    }

    /// Bytes of memory.
    pub(super) fn size_bytes(&self) -> u64 {
        (self.arena.len() + self.places.len() * size_of::<Place>()) as u64
    }

    /// Brings the rows into key order; of one key the last one given stays.
    pub(super) fn sort(&mut self) {
        let RowBuffer { arena, places } = self;
        if !places.is_sorted() {
            places.sort_unstable();
        }
        let key = |place: &Place| row_at(arena, *place).key;
        for alike in places.chunk_by_mut(|a, b| a.prefix() == b.prefix()) {
            if alike.len() > 1 {
                // The sort is stable, so that rows of one key stay in the order they came.
                alike.sort_by(|a, b| key(a).cmp(key(b)));
            }
        }
        let mut places_kept: usize = 0;
        for i in 0..places.len() {
            let (Some(&place), next) = (places.get(i), places.get(i + 1)) else {
                break;
            };
            let is_replaced = next
                .is_some_and(|next| next.prefix() == place.prefix() && key(next) == key(&place));
            if !is_replaced && let Some(kept) = places.get_mut(places_kept) {
                *kept = place;
                places_kept += 1;
            }
        }
        places.truncate(places_kept);
    }

    /// The rows, in the order they are in.
    pub(super) fn rows(&self) -> impl Iterator<Item = RowRef<'_>> {
        self.places.chunks(ROWS_AT_ONCE).flat_map(|places| {
            warm(&self.arena, places);
            places.iter().map(|place| row_at(&self.arena, *place))
        })
    }

    /// Empties it, and keeps its memory.
    pub(super) fn clear(&mut self) {
        self.arena.clear();
        self.places.clear();
    }
}

/// Reads something of each cache line of some rows, so that the processor waits for all of them side by side.
fn warm(arena: &[u8], places: &[Place]) {
    let line = |start, number| arena.get(start + number * CACHE_LINE_SIZE_BYTES).copied();
    let bytes = places.iter().map(|place| {
        let lines = (0..ROW_LINES).filter_map(|number| line(place.start(), number));
        lines.fold(0, |all, byte| all ^ byte)
    });
    std::hint::black_box(bytes.fold(0, |all, byte| all ^ byte));
}

fn row_at(arena: &[u8], place: Place) -> RowRef<'_> {
    let row = || {
        let (lens, bytes) = arena.get(place.start()..)?.split_at_checked(8)?;
        let [key_len, value_len] = *lens.as_chunks::<4>().0 else {
            return None;
        };
        let [key_len, value_len] = [key_len, value_len].map(|len| u32::from_le_bytes(len) as usize);
        let (key, rest) = bytes.split_at_checked(key_len)?;
        Some((key, rest.get(..value_len)?))
    };
    let (key, value) = row().unwrap_or_default();
    RowRef {
        key,
        value: Some(value),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_come_back_in_key_order_the_last_of_each_key(
            rows in prop::collection::vec(
                (prop::collection::vec(prop_oneof![0..2u8, any::<u8>()], 0..11), any::<u8>()), 0..200,
            ),
        ) {
            let mut buffer = RowBuffer::default();
            for (key, value) in &rows {
                let encode_key = |out: &mut Vec<u8>| {
                    out.extend_from_slice(key);
                    Ok(())
                };
                buffer.push(encode_key, |out| out.push(*value)).unwrap();
            }
            buffer.sort();
            let sorted: Vec<_> = buffer
                .rows()
                .map(|row| (row.key.to_vec(), row.value.unwrap()[0]))
                .collect();
            let expected: std::collections::BTreeMap<_, _> = rows.into_iter().collect();
            prop_assert_eq!(sorted, expected.into_iter().collect::<Vec<_>>());
        }
    }
}
