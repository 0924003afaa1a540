//! How the work on each table stands, its exports and what it needs besides: an error belongs to its table, and delays no other.

use std::fmt::Display;

use crate::error::ExportError;

/// The pause after a table's first failure in a row, in milliseconds; it doubles with each.
const PAUSE_MIN_MS: i64 = 1_000;
/// The longest pause, in milliseconds.
const PAUSE_MAX_MS: i64 = 60_000;

/// The work that exports are.
pub(super) const EXPORT: &str = "the export";

/// How the export of one table stands, or another work on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Failures since it last succeeded.
    pub failures: u32,
    /// When it is tried again after a failure, in milliseconds of the clock that nobody sets
    /// ([`Clock::monotonic_ms`](crate::environment::Clock::monotonic_ms)).
    pub retry_at_ms: i64,
    /// Why the last attempt failed.
    pub reason: Option<String>,
    /// Whether somebody has to mend something; the table is tried again all the same.
    pub is_stopped: bool,
}

impl Standing {
    /// Whether it is to be tried.
    pub(crate) fn is_due(&self, now_ms: i64) -> bool {
        self.failures == 0 || now_ms >= self.retry_at_ms
    }

    /// The work on the table succeeded.
    pub(crate) fn succeed(&mut self, work: impl Display, table: &str) {
        if self.failures > 0 {
            tracing::info!(%table, failures = self.failures, "{work} succeeds again");
        }
        *self = Standing::default();
    }

    /// The work on the table failed.
    pub(crate) fn fail(
        &mut self,
        work: impl Display,
        table: &str,
        error: &ExportError,
        now_ms: i64,
    ) {
        let pause_ms = (PAUSE_MIN_MS << self.failures.min(16)).min(PAUSE_MAX_MS);
        self.failures += 1;
        self.retry_at_ms = now_ms.saturating_add(pause_ms);
        self.is_stopped = !passes(error);
        let reason = error.to_string();
        // The same again is worth no more than a word.
        let is_new = self.reason.as_ref() != Some(&reason);
        match (is_new, self.is_stopped) {
            (false, _) => tracing::debug!(%table, %error, pause_ms, "{work} failed again"),
            (true, false) => {
                tracing::warn!(%table, %error, pause_ms, "{work} failed and is tried again");
            }
            (true, true) => {
                tracing::error!(%table, %error, pause_ms, "{work} stops until this is mended");
            }
        }
        self.reason = Some(reason);
    }
}

/// Whether the cause may go away by itself.
fn passes(error: &ExportError) -> bool {
    matches!(
        error,
        ExportError::Unavailable { .. } | ExportError::Conflict { .. } | ExportError::Engine(_)
    )
}

/// Whether an error concerns all tables: this exporter is over, or the engine is.
pub(super) fn ends_all(error: &ExportError) -> bool {
    use moonshine_engine::Error;
    match error {
        ExportError::Fenced { .. } => true,
        // A full disk, and an export that a dropped tick left under way, pass by themselves.
        ExportError::Engine(Error::NoSpace { .. } | Error::Usage(_) | Error::Conflict { .. }) => {
            false
        }
        ExportError::Engine(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_end_with_a_success() {
        let mut standing = Standing::default();
        assert!(standing.is_due(0));
        let error = ExportError::unavailable("catalog", "down");
        let mut now_ms = 0;
        for expected_ms in [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000] {
            standing.fail(EXPORT, "t", &error, now_ms);
            assert!(!standing.is_due(now_ms + expected_ms - 1));
            now_ms += expected_ms;
            assert!(standing.is_due(now_ms));
            assert!(!standing.is_stopped);
        }
        standing.fail(
            EXPORT,
            "t",
            &ExportError::foreign("t", "rolled back"),
            now_ms,
        );
        assert!(standing.is_stopped);
        standing.succeed(EXPORT, "t");
        assert_eq!(standing, Standing::default());
    }
}
