//! `mmap`: copies from and to a memory map of each file.

use std::fs::File;
use std::io;

use super::{Completion, EngineError, EngineName, EngineOptions, IoEngine, Kind, Request};
use crate::raw::{Buffers, FileMap};

/// Carries out each request by a copy while it is queued. A sync is `msync` of the whole map. With `direct` each part is
/// synced and dropped from the page cache at once, as fio does it.
pub(super) struct MmapEngine {
    maps: Vec<FileMap>,
    buffers: Buffers,
    done: Vec<Completion>,
    direct: bool,
}

impl MmapEngine {
    pub(super) fn open(files: &[File], options: &EngineOptions) -> Result<Self, EngineError> {
        let failed = |operation| {
            move |source| EngineError::Setup {
                engine: EngineName::Mmap,
                operation,
                source,
            }
        };
        let mut maps = Vec::with_capacity(files.len());
        for file in files {
            let map = FileMap::open(file, options.writes).map_err(failed("mapping a file"))?;
            map.advise_random(options.random)
                .map_err(failed("advising the kernel"))?;
            maps.push(map);
        }
        Ok(MmapEngine {
            maps,
            buffers: Buffers::new(options.depth, options.buffer_size_bytes)
                .map_err(failed("allocating buffers"))?,
            done: Vec::with_capacity(options.depth),
            direct: options.direct,
        })
    }

    fn carry_out(&mut self, slot: usize, request: &Request) -> io::Result<usize> {
        let map = self
            .maps
            .get(request.file)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let buffer = self
            .buffers
            .slot_mut(slot)
            .get_mut(..request.length)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let done = match request.kind {
            Kind::Read => map.read(request.offset, buffer),
            Kind::Write => map.write(request.offset, buffer),
            Kind::Sync | Kind::DataSync => {
                map.sync()?;
                return Ok(0);
            }
        };
        if self.direct {
            map.sync_and_drop(request.offset, done)?;
        }
        Ok(done)
    }
}

impl IoEngine for MmapEngine {
    fn queue(&mut self, slot: usize, request: &Request) -> io::Result<()> {
        let result = self.carry_out(slot, request);
        self.done.push(Completion { slot, result });
        Ok(())
    }

    fn submit(&mut self) -> io::Result<usize> {
        Ok(self.done.len())
    }

    fn complete(&mut self, _least: usize, done: &mut Vec<Completion>) -> io::Result<()> {
        done.append(&mut self.done);
        Ok(())
    }

    fn buffer_mut(&mut self, slot: usize) -> &mut [u8] {
        self.buffers.slot_mut(slot)
    }
}
