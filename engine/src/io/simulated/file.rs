//! Files of the simulated disk that are open.

use std::io::{Error, ErrorKind, Result};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::content::{Change, Effect};
use super::faults::{Fault, Operation};
use super::names::File;
use super::process::Holder;
use super::{SimulatedIo, position};
use crate::io::{FileMap, IoFile};
use crate::sync::{self, Mutex, Point};

#[derive(Clone, Debug)]
pub(super) struct SimulatedFile(Arc<Opened>);

#[derive(Debug)]
struct Opened {
    path: PathBuf,
    content: File,
    io: SimulatedIo,
    /// How many failures of its device this opener was told of.
    told: AtomicU64,
    share: Mutex<Option<Arc<Holder>>>,
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.io.process.open_files.fetch_sub(1, Ordering::Relaxed);
        let mut content = self.content.lock();
        content.open_count -= 1;
        content.free_if_gone(&self.io.shared.space);
    }
}

impl SimulatedFile {
    pub(super) fn new(io: &SimulatedIo, path: &Path, file: File) -> Self {
        io.process.open_files.fetch_add(1, Ordering::Relaxed);
        let mut content = file.lock();
        content.open_count += 1;
        // A failure that nobody was told of is told to who opens the file next.
        let untold = u64::from(content.failure_count > 0 && !content.failure_told);
        let told = AtomicU64::new(content.failure_count - untold);
        drop(content);
        SimulatedFile(Arc::new(Opened {
            path: path.to_owned(),
            content: file,
            io: io.clone(),
            told,
            share: Mutex::default(),
        }))
    }

    fn begin(&self, operation: Operation, size_bytes: usize) -> Result<Option<Fault>> {
        self.0.io.begin(operation, &self.0.path, size_bytes)
    }

    /// Writes bytes that space was found for, in two steps: a crash between them finds the write under way.
    fn put(&self, bytes: &[u8], offset: usize) -> Result<u64> {
        let shared = &self.0.io.shared;
        if bytes.is_empty() {
            return Ok(shared.sequence());
        }
        let change = Change {
            sequence: shared.next_sequence(),
            effect: Effect::Write {
                offset,
                bytes: bytes.into(),
            },
        };
        let sequence = change.sequence;
        self.0.content.lock().in_flight.push(change);
        sync::point(Point::Io);
        let mut content = self.0.content.lock();
        let under_way = content
            .in_flight
            .iter()
            .position(|one| one.sequence == sequence);
        let change = under_way.map(|at| content.in_flight.remove(at));
        self.0.io.process.check(false)?;
        if let Some(mut change) = change {
            change.sequence = shared.next_sequence();
            let arrived = change.sequence;
            content.arrive(change, &shared.space);
            return Ok(arrived);
        }
        Ok(sequence)
    }
}

/// How many of the bytes of a write arrive, and what it fails with then.
fn arrival(size_bytes: usize, is_full: bool, fault: Option<Fault>) -> (usize, Option<Error>) {
    let error = fault.and_then(Fault::error);
    match fault {
        Some(Fault::Error) => (0, error),
        Some(Fault::Short | Fault::NoSpace) => (size_bytes / 2, error),
        _ if is_full => (size_bytes / 2, Some(ErrorKind::StorageFull.into())),
        _ => (size_bytes, error),
    }
}

