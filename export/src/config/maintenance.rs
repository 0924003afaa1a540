//! How much of a table's past is kept.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::{ExportError, Result};

/// How a table is looked after beside its exports.
///
/// ```
/// let config: moonshine_export::MaintenanceConfig = serde_json::from_str(r#"{"snapshot_age_hours": 24}"#)?;
/// assert_eq!(config.snapshot_age_hours, Some(24));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MaintenanceConfig {
    /// Whether the exporter looks after the table by itself. Default: true.
    #[serde(default)]
    pub automatic: Option<bool>,
    /// So many of the newest snapshots are kept, however old they are. Default: 20.
    #[serde(default)]
    pub snapshots_min: Option<u64>,
    /// Of what is younger than `snapshot_age_hours`, so many of the newest snapshots are kept: each commit writes the list of
    /// all of them. Default: 500.
    #[serde(default)]
    pub snapshots_max: Option<u64>,
    /// A snapshot older than this goes, in hours. Default: 120.
    #[serde(default)]
    pub snapshot_age_hours: Option<u64>,
    /// A file that no snapshot needs any more is removed so long after the last one that did was replaced, in minutes: a
    /// reader may still be at it. Default: 60.
    #[serde(default)]
    pub file_grace_minutes: Option<u64>,
    /// Manifests of one kind are merged once so many of them are small. Default: 20.
    #[serde(default)]
    pub manifests_max: Option<u64>,
}

/// What a [`MaintenanceConfig`] comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MaintenanceSettings {
    pub(crate) is_automatic: bool,
    pub(crate) snapshots_min: usize,
    pub(crate) snapshots_max: usize,
    pub(crate) snapshot_age_ms: i64,
    pub(crate) file_grace_ms: i64,
    pub(crate) manifests_max: usize,
}

impl MaintenanceConfig {
    pub(super) fn or(&self, defaults: &MaintenanceConfig) -> MaintenanceConfig {
        MaintenanceConfig {
            automatic: self.automatic.or(defaults.automatic),
            snapshots_min: self.snapshots_min.or(defaults.snapshots_min),
            snapshots_max: self.snapshots_max.or(defaults.snapshots_max),
            snapshot_age_hours: self.snapshot_age_hours.or(defaults.snapshot_age_hours),
            file_grace_minutes: self.file_grace_minutes.or(defaults.file_grace_minutes),
            manifests_max: self.manifests_max.or(defaults.manifests_max),
        }
    }

    pub(crate) fn settings(&self) -> MaintenanceSettings {
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let milliseconds = |number: u64, unit_ms: i64| {
            i64::try_from(number).map_or(i64::MAX, |number| number.saturating_mul(unit_ms))
        };
        let snapshots_min = count(self.snapshots_min.unwrap_or(20));
        MaintenanceSettings {
            is_automatic: self.automatic.unwrap_or(true),
            snapshots_min,
            snapshots_max: count(self.snapshots_max.unwrap_or(500)).max(snapshots_min),
            snapshot_age_ms: milliseconds(self.snapshot_age_hours.unwrap_or(120), 3_600_000),
            file_grace_ms: milliseconds(self.file_grace_minutes.unwrap_or(60), 60_000),
            manifests_max: count(self.manifests_max.unwrap_or(20)),
        }
    }

    pub(super) fn check(&self, place: &str) -> Result<()> {
        for (key, number, least) in [
            ("snapshots_min", self.snapshots_min, 1),
            ("snapshots_max", self.snapshots_max, 1),
            ("manifests_max", self.manifests_max, 2),
        ] {
            if number.is_some_and(|number| number < least) {
                return Err(ExportError::Config(format!(
                    "{place}.{key}: give {least} or more"
                )));
            }
        }
        Ok(())
    }
}
