//! The bodies of delta records: in memory while warm, else read back from the log.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::io::IoFile;
use crate::log::format::{RECORD_HEADER_SIZE_BYTES, RecordHeader};

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordEntry {
    pub(crate) segment: u32,
    pub(crate) offset: u64,
    pub(crate) body_size_bytes: u32,
}

/// A segment file that is open to read.
#[derive(Clone, Debug)]
pub(crate) struct OpenSegment {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn IoFile>,
}

/// A segment of the log, as it lies on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSegment {
    /// Its file.
    pub path: PathBuf,
    /// Its length.
    pub size_bytes: u64,
}

/// All delta records of a database, numbered in log order.
#[derive(Debug)]
pub(crate) struct RecordStore {
    database_id: Uuid,
    image_budget_bytes: u64,
    segments: RwLock<Vec<OpenSegment>>,
    records: RwLock<Records>,
}

#[derive(Debug, Default)]
struct Records {
    records: Vec<Record>,
    image_bytes: u64,
    /// The next record that eviction looks at: a clock (Corbató 1968) over all of them.
    hand: usize,
}

#[derive(Debug)]
struct Record {
    entry: RecordEntry,
    image: Option<Arc<[u8]>>,
    used: AtomicBool,
}

impl RecordStore {
    pub(crate) fn new(database_id: Uuid, image_budget_bytes: u64) -> Self {
        RecordStore {
            database_id,
            image_budget_bytes,
            segments: RwLock::default(),
            records: RwLock::default(),
        }
    }

    /// Adds a segment; returns the number that entries name it by.
    pub(crate) fn add_segment(&self, segment: OpenSegment) -> u32 {
        let mut segments = self.segments.write();
        segments.push(segment);
        crate::codec::len_u32(segments.len() - 1)
    }

    /// All segments, in log order.
    pub(crate) fn log_segments(&self) -> Result<Vec<LogSegment>> {
        let segments = self.segments.read();
        let size = |segment: &OpenSegment| {
            let size_bytes = segment.file.len_bytes();
            Ok(LogSegment {
                path: segment.path.clone(),
                size_bytes: size_bytes
                    .map_err(|source| Error::io("read", &segment.path, source))?,
            })
        };
        segments.iter().map(size).collect()
    }

    /// Adds a record; returns its number.
    pub(crate) fn add(&self, entry: RecordEntry, image: Arc<[u8]>) -> u32 {
        let mut records = self.records.write();
        let number = crate::codec::len_u32(records.records.len());
        records.records.push(Record {
            entry,
            image: None,
            used: AtomicBool::new(true),
        });
        self.keep(&mut records, number, image);
        number
    }

    /// A record's body.
    pub(crate) fn body(&self, number: u32) -> Result<Arc<[u8]>> {
        let entry = {
            let records = self.records.read();
            let record = records
                .records
                .get(number as usize)
                .ok_or_else(|| unknown_record(number))?;
            if let Some(image) = &record.image {
                record.used.store(true, Ordering::Relaxed);
                return Ok(image.clone());
            }
            record.entry
        };
        let image = self.read(entry)?;
        self.keep(&mut self.records.write(), number, image.clone());
        Ok(image)
    }

    fn read(&self, entry: RecordEntry) -> Result<Arc<[u8]>> {
        let segment = self.segments.read().get(entry.segment as usize).cloned();
        let segment = segment
            .ok_or_else(|| Error::Usage(format!("segment {} is not open", entry.segment)))?;
        let mut bytes = vec![0; RECORD_HEADER_SIZE_BYTES + entry.body_size_bytes as usize];
        segment
            .file
            .read_exact_at(&mut bytes, entry.offset)
            .map_err(|source| Error::io("read", &segment.path, source))?;
        let (header, body) = bytes.split_at(RECORD_HEADER_SIZE_BYTES);
        RecordHeader::decode(header)
            .and_then(|header| header.verify(body, self.database_id))
            .map_err(|malformed| self.corrupt(entry, malformed.0))?;
        Ok(body.into())
    }

    fn keep(&self, records: &mut Records, number: u32, image: Arc<[u8]>) {
        let Some(record) = records.records.get_mut(number as usize) else {
            return;
        };
        if record.image.is_some() || image.len() as u64 > self.image_budget_bytes {
            return;
        }
        records.image_bytes += image.len() as u64;
        record.used.store(true, Ordering::Relaxed);
        record.image = Some(image);
        while records.image_bytes > self.image_budget_bytes {
            records.evict_next();
        }
    }

    /// The error for what does not decode in a record that passed its checksum.
    pub(crate) fn corrupt_record(&self, number: u32, reason: &str) -> Error {
        let entry = self
            .records
            .read()
            .records
            .get(number as usize)
            .map(|record| record.entry);
        entry.map_or_else(
            || unknown_record(number),
            |entry| self.corrupt(entry, reason),
        )
    }

    fn corrupt(&self, entry: RecordEntry, reason: &str) -> Error {
        let path = self
            .segments
            .read()
            .get(entry.segment as usize)
            .map(|segment| segment.path.clone());
        Error::Corrupt {
            path: path.unwrap_or_default(),
            offset: entry.offset,
            reason: reason.to_owned(),
        }
    }
}

fn unknown_record(number: u32) -> Error {
    Error::Usage(format!("record {number} does not exist"))
}

impl Records {
    fn evict_next(&mut self) {
        if self.hand >= self.records.len() {
            self.hand = 0;
        }
        if let Some(record) = self.records.get_mut(self.hand)
            && let Some(image) = &record.image
            && !record.used.swap(false, Ordering::Relaxed)
        {
            self.image_bytes -= image.len() as u64;
            record.image = None;
        }
        self.hand += 1;
    }
}