impl IoFile for SimulatedFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let fault = self.begin(Operation::Read, buffer.len())?;
        let flip = fault.map(|_| self.0.io.shared.disk.lock().faults.random.next());
        let mut content = self.0.content.lock();
        let start = position(offset)?;
        let end = start.saturating_add(buffer.len());
        if let (Some(Fault::FlipStored), Some(flip)) = (fault, flip)
            && !buffer.is_empty()
        {
            let at = start + position(flip >> 8)? % buffer.len();
            content.flip(at, 1 << (flip % 8))?;
        }
        let stored = content.current.get(start..end);
        buffer.copy_from_slice(stored.ok_or(ErrorKind::UnexpectedEof)?);
        if let (Some(Fault::FlipRead), Some(flip)) = (fault, flip)
            && let Some(at) = (flip >> 8).checked_rem(buffer.len() as u64)
            && let Some(byte) = buffer.get_mut(position(at)?)
        {
            *byte ^= 1 << (flip % 8);
        }
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let fault = self.begin(Operation::Write, bytes.len())?;
        let is_full = self.0.io.admit_write(&self.0.path, bytes.len())?;
        let start = position(offset)?;
        let (arrives, error) = arrival(bytes.len(), is_full, fault);
        let space = &self.0.io.shared.space;
        let fits = self.0.content.lock().take_space(start, arrives, space);
        let (arriving, _) = bytes.split_at(fits.min(arrives));
        let arrived = self.put(arriving, start)?;
        if fault == Some(Fault::LostLater) {
            let mut disk = self.0.io.shared.disk.lock();
            self.0
                .content
                .lock()
                .refuse(arrived, &mut disk.faults.random);
        }
        if fits < arrives {
            self.0
                .io
                .shared
                .disk
                .lock()
                .faults
                .counts
                .count(Operation::Write, "disk full");
            return Err(ErrorKind::StorageFull.into());
        }
        error.map_or(Ok(()), Err)
    }

    fn map(&self, offset: u64, size_bytes: usize) -> Result<Option<Box<dyn FileMap>>> {
        let end = offset + size_bytes as u64;
        if end > self.len_bytes()? {
            return Ok(None);
        }
        Ok(Some(Box::new(SimulatedMap {
            file: self.clone(),
            part: offset..end,
        })))
    }

    /// In two steps: a crash between them finds the sync under way.
    fn sync_data(&self) -> Result<()> {
        let shared = &self.0.io.shared;
        let fault = self.begin(Operation::Sync, 0)?;
        let through = shared.sequence();
        self.0.content.lock().syncing.push(through);
        sync::point(Point::Sync);
        let mut disk = shared.disk.lock();
        let mut content = self.0.content.lock();
        let under_way = content.syncing.iter().position(|one| *one == through);
        under_way.map(|at| content.syncing.swap_remove(at));
        self.0.io.process.check(false)?;
        let failure = disk
            .sync_failure
            .map(|kind| Error::new(kind, "simulated sync failure"));
        if let Some(error) = failure.or_else(|| fault.and_then(Fault::error)) {
            content.refuse(through, &mut disk.faults.random);
            content.failure_told = true;
            self.0.told.store(content.failure_count, Ordering::Relaxed);
            return Err(error);
        }
        content.harden(through);
        disk.names.sync_file(content.created);
        if self.0.told.swap(content.failure_count, Ordering::Relaxed) < content.failure_count {
            content.failure_told = true;
            let refused = Fault::Error.error();
            return Err(refused.unwrap_or_else(|| ErrorKind::Other.into()));
        }
        Ok(())
    }

    fn len_bytes(&self) -> Result<u64> {
        self.0.io.process.check(false)?;
        Ok(self.0.content.lock().current.len() as u64)
    }

    fn set_len(&self, len_bytes: u64) -> Result<()> {
        self.begin(Operation::SetLen, 0)?;
        let shared = &self.0.io.shared;
        let effect = Effect::Length(position(len_bytes)?);
        let mut content = self.0.content.lock();
        let sequence = shared.next_sequence();
        content.arrive(Change { sequence, effect }, &shared.space);
        Ok(())
    }

    fn share(&self) -> Result<()> {
        self.0.io.process.check(false)?;
        let holder = Arc::new(Holder(self.0.io.process.clone()));
        self.0.content.lock().shares.push(Arc::downgrade(&holder));
        *self.0.share.lock() = Some(holder);
        Ok(())
    }
}

/// Written to as the file is: it fails when writes do.
#[derive(Debug)]
struct SimulatedMap {
    file: SimulatedFile,
    part: Range<u64>,
}

impl FileMap for SimulatedMap {
    fn write_all_parts_at(&mut self, parts: &[&[u8]], offset: u64) -> Result<()> {
        let bytes = parts.concat();
        let end = offset + bytes.len() as u64;
        if offset < self.part.start || end > self.part.end {
            return Err(ErrorKind::InvalidInput.into());
        }
        assert!(
            end <= self.file.len_bytes()?,
            "a file is written by a map of what was cut off"
        );
        self.file.0.io.shared.disk.lock().mapped_write_count += 1;
        self.file.write_all_at(&bytes, offset)
    }
}
