//! What the benchmarks of exports begin with.

use std::error::Error;
use std::path::Path;

use moonshine_engine::{Database, Options, Table, TableSchema};
use moonshine_export::{Exporter, IcebergConfig};
use serde_json::json;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What the program was called with, but for what cargo adds.
pub(crate) fn arguments() -> Vec<String> {
    let arguments = std::env::args().skip(1);
    arguments.filter(|argument| argument != "--bench").collect()
}

/// Opens the database in a folder, a table of it, and an exporter to a warehouse; makes the table if it is not there. `settings` are
/// those of the exporter's tables. The environment's `MEMORY_BUDGET_MB` is the database's memory budget; without it, the default one.
pub(crate) async fn open(
    folder: &Path,
    warehouse: &Path,
    schema: TableSchema,
    settings: serde_json::Value,
) -> Result<(Database, Table, Exporter)> {
    let mut options = Options::unmeasured();
    if let Ok(budget_mb) = std::env::var("MEMORY_BUDGET_MB") {
        options.memory_budget_bytes = budget_mb.parse::<u64>()? << 20;
    }
    let database = Database::open(folder, options)?;
    let table = match database.table(schema.name()) {
        Some(table) => table,
        None => database.create_table(schema)?,
    };
    let config = json!({ "warehouse_path": warehouse, "tables": { "*": settings } });
    let config: IcebergConfig = serde_json::from_value(config)?;
    let exporter = Exporter::open(database.clone(), &config).await?;
    Ok((database, table, exporter))
}
