//! Memory that `O_DIRECT` takes, by over-allocating, which needs no unsafe code; and what is written.

use super::offsets::random;
use crate::probe::device::BLOCK_SIZE_BYTES_MIN;

/// A block at an aligned address.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    from: usize,
    to: usize,
}

impl Buffer {
    pub(super) fn new(size_bytes: u64) -> Self {
        let size = usize::try_from(size_bytes).unwrap_or(usize::MAX);
        let alignment = usize::try_from(BLOCK_SIZE_BYTES_MIN).unwrap_or(usize::MAX);
        // Not zeros: those have no memory behind them before they are written to, which an I/O would have to wait for.
        let bytes = vec![1; size.saturating_add(alignment)];
        let from = bytes.as_ptr().align_offset(alignment).min(alignment);
        Buffer {
            bytes,
            from,
            to: from + size,
        }
    }

    /// Bytes that no device compresses.
    pub(super) fn random(size_bytes: u64) -> Self {
        let mut buffer = Buffer::new(size_bytes);
        let mut state = size_bytes;
        for word in buffer.block_mut().chunks_exact_mut(8) {
            word.copy_from_slice(&random(&mut state).to_le_bytes());
        }
        buffer
    }

    pub(super) fn block(&self) -> &[u8] {
        self.bytes.get(self.from..self.to).unwrap_or_default()
    }

    pub(super) fn block_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.from..self.to).unwrap_or_default()
    }

    /// Some `size_bytes` of the block, at an aligned place that `place` draws. Memory is in pieces of which some are
    /// contiguous and some are not, and a device takes the former faster: always writing from the same place would make
    /// that luck part of every measurement of a run.
    pub(super) fn part(&self, size_bytes: u64, place: u64) -> &[u8] {
        let whole = self.block();
        let size = usize::try_from(size_bytes).unwrap_or(usize::MAX);
        let alignment = usize::try_from(BLOCK_SIZE_BYTES_MIN).unwrap_or(usize::MAX);
        let places = whole.len().saturating_sub(size) / alignment + 1;
        let from = usize::try_from(place % places as u64).unwrap_or(0) * alignment;
        whole
            .get(from..from.saturating_add(size))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::device::BLOCK_SIZE_BYTES_MAX;

    #[test]
    fn buffers_are_aligned_and_not_compressible() {
        let mut buffer = Buffer::random(BLOCK_SIZE_BYTES_MAX);
        assert_eq!(buffer.block().len() as u64, BLOCK_SIZE_BYTES_MAX);
        assert_eq!(buffer.block().as_ptr() as u64 % BLOCK_SIZE_BYTES_MIN, 0);
        assert_eq!(buffer.block_mut().as_ptr() as u64 % BLOCK_SIZE_BYTES_MIN, 0);
        let different: std::collections::HashSet<&[u8]> = buffer.block().chunks_exact(8).collect();
        assert_eq!(different.len() * 8, buffer.block().len());
    }

    #[test]
    fn parts_are_aligned_and_whole() {
        let buffer = Buffer::random(BLOCK_SIZE_BYTES_MAX);
        let mut addresses = std::collections::HashSet::new();
        for place in 0..2000 {
            for size_bytes in [BLOCK_SIZE_BYTES_MIN, 65_536, BLOCK_SIZE_BYTES_MAX] {
                let part = buffer.part(size_bytes, place);
                assert_eq!(part.len() as u64, size_bytes);
                assert_eq!(part.as_ptr() as u64 % BLOCK_SIZE_BYTES_MIN, 0);
                addresses.insert(part.as_ptr() as u64);
            }
        }
        assert_eq!(
            addresses.len() as u64,
            BLOCK_SIZE_BYTES_MAX / BLOCK_SIZE_BYTES_MIN
        );
    }
}
