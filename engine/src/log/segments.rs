//! The segments that the log has: they come as it grows, and go once what they hold is below level 0.

use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::io::{Io, IoFile};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};

/// From where on the log is needed: a segment, and its first block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogStart {
    pub(crate) segment_number: u64,
    pub(crate) block_number: u64,
}

/// A segment of the log, as it lies on disk.
///
/// ```
/// use moonshine_engine::{Database, Options};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// for segment in database.log_segments()? {
///     println!("{segment:?}");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSegment {
    /// Its file.
    pub path: PathBuf,
    /// Its length in bytes. The newest one may end in up to 1 MiB of zeros.
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
    state: Mutex<State>,
    flushed_seq: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    segments: Vec<OpenSegment>,
    /// While this is not 0, none is removed.
    hold_count: usize,
}

/// Keeps the segments of a log from being removed; the next flush removes them.
#[derive(Debug)]
pub(crate) struct SegmentsHold<'a> {
    of: &'a LogSegments,
    segments: Vec<OpenSegment>,
}

impl SegmentsHold<'_> {
    /// Those that are held, from a place in the log on.
    pub(crate) fn segments_from(&self, start: LogStart) -> Vec<OpenSegment> {
        let needed = |one: &&OpenSegment| one.number >= start.segment_number;
        self.segments.iter().filter(needed).cloned().collect()
    }
}

impl Drop for SegmentsHold<'_> {
    fn drop(&mut self) {
        self.of.state.lock().hold_count -= 1;
    }
}

impl LogSegments {
    pub(crate) fn add(&self, segment: OpenSegment) {
        self.state.lock().segments.push(segment);
    }

    /// Keeps all that there are. What says from where on they are needed is to be asked afterwards: a flush that ended before may
    /// have removed some.
    pub(crate) fn hold(&self) -> SegmentsHold<'_> {
        let mut state = self.state.lock();
        state.hold_count += 1;
        SegmentsHold {
            of: self,
            segments: state.segments.clone(),
        }
    }

    /// Their files and sizes.
    pub(crate) fn list(&self) -> Result<Vec<LogSegment>> {
        let segments = self.state.lock().segments.clone();
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

    /// All deltas up to this commit sequence are durably below level 0.
    pub(crate) fn flushed_seq(&self) -> u64 {
        self.flushed_seq.load(Ordering::Acquire)
    }

    /// Takes it that all deltas up to a commit sequence are durably below level 0: the blocks from here on say so.
    pub(crate) fn note_flushed(&self, seq: u64) {
        self.flushed_seq.fetch_max(seq, Ordering::Release);
    }

    /// Where to read from to see all from a block on.
    pub(crate) fn start_of(&self, block_number: u64) -> Option<LogStart> {
        let state = self.state.lock();
        let behind = state
            .segments
            .partition_point(|one| one.first_block_number <= block_number);
        let segment = state.segments.get(behind.checked_sub(1)?)?;
        Some(LogStart {
            segment_number: segment.number,
            block_number: segment.first_block_number,
        })
    }

    /// Removes the files of the segments before one, unless they are held.
    pub(crate) fn remove_before(&self, io: &dyn Io, segment_number: u64) -> Result<()> {
        loop {
            let path = {
                let mut state = self.state.lock();
                match state.segments.first() {
                    Some(first) if first.number < segment_number && state.hold_count == 0 => {
                        state.segments.remove(0).path
                    }
                    _ => return Ok(()),
                }
            };
            io.remove(&path)
                .map_err(|source| Error::io("remove", &path, source))?;
        }
    }
}
