//! Credentials that a catalog gives for a table. They end, and are asked for again before.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use object_store::CredentialProvider;
use tokio::sync::Mutex;

use super::StoreProperties;
use crate::environment::Clock;
use crate::error::Result;

/// Credentials are asked for again so long before they end at most, in milliseconds: clocks differ. Of those that live shortly it is
/// a third of their life.
const MARGIN_MAX_MS: i64 = 300_000;

/// After so long credentials are asked for again that do not say when they end, in milliseconds.
const UNKNOWN_LIFE_MS: i64 = 600_000;

/// The catalog is asked for them once in so many milliseconds at most, however many requests want them.
const PAUSE_MS: i64 = 5_000;

/// When credentials end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// They do not.
    Never,
    /// They do not say.
    Unknown,
    /// Then, in milliseconds since 1970-01-01T00:00:00Z.
    AtMs(i64),
}

impl End {
    /// Of credentials that are given for a time: `end_ms` is what they say.
    pub(super) fn of(end_ms: Option<i64>) -> End {
        end_ms.map_or(End::Unknown, End::AtMs)
    }

    /// When credentials that were given now are asked for again.
    fn renew_ms(self, now_ms: i64) -> i64 {
        let at_ms = match self {
            End::Never => i64::MAX,
            End::Unknown => now_ms.saturating_add(UNKNOWN_LIFE_MS),
            End::AtMs(end_ms) => {
                let life_ms = end_ms.saturating_sub(now_ms);
                end_ms.saturating_sub((life_ms / 3).clamp(0, MARGIN_MAX_MS))
            }
        };
        at_ms.max(now_ms.saturating_add(PAUSE_MS))
    }
}

/// Gives credentials.
#[async_trait]
pub(crate) trait CredentialSource: Send + Sync {
    /// The properties of the table's store, with fresh credentials among them.
    async fn properties(&self) -> Result<HashMap<String, String>>;
}

/// How credentials are had again.
#[derive(Clone)]
pub(crate) struct Renewal {
    /// Who gives them.
    pub(crate) source: Arc<dyn CredentialSource>,
    /// What the properties of the configuration are.
    pub(crate) configured: StoreProperties,
    /// Says when they end.
    pub(crate) clock: Arc<dyn Clock>,
}

/// Credentials as they are read from properties, and when they end.
pub(super) type Read<C> = fn(&StoreProperties) -> Option<(C, End)>;

/// Credentials that are asked for again before they end.
pub(super) struct Renewed<C> {
    renewal: Renewal,
    read: Read<C>,
    current: Mutex<Current<C>>,
}

struct Current<C> {
    credential: Arc<C>,
    end: End,
    renew_ms: i64,
    /// Why there are no newer ones, since they were asked for.
    failure: Option<String>,
}

impl<C> Current<C> {
    fn new((credential, end): (C, End), now_ms: i64) -> Self {
        Current {
            credential: Arc::new(credential),
            end,
            renew_ms: end.renew_ms(now_ms),
            failure: None,
        }
    }
}

impl<C> fmt::Debug for Renewed<C> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Renewed")
    }
}

impl<C> Renewed<C> {
    pub(super) fn new(first: (C, End), read: Read<C>, renewal: Renewal) -> Self {
        let current = Current::new(first, renewal.clock.now_ms());
        Renewed {
            renewal,
            read,
            current: Mutex::new(current),
        }
    }

    /// Credentials that the catalog gives now.
    async fn ask(&self) -> std::result::Result<(C, End), String> {
        let properties = self.renewal.source.properties().await;
        let properties = properties.map_err(|error| error.to_string())?;
        let properties = self.renewal.configured.under(&properties);
        (self.read)(&properties).ok_or_else(|| "it gives none any more".to_owned())
    }
}

#[async_trait]
impl<C: Send + Sync> CredentialProvider for Renewed<C> {
    type Credential = C;

    async fn get_credential(&self) -> object_store::Result<Arc<C>> {
        let mut current = self.current.lock().await;
        let now_ms = self.renewal.clock.now_ms();
        if current.renew_ms <= now_ms {
            match self.ask().await {
                Ok(given) => *current = Current::new(given, now_ms),
                Err(error) => {
                    tracing::warn!(%error, "credentials of a store could not be renewed");
                    current.renew_ms = now_ms.saturating_add(PAUSE_MS);
                    current.failure = Some(error);
                }
            }
        }
        // Until they end they are good. Where the catalog has just given them, its clock counts.
        match (&current.failure, current.end) {
            (Some(failure), End::AtMs(end_ms)) if end_ms <= now_ms => {
                Err(object_store::Error::Generic {
                    store: "credentials of the catalog",
                    source: format!("they are over, and others could not be had: {failure}").into(),
                })
            }
            _ => Ok(current.credential.clone()),
        }
    }
}
