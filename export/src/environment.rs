//! Time, identities and threads, which the exporter takes from its environment so that a test can replay them.

use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::channel::oneshot;
use futures::future::{Either, select};
use uuid::Uuid;

use crate::error::{At, Result};

/// Tells the time, and lets it pass.
#[async_trait]
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    fn now_ms(&self) -> i64;

    /// Milliseconds since some instant, which nobody sets: for how long something took, or waits.
    fn monotonic_ms(&self) -> i64 {
        self.now_ms()
    }

    /// Returns after so many milliseconds.
    async fn pause(&self, duration_ms: u64);
}

/// Makes identities that nobody else makes.
pub trait Identities: Send + Sync + std::fmt::Debug {
    /// A fresh UUID.
    fn uuid(&self) -> Uuid;
}

/// Does what blocks or computes for long, and says when something took too long.
#[async_trait]
pub trait Work: Send + Sync + std::fmt::Debug {
    /// Does it aside, on a thread that may block.
    fn spawn(&self, work: Box<dyn FnOnce() + Send>);

    /// Waits for something asynchronous, on a thread that [`spawn`](Self::spawn) gave.
    fn wait(&self, awaited: Pin<&mut (dyn Future<Output = ()> + Send)>);

    /// Returns after so much time, for something that is not to take longer.
    async fn limit(&self, limit: Duration);
}

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place where time enters this crate"
    )]
    fn now_ms(&self) -> i64 {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| {
                i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
            })
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "the one place where time enters this crate"
    )]
    fn monotonic_ms(&self) -> i64 {
        static BEGIN: OnceLock<Instant> = OnceLock::new();
        let since = BEGIN.get_or_init(Instant::now).elapsed();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    async fn pause(&self, duration_ms: u64) {
        tokio::time::sleep(Duration::from_millis(duration_ms)).await;
    }
}

/// Random UUIDs of version 4.
#[derive(Clone, Copy, Debug, Default)]
pub struct RandomIdentities;

impl Identities for RandomIdentities {
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place where randomness enters this crate"
    )]
    fn uuid(&self) -> Uuid {
        Uuid::new_v4()
    }
}

/// Threads of the tokio runtime that the exporter is called in.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioWork;

#[async_trait]
impl Work for TokioWork {
    fn spawn(&self, work: Box<dyn FnOnce() + Send>) {
        tokio::task::spawn_blocking(work);
    }

    fn wait(&self, awaited: Pin<&mut (dyn Future<Output = ()> + Send)>) {
        futures::executor::block_on(awaited);
    }

    async fn limit(&self, limit: Duration) {
        tokio::time::sleep(limit).await;
    }
}

/// What an exporter takes from outside besides the database and the catalog.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where identities come from.
    pub identities: Arc<dyn Identities>,
    /// Where what blocks or computes for long is done.
    pub work: Arc<dyn Work>,
}

impl Default for Environment {
    fn default() -> Self {
        Environment {
            clock: Arc::new(SystemClock),
            identities: Arc::new(RandomIdentities),
            work: Arc::new(TokioWork),
        }
    }
}

impl dyn Work + '_ {
    /// What `act` makes, done aside; `place` is where it fails should it end in a panic.
    pub(crate) async fn away<T: Send + 'static>(
        &self,
        place: &str,
        act: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let (sender, receiver) = oneshot::channel();
        self.spawn(Box::new(move || {
            // Who waited for it may have ended.
            let _unwanted = sender.send(act());
        }));
        receiver.await.at(place)
    }

    /// What comes of something asynchronous, for a thread that may block.
    pub(crate) fn output<T: Send>(&self, awaited: impl Future<Output = T> + Send) -> Option<T> {
        let mut output = None;
        self.wait(pin!(async { output = Some(awaited.await) }));
        output
    }
}

impl Environment {
    /// What comes of something within so much time; `None` if nothing did.
    pub(crate) async fn within<T>(
        &self,
        limit: Duration,
        awaited: impl Future<Output = T>,
    ) -> Option<T> {
        match select(pin!(awaited), self.work.limit(limit)).await {
            Either::Left((output, _)) => Some(output),
            Either::Right(_) => None,
        }
    }

    /// A snapshot id: 63 random bits, as Iceberg's own writers make them.
    pub(crate) fn snapshot_id(&self) -> i64 {
        let (high, low) = self.identities.uuid().as_u64_pair();
        i64::from_be_bytes(((high ^ low) & (u64::MAX >> 1)).to_be_bytes())
    }
}
