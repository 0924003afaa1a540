//! Materialises the tables of a Moonshine database as Apache Iceberg tables.
//!
//! The way of a tick, from top to bottom: [`Exporter::tick`] (`exporter`) takes the net change of a table from the
//! engine; `layout` divides and sorts its rows and encodes them as Parquet, with the column statistics of `metrics`; `delete` turns the
//! positions of replaced rows into deletion vectors (format v3) or position delete files (v2); `manifest` and
//! `commit` make the next Iceberg snapshot of them, stamped with what `summary` says, and bring it to a [`catalog`] until it
//! is known to be in or out.
//! `pending` finds out after a crash which of the prepared exports were committed, `ownership` refuses tables that
//! are not ours. [`TableHistory`] (`refs`) names points of a table's history. [`IcebergReader`] (`reader`) is the way back: the rows of one snapshot, for queries.
//!
//! No equality delete is ever written, and every file goes through Iceberg's `FileIO`.
//!
//! ```
//! use moonshine_engine::{ColumnType, Database, Options, TableSchema, Value};
//! use moonshine_export::{Exporter, IcebergConfig, IcebergReader};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! let database = Database::open(folder.path().join("data"), Options::unmeasured())?;
//! let schema = TableSchema::builder("shop.orders").column("id", ColumnType::Int64, false).primary_key(["id"]).build()?;
//! let orders = database.create_table(schema)?;
//! let mut transaction = database.begin();
//! transaction.upsert(&orders, vec![Value::Int64(1)])?;
//! transaction.commit()?;
//!
//! let warehouse = folder.path().join("warehouse");
//! let config: IcebergConfig = serde_json::from_value(serde_json::json!({ "warehouse_path": warehouse }))?;
//! let mut exporter = Exporter::open(database.clone(), &config).await?;
//! let exports = exporter.tick(&database.snapshot()).await?;
//! assert_eq!((exports[0].table.as_str(), exports[0].rows_written), ("shop.orders", 1));
//!
//! let tables = IcebergReader::open(&config).await?.summary().await?;
//! assert_eq!((tables[0].row_count, tables[0].format_version), (1, 3));
//! # Ok(())
//! # }
//! ```

mod cadence;
pub mod catalog;
mod checksum;
mod commit;
mod config;
mod delete;
pub mod environment;
mod error;
mod exporter;
mod layout;
mod lineage;
mod maintenance;
mod manifest;
mod metrics;
mod ownership;
mod pending;
mod reader;
mod references;
mod refs;
mod scan;
mod schema;
pub mod store;
mod summary;
mod verify;

pub use cadence::{Cadence, CadenceReason};
pub use config::{
    CadenceConfig, CadenceSettings, CatalogType, ForeignAppends, FormatVersion, IcebergConfig,
    MaintenanceConfig, MaintenanceSettings, Secret, SettingsByTable, SqlConfig, TableConfig,
    TableSettings, TagPattern, TagPeriod, TagSettings, TagsConfig,
};
pub use error::{ExportError, Result};
pub use exporter::{Exporter, ExporterMetrics, Pace, Standing, TableExport};
pub use layout::wanted::{LayoutLimits, LayoutSettings};
pub use maintenance::{Maintainer, MaintenanceAction, MaintenanceTask};
pub use reader::{IcebergDataFile, IcebergReader, IcebergSnapshot, TableSummary};
pub use refs::{AsOf, Publish, Published, ReferenceKind, TableHistory, TableVersion};
