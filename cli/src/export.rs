//! `moonshine export`: a table into its Iceberg table, once; and names for points of its history.

use std::collections::BTreeMap;
use std::path::PathBuf;

use indicatif::MultiProgress;
use moonshine_engine::{Database, Options, Table};
use moonshine_export::{
    AsOf, Exporter, FormatVersion, IcebergConfig, IcebergReader, ReferenceKind, TableHistory,
    TableVersion,
};
use serde::Serialize;

use crate::args::{ExportArguments, ExportedTableArguments};
use crate::config::{Config, LogLevel};
use crate::error::CliError;
use crate::log;
use crate::query::{open_to_read, print};
use crate::sync::{LAST_MAINTENANCE_MAX, iceberg_config};

#[derive(Debug, Serialize)]
struct ExportFacts<'a> {
    table: &'a str,
    /// None of a table without rows that was never exported, as of what follows.
    snapshot_id: Option<i64>,
    commit_seq: Option<u64>,
    exported_at_ms: Option<i64>,
    origins: Option<&'a BTreeMap<String, String>>,
    /// What this call gave the snapshot.
    tag: Option<&'a str>,
    branch: Option<&'a str>,
}

/// Runs `moonshine export`.
pub(crate) async fn run(arguments: ExportArguments) -> Result<(), CliError> {
    let place = Place::of(&arguments.table)?;
    log::start(place.log_level, &MultiProgress::new());
    let as_of: Option<AsOf> = arguments.as_of.as_deref().map(str::parse).transpose()?;
    let name = &arguments.table.table;
    let (database, table) = match as_of {
        Some(_) => {
            let database = open_to_read(place.database).await?;
            let table = find_table(&database, name)?;
            (database, table)
        }
        None => export(place.database, name, &place.iceberg).await?,
    };
    let is_named = arguments.tag.is_some() || arguments.branch.is_some();
    if as_of.is_none() && !is_named && database.exported(&table).is_none() {
        return print(&text(&arguments, None)?);
    }
    let history = TableHistory::open(&place.iceberg, &database, &table).await?;
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
    print(&text(&arguments, Some(&version))?)
}

/// Where a database is, and how it is exported.
pub(crate) struct Place {
    pub(crate) database: PathBuf,
    pub(crate) iceberg: IcebergConfig,
    pub(crate) log_level: LogLevel,
}

impl Place {
    pub(crate) fn of(arguments: &ExportedTableArguments) -> Result<Place, CliError> {
        let place = &arguments.place;
        if let Some(warehouse) = &arguments.warehouse {
            return Ok(Place {
                database: place.clone(),
                iceberg: iceberg_config(warehouse)?,
                log_level: LogLevel::Warn,
            });
        }
        if place.is_dir() {
            return Err(CliError::Arguments(format!(
                "{} is a folder; give --warehouse beside a database, or a configuration file",
                place.display()
            )));
        }
        let config = Config::load(place)?;
        let missing = || CliError::Arguments("the configuration has no iceberg: section".into());
        Ok(Place {
            database: config.database,
            iceberg: config.iceberg.ok_or_else(missing)?,
            log_level: config.monitoring.log_level.min(LogLevel::Warn),
        })
    }
}

/// Exports what the database holds of the table now.
async fn export(
    folder: PathBuf,
    table_name: &str,
    config: &IcebergConfig,
) -> Result<(Database, Table), CliError> {
    let config = of_found_version(config, table_name).await?;
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
    // The other tables are left alone, whatever they are like.
    let mut exporter = Exporter::connect(database.clone(), &config).await?;
    exporter.export(&table, &database.snapshot()).await?;
    exporter.maintainer().run_at_end(LAST_MAINTENANCE_MAX).await;
    Ok((database, table))
}

/// The configuration; where it says nothing of format versions, a table that is there keeps its own.
async fn of_found_version(config: &IcebergConfig, table: &str) -> Result<IcebergConfig, CliError> {
    let mut config = config.clone();
    let mut tables = config.tables.values();
    if config.format_version.is_some() || tables.any(|table| table.format_version.is_some()) {
        return Ok(config);
    }
    if let Some(reader) = IcebergReader::open_if_exists(&config).await? {
        let found = reader.summary_of(&[table.to_owned()]).await?;
        let version = found.first().map(|found| found.format_version);
        config.format_version = version.and_then(|version| FormatVersion::try_from(version).ok());
    }
    Ok(config)
}

pub(crate) fn find_table(database: &Database, name: &str) -> Result<Table, CliError> {
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

fn text(arguments: &ExportArguments, version: Option<&TableVersion>) -> Result<String, CliError> {
    let table = &arguments.table.table;
    if arguments.json {
        let facts = ExportFacts {
            table,
            snapshot_id: version.map(|version| version.snapshot_id),
            commit_seq: version.map(|version| version.commit_seq),
            exported_at_ms: version.map(|version| version.exported_at_ms),
            origins: version.map(|version| &version.origins),
            tag: arguments.tag.as_deref(),
            branch: arguments.branch.as_deref(),
        };
        let json = serde_json::to_string_pretty(&facts);
        return Ok(json.map_err(|error| CliError::Output(error.to_string()))? + "\n");
    }
    let Some(version) = version else {
        return Ok(format!(
            "{table}: it has no rows yet, so there is no snapshot\n"
        ));
    };
    let mut text = format!(
        "{table}: snapshot {} holds commit {}\n",
        version.snapshot_id, version.commit_seq
    );
    for (source, position) in &version.origins {
        text.push_str(&format!("  {source}: {position}\n"));
    }
    Ok(text)
}
