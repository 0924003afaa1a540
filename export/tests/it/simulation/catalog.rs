//! A catalog in memory whose faults are chosen by a seed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use async_trait::async_trait;
use iceberg::io::FileIO;
use iceberg::spec::TableMetadataBuilder;
use iceberg::{TableIdent, TableUpdate};
use moonshine_export::ExportError;
use moonshine_export::catalog::{
    CatalogTable, Change, CommitOutcome, Guard, NewTable, TableCatalog,
};
use moonshine_export::environment::{Clock, Identities};
use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

use super::store::{SimulatedStore, Weather};
use crate::ownership::rollback;
use crate::support::Random;

/// A clock that does not wait. Each look at it is a millisecond after the one before, whoever looks.
#[derive(Debug)]
pub(crate) struct InstantClock;

static LOOKS: AtomicI64 = AtomicI64::new(0);

#[async_trait]
impl Clock for InstantClock {
    fn now_ms(&self) -> i64 {
        1_700_000_000_000 + LOOKS.fetch_add(1, Ordering::SeqCst)
    }

    async fn pause(&self, _: u64) {
        tokio::task::yield_now().await;
    }
}

/// What a catalog does with a commit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    None,
    /// 429: not now.
    Busy,
    /// 409, though nothing changed.
    SpuriousConflict,
    /// A proxy sends it twice: the first copy holds the table's lock for long, the second one is answered 409.
    LateConflict,
    /// 403, and it did not take place.
    Refused,
    /// 500, and it did not take place.
    FailedUnseen,
    /// 200 with the table as it was, as from a cache, and it did not take place.
    Ignored,
    /// It takes place, and the answer shows the table as it was.
    OldAnswer,
    /// It takes place, and the answer is lost.
    LostAnswer,
    /// A proxy sends it twice and passes on the second answer.
    SentTwice,
    /// It is on its way for long, and arrives when others came before.
    Late,
    /// It is on its way for long, and somebody rolls the table back meanwhile.
    RolledBack,
    /// It takes place, and a copy of it arrives later.
    Echo,
    /// Somebody sets a property first.
    Disturbed,
    /// Nothing is answered for ever; it did not take place. The caller is to die meanwhile.
    HangBefore,
    /// The same, but it did take place.
    HangAfter,
}

pub(crate) const FAULTS: [Fault; 13] = [
    Fault::None,
    Fault::Busy,
    Fault::SpuriousConflict,
    Fault::LateConflict,
    Fault::Refused,
    Fault::FailedUnseen,
    Fault::Ignored,
    Fault::OldAnswer,
    Fault::LostAnswer,
    Fault::SentTwice,
    Fault::Late,
    Fault::Echo,
    Fault::Disturbed,
];

/// Identities that a seed makes, so that a history can be replayed.
#[derive(Debug)]
pub(crate) struct SeededIdentities(Mutex<Random>);

impl SeededIdentities {
    pub(crate) fn new(seed: u64) -> Self {
        SeededIdentities(Mutex::new(Random(seed)))
    }
}

impl Identities for SeededIdentities {
    fn uuid(&self) -> Uuid {
        let mut random = self.0.lock();
        Uuid::from_u64_pair(random.next(), random.next())
    }
}

/// A catalog in memory.
#[derive(Debug)]
pub(crate) struct SimulatedCatalog {
    guard: Guard,
    store: SimulatedStore,
    file_io: FileIO,
    state: Mutex<State>,
    is_calm: AtomicBool,
    /// Whether every look at a table is answered.
    is_reachable: AtomicBool,
    /// Whether no look at a table is answered.
    pub(crate) is_down: AtomicBool,
    seeds: AtomicU64,
    /// Told of each commit that hangs.
    pub(crate) hung: Notify,
}

#[derive(Debug)]
struct State {
    random: Random,
    tables: BTreeMap<String, CatalogTable>,
    on_the_way: Vec<(CatalogTable, Change, Uuid)>,
    /// How often each fault happened.
    seen: BTreeMap<String, u32>,
    /// The faults of the next commits, before chance decides.
    next_faults: VecDeque<Fault>,
    /// Whether the next looks at a table fail, before chance decides.
    next_looks_fail: VecDeque<bool>,
}

fn failed(text: &str) -> ExportError {
    ExportError::Unavailable {
        place: "catalog".into(),
        reason: text.into(),
    }
}

