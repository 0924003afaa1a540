//! Reading the log after a start, and telling what a crash tore from what is damaged.
//!
//! Every block says up to which block the log was durable when it was written. So bytes that don't verify are damage,
//! and an error, if they lie in a segment that another with a header follows, or if a later block says that this one was
//! durable. Otherwise they are the end of a write that a crash cut short and nobody was told of: they are dropped. So are
//! zeros at the very end, which the next blocks would have replaced.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::ops::Range;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::format::{
    BLOCK_HEADER_SIZE_BYTES, BLOCK_MAGIC, BlockHeader, RECORD_HEADER_SIZE_BYTES, RecordHeader,
    SEGMENT_HEADER_SIZE_BYTES, SEGMENT_VERSION, SegmentHeader,
};
use super::read_whole::read_whole;
use super::segment::{segment_number, segment_path};
use super::segments::OpenSegment;
use crate::codec::Malformed;
use crate::error::{Error, Result};
use crate::io::{Io, OpenMode};
use crate::layout::Layout;
use crate::log::segments::LogStart;

/// What the log was found to end with.
#[derive(Debug)]
pub(crate) struct LogEnd {
    pub(crate) last_segment_number: u64,
    pub(crate) last_block_number: u64,
    /// What was below level 0 when the last of its blocks was written.
    pub(crate) flushed_seq: u64,
    /// The newest segment and its length in bytes up to its last whole block; `None` if there is none to go on in.
    pub(crate) tail: Option<(OpenSegment, u64)>,
    tail_version: u32,
}

/// The log of a database, and how it is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogFolder<'a> {
    pub(crate) io: &'a dyn Io,
    pub(crate) folder: &'a Path,
    pub(crate) database_id: Uuid,
    pub(crate) layout: &'a Layout,
    /// Where the part begins that is needed; what lies before is removed, or about to be.
    pub(crate) start: LogStart,
    /// The deltas up to it are below level 0, as far as the edits go; blocks that say more are not taken.
    pub(crate) flushed_seq: u64,
}

/// Who takes what the log holds, in its order.
pub(crate) trait LogReplay {
    /// A segment's records follow.
    fn segment(&mut self, segment: &OpenSegment);
    /// A record that passed its checksum, and the number of its block. `Malformed` says that its body is not what its
    /// kind says.
    fn record(
        &mut self,
        block_number: u64,
        header: RecordHeader,
        body: &[u8],
    ) -> Result<(), Malformed>;
    /// All records of a block were taken.
    fn block_end(&mut self, block_number: u64);
}

/// Reads the segments of a folder. With `repair`, what a crash tore is cut off, so that writing can go on.
pub(crate) fn replay_log(
    log: &LogFolder<'_>,
    repair: bool,
    replay: &mut dyn LogReplay,
) -> Result<LogEnd> {
    let LogFolder {
        io,
        folder,
        database_id,
        layout,
        start,
        flushed_seq,
    } = *log;
    let segments = needed_segments(log, repair)?;
    let mut end = LogEnd {
        last_segment_number: start.segment_number.saturating_sub(1),
        last_block_number: start.block_number.saturating_sub(1),
        flushed_seq: 0,
        tail: None,
        tail_version: SEGMENT_VERSION,
    };
    let begun_count = begun_count(io, &segments)?;
    for (i, (number, path)) in segments.into_iter().enumerate() {
        let mut segment = SegmentBytes::read(io, &path, number, repair, layout)?;
        segment.open.first_block_number = end.last_block_number + 1;
        let last = i + 1 >= begun_count;
        if number != end.last_segment_number + 1 {
            let missing = end.last_segment_number + 1;
            return Err(segment.corrupt(0, &format!("segment {missing} before it is missing")));
        }
        let Some(version) = segment.version(database_id, last)? else {
            if repair {
                io.remove(&path)
                    .map_err(|source| Error::io("remove", &path, source))?;
            }
            break;
        };
        replay.segment(&segment.open);
        end.last_segment_number = number;
        let mut scan = SegmentScan {
            bytes: &segment.bytes,
            database_id,
            flushed_seq_max: flushed_seq,
            replay,
            unsure: VecDeque::new(),
        };
        let (valid_len, stop) = scan.run(&mut end);
        let unsure_from = scan.unsure_from(valid_len);
        if let Some(stop) = stop {
            segment.check_torn(database_id, last, valid_len, &stop, end.last_block_number)?;
            if repair {
                segment.note_dropped(valid_len);
            }
        } else if !last && valid_len < segment.bytes.len() {
            return Err(segment.corrupt(valid_len, "zeros in place of blocks"));
        }
        if repair {
            segment.repair(unsure_from.filter(|_| last), valid_len)?;
        }
        end.tail = Some((segment.open, valid_len as u64));
        end.tail_version = version;
    }
    if repair {
        harden(io, folder, &end)?;
    }
    if end.tail_version != SEGMENT_VERSION {
        // What is written from here on is of this version, and needs a segment that says so.
        end.tail = None;
    }
    Ok(end)
}

