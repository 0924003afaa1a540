//! What the exporter and the maintenance beside it share: the database, the catalog, and what is known of each table.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use moonshine_engine::{Database, Table};
use parking_lot::Mutex;

use crate::catalog::{CatalogTable, TableCatalog};
use crate::config::{SettingsByTable, TableSettings};
use crate::environment::Environment;
use crate::manifest::ManifestCache;
use crate::ownership::Owner;

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) database: Database,
    pub(crate) catalog: Arc<dyn TableCatalog>,
    pub(crate) environment: Environment,
    pub(crate) owner: Owner,
    pub(super) epoch: AtomicU64,
    /// What is known of each table, by the engine's id of it.
    tables: Mutex<HashMap<u32, Arc<TableSlot>>>,
}

/// One table's place. Who holds the lock of its state is the only one of this process who commits to it.
#[derive(Debug, Default)]
pub(crate) struct TableSlot {
    /// The Iceberg table as of our last look; `None` where it is to be looked at anew.
    pub(crate) state: tokio::sync::Mutex<Option<TableState>>,
    /// Files that no snapshot needs any more, oldest first, each with when it may go, in milliseconds since 1970.
    pub(crate) unneeded: Mutex<VecDeque<(i64, String)>>,
    /// When orphans are looked for again, in milliseconds since 1970; `None` before the first thought of it.
    pub(crate) orphans_due_ms: Mutex<Option<i64>>,
}

#[derive(Debug)]
pub(crate) struct TableState {
    pub(crate) current: CatalogTable,
    pub(crate) manifests: ManifestCache,
}

impl TableState {
    pub(super) fn new(current: CatalogTable) -> Self {
        TableState {
            current,
            manifests: ManifestCache::default(),
        }
    }
}

impl Core {
    pub(super) fn new(
        database: Database,
        catalog: Arc<dyn TableCatalog>,
        settings: SettingsByTable,
        environment: Environment,
    ) -> Core {
        Core {
            owner: Owner {
                database_id: database.id(),
                settings,
            },
            database,
            catalog,
            environment,
            epoch: AtomicU64::new(0),
            tables: Mutex::default(),
        }
    }

    /// What a table is exported with.
    pub(crate) fn settings(&self, table: &Table) -> &TableSettings {
        self.owner.settings.of(table.name())
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    pub(crate) fn slot(&self, table: &Table) -> Arc<TableSlot> {
        self.tables.lock().entry(table.id()).or_default().clone()
    }
}
