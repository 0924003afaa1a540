//! Following the server's log: reads frames, hands changes to the [`Applier`], submits what is complete, and tells the
//! server what is durable.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::time::MissedTickBehavior;
use tokio_postgres::Client;
use tokio_postgres::types::PgLsn;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::apply::{Applier, Staged};
use super::connection::{ReplicationConnection, WireError};
use super::pgoutput::{Change, Envelope, Malformed, encode_status_update};
use super::types::POSTGRES_EPOCH_US;
use super::{blocking, catalog};
use crate::{Phase, Progress, SourceContext, SourceError};

/// How often the server is told what is durable.
const STATUS_PERIOD: Duration = Duration::from_secs(1);
/// The same while waiting for the end of the stream: each time the server is asked how far it is.
const STATUS_PERIOD_ONCE: Duration = Duration::from_millis(100);
/// How often a position is stored that was reached without a change of a mirrored table.
const IDLE_POSITION_PERIOD: Duration = Duration::from_secs(10);
const WAL_END_PERIOD: Duration = Duration::from_secs(1);
/// How long the server gets for ending the stream.
const FINISH_WAIT: Duration = Duration::from_secs(5);

/// A running stream.
pub(super) struct Stream {
    connection: ReplicationConnection,
    applier: Applier,
    progress: Arc<Progress>,
    stop: CancellationToken,
    /// Where to stop by itself.
    end: Option<PgLsn>,
    /// How far the server is, as far as it is known.
    wal_end: Arc<AtomicU64>,
    status_due: tokio::time::Interval,
    position_stored: Instant,
    _wal_end_watch: AbortOnDropHandle<()>,
}

impl Stream {
    pub(super) fn new(
        connection: ReplicationConnection,
        applier: Applier,
        context: &SourceContext,
        client: Client,
        end: Option<PgLsn>,
    ) -> Self {
        let wal_end = Arc::new(AtomicU64::new(applier.position().into()));
        let watch = tokio::spawn(watch_wal_end(client, Arc::clone(&wal_end)));
        let mut status_due = tokio::time::interval(if end.is_some() {
            STATUS_PERIOD_ONCE
        } else {
            STATUS_PERIOD
        });
        status_due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            connection,
            applier,
            progress: Arc::clone(&context.progress),
            stop: context.stop.clone(),
            end,
            wal_end,
            status_due,
            position_stored: Instant::now(),
            _wal_end_watch: AbortOnDropHandle::new(watch),
        }
    }

    /// Follows the log to the end, or until told to stop. However it ends, what was read whole is durable then.
    pub(super) async fn run(mut self) -> Result<(), SourceError> {
        self.progress.set_phase(Phase::Streaming);
        let followed = self.follow().await;
        if followed.is_ok() {
            self.applier.stage_position();
        }
        // First, since who connects again goes on behind what is durable: nothing may be on its way to there then.
        self.settle().await?;
        followed?;
        // What is durable stays so whether or not the server hears of it; it would send it again and be told then.
        let farewell = async {
            self.send_status(false).await?;
            self.connection.finish().await
        };
        match tokio::time::timeout(FINISH_WAIT, farewell).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the stream did not end in order"),
            Err(_) => tracing::debug!("the server did not end the stream in time"),
        }
        Ok(())
    }

    async fn follow(&mut self) -> Result<(), SourceError> {
        loop {
            self.take_buffered().await?;
            self.submit_staged().await?;
            self.report_lag();
            let stopping = self.stop.is_cancelled();
            let at_end = self.end.is_some_and(|end| self.applier.position() >= end);
            if (stopping || at_end) && !self.applier.in_transaction() {
                return Ok(());
            }
            tokio::select! {
                filled = self.connection.fill() => filled.map_err(lost)?,
                _ = self.status_due.tick() => self.tick().await?,
                () = self.stop.cancelled(), if !stopping => {}
            }
        }
    }

    /// Handles what has been received already.
    async fn take_buffered(&mut self) -> Result<(), SourceError> {
        while let Some(payload) = self.connection.buffered_copy_data().map_err(lost)? {
            let size_bytes = u64::try_from(payload.len()).unwrap_or(0);
            match Envelope::decode(payload).map_err(|error| self.malformed(&error))? {
                Envelope::Keepalive {
                    wal_end,
                    reply_requested,
                } => {
                    self.wal_end.fetch_max(wal_end.into(), Ordering::Relaxed);
                    self.applier.advance(wal_end);
                    if reply_requested {
                        // A server that shuts down asks until all that it sent is durable here.
                        self.applier.stage_position();
                        self.settle().await?;
                        self.send_status(false).await.map_err(lost)?;
                    }
                }
                Envelope::Data(message) => {
                    let change = Change::decode(message).map_err(|error| self.malformed(&error))?;
                    if self.applier.needs_engine_row(&change) && !self.applier.is_settled() {
                        self.settle().await?;
                    }
                    self.applier.apply(change, size_bytes)?;
                    if self.applier.is_full() {
                        self.submit_staged().await?;
                    }
                }
            }
        }
        Ok(())
    }

    fn malformed(&self, error: &Malformed) -> SourceError {
        SourceError::Record {
            place: format!("replication stream behind LSN {}", self.applier.position()),
            reason: error.to_string(),
        }
    }

    async fn tick(&mut self) -> Result<(), SourceError> {
        if self.position_stored.elapsed() >= IDLE_POSITION_PERIOD && self.applier.is_settled() {
            self.applier.stage_position();
            self.position_stored = Instant::now();
        }
        self.send_status(self.end.is_some()).await.map_err(lost)
    }

    /// Tells the server what was read and what is durable.
    async fn send_status(&mut self, request_reply: bool) -> Result<(), WireError> {
        let durable = self.applier.durable();
        let update =
            encode_status_update(self.applier.position(), durable, clock_us(), request_reply);
        self.connection.send_copy_data(update).await
    }

    /// Hands complete transactions to the engine. While it holds them back, the server goes on hearing from here.
    async fn submit_staged(&mut self) -> Result<(), SourceError> {
        let staged = self.applier.take_staged();
        if staged.is_empty() {
            return Ok(());
        }
        let submitting = tokio::task::spawn_blocking(move || submit_all(staged));
        let submitted = self.while_reporting(submitting).await?;
        for submitted in submitted.done {
            if submitted.row_count > 0 {
                self.progress
                    .count_transaction(submitted.row_count, submitted.size_bytes);
            }
            self.applier.submitted(submitted.seq, submitted.end);
        }
        submitted.failure.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Submits what is complete and waits until all of it is durable and visible.
    async fn settle(&mut self) -> Result<(), SourceError> {
        let submitted = self.submit_staged().await;
        let seq = self.applier.submitted_seq();
        if seq > 0 {
            let database = self.applier.database().clone();
            blocking(move || Ok(database.wait_durable(seq)?)).await?;
        }
        submitted
    }

    async fn while_reporting<T>(
        &mut self,
        mut task: tokio::task::JoinHandle<T>,
    ) -> Result<T, SourceError> {
        loop {
            tokio::select! {
                ended = &mut task => {
                    return ended.map_err(|error| {
                        SourceError::Unavailable(format!("a call of the engine did not end: {error}"))
                    });
                }
                _ = self.status_due.tick() => {
                    // If the connection is lost, the next read says so; the submission has to be accounted for first.
                    if let Err(error) = self.send_status(false).await {
                        tracing::debug!(%error, "sending a status update");
                    }
                }
            }
        }
    }

    fn report_lag(&self) {
        let wal_end = self.wal_end.load(Ordering::Relaxed);
        self.progress
            .set_lag_bytes(wal_end.saturating_sub(self.applier.position().into()));
    }
}