impl State {
    fn apply(
        &mut self,
        guard: Guard,
        base: &CatalogTable,
        change: &Change,
        id: Uuid,
    ) -> CommitOutcome {
        let Some(current) = self.tables.get(&base.ident.to_string()) else {
            return CommitOutcome::Refused(failed("status 404"));
        };
        let is_base = current.metadata_location == base.metadata_location;
        if !change.may_follow(&current.metadata) || (guard == Guard::Metadata && !is_base) {
            return CommitOutcome::Conflict;
        }
        let next = CatalogTable {
            metadata: Arc::new(change.apply(current).unwrap().metadata),
            metadata_location: format!("{id}"),
            ..current.clone()
        };
        self.tables.insert(base.ident.to_string(), next.clone());
        CommitOutcome::Committed(next)
    }

    fn arrive(&mut self, guard: Guard) {
        for (base, change, id) in std::mem::take(&mut self.on_the_way) {
            if self.random.below(4) == 0 {
                self.apply(guard, &base, &change, id);
            } else {
                self.on_the_way.push((base, change, id));
            }
        }
    }
}

impl SimulatedCatalog {
    pub(crate) fn new(guard: Guard, seed: u64) -> Arc<Self> {
        let store = SimulatedStore::default();
        let file_io = store.file_io();
        Self::over(guard, seed, store, file_io)
    }

    /// One whose tables' files are in that store.
    pub(crate) fn with_files(guard: Guard, seed: u64, file_io: FileIO) -> Arc<Self> {
        Self::over(guard, seed, SimulatedStore::default(), file_io)
    }

    fn over(guard: Guard, seed: u64, store: SimulatedStore, file_io: FileIO) -> Arc<Self> {
        Arc::new(SimulatedCatalog {
            guard,
            file_io,
            store,
            state: Mutex::new(State {
                random: Random(seed),
                tables: BTreeMap::new(),
                on_the_way: Vec::new(),
                seen: BTreeMap::new(),
                next_faults: VecDeque::new(),
                next_looks_fail: VecDeque::new(),
            }),
            is_calm: AtomicBool::new(false),
            is_reachable: AtomicBool::new(false),
            is_down: AtomicBool::new(false),
            seeds: AtomicU64::new(seed.wrapping_mul(1 << 20)),
            hung: Notify::new(),
        })
    }

    /// From now on everything is answered, and what was on its way arrives.
    pub(crate) fn calm(&self) {
        self.is_calm.store(true, Ordering::SeqCst);
        self.disturb(false);
        let mut state = self.state.lock();
        for (base, change, id) in std::mem::take(&mut state.on_the_way) {
            state.apply(self.guard, &base, &change, id);
        }
    }

    /// Whether looks at tables fail now and then, and what is asked of the store.
    pub(crate) fn disturb(&self, is_disturbed: bool) {
        self.is_reachable.store(!is_disturbed, Ordering::SeqCst);
        self.store.set(match is_disturbed {
            true => Weather::Rough,
            false => Weather::Calm,
        });
    }

    /// The store of its tables' files.
    pub(crate) fn store(&self) -> &SimulatedStore {
        &self.store
    }

    /// Where its tables' files are.
    pub(crate) fn file_io(&self) -> &FileIO {
        &self.file_io
    }

    /// How often each fault happened.
    pub(crate) fn seen(&self) -> BTreeMap<String, u32> {
        self.state.lock().seen.clone()
    }

    /// A seed for somebody else's chances.
    pub(crate) fn next_seed(&self) -> u64 {
        self.seeds.fetch_add(1, Ordering::SeqCst) * 0x9E37_79B9 + 1
    }

    /// A table, without asking the catalog for it.
    pub(crate) fn look(&self, ident: &TableIdent) -> Option<CatalogTable> {
        self.state.lock().tables.get(&ident.to_string()).cloned()
    }

    /// Takes a table in that was dropped.
    pub(crate) fn put_back(&self, table: CatalogTable) {
        let name = table.ident.to_string();
        self.state.lock().tables.insert(name, table);
    }

    /// Says what becomes of the next commits, and whether the next looks at a table fail.
    pub(crate) fn plan(&self, faults: &[Fault], looks_fail: &[bool]) {
        let mut state = self.state.lock();
        state.next_faults.extend(faults);
        state.next_looks_fail.extend(looks_fail);
    }

    /// What was planned does not happen.
    pub(crate) fn forget_plans(&self) {
        let mut state = self.state.lock();
        state.next_faults.clear();
        state.next_looks_fail.clear();
    }

    fn fault(&self, state: &mut State) -> Fault {
        if let Some(fault) = state.next_faults.pop_front() {
            return fault;
        }
        if self.is_calm.load(Ordering::SeqCst) || state.random.below(3) == 0 {
            return Fault::None;
        }
        let fault = FAULTS[state.random.below(FAULTS.len() as u64) as usize];
        *state.seen.entry(format!("{fault:?}")).or_default() += 1;
        fault
    }

