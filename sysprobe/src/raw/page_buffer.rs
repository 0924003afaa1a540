//! A page-aligned buffer that can be given away while the kernel uses it.

use std::io;

use memmap2::{MmapMut, MmapOptions};
use tokio_uring::buf::{IoBuf, IoBufMut};

/// Page-aligned memory that is all initialised; moving it leaves the bytes where they are.
pub(crate) struct PageBuffer {
    memory: MmapMut,
}

impl PageBuffer {
    /// Zeros.
    pub(crate) fn new(size_bytes: usize) -> io::Result<Self> {
        let memory = MmapOptions::new()
            .len(size_bytes.max(1))
            .populate()
            .map_anon()?;
        Ok(PageBuffer { memory })
    }

    /// The bytes.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory
    }
}

// SAFETY: the pointer is that of the map, which does not move with its owner; all bytes are initialised by the kernel.
unsafe impl IoBuf for PageBuffer {
    fn stable_ptr(&self) -> *const u8 {
        self.memory.as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.memory.len()
    }

    fn bytes_total(&self) -> usize {
        self.memory.len()
    }
}

// SAFETY: as above.
unsafe impl IoBufMut for PageBuffer {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.memory.as_mut_ptr()
    }

    unsafe fn set_init(&mut self, _pos: usize) {
        // All bytes are initialised from the start.
    }
}
