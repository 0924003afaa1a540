//! Writing: the newest segment of the log, and the next one when it is full.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use super::format::{
    BLOCK_HEADER_SIZE_BYTES, BlockHeader, RECORD_HEADER_SIZE_BYTES, RecordHeader,
    SEGMENT_HEADER_SIZE_BYTES, SEGMENT_VERSION, SegmentHeader,
};
use super::segments::{LogSegments, OpenSegment};
use crate::codec::len_u32;
use crate::error::{Error, Result};
use crate::io::{FileMap, Io, IoFile, OpenMode};

/// A segment that holds no more than this goes on when a generation ends: a new one costs three syncs.
const ROLL_SIZE_BYTES_MIN: u64 = 256 << 10;

/// A small block that would make the file longer is followed by zeros, as many as the segment holds bytes within these
/// limits. The next blocks replace them. A sync that finds neither a new length nor a new extent need not wait for the file
/// system's journal; and a block that is not synced is copied to where the zeros are mapped as memory, at a third of what
/// a call of the system costs.
const RESERVE_SIZE_BYTES_MIN: u64 = 64 << 10;
const RESERVE_SIZE_BYTES_MAX: u64 = 1 << 20;
/// The largest block that is small, if it is synced and if it is not: larger ones cost so much themselves that zeros would
/// double it.
const SYNCED_BLOCK_SIZE_BYTES_MAX: u64 = 64 << 10;
const COPIED_BLOCK_SIZE_BYTES_MAX: u64 = 4 << 10;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// The path of a segment.
pub(crate) fn segment_path(folder: &Path, segment_number: u64) -> PathBuf {
    folder.join(format!("log-{segment_number:08}.mlog"))
}

/// The number in a segment's file name; `None` for any other file.
pub(crate) fn segment_number(path: &Path) -> Option<u64> {
    path.file_name()?
        .to_str()?
        .strip_prefix("log-")?
        .strip_suffix(".mlog")?
        .parse()
        .ok()
}

/// Appends blocks to the log, one write each, and makes them durable.
#[derive(Debug)]
pub(crate) struct SegmentWriter {
    io: Arc<dyn Io>,
    folder: PathBuf,
    database_id: Uuid,
    segment_size_bytes_max: u64,
    current: Option<CurrentSegment>,
    next_segment_number: u64,
    next_block_number: u64,
    /// All blocks up to it are durable.
    durable_block_number: u64,
    /// Working memory for the headers of a block.
    headers: Vec<u8>,
}

/// The newest segment, with blocks up to one that are not durable yet.
#[derive(Debug)]
pub(crate) struct Unsynced {
    file: Arc<dyn IoFile>,
    path: PathBuf,
    pub(crate) block_number: u64,
}

impl Unsynced {
    pub(crate) fn sync(&self) -> Result<()> {
        let synced = self.file.sync_data();
        synced.map_err(|source| Error::io("sync", &self.path, source))
    }
}

#[derive(Debug)]
struct CurrentSegment {
    file: Arc<dyn IoFile>,
    path: PathBuf,
    /// Its length up to the last whole block.
    len_bytes: u64,
    /// The file's length: from the last block on it holds zeros.
    file_len_bytes: u64,
    /// A part of a failed write was cut off, which the device need not have heard of.
    was_cut: bool,
    /// Zeros as memory.
    map: Map,
}

/// Whether zeros of a segment are mapped.
#[derive(Debug)]
enum Map {
    None,
    /// Up to that place in the file, from before the last whole block's end.
    UpTo(u64, Box<dyn FileMap>),
    /// They can't be.
    Never,
}