/// The segments from the first that is needed on, in order; with `repair`, those before are removed.
fn needed_segments(log: &LogFolder<'_>, repair: bool) -> Result<Vec<(u64, PathBuf)>> {
    let LogFolder {
        io, folder, start, ..
    } = *log;
    let files = io
        .list(folder)
        .map_err(|source| Error::io("list", folder, source))?;
    let mut segments: Vec<_> = files
        .into_iter()
        .filter_map(|path| Some((segment_number(&path)?, path)))
        .collect();
    segments.sort();
    let needed = segments.partition_point(|(number, _)| *number < start.segment_number);
    for (_, path) in segments.drain(..needed) {
        if repair {
            io.remove(&path)
                .map_err(|source| Error::io("remove", &path, source))?;
        }
    }
    if segments.is_empty() && start.segment_number > 1 {
        return Err(Error::Corrupt {
            path: segment_path(folder, start.segment_number),
            offset: 0,
            reason: "the segment is missing".into(),
        });
    }
    Ok(segments)
}

/// How many of the segments there would be, had a crash not left the newest without even a header. The one before it may
/// have gone on: there was no space for the header, and its removal was not durable yet.
fn begun_count(io: &dyn Io, segments: &[(u64, PathBuf)]) -> Result<usize> {
    let Some((_, path)) = segments.last() else {
        return Ok(0);
    };
    let unreadable = |source| Error::io("read", path, source);
    let file = io
        .open(path, OpenMode::Read)
        .map_err(|source| Error::io("open", path, source))?;
    let mut header = [0; SEGMENT_HEADER_SIZE_BYTES];
    let len_bytes = file.len_bytes().map_err(unreadable)?;
    let is_begun = match len_bytes.cmp(&(header.len() as u64)) {
        Ordering::Less => false,
        Ordering::Equal => {
            file.read_exact_at(&mut header, 0).map_err(unreadable)?;
            SegmentHeader::decode(&header).is_ok()
        }
        // Blocks were written behind the header.
        Ordering::Greater => true,
    };
    Ok(segments.len() - usize::from(!is_begun))
}

/// Makes durable what was read. A process that died between a write and its sync leaves blocks, or a whole segment, that
/// only the page cache holds; from here on they count as durable.
fn harden(io: &dyn Io, folder: &Path, end: &LogEnd) -> Result<()> {
    if let Some((segment, _)) = &end.tail {
        let synced = segment.file.sync_data();
        synced.map_err(|source| Error::io("sync", &segment.path, source))?;
    }
    io.sync_folder(folder)
        .map_err(|source| Error::io("sync", folder, source))
}

/// A segment file, read whole.
struct SegmentBytes {
    open: OpenSegment,
    number: u64,
    bytes: Vec<u8>,
}

impl SegmentBytes {
    fn read(io: &dyn Io, path: &Path, number: u64, repair: bool, layout: &Layout) -> Result<Self> {
        let mode = if repair {
            OpenMode::Write
        } else {
            OpenMode::Read
        };
        let file = io
            .open(path, mode)
            .map_err(|source| Error::io("open", path, source))?;
        let unreadable = |source| Error::io("read", path, source);
        let len = usize::try_from(file.len_bytes().map_err(unreadable)?)
            .map_err(|_| unreadable(std::io::ErrorKind::FileTooLarge.into()))?;
        let bytes = read_whole(&*file, len, layout).map_err(unreadable)?;
        let path = path.to_owned();
        Ok(SegmentBytes {
            open: OpenSegment {
                number,
                first_block_number: 0,
                path,
                file,
            },
            number,
            bytes,
        })
    }

