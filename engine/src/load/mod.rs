//! Rows that go below level 0 past the log and take effect together: those of a bulk load, and where those of a large export lie.
//!
//! Rows gather in a [`buffer`]; when it is full they are sorted and written as a *run*, a RowSet that no tree names. At
//! the end the runs are merged into the fragments that the rows belong to ([`placing`]). A delta without rows
//! then takes a place in the order of commits, and one edit of the tree puts the rows there. So they are there after a
//! crash or they are not, and a crash leaves at most files that the next start removes.

mod buffer;
mod placing;

use std::sync::Arc;

use crate::background::flush::OutputFile;
use crate::codec::key::hash_key;
use crate::commit::committer;
use crate::error::{Error, Result};
use crate::generation::LOCATIONS_BIT;
use crate::key_range::KeyRange;
use crate::read::merge::{Merge, Source};
use crate::row_set::budget::Charge;
use crate::row_set::meta::RowSetHead;
use crate::row_set::rows_page::RowRef;
use crate::shared::Shared;
use crate::tree::files::HeldRowSet;
use crate::tree::fragment::FragmentId;
use crate::tree::loaded::LoadedExport;
use buffer::RowBuffer;
use placing::Placing;

/// The part of the memory budget that one load takes.
const MEMORY_SHARE: u64 = 4;
/// A run is worth a file from this size on, however small the memory is.
const MEMORY_SIZE_BYTES_MIN: u64 = 4 << 10;
/// What the runs are read in at once, together, if there is memory for it.
const READ_SIZE_BYTES: u64 = 8 << 20;

/// Rows of one table, or of its locations, until they take effect. Dropped before, they leave no trace.
#[derive(Debug)]
pub(crate) struct Load {
    table_id: u32,
    buffer: RowBuffer,
    buffer_size_bytes_max: u64,
    /// Newest first.
    runs: Vec<Arc<HeldRowSet>>,
    row_count: u64,
    size_bytes: u64,
    /// A run could not be written, so rows are missing.
    is_broken: bool,
    _memory: Charge,
}

impl Load {
    /// Without rows.
    pub(crate) fn new(shared: &Shared, table_id: u32) -> Self {
        let (memory_size_bytes, memory) = take_memory(shared);
        Load {
            table_id,
            buffer: RowBuffer::default(),
            buffer_size_bytes_max: memory_size_bytes,
            runs: Vec::new(),
            row_count: 0,
            size_bytes: 0,
            is_broken: false,
            _memory: memory,
        }
    }

    /// How many rows were taken.
    pub(crate) fn row_count(&self) -> u64 {
        self.row_count
    }

    /// Takes a row, in place of an earlier one of its key. A location without a value is that of a row that is gone.
    ///
    /// # Errors
    /// Of `key`; [`Error::Row`] of a row that is too large; [`Error::Io`] if what was gathered can't be written: then nothing of the
    /// load can be finished any more.
    pub(crate) fn push(
        &mut self,
        shared: &Shared,
        key: impl FnOnce(&mut Vec<u8>) -> Result<()>,
        value: impl FnOnce(&mut Vec<u8>),
    ) -> Result<()> {
        self.check_whole(shared)?;
        self.size_bytes += self.buffer.push(key, value)?;
        self.row_count += 1;
        if self.buffer.size_bytes() >= self.buffer_size_bytes_max {
            self.write_run(shared)?;
        }
        Ok(())
    }

    fn check_whole(&self, shared: &Shared) -> Result<()> {
        if self.is_broken {
            let reason = "a write of this bulk load failed, so it can't go on";
            return Err(refused(shared, self.table_id, reason));
        }
        Ok(())
    }

    /// Writes what was gathered as a run.
    fn write_run(&mut self, shared: &Shared) -> Result<()> {
        self.is_broken = true;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.sort();
        let mut file = OutputFile::new(shared, shared.write_size_bytes());
        let written = write_run(self.table_id, &buffer, &mut file);
        match written.and_then(|()| file.end()) {
            Ok(()) => {
                let run = file.finish()?;
                self.runs.splice(0..0, run);
            }
            Err(error) => {
                file.discard();
                return Err(error);
            }
        }
        buffer.clear();
        self.buffer = buffer;
        self.is_broken = false;
        Ok(())
    }

    /// Has the rows take effect, durably; returns their commit sequence, or the newest one if there were none. Commits wait meanwhile
    /// for as long as it takes to flush what was committed just before.
    ///
    /// # Errors
    /// [`Error::Io`] if the rows can't be written, [`Error::NoSpace`] if there is no room for them; nothing happened then.
    /// [`Error::Poisoned`] if the log can't be written.
    pub(crate) fn finish(mut self, shared: &Shared, export: Option<&LoadedExport>) -> Result<u64> {
        shared.check_writable()?;
        self.check_whole(shared)?;
        if self.row_count == 0 {
            return Ok(shared.pins.visible_seq());
        }
        if self.runs.is_empty() {
            self.buffer.sort();
        } else {
            if self.buffer.size_bytes() > 0 {
                self.write_run(shared)?;
            }
            self.buffer = RowBuffer::default();
        }
        let sorted = SortedRows {
            table_id: self.table_id,
            row_count: self.row_count,
            size_bytes: self.size_bytes,
            memory_size_bytes: self.buffer_size_bytes_max,
        };
        sorted.take_effect(shared, |take| {
            self.each_row(take)?;
            Ok(export.cloned())
        })
    }

