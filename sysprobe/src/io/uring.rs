//! `io_uring`: up to `depth` requests under way on a ring of this thread.

use std::fs::File;
use std::io;

use super::{Completion, EngineError, EngineName, EngineOptions, IoEngine, Request};
use crate::raw::{Ring, RingError};

/// A ring; all of its work is in `raw`.
pub(super) struct UringEngine {
    ring: Ring,
}

impl UringEngine {
    pub(super) fn open(files: &[File], options: &EngineOptions) -> Result<Self, EngineError> {
        let ring = Ring::open(files, options).map_err(refusal)?;
        Ok(UringEngine { ring })
    }
}

/// Tells a ring that is forbidden from one whose options don't fit.
fn refusal(error: RingError) -> EngineError {
    let engine = EngineName::IoUring;
    let RingError {
        operation,
        is_forbidden,
        source,
    } = error;
    match is_forbidden && super::is_forbidding(&source) {
        true => EngineError::Forbidden { engine, source },
        false => EngineError::Setup {
            engine,
            operation,
            source,
        },
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

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn a_kernel_that_forbids_rings_is_told_apart() {
        let refused = |is_forbidden, errno: Errno| {
            refusal(RingError {
                operation: "io_uring_setup",
                is_forbidden,
                source: errno.into(),
            })
        };
        for errno in [Errno::PERM, Errno::NOSYS, Errno::NOMEM] {
            let error = refused(true, errno);
            assert!(matches!(error, EngineError::Forbidden { .. }), "{error}");
            assert!(error.to_string().contains("use io_uring"), "{error}");
        }
        for (is_forbidden, errno) in [(true, Errno::INVAL), (false, Errno::NOMEM)] {
            let error = refused(is_forbidden, errno);
            assert!(matches!(error, EngineError::Setup { .. }), "{error}");
        }
    }
}
