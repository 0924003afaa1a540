//! What the log says besides rows: exports that are prepared, and their outcome.
//!
//! Records are taken in the order of the log, by the committer and after a start alike, so a generation that is frozen
//! between two blocks belongs to exactly the facts of the blocks before.
//!
//! An export that is committed gives its rows locations ([`placing`]): in the generation that is written, as its outcome is taken from
//! the log; or, where a generation does not hold so many, in the tree, before its outcome is logged.

mod placing;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use uuid::Uuid;

use crate::codec::Malformed;
use crate::error::Error;
use crate::exported::ExportFile;
use crate::generation::Generation;
use crate::log::export_keys::{ExportKeys, SeenKeys};
use crate::log::fact::{ExportPrepared, ExportResolved, OlderFiles};
use crate::log::format::RecordKind;
use crate::log::read_back::LogReader;
use crate::sync::{self, Mutex, Point};
use crate::tree::table::TableState;

/// The exports whose outcome the log does not hold yet.
#[derive(Debug)]
pub(crate) struct Facts {
    state: Mutex<State>,
    /// Keys of one export of more than so many bytes are read from the log again once they are needed.
    keys_size_bytes_max: usize,
}

/// Why a record of the log was not taken.
#[derive(Debug)]
pub(crate) enum Untaken {
    Malformed(Malformed),
    /// What belongs to it could not be read from the log again.
    Unread(Error),
}

impl From<Malformed> for Untaken {
    fn from(malformed: Malformed) -> Self {
        Untaken::Malformed(malformed)
    }
}

impl From<Error> for Untaken {
    fn from(error: Error) -> Self {
        Untaken::Unread(error)
    }
}

impl Untaken {
    /// The error of a record that this process wrote.
    pub(crate) fn of_our_own(self) -> Error {
        match self {
            Untaken::Malformed(malformed) => {
                Error::Usage(format!("a record of our own is malformed: {}", malformed.0))
            }
            Untaken::Unread(error) => error,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    /// Keys of exports that are not prepared yet.
    keys: HashMap<Uuid, Keys>,
    /// Ids under which keys were or are being written, and no export was prepared.
    claimed: HashSet<Uuid>,
    pending: Vec<Pending>,
}

impl State {
    fn pending_of(&self, commit_id: Uuid) -> Option<&Arc<PendingRecord>> {
        let mut records = self.pending.iter().map(|pending| &pending.record);
        records.find(|record| record.commit_id == commit_id)
    }
}

/// Keys of an export: those of the rows in its files, in the files' order, and those whose exported row is gone and not
/// replaced.
#[derive(Debug)]
struct Keys {
    /// As they were logged, in that order; `None` if that would take too much memory.
    records: Option<Vec<ExportKeys>>,
    size_bytes: usize,
    /// How many are of rows in files.
    placed_count: u64,
    seen: SeenKeys,
    first_block_number: u64,
    last_block_number: u64,
}

impl Keys {
    /// None yet, in the log from that block on.
    fn from_block(block_number: u64) -> Self {
        Keys {
            records: Some(Vec::new()),
            size_bytes: 0,
            placed_count: 0,
            seen: SeenKeys::default(),
            first_block_number: block_number,
            last_block_number: block_number,
        }
    }

    fn push(
        &mut self,
        record: ExportKeys,
        seen: SeenKeys,
        size_bytes: usize,
        block_number: u64,
        size_bytes_max: usize,
    ) {
        self.seen.append(seen);
        self.size_bytes += size_bytes;
        self.last_block_number = block_number;
        if !record.cleared {
            self.placed_count += u64::from(record.key_count);
        }
        if self.size_bytes > size_bytes_max {
            self.records = None;
        }
        if let Some(records) = &mut self.records {
            records.push(record);
        }
    }

    /// Hands the records out in the order of the log.
    fn each_record(
        &self,
        commit_id: Uuid,
        log: LogReader<'_>,
        mut take: impl FnMut(&ExportKeys) -> Result<(), Untaken>,
    ) -> Result<(), Untaken> {
        if let Some(records) = &self.records {
            return records.iter().try_for_each(take);
        }
        let blocks = self.first_block_number..=self.last_block_number;
        log.each_record(RecordKind::ExportKeys, blocks, |body| {
            let record = ExportKeys::decode(body)?;
            match record.commit_id == commit_id {
                true => take(&record),
                false => Ok(()),
            }
        })
    }
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
    keys: Keys,
}

impl Facts {
    /// None yet; what the keys of one export may take in memory.
    pub(crate) fn new(keys_size_bytes_max: usize) -> Self {
        Facts {
            state: Mutex::default(),
            keys_size_bytes_max,
        }
    }

    /// Takes an id to write keys under; false if the log may hold keys of that id already: those of both would add up.
    pub(crate) fn claim(&self, commit_id: Uuid) -> bool {
        let mut state = self.state.lock();
        state.pending_of(commit_id).is_none() && state.claimed.insert(commit_id)
    }

    /// Takes keys of an export that may be prepared.
    pub(crate) fn keys(&self, block_number: u64, body: Arc<[u8]>) -> Result<(), Malformed> {
        let size_bytes = body.len();
        let record = ExportKeys::decode(body)?;
        let seen = record.seen()?;
        let mut state = self.state.lock();
        let keys = state.keys.entry(record.commit_id);
        let keys = keys.or_insert_with(|| Keys::from_block(block_number));
        keys.push(
            record,
            seen,
            size_bytes,
            block_number,
            self.keys_size_bytes_max,
        );
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
        let keys = state.keys.remove(&prepared.commit_id);
        let record = PendingRecord {
            table,
            commit_id: prepared.commit_id,
            from_seq: prepared.from_seq,
            to_seq: prepared.to_seq,
            files: prepared.files,
            older: prepared.older,
            keys: keys.unwrap_or_else(|| Keys::from_block(block_number)),
        };
        if !record.is_whole() && !settled {
            return Err(Malformed(
                "an export of another number of rows than its files hold",
            ));
        }
        state.claimed.remove(&prepared.commit_id);
        state.pending.push(Pending {
            record: Arc::new(record),
            settling: false,
        });
        Ok(())
    }

    /// Takes an outcome. A committed export gives its rows locations, in the generation that is written, unless they have them. With
    /// `contained`, the tree has them already.
    pub(crate) fn resolved(
        &self,
        body: &[u8],
        active: &Generation,
        log: LogReader<'_>,
        contained: bool,
    ) -> Result<(), Untaken> {
        let resolved = ExportResolved::decode(body)?;
        let mut state = self.state.lock();
        let record = match state.pending_of(resolved.commit_id) {
            Some(record) => record.clone(),
            None if contained => return Ok(()),
            None => return Err(Malformed("the outcome of an export that was not prepared").into()),
        };
        if let Some(token) = resolved.token
            && !contained
            && !record.is_placed()
        {
            record.place(active, log, token)?;
        }
        sync::point(Point::Publish);
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
        if state
            .pending
            .iter()
            .any(|pending| !pending.record.is_whole())
        {
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

    /// The pending export of that id.
    pub(crate) fn pending_of(&self, commit_id: Uuid) -> Option<Arc<PendingRecord>> {
        self.state.lock().pending_of(commit_id).cloned()
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
            .map(|one| one.record.keys.first_block_number);
        let keys = state.keys.values().map(|one| one.first_block_number);
        pending.chain(keys).min()
    }
}
