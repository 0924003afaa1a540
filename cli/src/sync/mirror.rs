//! The mirror at work: sources run as tasks of their own, exports happen between.
//!
//! A catalog that is down, or a table that can't be exported, keeps no source from being read: what is read is in the
//! engine, up to its limits, and is exported when the cause is gone. Only what concerns all tables ends the mirror.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use indicatif::MultiProgress;
use moonshine_connectors::postgres::is_unfinished_copy;
use moonshine_connectors::{Phase, Progress, RunMode, Source, SourceContext, SourceError};
use moonshine_engine::{Database, Origin};
use moonshine_export::{
    ExportError, Exporter, ExporterMetrics, IcebergConfig, Maintainer, MaintenanceAction, Pace,
    TableExport,
};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::metrics::Told;
use super::progress::Display;
use super::setup::Setup;
use crate::error::CliError;

/// How often the mirror looks whether an export is due.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// How often the exported tables are looked after.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(5);
/// How long an export that is under way may still take after the signal to stop; what it leaves is settled by the next one.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// How long the last export may take. What it leaves is exported by the next run.
const LAST_EXPORT_MAX: Duration = Duration::from_secs(120);
/// How long the tables are looked after at the end of a sync that runs once.
pub(crate) const LAST_MAINTENANCE_MAX: Duration = Duration::from_secs(30);
/// The pause after a look at a catalog that did not answer; doubled each time.
const RETRY_PAUSE_MIN: Duration = Duration::from_secs(1);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(60);

/// Sources, engine and exporter.
pub(crate) struct Mirror {
    database: Database,
    /// `None` as long as the catalog was not reached.
    exporter: Option<Exporter>,
    /// Set with the exporter.
    exporter_metrics: Arc<OnceLock<ExporterMetrics>>,
    maintenance: Option<AbortHandle>,
    iceberg: IcebergConfig,
    sources: Vec<Box<dyn Source>>,
    flush_interval: Duration,
    flush_batch_size: u64,
    progress: Vec<Arc<Progress>>,
    exports: ExportClock,
}

/// What the last export was, and when the catalog is tried again.
struct ExportClock {
    /// Row changes read up to the last export.
    last_rows: u64,
    /// The commit sequence up to which every table is exported; `None` before the first export.
    last_seq: Option<u64>,
    /// When the catalog is tried again, and the pause before it.
    retry: Option<(Instant, Duration)>,
}

type Finished = Result<(String, Result<(), SourceError>), JoinError>;

impl Mirror {
    pub(crate) async fn open(setup: Setup, mode: RunMode) -> Result<Self, CliError> {
        let (folder, options) = (setup.database, setup.options);
        let open = move || Database::open(folder, options);
        let database = tokio::task::spawn_blocking(open).await;
        let database = database.map_err(|error| CliError::Output(error.to_string()))??;
        check_copies(&database, &setup.sources)?;
        setup.iceberg.check()?;
        let exporter = match mode {
            RunMode::Once => Some(Exporter::open(database.clone(), &setup.iceberg).await?),
            RunMode::Continuous => None,
        };
        let exporter_metrics = Arc::new(OnceLock::new());
        if let Some(exporter) = &exporter {
            exporter_metrics.get_or_init(|| exporter.metrics());
        }
        Ok(Mirror {
            database,
            exporter,
            exporter_metrics,
            maintenance: None,
            iceberg: setup.iceberg,
            progress: setup.sources.iter().map(|_| Arc::default()).collect(),
            sources: setup.sources,
            flush_interval: setup.flush_interval,
            flush_batch_size: setup.flush_batch_size,
            exports: ExportClock {
                last_rows: 0,
                last_seq: None,
                retry: None,
            },
        })
    }

