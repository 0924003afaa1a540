//! The lake: an object store and a catalog in memory, and the network before them.
//!
//! All that is asked of them is a request to `network`, the one place of faults: a request may be lost, be late, come
//! twice, or be done without an answer. A request that is on its way outlives who sent it, and lands after a restart, an
//! abort or a take-over. `store` keeps objects and a journal of what became of them, `catalog` keeps tables, `apply` makes
//! their changes by a code of its own, and `foreign` is what other writers do to tables. Time passes by a [`Clock`] that is
//! given from outside; nothing here needs a particular executor.
//!
//! [`Clock`]: moonshine_export::environment::Clock

// A failure of a test's tool is the failure of the test.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::unwrap_used)]

mod apply;
mod catalog;
mod clock;
mod drop_after;
mod environment;
mod foreign;
mod gate;
mod network;
mod store;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use iceberg::TableIdent;
use iceberg::spec::TableMetadata;
use moonshine_export::environment::Clock;
use parking_lot::Mutex;

pub use self::catalog::SimulatedCatalog;
pub use self::clock::{InstantClock, Random, SeededIdentities, SimulatedClock, yield_once};
pub use self::drop_after::DropAfter;
pub use self::environment::{FiberWork, RunClock, environment, environment_with};
pub use self::foreign::Deed;
use self::network::{Bell, Network};
pub use self::network::{Climate, FAULTS, Fault, ProcessId};
use self::store::Stored;
pub use self::store::{Event, SimulatedStore, Weather};
use crate::replay::Objects;

/// A store and a catalog. Clones share it.
#[derive(Clone)]
pub struct Lake {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
    /// Rung by each commit that is never answered.
    hung: Bell,
}

#[derive(Default)]
struct State {
    network: Network,
    objects: BTreeMap<String, Stored>,
    /// Objects that were deleted: what was right to delete is decided later.
    gone: BTreeMap<String, Bytes>,
    journal: Vec<Event>,
    tables: BTreeMap<String, LakeTable>,
    /// Processes that died.
    dead: HashSet<ProcessId>,
    gate: gate::Gate,
    violations: Vec<String>,
    /// How often other writers did something.
    deeds: u64,
}

/// A table as the catalog has it.
#[derive(Clone, Debug)]
struct LakeTable {
    ident: TableIdent,
    metadata: Arc<TableMetadata>,
    metadata_location: String,
}

impl fmt::Debug for Lake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Lake").finish_non_exhaustive()
    }
}

impl Default for Lake {
    fn default() -> Self {
        Lake::new(1, Arc::new(SimulatedClock::default()))
    }
}

impl Lake {
    /// An empty lake whose faults follow from the seed, and whose time is that clock's.
    pub fn new(seed: u64, clock: Arc<dyn Clock>) -> Lake {
        let state = State {
            network: Network::new(seed),
            ..State::default()
        };
        Lake {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                clock,
                hung: Bell::default(),
            }),
        }
    }

    /// How often requests fare badly from now on.
    pub fn set_climate(&self, climate: Climate) {
        self.shared.state.lock().network.climate = climate;
    }

    /// From now on nothing that a process asks is answered or done; what it sent before stays on its way.
    pub fn kill(&self, process: ProcessId) {
        self.shared.state.lock().dead.insert(process);
    }

    /// Everything that is on its way arrives.
    pub fn deliver_all(&self) {
        let now_ms = self.shared.clock.now_ms();
        self.shared.state.lock().deliver_due(i64::MAX, now_ms);
    }

    /// How many requests are on their way.
    pub fn on_the_way_count(&self) -> usize {
        self.shared.state.lock().network.on_the_way.len()
    }

    /// How often each fault happened.
    pub fn seen(&self) -> BTreeMap<String, u32> {
        self.shared.state.lock().network.seen.clone()
    }

    /// The newest metadata file of each table.
    pub fn tables(&self) -> Vec<(TableIdent, String)> {
        let state = self.shared.state.lock();
        let tables = state.tables.values();
        tables
            .map(|table| (table.ident.clone(), table.metadata_location.clone()))
            .collect()
    }

    /// The journal's events from that number on.
    pub fn journal_from(&self, number: usize) -> Vec<Event> {
        let state = self.shared.state.lock();
        state.journal.iter().skip(number).cloned().collect()
    }

    /// What was done that nobody may do.
    pub fn violations(&self) -> Vec<String> {
        self.shared.state.lock().violations.clone()
    }

    /// The objects, with those that were deleted.
    pub fn with_deleted(&self) -> WithDeleted {
        WithDeleted(self.clone())
    }

    /// The names of all objects that are there.
    pub fn keys(&self) -> BTreeSet<String> {
        self.shared.state.lock().objects.keys().cloned().collect()
    }

    /// Puts an object by hand, whatever is there.
    pub fn put_by_hand(&self, key: &str, bytes: Bytes) {
        let stored = Stored { bytes };
        self.shared
            .state
            .lock()
            .objects
            .insert(key.to_owned(), stored);
    }
}

impl Objects for Lake {
    fn object(&self, key: &str) -> Option<Bytes> {
        let state = self.shared.state.lock();
        state.objects.get(key).map(|stored| stored.bytes.clone())
    }
}

/// The objects of a lake, with those that were deleted.
#[derive(Clone, Debug)]
pub struct WithDeleted(Lake);

impl Objects for WithDeleted {
    fn object(&self, key: &str) -> Option<Bytes> {
        let found = self.0.object(key);
        found.or_else(|| self.0.shared.state.lock().gone.get(key).cloned())
    }
}
