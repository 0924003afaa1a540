//! What a table is exported with.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::{
    CadenceConfig, CadenceSettings, IcebergConfig, MaintenanceConfig, MaintenanceSettings,
    TagSettings, TagsConfig,
};
use crate::error::{ExportError, Result};
use crate::layout::wanted::LayoutSettings;

/// What a table is exported with, where it differs from others. A setting that is left out is as under `*`, and one that is
/// left out there too as at the top.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TableConfig {
    /// The Iceberg format version: 3 (deletion vectors) or 2 (position deletes).
    pub format_version: Option<FormatVersion>,
    /// A data file is closed once it holds about this many megabytes (2^20 bytes).
    pub target_file_size_mb: Option<u64>,
    /// How the table is looked after beside its exports.
    pub maintenance: MaintenanceConfig,
    /// How rows are divided into partitions: columns, or `bucket(N, column)`, `truncate(W, column)`, `year(column)`, `month(column)`,
    /// `day(column)`, `hour(column)`, `void(column)` of them. Left out, a table stays as it is; a new one is not partitioned.
    pub partition_by: Option<Vec<String>>,
    /// What rows are sorted by within a file: `column [asc|desc] [nulls first|last]`, or `zorder(column, …)` by itself. Empty is the
    /// primary key. Left out, a table stays as it is; a new one is sorted by its primary key.
    pub sort_by: Option<Vec<String>>,
    /// How fresh the table is to be, and what that may cost.
    pub cadence: CadenceConfig,
    /// What rows that another writer appended to the Iceberg table mean: `stop` (the default) ends its export, `keep` lets them
    /// be, though they are not in the database.
    pub foreign_appends: Option<ForeignAppends>,
    /// The branch that exports go to, for readers of the main one to see them only once they are published; `main` for what
    /// everybody reads. Left out, a table stays as it is; a new one is exported to its main branch.
    pub branch: Option<String>,
    /// Tags that exports are given by themselves.
    pub tags: TagsConfig,
}

/// What one table is exported with.
///
/// ```
/// let settings = moonshine_export::TableSettings::default();
/// assert_eq!((settings.format_version.number(), settings.target_file_size_bytes), (3, 128 << 20));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct TableSettings {
    /// The Iceberg format version.
    pub format_version: FormatVersion,
    /// A data file is closed once it holds about so many bytes.
    pub target_file_size_bytes: u64,
    /// How it is looked after beside its exports.
    pub maintenance: MaintenanceSettings,
    /// How rows are divided and sorted.
    pub layout: LayoutSettings,
    /// How fresh it is to be, and what that may cost.
    pub cadence: CadenceSettings,
    /// What rows that another writer appended mean.
    pub foreign_appends: ForeignAppends,
    /// The branch that it is exported to; where that is not said, it stays as it is.
    pub branch: Option<String>,
    /// Which of its exports get a tag.
    pub tags: TagSettings,
}

/// What each table is exported with.
///
/// ```
/// let config: moonshine_export::IcebergConfig =
///     serde_json::from_str(r#"{"warehouse_path": "./w", "tables": {"shop.orders": {"format_version": 2}}}"#)?;
/// let settings = config.settings_by_table()?;
/// assert_eq!(settings.of("shop.orders").format_version.number(), 2);
/// assert_eq!(settings.of("shop.customers").format_version.number(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SettingsByTable {
    all: TableSettings,
    named: BTreeMap<String, TableSettings>,
}

/// Stands for every table.
const ALL: &str = "*";

impl TableConfig {
    /// These settings, and those of `others` for what is left out.
    fn over(&self, others: &TableConfig) -> TableConfig {
        TableConfig {
            format_version: self.format_version.or(others.format_version),
            target_file_size_mb: self.target_file_size_mb.or(others.target_file_size_mb),
            maintenance: self.maintenance.over(&others.maintenance),
            partition_by: self.partition_by.clone().or(others.partition_by.clone()),
            sort_by: self.sort_by.clone().or(others.sort_by.clone()),
            cadence: self.cadence.over(&others.cadence),
            foreign_appends: self.foreign_appends.or(others.foreign_appends),
            branch: self.branch.clone().or(others.branch.clone()),
            tags: self.tags.over(&others.tags),
        }
    }

    fn settings(&self, place: &str) -> Result<TableSettings> {
        let default = TableSettings::default();
        if self.target_file_size_mb == Some(0) {
            return Err(ExportError::Config(format!(
                "{place}target_file_size_mb: 0 does not do, give 1 or more"
            )));
        }
        let target_file_size_bytes = self
            .target_file_size_mb
            .map(|mb| mb.saturating_mul(1 << 20));
        let layout = LayoutSettings {
            partition_by: self.partition_by.clone(),
            sort_by: self.sort_by.clone(),
            ..LayoutSettings::default()
        };
        layout.check(place)?;
        if self.branch.as_ref().is_some_and(String::is_empty) {
            return Err(ExportError::Config(format!(
                "{place}branch: the name of a branch is not empty"
            )));
        }
        Ok(TableSettings {
            format_version: self.format_version.unwrap_or(default.format_version),
            target_file_size_bytes: target_file_size_bytes
                .unwrap_or(default.target_file_size_bytes),
            maintenance: self.maintenance.settings(place)?,
            layout,
            cadence: self.cadence.settings(place)?,
            foreign_appends: self.foreign_appends.unwrap_or_default(),
            branch: self.branch.clone(),
            tags: self.tags.settings(place)?,
        })
    }
}

