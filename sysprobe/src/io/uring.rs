//! `io_uring`: up to `depth` requests under way on a ring of this thread.

use std::fs::File;
use std::io;

use super::{Completion, EngineError, EngineName, EngineOptions, IoEngine, Request};
use crate::raw::Ring;

/// A ring; all of its work is in `raw`.
pub(super) struct UringEngine {
    ring: Ring,
}

impl UringEngine {
    pub(super) fn open(files: &[File], options: &EngineOptions) -> Result<Self, EngineError> {
        let engine = EngineName::IoUring;
        let ring = Ring::open(files, options).map_err(|error| {
            if error.is_forbidden && super::is_forbidding(&error.source) {
                return EngineError::Forbidden {
                    engine,
                    source: error.source,
                };
            }
            EngineError::Setup {
                engine,
                operation: error.operation,
                source: error.source,
            }
        })?;
        Ok(UringEngine { ring })
    }
}

impl IoEngine for UringEngine {
    fn queue(&mut self, slot: usize, request: &Request) -> io::Result<()> {
        self.ring.queue(slot, request)
    }

    fn submit(&mut self) -> io::Result<usize> {
        self.ring.submit()
    }

    fn complete(&mut self, least: usize, done: &mut Vec<Completion>) -> io::Result<()> {
        self.ring.complete(least, done)
    }

    fn buffer_mut(&mut self, slot: usize) -> &mut [u8] {
        self.ring.buffer_mut(slot)
    }
}
