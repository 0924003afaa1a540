//! What readers, writers and the committer of a database share.

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use uuid::Uuid;

use crate::cache::pins::Pins;
use crate::cache::record_store::{RecordEntry, RecordStore};
use crate::cache::table::TableState;
use crate::codec::Malformed;
use crate::error::{Error, Result};
use crate::export::PendingRecord;
use crate::layout::{Layout, StoredProfile};
use crate::log::committer::{self, Committer};
use crate::log::delta::decode_delta;
use crate::log::format::RecordKind;
use crate::log::queue::{CommitQueue, Durability, Ticket};
use crate::manifest::Manifest;
use crate::origins::Origins;
use crate::schema::TableSchema;

/// What readers, writers and the committer share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) database_id: Uuid,
    pub(crate) shard_bits: u32,
    pub(crate) profile: StoredProfile,
    pub(crate) layout: Layout,
    pub(crate) read_only: bool,
    pub(crate) tables: RwLock<Vec<Arc<TableState>>>,
    pub(crate) records: RecordStore,
    pub(crate) pins: Pins,
    pub(crate) origins: Origins,
    pub(crate) queue: CommitQueue,
    /// `None` in a database that is read-only or closed.
    pub(crate) committer: Mutex<Option<Committer>>,
    pub(crate) pending: Mutex<Vec<PendingRecord>>,
}

impl Shared {
    /// The state of a database whose log was not read yet.
    pub(crate) fn new(
        manifest: Manifest,
        layout: Layout,
        memory_budget_bytes: u64,
        read_only: bool,
    ) -> Self {
        Shared {
            database_id: manifest.database_id,
            shard_bits: manifest.shard_bits,
            profile: manifest.profile,
            layout,
            read_only,
            tables: RwLock::default(),
            records: RecordStore::new(manifest.database_id, memory_budget_bytes),
            pins: Pins::default(),
            origins: Origins::default(),
            queue: CommitQueue::new(manifest.database_id, 0, &layout),
            committer: Mutex::default(),
            pending: Mutex::default(),
        }
    }

    pub(crate) fn check_writable(&self) -> Result<()> {
        if self.read_only {
            return Err(Error::Usage("the database is open read-only".into()));
        }
        self.queue
            .failure()
            .map_or(Ok(()), |reason| Err(Error::Poisoned(reason)))
    }

    pub(crate) fn check_table(&self, table: &Table) -> Result<()> {
        if table.state.database_id == self.database_id {
            return Ok(());
        }
        Err(Error::Usage(format!(
            "table '{}' belongs to another database",
            table.name()
        )))
    }

    /// Queues a record that nobody waits for.
    pub(crate) fn submit(
        &self,
        kind: RecordKind,
        body: Vec<u8>,
        durability: Durability,
    ) -> Result<Ticket> {
        let ticket = self.queue.submit(kind, body, durability)?;
        self.queue.leave();
        Ok(ticket)
    }

    /// Writes a record as durably as asked for.
    pub(crate) fn write(
        &self,
        kind: RecordKind,
        body: Vec<u8>,
        durability: Durability,
    ) -> Result<Ticket> {
        let ticket = self.queue.submit(kind, body, durability)?;
        self.wait(ticket)?;
        Ok(ticket)
    }

    /// Writes a record durably.
    pub(crate) fn log(&self, kind: RecordKind, body: Vec<u8>) -> Result<()> {
        self.write(kind, body, Durability::Synced).map(|_| ())
    }

    /// Waits until a submitted record is written.
    pub(crate) fn wait(&self, ticket: Ticket) -> Result<()> {
        committer::wait(self, ticket)
    }

    /// Takes a delta that is logged into the DeltaCache. It is not yet visible.
    pub(crate) fn apply_delta(
        &self,
        seq: u64,
        entry: RecordEntry,
        body: Arc<[u8]>,
    ) -> Result<(), Malformed> {
        let delta = decode_delta(&body)?;
        let horizon_seq = self.pins.horizon_seq();
        let record = self.records.add(entry, body.clone());
        for part in &delta.tables {
            let table = self.tables.read().get(part.table_id as usize).cloned();
            table
                .ok_or(Malformed("a delta of an unknown table"))?
                .apply(seq, record, part, horizon_seq)?;
        }
        if let Some(origin) = delta.origin {
            self.origins.advance(seq, origin, horizon_seq);
        }
        Ok(())
    }

    pub(crate) fn add_table(&self, state: TableState) -> Table {
        let state = Arc::new(state);
        self.tables.write().push(state.clone());
        Table { state }
    }

    pub(crate) fn add_pending(&self, record: PendingRecord) {
        self.pending.lock().push(record);
    }

    /// Takes a pending export to settle it. Who comes second gets an error: a log with two outcomes could not be read.
    pub(crate) fn take_pending(&self, record: &PendingRecord) -> Result<()> {
        let mut pending = self.pending.lock();
        let i = pending
            .iter()
            .position(|pending| pending.commit_id == record.commit_id && !pending.settling);
        let found = i.and_then(|i| pending.get_mut(i)).ok_or_else(|| {
            Error::Usage(format!(
                "table '{}': the export {} is settled already",
                record.table.name(),
                record.commit_id
            ))
        })?;
        found.settling = true;
        Ok(())
    }

    pub(crate) fn remove_pending(&self, commit_id: Uuid) {
        self.pending
            .lock()
            .retain(|record| record.commit_id != commit_id);
    }

    pub(crate) fn has_pending(&self, table: &Table) -> bool {
        self.pending
            .lock()
            .iter()
            .any(|record| record.table.id() == table.id())
    }
}

/// A table of a database.
#[derive(Clone, Debug)]
pub struct Table {
    pub(crate) state: Arc<TableState>,
}

impl Table {
    /// Its number in the database, from 0, in order of creation.
    pub fn id(&self) -> u32 {
        self.state.id
    }

    /// Its name, by convention `namespace.table`.
    pub fn name(&self) -> &str {
        self.state.schema.name()
    }

    /// Its columns and primary key.
    pub fn schema(&self) -> &Arc<TableSchema> {
        &self.state.schema
    }
}
