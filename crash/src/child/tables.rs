//! The tables of the database.

use moonshine_engine::{ColumnType, Database, Result, ShardKey, Table, TableSchema};

/// All tables, as they are now.
#[derive(Clone, Debug)]
pub struct Tables {
    /// Rows of the writers.
    pub left: Table,
    /// The same rows.
    pub right: Table,
    /// The chain and its balances.
    pub chain: Table,
    /// What was bulk loaded.
    pub loads: Table,
    /// The table whose columns change.
    pub evolving: Table,
}

impl Tables {
    /// Finds them, or creates those that are missing.
    ///
    /// # Errors
    /// As the engine answers.
    pub fn create(database: &Database) -> Result<Self> {
        let rows = |name: &str, shard_key: ShardKey| {
            let schema = TableSchema::builder(name)
                .column("id", ColumnType::Int64, false)
                .column("number", ColumnType::Int64, false)
                .column("text", ColumnType::Binary, false)
                .primary_key(["id"])
                .shard_key(shard_key)
                .build()?;
            database.create_table(schema)
        };
        let evolving = match database.table("evolving") {
            Some(table) => table,
            None => {
                let schema = TableSchema::builder("evolving")
                    .column("id", ColumnType::Int64, false)
                    .primary_key(["id"]);
                database.create_table(schema.build()?)?
            }
        };
        Ok(Tables {
            left: rows("left", ShardKey::Range)?,
            right: rows("right", ShardKey::PrimaryKey)?,
            chain: rows("chain", ShardKey::Range)?,
            loads: rows("loads", ShardKey::PrimaryKey)?,
            evolving,
        })
    }
}
