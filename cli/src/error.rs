//! Why a command failed.

use moonshine_connectors::SourceError;
use moonshine_export::ExportError;
use moonshine_query::QueryError;
use moonshine_sysprobe::bench::BenchError;
use moonshine_sysprobe::bench::settings::SettingsError;
use moonshine_sysprobe::{ProbeError, ProfileError};

use crate::config::ConfigError;

/// The exit status of a run of jobs that a signal ended, as fio has it.
pub(crate) const EXIT_CODE_STOPPED: u8 = 128;

/// Why a command failed; its text is what the user sees.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The arguments don't fit together.
    #[error("{0}")]
    Arguments(String),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("source '{source_name}': {error}")]
    Source {
        source_name: String,
        error: SourceError,
    },
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error(transparent)]
    Engine(#[from] moonshine_engine::Error),
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error(transparent)]
    Profile(#[from] ProfileError),
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// An I/O of a job failed; the report was printed all the same.
    #[error("{0}")]
    Job(String),
    /// A check found problems; they were printed all the same.
    #[error("{0}")]
    Damaged(String),
    /// A signal ended a run of jobs; the report was printed all the same.
    #[error("stopped by a signal")]
    Stopped,
    /// The program can't write its answer or start its threads.
    #[error("{0}")]
    Output(String),
}

impl CliError {
    /// 2 where the user has to mend something before another try, else 1.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            CliError::Arguments(_)
            | CliError::Config(_)
            | CliError::Settings(_)
            | CliError::Bench(
                BenchError::Options { .. } | BenchError::File { .. } | BenchError::Engine { .. },
            )
            | CliError::Source {
                error: SourceError::Config(_),
                ..
            }
            | CliError::Export(ExportError::Config(_))
            | CliError::Query(QueryError::Sql(_))
            | CliError::Probe(
                ProbeError::Folder { .. }
                | ProbeError::Space { .. }
                | ProbeError::Unreadable { .. }
                | ProbeError::TooSmall { .. },
            )
            | CliError::Profile(
                ProfileError::Damaged { .. }
                | ProfileError::Newer { .. }
                | ProfileError::Foreign { .. },
            ) => 2,
            CliError::Stopped => EXIT_CODE_STOPPED,
            _ => 1,
        }
    }
}