/// What became of a batch of transactions.
struct Submission {
    done: Vec<Submitted>,
    failure: Option<moonshine_engine::Error>,
}

struct Submitted {
    seq: u64,
    end: PgLsn,
    row_count: u64,
    size_bytes: u64,
}

/// Submits in order, up to the first that the engine refuses.
fn submit_all(staged: Vec<Staged>) -> Submission {
    let mut done = Vec::with_capacity(staged.len());
    for Staged {
        transaction,
        end,
        row_count,
        size_bytes,
    } in staged
    {
        match transaction.submit() {
            Ok(handle) => done.push(Submitted {
                seq: handle.seq(),
                end,
                row_count,
                size_bytes,
            }),
            Err(error) => {
                return Submission {
                    done,
                    failure: Some(error),
                };
            }
        }
    }
    Submission {
        done,
        failure: None,
    }
}

/// Asks the server now and then how long its log is; a server that is behind with decoding does not say it by itself.
async fn watch_wal_end(client: Client, wal_end: Arc<AtomicU64>) {
    let mut due = tokio::time::interval(WAL_END_PERIOD);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        let Ok(row) = client.query_one("SELECT pg_current_wal_lsn()", &[]).await else {
            return;
        };
        if let Ok(current) = catalog::get::<PgLsn>(&row, 0) {
            wal_end.fetch_max(current.into(), Ordering::Relaxed);
        }
    }
}

fn lost(error: WireError) -> SourceError {
    error.into_source_error("PostgreSQL, reading the replication stream")
}

/// Microseconds since 2000-01-01, as the protocol counts.
fn clock_us() -> i64 {
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since_1970.as_micros())
        .unwrap_or(i64::MAX)
        .saturating_sub(POSTGRES_EPOCH_US)
}
