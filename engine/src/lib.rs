//! The Moonshine engine: an embedded store for tables with a primary key.
//!
//! A [`Transaction`] gathers writes to any number of tables and becomes one delta. `commit` has the `log` make it durable,
//! together with the deltas of concurrent commits; the `cache` holds the newest deltas in memory, in `generation`s; the work
//! in the `background` takes them into the fragment `tree`, as `row_set`s of a table's fragments, and compacts those. `read`
//! makes one table of all that again, at any commit sequence that a [`Snapshot`] holds; `codec` is the bytes of keys and
//! rows. [`Changes`] and [`Export`] tell an exporter what changed since it last came, and remember where it put each
//! row. What a new database is laid out from, and how, is the [`Layout`]. All access to files goes through [`io`]. The
//! modules stand on each other in one order: docs/ARCHITECTURE.md.
//!
//! ```
//! use moonshine_engine::{ColumnType, Database, Options, Scan, TableSchema, Value};
//!
//! # let folder = tempfile::tempdir()?;
//! let database = Database::open(folder.path(), Options::unmeasured())?;
//! let schema = TableSchema::builder("shop.orders")
//!     .column("id", ColumnType::Int64, false)
//!     .column("note", ColumnType::Utf8, true)
//!     .primary_key(["id"])
//!     .build()?;
//! let orders = database.create_table(schema)?;
//!
//! let mut transaction = database.begin();
//! transaction.upsert(&orders, vec![Value::Int64(1), Value::Utf8("gift".into())])?;
//! transaction.upsert(&orders, vec![Value::Int64(2), Value::Null])?;
//! transaction.commit()?;
//!
//! let snapshot = database.snapshot();
//! assert_eq!(snapshot.row_count(&orders)?, 2);
//! for batch in snapshot.scan(&orders, Scan::default())? {
//!     assert_eq!(batch?.num_columns(), 2);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod background;
mod backpressure;
mod backup;
mod bulk_load;
mod cache;
mod check;
mod codec;
mod commit;
mod counting;
mod database;
mod deletes;
mod error;
mod export;
mod exported;
mod facts;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod generation;
pub mod io;
mod key_range;
mod keyspace;
mod layout;
mod load;
mod log;
mod manifest;
#[cfg(moonshine_models)]
#[doc(hidden)]
pub mod models;
mod multi_get;
mod open;
mod options;
mod origins;
mod parallel;
mod predicate;
mod profile;
mod queue;
mod raw;
mod read;
mod recovery;
mod replay;
#[doc(hidden)]
pub mod row_set;
mod scan_parts;
mod schedule;
mod schema;
#[cfg(feature = "serde")]
mod serde_rows;
mod sharding;
mod shared;
mod snapshot;
mod space;
mod statistics;
mod sync;
mod table;
mod transaction;
mod tree;
mod value;

pub use backup::Backup;
pub use bulk_load::{BulkLoad, KeyspaceLoad};
pub use check::{Check, Problem};
pub use database::Database;
pub use database::evolution::SchemaChange;
pub use error::{Error, Result};
pub use export::{
    Changes, Export, FileKeys, PendingExport, Relocation, RemovedRows, Replaced, ReplacedReader,
};
pub use exported::{ExportFile, Exported, Placement};
pub use key_range::KeyBounds;
pub use keyspace::{
    Batch, CompareAndSwapError, Keyspace, KeyspaceOptions, KeyspaceSnapshot, KeyspaceTransaction,
    PairCursor, PairScan, Pairs, Slice,
};
pub use layout::{Layout, LayoutNumber, ProfileChoice, Unit};
pub use log::segments::LogSegment;
pub use multi_get::FoundRows;
pub use options::Options;
pub use origins::Origin;
pub use predicate::KeyPredicate;
pub use profile::{Provenance, StoredProfile};
pub use queue::commit_queue::Durability;
pub use raw::limit_allocator;
pub use row_set::page::PageKind;
pub use row_set::stats::{PageCacheStats, PageKindStats};
pub use schema::{
    CELL_SIZE_BYTES_MAX, COLUMN_COUNT_MAX, COMMENT_SIZE_BYTES_MAX, Column, ColumnType,
    NESTING_DEPTH_MAX, NestedField, NestedType, ShardKey, TableSchema, TableSchemaBuilder,
    check_row,
};
pub use snapshot::{Batches, Scan, ScanOrder, Snapshot};
pub use statistics::figures::{
    Distribution, FragmentStatistics, LevelStatistics, LogStatistics, MemoryStatistics,
    ReadStatistics, StallReason, StallStatistics, Statistics, TableStatistics, TreeFigures,
    WorkStatistics, WriteStatistics,
};
pub use table::Table;
pub use transaction::{CommitFuture, CommitHandle, Isolation, Transaction};
pub use value::{Row, Value};
