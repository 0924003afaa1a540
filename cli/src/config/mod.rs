//! The configuration file: one YAML format for all sources.
//!
//! A file goes through four steps: [`tree`] parses the YAML into nodes that know their line, [`mod@env`] fills `${NAME}` into
//! their texts, [`de`] reads the structs here (and those of the crates that own a section) from the nodes, and
//! [`Config::validate`] checks what no single key can. An error of any step names file, line and config path
//! ([`error`]). [`schema`] makes the JSON Schema of the same structs.

mod de;
mod env;
mod error;
mod profile;
pub(crate) mod schema;
mod sections;
#[cfg(test)]
mod tests;
mod tree;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use moonshine_connectors::file::FileConfig;
use moonshine_connectors::postgres::PostgresConfig;
use moonshine_export::IcebergConfig;
use schemars::JsonSchema;
use serde::Deserialize;

pub(crate) use error::ConfigError;
use error::NodeError;
pub(crate) use profile::ProfileSetting;
pub(crate) use sections::{Section, Sections};

/// Everything a configuration file can say.
///
/// `${NAME}` in any text value is the value of that environment variable, `${NAME:-default}` has a default. Relative paths
/// are relative to the working directory.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The engine's folder; created if missing.
    #[serde(default = "default_database")]
    pub(crate) database: PathBuf,
    /// What a new database is laid out from: `measure` (its device is measured once, for up to ten seconds),
    /// `safe-defaults`, or the path of a profile that `moonshine probe --profile` wrote. Default: PROFILE.toml in the
    /// database's folder if it is there, else `measure`. A database that exists keeps what it was created with.
    #[serde(default)]
    pub(crate) profile: Option<ProfileSetting>,
    /// Debezium change events as JSON lines, from a file, a folder or standard input. One section, or a list of them.
    #[serde(default)]
    pub(crate) file: Sections<FileConfig>,
    /// A PostgreSQL database, followed by logical replication. One section, or a list of them.
    #[serde(default)]
    pub(crate) postgres: Sections<PostgresConfig>,
    /// The Iceberg tables that the engine's tables are exported to.
    #[serde(default)]
    pub(crate) iceberg: Option<IcebergConfig>,
    /// How writes are gathered before they are exported.
    #[serde(default)]
    pub(crate) buffer: BufferConfig,
    /// What the program tells about itself.
    #[serde(default)]
    pub(crate) monitoring: MonitoringConfig,
    /// Where a running `sync` tells Prometheus about itself.
    #[serde(default)]
    pub(crate) metrics: MetricsConfig,
}

/// How writes are gathered before they are exported.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BufferConfig {
    /// Seconds from one export to the next; fractions are fine. This is how old the Iceberg tables get.
    #[serde(default = "default_flush_interval_secs")]
    #[schemars(range(min = 0.01))]
    pub(crate) flush_interval_secs: f64,
    /// Row changes since the last export that start the next one early.
    #[serde(default = "default_flush_batch_size")]
    #[schemars(range(min = 1))]
    pub(crate) flush_batch_size: u64,
    /// Memory that the engine's rows may take, in MiB. Default: the engine's own choice.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub(crate) hot_max_size_mb: Option<u64>,
}

/// What the program tells about itself.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MonitoringConfig {
    /// The least important log lines that are written to standard error. The environment variable `RUST_LOG` goes before
    /// it.
    #[serde(default)]
    pub(crate) log_level: LogLevel,
}

/// Where a running `sync` tells Prometheus about itself.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MetricsConfig {
    /// A loopback address and port, such as `127.0.0.1:9184`: metrics are served at its `/metrics`. Default: they are not.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) listen: Option<SocketAddr>,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogLevel {
    /// Nothing.
    Off,
    /// What stopped the program.
    Error,
    /// What went wrong and is tried again.
    Warn,
    /// What is going on.
    #[default]
    Info,
    /// Each step.
    Debug,
    /// Everything.
    Trace,
}

