//! One table: its schema, its fragments, and how far it was exported.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;
use uuid::Uuid;

use crate::exported::Exported;
use crate::exported::files::Exports;
use crate::log::fact::encode_table;
use crate::schema::TableSchema;
use crate::sharding::Sharding;
use crate::sync::{Mutex, RwLock};
use crate::tree::files::HeldRowSet;
use crate::tree::state::TableTree;

/// The fragments of a table and of the locations of its exported rows.
#[derive(Clone, Debug)]
pub(crate) struct Trees {
    pub(crate) rows: Arc<TableTree<Arc<HeldRowSet>>>,
    pub(crate) locations: Arc<TableTree<Arc<HeldRowSet>>>,
}

impl Trees {
    fn new(schema: &TableSchema) -> Self {
        let tree = || Arc::new(TableTree::new(Sharding::new(schema)));
        Trees {
            rows: tree(),
            locations: tree(),
        }
    }
}

/// What a table is.
#[derive(Debug)]
struct Definition {
    schema: Arc<TableSchema>,
    /// What the log says of it.
    record: Arc<[u8]>,
}

#[derive(Debug)]
pub(crate) struct TableState {
    pub(crate) database_id: Uuid,
    pub(crate) id: u32,
    definition: ArcSwap<Definition>,
    pub(crate) trees: ArcSwap<Trees>,
    /// The most RowSets of one of its fragments.
    pub(crate) row_sets_max: AtomicU64,
    /// Changed when the locations of an export are in the DeltaCache, so who reads the same before and after it took the
    /// generations has the locations that belong to it.
    pub(crate) exports: ArcSwap<Exports>,
    /// Held by who shows readers the exports together with a tree that has the locations, and by readers of both.
    pub(crate) publishing: RwLock<()>,
    /// Whether an export is in flight.
    pub(crate) exporting: Mutex<bool>,
}

impl Definition {
    fn new(id: u32, schema: TableSchema) -> Self {
        Definition {
            record: encode_table(id, &schema).into(),
            schema: Arc::new(schema),
        }
    }
}

impl TableState {
    pub(crate) fn new(database_id: Uuid, id: u32, schema: TableSchema) -> Self {
        TableState {
            database_id,
            id,
            trees: ArcSwap::from_pointee(Trees::new(&schema)),
            definition: ArcSwap::from_pointee(Definition::new(id, schema)),
            row_sets_max: AtomicU64::new(0),
            exports: ArcSwap::default(),
            publishing: RwLock::default(),
            exporting: Mutex::new(false),
        }
    }

    /// Its schema as it is now.
    pub(crate) fn schema(&self) -> Arc<TableSchema> {
        self.definition.load().schema.clone()
    }

    /// What the log says of it now.
    pub(crate) fn record(&self) -> Arc<[u8]> {
        self.definition.load().record.clone()
    }

    /// Takes the next version of the schema. The name and the key's bytes are the same.
    pub(crate) fn set_schema(&self, schema: TableSchema) {
        let definition = Definition::new(self.id, schema);
        self.definition.store(Arc::new(definition));
    }

    pub(crate) fn exported(&self) -> Option<Exported> {
        self.exports.load().base.clone()
    }
}
