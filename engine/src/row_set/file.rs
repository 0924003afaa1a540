//! A delta file: its header, and the reading of its pages.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use arc_swap::ArcSwapOption;
use uuid::Uuid;

use crate::codec::{self, Malformed, Reader};
use crate::error::{Error, Result};
use crate::io::{Io, IoFile, OpenMode};
use crate::sync::Mutex;

use super::open_files::OpenFiles;
use super::page::{
    PAGE_HEADER_SIZE_BYTES, PAGE_SIZE_BYTES_MAX, PagePlace, PageScratch, PageSeed, decode_page,
};

/// The version of delta files, and of all that is in them. Version 1 had no patches.
pub(super) const DELTA_FILE_VERSION: u32 = 2;
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
///
/// Where a limit of open files is set, its file may be closed between two reads.
#[derive(Debug)]
pub struct DeltaFile {
    path: PathBuf,
    /// Read without a count or a lock that threads would share.
    file: ArcSwapOption<OpenFile>,
    /// Held by who opens it.
    opening: Mutex<()>,
    /// Whether it was read since somebody thought of closing it.
    is_used: AtomicBool,
    /// Who closes it, and what it is known by there.
    limit: OnceLock<(Arc<OpenFiles>, Weak<DeltaFile>)>,
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
            file: ArcSwapOption::from_pointee(OpenFile(file)),
            opening: Mutex::default(),
            is_used: AtomicBool::new(false),
            limit: OnceLock::new(),
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

    /// Has the file closed when too many are open. While somebody holds this it must not be removed.
    pub(crate) fn limit(self: &Arc<Self>, open_files: &Arc<OpenFiles>) {
        let me = Arc::downgrade(self);
        if self.limit.set((open_files.clone(), me.clone())).is_ok() {
            open_files.note(me);
        }
    }

    /// Keeps other processes from changing the file as long as this is held. It has no limit.
    ///
    /// # Errors
    /// [`Error::Io`] as the system answers.
    pub(crate) fn share(&self) -> Result<()> {
        self.with_file(|file| file.share())?
            .map_err(|source| Error::io("lock", &self.path, source))
    }

    /// Closes the file unless it was read since the last call; false if it was.
    pub(crate) fn close_if_unused(&self) -> bool {
        let is_unused = !self.is_used.swap(false, Ordering::Relaxed);
        if is_unused {
            self.file.store(None);
        }
        is_unused
    }

    /// What `use_file` makes of the file, which is opened if it was closed.
    fn with_file<T>(&self, use_file: impl FnOnce(&dyn IoFile) -> T) -> Result<T> {
        // Written only when it changes, so that threads that read the same file keep it in their caches.
        if !self.is_used.load(Ordering::Relaxed) {
            self.is_used.store(true, Ordering::Relaxed);
        }
        match &*self.file.load() {
            Some(file) => Ok(use_file(&*file.0)),
            None => Ok(use_file(&*self.reopen()?.0)),
        }
    }

    #[cold]
    fn reopen(&self) -> Result<Arc<OpenFile>> {
        let opening = self.opening.lock();
        if let Some(file) = self.file.load_full() {
            return Ok(file);
        }
        let Some((open_files, me)) = self.limit.get() else {
            return Err(Error::Usage(format!("{} was closed", self.path.display())));
        };
        let opened = open_files.io.open(&self.path, OpenMode::Read);
        let file = opened.map_err(|source| Error::io("open", &self.path, source))?;
        let file = Arc::new(OpenFile(file));
        self.file.store(Some(file.clone()));
        drop(opening);
        open_files.note(me.clone());
        Ok(file)
    }

    /// Its length.
    pub(crate) fn len_bytes(&self) -> Result<u64> {
        let len_bytes = self.with_file(|file| file.len_bytes())?;
        len_bytes.map_err(|source| Error::io("read", &self.path, source))
    }

    /// Fills the buffer from that offset.
    pub(crate) fn read(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.with_file(|file| file.read_exact_at(buffer, offset))?
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

#[derive(Debug)]
struct OpenFile(Arc<dyn IoFile>);

/// What a thread reads pages with.
#[derive(Default)]
struct Scratch {
    stored: Vec<u8>,
    page: PageScratch,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}
