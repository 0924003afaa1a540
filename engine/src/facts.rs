//! What the log says besides rows: exports that are prepared, and their outcome.
//!
//! Records are taken in the order of the log, by the committer and after a start alike, so a generation that is frozen
//! between two blocks belongs to exactly the facts of the blocks before.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use uuid::Uuid;

use crate::codec::Malformed;
use crate::codec::key::hash_key;
use crate::exported::files::Exports;
use crate::exported::location::{RowLocation, RowMark};
use crate::exported::{ExportFile, Exported};
use crate::generation::{Generation, LOCATIONS_BIT};
use crate::log::delta::{PendingRow, PendingTable, decode_delta, encode_delta};
use crate::log::export_keys::ExportKeys;
use crate::log::fact::{ExportPrepared, ExportResolved, OlderFiles};
use crate::tree::table::TableState;

/// Most bytes of keys in one body of locations.
const LOCATIONS_SIZE_BYTES_MAX: usize = 1 << 20;

/// The exports whose outcome the log does not hold yet.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Keys of exports that are not prepared yet.
    keys: HashMap<Uuid, Keys>,
    /// Ids under which keys were or are being written, and no export was prepared.
    claimed: HashSet<Uuid>,
    pending: Vec<Pending>,
}

#[derive(Debug, Default)]
struct Keys {
    /// As they were logged, in that order.
    records: Vec<ExportKeys>,
    first_block_number: u64,
}

#[derive(Debug)]
struct Pending {
    record: Arc<PendingRecord>,
    /// Whether its outcome is being written.
    settling: bool,
}

/// A prepared export whose outcome is not known.
#[derive(Debug)]
pub(crate) struct PendingRecord {
    pub(crate) table: Arc<TableState>,
    pub(crate) commit_id: Uuid,
    pub(crate) from_seq: u64,
    pub(crate) to_seq: u64,
    pub(crate) files: Vec<ExportFile>,
    /// What becomes of older files; `None` where an older build did not say.
    pub(crate) older: Option<OlderFiles>,
    /// The keys of the files' rows, in their order, and those whose exported row is gone and not replaced.
    keys: Vec<ExportKeys>,
    /// Whether all its keys were read.
    is_whole: bool,
    first_block_number: u64,
}

impl Facts {
    /// Takes an id to write keys under; false if the log may hold keys of that id already: those of both would add up.
    pub(crate) fn claim(&self, commit_id: Uuid) -> bool {
        let mut state = self.state.lock();
        let mut pending = state.pending.iter();
        !pending.any(|pending| pending.record.commit_id == commit_id)
            && state.claimed.insert(commit_id)
    }

    /// Takes keys of an export that may be prepared.
    pub(crate) fn keys(&self, block_number: u64, body: Arc<[u8]>) -> Result<(), Malformed> {
        let record = ExportKeys::decode(body)?;
        let mut state = self.state.lock();
        let keys = state.keys.entry(record.commit_id).or_insert_with(|| Keys {
            first_block_number: block_number,
            ..Keys::default()
        });
        keys.records.push(record);
        Ok(())
    }

    /// Takes a prepared export. With `settled`, its outcome is known to follow, and some of its keys may be missing.
    pub(crate) fn prepared(
        &self,
        block_number: u64,
        body: &[u8],
        settled: bool,
        table: impl FnOnce(u32) -> Option<Arc<TableState>>,
    ) -> Result<(), Malformed> {
        let prepared = ExportPrepared::decode(body)?;
        let table = table(prepared.table_id).ok_or(Malformed("an export of an unknown table"))?;
        let mut state = self.state.lock();
        let keys = state.keys.remove(&prepared.commit_id).unwrap_or(Keys {
            first_block_number: block_number,
            ..Keys::default()
        });
        let row_count: u64 = prepared.files.iter().map(|file| file.row_count).sum();
        let placed = keys.records.iter().filter(|record| !record.cleared);
        let is_whole = row_count
            == placed
                .map(|record| u64::from(record.key_count))
                .sum::<u64>();
        if !is_whole && !settled {
            return Err(Malformed(
                "an export of another number of rows than its files hold",
            ));
        }
        state.claimed.remove(&prepared.commit_id);
        state.pending.push(Pending {
            record: Arc::new(PendingRecord {
                table,
                commit_id: prepared.commit_id,
                from_seq: prepared.from_seq,
                to_seq: prepared.to_seq,
                files: prepared.files,
                older: prepared.older,
                keys: keys.records,
                is_whole,
                first_block_number: keys.first_block_number,
            }),
            settling: false,
        });
        Ok(())
    }

