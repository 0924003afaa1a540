//! The segments that the log has: they come as it grows, and go once what they hold is below level 0.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::io::{Io, IoFile};
use crate::tree::state::LogStart;

/// A segment of the log, as it lies on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSegment {
    /// Its file.
    pub path: PathBuf,
    /// Its length.
    pub size_bytes: u64,
}

/// A segment file that is open.
#[derive(Clone, Debug)]
pub(crate) struct OpenSegment {
    pub(crate) number: u64,
    pub(crate) first_block_number: u64,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn IoFile>,
}

/// All segments, in log order.
#[derive(Debug, Default)]
pub(crate) struct LogSegments {
    segments: Mutex<Vec<OpenSegment>>,
}

impl LogSegments {
    pub(crate) fn add(&self, segment: OpenSegment) {
        self.segments.lock().push(segment);
    }

    /// Their files and sizes.
    pub(crate) fn list(&self) -> Result<Vec<LogSegment>> {
        let segments = self.segments.lock().clone();
        let size = |segment: OpenSegment| {
            let size_bytes = segment.file.len_bytes();
            Ok(LogSegment {
                size_bytes: size_bytes
                    .map_err(|source| Error::io("read", &segment.path, source))?,
                path: segment.path,
            })
        };
        segments.into_iter().map(size).collect()
    }

    /// Where to read from to see all from a block on.
    pub(crate) fn start_of(&self, block_number: u64) -> Option<LogStart> {
        let segments = self.segments.lock();
        let behind = segments.partition_point(|one| one.first_block_number <= block_number);
        let segment = segments.get(behind.checked_sub(1)?)?;
        Some(LogStart {
            segment_number: segment.number,
            block_number: segment.first_block_number,
        })
    }

    /// Removes the files of the segments before one.
    pub(crate) fn remove_before(&self, io: &dyn Io, segment_number: u64) -> Result<()> {
        loop {
            let path = {
                let mut segments = self.segments.lock();
                match segments.first() {
                    Some(first) if first.number < segment_number => segments.remove(0).path,
                    _ => return Ok(()),
                }
            };
            io.remove(&path)
                .map_err(|source| Error::io("remove", &path, source))?;
        }
    }
}
