//! What the engine knows of exports: where each exported row lies, and what changed since.
//!
//! The engine knows no catalog and no file format. It hands out the net change of a table since its last committed
//! export ([`Changes`]), and remembers, in the log, which rows an exporter put where, in two steps around the commit to
//! a catalog: [`Export::prepare`] before it, [`Export::commit`] after it. A crash in between leaves a [`PendingExport`]
//! that the exporter settles by asking the catalog. Rows that are written to other files without becoming different are a
//! [`Relocation`], in the same two steps.
//!
//! `changes` finds out what changed, `steps` and `relocate` write the log's records of the steps, with `keys`; `location` is
//! what is kept of a row, `files` of the files.

mod changes;
pub(crate) mod files;
mod keys;
pub(crate) mod location;
mod relocate;
mod steps;

use std::sync::Arc;

pub use changes::Changes;
pub use relocate::Relocation;
pub use steps::{Export, PendingExport};

/// Where an exported row lies.
///
/// ```
/// use moonshine_engine::Placement;
/// let placement = Placement { file: "data/1.parquet".into(), position: 41 };
/// assert!(placement < Placement { file: "data/1.parquet".into(), position: 42 });
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Placement {
    /// The file, by the path that was given to [`Export::prepare`].
    pub file: Arc<str>,
    /// The row's position in the file, from 0.
    pub position: u64,
}

/// A row to be exported that replaces an exported one.
///
/// ```
/// use moonshine_engine::{Placement, Replaced};
/// let placement = Placement { file: "data/1.parquet".into(), position: 41 };
/// let replaced = Replaced { row: 0, placement, row_id: None };
/// // The file does not say the row's id, so it is that of the file's first row and 41 more.
/// assert_eq!(replaced.row_id.unwrap_or(1000 + replaced.placement.position), 1041);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// The number of the row among those of [`Changes::batches`], from 0.
    pub row: u64,
    /// Where the row lies that it replaces.
    pub placement: Placement,
    /// That row's id, where its file says it outright.
    pub row_id: Option<u64>,
}

/// A file that an export wrote.
///
/// ```
/// use moonshine_engine::ExportFile;
/// let files = [ExportFile { path: "data/1.parquet".into(), row_count: 2 }];
/// assert_eq!(files.iter().map(|file| file.row_count).sum::<u64>(), 2);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportFile {
    /// Its path, as the exporter names it.
    pub path: String,
    /// How many rows it holds; below 2^32.
    pub row_count: u64,
}

/// The last committed export of a table.
///
/// ```
/// use moonshine_engine::{ColumnType, Database, Options, TableSchema, Value};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// # let schema = TableSchema::builder("users")
/// #     .column("id", ColumnType::Int64, false)
/// #     .column("name", ColumnType::Utf8, true)
/// #     .primary_key(["id"]);
/// # let users = database.create_table(schema.build()?)?;
/// # let mut transaction = database.begin();
/// # transaction.upsert(&users, vec![Value::Int64(1), Value::Utf8("ada".into())])?;
/// # transaction.commit()?;
/// assert!(database.exported(&users).is_none());
/// let export = database.begin_export(&users, &database.snapshot())?;
/// # let mut export = export;
/// # let files = [moonshine_engine::ExportFile { path: "data/1.parquet".into(), row_count: 1 }];
/// # export.prepare(uuid::Uuid::from_u128(1), &files)?;
/// export.commit("snapshot 1".into())?;
/// let exported = database.exported(&users).ok_or("not exported")?;
/// assert_eq!((exported.seq, exported.token.as_str()), (1, "snapshot 1"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The commit sequence that it holds the table at.
    pub seq: u64,
    /// The catalog's own name of the commit, for Iceberg the snapshot id.
    pub token: String,
}