    /// Takes an outcome. A committed export gives its rows locations, in the generation that is written. With
    /// `contained`, the tree has them already.
    pub(crate) fn resolved(
        &self,
        body: &[u8],
        active: &Generation,
        contained: bool,
    ) -> Result<(), Malformed> {
        let resolved = ExportResolved::decode(body)?;
        let mut state = self.state.lock();
        let found = state
            .pending
            .iter()
            .position(|pending| pending.record.commit_id == resolved.commit_id);
        let record = match found.and_then(|i| state.pending.get(i)) {
            Some(pending) => pending.record.clone(),
            None if contained => return Ok(()),
            None => return Err(Malformed("the outcome of an export that was not prepared")),
        };
        if let Some(token) = resolved.token
            && !contained
        {
            record.place(active, token)?;
        }
        // Only now: who looks for boundaries asks for pending exports first, and then for committed ones.
        state
            .pending
            .retain(|pending| pending.record.commit_id != resolved.commit_id);
        Ok(())
    }

    /// Ends the replay of a log: what was not prepared never will be.
    pub(crate) fn finish(&self) -> Result<(), Malformed> {
        let mut state = self.state.lock();
        let unused: Vec<Uuid> = state.keys.drain().map(|(commit_id, _)| commit_id).collect();
        state.claimed.extend(unused);
        if state.pending.iter().any(|pending| !pending.record.is_whole) {
            return Err(Malformed("keys of a pending export are missing"));
        }
        Ok(())
    }

    /// The pending exports.
    pub(crate) fn pending(&self) -> Vec<Arc<PendingRecord>> {
        let state = self.state.lock();
        state
            .pending
            .iter()
            .map(|pending| pending.record.clone())
            .collect()
    }

    /// Takes a pending export to settle it; false for who comes second.
    pub(crate) fn take(&self, commit_id: Uuid) -> bool {
        let mut state = self.state.lock();
        let found = state
            .pending
            .iter_mut()
            .find(|pending| pending.record.commit_id == commit_id && !pending.settling);
        found.is_some_and(|pending| {
            pending.settling = true;
            true
        })
    }

    /// Lets a pending export be settled by another one, since nothing was written of its outcome.
    pub(crate) fn give_back(&self, commit_id: Uuid) {
        let mut state = self.state.lock();
        let of_it = |pending: &&mut Pending| pending.record.commit_id == commit_id;
        if let Some(pending) = state.pending.iter_mut().find(of_it) {
            pending.settling = false;
        }
    }

    /// Forgets the keys of an export that was not prepared and never will be.
    pub(crate) fn forget_keys(&self, commit_id: Uuid) {
        self.state.lock().keys.remove(&commit_id);
    }

    /// The first block that is needed to go on with what has no outcome yet.
    pub(crate) fn first_block_number(&self) -> Option<u64> {
        let state = self.state.lock();
        let pending = state
            .pending
            .iter()
            .map(|one| one.record.first_block_number);
        let keys = state.keys.values().map(|one| one.first_block_number);
        pending.chain(keys).min()
    }
}

