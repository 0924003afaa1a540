//! Time and identities, which the exporter takes from its environment so that a test can replay them.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use uuid::Uuid;

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

/// What an exporter takes from outside besides the database and the catalog.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where identities come from.
    pub identities: Arc<dyn Identities>,
}

impl Default for Environment {
    fn default() -> Self {
        Environment {
            clock: Arc::new(SystemClock),
            identities: Arc::new(RandomIdentities),
        }
    }
}

impl Environment {
    /// A snapshot id: 63 random bits, as Iceberg's own writers make them.
    pub(crate) fn snapshot_id(&self) -> i64 {
        let (high, low) = self.identities.uuid().as_u64_pair();
        i64::from_be_bytes(((high ^ low) & (u64::MAX >> 1)).to_be_bytes())
    }
}
