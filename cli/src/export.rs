//! `moonshine export`: a table into its Iceberg table, once; and names for points of its history.

use std::collections::BTreeMap;
use std::path::Path;

use indicatif::MultiProgress;
use moonshine_engine::{Database, Options, Table};
use moonshine_export::{AsOf, Exporter, IcebergConfig, ReferenceKind, TableHistory, TableVersion};
use serde::Serialize;

use crate::args::ExportArguments;
use crate::config::LogLevel;
use crate::error::CliError;
use crate::log;
use crate::query::{open_to_read, print};
use crate::sync::{LAST_MAINTENANCE_MAX, iceberg_config};

#[derive(Debug, Serialize)]
struct ExportFacts<'a> {
    table: &'a str,
    snapshot_id: i64,
    commit_seq: u64,
    exported_at_ms: i64,
    origins: &'a BTreeMap<String, String>,
    /// What this call gave the snapshot.
    tag: Option<&'a str>,
    branch: Option<&'a str>,
}

/// Runs `moonshine export`.
pub(crate) async fn run(arguments: ExportArguments) -> Result<(), CliError> {
    log::start(LogLevel::Warn, &MultiProgress::new());
    let config = iceberg_config(&arguments.warehouse)?;
    let as_of: Option<AsOf> = arguments.as_of.as_deref().map(str::parse).transpose()?;
    let (database, table) = match as_of {
        Some(_) => {
            let database = open_to_read(arguments.database.clone()).await?;
            let table = find_table(&database, &arguments.table)?;
            (database, table)
        }
        None => export(&arguments.database, &arguments.table, &config).await?,
    };
    let history = TableHistory::open(&config, &database, &table).await?;
    let version = history
        .version_as_of(as_of.unwrap_or(AsOf::Commit(u64::MAX)))
        .await?;
    let names = [
        (&arguments.tag, ReferenceKind::Tag),
        (&arguments.branch, ReferenceKind::Branch),
    ];
    for (name, kind) in names {
        if let Some(name) = name {
            history.name(&version, name, kind).await?;
        }
    }
    print(&text(&arguments, &version)?)
}

/// Exports what the database holds of the table now.
async fn export(
    folder: &Path,
    table_name: &str,
    config: &IcebergConfig,
) -> Result<(Database, Table), CliError> {
    let folder = folder.to_owned();
    let open = move || {
        let options = Options::default();
        if !Database::exists(&folder, &options)? {
            let reason = format!("there is no database in {}", folder.display());
            return Err(moonshine_engine::Error::Usage(reason));
        }
        Database::open(folder, options)
    };
    let database = tokio::task::spawn_blocking(open).await;
    let database = database.map_err(|error| CliError::Output(error.to_string()))??;
    let table = find_table(&database, table_name)?;
    let mut exporter = Exporter::open(database.clone(), config).await?;
    exporter.export(&table, &database.snapshot()).await?;
    exporter.maintainer().run_at_end(LAST_MAINTENANCE_MAX).await;
    Ok((database, table))
}

fn find_table(database: &Database, name: &str) -> Result<Table, CliError> {
    database.table(name).ok_or_else(|| {
        let names: Vec<String> = database
            .tables()
            .iter()
            .map(|table| table.name().to_owned())
            .collect();
        CliError::Arguments(format!(
            "there is no table '{name}'; the database has {}",
            names.join(", ")
        ))
    })
}

fn text(arguments: &ExportArguments, version: &TableVersion) -> Result<String, CliError> {
    if arguments.json {
        let facts = ExportFacts {
            table: &arguments.table,
            snapshot_id: version.snapshot_id,
            commit_seq: version.commit_seq,
            exported_at_ms: version.exported_at_ms,
            origins: &version.origins,
            tag: arguments.tag.as_deref(),
            branch: arguments.branch.as_deref(),
        };
        let json = serde_json::to_string_pretty(&facts);
        return Ok(json.map_err(|error| CliError::Output(error.to_string()))? + "\n");
    }
    let mut text = format!(
        "{}: snapshot {} holds commit {}\n",
        arguments.table, version.snapshot_id, version.commit_seq
    );
    for (source, position) in &version.origins {
        text.push_str(&format!("  {source}: {position}\n"));
    }
    Ok(text)
}