impl SegmentWriter {
    /// A writer that goes on after segments and blocks up to those numbers, in a segment of its own.
    pub(crate) fn new(
        io: Arc<dyn Io>,
        folder: &Path,
        database_id: Uuid,
        segment_size_bytes_max: u64,
        last_segment_number: u64,
        last_block_number: u64,
    ) -> Self {
        SegmentWriter {
            io,
            folder: folder.to_owned(),
            database_id,
            segment_size_bytes_max,
            current: None,
            next_segment_number: last_segment_number + 1,
            next_block_number: last_block_number + 1,
            durable_block_number: last_block_number,
            headers: Vec::new(),
        }
    }

    /// The newest block's number.
    pub(crate) fn last_block_number(&self) -> u64 {
        self.next_block_number - 1
    }

    /// The segment that is written, and its length up to the last whole block; `None` before there is one.
    pub(crate) fn end(&self) -> Option<(PathBuf, u64)> {
        let current = self.current.as_ref()?;
        Some((current.path.clone(), current.len_bytes))
    }

    /// Goes on in an existing segment of that length.
    pub(crate) fn resume(&mut self, segment: OpenSegment, len_bytes: u64) {
        self.current = Some(CurrentSegment {
            file: segment.file,
            path: segment.path,
            len_bytes,
            file_len_bytes: len_bytes,
            was_cut: false,
            map: Map::None,
        });
    }

    /// Writes a block of records, each a header and a body; returns its number. It is durable after [`sync`](Self::sync);
    /// `is_synced` says that this comes next.
    ///
    /// # Errors
    /// [`Error::NoSpace`]: nothing of the block is in the log or ever will be, and this may be called again. After any other
    /// error, what the log holds is open until the next start.
    pub(crate) fn append<'r>(
        &mut self,
        records: impl Iterator<Item = (RecordHeader, &'r [u8])> + Clone,
        is_synced: bool,
        segments: &LogSegments,
    ) -> Result<u64> {
        let record_bytes = |(_, body): (_, &[u8])| RECORD_HEADER_SIZE_BYTES + body.len();
        let body_len: usize = records.clone().map(record_bytes).sum();
        let size_bytes = (BLOCK_HEADER_SIZE_BYTES + body_len) as u64;
        let full = |segment: &CurrentSegment| {
            segment.len_bytes > SEGMENT_HEADER_SIZE_BYTES as u64
                && segment.len_bytes + size_bytes > self.segment_size_bytes_max
        };
        if self.current.as_ref().is_none_or(full) {
            self.start_segment(segments)?;
        }
        let header = BlockHeader {
            block_number: self.next_block_number,
            durable_block_number: self.durable_block_number,
            flushed_seq: segments.flushed_seq(),
            body_size_bytes: body_len as u64,
            record_count: len_u32(records.clone().count()),
        };
        self.headers.clear();
        header.encode(self.database_id, &mut self.headers);
        for (header, _) in records.clone() {
            header.encode(&mut self.headers);
        }
        let (block_header, headers) = self.headers.split_at(BLOCK_HEADER_SIZE_BYTES);
        let headers = headers.chunks(RECORD_HEADER_SIZE_BYTES);
        let records = headers
            .zip(records)
            .flat_map(|(header, (_, body))| [header, body]);
        let parts: Vec<&[u8]> = std::iter::once(block_header).chain(records).collect();
        let Some(current) = &mut self.current else {
            return Err(Error::Usage("the log has no segment to write to".into()));
        };
        let end = current.len_bytes + size_bytes;
        let grows = end > current.file_len_bytes;
        let is_copied = !is_synced && size_bytes <= COPIED_BLOCK_SIZE_BYTES_MAX;
        current.write(&parts, is_copied)?;
        current.len_bytes = end;
        self.next_block_number += 1;
        let is_small = if is_synced {
            size_bytes <= SYNCED_BLOCK_SIZE_BYTES_MAX
        } else {
            is_copied && !matches!(current.map, Map::Never)
        };
        // An empty block is the last before a pause: what comes next makes its own room.
        if grows && is_small && parts.len() > 1 {
            let room = self.segment_size_bytes_max.saturating_sub(end);
            current.reserve(room)?;
        }
        Ok(header.block_number)
    }

