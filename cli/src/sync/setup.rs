//! Sources and settings, from a configuration file or from flags.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use moonshine_connectors::file::{FileConfig, FileSource, FileTable};
use moonshine_connectors::postgres::{PostgresConfig, PostgresSource};
use moonshine_connectors::{Source, SourceError};
use moonshine_engine::Options;
use moonshine_export::IcebergConfig;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::args::{OneTableArguments, SyncArguments};
use crate::config::{Config, LogLevel, ProfileSetting, Section, Sections, source_name};
use crate::error::CliError;

/// What a mirror is made of.
pub(crate) struct Setup {
    pub(crate) database: PathBuf,
    pub(crate) options: Options,
    pub(crate) sources: Vec<Box<dyn Source>>,
    pub(crate) iceberg: IcebergConfig,
    pub(crate) flush_interval: Duration,
    pub(crate) flush_batch_size: u64,
    pub(crate) log_level: LogLevel,
    pub(crate) metrics_address: Option<SocketAddr>,
}

impl Setup {
    pub(crate) fn new(arguments: &SyncArguments) -> Result<Self, CliError> {
        let config = match (&arguments.config, &arguments.one_table.from) {
            (Some(path), None) => Config::load(path)?,
            (None, Some(from)) => one_table(from, &arguments.one_table)?,
            (Some(_), Some(_)) => {
                return Err(CliError::Arguments(
                    "sync takes a configuration file or --from, not both".into(),
                ));
            }
            (None, None) => {
                return Err(CliError::Arguments(
                    "sync needs a configuration file, or --from, --table and --warehouse".into(),
                ));
            }
        };
        Self::of(config)
    }

    fn of(config: Config) -> Result<Self, CliError> {
        let mut sources: Vec<Box<dyn Source>> = Vec::new();
        for section in &config.file.0 {
            let source = FileSource::new(
                source_name("file", section).to_owned(),
                section.settings.clone(),
            );
            sources.push(Box::new(named("file", section, source)?));
        }
        for section in &config.postgres.0 {
            let source = PostgresSource::new(
                source_name("postgres", section).to_owned(),
                section.settings.clone(),
            );
            sources.push(Box::new(named("postgres", section, source)?));
        }
        if sources.is_empty() {
            return Err(CliError::Arguments(
                "the configuration has no source; add a file: or postgres: section".into(),
            ));
        }
        let iceberg = config.iceberg.ok_or_else(|| {
            CliError::Arguments(
                "the configuration has no iceberg: section; it needs a warehouse_path".into(),
            )
        })?;
        iceberg.check()?;
        let mut options = Options {
            profile: ProfileSetting::choice(config.profile.as_ref(), &config.database)?,
            ..Options::default()
        };
        if let Some(memory_budget_bytes) = config.buffer.memory_budget_bytes() {
            options.memory_budget_bytes = memory_budget_bytes;
        }
        Ok(Setup {
            database: config.database,
            options,
            sources,
            iceberg,
            flush_interval: config.buffer.flush_interval(),
            flush_batch_size: config.buffer.flush_batch_size,
            log_level: config.monitoring.log_level,
            metrics_address: config.metrics.listen,
        })
    }
}

fn named<S>(
    kind: &str,
    section: &Section<impl Sized>,
    source: Result<S, SourceError>,
) -> Result<S, CliError> {
    source.map_err(|error| CliError::Source {
        source_name: source_name(kind, section).to_owned(),
        error,
    })
}

/// The export settings of a warehouse in a folder.
pub(crate) fn iceberg_config(warehouse: &Path) -> Result<IcebergConfig, CliError> {
    let warehouse = warehouse.to_str().ok_or_else(|| {
        CliError::Arguments(format!(
            "--warehouse {}: the path is not UTF-8",
            warehouse.display()
        ))
    })?;
    section(json!({ "warehouse_path": warehouse }))
}

fn one_table(from: &str, arguments: &OneTableArguments) -> Result<Config, CliError> {
    let missing = |flag: &str| CliError::Arguments(format!("--from needs {flag} too"));
    let table = arguments
        .table
        .as_deref()
        .ok_or_else(|| missing("--table"))?;
    let warehouse = arguments
        .warehouse
        .as_deref()
        .ok_or_else(|| missing("--warehouse"))?;
    let (mut file, mut postgres) = (Sections::default(), Sections::default());
    if from.starts_with("postgres://") || from.starts_with("postgresql://") {
        if !arguments.key.is_empty() || arguments.columns.is_some() {
            return Err(CliError::Arguments(
                "--key and --columns are not for PostgreSQL, which knows them".into(),
            ));
        }
        let settings: PostgresConfig = section(json!({ "url": from, "tables": [table] }))?;
        postgres.0.push(Section {
            name: None,
            settings,
        });
    } else {
        if arguments.key.is_empty() {
            return Err(missing("--key"));
        }
        let columns = arguments.columns.as_deref().map(columns_from).transpose()?;
        let mut table = FileTable::new(table, &arguments.key);
        table.columns = columns.map(|columns| columns.into_iter().collect());
        file.0.push(Section {
            name: None,
            settings: FileConfig::new(from, vec![table]),
        });
    }
    Ok(Config {
        database: arguments.database.clone(),
        profile: arguments.profile.clone(),
        file,
        postgres,
        iceberg: Some(iceberg_config(warehouse)?),
        buffer: crate::config::BufferConfig::default(),
        monitoring: crate::config::MonitoringConfig::default(),
        metrics: crate::config::MetricsConfig::default(),
    })
}

/// `name:type,…` as names and types, in this order. A comma within brackets belongs to a type.
fn columns_from(text: &str) -> Result<Vec<(String, String)>, CliError> {
    let mut depth = 0usize;
    let columns = text.split(|letter| {
        match letter {
            '(' | '<' => depth += 1,
            ')' | '>' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == ',' && depth == 0
    });
    columns
        .map(|column| match column.split_once(':') {
            Some((name, column_type)) => {
                Ok((name.trim().to_owned(), column_type.trim().to_owned()))
            }
            None => Err(CliError::Arguments(format!(
                "--columns: '{column}' is not name:type"
            ))),
        })
        .collect()
}

fn section<T: DeserializeOwned>(settings: serde_json::Value) -> Result<T, CliError> {
    serde_json::from_value(settings).map_err(|error| CliError::Arguments(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_split_outside_of_brackets() {
        let columns =
            columns_from("id:int64, total: decimal(12,2) not null,at:map<string, date>").unwrap();
        let columns: Vec<(&str, &str)> = columns
            .iter()
            .map(|(name, column_type)| (name.as_str(), column_type.as_str()))
            .collect();
        assert_eq!(
            columns,
            [
                ("id", "int64"),
                ("total", "decimal(12,2) not null"),
                ("at", "map<string, date>")
            ]
        );
        assert!(columns_from("id").unwrap_err().to_string().contains("'id'"));
    }
}
