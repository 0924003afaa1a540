//! The `iceberg:` part of the configuration, and what it resolves to.
//!
//! `catalog` is what all tables share: which catalog, and where. `table` is what may differ from table to table: a new
//! setting of that kind is a field of [`TableConfig`], another of [`TableSettings`], and a line in `over` and `settings`.

mod cadence;
mod catalog;
mod maintenance;
mod table;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

pub use cadence::{CadenceConfig, CadenceSettings};
pub use catalog::CatalogType;
pub use maintenance::{MaintenanceConfig, MaintenanceSettings};
pub use table::{ForeignAppends, FormatVersion, SettingsByTable, TableConfig, TableSettings};

use crate::catalog::RestConfig;
use crate::error::Result;

/// Where and how tables are exported.
///
/// ```
/// let config: moonshine_export::IcebergConfig = serde_json::from_str(r#"{"warehouse_path": "./warehouse"}"#)?;
/// assert_eq!(config.settings_by_table()?.of("shop.orders").target_file_size_bytes, 128 << 20);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IcebergConfig {
    /// The folder that holds the Iceberg tables. A catalog server chooses where it is left out.
    #[serde(default)]
    pub warehouse_path: String,
    /// The kind of catalog.
    #[serde(default)]
    pub catalog_type: CatalogType,
    /// The catalog: for `sql`, the path of an SQLite file, with or without `sqlite:` before it, by default
    /// `catalog.db` in the warehouse; for `rest`, the address of the server.
    #[serde(default)]
    pub catalog_uri: Option<String>,
    /// More about a server of the REST protocol.
    #[serde(default)]
    pub rest: Option<RestConfig>,
    /// The Iceberg format version of new tables: 3 (deletion vectors, the default) or 2 (position deletes).
    #[serde(default)]
    pub format_version: Option<FormatVersion>,
    /// A data file is closed once it holds about this many megabytes (2^20 bytes). Default: 128.
    #[serde(default)]
    pub target_file_size_mb: Option<u64>,
    /// What single tables, by name, are exported with where it differs; `*` stands for all others.
    #[serde(default)]
    pub tables: BTreeMap<String, TableConfig>,
}

impl IcebergConfig {
    /// Checks everything that can be checked without touching catalog or warehouse.
    ///
    /// # Errors
    /// [`ExportError::Config`], naming the key.
    pub fn check(&self) -> Result<()> {
        self.settings_by_table()?;
        match self.catalog_type {
            CatalogType::Rest => self.rest_places().map(drop),
            _ => self.places().map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::error::ExportError;

    fn config(json: &str) -> IcebergConfig {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn places_are_absolute() {
        let places = config(r#"{"warehouse_path": "/a/./b/../warehouse/"}"#)
            .places()
            .unwrap();
        assert_eq!(places.warehouse, "file:///a/warehouse");
        assert_eq!(places.catalog_file, Path::new("/a/warehouse/catalog.db"));
        let here = std::env::current_dir().unwrap();
        let places = config(r#"{"warehouse_path": "w", "catalog_uri": "sqlite://c.db"}"#)
            .places()
            .unwrap();
        assert_eq!(places.warehouse, format!("file://{}/w", here.display()));
        assert_eq!(places.catalog_file, here.join("c.db"));
    }

    #[test]
    fn every_spelling_of_an_absolute_file() {
        for uri in [
            "/x/c.db",
            "sqlite:/x/c.db",
            "sqlite:///x/c.db",
            "sqlite:////x/c.db",
        ] {
            let json = format!(r#"{{"warehouse_path": "file:///w", "catalog_uri": "{uri}"}}"#);
            assert_eq!(
                config(&json).places().unwrap().catalog_file,
                Path::new("/x/c.db"),
                "{uri}"
            );
        }
    }

    #[test]
    fn what_is_not_supported_says_what_is() {
        for (json, word) in [
            (r#"{"warehouse_path": "s3://bucket/w"}"#, "local path"),
            (r#"{"warehouse_path": ""}"#, "empty"),
            (
                r#"{"warehouse_path": "w", "catalog_type": "glue"}"#,
                "'sql'",
            ),
            (
                r#"{"catalog_type": "rest", "catalog_uri": "catalog.db"}"#,
                "http://",
            ),
            (
                r#"{"catalog_type": "rest", "catalog_uri": "https://me:secret@h"}"#,
                "no password",
            ),
            (
                r#"{"catalog_type": "rest", "catalog_uri": "https://h",
                    "rest": {"oauth2_server_uri": "https://secret@h"}}"#,
                "rest.oauth2_server_uri",
            ),
            (
                r#"{"warehouse_path": "w", "catalog_uri": "postgresql://h/db"}"#,
                "sqlite:",
            ),
            (
                r#"{"warehouse_path": "w", "target_file_size_mb": 0}"#,
                "target_file_size_mb",
            ),
            (
                r#"{"warehouse_path": "w", "tables": {"a.b": {"target_file_size_mb": 0}}}"#,
                "tables.a.b",
            ),
            (r#"{"warehouse_path": "w%20x"}"#, "'%'"),
        ] {
            let error = config(json).check().unwrap_err();
            assert!(
                matches!(error, ExportError::Config(_)) && error.to_string().contains(word),
                "{json}: {error}"
            );
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let error = serde_json::from_str::<IcebergConfig>(
            r#"{"warehouse_path": "w", "format_version": 1}"#,
        );
        assert!(error.unwrap_err().to_string().contains("choose 2 or 3"));
    }
}