    /// Makes all blocks durable.
    pub(crate) fn sync(&mut self) -> Result<()> {
        if self.durable_block_number + 1 < self.next_block_number
            && let Some(current) = &self.current
        {
            let synced = current.file.sync_data();
            synced.map_err(|source| Error::io("sync", &current.path, source))?;
            self.durable_block_number = self.next_block_number - 1;
        }
        Ok(())
    }

    /// What is to be synced for all blocks to be durable, for who does it while writing goes on; `None` if all are.
    pub(crate) fn unsynced(&self) -> Result<Option<Unsynced>> {
        match &self.current {
            Some(current) if self.durable_block_number < self.last_block_number() => {
                // Opened anew: the system tells of a failed write once for each time a file was opened, and who writes
                // must hear of it too.
                let file = self.io.open(&current.path, OpenMode::Write);
                Ok(Some(Unsynced {
                    file: file.map_err(|source| Error::io("open", &current.path, source))?,
                    path: current.path.clone(),
                    block_number: self.last_block_number(),
                }))
            }
            _ => Ok(None),
        }
    }

    /// Takes it that all blocks up to one are durable.
    pub(crate) fn note_synced(&mut self, block_number: u64) {
        self.durable_block_number = self.durable_block_number.max(block_number);
    }

    /// Writes an empty block, which says that all before it was durable, so that later damage to the last rows is not
    /// taken for a torn write; leaves no zeros behind it.
    pub(crate) fn seal(&mut self, segments: &LogSegments) -> Result<()> {
        self.sync()?;
        match &self.current {
            Some(segment) if segment.len_bytes > SEGMENT_HEADER_SIZE_BYTES as u64 => {
                self.append(std::iter::empty(), false, segments)?;
                self.cut_zeros()?;
                self.sync()
            }
            _ => Ok(()),
        }
    }

    /// Begins a segment if the newest one holds enough to be worth it, so that what was written up to now can go without
    /// what comes.
    pub(crate) fn roll(&mut self, segments: &LogSegments) -> Result<()> {
        let size_bytes_min = ROLL_SIZE_BYTES_MIN.min(self.segment_size_bytes_max / 4);
        match &self.current {
            Some(segment) if segment.len_bytes > size_bytes_min => self.start_segment(segments),
            _ => Ok(()),
        }
    }

    /// Takes the zeros away that no block has replaced, and what a failed write left, durably, and makes all blocks durable
    /// with it.
    fn cut_zeros(&mut self) -> Result<()> {
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        if current.file_len_bytes > current.len_bytes || current.was_cut {
            current.map = Map::None;
            let (file, path) = (&current.file, &current.path);
            file.set_len(current.len_bytes)
                .map_err(|source| Error::io("cut", path, source))?;
            // An operation of its own: a sync that fails is never taken for a full disk.
            file.sync_data()
                .map_err(|source| Error::io("sync", path, source))?;
            current.file_len_bytes = current.len_bytes;
            current.was_cut = false;
            self.durable_block_number = self.next_block_number - 1;
        }
        Ok(())
    }

