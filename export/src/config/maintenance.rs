//! How much of a table's past is kept.
//!
//! What is configured of it stands in the table's properties, too: whoever looks after the table without the configuration
//! (by hand, or another engine) keeps as much.

use std::collections::{BTreeMap, HashMap};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::{ExportError, Result};

/// Iceberg's own properties, which other engines keep to.
pub(crate) const SNAPSHOTS_MIN: &str = "history.expire.min-snapshots-to-keep";
pub(crate) const SNAPSHOT_AGE_MS: &str = "history.expire.max-snapshot-age-ms";
const SNAPSHOTS_MAX: &str = "moonshine.snapshots-max";
const FILE_GRACE_MS: &str = "moonshine.file-grace-ms";
const ORPHAN_AGE_MS: &str = "moonshine.orphan-age-ms";

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
    /// A file that no snapshot needs any more is removed so much later, in minutes: a reader may still be at it. Default: 60.
    #[serde(default)]
    pub file_grace_minutes: Option<u64>,
    /// A file that nothing names, left by a crash, is removed once it is older than this, in hours. Default: 72.
    #[serde(default)]
    pub orphan_age_hours: Option<u64>,
    /// Manifests of one kind are merged once so many of them are small. Default: 20.
    #[serde(default)]
    pub manifests_max: Option<u64>,
}

/// How one table is looked after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaintenanceSettings {
    /// Whether the exporter looks after the table by itself.
    pub is_automatic: bool,
    /// So many of the newest snapshots are kept.
    pub snapshots_min: usize,
    /// So many of the newest snapshots are kept if they are young enough.
    pub snapshots_max: usize,
    /// A snapshot older than this goes, in milliseconds.
    pub snapshot_age_ms: i64,
    /// A file that is not needed any more goes so much later, in milliseconds.
    pub file_grace_ms: i64,
    /// A file that nothing names goes once it is older than this, in milliseconds.
    pub orphan_age_ms: i64,
    /// Manifests of one kind are merged once so many of them are small.
    pub manifests_max: usize,
    /// What of this was configured and says how much is kept, as properties of the table. An exporter that takes the table over
    /// sets them.
    pub properties: BTreeMap<String, String>,
}

impl MaintenanceSettings {
    /// These settings, but nothing that the table's properties ask for is given up sooner. Of snapshots they ask by themselves.
    pub(crate) fn of_table(&self, properties: &HashMap<String, String>) -> MaintenanceSettings {
        let asked = |key: &str| properties.get(key).and_then(|value| value.parse().ok());
        let snapshots_max = asked(SNAPSHOTS_MAX).and_then(|max| usize::try_from(max).ok());
        MaintenanceSettings {
            snapshots_max: self.snapshots_max.max(snapshots_max.unwrap_or(0)),
            file_grace_ms: self.file_grace_ms.max(asked(FILE_GRACE_MS).unwrap_or(0)),
            orphan_age_ms: self.orphan_age_ms.max(asked(ORPHAN_AGE_MS).unwrap_or(0)),
            ..self.clone()
        }
    }
}

impl Default for MaintenanceSettings {
    fn default() -> Self {
        MaintenanceSettings {
            is_automatic: true,
            snapshots_min: 20,
            snapshots_max: 500,
            snapshot_age_ms: 120 * HOUR_MS,
            file_grace_ms: HOUR_MS,
            orphan_age_ms: 72 * HOUR_MS,
            manifests_max: 20,
            properties: BTreeMap::new(),
        }
    }
}

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

impl MaintenanceConfig {
    /// These settings, and those of `others` for what is left out.
    pub(super) fn over(&self, others: &MaintenanceConfig) -> MaintenanceConfig {
        MaintenanceConfig {
            automatic: self.automatic.or(others.automatic),
            snapshots_min: self.snapshots_min.or(others.snapshots_min),
            snapshots_max: self.snapshots_max.or(others.snapshots_max),
            snapshot_age_hours: self.snapshot_age_hours.or(others.snapshot_age_hours),
            file_grace_minutes: self.file_grace_minutes.or(others.file_grace_minutes),
            orphan_age_hours: self.orphan_age_hours.or(others.orphan_age_hours),
            manifests_max: self.manifests_max.or(others.manifests_max),
        }
    }

    pub(super) fn settings(&self, place: &str) -> Result<MaintenanceSettings> {
        let default = MaintenanceSettings::default();
        let count = |key: &str, number: Option<u64>, least: u64, default: usize| match number {
            None => Ok(default),
            Some(number) if number < least => Err(ExportError::Config(format!(
                "{place}maintenance.{key}: {number} does not do, give {least} or more"
            ))),
            Some(number) => Ok(usize::try_from(number).unwrap_or(usize::MAX)),
        };
        let milliseconds = |number: Option<u64>, unit_ms: i64, default: i64| {
            let number = number.map(|number| i64::try_from(number).unwrap_or(i64::MAX));
            number.map_or(default, |number| number.saturating_mul(unit_ms))
        };
        let snapshots_min = count(
            "snapshots_min",
            self.snapshots_min,
            1,
            default.snapshots_min,
        )?;
        let snapshots_max = count(
            "snapshots_max",
            self.snapshots_max,
            1,
            default.snapshots_max,
        )?;
        let mut settings = MaintenanceSettings {
            is_automatic: self.automatic.unwrap_or(default.is_automatic),
            snapshots_min,
            snapshots_max: snapshots_max.max(snapshots_min),
            snapshot_age_ms: milliseconds(
                self.snapshot_age_hours,
                HOUR_MS,
                default.snapshot_age_ms,
            ),
            orphan_age_ms: milliseconds(self.orphan_age_hours, HOUR_MS, default.orphan_age_ms),
            file_grace_ms: milliseconds(self.file_grace_minutes, MINUTE_MS, default.file_grace_ms),
            manifests_max: count(
                "manifests_max",
                self.manifests_max,
                2,
                default.manifests_max,
            )?,
            properties: BTreeMap::new(),
        };
        settings.properties = self.properties(&settings);
        Ok(settings)
    }

    /// What was configured, as the table's properties say it to others who maintain the table.
    fn properties(&self, settings: &MaintenanceSettings) -> BTreeMap<String, String> {
        let configured = [
            (
                SNAPSHOTS_MIN,
                self.snapshots_min,
                settings.snapshots_min.to_string(),
            ),
            (
                SNAPSHOTS_MAX,
                self.snapshots_max,
                settings.snapshots_max.to_string(),
            ),
            (
                SNAPSHOT_AGE_MS,
                self.snapshot_age_hours,
                settings.snapshot_age_ms.to_string(),
            ),
            (
                FILE_GRACE_MS,
                self.file_grace_minutes,
                settings.file_grace_ms.to_string(),
            ),
            (
                ORPHAN_AGE_MS,
                self.orphan_age_hours,
                settings.orphan_age_ms.to_string(),
            ),
        ];
        configured
            .into_iter()
            .filter(|(_, number, _)| number.is_some())
            .map(|(key, _, value)| (key.to_owned(), value))
            .collect()
    }
}
