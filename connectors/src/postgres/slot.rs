//! The publication, which says what the stream holds, and the replication slot, which says from where.

use std::time::{Duration, Instant};

use postgres_protocol::escape::{escape_identifier, escape_literal};
use tokio_postgres::Client;
use tokio_postgres::types::PgLsn;

use super::catalog::{SourceTable, get};
use super::config::Settings;
use super::connection::{OBJECT_IN_USE, ReplicationConnection, WireError};
use super::sql::sql_error;
use crate::SourceError;

/// How long to wait for the server to notice that an earlier reader of the slot is gone.
const SLOT_RELEASE_WAIT: Duration = Duration::from_secs(30);
const SLOT_RETRY_PAUSE: Duration = Duration::from_millis(200);
const COLUMN_LISTS_VERSION: i32 = 150_000;

/// A slot that was just created.
pub(super) struct CreatedSlot {
    /// Where the stream starts: right behind what the snapshot shows.
    pub(super) consistent_point: PgLsn,
    /// Name of the snapshot, usable as long as `connection` stays idle.
    pub(super) snapshot_name: String,
    pub(super) connection: ReplicationConnection,
}

/// Creates the publication, or adds what it lacks.
pub(super) async fn ensure_publication(
    client: &Client,
    settings: &Settings,
    server_version: i32,
    tables: &[SourceTable],
) -> Result<(), SourceError> {
    let name = &settings.publication_name;
    let missing = missing_tables(client, settings, server_version, tables).await?;
    let list: Vec<String> = match &missing {
        None => tables.iter().map(SourceTable::quoted_name_only).collect(),
        Some(missing) => missing
            .iter()
            .map(|table| table.quoted_name_only())
            .collect(),
    };
    if list.is_empty() {
        return Ok(());
    }
    let command = match missing {
        None => format!(
            "CREATE PUBLICATION {} FOR TABLE {} WITH (publish_via_partition_root = true)",
            escape_identifier(name),
            list.join(", ")
        ),
        Some(_) => format!(
            "ALTER PUBLICATION {} ADD TABLE {}",
            escape_identifier(name),
            list.join(", ")
        ),
    };
    let attempt = format!("preparing the publication '{name}'");
    client
        .batch_execute(&command)
        .await
        .map_err(|error| sql_error(&attempt, &error))
}

/// Checks that the publication covers the tables, as it has to since the copy.
pub(super) async fn check_publication(
    client: &Client,
    settings: &Settings,
    server_version: i32,
    tables: &[SourceTable],
) -> Result<(), SourceError> {
    let name = &settings.publication_name;
    let lost = match missing_tables(client, settings, server_version, tables).await? {
        None => format!("the publication '{name}' is gone"),
        Some(missing) => match missing.first() {
            None => return Ok(()),
            Some(table) => format!(
                "the publication '{name}' does not contain table '{}' any more",
                table.full_name()
            ),
        },
    };
    Err(SourceError::Config(format!(
        "{lost}, so changes since then are not in the stream: {}",
        start_over_advice(&settings.slot_name)
    )))
}

