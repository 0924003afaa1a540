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

/// Credentials are asked for again so long before they end, in milliseconds.
const MARGIN_MS: i64 = 60_000;

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

/// Credentials as they are read from properties, and when they end, in milliseconds since 1970-01-01T00:00:00Z.
pub(super) type Read<C> = fn(&StoreProperties) -> Option<(C, Option<i64>)>;

/// Credentials that are asked for again before they end.
pub(super) struct Renewed<C> {
    renewal: Renewal,
    read: Read<C>,
    current: Mutex<(Arc<C>, Option<i64>)>,
}

impl<C> fmt::Debug for Renewed<C> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Renewed")
    }
}

impl<C> Renewed<C> {
    pub(super) fn new(first: (C, Option<i64>), read: Read<C>, renewal: Renewal) -> Self {
        Renewed {
            renewal,
            read,
            current: Mutex::new((Arc::new(first.0), first.1)),
        }
    }
}

#[async_trait]
impl<C: Send + Sync> CredentialProvider for Renewed<C> {
    type Credential = C;

    async fn get_credential(&self) -> object_store::Result<Arc<C>> {
        let mut current = self.current.lock().await;
        let now_ms = self.renewal.clock.now_ms();
        let ends_within = |margin_ms: i64, end_ms: Option<i64>| {
            end_ms.is_some_and(|end_ms| end_ms.saturating_sub(margin_ms) <= now_ms)
        };
        if !ends_within(MARGIN_MS, current.1) {
            return Ok(current.0.clone());
        }
        let failed = |reason: String| object_store::Error::Generic {
            store: "credentials of the catalog",
            source: reason.into(),
        };
        match self.renewal.source.properties().await {
            Ok(properties) => {
                let properties = self.renewal.configured.under(&properties);
                let (credential, end_ms) = (self.read)(&properties)
                    .ok_or_else(|| failed("it gives none any more".to_owned()))?;
                *current = (Arc::new(credential), end_ms);
            }
            Err(error) if ends_within(0, current.1) => return Err(failed(error.to_string())),
            // They are good for a while yet.
            Err(error) => tracing::warn!(%error, "credentials of a store could not be renewed"),
        }
        Ok(current.0.clone())
    }
}
