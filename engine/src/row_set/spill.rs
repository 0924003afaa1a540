//! Bytes that are put aside on disk for as long as this process needs them, since they would take more memory than there is.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Result};
use crate::io::{Io, IoFile, OpenMode};
use crate::sync::Mutex;

/// A file without a name, once something was written: it is gone with this, also after a crash.
#[derive(Debug)]
pub(crate) struct Spill {
    io: Arc<dyn Io>,
    /// What it is called for a moment, until it is open.
    path: PathBuf,
    /// The file and its length.
    state: Mutex<Option<(Arc<dyn IoFile>, u64)>>,
}

/// Bytes that were written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spilled {
    offset: u64,
    size_bytes: usize,
    hash: u64,
}

impl Spill {
    pub(crate) fn new(io: Arc<dyn Io>, path: PathBuf) -> Self {
        Spill {
            io,
            path,
            state: Mutex::default(),
        }
    }

    /// # Errors
    /// As the system answers.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<Spilled> {
        let mut state = self.state.lock();
        let (file, len_bytes) = match &mut *state {
            Some(begun) => begun,
            none => none.insert((self.create()?, 0)),
        };
        let spilled = Spilled {
            offset: *len_bytes,
            size_bytes: bytes.len(),
            hash: xxh3_64(bytes),
        };
        let written = file.write_all_at(bytes, *len_bytes);
        written.map_err(|source| Error::io("write", &self.path, source))?;
        *len_bytes += bytes.len() as u64;
        Ok(spilled)
    }

    /// # Errors
    /// As the system answers; [`Error::Corrupt`] for other bytes than were written.
    pub(crate) fn read(&self, spilled: Spilled) -> Result<Vec<u8>> {
        let file = self.state.lock().as_ref().map(|(file, _)| file.clone());
        let mut bytes = vec![0; spilled.size_bytes];
        let read = match file {
            Some(file) => file.read_exact_at(&mut bytes, spilled.offset),
            None => Err(ErrorKind::NotFound.into()),
        };
        read.map_err(|source| Error::io("read", &self.path, source))?;
        if xxh3_64(&bytes) != spilled.hash {
            return Err(Error::Corrupt {
                path: self.path.clone(),
                offset: spilled.offset,
                reason: "what was put aside is not as it was written".into(),
            });
        }
        Ok(bytes)
    }

    /// A new file without a name. One that has it is left from a crash, or somebody else is about to take its name away.
    fn create(&self) -> Result<Arc<dyn IoFile>> {
        loop {
            match self.io.open(&self.path, OpenMode::CreateNew) {
                Ok(file) => {
                    self.remove()?;
                    return Ok(file);
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => self.remove()?,
                Err(source) => return Err(Error::io("create", &self.path, source)),
            }
        }
    }

    fn remove(&self) -> Result<()> {
        match self.io.remove(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::io("remove", &self.path, error))
            }
            _ => Ok(()),
        }
    }
}
