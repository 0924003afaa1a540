//! The mirror at work: sources run as tasks of their own, exports happen between.

use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::MultiProgress;
use moonshine_connectors::postgres::is_unfinished_copy;
use moonshine_connectors::{Phase, Progress, RunMode, Source, SourceContext, SourceError};
use moonshine_engine::{Database, Origin};
use moonshine_export::{ExportError, Exporter};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::progress::Display;
use super::setup::Setup;
use crate::error::CliError;

/// How often the mirror looks whether an export is due.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// The pause after an export that failed and may succeed later; doubled each time.
const RETRY_PAUSE_MIN: Duration = Duration::from_secs(1);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(60);

/// Sources, engine and exporter.
pub(crate) struct Mirror {
    database: Database,
    exporter: Exporter,
    sources: Vec<Box<dyn Source>>,
    flush_interval: Duration,
    flush_batch_size: u64,
    progress: Vec<Arc<Progress>>,
    exports: ExportClock,
}

/// When an export happened and when the next is due.
struct ExportClock {
    last: Instant,
    /// Row changes read up to the last export.
    last_rows: u64,
    /// The commit sequence of the last export; `None` before the first.
    last_seq: Option<u64>,
    /// The pause that the last failure asks for.
    retry_pause: Option<Duration>,
}

type Finished = Result<(String, Result<(), SourceError>), JoinError>;

impl Mirror {
    pub(crate) async fn open(setup: Setup) -> Result<Self, CliError> {
        let (folder, options) = (setup.database, setup.options);
        let open = move || Database::open(folder, options);
        let database = tokio::task::spawn_blocking(open).await;
        let database = database.map_err(|error| CliError::Output(error.to_string()))??;
        check_copies(&database, &setup.sources)?;
        let exporter = Exporter::open(database.clone(), &setup.iceberg).await?;
        Ok(Mirror {
            database,
            exporter,
            progress: setup.sources.iter().map(|_| Arc::default()).collect(),
            sources: setup.sources,
            flush_interval: setup.flush_interval,
            flush_batch_size: setup.flush_batch_size,
            exports: ExportClock {
                last: Instant::now(),
                last_rows: 0,
                last_seq: None,
                retry_pause: None,
            },
        })
    }

    /// Runs until every source has ended, by itself or because of `stop`; then exports what is left. Returns the names of
    /// the database's tables.
    pub(crate) async fn run(
        mut self,
        mode: RunMode,
        stop: CancellationToken,
        bars: &MultiProgress,
    ) -> Result<Vec<String>, CliError> {
        let mut display = Display::new(&self.sources, &self.progress, bars);
        let mut running = self.start(mode, &stop);
        let mut failure = None;
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                finished = running.join_next() => match finished {
                    None => break,
                    Some(finished) => if let Err(error) = outcome(finished) {
                        // The others drain, so that what they accepted is exported too.
                        stop.cancel();
                        failure.get_or_insert(error);
                    },
                },
                _ = looks.tick() => {
                    display.update();
                    if failure.is_none() && self.export_is_due() && let Err(error) = self.export_and_retry(mode).await {
                        stop.cancel();
                        failure.get_or_insert(error);
                    }
                }
            }
        }
        display.finish();
        if self
            .progress
            .iter()
            .any(|progress| progress.read().phase == Phase::Copying)
        {
            tracing::info!(
                "a first copy is not complete, so nothing of it is exported; the next run starts it again"
            );
        } else if let Err(error) = self.export().await {
            match &failure {
                None => failure = Some(error.into()),
                Some(_) => tracing::error!(%error, "the last export failed"),
            }
        }
        let tables = self.database.tables();
        let names = tables.iter().map(|table| table.name().to_owned());
        failure.map_or(Ok(names.collect()), Err)
    }

    fn start(
        &mut self,
        mode: RunMode,
        stop: &CancellationToken,
    ) -> JoinSet<(String, Result<(), SourceError>)> {
        let mut running = JoinSet::new();
        for (source, progress) in std::mem::take(&mut self.sources)
            .into_iter()
            .zip(&self.progress)
        {
            let context = SourceContext {
                database: self.database.clone(),
                mode,
                stop: stop.clone(),
                progress: progress.clone(),
            };
            running.spawn(async move {
                let outcome = source.run(context).await;
                (source.name().to_owned(), outcome)
            });
        }
        running
    }

    fn export_is_due(&self) -> bool {
        // A table that is being copied would appear in part; one whose source has not said so yet might be.
        let complete = |progress: &Arc<Progress>| {
            matches!(progress.read().phase, Phase::Streaming | Phase::Finished)
        };
        if !self.progress.iter().all(complete) {
            return false;
        }
        let since = self.exports.last.elapsed();
        if let Some(pause) = self.exports.retry_pause {
            return since >= pause;
        }
        let full = self.rows_read().saturating_sub(self.exports.last_rows) >= self.flush_batch_size;
        (full || since >= self.flush_interval)
            && self.exports.last_seq != Some(self.database.durable_seq())
    }

    fn rows_read(&self) -> u64 {
        self.progress
            .iter()
            .map(|progress| progress.read().rows)
            .sum()
    }

    /// Exports; in a continuous run what may succeed later is put off.
    async fn export_and_retry(&mut self, mode: RunMode) -> Result<(), CliError> {
        match self.export().await {
            Ok(()) => {
                self.exports.retry_pause = None;
                Ok(())
            }
            Err(error @ (ExportError::Unavailable { .. } | ExportError::Conflict { .. }))
                if mode == RunMode::Continuous =>
            {
                let pause = self
                    .exports
                    .retry_pause
                    .map_or(RETRY_PAUSE_MIN, |pause| pause * 2)
                    .min(RETRY_PAUSE_MAX);
                tracing::warn!(%error, pause_secs = pause.as_secs(), "the export failed and is tried again");
                self.exports.retry_pause = Some(pause);
                self.exports.last = Instant::now();
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn export(&mut self) -> Result<(), ExportError> {
        let rows = self.rows_read();
        let snapshot = self.database.snapshot();
        for export in self.exporter.tick(&snapshot).await? {
            tracing::info!(
                table = %export.table,
                snapshot_id = export.snapshot_id,
                commit_seq = export.commit_seq,
                rows_written = export.rows_written,
                rows_removed = export.rows_removed,
                bytes_written = export.bytes_written,
                "exported"
            );
        }
        self.exports.last = Instant::now();
        self.exports.last_rows = rows;
        self.exports.last_seq = Some(snapshot.seq());
        Ok(())
    }
}

/// Refuses to go on without a source whose first copy is not complete: its tables would be exported in part.
fn check_copies(database: &Database, sources: &[Box<dyn Source>]) -> Result<(), CliError> {
    let origins = database.snapshot().origins();
    let left_out = |origin: &&Origin| {
        is_unfinished_copy(origin) && sources.iter().all(|source| source.name() != origin.source)
    };
    match origins.iter().find(left_out) {
        None => Ok(()),
        Some(origin) => Err(CliError::Arguments(format!(
            "source '{}' is not in the configuration, and its first copy was not completed; put it back, or start with \
             another database folder",
            origin.source
        ))),
    }
}

fn outcome(finished: Finished) -> Result<(), CliError> {
    match finished {
        Ok((_, Ok(()))) => Ok(()),
        Ok((source_name, Err(error))) => Err(CliError::Source { source_name, error }),
        Err(panic) => Err(CliError::Output(format!("a source came down: {panic}"))),
    }
}