    fn corrupt(&self, offset: usize, reason: &str) -> Error {
        Error::Corrupt {
            path: self.open.path.clone(),
            offset: offset as u64,
            reason: reason.to_owned(),
        }
    }

    /// Checks the header; returns the segment's version. `None` for a last segment that a crash left without a header:
    /// nothing was ever written to it.
    fn version(&self, database_id: Uuid, last: bool) -> Result<Option<u32>> {
        match SegmentHeader::decode(&self.bytes) {
            Ok(header)
                if (header.database_id, header.segment_number) == (database_id, self.number) =>
            {
                Ok(Some(header.version))
            }
            Ok(_) => Err(self.corrupt(0, "the segment belongs to another database or place")),
            Err(_) if last && later_blocks(&self.bytes, database_id).next().is_none() => Ok(None),
            Err(malformed) => Err(self.corrupt(0, malformed.0)),
        }
    }

    /// Logs that what lies behind `valid_len` goes.
    fn note_dropped(&self, valid_len: usize) {
        tracing::warn!(
            path = %self.open.path.display(),
            offset = valid_len,
            dropped_bytes = self.bytes.len() - valid_len,
            "dropped the end of the log, which a crash cut short"
        );
    }

    /// Writes what is not known to be durable, and cuts off what is not whole.
    fn repair(&self, unsure_from: Option<usize>, valid_len: usize) -> Result<()> {
        if let Some(from) = unsure_from {
            self.write_again(from..valid_len)?;
        }
        if unsure_from.is_some() || valid_len < self.bytes.len() {
            cut(&self.open, valid_len)?;
        }
        Ok(())
    }

    /// Writes bytes as they were read. If a sync failed, what it was to make durable may be in the page cache alone and count
    /// as written there, so that no later sync writes it.
    fn write_again(&self, range: Range<usize>) -> Result<()> {
        let bytes = self.bytes.get(range.clone()).unwrap_or_default();
        let written = self.open.file.write_all_at(bytes, range.start as u64);
        written.map_err(|source| Error::io("write", &self.open.path, source))
    }

    /// Checks that what does not verify behind `valid_len` is the end of an unfinished write.
    fn check_torn(
        &self,
        database_id: Uuid,
        last: bool,
        valid_len: usize,
        stop: &Stop,
        last_block_number: u64,
    ) -> Result<()> {
        let malformed = match stop {
            Stop::Unreadable(malformed) => return Err(self.corrupt(valid_len, malformed.0)),
            Stop::Unverified(malformed) => malformed,
        };
        // The first of them may be whole, and tell of blocks before it that are missing.
        let tail = self.bytes.get(valid_len..).unwrap_or_default();
        // Any of them: a row may hold bytes of this very log, whose blocks verify and are older.
        let was_durable = later_blocks(tail, database_id)
            .any(|block| block.durable_block_number > last_block_number);
        if !last || was_durable {
            return Err(self.corrupt(valid_len, malformed.0));
        }
        Ok(())
    }
}

/// Cuts off what is no block: what a crash left of an unfinished write, and zeros. A reader beside a live writer sees such
/// an end too, and leaves it. Where all is cut off already, that may be in the page cache alone, after a sync that failed.
/// Durable when the log is hardened.
fn cut(segment: &OpenSegment, valid_len: usize) -> Result<()> {
    let cut = segment.file.set_len(valid_len as u64);
    cut.map_err(|source| Error::io("cut", &segment.path, source))
}

/// Why a scan ended before the end of its segment.
enum Stop {
    /// A checksum does not fit: torn or damaged.
    Unverified(Malformed),
    /// The checksums fit and the content does not decode: damaged, or written by a faulty build.
    Unreadable(Malformed),
}

struct SegmentScan<'a> {
    bytes: &'a [u8],
    database_id: Uuid,
    flushed_seq_max: u64,
    replay: &'a mut dyn LogReplay,
    /// Blocks that no block behind them calls durable: number and offset.
    unsure: VecDeque<(u64, usize)>,
}

