//! Page-aligned memory for I/O.

use std::io;

use memmap2::{MmapOptions, MmapRaw};

/// One anonymous memory map, cut into slots of the same size, each beginning at a page.
///
/// It is kept as a raw map: a reference to all of it would overlap slots that the kernel is writing to.
#[derive(Debug)]
pub(crate) struct Buffers {
    memory: MmapRaw,
    slots: usize,
    slot_stride: usize,
    slot_size: usize,
}

impl Buffers {
    /// Zeroed memory for that many slots, with its pages there, so that no I/O waits for them.
    pub(crate) fn new(slots: usize, slot_size: usize) -> io::Result<Self> {
        let slot_stride = slot_size
            .max(1)
            .checked_next_multiple_of(rustix::param::page_size())
            .ok_or(io::ErrorKind::OutOfMemory)?;
        let size = slots
            .max(1)
            .checked_mul(slot_stride)
            .ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Buffers {
            memory: MmapOptions::new().len(size).populate().map_anon()?.into(),
            slots,
            slot_stride,
            slot_size,
        })
    }

    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    pub(super) fn slot_size(&self) -> usize {
        self.slot_size
    }

    /// Where the slot's memory begins; `None` where there is no such slot. It stays there as long as `self` lives, also
    /// when `self` is moved.
    #[inline]
    pub(super) fn slot_pointer(&self, slot: usize) -> Option<*mut u8> {
        let begin = slot * self.slot_stride;
        // SAFETY: `slot` is below `slots`, so the sum stays within the map, which has `slots * slot_stride` bytes.
        (slot < self.slots).then(|| unsafe { self.memory.as_mut_ptr().add(begin) })
    }

    /// The slot's memory; empty where there is no such slot.
    #[inline]
    pub(crate) fn slot_mut(&mut self, slot: usize) -> &mut [u8] {
        match self.slot_pointer(slot) {
            // SAFETY: the slot lies within the map and was zeroed by the kernel; `&mut self` keeps every other slice
            // away. The kernel writes only to slots that `Ring` has lent to it, and `Ring` gives out no slice of those.
            Some(pointer) => unsafe { std::slice::from_raw_parts_mut(pointer, self.slot_size) },
            None => &mut [],
        }
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
        for slot in 0..3 {
            assert!(
                buffers
                    .slot_mut(slot)
                    .iter()
                    .all(|byte| usize::from(*byte) == slot + 1)
            );
        }
        assert!(buffers.slot_mut(3).is_empty());
    }
}
