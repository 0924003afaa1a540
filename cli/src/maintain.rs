//! `moonshine maintain`: looking after the exported tables by hand.
//!
//! A running `sync` does the same by itself. With `--dry-run` nothing is changed, and a running `sync` is not disturbed.

use std::path::{Path, PathBuf};

use indicatif::MultiProgress;
use moonshine_engine::{Database, Options};
use moonshine_export::{Exporter, IcebergConfig, MaintenanceAction};
use serde::Serialize;

use crate::args::MaintainArguments;
use crate::config::{Config, LogLevel};
use crate::error::CliError;
use crate::log;
use crate::query::print;
use crate::sync::iceberg_config;
use crate::units::size_rounded;

#[derive(Debug, Serialize)]
struct ActionFacts<'a> {
    table: &'a str,
    task: String,
    is_dry_run: bool,
    items: u64,
    files_written: u64,
    bytes_written: u64,
    files_removed: u64,
    files_waiting: u64,
}

/// Runs the command.
pub(crate) async fn run(arguments: MaintainArguments) -> Result<(), CliError> {
    let (folder, iceberg, log_level) = places(&arguments)?;
    log::start(log_level, &MultiProgress::new());
    let is_dry_run = arguments.dry_run;
    let open = move || {
        let options = Options::default();
        if is_dry_run {
            return Database::open_read_only(folder, options);
        }
        if !Database::exists(&folder, &options)? {
            let reason = format!("there is no database in {}", folder.display());
            return Err(moonshine_engine::Error::Usage(reason));
        }
        Database::open(folder, options)
    };
    let database = tokio::task::spawn_blocking(open).await;
    let database = database.map_err(|error| CliError::Output(error.to_string()))??;
    let exporter = Exporter::connect(database, &iceberg).await?;
    let maintainer = exporter.maintainer();
    let actions = maintainer
        .run(arguments.table.as_deref(), is_dry_run)
        .await?;
    if arguments.json {
        let facts: Vec<ActionFacts> = actions
            .iter()
            .map(|action| facts(action, is_dry_run))
            .collect();
        let json = serde_json::to_string_pretty(&facts);
        return print(&(json.map_err(|error| CliError::Output(error.to_string()))? + "\n"));
    }
    print(&text(&actions, is_dry_run))
}

fn places(arguments: &MaintainArguments) -> Result<(PathBuf, IcebergConfig, LogLevel), CliError> {
    match (&arguments.config, &arguments.database, &arguments.warehouse) {
        (Some(config), None, None) => {
            let config = Config::load(Path::new(config))?;
            let missing =
                || CliError::Arguments("the configuration has no iceberg: section".into());
            Ok((
                config.database,
                config.iceberg.ok_or_else(missing)?,
                config.monitoring.log_level.min(LogLevel::Warn),
            ))
        }
        (None, Some(database), Some(warehouse)) => {
            Ok((database.clone(), iceberg_config(warehouse)?, LogLevel::Warn))
        }
        _ => Err(CliError::Arguments(
            "maintain takes a configuration file, or --database and --warehouse".into(),
        )),
    }
}

fn facts(action: &MaintenanceAction, is_dry_run: bool) -> ActionFacts<'_> {
    ActionFacts {
        table: &action.table,
        task: action.task.to_string(),
        is_dry_run,
        items: action.items,
        files_written: action.files_written,
        bytes_written: action.bytes_written,
        files_removed: action.files_removed,
        files_waiting: action.files_waiting,
    }
}

fn text(actions: &[MaintenanceAction], is_dry_run: bool) -> String {
    if actions.is_empty() {
        return "nothing to do\n".to_owned();
    }
    let line = |action: &MaintenanceAction| {
        let MaintenanceAction {
            table,
            task,
            items,
            files_written,
            bytes_written,
            files_removed,
            files_waiting,
        } = action;
        let noun = task.noun();
        if is_dry_run {
            return format!("{table}: {task} would take {items} {noun}\n");
        }
        let waiting = match files_waiting {
            0 => String::new(),
            waiting => format!(", {waiting} left to go as orphans, since readers may be at them"),
        };
        format!(
            "{table}: {task} took {items} {noun}; {files_written} files written ({}), {files_removed} removed{waiting}\n",
            size_rounded(*bytes_written)
        )
    };
    actions.iter().map(line).collect()
}
