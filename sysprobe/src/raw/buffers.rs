//! Page-aligned memory for I/O.

use std::io;

use memmap2::MmapMut;

/// One anonymous memory map, cut into slots of the same size, each beginning at a page.
#[derive(Debug)]
pub(crate) struct Buffers {
    memory: MmapMut,
    slot_stride: usize,
    slot_size: usize,
}

impl Buffers {
    /// Zeroed memory for that many slots.
    pub(crate) fn new(slots: usize, slot_size: usize) -> io::Result<Self> {
        let slot_stride = slot_size
            .max(1)
            .next_multiple_of(rustix::param::page_size());
        let size = slots
            .max(1)
            .checked_mul(slot_stride)
            .ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Buffers {
            memory: MmapMut::map_anon(size)?,
            slot_stride,
            slot_size,
        })
    }

    /// The slot's memory; empty where there is no such slot.
    #[inline]
    pub(crate) fn slot_mut(&mut self, slot: usize) -> &mut [u8] {
        let begin = slot.saturating_mul(self.slot_stride);
        self.memory
            .get_mut(begin..begin.saturating_add(self.slot_size))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_aligned_and_do_not_overlap() {
        let mut buffers = Buffers::new(3, 5000).unwrap();
        for slot in 0..3 {
            let memory = buffers.slot_mut(slot);
            assert_eq!(memory.as_ptr() as usize % rustix::param::page_size(), 0);
            assert_eq!(memory.len(), 5000);
            memory.fill(slot as u8 + 1);
        }
        assert!((0..3).all(|slot| {
            buffers
                .slot_mut(slot)
                .iter()
                .all(|byte| usize::from(*byte) == slot + 1)
        }));
        assert!(buffers.slot_mut(3).is_empty());
    }
}
