//! What may be set for a single table: a part for each of the exporter's concerns.

use schemars::JsonSchema;
use serde::Deserialize;

use super::MaintenanceConfig;
use crate::error::Result;

/// How one table is exported. What is not set here holds as `table_defaults` says, or by its own default.
///
/// ```
/// use moonshine_export::IcebergConfig;
///
/// let config: IcebergConfig = serde_json::from_str(
///     r#"{"warehouse_path": "w", "tables": {"shop.orders": {"maintenance": {"snapshots_max": 50}}}}"#,
/// )?;
/// assert_eq!(config.tables["shop.orders"].maintenance.snapshots_max, Some(50));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableConfig {
    /// Which old snapshots go, and when manifests are merged.
    #[serde(default)]
    pub maintenance: MaintenanceConfig,
}

impl TableConfig {
    /// These settings, and those of `defaults` where there is none.
    pub(super) fn or(&self, defaults: &TableConfig) -> TableConfig {
        TableConfig {
            maintenance: self.maintenance.or(&defaults.maintenance),
        }
    }

    /// `place` is the key of this section.
    pub(super) fn check(&self, place: &str) -> Result<()> {
        self.maintenance.check(&format!("{place}.maintenance"))
    }
}