/// The tables that the publication lacks; `None` if there is no such publication.
async fn missing_tables<'a>(
    client: &Client,
    settings: &Settings,
    server_version: i32,
    tables: &'a [SourceTable],
) -> Result<Option<Vec<&'a SourceTable>>, SourceError> {
    let name = &settings.publication_name;
    let failed = |error| sql_error("reading publications", &error);
    let query = "SELECT oid, pubinsert AND pubupdate AND pubdelete AND pubtruncate, pubviaroot \
                 FROM pg_publication WHERE pubname = $1";
    let Some(row) = client.query_opt(query, &[name]).await.map_err(failed)? else {
        return Ok(None);
    };
    let (oid, publishes_all, via_root): (u32, bool, bool) =
        (get(&row, 0)?, get(&row, 1)?, get(&row, 2)?);
    let refuse = |reason: String| {
        Err(SourceError::Config(format!(
            "the publication '{name}' {reason}"
        )))
    };
    if !publishes_all {
        return refuse(
            "leaves out some operations; it has to publish insert, update, delete and truncate"
                .into(),
        );
    }
    if let Some(table) = tables
        .iter()
        .find(|table| table.is_partitioned && !via_root)
    {
        let table = table.full_name();
        return refuse(format!(
            "needs publish_via_partition_root = true for the partitioned table '{table}'"
        ));
    }
    if server_version >= COLUMN_LISTS_VERSION {
        let query = "SELECT prrelid::regclass::text FROM pg_publication_rel WHERE prpubid = $1 \
                     AND prrelid = ANY($2) AND (prqual IS NOT NULL OR prattrs IS NOT NULL) LIMIT 1";
        let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
        if let Some(row) = client
            .query_opt(query, &[&oid, &oids])
            .await
            .map_err(failed)?
        {
            let table: String = get(&row, 0)?;
            return refuse(format!(
                "has a row filter or a column list for table '{table}', which would leave data out"
            ));
        }
    }
    let query =
        "SELECT schemaname::text, tablename::text FROM pg_publication_tables WHERE pubname = $1";
    let rows = client.query(query, &[name]).await.map_err(failed)?;
    let published = rows
        .iter()
        .map(|row| Ok((get(row, 0)?, get(row, 1)?)))
        .collect::<Result<std::collections::HashSet<(String, String)>, SourceError>>()?;
    let is_missing =
        |table: &&SourceTable| !published.contains(&(table.schema.clone(), table.name.clone()));
    Ok(Some(tables.iter().filter(is_missing).collect()))
}

/// Whether there is a slot of that name.
pub(super) async fn slot_exists(client: &Client, settings: &Settings) -> Result<bool, SourceError> {
    let query = "SELECT 1 FROM pg_replication_slots WHERE slot_name = $1";
    let row = client.query_opt(query, &[&settings.slot_name]).await;
    Ok(row
        .map_err(|error| sql_error("reading replication slots", &error))?
        .is_some())
}

/// Refuses a slot that some other database owns.
pub(super) fn foreign_slot(settings: &Settings) -> SourceError {
    let slot = &settings.slot_name;
    SourceError::Config(format!(
        "the replication slot '{slot}' exists already, and it was not this database that created it: set another \
         slot_name, or, if nobody needs it any more, drop it (SELECT pg_drop_replication_slot({}))",
        escape_literal(slot)
    ))
}

/// Checks that the slot still holds everything behind `origin`.
pub(super) async fn check_slot(
    client: &Client,
    settings: &Settings,
    origin: PgLsn,
) -> Result<(), SourceError> {
    let slot = &settings.slot_name;
    let query = "SELECT plugin::text, database::text = current_database(), wal_status = 'lost', confirmed_flush_lsn \
                 FROM pg_replication_slots WHERE slot_name = $1";
    let row = client.query_opt(query, &[slot]).await;
    let lost = match row.map_err(|error| sql_error("reading replication slots", &error))? {
        None => format!("the replication slot '{slot}' is gone"),
        Some(row) => {
            let (plugin, is_here): (Option<String>, Option<bool>) = (get(&row, 0)?, get(&row, 1)?);
            if plugin.as_deref() != Some("pgoutput") || is_here != Some(true) {
                return Err(SourceError::Config(format!(
                    "the replication slot '{slot}' is not one of plugin pgoutput in this database: set another slot_name"
                )));
            }
            let (is_lost, confirmed): (Option<bool>, Option<PgLsn>) =
                (get(&row, 2)?, get(&row, 3)?);
            match confirmed {
                _ if is_lost == Some(true) => {
                    format!("the server has removed log that the replication slot '{slot}' needs")
                }
                Some(confirmed) if confirmed > origin => {
                    format!(
                        "the replication slot '{slot}' was already read up to {confirmed}, by someone else"
                    )
                }
                _ => return Ok(()),
            }
        }
    };
    Err(SourceError::Config(format!(
        "{lost}, and this database holds the changes up to {origin} only; the next ones can't be had any more: {}",
        start_over_advice(slot)
    )))
}