    /// What becomes of a commit; `None` if that is never told.
    fn answer(&self, base: &CatalogTable, change: &Change, id: Uuid) -> Option<CommitOutcome> {
        let mut state = self.state.lock();
        if state.next_faults.is_empty() {
            state.arrive(self.guard);
        }
        let fault = self.fault(&mut state);
        match fault {
            Fault::Busy => {
                return Some(CommitOutcome::Busy {
                    retry_after_ms: Some(10),
                    error: failed("busy"),
                });
            }
            Fault::SpuriousConflict => return Some(CommitOutcome::Conflict),
            Fault::LateConflict => {
                state.on_the_way.push((base.clone(), change.clone(), id));
                return Some(CommitOutcome::Conflict);
            }
            Fault::Refused => return Some(CommitOutcome::Refused(failed("status 403"))),
            Fault::Ignored => return Some(CommitOutcome::Committed(base.clone())),
            Fault::FailedUnseen => return Some(CommitOutcome::Unknown(failed("status 500"))),
            Fault::Late => {
                state.on_the_way.push((base.clone(), change.clone(), id));
                return Some(CommitOutcome::Unknown(failed("timed out")));
            }
            Fault::RolledBack => {
                state.on_the_way.push((base.clone(), change.clone(), id));
                let current = state.tables[&base.ident.to_string()].clone();
                let change = rollback(&current);
                state.apply(self.guard, &current, &change, Uuid::new_v4());
                return Some(CommitOutcome::Unknown(failed("timed out")));
            }
            Fault::HangBefore => return None,
            Fault::Disturbed => {
                let current = state.tables[&base.ident.to_string()].clone();
                let updates = [("owner".to_owned(), format!("{id}"))].into();
                let updates = vec![TableUpdate::SetProperties { updates }];
                let change = Change::of(&current.metadata, updates);
                state.apply(self.guard, &current, &change, Uuid::new_v4());
            }
            _ => {}
        }
        let outcome = state.apply(self.guard, base, change, id);
        Some(match fault {
            Fault::HangAfter => return None,
            Fault::LostAnswer => CommitOutcome::Unknown(failed("connection reset")),
            Fault::OldAnswer => CommitOutcome::Committed(base.clone()),
            Fault::SentTwice => state.apply(self.guard, base, change, id),
            Fault::Echo => {
                state.on_the_way.push((base.clone(), change.clone(), id));
                outcome
            }
            _ => outcome,
        })
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
        let state = self.state.lock();
        Ok(state
            .tables
            .values()
            .map(|table| table.ident.clone())
            .collect())
    }

    async fn load(&self, ident: &TableIdent) -> Result<Option<CatalogTable>, ExportError> {
        if self.is_down.load(Ordering::SeqCst) {
            return Err(failed("down"));
        }
        let mut state = self.state.lock();
        if let Some(fails) = state.next_looks_fail.pop_front() {
            let table = state.tables.get(&ident.to_string()).cloned();
            return if fails {
                Err(failed("not reached"))
            } else {
                Ok(table)
            };
        }
        state.arrive(self.guard);
        let may_fail = !self.is_reachable.load(Ordering::SeqCst);
        if may_fail && state.random.below(8) == 0 {
            return Err(failed("not reached"));
        }
        Ok(state.tables.get(&ident.to_string()).cloned())
    }

    async fn create(
        &self,
        ident: &TableIdent,
        table: NewTable,
        id: Uuid,
    ) -> Result<CatalogTable, ExportError> {
        let location = table.location.clone().unwrap();
        let builder = TableMetadataBuilder::new(
            table.schema,
            table.partition_spec,
            table.sort_order,
            location,
            table.format_version,
            table.properties,
        );
        let table = CatalogTable {
            ident: ident.clone(),
            metadata: Arc::new(builder.unwrap().build().unwrap().metadata),
            metadata_location: format!("{id}"),
            file_io: self.file_io.clone(),
        };
        let mut state = self.state.lock();
        if state.tables.contains_key(&ident.to_string()) {
            return Err(failed("it exists"));
        }
        let fault = match self.is_calm.load(Ordering::SeqCst) {
            true => 0,
            false => state.random.below(4),
        };
        if fault == 1 {
            return Err(failed("status 500"));
        }
        state.tables.insert(ident.to_string(), table.clone());
        match fault {
            2 => Err(failed("connection reset")),
            _ => Ok(table),
        }
    }

    async fn commit(&self, base: &CatalogTable, change: &Change, id: Uuid) -> CommitOutcome {
        match self.answer(base, change, id) {
            Some(outcome) => outcome,
            None => {
                self.hung.notify_one();
                std::future::pending().await
            }
        }
    }

    async fn drop_table(&self, ident: &TableIdent) -> Result<bool, ExportError> {
        Ok(self
            .state
            .lock()
            .tables
            .remove(&ident.to_string())
            .is_some())
    }
}