fn default_database() -> PathBuf {
    PathBuf::from("./data")
}

fn default_flush_interval_secs() -> f64 {
    1.0
}

fn default_flush_batch_size() -> u64 {
    500_000
}

impl Default for BufferConfig {
    fn default() -> Self {
        BufferConfig {
            flush_interval_secs: default_flush_interval_secs(),
            flush_batch_size: default_flush_batch_size(),
            hot_max_size_mb: None,
        }
    }
}

impl BufferConfig {
    /// Time from one export to the next.
    pub(crate) fn flush_interval(&self) -> Duration {
        Duration::from_secs_f64(self.flush_interval_secs)
    }

    /// Memory that the engine's rows may take, in bytes.
    pub(crate) fn memory_budget_bytes(&self) -> Option<u64> {
        self.hot_max_size_mb
            .map(|mebibytes| mebibytes.saturating_mul(1024 * 1024))
    }
}

impl LogLevel {
    /// The name as `RUST_LOG` spells it.
    pub(crate) fn directive(self) -> &'static str {
        match self {
            LogLevel::Off => "off",
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

impl Config {
    /// Reads and checks a configuration file; variables come from the environment.
    pub(crate) fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, &path.display().to_string(), &|name| {
            std::env::var(name).ok()
        })
    }

    /// Reads and checks a configuration; `file` is what errors call it.
    pub(crate) fn parse(
        text: &str,
        file: &str,
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let tree = tree::parse(text, file, lookup)?;
        Config::deserialize(&tree)
            .and_then(|config| {
                config.validate().map_err(|error| error.locate(&tree))?;
                Ok(config)
            })
            .map_err(|error| error.into_config_error(file))
    }

    fn validate(&self) -> Result<(), NodeError> {
        let seconds = self.buffer.flush_interval_secs;
        if !(0.01..=86_400.0).contains(&seconds) {
            return Err(
                NodeError::text(format!("{seconds} is not from 0.01 to 86400"))
                    .below("flush_interval_secs")
                    .below("buffer"),
            );
        }
        for (key, value) in [
            ("flush_batch_size", Some(self.buffer.flush_batch_size)),
            ("hot_max_size_mb", self.buffer.hot_max_size_mb),
        ] {
            if value == Some(0) {
                return Err(NodeError::text("0 is too small; the least is 1")
                    .below(key)
                    .below("buffer"));
            }
        }
        if let Some(address) = self
            .metrics
            .listen
            .filter(|address| !address.ip().is_loopback())
        {
            let reason =
                format!("{address} is no loopback address; metrics are told to this machine only");
            return Err(NodeError::text(reason).below("listen").below("metrics"));
        }
        let mut names = Vec::new();
        check_names("file", &self.file, &mut names)?;
        check_names("postgres", &self.postgres, &mut names)
    }
}

/// The names that the sources of a kind go by: their own, or the kind where there is only one.
pub(crate) fn source_name<'a>(kind: &'a str, section: &'a Section<impl Sized>) -> &'a str {
    section.name.as_deref().unwrap_or(kind)
}

/// Positions are kept under a source's name, so a name that depended on the order in a list would mix them up.
fn check_names<T>(
    kind: &str,
    sections: &Sections<T>,
    names: &mut Vec<String>,
) -> Result<(), NodeError> {
    let several = sections.0.len() > 1;
    for (index, section) in sections.0.iter().enumerate() {
        let place = |error: NodeError| {
            if several {
                error.below(format!("[{index}]")).below(kind)
            } else {
                error.below(kind)
            }
        };
        if several && section.name.is_none() {
            return Err(place(NodeError::text(
                "key 'name' is missing; each of several sources needs one",
            )));
        }
        let name = source_name(kind, section).to_owned();
        if names.contains(&name) {
            return Err(place(
                NodeError::text(format!("another source is named '{name}' too")).below("name"),
            ));
        }
        names.push(name);
    }
    Ok(())
}
