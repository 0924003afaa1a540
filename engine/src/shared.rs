//! What readers, writers and the committer of a database share.

use std::sync::Arc;

use uuid::Uuid;

use crate::backpressure::Backpressure;
use crate::cache::generations::{Frozen, Generations};
use crate::cache::pins::Pins;
use crate::cache::readers::Readers;
use crate::codec::{Malformed, len_u32};
use crate::error::{Error, Result};
use crate::facts::{Facts, Untaken};
use crate::generation::LOCATIONS_BIT;
use crate::io::Io;
use crate::layout::Layout;
use crate::log::delta::decode_delta;
use crate::log::fact::decode_table;
use crate::log::format::{RecordHeader, RecordKind};
use crate::log::read_back::LogReader;
use crate::log::segment::SegmentWriter;
use crate::log::segments::LogSegments;
use crate::manifest::Manifest;
use crate::origins::Origins;
use crate::profile::StoredProfile;
use crate::queue::commit_queue::CommitQueue;
use crate::raw::Trimming;
use crate::row_set::budget::{Charge, MemoryBudget};
use crate::schedule::{Depth, Scheduler};
use crate::statistics::counters::Counters;
use crate::sync::{Mutex, RwLock};
use crate::table::Table;
use crate::tree::files::HeldRowSet;
use crate::tree::growth::TreeSizes;
use crate::tree::loaded::LoadedRows;
use crate::tree::state::TableTree;
use crate::tree::store::TreeStore;
use crate::tree::table::TableState;

/// The part of the memory budget that the keys of one prepared export may take. The least is for budgets that only tests have.
const EXPORT_KEYS_SHARE: u64 = 1024;
const EXPORT_KEYS_SIZE_BYTES_MIN: usize = 64;
const EXPORT_KEYS_SIZE_BYTES_MAX: usize = 16 << 20;

/// What readers, writers and the committer share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) database_id: Uuid,
    pub(crate) shard_bits: u32,
    pub(crate) profile: StoredProfile,
    pub(crate) layout: Layout,
    pub(crate) read_only: bool,
    pub(crate) tables: RwLock<Vec<Arc<TableState>>>,
    pub(crate) segments: LogSegments,
    pub(crate) generations: Generations,
    pub(crate) facts: Facts,
    pub(crate) io: Arc<dyn Io>,
    pub(crate) counters: Counters,
    pub(crate) backpressure: Backpressure,
    pub(crate) store: TreeStore,
    pub(crate) tree_sizes: TreeSizes,
    pub(crate) scheduler: Scheduler,
    pub(crate) pins: Pins,
    pub(crate) readers: Readers,
    pub(crate) origins: Origins,
    pub(crate) queue: CommitQueue,
    pub(crate) memory_parts: MemoryParts,
    /// `None` in a database that is read-only or closed.
    pub(crate) log_writer: Mutex<Option<SegmentWriter>>,
    /// Held by who syncs the log beside its writer; taken before the writer.
    pub(crate) log_sync: Mutex<()>,
}

/// Consumers of memory that are counted by themselves.
#[derive(Debug)]
pub(crate) struct MemoryParts {
    pub(crate) transactions: Arc<MemoryBudget>,
    /// Flushes and compactions.
    pub(crate) background: Arc<MemoryBudget>,
    trimming: Trimming,
}