    /// What it tells about itself.
    pub(crate) fn told(&self) -> Told {
        Told {
            database: self.database.clone(),
            exporter: self.exporter_metrics.clone(),
            freshness_ms: self.freshness_ms(),
        }
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
                    if failure.is_none() && let Err(error) = self.export_due(&stop).await {
                        stop.cancel();
                        failure.get_or_insert(error.into());
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
        } else if let Err(error) = self.last_export().await {
            match &failure {
                None => failure = Some(error.into()),
                Some(_) => tracing::error!(%error, "the last export failed"),
            }
        }
        if let Some(maintenance) = self.maintenance.take() {
            maintenance.abort();
        }
        if let (RunMode::Once, None, Some(exporter)) = (mode, &failure, &self.exporter) {
            // Nobody else may ever look after the tables.
            log_maintenance(&exporter.maintainer().run_at_end(LAST_MAINTENANCE_MAX).await);
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

    /// Whether no table would appear in part, and there may be something to export.
    fn may_export(&self) -> bool {
        // A table that is being copied would appear in part; one whose source has not said so yet might be.
        let complete = |progress: &Arc<Progress>| {
            matches!(progress.read().phase, Phase::Streaming | Phase::Finished)
        };
        self.progress.iter().all(complete)
            && self.exports.last_seq != Some(self.database.durable_seq())
    }

    fn rows_read(&self) -> u64 {
        self.progress
            .iter()
            .map(|progress| progress.read().rows)
            .sum()
    }

    fn freshness_ms(&self) -> i64 {
        i64::try_from(self.flush_interval.as_millis()).unwrap_or(i64::MAX)
    }

    fn pace(&self) -> Pace {
        let waiting = self.rows_read().saturating_sub(self.exports.last_rows);
        Pace {
            freshness_ms: self.freshness_ms(),
            is_full: waiting >= self.flush_batch_size,
        }
    }

    /// Says what was exported, and begins the export of the tables that are due. What fails of a table is tried again later.
    async fn export_due(&mut self, stop: &CancellationToken) -> Result<(), ExportError> {
        let freshness_ms = self.freshness_ms();
        if let Some(exporter) = &mut self.exporter {
            let ended = exporter.ended()?;
            if !ended.is_empty() {
                log_exports(&ended);
                exporter.cadences(freshness_ms);
            }
        }
        if stop.is_cancelled() || !self.may_export() {
            return Ok(());
        }
        let connected = tokio::select! {
            connected = self.connect() => connected?,
            () = stop.cancelled() => false,
        };
        let (pace, rows, seq) = (self.pace(), self.rows_read(), self.database.durable_seq());
        if let (true, Some(exporter)) = (connected, &mut self.exporter) {
            // Tables may be waiting after a failure, or for their budget.
            if exporter.is_exported_up_to(seq) {
                self.exports.last_seq = Some(seq);
            } else if exporter.begin_due(pace) {
                self.exports.last_rows = rows;
            }
        }
        Ok(())
    }

    /// Connects to the catalog if that was not possible before; `false` if it still isn't.
    async fn connect(&mut self) -> Result<bool, ExportError> {
        if self.exporter.is_none() {
            let retry = self.exports.retry;
            if retry.is_some_and(|(at, _)| Instant::now() < at) {
                return Ok(false);
            }
            match Exporter::connect(self.database.clone(), &self.iceberg).await {
                Ok(exporter) => {
                    self.exporter_metrics.get_or_init(|| exporter.metrics());
                    self.exporter = Some(exporter);
                }
                Err(error @ ExportError::Unavailable { .. }) => {
                    let pause = retry.map_or(RETRY_PAUSE_MIN, |(_, pause)| pause * 2);
                    let pause = pause.min(RETRY_PAUSE_MAX);
                    tracing::warn!(%error, pause_secs = pause.as_secs(), "the catalog is not reached and is tried again");
                    self.exports.retry = Some((Instant::now() + pause, pause));
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        if let (None, Some(exporter)) = (&self.maintenance, &self.exporter) {
            self.maintenance = Some(tokio::spawn(maintain(exporter.maintainer())).abort_handle());
        }
        Ok(true)
    }

    /// Exports all that there is, whatever failed before.
    async fn last_export(&mut self) -> Result<(), ExportError> {
        let last = async {
            if self.exporter.is_none() {
                self.exporter =
                    Some(Exporter::connect(self.database.clone(), &self.iceberg).await?);
            }
            if let Some(exporter) = &mut self.exporter {
                if let Ok(ended) = tokio::time::timeout(STOP_GRACE, exporter.finish()).await {
                    log_exports(&ended?);
                }
                let snapshot = self.database.snapshot();
                log_exports(&exporter.tick(&snapshot).await?);
            }
            Ok(())
        };
        let timed_out = |_| ExportError::Unavailable {
            place: "the last export".into(),
            reason: format!("not done within {} s", LAST_EXPORT_MAX.as_secs()),
        };
        tokio::time::timeout(LAST_EXPORT_MAX, last)
            .await
            .map_err(timed_out)?
    }
}

fn log_exports(exports: &[TableExport]) {
    for export in exports {
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
}

/// Looks after the exported tables, beside their exports, for as long as it is let.
async fn maintain(maintainer: Maintainer) {
    loop {
        tokio::time::sleep(MAINTENANCE_INTERVAL).await;
        log_maintenance(&maintainer.run_due().await);
    }
}

fn log_maintenance(actions: &[MaintenanceAction]) {
    for action in actions {
        tracing::info!(
            table = %action.table,
            task = %action.task,
            items = action.items,
            files_written = action.files_written,
            files_removed = action.files_removed,
            "maintained"
        );
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
