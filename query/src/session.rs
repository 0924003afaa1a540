//! SQL over the tables of one snapshot.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow_schema::SchemaRef;
use datafusion::catalog::{
    CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider, TableProvider,
};
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::SQLOptions;
use datafusion::prelude::{SessionConfig, SessionContext};
use moonshine_engine::{Database, Snapshot, Table};
use moonshine_export::IcebergReader;

use crate::error::{QueryError, Result};
use crate::provider::UnionTable;

const CATALOG_NAME: &str = "moonshine";
/// The schema of tables whose name has none.
const SCHEMA_DEFAULT: &str = "public";

/// One snapshot of a database, to ask in SQL.
///
/// A table `shop.orders` is `shop.orders` in SQL too; where no other schema has a table `orders`, `orders` will do.
pub struct QuerySession {
    context: SessionContext,
    table_names: Vec<String>,
    commit_seq: u64,
}

impl std::fmt::Debug for QuerySession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QuerySession")
            .field("table_names", &self.table_names)
            .field("commit_seq", &self.commit_seq)
            .finish_non_exhaustive()
    }
}

/// The answer to a query.
pub struct QueryResult {
    /// Its columns.
    pub schema: SchemaRef,
    pub(crate) batches: SendableRecordBatchStream,
}

impl std::fmt::Debug for QueryResult {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueryResult")
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

impl QuerySession {
    /// Holds the newest snapshot of a database. Of tables that were exported, what did not change since is read from
    /// Iceberg; without a `reader` the engine is asked for everything.
    ///
    /// # Errors
    /// [`QueryError::Iceberg`] if an exported table can't be read; [`QueryError::Engine`].
    pub async fn open(database: &Database, reader: Option<&IcebergReader>) -> Result<Self> {
        let snapshot = database.snapshot();
        let tables = database.tables();
        let mut schemas: BTreeMap<String, Arc<MemorySchemaProvider>> = BTreeMap::new();
        let mut uses: HashMap<String, usize> = HashMap::new();
        let mut providers = Vec::new();
        for table in &tables {
            let (schema, name) = split_name(table.name());
            *uses.entry(name.to_owned()).or_default() += 1;
            let provider = Arc::new(union_table(database, table, &snapshot, reader).await?);
            schemas.entry(schema.to_owned()).or_default();
            providers.push((schema.to_owned(), name.to_owned(), provider));
        }
        let default_schema = providers
            .first()
            .map_or(SCHEMA_DEFAULT, |(schema, ..)| schema)
            .to_owned();
        schemas.entry(default_schema.clone()).or_default();
        for (schema, name, provider) in providers {
            let short = uses.get(&name) == Some(&1);
            for (other, tables) in &schemas {
                if *other == schema || (short && *other == default_schema) {
                    let provider: Arc<dyn TableProvider> = provider.clone();
                    tables
                        .register_table(name.clone(), provider)
                        .map_err(execution)?;
                }
            }
        }
        let catalog = MemoryCatalogProvider::new();
        for (name, schema) in schemas {
            catalog.register_schema(&name, schema).map_err(execution)?;
        }
        let config = SessionConfig::new()
            .with_information_schema(true)
            .with_create_default_catalog_and_schema(false)
            .with_default_catalog_and_schema(CATALOG_NAME, default_schema);
        let context = SessionContext::new_with_config(config);
        context.register_catalog(CATALOG_NAME, Arc::new(catalog));
        let table_names = tables.iter().map(|table| table.name().to_owned()).collect();
        Ok(QuerySession {
            context,
            table_names,
            commit_seq: snapshot.seq(),
        })
    }

    /// The commit sequence that every answer is as of.
    pub fn commit_seq(&self) -> u64 {
        self.commit_seq
    }

    /// Answers one statement: a query, `SHOW` or `EXPLAIN`.
    ///
    /// # Errors
    /// [`QueryError::Sql`] if it does not parse, names what is not there, or would change something.
    pub async fn query(&self, sql: &str) -> Result<QueryResult> {
        let options = SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false);
        let answer = self
            .context
            .sql_with_options(sql, options)
            .await
            .map_err(|error| self.sql_error(&error))?;
        let schema = Arc::new(answer.schema().as_arrow().clone());
        let batches = answer.execute_stream().await.map_err(execution)?;
        Ok(QueryResult { schema, batches })
    }

    fn sql_error(&self, error: &DataFusionError) -> QueryError {
        let message = error.strip_backtrace();
        if message.contains("not found") && message.contains("table") {
            return QueryError::Sql(format!(
                "{message}; the tables are {}",
                self.table_names.join(", ")
            ));
        }
        QueryError::Sql(message)
    }
}

async fn union_table(
    database: &Database,
    table: &Table,
    snapshot: &Snapshot,
    reader: Option<&IcebergReader>,
) -> Result<UnionTable> {
    let changes = database.changes(table, snapshot)?;
    let token = changes.base().map(|base| base.token.clone());
    match reader.zip(token) {
        None => Ok(UnionTable::of_engine(table.clone(), snapshot.clone())),
        Some((reader, token)) => {
            let iceberg = reader.load(table, &token).await?;
            Ok(UnionTable::of_both(
                table.clone(),
                snapshot.clone(),
                changes,
                iceberg,
            ))
        }
    }
}

fn split_name(name: &str) -> (&str, &str) {
    name.rsplit_once('.').unwrap_or((SCHEMA_DEFAULT, name))
}

pub(crate) fn execution(error: DataFusionError) -> QueryError {
    QueryError::Execution(error.strip_backtrace())
}