impl PendingRecord {
    /// Writes where the rows lie, and then that they do.
    fn place(&self, active: &Generation, token: String) -> Result<(), Malformed> {
        if !self.is_whole {
            return Err(Malformed("keys of a committed export are missing"));
        }
        let mut exports = Exports::clone(&self.table.exports.load());
        let base_seq = exports.base.as_ref().map_or(0, |base| base.seq);
        if base_seq > self.to_seq || (self.is_relocation() && base_seq != self.to_seq) {
            return Err(Malformed("an export moves back"));
        }
        exports.placement_count += 1;
        let seq = exports.placement_count;
        let mut locations = Locations::new(active, self.table.id | LOCATIONS_BIT, seq);
        let row_count: u64 = self.files.iter().map(|file| file.row_count).sum();
        active.reserve(
            self.table.id | LOCATIONS_BIT,
            usize::try_from(row_count).unwrap_or(usize::MAX),
        );
        for cleared in self.keys_of(true) {
            locations.push(cleared?.0, None)?;
        }
        self.leave_older_files(&mut exports);
        let mut rows = self.keys_of(false);
        for file in &self.files {
            let number = exports.next_number();
            let mut live_count = 0;
            for (position, row) in (0..file.row_count).zip(rows.by_ref()) {
                let (key, mark) = row?;
                if mark != RowMark::SUPERSEDED {
                    live_count += 1;
                    let location = RowLocation {
                        file: number,
                        position: u32::try_from(position).unwrap_or(u32::MAX),
                        row_id: mark.row_id(),
                    };
                    locations.push(key, Some(location))?;
                }
            }
            if live_count > 0 {
                exports.add(file.path.as_str().into(), Some(live_count));
            }
        }
        locations.write()?;
        exports.base = Some(Exported {
            seq: self.to_seq,
            token,
        });
        self.table.exports.store(Arc::new(exports));
        Ok(())
    }

    /// The keys of its files' rows, or those that are gone, and what there is to say of the rows.
    fn keys_of(&self, cleared: bool) -> impl Iterator<Item = Result<(&[u8], RowMark), Malformed>> {
        let records = self
            .keys
            .iter()
            .filter(move |record| record.cleared == cleared);
        records.flat_map(ExportKeys::keys)
    }

    /// Whether it puts rows that were exported into other files.
    pub(crate) fn is_relocation(&self) -> bool {
        let older = self.older.as_ref();
        older.is_some_and(|older| !older.replaced.is_empty())
    }

    fn leave_older_files(&self, exports: &mut Exports) {
        let Some(older) = &self.older else {
            exports.forget_counts();
            return;
        };
        for &(number, row_count) in &older.taken {
            exports.take_rows(number, row_count);
        }
        older
            .replaced
            .iter()
            .for_each(|number| exports.remove(*number));
    }
}

/// Locations on their way into a generation, as rows of a table of their own.
struct Locations<'g> {
    generation: &'g Generation,
    table_id: u32,
    /// The number of the placement, not a commit sequence.
    seq: u64,
    arena: Vec<u8>,
    rows: Vec<PendingRow>,
}

impl<'g> Locations<'g> {
    fn new(generation: &'g Generation, table_id: u32, seq: u64) -> Self {
        Locations {
            generation,
            table_id,
            seq,
            arena: Vec::new(),
            rows: Vec::new(),
        }
    }

    fn push(&mut self, key: &[u8], location: Option<RowLocation>) -> Result<(), Malformed> {
        let key_start = self.arena.len();
        self.arena.extend_from_slice(key);
        let key_end = self.arena.len();
        if let Some(location) = location {
            location.encode(&mut self.arena);
        }
        self.rows.push(PendingRow {
            hash: hash_key(key),
            key_start,
            key_end,
            value_end: self.arena.len(),
            tombstone: location.is_none(),
            insert: false,
        });
        if self.arena.len() >= LOCATIONS_SIZE_BYTES_MAX {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), Malformed> {
        let table = PendingTable {
            table_id: self.table_id,
            truncate: false,
            deletes: Vec::new(),
            arena: &self.arena,
            rows: std::mem::take(&mut self.rows),
        };
        let body = encode_delta(None, std::slice::from_ref(&table), 0);
        // Both buffers are filled again.
        self.rows = table.rows;
        self.rows.clear();
        self.arena.clear();
        let delta = decode_delta(&body)?;
        let number = self.generation.add_body(body.clone());
        let number = number.ok_or(Malformed("a generation holds at most 2^32 records"))?;
        for part in &delta.tables {
            self.generation.write(self.seq, number, part)?;
        }
        Ok(())
    }
}