    fn start_segment(&mut self, segments: &LogSegments) -> Result<()> {
        // Only the last segment may end in blocks that a crash takes, or in zeros.
        self.cut_zeros()?;
        self.sync()?;
        let path = segment_path(&self.folder, self.next_segment_number);
        let file = self
            .io
            .open(&path, OpenMode::CreateNew)
            .map_err(|source| Error::io("create", &path, source))?;
        let header = SegmentHeader {
            version: SEGMENT_VERSION,
            database_id: self.database_id,
            segment_number: self.next_segment_number,
        };
        file.write_all_at(&header.encode(), 0).map_err(|source| {
            let error = Error::io("write", &path, source);
            // Durably: the segment before goes on, and zeros are at the end of the last one only.
            error.undone(|| {
                self.io.remove(&path)?;
                self.io.sync_folder(&self.folder)
            })
        })?;
        file.sync_data()
            .map_err(|source| Error::io("sync", &path, source))?;
        self.io
            .sync_folder(&self.folder)
            .map_err(|source| Error::io("sync", &self.folder, source))?;
        segments.add(OpenSegment {
            number: self.next_segment_number,
            first_block_number: self.next_block_number,
            path: path.clone(),
            file: file.clone(),
        });
        self.next_segment_number += 1;
        self.current = Some(CurrentSegment {
            file,
            path,
            len_bytes: SEGMENT_HEADER_SIZE_BYTES as u64,
            file_len_bytes: SEGMENT_HEADER_SIZE_BYTES as u64,
            was_cut: false,
            map: Map::None,
        });
        Ok(())
    }
}

impl CurrentSegment {
    /// Writes zeros behind the last whole block, at most so many. In a write of their own: a block that failed for want of
    /// space for its zeros would be whole on the disk, and might come back.
    fn reserve(&mut self, room_bytes: u64) -> Result<()> {
        let zeros = self
            .len_bytes
            .clamp(RESERVE_SIZE_BYTES_MIN, RESERVE_SIZE_BYTES_MAX);
        let parts: Vec<_> = zero_parts(zeros.min(room_bytes)).collect();
        if parts.is_empty() {
            return Ok(());
        }
        match self.write(&parts, false) {
            // The block has its space.
            Err(Error::NoSpace { .. }) => Ok(()),
            written => written,
        }
    }

    /// Writes behind the last whole block; by copying, if that is asked for and zeros are there to be replaced.
    fn write(&mut self, parts: &[&[u8]], is_copied: bool) -> Result<()> {
        let offset = self.len_bytes;
        let size_bytes: usize = parts.iter().map(|part| part.len()).sum();
        let end = offset + size_bytes as u64;
        let map = if is_copied { self.map_to(end) } else { None };
        let written = match map {
            Some(map) => map.write_all_parts_at(parts, offset),
            None => self.file.write_all_parts_at(parts, offset),
        };
        if let Err(source) = written {
            let error = Error::io("write", &self.path, source);
            self.map = Map::None;
            self.file_len_bytes = offset;
            self.was_cut = true;
            return Err(error.undone(|| self.file.set_len(offset)));
        }
        self.file_len_bytes = self.file_len_bytes.max(end);
        Ok(())
    }

    /// The zeros behind the last whole block as memory, if they go as far as that and the system can.
    fn map_to(&mut self, end: u64) -> Option<&mut dyn FileMap> {
        let is_mapped = match &self.map {
            Map::UpTo(mapped_end, _) => end <= *mapped_end,
            Map::None => false,
            Map::Never => return None,
        };
        if !is_mapped {
            let zeros = self.file_len_bytes.checked_sub(self.len_bytes);
            let zeros = usize::try_from(zeros.filter(|_| end <= self.file_len_bytes)?).ok()?;
            // Writing goes on by calls of the system.
            self.map = match self.file.map(self.len_bytes, zeros) {
                Ok(Some(map)) => Map::UpTo(self.file_len_bytes, map),
                Ok(None) | Err(_) => Map::Never,
            };
        }
        match &mut self.map {
            Map::UpTo(_, map) => Some(map.as_mut()),
            Map::None | Map::Never => None,
        }
    }
}

/// That many zeros, in parts.
fn zero_parts<'a>(size_bytes: u64) -> impl Iterator<Item = &'a [u8]> {
    let part_size_bytes = ZEROS.len() as u64;
    let part = move |i| {
        let left = usize::try_from(size_bytes - i * part_size_bytes).unwrap_or(usize::MAX);
        ZEROS.get(..left).unwrap_or(&ZEROS)
    };
    (0..size_bytes.div_ceil(part_size_bytes)).map(part)
}
