//! How often a table is exported.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::{ExportError, Result};

/// How fresh a table is to be, and what that may cost.
///
/// ```
/// let config: moonshine_export::CadenceConfig = serde_json::from_str(r#"{"freshness_secs": 5}"#)?;
/// assert_eq!(config.freshness_secs, Some(5.0));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CadenceConfig {
    /// A row is in the Iceberg table so many seconds after it was committed, if the budgets allow it. Default:
    /// `buffer.flush_interval_secs`.
    pub freshness_secs: Option<f64>,
    /// So many commits an hour are made of exports at most. Default: no limit.
    pub commits_per_hour_max: Option<u64>,
    /// So many requests an hour are made for exports at most: one a data file, two a delete file, and six an attempt to commit.
    /// Default: no limit.
    pub requests_per_hour_max: Option<u64>,
}

/// How fresh one table is to be, and what that may cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CadenceSettings {
    /// The most that a row waits for its export if the budgets allow it, in milliseconds; `None` as all tables.
    pub freshness_ms: Option<i64>,
    /// The most commits an hour.
    pub commits_per_hour_max: Option<u64>,
    /// The most requests an hour.
    pub requests_per_hour_max: Option<u64>,
}

impl CadenceConfig {
    /// These settings, and those of `others` for what is left out.
    pub(super) fn over(&self, others: &CadenceConfig) -> CadenceConfig {
        CadenceConfig {
            freshness_secs: self.freshness_secs.or(others.freshness_secs),
            commits_per_hour_max: self.commits_per_hour_max.or(others.commits_per_hour_max),
            requests_per_hour_max: self.requests_per_hour_max.or(others.requests_per_hour_max),
        }
    }

    pub(super) fn settings(&self, place: &str) -> Result<CadenceSettings> {
        let refused = |key: &str, number: &dyn std::fmt::Display, least: &str| {
            Err(ExportError::Config(format!(
                "{place}cadence.{key}: {number} does not do, give {least}"
            )))
        };
        if let Some(seconds) = self.freshness_secs
            && !(0.0..=31_536_000.0).contains(&seconds)
        {
            return refused("freshness_secs", &seconds, "0 to a year");
        }
        for (key, number) in [
            ("commits_per_hour_max", self.commits_per_hour_max),
            ("requests_per_hour_max", self.requests_per_hour_max),
        ] {
            if number == Some(0) {
                return refused(key, &0, "1 or more");
            }
        }
        Ok(CadenceSettings {
            freshness_ms: self.freshness_secs.map(|seconds| (seconds * 1e3) as i64),
            commits_per_hour_max: self.commits_per_hour_max,
            requests_per_hour_max: self.requests_per_hour_max,
        })
    }
}
