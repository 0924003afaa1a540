//! The catalog, as a process sees it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use iceberg::TableIdent;
use iceberg::io::FileIO;
use moonshine_export::ExportError;
use moonshine_export::catalog::{
    CatalogTable, Change, CommitOutcome, Guard, NewTable, TableCatalog,
};
use uuid::Uuid;

use super::apply::new_metadata;
use super::network::{Climate, Commit, Create, Done, Fault, ProcessId, Request, Sending, Told};
use super::store::{SimulatedStore, Weather};
use super::{Lake, LakeTable};

/// The catalog of a lake.
#[derive(Debug)]
pub struct SimulatedCatalog {
    lake: Lake,
    guard: Guard,
    process: ProcessId,
    store: SimulatedStore,
    file_io: FileIO,
    /// Whether no look at a table is answered.
    pub is_down: AtomicBool,
    seeds: AtomicU64,
}

fn failed(text: impl Into<String>) -> ExportError {
    ExportError::Unavailable {
        place: "catalog".into(),
        reason: text.into(),
    }
}

impl SimulatedCatalog {
    /// That of a lake of its own, most of whose commits fare badly.
    pub fn new(guard: Guard, seed: u64) -> Arc<Self> {
        let lake = Lake::new(seed, Arc::new(super::SimulatedClock::default()));
        let catalog = Self::of(&lake, guard, 0);
        lake.set_climate(Climate {
            objects_permille: 0,
            ..Climate::ROUGH
        });
        catalog
            .seeds
            .store(seed.wrapping_mul(1 << 20), Ordering::SeqCst);
        catalog
    }

    /// The same, whose tables' files are in that store.
    pub fn with_files(guard: Guard, seed: u64, file_io: FileIO) -> Arc<Self> {
        let catalog = Arc::into_inner(Self::new(guard, seed)).expect("nobody else has it");
        Arc::new(SimulatedCatalog { file_io, ..catalog })
    }

    /// The catalog of a lake, for a process.
    pub fn of(lake: &Lake, guard: Guard, process: ProcessId) -> Arc<Self> {
        let store = SimulatedStore::of(lake.clone(), process);
        Arc::new(SimulatedCatalog {
            lake: lake.clone(),
            guard,
            process,
            file_io: store.file_io(),
            store,
            is_down: AtomicBool::new(false),
            seeds: AtomicU64::new(process),
        })
    }

    /// The lake.
    pub fn lake(&self) -> &Lake {
        &self.lake
    }

    /// From now on everything is answered, and what was on its way arrives.
    pub fn calm(&self) {
        self.lake.set_climate(Climate::CALM);
        self.disturb(false);
        self.lake.deliver_all();
    }

    /// Whether looks at tables fail now and then, and what is asked of the store.
    pub fn disturb(&self, is_disturbed: bool) {
        self.store.set(match is_disturbed {
            true => Weather::Rough,
            false => Weather::Calm,
        });
        let looks_permille = u64::from(is_disturbed) * Climate::ROUGH.looks_permille;
        let mut state = self.lake.shared.state.lock();
        state.network.climate.looks_permille = looks_permille;
    }

    /// The store of its tables' files.
    pub fn store(&self) -> &SimulatedStore {
        &self.store
    }

    /// Where its tables' files are.
    pub fn file_io(&self) -> &FileIO {
        &self.file_io
    }

    /// How often each fault happened to commits.
    pub fn seen(&self) -> BTreeMap<String, u32> {
        let mut seen = self.lake.seen();
        seen.retain(|name, _| !name.contains(' '));
        seen
    }

    /// A seed for somebody else's chances.
    pub fn next_seed(&self) -> u64 {
        self.seeds.fetch_add(1, Ordering::SeqCst) * 0x9E37_79B9 + 1
    }

    /// A table, without asking the catalog for it.
    pub fn look(&self, ident: &TableIdent) -> Option<CatalogTable> {
        let state = self.lake.shared.state.lock();
        let table = state.tables.get(&ident.to_string()).cloned();
        table.map(|table| self.shown(table))
    }

    /// Takes a table in that was dropped.
    pub fn put_back(&self, table: CatalogTable) {
        let name = table.ident.to_string();
        let mut state = self.lake.shared.state.lock();
        state.tables.insert(name, LakeTable::from(&table));
    }

    /// Says what becomes of the next commits, and whether the next looks at a table fail.
    pub fn plan(&self, faults: &[Fault], looks_fail: &[bool]) {
        let mut state = self.lake.shared.state.lock();
        state.network.next_faults.extend(faults);
        state.network.next_looks_fail.extend(looks_fail);
    }

    /// What was planned does not happen.
    pub fn forget_plans(&self) {
        let mut state = self.lake.shared.state.lock();
        state.network.next_faults.clear();
        state.network.next_looks_fail.clear();
    }

    /// Returns when a commit hangs.
    pub async fn hung(&self) {
        self.lake.shared.hung.rung().await;
    }

