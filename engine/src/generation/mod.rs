//! A generation of the DeltaCache: the deltas of a range of commit sequences, in memory.
//!
//! [`Generation`] holds the bodies of the deltas' records as they were logged, and for each table a [`table`] index over
//! their rows: [`versions`] in commit order, found by hash. One thread, the committer, writes; readers by key take no lock:
//! everything is [`append`]ed and published by its number, and what a reader may see is decided by the commit sequence
//! that it asks for. [`sorted`] brings versions into key order when somebody asks for them in order, and not before; a
//! [`cursor`] goes through them. [`flushing`] hands them out to who writes RowSets of them.
//! [`since`] tells what was written after a sequence, for transactions that must not have been overtaken.
//!
//! A generation only grows. When it is full it is frozen, flushed below level 0 as RowSets, and dropped whole.

mod append;
mod cursor;
mod flushing;
mod since;
mod sorted;
mod table;
#[cfg(test)]
pub(crate) mod tests;
mod versions;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use append::AppendVec;
pub(crate) use cursor::GenerationCursor;
pub(crate) use flushing::GatheredRows;
pub(crate) use table::{Found, TableGeneration};

use crate::codec::Malformed;
use crate::log::delta::TablePart;
use crate::row_set::budget::MemoryBudget;
use crate::sync::Mutex;

/// The deltas after one commit sequence, up to where the next generation begins.
#[derive(Debug, Default)]
pub(crate) struct Generation {
    /// Its deltas were committed after this sequence.
    seq_from: u64,
    bodies: Bodies,
    /// By [`place_of`] their ids.
    tables: AppendVec<OnceLock<Arc<TableGeneration>>>,
    /// The ids of the tables that are here.
    table_ids: Mutex<Vec<u32>>,
    size: CountedSize,
}

/// Bytes of bodies, versions and indexes, which a budget knows of for as long as somebody holds the generation.
#[derive(Debug, Default)]
struct CountedSize {
    size_bytes: AtomicU64,
    /// The order that scans brought versions into. It is no reason to flush a generation, so it is counted apart.
    order_bytes: AtomicU64,
    budget: Option<Arc<MemoryBudget>>,
}

impl Drop for CountedSize {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            budget.give_back(*self.size_bytes.get_mut() + *self.order_bytes.get_mut());
        }
    }
}

/// The bodies of records, by number.
#[derive(Debug, Default)]
pub(crate) struct Bodies {
    bodies: AppendVec<OnceLock<Arc<[u8]>>>,
    len: AtomicU32,
}

/// The bit of a table's id that makes it the id of the table of its rows' export locations.
pub(crate) const LOCATIONS_BIT: u32 = 1 << 31;

/// Tables and their locations side by side.
fn place_of(table_id: u32) -> u32 {
    table_id.rotate_left(1)
}

impl Generation {
    /// An empty generation for the deltas after that sequence.
    pub(crate) fn new(seq_from: u64) -> Self {
        Generation {
            seq_from,
            ..Generation::default()
        }
    }

    /// The same, whose memory is taken from a budget.
    pub(crate) fn counted(seq_from: u64, budget: Option<Arc<MemoryBudget>>) -> Self {
        Generation {
            seq_from,
            size: CountedSize {
                size_bytes: AtomicU64::new(0),
                order_bytes: AtomicU64::new(0),
                budget,
            },
            ..Generation::default()
        }
    }

    /// Its deltas were committed after this sequence.
    pub(crate) fn seq_from(&self) -> u64 {
        self.seq_from
    }

    /// The tables that have something here, ascending.
    pub(crate) fn table_ids(&self) -> Vec<u32> {
        let mut ids = self.table_ids.lock().clone();
        ids.sort_unstable();
        ids
    }

    /// Takes the body of a delta's record; returns the number that its rows are written under. `None` if there are 2^32.
    pub(crate) fn add_body(&self, body: Arc<[u8]>) -> Option<u32> {
        self.grow(body.len());
        self.bodies.push(body)
    }

    /// Takes a delta's rows of one table; the body is there already. Nobody sees them before their sequence is visible.
    pub(crate) fn write(&self, seq: u64, body: u32, part: &TablePart<'_>) -> Result<(), Malformed> {
        let table = self
            .table_or_new(part.table_id)
            .ok_or(Malformed("a table's number is too large"))?;
        let taken = table.write(&self.bodies, seq, body, part)?;
        self.grow(taken);
        Ok(())
    }

    /// Makes room for so many more rows of a table, which come in several parts.
    pub(crate) fn reserve(&self, table_id: u32, row_count: usize) {
        if let Some(table) = self.table_or_new(table_id) {
            self.grow(table.reserve(row_count));
        }
    }

    /// What is here of a table, if anything.
    #[inline]
    pub(crate) fn table(&self, table_id: u32) -> Option<&Arc<TableGeneration>> {
        self.tables.get(place_of(table_id))?.get()
    }

    /// The bodies that the tables' versions point into.
    #[inline]
    pub(crate) fn bodies(&self) -> &Bodies {
        &self.bodies
    }

    /// Bytes of memory.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.size.size_bytes.load(Ordering::Relaxed)
    }

    fn grow(&self, bytes: usize) {
        self.count(&self.size.size_bytes, bytes);
    }

    /// Counts what readers made of it.
    fn grow_order(&self, bytes: usize) {
        if bytes > 0 {
            self.count(&self.size.order_bytes, bytes);
        }
    }

    fn count(&self, counter: &AtomicU64, bytes: usize) {
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
        if let Some(budget) = &self.size.budget {
            budget.take(bytes as u64);
        }
    }

    fn table_or_new(&self, table_id: u32) -> Option<&Arc<TableGeneration>> {
        let (slot, made) = self.tables.reserve(place_of(table_id));
        self.grow(made * size_of::<OnceLock<Arc<TableGeneration>>>());
        Some(slot?.get_or_init(|| {
            self.table_ids.lock().push(table_id);
            self.grow(size_of::<TableGeneration>());
            Arc::default()
        }))
    }
}

impl Bodies {
    fn push(&self, body: Arc<[u8]>) -> Option<u32> {
        let number = self.len.load(Ordering::Relaxed);
        let (slot, _) = self.bodies.reserve(number);
        let stored = slot?.set(body);
        debug_assert!(stored.is_ok(), "body {number} is written twice");
        self.len.store(number.checked_add(1)?, Ordering::Release);
        Some(number)
    }

    /// The body of a record.
    #[inline]
    pub(crate) fn get(&self, number: u32) -> Option<&Arc<[u8]>> {
        self.bodies.get(number)?.get()
    }

    /// Bytes of a body; nothing where it ends before.
    pub(crate) fn slice(&self, number: u32, start: u32, len: u32) -> &[u8] {
        let bytes = self.get(number).and_then(|body| {
            body.get(start as usize..)
                .and_then(|rest| rest.get(..len as usize))
        });
        bytes.unwrap_or_default()
    }
}
