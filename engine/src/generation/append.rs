//! A vector that one thread appends to while others read it, without locks.
//!
//! Elements lie in chunks and never move. Chunks double, but large ones are made in parts, so that no more than a part is
//! there in vain. They are made empty (`T::default()`) and are filled through interior mutability, so nothing here needs
//! unsafe code. Who publishes an element's number after filling it (a store with `Release`) makes it whole for who reads
//! the number (`Acquire`).

use std::sync::OnceLock;

/// Elements of the first chunk.
const FIRST_CHUNK_LOG2: u32 = 6;
/// Chunks: enough for 2^32 elements.
const CHUNKS: usize = 32 - FIRST_CHUNK_LOG2 as usize + 1;
/// Parts of a chunk. With eight, what is there in vain is an eighth of all at most.
const PARTS_LOG2: u32 = 3;
/// Smaller chunks are made as one part.
const DIVIDED_CHUNK_LOG2: u32 = 12;

/// Elements of type `T` by number.
#[derive(Debug)]
pub(crate) struct AppendVec<T> {
    chunks: [OnceLock<Chunk<T>>; CHUNKS],
}

/// The parts of a chunk, each once it is needed.
type Chunk<T> = Box<[OnceLock<Box<[T]>>]>;

/// Where an element lies: the chunk, the part of it, the place there.
#[derive(Clone, Copy, Debug)]
struct Place {
    chunk: usize,
    part: usize,
    offset: usize,
    /// Elements of the part, and parts of the chunk.
    part_len: usize,
    part_count: usize,
}

impl<T> Default for AppendVec<T> {
    fn default() -> Self {
        AppendVec {
            chunks: std::array::from_fn(|_| OnceLock::new()),
        }
    }
}

impl<T: Default> AppendVec<T> {
    /// The element of that number, if its part is there.
    #[inline]
    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        let place = Place::of(number);
        let parts = self.chunks.get(place.chunk)?.get()?;
        parts.get(place.part)?.get()?.get(place.offset)
    }

    /// The element of that number; its part is made if need be. Returns the elements made, 0 mostly.
    pub(crate) fn reserve(&self, number: u32) -> (Option<&T>, usize) {
        let place = Place::of(number);
        let Some(chunk) = self.chunks.get(place.chunk) else {
            return (None, 0);
        };
        let parts = chunk.get_or_init(|| (0..place.part_count).map(|_| OnceLock::new()).collect());
        let Some(part) = parts.get(place.part) else {
            return (None, 0);
        };
        let mut made = 0;
        let elements = part.get_or_init(|| {
            made = place.part_len;
            (0..made).map(|_| T::default()).collect()
        });
        (elements.get(place.offset), made)
    }
}

impl Place {
    #[inline]
    fn of(number: u32) -> Self {
        let shifted = u64::from(number) + (1 << FIRST_CHUNK_LOG2);
        let chunk_log2 = shifted.ilog2();
        let parts_log2 = if chunk_log2 < DIVIDED_CHUNK_LOG2 {
            0
        } else {
            PARTS_LOG2
        };
        let part_log2 = chunk_log2 - parts_log2;
        let within = shifted - (1 << chunk_log2);
        Place {
            chunk: (chunk_log2 - FIRST_CHUNK_LOG2) as usize,
            part: (within >> part_log2) as usize,
            offset: (within & ((1 << part_log2) - 1)) as usize,
            part_len: 1 << part_log2,
            part_count: 1 << parts_log2,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn every_number_has_a_place_of_its_own() {
        let vec = AppendVec::<AtomicU64>::default();
        let mut made = 0;
        for number in 0..20_000 {
            let (element, more) = vec.reserve(number);
            element.unwrap().store(u64::from(number), Ordering::Relaxed);
            made += more;
        }
        assert!(
            (20_000..22_500).contains(&made),
            "an eighth is there in vain: {made}"
        );
        for number in 0..20_000 {
            let stored = vec.get(number).unwrap().load(Ordering::Relaxed);
            assert_eq!(stored, u64::from(number));
        }
        assert!(vec.get(1 << 20).is_none());
        assert_eq!(Place::of(u32::MAX).chunk, CHUNKS - 1);
    }
}
