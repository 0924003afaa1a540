//! A part of a file as memory that is written by copying.
//!
//! A write into such memory can't say that it failed: the system ends the process with `SIGBUS`. So only what can't want
//! for space is mapped: bytes that the file has already, on file systems that always write them where they are. Pages are
//! made ready when a part is mapped, by a call that can say that it failed. What is left is a device that fails, or a file
//! system that an error made read-only, between that and the write, after the page has been written back; and a file that
//! others cut.

use std::fs::File;
use std::io::{ErrorKind, Result};

use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::fs::fstatfs;

/// File systems that replace written bytes in place, by `statfs`: ext4 and those before it, and memory. Not XFS: where a
/// file was cloned (as `cp` does there), it has to find space for bytes that are written anew.
const IN_PLACE_FILE_SYSTEMS: [u64; 2] = [0xef53, 0x0102_1994];

/// A shared map of a part of a file. No reference into it is ever made, since others read the file meanwhile.
#[derive(Debug)]
pub(crate) struct MappedPart {
    memory: MmapRaw,
    /// Where it begins in the file.
    offset: u64,
}

impl MappedPart {
    /// Maps bytes that the file has; `None` where a write to them might want for space, or the system can't do it.
    pub(crate) fn open(file: &File, offset: u64, len: usize) -> Result<Option<Self>> {
        // The type is 32 bits; where its field is a signed word it may come sign-extended.
        let kind = fstatfs(file)?.f_type as u64 & 0xffff_ffff;
        let end = offset.saturating_add(len as u64);
        if !IN_PLACE_FILE_SYSTEMS.contains(&kind) || file.metadata()?.len() < end {
            return Ok(None);
        }
        let memory = MmapOptions::new().offset(offset).len(len).map_raw(file)?;
        // An older kernel does not know it, and a device may fail.
        if memory.advise(Advice::PopulateWrite).is_err() {
            return Ok(None);
        }
        Ok(Some(MappedPart { memory, offset }))
    }

    /// Writes all bytes of the parts at that offset of the file, one behind the other.
    ///
    /// # Errors
    /// `InvalidInput` where they are not within the part that is mapped; nothing is written then.
    pub(crate) fn write_all_parts_at(&mut self, parts: &[&[u8]], offset: u64) -> Result<()> {
        let start = offset.checked_sub(self.offset);
        let start = start.and_then(|start| usize::try_from(start).ok());
        let mut start = start.ok_or(ErrorKind::InvalidInput)?;
        let mut lens = parts.iter().map(|part| part.len());
        let end = lens.try_fold(start, usize::checked_add);
        if end.is_none_or(|end| end > self.memory.len()) {
            return Err(ErrorKind::InvalidInput.into());
        }
        for part in parts {
            // SAFETY: `start + part.len()` is at most the `end` of before, which is within the map. The part is no part
            // of the map, as nobody has a reference into that. The map is private to this value, which is borrowed mutably.
            unsafe {
                let into = self.memory.as_mut_ptr().add(start);
                std::ptr::copy_nonoverlapping(part.as_ptr(), into, part.len());
            }
            start += part.len();
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "the module is below what the ban points to"
)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    /// Honest: nothing but the bytes of the part is written, wherever it begins and ends in a page.
    #[test]
    #[cfg_attr(miri, ignore = "Miri has no mapped files")]
    fn a_part_is_written_and_nothing_around_it() {
        // In memory, which can be mapped wherever the tests run.
        let file = tempfile::tempfile_in("/dev/shm").unwrap();
        file.write_all_at(&[b'.'; 9000], 0).unwrap();
        let mut map = MappedPart::open(&file, 100, 5000).unwrap().unwrap();
        let refused = [(99, 1), (u64::MAX, 1), (5100, 1), (100, 5001)];
        for (offset, len) in refused {
            let bytes = vec![b'x'; len];
            let written = map.write_all_parts_at(&[&bytes], offset);
            assert_eq!(written.unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        map.write_all_parts_at(&[b"moon", b"", b"shine"], 100)
            .unwrap();
        map.write_all_parts_at(&[b"end"], 5097).unwrap();
        let mut expected = [b'.'; 9000];
        expected[100..109].copy_from_slice(b"moonshine");
        expected[5097..5100].copy_from_slice(b"end");
        let mut found = [0; 9000];
        file.read_exact_at(&mut found, 0).unwrap();
        assert!(found == expected);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no mapped files")]
    fn bytes_that_a_file_lacks_are_not_mapped() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[0; 9000], 0).unwrap();
        for (offset, len) in [(0, 9001), (9000, 1), (u64::MAX, 1)] {
            assert!(MappedPart::open(&file, offset, len).unwrap().is_none());
        }
    }
}
