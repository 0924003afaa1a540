//! A delta file: its header, and the reading of its pages.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use crate::codec::{self, Malformed, Reader};
use crate::error::{Error, Result};
use crate::io::{Io, IoFile, OpenMode};

use super::page::{
    PAGE_HEADER_SIZE_BYTES, PAGE_SIZE_BYTES_MAX, PagePlace, PageScratch, PageSeed, decode_page,
};

/// The version of delta files, and of all that is in them. Version 1 had no patches.
const DELTA_FILE_VERSION: u32 = 2;
const DELTA_FILE_VERSION_MIN: u32 = 1;
pub(crate) const FILE_HEADER_SIZE_BYTES: usize = 48;
const MAGIC: &[u8; 8] = b"MOONDLT\n";

/// The most that a thread keeps of the memory it read a page with.
const SCRATCH_SIZE_BYTES_MAX: usize = 1 << 20;

/// The path of a delta file.
pub fn delta_file_path(folder: &Path, file_number: u64) -> PathBuf {
    folder.join(format!("delta-{file_number:08}.mdelta"))
}

/// The first bytes of a delta file.
pub(crate) fn encode_file_header(database_id: Uuid, file_number: u64) -> Vec<u8> {
    codec::encode_file_header(MAGIC, DELTA_FILE_VERSION, database_id, file_number)
}

fn check_file_header(bytes: &[u8], database_id: Uuid, file_number: u64) -> Result<(), Malformed> {
    let mut reader = Reader::new(bytes);
    if &reader.array::<8>()? != MAGIC {
        return Err(Malformed("not a delta file"));
    }
    let version = reader.u32()?;
    if !(DELTA_FILE_VERSION_MIN..=DELTA_FILE_VERSION).contains(&version) {
        return Err(Malformed("a format version that this build does not read"));
    }
    if bytes != codec::encode_file_header(MAGIC, version, database_id, file_number) {
        return Err(Malformed(
            "the header is damaged, or the file is another one's",
        ));
    }
    Ok(())
}

/// A delta file that is open to read.
#[derive(Debug)]
pub struct DeltaFile {
    path: PathBuf,
    file: Arc<dyn IoFile>,
    file_number: u64,
    seed: PageSeed,
}

impl DeltaFile {
    /// Opens a file and checks that it is the one of that database and number.
    ///
    /// # Errors
    /// [`Error::Io`] as the system answers, [`Error::Corrupt`] for another file's header.
    pub fn open(
        io: &dyn Io,
        path: &Path,
        database_id: Uuid,
        file_number: u64,
    ) -> Result<Arc<Self>> {
        let file = io
            .open(path, OpenMode::Read)
            .map_err(|source| Error::io("open", path, source))?;
        let opened = Self::new(path, file, database_id, file_number);
        let mut header = [0; FILE_HEADER_SIZE_BYTES];
        opened.read(&mut header, 0)?;
        check_file_header(&header, database_id, file_number)
            .map_err(|malformed| opened.corrupt(0, malformed.0))?;
        Ok(opened)
    }

    /// A file that this process wrote.
    pub(crate) fn new(
        path: &Path,
        file: Arc<dyn IoFile>,
        database_id: Uuid,
        file_number: u64,
    ) -> Arc<Self> {
        Arc::new(DeltaFile {
            path: path.to_owned(),
            file,
            file_number,
            seed: PageSeed::new(database_id, file_number),
        })
    }

    /// Its number in the database.
    pub fn file_number(&self) -> u64 {
        self.file_number
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fills the buffer from that offset.
    pub(crate) fn read(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.file
            .read_exact_at(buffer, offset)
            .map_err(|source| match source.kind() {
                std::io::ErrorKind::UnexpectedEof => self.corrupt(offset, "the file ends early"),
                _ => Error::io("read", &self.path, source),
            })
    }

    /// Reads and checks the page of that stored length; `take` gets its content.
    pub(crate) fn read_page<T>(
        &self,
        place: PagePlace,
        stored_size_bytes: u64,
        take: impl FnOnce(&[u8]) -> Result<T, Malformed>,
    ) -> Result<T> {
        let size_bytes = self.check_size(place.offset, stored_size_bytes)?;
        let mut scratch = SCRATCH.take();
        let Scratch { stored, page } = &mut scratch;
        if stored.len() < size_bytes {
            stored.resize(size_bytes, 0);
        }
        let stored = stored.get_mut(..size_bytes).unwrap_or_default();
        let taken = self
            .read(stored, place.offset)
            .and_then(|()| self.decode(place, stored, page, take));
        if scratch.stored.capacity().max(scratch.page.size_bytes()) <= SCRATCH_SIZE_BYTES_MAX {
            SCRATCH.set(scratch);
        }
        taken
    }

    /// Checks a page that was read already; `take` gets its content.
    pub(crate) fn decode<T>(
        &self,
        place: PagePlace,
        stored: &[u8],
        scratch: &mut PageScratch,
        take: impl FnOnce(&[u8]) -> Result<T, Malformed>,
    ) -> Result<T> {
        decode_page(stored, place, self.seed, scratch)
            .and_then(take)
            .map_err(|malformed| self.corrupt(place.offset, malformed.0))
    }

    /// A stored length that a page can have, as a length in memory.
    pub(crate) fn check_size(&self, offset: u64, stored_size_bytes: u64) -> Result<usize> {
        usize::try_from(stored_size_bytes)
            .ok()
            .filter(|size| *size <= PAGE_HEADER_SIZE_BYTES + PAGE_SIZE_BYTES_MAX)
            .ok_or_else(|| self.corrupt(offset, "page too large"))
    }

    /// The error for damage at that offset.
    pub(crate) fn corrupt(&self, offset: u64, reason: &str) -> Error {
        Error::Corrupt {
            path: self.path.clone(),
            offset,
            reason: reason.to_owned(),
        }
    }
}

/// What a thread reads pages with.
#[derive(Default)]
struct Scratch {
    stored: Vec<u8>,
    page: PageScratch,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}