fn start_over_advice(slot: &str) -> String {
    format!(
        "to start over, drop the slot if it exists (SELECT pg_drop_replication_slot({})) and begin with a new database \
         folder, which copies the tables anew",
        escape_literal(slot)
    )
}

/// Drops the slot, which an earlier, unfinished copy left.
pub(super) async fn drop_slot(client: &Client, settings: &Settings) -> Result<(), SourceError> {
    let slot = &settings.slot_name;
    let started = Instant::now();
    loop {
        match client
            .execute("SELECT pg_drop_replication_slot($1)", &[slot])
            .await
        {
            Ok(_) => return Ok(()),
            Err(error) if is_in_use(&error) && started.elapsed() < SLOT_RELEASE_WAIT => {
                tokio::time::sleep(SLOT_RETRY_PAUSE).await;
            }
            Err(error) => {
                return Err(sql_error(
                    &format!("dropping the replication slot '{slot}'"),
                    &error,
                ));
            }
        }
    }
}

fn is_in_use(error: &tokio_postgres::Error) -> bool {
    error
        .code()
        .is_some_and(|code| code.code() == OBJECT_IN_USE)
}

/// Creates the slot, with a snapshot of the moment at which its stream starts.
pub(super) async fn create_slot(settings: &Settings) -> Result<CreatedSlot, SourceError> {
    let slot = &settings.slot_name;
    let attempt = format!("PostgreSQL, creating the replication slot '{slot}'");
    let failed = |error: WireError| error.into_source_error(&attempt);
    let mut connection = ReplicationConnection::connect(&settings.connection)
        .await
        .map_err(failed)?;
    // The form with options in parentheses exists from PostgreSQL 15 on; this one is understood by all.
    let command = format!(
        "CREATE_REPLICATION_SLOT {} LOGICAL pgoutput EXPORT_SNAPSHOT",
        escape_identifier(slot)
    );
    let rows = connection.query(&command).await.map_err(failed)?;
    let mut fields = rows
        .into_iter()
        .next()
        .unwrap_or_default()
        .into_iter()
        .skip(1);
    let consistent_point = fields.next().flatten().and_then(|text| text.parse().ok());
    match (consistent_point, fields.next().flatten()) {
        (Some(consistent_point), Some(snapshot_name)) => Ok(CreatedSlot {
            consistent_point,
            snapshot_name,
            connection,
        }),
        _ => Err(failed(WireError::Protocol(
            "the server's answer lacks the position or the snapshot".into(),
        ))),
    }
}

/// Starts streaming from the slot at `start`.
pub(super) async fn start_streaming(
    settings: &Settings,
    start: PgLsn,
    binary: bool,
) -> Result<ReplicationConnection, SourceError> {
    let slot = &settings.slot_name;
    let attempt = format!("PostgreSQL, streaming from the replication slot '{slot}'");
    let command = format!(
        "START_REPLICATION SLOT {} LOGICAL {start} (proto_version '1', publication_names {}{})",
        escape_identifier(slot),
        // A list of names, each quoted as an identifier.
        escape_literal(&escape_identifier(&settings.publication_name)),
        if binary { ", binary 'true'" } else { "" }
    );
    let started = Instant::now();
    loop {
        let connected = ReplicationConnection::connect(&settings.connection).await;
        let mut connection = connected.map_err(|error| error.into_source_error(&attempt))?;
        match connection.start_streaming(&command).await {
            Ok(()) => return Ok(connection),
            Err(WireError::Server { code, .. })
                if code == OBJECT_IN_USE && started.elapsed() < SLOT_RELEASE_WAIT =>
            {
                tokio::time::sleep(SLOT_RETRY_PAUSE).await;
            }
            Err(error) => return Err(error.into_source_error(&attempt)),
        }
    }
}