    /// Hands out the rows in key order, the last one of each key.
    fn each_row(&self, take: Take<'_>) -> Result<()> {
        if self.runs.is_empty() {
            return self.buffer.rows().try_for_each(take);
        }
        let together = READ_SIZE_BYTES.min(self.buffer_size_bytes_max) as usize;
        let read_size_bytes = (together / self.runs.len()).clamp(16 << 10, 1 << 20);
        let sources = self.runs.iter();
        let sources = sources
            .map(|held| Source::RowSet(held.row_set.stream(read_size_bytes), held.clone()))
            .collect();
        let mut merge = Merge::new(sources, KeyRange::ALL, false, false);
        while merge.advance()? {
            if let Some(row) = merge.row() {
                take(row)?;
            }
        }
        Ok(())
    }
}

/// Rows that come in key order, each key once.
pub(crate) struct SortedRows {
    pub(crate) table_id: u32,
    pub(crate) row_count: u64,
    pub(crate) size_bytes: u64,
    /// What may be taken while they are written.
    pub(crate) memory_size_bytes: u64,
}

/// Takes rows, until it fails.
pub(crate) type Take<'t> = &'t mut dyn FnMut(RowRef<'_>) -> Result<()>;

impl SortedRows {
    /// Has the rows take effect that `read` hands out, as often as it is called, and with them the export that it says they are
    /// locations of; as [`Load::finish`].
    pub(crate) fn take_effect(
        &self,
        shared: &Shared,
        mut read: impl FnMut(Take<'_>) -> Result<Option<LoadedExport>>,
    ) -> Result<u64> {
        // What was committed until now takes its place in the tree before the rows look for theirs.
        flush(shared)?;
        let placing = Placing::in_leaves(shared, self.table_id, self.size_bytes);
        if let Some(seq) = self.place(shared, placing, &mut read)? {
            return Ok(seq);
        }
        // The tree has changed while they were written. The root always takes them.
        match self.place(shared, Placing::in_root(shared, self.table_id), &mut read)? {
            Some(seq) => Ok(seq),
            None => {
                let reason = "the tree took no rows of a bulk load";
                Err(refused(shared, self.table_id, reason))
            }
        }
    }

    /// Writes the rows and has the tree take them; `None` if it does not any more.
    fn place(
        &self,
        shared: &Shared,
        placing: Placing<'_>,
        read: &mut impl FnMut(Take<'_>) -> Result<Option<LoadedExport>>,
    ) -> Result<Option<u64>> {
        let loaded = placing.write(self.row_count, self.memory_size_bytes, |take| {
            read(&mut |row| take(as_stored(self.table_id, row)))
        })?;
        let loaded = Arc::new(loaded);
        // So that there is little to flush while commits wait.
        flush(shared).inspect_err(|_| loaded.retire())?;
        let submitted = shared.queue.submit_load(loaded.clone(), &shared.counters);
        let ticket = submitted.inspect_err(|_| loaded.retire())?;
        match shared.wait(ticket).and_then(|()| loaded.is_taken()) {
            Ok(true) => Ok(Some(ticket.seq)),
            Ok(false) => {
                loaded.retire();
                Ok(None)
            }
            Err(error) => {
                // After any other error the tree may have taken them.
                if matches!(error, Error::NoSpace { .. }) {
                    loaded.retire();
                }
                Err(error)
            }
        }
    }
}

/// A row as RowSets have it: a location without a value is that of a row that is gone.
fn as_stored(table_id: u32, row: RowRef<'_>) -> RowRef<'_> {
    let is_gone = table_id & LOCATIONS_BIT != 0 && row.value.is_some_and(<[u8]>::is_empty);
    RowRef {
        value: row.value.filter(|_| !is_gone),
        ..row
    }
}

/// Takes what one load may take, in bytes, for as long as the charge lives.
pub(crate) fn take_memory(shared: &Shared) -> (u64, Charge) {
    let limit_bytes = shared.store.cache.budget().limit_bytes();
    let size_bytes = (limit_bytes / MEMORY_SHARE).max(MEMORY_SIZE_BYTES_MIN);
    let charge = shared.memory_parts.transactions.charge(size_bytes);
    (size_bytes, charge)
}

fn refused(shared: &Shared, table_id: u32, reason: &str) -> Error {
    let table = shared.table_state(table_id & !LOCATIONS_BIT);
    let schema = table.map(|table| table.schema());
    let name = schema.as_ref().map_or("", |schema| schema.name());
    Error::Usage(format!("table '{name}': {reason}"))
}

fn flush(shared: &Shared) -> Result<()> {
    committer::freeze(shared)?;
    shared.generations.wait_flushed()?;
    shared.check_writable()
}

fn write_run(table_id: u32, buffer: &RowBuffer, file: &mut OutputFile<'_>) -> Result<()> {
    file.begin(RowSetHead {
        table_id,
        fragment_id: FragmentId::ROOT.0,
        seq_from: 0,
        seq_to: 0,
    });
    buffer
        .rows()
        .try_for_each(|row| file.push(row, hash_key(row.key)))
}

impl Drop for Load {
    fn drop(&mut self) {
        self.runs.iter().for_each(|run| run.file.retire());
    }
}
