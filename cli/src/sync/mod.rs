//! `moonshine sync`: sources write into the engine, the exporter follows, until the end or a signal.
//!
//! [`setup`] makes sources and settings of the configuration file or of flags; [`mirror`] runs them; [`progress`] shows
//! how far they are; [`metrics`] tells Prometheus; [`signals`] turns SIGINT and SIGTERM into an orderly end; [`report`] is what `--once` ends with.

mod metrics;
mod mirror;
mod progress;
mod report;
mod setup;
mod signals;

use indicatif::MultiProgress;
use moonshine_connectors::RunMode;
use moonshine_export::IcebergReader;
use tokio_util::sync::CancellationToken;

use crate::args::SyncArguments;
use crate::error::CliError;
use crate::log;
pub(crate) use mirror::LAST_MAINTENANCE_MAX;
use mirror::Mirror;
use setup::Setup;
pub(crate) use setup::iceberg_config;

/// Runs the command.
pub(crate) async fn run(arguments: SyncArguments) -> Result<(), CliError> {
    let setup = Setup::new(&arguments)?;
    let bars = MultiProgress::new();
    log::start(setup.log_level, &bars);
    if arguments.check {
        return check(&setup).await;
    }
    let stop = CancellationToken::new();
    signals::listen(stop.clone())?;
    let mode = if arguments.once {
        RunMode::Once
    } else {
        RunMode::Continuous
    };
    let report = report::Report::new(&arguments, &setup);
    let listener = match setup.metrics_address {
        Some(address) => Some(metrics::listen(address).await?),
        None => None,
    };
    let mirror = Mirror::open(setup, mode).await?;
    if let Some(listener) = listener {
        // It ends with the program.
        tokio::spawn(metrics::serve(listener, mirror.told()));
    }
    let table_names = mirror.run(mode, stop, &bars).await?;
    if arguments.once {
        report.print(&table_names).await
    } else {
        Ok(())
    }
}

/// Looks at everything and changes nothing.
async fn check(setup: &Setup) -> Result<(), CliError> {
    for source in &setup.sources {
        let checked = source.check().await;
        checked.map_err(|error| CliError::Source {
            source_name: source.name().to_owned(),
            error,
        })?;
    }
    let reader = IcebergReader::open_if_exists(&setup.iceberg).await?;
    if let Some(reader) = reader {
        reader.check().await?;
    }
    println!(
        "ok: configuration, {} and catalog",
        counted(setup.sources.len(), "source")
    );
    Ok(())
}

/// A number with its noun.
fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