impl Default for TableSettings {
    fn default() -> Self {
        TableSettings {
            format_version: FormatVersion::default(),
            target_file_size_bytes: 128 << 20,
            maintenance: MaintenanceSettings::default(),
            layout: LayoutSettings::default(),
            cadence: CadenceSettings::default(),
            foreign_appends: ForeignAppends::default(),
            branch: None,
            tags: TagSettings::default(),
        }
    }
}

impl SettingsByTable {
    /// What the table of this name is exported with.
    pub fn of(&self, table: &str) -> &TableSettings {
        self.named.get(table).unwrap_or(&self.all)
    }

    /// The same, but for one table.
    ///
    /// ```
    /// use moonshine_export::{FormatVersion, SettingsByTable, TableSettings};
    /// let older = TableSettings { format_version: FormatVersion::V2, ..TableSettings::default() };
    /// let settings = SettingsByTable::from(TableSettings::default()).with("shop.orders", older);
    /// assert_eq!(settings.of("shop.orders").format_version.number(), 2);
    /// ```
    #[must_use]
    pub fn with(mut self, table: impl Into<String>, settings: TableSettings) -> Self {
        self.named.insert(table.into(), settings);
        self
    }
}

impl From<TableSettings> for SettingsByTable {
    /// The same for every table.
    fn from(all: TableSettings) -> Self {
        SettingsByTable {
            all,
            named: BTreeMap::new(),
        }
    }
}

impl IcebergConfig {
    /// What each table is exported with.
    ///
    /// # Errors
    /// [`ExportError::Config`], naming the key.
    pub fn settings_by_table(&self) -> Result<SettingsByTable> {
        let top = TableConfig {
            format_version: self.format_version,
            target_file_size_mb: self.target_file_size_mb,
            ..TableConfig::default()
        };
        top.settings("")?;
        let all = self
            .tables
            .get(ALL)
            .map_or(top.clone(), |all| all.over(&top));
        let settings = |(name, table): (&String, &TableConfig)| {
            let settings = table.over(&all).settings(&format!("tables.{name}: "))?;
            Ok((name.clone(), settings))
        };
        let named = self.tables.iter().map(settings).collect::<Result<_>>()?;
        let all = all.settings("")?;
        Ok(SettingsByTable { all, named })
    }
}

/// What rows that another writer appended to an exported table mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ForeignAppends {
    /// They end the export of the table until they are gone.
    #[default]
    Stop,
    /// They stay, and exports go on beside them.
    Keep,
}

/// The format version of an Iceberg table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "u8")]
pub enum FormatVersion {
    /// Version 2: position delete files.
    V2,
    /// Version 3: deletion vectors and row lineage.
    #[default]
    V3,
}

impl TryFrom<u8> for FormatVersion {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        match number {
            2 => Ok(FormatVersion::V2),
            3 => Ok(FormatVersion::V3),
            _ => Err(format!(
                "format_version {number} is not supported, choose 2 or 3"
            )),
        }
    }
}

impl FormatVersion {
    /// As a number.
    pub fn number(self) -> u8 {
        match self {
            FormatVersion::V2 => 2,
            FormatVersion::V3 => 3,
        }
    }

    pub(crate) fn iceberg(self) -> iceberg::spec::FormatVersion {
        match self {
            FormatVersion::V2 => iceberg::spec::FormatVersion::V2,
            FormatVersion::V3 => iceberg::spec::FormatVersion::V3,
        }
    }
}

impl JsonSchema for FormatVersion {
    fn schema_name() -> Cow<'static, str> {
        "FormatVersion".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "integer",
            "enum": [2, 3],
            "description": "The format version of an Iceberg table: 2 (position deletes) or 3 (deletion vectors)."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_as_all_tables_where_it_does_not_say_otherwise() {
        let config: IcebergConfig = serde_json::from_str(
            r#"{"warehouse_path": "w", "format_version": 2, "tables": {
                "*": {"target_file_size_mb": 4}, "a.b": {"format_version": 3}, "a.c": {"target_file_size_mb": 5}}}"#,
        )
        .unwrap();
        let settings = config.settings_by_table().unwrap();
        let found = |name| {
            let settings = settings.of(name);
            (
                settings.format_version.number(),
                settings.target_file_size_bytes >> 20,
            )
        };
        assert_eq!(found("a.b"), (3, 4));
        assert_eq!(found("a.c"), (2, 5));
        assert_eq!(found("a.other"), (2, 4));
    }
}
