//! Keeps a queue of io_uring filled, from one thread.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use super::{Disk, measured};
use crate::error::ProbeError;
use crate::io::{Completion, EngineName, EngineOptions, IoEngine, Kind, Request, open_engine};
use crate::latency::Histogram;
use crate::probe::device::{Load, Measurement, Operation};

/// Why no queue can be kept; `None` where one can.
pub(super) fn refused(file: &File) -> Option<String> {
    let opened = open_ring(file, 1, 4096, false);
    opened.err().map(|error| error.to_string())
}

fn open_ring(
    file: &File,
    depth: usize,
    block_size: usize,
    writes: bool,
) -> io::Result<Box<dyn IoEngine>> {
    let options = EngineOptions {
        direct: true,
        writes,
        ..EngineOptions::new(depth, block_size)
    };
    let files = [file.try_clone()?];
    open_engine(EngineName::IoUring, &files, &options).map_err(io::Error::other)
}

/// Carries out a load: whenever an I/O is done, the next one takes its place.
pub(super) fn run(disk: &Disk, load: &Load, window: Duration) -> Result<Measurement, ProbeError> {
    let failed = |source: io::Error| ProbeError::Io {
        operation: "io_uring",
        path: disk.path.clone(),
        source,
    };
    let depth = usize::try_from(load.in_flight).unwrap_or(usize::MAX);
    let length = usize::try_from(load.block_size_bytes).unwrap_or(usize::MAX);
    let writes = load.operation == Operation::Write;
    if writes && !super::Device::writes(disk) {
        return Err(failed(io::ErrorKind::ReadOnlyFilesystem.into()));
    }
    let mut ring = open_ring(&disk.file, depth, length, writes).map_err(failed)?;
    for slot in (0..depth).filter(|_| writes) {
        let content = disk.content_at(load.block_size_bytes, slot as u64);
        ring.buffer_mut(slot).copy_from_slice(content);
    }
    let mut offsets = disk.offsets(load, 0);
    let mut queue = Queue {
        ring,
        begun: vec![Instant::now(); depth],
        latencies: Histogram::default(),
        kind: if writes { Kind::Write } else { Kind::Read },
        length,
    };
    let begun = Instant::now();
    for slot in 0..depth {
        queue.begin(slot, offsets.next()).map_err(failed)?;
    }
    let (mut under_way, mut ended) = (depth, begun);
    let mut done: Vec<Completion> = Vec::with_capacity(depth);
    while under_way > 0 {
        queue.ring.submit().map_err(failed)?;
        queue.ring.complete(1, &mut done).map_err(failed)?;
        ended = Instant::now();
        for completion in done.drain(..) {
            let slot = completion.slot;
            queue.end(completion, ended).map_err(failed)?;
            if ended - begun < window {
                queue.begin(slot, offsets.next()).map_err(failed)?;
            } else {
                under_way -= 1;
            }
        }
    }
    Ok(measured(load, queue.latencies, ended - begun))
}

struct Queue {
    ring: Box<dyn IoEngine>,
    /// When the I/O of each slot was queued.
    begun: Vec<Instant>,
    latencies: Histogram,
    kind: Kind,
    length: usize,
}

impl Queue {
    fn begin(&mut self, slot: usize, offset: u64) -> io::Result<()> {
        let request = Request {
            kind: self.kind,
            offset,
            length: self.length,
            file: 0,
        };
        if let Some(begun) = self.begun.get_mut(slot) {
            *begun = Instant::now();
        }
        self.ring.queue(slot, &request)
    }

    fn end(&mut self, completion: Completion, now: Instant) -> io::Result<()> {
        if completion.result? != self.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(begun) = self.begun.get(completion.slot) {
            self.latencies.record(now - *begun);
        }
        Ok(())
    }
}
