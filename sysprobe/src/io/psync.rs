//! `psync` and `pvsync2`: one system call for each request.

use std::fs::File;
use std::io;

use rustix::fd::OwnedFd;
use rustix::io::{ReadWriteFlags, pread, preadv2, pwrite, pwritev2};

use super::{Completion, EngineError, EngineName, EngineOptions, IoEngine, Kind, Request};
use crate::raw::Buffers;

/// Carries out each request with a system call of its own while it is queued.
pub(super) struct PsyncEngine {
    files: Vec<OwnedFd>,
    buffers: Buffers,
    done: Vec<Completion>,
    /// `Some` where the calls take flags (`pvsync2`).
    flags: Option<ReadWriteFlags>,
}

impl PsyncEngine {
    pub(super) fn open(
        name: EngineName,
        files: &[File],
        options: &EngineOptions,
    ) -> Result<Self, EngineError> {
        let failed = |operation| {
            move |source| EngineError::Setup {
                engine: name,
                operation,
                source,
            }
        };
        let files: io::Result<Vec<OwnedFd>> = files
            .iter()
            .map(|file| file.try_clone().map(OwnedFd::from))
            .collect();
        let flags = (name == EngineName::Pvsync2).then(|| {
            if options.hipri {
                ReadWriteFlags::HIPRI
            } else {
                ReadWriteFlags::empty()
            }
        });
        Ok(PsyncEngine {
            files: files.map_err(failed("duplicating file descriptors"))?,
            buffers: Buffers::new(options.depth, options.buffer_size_bytes)
                .map_err(failed("allocating buffers"))?,
            done: Vec::with_capacity(options.depth),
            flags,
        })
    }

    fn carry_out(&mut self, slot: usize, request: &Request) -> io::Result<usize> {
        let file = self
            .files
            .get(request.file)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let buffer = self
            .buffers
            .slot_mut(slot)
            .get_mut(..request.length)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let offset = request.offset;
        let done = rustix::io::retry_on_intr(|| match (request.kind, self.flags) {
            (Kind::Read, None) => pread(file, &mut *buffer, offset),
            (Kind::Write, None) => pwrite(file, buffer, offset),
            (Kind::Read, Some(flags)) => {
                let parts = &mut [io::IoSliceMut::new(buffer)];
                preadv2(file, parts, offset, flags)
            }
            (Kind::Write, Some(flags)) => {
                pwritev2(file, &[io::IoSlice::new(buffer)], offset, flags)
            }
            (Kind::Sync, _) => rustix::fs::fsync(file).map(|()| 0),
            (Kind::DataSync, _) => rustix::fs::fdatasync(file).map(|()| 0),
        })?;
        Ok(done)
    }
}

impl IoEngine for PsyncEngine {
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
