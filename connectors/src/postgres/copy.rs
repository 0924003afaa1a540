//! The rows that exist before the stream starts: a snapshot that the replication slot exports is read by COPY, a bounded
//! number of rows an engine transaction.

use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use moonshine_engine::{Origin, Row, Transaction, Value};
use postgres_protocol::escape::{escape_identifier, escape_literal};
use tokio_postgres::Client;
use tokio_postgres::binary_copy::{BinaryCopyOutRow, BinaryCopyOutStream};
use tokio_postgres::types::{FromSql, PgLsn, Type};

use super::catalog::{self, SourceTable};
use super::config::Settings;
use super::sql::sql_error;
use super::{COPYING, MirroredTable, blocking, slot, until_stopped};
use crate::{SourceContext, SourceError};

/// Most bytes of rows of one engine transaction.
const BATCH_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Bytes of a value's length in COPY's binary format.
const LENGTH_BYTES: u64 = 4;

/// One copy of all tables.
pub(super) struct Copy<'a> {
    name: &'a str,
    settings: &'a Settings,
    context: &'a SourceContext,
    tables: &'a [Arc<MirroredTable>],
    /// The newest commit sequence that was submitted.
    submitted_seq: u64,
}

impl<'a> Copy<'a> {
    pub(super) fn new(
        name: &'a str,
        settings: &'a Settings,
        context: &'a SourceContext,
        tables: &'a [Arc<MirroredTable>],
    ) -> Self {
        Self {
            name,
            settings,
            context,
            tables,
            submitted_seq: 0,
        }
    }

    /// Copies and returns where the stream starts, or `None` if it was told to stop before the end; the next run then
    /// starts over. However it ends, what was submitted is durable then.
    pub(super) async fn run(
        mut self,
        client: &Client,
        server_version: i32,
    ) -> Result<Option<PgLsn>, SourceError> {
        let copied = self.copy(client, server_version).await;
        let (database, seq) = (self.context.database.clone(), self.submitted_seq);
        blocking(move || Ok(database.wait_durable(seq)?)).await?;
        copied
    }

    async fn copy(
        &mut self,
        client: &Client,
        server_version: i32,
    ) -> Result<Option<PgLsn>, SourceError> {
        // Noted before the slot exists, so that a slot is known as this database's own after a crash at any point.
        self.commit_origin(COPYING.to_owned()).await?;
        // Creating a slot waits for the end of every transaction that is running.
        let snapshot = self.take_snapshot(client, server_version);
        let Some(start) = until_stopped(self.context, snapshot).await? else {
            return Ok(None);
        };
        tracing::info!(source = self.name, lsn = %start, tables = self.tables.len(), "copying");
        for table in self.tables {
            if !self.copy_table(client, table).await? {
                return Ok(None);
            }
        }
        client
            .batch_execute("COMMIT")
            .await
            .map_err(|error| sql_error("ending the copy", &error))?;
        self.commit_origin(start.to_string()).await?;
        self.context.progress.set_total_bytes(0);
        Ok(Some(start))
    }

    /// Creates publication and slot, and lets the client see what the slot's stream starts from; returns where that is.
    async fn take_snapshot(
        &self,
        client: &Client,
        server_version: i32,
    ) -> Result<PgLsn, SourceError> {
        let sources: Vec<SourceTable> = self
            .tables
            .iter()
            .map(|table| table.source.clone())
            .collect();
        self.context
            .progress
            .set_total_bytes(catalog::total_bytes(client, &sources).await?);
        // The stream decodes the catalog as of each change: the publication has to be older than the slot.
        slot::ensure_publication(client, self.settings, server_version, &sources).await?;
        if slot::slot_exists(client, self.settings).await? {
            slot::drop_slot(client, self.settings).await?;
        }
        let created = slot::create_slot(self.settings).await?;
        import_snapshot(client, &created.snapshot_name).await?;
        if catalog::load_tables(client, &self.settings.patterns).await? != sources {
            return Err(SourceError::Unavailable(
                "the tables changed while the copy was starting".into(),
            ));
        }
        // Imported, the snapshot lives without the connection that exported it.
        drop(created.connection);
        Ok(created.consistent_point)
    }

    /// Stores that position, and by that makes all that was submitted before durable.
    async fn commit_origin(&self, position: String) -> Result<(), SourceError> {
        let database = self.context.database.clone();
        let origin = Origin {
            source: self.name.to_owned(),
            position,
        };
        blocking(move || {
            let mut transaction = database.begin();
            transaction.set_origin(origin);
            transaction.commit()?;
            Ok(())
        })
        .await
    }