impl SegmentScan<'_> {
    /// From where on the segment is not known to be durable, if anything of it is not. Its header is not before a block is.
    fn unsure_from(&self, valid_len: usize) -> Option<usize> {
        let unsure = self.unsure.front().map(|(_, offset)| *offset);
        if valid_len == SEGMENT_HEADER_SIZE_BYTES || unsure == Some(SEGMENT_HEADER_SIZE_BYTES) {
            return Some(0);
        }
        unsure
    }

    /// Replays whole blocks, up to the end or to where only zeros are left; returns the length up to which the segment is
    /// valid.
    fn run(&mut self, end: &mut LogEnd) -> (usize, Option<Stop>) {
        let mut valid_len = SEGMENT_HEADER_SIZE_BYTES;
        while let rest = self.bytes.get(valid_len..).unwrap_or_default()
            && rest.iter().any(|byte| *byte != 0)
        {
            match self.block(valid_len, end) {
                Ok(block_len) => valid_len += block_len,
                Err(stop) => return (valid_len, Some(stop)),
            }
        }
        (valid_len, None)
    }

    /// Replays the block behind those up to an end, which it becomes; returns its length.
    fn block(&mut self, offset: usize, end: &mut LogEnd) -> Result<usize, Stop> {
        let block_number = end.last_block_number + 1;
        let rest = self.bytes.get(offset..).unwrap_or_default();
        let header = BlockHeader::decode(rest, self.database_id).map_err(Stop::Unverified)?;
        if header.block_number != block_number {
            return Err(Stop::Unverified(Malformed(
                "a block is missing before this one",
            )));
        }
        let body_len = usize::try_from(header.body_size_bytes).unwrap_or(usize::MAX);
        let body = rest
            .get(BLOCK_HEADER_SIZE_BYTES..)
            .and_then(|body| body.get(..body_len));
        let body = body.ok_or(Stop::Unverified(Malformed("block ends early")))?;
        // All of a block verifies before any of it is replayed.
        let records = self
            .records(body, header.record_count)
            .map_err(Stop::Unverified)?;
        if header.flushed_seq > self.flushed_seq_max {
            let reason =
                "the log of edits ends before what was flushed when this block was written";
            return Err(Stop::Unreadable(Malformed(reason)));
        }
        for (header, record_body) in records {
            self.replay
                .record(block_number, header, record_body)
                .map_err(Stop::Unreadable)?;
        }
        self.replay.block_end(block_number);
        end.last_block_number = block_number;
        end.flushed_seq = end.flushed_seq.max(header.flushed_seq);
        self.unsure.push_back((block_number, offset));
        let is_durable = |(number, _): &mut (u64, usize)| *number <= header.durable_block_number;
        while self.unsure.pop_front_if(is_durable).is_some() {}
        Ok(BLOCK_HEADER_SIZE_BYTES + body_len)
    }

    fn records<'b>(
        &self,
        body: &'b [u8],
        record_count: u32,
    ) -> Result<Vec<(RecordHeader, &'b [u8])>, Malformed> {
        let mut records = Vec::new();
        let mut offset = 0;
        while offset < body.len() {
            let rest = body.get(offset..).unwrap_or_default();
            let header = RecordHeader::decode(rest)?;
            let record_len = RECORD_HEADER_SIZE_BYTES + header.body_size_bytes as usize;
            let record_body = rest
                .get(RECORD_HEADER_SIZE_BYTES..record_len)
                .ok_or(Malformed("record ends early"))?;
            header.verify(record_body, self.database_id)?;
            records.push((header, record_body));
            offset += record_len;
        }
        if records.len() != record_count as usize {
            return Err(Malformed("another number of records than the block says"));
        }
        Ok(records)
    }
}

/// The blocks whose header verifies in bytes that may start anywhere, the last first.
fn later_blocks(bytes: &[u8], database_id: Uuid) -> impl Iterator<Item = BlockHeader> + '_ {
    let starts = bytes
        .windows(BLOCK_MAGIC.len())
        .enumerate()
        .filter(|(_, window)| window == BLOCK_MAGIC);
    starts
        .rev()
        .filter_map(move |(offset, _)| BlockHeader::decode(bytes.get(offset..)?, database_id).ok())
}
