//! What is kept of exports: how far a table was exported ([`Exported`]), the [`files`] that its rows lie in, and where in
//! them each of its rows lies ([`location`]).

pub(crate) mod files;
pub(crate) mod location;

use std::sync::Arc;

/// Where an exported row lies.
///
/// ```
/// use moonshine_engine::Placement;
/// let placement = Placement { file: "data/1.parquet".into(), position: 41 };
/// assert!(placement < Placement { file: "data/1.parquet".into(), position: 42 });
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Placement {
    /// The file, by the path that was given to [`Export::prepare`](crate::Export::prepare).
    pub file: Arc<str>,
    /// The row's position in the file, from 0.
    pub position: u64,
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
