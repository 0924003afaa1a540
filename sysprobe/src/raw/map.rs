//! A file as memory.

use std::fs::File;
use std::io;

use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};

/// A shared map of a whole file, read and written by copying. No reference into it is ever made, since other threads and
/// processes change what it shows.
///
/// A file that is made shorter while it is mapped kills the process with `SIGBUS`, as it does in every program.
pub(crate) struct FileMap {
    memory: MmapRaw,
}

impl FileMap {
    /// Maps the file as long as it is now.
    pub(crate) fn open(file: &File, writes: bool) -> io::Result<Self> {
        let options = MmapOptions::new();
        let memory = match writes {
            true => options.map_raw(file)?,
            false => options.map_raw_read_only(file)?,
        };
        Ok(FileMap { memory })
    }

    /// Says in which order it will be read.
    pub(crate) fn advise_random(&self, is_random: bool) -> io::Result<()> {
        self.memory.advise(match is_random {
            true => Advice::Random,
            false => Advice::Sequential,
        })
    }

    /// Copies from the file; fewer bytes than asked for at its end.
    pub(crate) fn read(&self, offset: u64, into: &mut [u8]) -> usize {
        let (begin, length) = self.part(offset, into.len());
        // SAFETY: `part` keeps `begin + length` within the map and `length` within `into`, which is not part of the map.
        // Bytes that others change meanwhile are any bytes; the compiler knows of no reference to them.
        unsafe {
            let from = self.memory.as_ptr().add(begin);
            std::ptr::copy_nonoverlapping(from, into.as_mut_ptr(), length);
        }
        length
    }

    /// Copies to the file; fewer bytes than asked for at its end. The map must have been opened for writing.
    pub(crate) fn write(&self, offset: u64, from: &[u8]) -> usize {
        let (begin, length) = self.part(offset, from.len());
        // SAFETY: as in `read`; the engine opens a map for writing where it is to write, and writing to a map that was
        // not is a fault that the kernel stops, not a change of other memory.
        unsafe {
            let into = self.memory.as_mut_ptr().add(begin);
            std::ptr::copy_nonoverlapping(from.as_ptr(), into, length);
        }
        length
    }

    /// Makes all of it durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.memory.flush()
    }

    /// Makes a part durable and takes it out of the page cache: the nearest to `O_DIRECT` that a map has.
    pub(crate) fn sync_and_drop(&self, offset: u64, length: usize) -> io::Result<()> {
        let (begin, length) = self.part(offset, length);
        self.memory.flush_range(begin, length)?;
        // SAFETY: the map is shared and of a file: what is dropped is read again from the file, which was just synced.
        unsafe {
            self.memory
                .unchecked_advise_range(UncheckedAdvice::DontNeed, begin, length)
        }
    }

    fn part(&self, offset: u64, length: usize) -> (usize, usize) {
        let size = self.memory.len();
        let begin = usize::try_from(offset).unwrap_or(size).min(size);
        (begin, length.min(size - begin))
    }
}