impl Shared {
    /// The state of a database whose log was not read yet.
    pub(crate) fn new(
        manifest: Manifest,
        layout: Layout,
        read_only: bool,
        parts: (Arc<dyn Io>, Counters, TreeStore),
        sizes: (TreeSizes, Generations),
    ) -> Self {
        let (io, counters, store) = parts;
        let (tree_sizes, generations) = sizes;
        let budget = store.cache.budget();
        let memory_parts = MemoryParts {
            transactions: MemoryBudget::part_of(budget),
            background: MemoryBudget::part_of(budget),
            trimming: Trimming::default(),
        };
        let queue = CommitQueue::new(manifest.database_id, 0, &layout, budget);
        let export_keys_size_bytes_max = budget.share(
            EXPORT_KEYS_SHARE,
            EXPORT_KEYS_SIZE_BYTES_MIN,
            EXPORT_KEYS_SIZE_BYTES_MAX,
        );
        Shared {
            database_id: manifest.database_id,
            shard_bits: manifest.shard_bits,
            profile: manifest.profile,
            layout,
            read_only,
            tables: RwLock::default(),
            segments: LogSegments::default(),
            generations,
            facts: Facts::new(export_keys_size_bytes_max),
            io,
            counters,
            backpressure: Backpressure::default(),
            store,
            tree_sizes,
            scheduler: Scheduler::default(),
            pins: Pins::default(),
            readers: Readers::default(),
            origins: Origins::default(),
            queue,
            memory_parts,
            log_writer: Mutex::default(),
            log_sync: Mutex::default(),
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

    /// Checks that a table is of this database, and was not changed since it was taken.
    pub(crate) fn check_current(&self, table: &Table) -> Result<()> {
        self.check_table(table)?;
        if table.is_outdated() {
            return Err(table.changed());
        }
        Ok(())
    }

    /// Takes a record that is logged, in the order of the log. A delta's rows are not yet visible.
    pub(crate) fn apply(
        &self,
        block_number: u64,
        header: RecordHeader,
        body: &Arc<[u8]>,
    ) -> Result<(), Untaken> {
        match header.kind {
            RecordKind::Delta => self.apply_delta(header.seq, body)?,
            RecordKind::Table => {
                let (id, schema) = decode_table(body)?;
                if id as usize != self.tables.read().len() {
                    return Err(Malformed("a table is missing before this one").into());
                }
                self.add_table(TableState::new(self.database_id, id, schema));
            }
            RecordKind::TableAltered => self.apply_alter(header.seq, body)?,
            RecordKind::ExportKeys => self.facts.keys(block_number, body.clone())?,
            RecordKind::ExportPrepared => {
                let table = |id| self.table_state(id);
                self.facts.prepared(block_number, body, false, table)?;
            }
            RecordKind::ExportResolved => self.resolve(body, false)?,
        }
        Ok(())
    }

    /// Takes the outcome of an export. With `contained`, the tree has its locations already.
    pub(crate) fn resolve(&self, body: &[u8], contained: bool) -> Result<(), Untaken> {
        let active = self.generations.active();
        (self.facts).resolved(body, &active, self.log_reader(), contained)
    }

    /// The log, to be read again.
    pub(crate) fn log_reader(&self) -> LogReader<'_> {
        LogReader {
            segments: &self.segments,
            database_id: self.database_id,
        }
    }

    fn apply_alter(&self, seq: u64, body: &[u8]) -> Result<(), Malformed> {
        let (id, schema) = decode_table(body)?;
        let table = self
            .table_state(id)
            .ok_or(Malformed("an unknown table was changed"))?;
        // A flush may have taken a later version below level 0 than it took deltas.
        let known = table.schema().version();
        if schema.version() > known + 1 {
            return Err(Malformed("a version of a table's schema is missing"));
        }
        if schema.version() == known + 1 {
            table.set_schema(schema.since(seq));
        }
        Ok(())
    }

    fn apply_delta(&self, seq: u64, body: &Arc<[u8]>) -> Result<(), Malformed> {
        let delta = decode_delta(body)?;
        let active = self.generations.active();
        let number = active.add_body(body.clone());
        let number = number.ok_or(Malformed("a generation holds at most 2^32 records"))?;
        for part in &delta.tables {
            if part.table_id as usize >= self.tables.read().len() {
                return Err(Malformed("a delta of an unknown table"));
            }
            active.write(seq, number, part)?;
        }
        if let Some(origin) = delta.origin {
            self.origins.advance(seq, origin, self.pins.horizon_seq());
        }
        Ok(())
    }

    /// Goes on in a new generation if the active one is full. Called between two blocks, by who replays.
    pub(crate) fn freeze_if_full(&self, block_number: u64) {
        if self.generations.is_full() {
            self.freeze(block_number);
        }
    }

    /// Goes on in a new generation, unless the active one holds no delta: RowSets need a commit sequence of their own.
    pub(crate) fn freeze(&self, block_number: u64) {
        self.freeze_at(self.pins.visible_seq(), block_number, None);
    }

    /// Goes on in a new generation after a commit sequence; with what a bulk load wrote at that sequence.
    pub(crate) fn freeze_at(&self, seq_to: u64, block_number: u64, load: Option<Arc<LoadedRows>>) {
        let generation = self.generations.active();
        let needed = self.facts.first_block_number();
        let needed = needed.map_or(block_number + 1, |first| first.min(block_number + 1));
        let Some(log_start) = self.segments.start_of(needed) else {
            return;
        };
        if seq_to <= generation.seq_from() {
            return;
        }
        let tables = self.tables.read();
        self.generations.freeze(Frozen {
            generation,
            seq_to,
            block_number,
            log_start,
            exports: tables
                .iter()
                .map(|table| table.exports.load_full())
                .collect(),
            origins: self.origins.at(seq_to),
            load,
        });
    }

    /// Has the trees of all tables looked at for compactions.
    pub(crate) fn look_at_all(&self, depth: Depth) {
        let table_count = len_u32(self.tables.read().len());
        self.scheduler.look_at(0..table_count, depth);
    }

    /// Has what is worth it while nobody writes done at once, if nobody wrote after a commit.
    pub(crate) fn rest(&self, seq: u64) {
        let table_count = len_u32(self.tables.read().len());
        self.scheduler.rest(0..table_count, seq);
    }

    /// The fragments of a table, or of its locations, as they are now.
    pub(crate) fn tree_of(&self, table_id: u32) -> Option<Arc<TableTree<Arc<HeldRowSet>>>> {
        let trees = self
            .table_state(table_id & !LOCATIONS_BIT)?
            .trees
            .load_full();
        Some(if table_id & LOCATIONS_BIT == 0 {
            trees.rows.clone()
        } else {
            trees.locations.clone()
        })
    }

    /// Ends the flushes and compactions, as soon as they can.
    pub(crate) fn stop_background(&self) {
        self.generations.stop();
        self.scheduler.stop();
    }

    /// Has pages go where others took more memory than there is, and then those that scans hold.
    pub(crate) fn keep_to_budget(&self) {
        if !self.store.cache.make_room(0) {
            self.readers.let_go_at_times();
        }
    }

    /// Takes memory for work in the background, whether there is room for it or not; pages go for it.
    pub(crate) fn charge(&self, size_bytes: u64) -> Charge {
        self.store.cache.make_room(size_bytes);
        self.memory_parts.background.charge(size_bytes)
    }

    /// Gives the system what work in the background left free.
    pub(crate) fn give_memory_back(&self) {
        self.store.cache.give_back_scattered();
        let is_busy = !self.scheduler.is_settled() || self.generations.is_flushing();
        self.memory_parts.trimming.trim(self.io.now(), is_busy);
    }

    /// The share of the memory budget that is held by what time makes smaller: generations, and work in the background.
    pub(crate) fn memory_held_share(&self) -> f64 {
        let background = &self.memory_parts.background;
        let held = self.generations.held_bytes() + background.used_bytes();
        held as f64 / self.store.cache.budget().limit_bytes().max(1) as f64
    }

    /// The table of that number.
    pub(crate) fn table_state(&self, id: u32) -> Option<Arc<TableState>> {
        self.tables.read().get(id as usize).cloned()
    }

    /// The commit sequences between which rows of a table must stay apart: those that readers hold, that it was exported
    /// at, and that an export of it may turn out to be. To be asked for after the rows that are to be rewritten were
    /// chosen: what is pinned later lies behind all of them.
    pub(crate) fn boundaries(&self, table_id: u32) -> Vec<u64> {
        // What a bulk load puts into the tree is not visible yet. Before the pins: who pins later pins this or more.
        let visible_seq = self.pins.visible_seq();
        // In the order in which an export's sequence moves on, so that it is not missed.
        let mut seqs = self.pins.pinned();
        seqs.push(visible_seq);
        let pending = self.facts.pending();
        let of_table = pending.iter().filter(|record| record.table.id == table_id);
        seqs.extend(of_table.map(|record| record.to_seq));
        let exported = self
            .table_state(table_id)
            .and_then(|table| table.exported());
        seqs.extend(exported.map(|exported| exported.seq));
        seqs.sort_unstable();
        seqs.dedup();
        seqs
    }

    pub(crate) fn add_table(&self, state: TableState) {
        self.tables.write().push(Arc::new(state));
    }

    pub(crate) fn has_pending(&self, table: &Table) -> bool {
        let pending = self.facts.pending();
        pending.iter().any(|record| record.table.id == table.id())
    }
}
