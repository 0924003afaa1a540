//! Keys of an export's files on disk while the files are written: those of a large export would take more memory than there is.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::keys::KEYS_SIZE_BYTES_MAX;
use crate::error::{Error, Result};
use crate::io::{Io, IoFile, OpenMode};
use crate::shared::Shared;
use crate::sync::Mutex;
use crate::table::Table;

/// The part of the memory budget that the keys of one file may take until they go to disk; many files may be open. The least is
/// for budgets that only tests have.
const FILE_KEYS_SHARE: u64 = 1024;
const FILE_KEYS_SIZE_BYTES_MIN: usize = 64;

/// Takes keys of one export. Its file has no name, so it is gone with this, also after a crash.
#[derive(Debug)]
pub(super) struct KeySpill {
    io: Arc<dyn Io>,
    path: PathBuf,
    /// How many bytes of keys are worth to be written.
    pub(super) piece_size_bytes: usize,
    /// The file and its length, once something was written.
    state: Mutex<Option<(Arc<dyn IoFile>, u64)>>,
}

/// Bytes that were written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    offset: u64,
    size_bytes: usize,
    hash: u64,
}

impl KeySpill {
    pub(super) fn new(shared: &Shared, table: &Table) -> Arc<Self> {
        let budget = shared.store.cache.budget();
        let piece_size_bytes = budget.share(
            FILE_KEYS_SHARE,
            FILE_KEYS_SIZE_BYTES_MIN,
            KEYS_SIZE_BYTES_MAX,
        );
        Arc::new(KeySpill {
            io: shared.io.clone(),
            path: shared
                .store
                .folder
                .join(format!("export-keys-{}", table.id())),
            piece_size_bytes,
            state: Mutex::default(),
        })
    }

    pub(super) fn write(&self, bytes: &[u8]) -> Result<Piece> {
        let mut state = self.state.lock();
        let (file, len_bytes) = match &mut *state {
            Some(begun) => begun,
            none => none.insert((self.create()?, 0)),
        };
        let piece = Piece {
            offset: *len_bytes,
            size_bytes: bytes.len(),
            hash: xxh3_64(bytes),
        };
        let written = file.write_all_at(bytes, *len_bytes);
        written.map_err(|source| Error::io("write", &self.path, source))?;
        *len_bytes += bytes.len() as u64;
        Ok(piece)
    }

    pub(super) fn read(&self, piece: Piece) -> Result<Vec<u8>> {
        let file = self.state.lock().as_ref().map(|(file, _)| file.clone());
        let mut bytes = vec![0; piece.size_bytes];
        let read = match file {
            Some(file) => file.read_exact_at(&mut bytes, piece.offset),
            None => Err(ErrorKind::NotFound.into()),
        };
        read.map_err(|source| Error::io("read", &self.path, source))?;
        if xxh3_64(&bytes) != piece.hash {
            return Err(Error::Corrupt {
                path: self.path.clone(),
                offset: piece.offset,
                reason: "keys of an export are not as they were written".into(),
            });
        }
        Ok(bytes)
    }

    /// A new file without a name. One that has it is left from a crash.
    fn create(&self) -> Result<Arc<dyn IoFile>> {
        let (io, path) = (&self.io, &self.path);
        let create = || io.open(path, OpenMode::CreateNew);
        let file = create().or_else(|error| match error.kind() {
            ErrorKind::AlreadyExists => io.remove(path).and_then(|()| create()),
            _ => Err(error),
        });
        let file = file.map_err(|source| Error::io("create", path, source))?;
        io.remove(path)
            .map_err(|source| Error::io("remove", path, source))?;
        Ok(file)
    }
}