    fn shown(&self, table: LakeTable) -> CatalogTable {
        CatalogTable {
            ident: table.ident,
            metadata: table.metadata,
            metadata_location: table.metadata_location,
            file_io: self.file_io.clone(),
        }
    }

    fn is_dead(&self) -> bool {
        let state = self.lake.shared.state.lock();
        state.dead.contains(&self.process)
    }

    /// Sends a request; what its sender is told, if it is told anything.
    async fn send(&self, request: Request) -> Result<Done, Told> {
        self.lake.pass(self.process).await;
        if self.is_dead() {
            return Err(Told::Unknown("the process is gone"));
        }
        let now_ms = self.lake.shared.clock.now_ms();
        let sending = self.lake.shared.state.lock().send(&request, now_ms);
        let answer = match sending {
            Sending::Done(done) => Ok(done),
            Sending::Told(told) => Err(told),
            Sending::Awaited { id, at_ms } => Ok(self.lake.wait_for(id, at_ms).await),
            Sending::Never => {
                self.lake.shared.hung.ring();
                std::future::pending().await
            }
        };
        self.lake.pass(self.process).await;
        answer
    }
}

impl From<&CatalogTable> for LakeTable {
    fn from(table: &CatalogTable) -> Self {
        LakeTable {
            ident: table.ident.clone(),
            metadata: table.metadata.clone(),
            metadata_location: table.metadata_location.clone(),
        }
    }
}

#[async_trait]
impl TableCatalog for SimulatedCatalog {
    fn warehouse(&self) -> Option<&str> {
        Some("memory://warehouse")
    }

    fn guard(&self) -> Guard {
        self.guard
    }

    async fn list(&self) -> Result<Vec<TableIdent>, ExportError> {
        let state = self.lake.shared.state.lock();
        let tables = state.tables.values();
        Ok(tables.map(|table| table.ident.clone()).collect())
    }

    async fn load(&self, ident: &TableIdent) -> Result<Option<CatalogTable>, ExportError> {
        self.lake.pass(self.process).await;
        if self.is_down.load(Ordering::SeqCst) || self.is_dead() {
            return Err(failed("down"));
        }
        let now_ms = self.lake.shared.clock.now_ms();
        let mut state = self.lake.shared.state.lock();
        let fails = match state.network.next_looks_fail.pop_front() {
            Some(fails) => fails,
            None => {
                state.deliver_due(now_ms, now_ms);
                let permille = state.network.climate.looks_permille;
                permille > 0 && state.network.random.permille(permille)
            }
        };
        if fails {
            return Err(failed("not reached"));
        }
        let table = state.tables.get(&ident.to_string()).cloned();
        Ok(table.map(|table| self.shown(table)))
    }

    async fn create(
        &self,
        ident: &TableIdent,
        table: NewTable,
        id: Uuid,
    ) -> Result<CatalogTable, ExportError> {
        let create = Create {
            ident: ident.clone(),
            table,
            file_id: id,
        };
        match self.send(Request::Create(Box::new(create))).await {
            Ok(Done::Committed(table)) => Ok(self.shown(table)),
            Ok(Done::Refused(reason)) => Err(failed(reason)),
            Ok(Done::Conflict | Done::Stored) => Err(failed("it exists")),
            Err(_) => Err(failed("connection reset")),
        }
    }

    async fn commit(&self, base: &CatalogTable, change: &Change, id: Uuid) -> CommitOutcome {
        let commit = Commit {
            base: LakeTable::from(base),
            change: change.clone(),
            file_id: id,
            compares_location: self.guard == Guard::Metadata,
        };
        match self.send(Request::Commit(Box::new(commit))).await {
            Ok(Done::Committed(table)) => CommitOutcome::Committed(self.shown(table)),
            Ok(Done::Conflict) => CommitOutcome::Conflict,
            Ok(Done::Refused(reason)) => CommitOutcome::Refused(failed(reason)),
            Ok(Done::Stored) | Err(Told::OldTable) => CommitOutcome::Committed(base.clone()),
            Err(Told::Busy) => CommitOutcome::Busy {
                retry_after_ms: Some(10),
                error: failed("busy"),
            },
            Err(Told::Conflict) => CommitOutcome::Conflict,
            Err(Told::Refused) => CommitOutcome::Refused(failed("status 403")),
            Err(Told::Unknown(reason)) => CommitOutcome::Unknown(failed(reason)),
        }
    }

    async fn drop_table(&self, ident: &TableIdent) -> Result<bool, ExportError> {
        let mut state = self.lake.shared.state.lock();
        Ok(state.tables.remove(&ident.to_string()).is_some())
    }
}

impl super::State {
    /// Makes a table, unless there is one of that name.
    pub(super) fn create(&mut self, create: &Create, now_ms: i64) -> Done {
        if self.tables.contains_key(&create.ident.to_string()) {
            return Done::Conflict;
        }
        match new_metadata(&create.table, create.file_id, now_ms) {
            Ok(metadata) => {
                self.publish(&create.ident, metadata, create.file_id, Vec::new(), now_ms)
            }
            Err(error) => Done::Refused(error),
        }
    }
}