    /// Copies one table; false if it was told to stop before the end.
    async fn copy_table(
        &mut self,
        client: &Client,
        table: &MirroredTable,
    ) -> Result<bool, SourceError> {
        let attempt = format!("copying table '{}'", table.source.full_name());
        let failed = |error| sql_error(&attempt, &error);
        let columns: Vec<String> = table
            .source
            .columns
            .iter()
            .map(|column| escape_identifier(&column.name))
            .collect();
        let command = format!(
            "COPY (SELECT {} FROM {}) TO STDOUT (FORMAT binary)",
            columns.join(", "),
            table.source.quoted_name_only()
        );
        let stream = client.copy_out(command.as_str()).await.map_err(failed)?;
        let types = vec![Type::BYTEA; columns.len()];
        let mut rows = pin!(BinaryCopyOutStream::new(stream, &types));
        let mut batch = self.context.database.begin();
        // What an earlier copy left, which was cut off, may be gone from the server by now.
        batch.truncate(&table.engine)?;
        let (mut batch_rows, mut batch_bytes) = (0, 0);
        loop {
            let row = tokio::select! {
                biased;
                () = self.context.stop.cancelled() => return Ok(false),
                row = rows.next() => row,
            };
            let Some(row) = row else { break };
            let (row, size_bytes) = decode_row(&table.source, &row.map_err(failed)?)?;
            batch.upsert(&table.engine, row)?;
            batch_rows += 1;
            batch_bytes += size_bytes;
            if batch_rows >= self.settings.copy_batch_rows || batch_bytes >= BATCH_BYTES_MAX {
                let full = std::mem::replace(&mut batch, self.context.database.begin());
                self.submit(full, batch_rows, batch_bytes).await?;
                (batch_rows, batch_bytes) = (0, 0);
            }
        }
        self.submit(batch, batch_rows, batch_bytes).await?;
        Ok(true)
    }

    async fn submit(
        &mut self,
        batch: Transaction,
        rows: u64,
        size_bytes: u64,
    ) -> Result<(), SourceError> {
        if batch.is_empty() {
            return Ok(());
        }
        self.submitted_seq = blocking(move || Ok(batch.submit()?.seq())).await?;
        self.context.progress.count_transaction(rows, size_bytes);
        Ok(())
    }
}

async fn import_snapshot(client: &Client, snapshot_name: &str) -> Result<(), SourceError> {
    // A copy takes as long as it takes, and a row that a policy hides would be missing: better an error.
    let commands = format!(
        "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET row_security = off; \
         BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}",
        escape_literal(snapshot_name)
    );
    client
        .batch_execute(&commands)
        .await
        .map_err(|error| sql_error("taking the slot's snapshot", &error))
}

/// A value as the server sent it.
struct Raw<'a>(Option<&'a [u8]>);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Raw(Some(raw)))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Raw(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// The row, and the bytes that it took.
fn decode_row(table: &SourceTable, row: &BinaryCopyOutRow) -> Result<(Row, u64), SourceError> {
    let mut values = Vec::with_capacity(table.columns.len());
    let mut size_bytes = 0;
    for (position, column) in table.columns.iter().enumerate() {
        let raw: Raw<'_> = row
            .try_get(position)
            .map_err(|error| sql_error("copying", &error))?;
        let value = match raw.0 {
            None => Value::Null,
            Some(bytes) => {
                size_bytes += u64::try_from(bytes.len()).unwrap_or(0);
                column
                    .pg_type
                    .decode_binary(bytes)
                    .map_err(|reason| SourceError::Record {
                        place: format!(
                            "table '{}', initial copy{}",
                            table.full_name(),
                            key_text(table, &values)
                        ),
                        reason: format!("column '{}': {reason}", column.name),
                    })?
            }
        };
        size_bytes += LENGTH_BYTES;
        values.push(value);
    }
    Ok((values, size_bytes))
}

/// Says which row it is, if its key was read already.
fn key_text(table: &SourceTable, values: &[Value]) -> String {
    let key: Option<Vec<&Value>> = table
        .key
        .iter()
        .map(|&position| values.get(position))
        .collect();
    key.map(|key| format!(", row of key {key:?}"))
        .unwrap_or_default()
}
