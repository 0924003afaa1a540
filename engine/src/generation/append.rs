//! A vector that one thread appends to while others read it, without locks.
//!
//! Elements lie in chunks, each twice as large as the one before, and never move. They are made empty (`T::default()`)
//! with their chunk and are filled through interior mutability, so nothing here needs unsafe code. Who publishes an
//! element's number after filling it (a store with `Release`) makes it whole for who reads the number (`Acquire`).

use std::sync::OnceLock;

/// Elements of the first chunk.
const FIRST_CHUNK_LOG2: u32 = 6;
/// Chunks: enough for 2^32 elements.
const CHUNKS: usize = 32 - FIRST_CHUNK_LOG2 as usize + 1;

/// Elements of type `T` by number.
#[derive(Debug)]
pub(crate) struct AppendVec<T> {
    chunks: [OnceLock<Box<[T]>>; CHUNKS],
}

impl<T> Default for AppendVec<T> {
    fn default() -> Self {
        AppendVec {
            chunks: std::array::from_fn(|_| OnceLock::new()),
        }
    }
}

impl<T: Default> AppendVec<T> {
    /// The element of that number, if its chunk is there.
    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        let (chunk, offset) = place(number);
        self.chunks.get(chunk)?.get()?.get(offset)
    }

    /// The element of that number; its chunk is made if need be. Returns the elements made, 0 mostly.
    pub(crate) fn reserve(&self, number: u32) -> (Option<&T>, usize) {
        let (chunk, offset) = place(number);
        let Some(slot) = self.chunks.get(chunk) else {
            return (None, 0);
        };
        let mut made = 0;
        let elements = slot.get_or_init(|| {
            made = 1_usize << (FIRST_CHUNK_LOG2 + chunk as u32);
            (0..made).map(|_| T::default()).collect()
        });
        (elements.get(offset), made)
    }
}

/// The chunk of an element and its place there.
fn place(number: u32) -> (usize, usize) {
    let shifted = u64::from(number) + (1 << FIRST_CHUNK_LOG2);
    let chunk = shifted.ilog2() - FIRST_CHUNK_LOG2;
    let offset = shifted - (1 << (chunk + FIRST_CHUNK_LOG2));
    (chunk as usize, offset as usize)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn every_number_has_a_place_of_its_own() {
        let vec = AppendVec::<AtomicU64>::default();
        let mut made = 0;
        for number in 0..10_000 {
            let (element, more) = vec.reserve(number);
            element.unwrap().store(u64::from(number), Ordering::Relaxed);
            made += more;
        }
        assert!((10_000..32_768).contains(&made), "{made}");
        for number in 0..10_000 {
            let stored = vec.get(number).unwrap().load(Ordering::Relaxed);
            assert_eq!(stored, u64::from(number));
        }
        assert!(vec.get(1 << 20).is_none());
        assert_eq!(place(u32::MAX).0, CHUNKS - 1);
    }
}
