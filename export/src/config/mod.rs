//! The `iceberg:` part of the configuration, and what it resolves to.

mod maintenance;
mod table;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use reqwest::Url;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use crate::catalog::{RestConfig, address};
use crate::error::{ExportError, Result};

pub use maintenance::MaintenanceConfig;
pub(crate) use maintenance::MaintenanceSettings;
pub use table::TableConfig;

/// Where and how tables are exported.
///
/// ```
/// let config: moonshine_export::IcebergConfig = serde_json::from_str(r#"{"warehouse_path": "./warehouse"}"#)?;
/// assert_eq!(config.target_file_size_mb, 128);
/// # Ok::<(), serde_json::Error>(())
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
    /// The Iceberg format version of new tables: 3 (deletion vectors) or 2 (position deletes).
    #[serde(default)]
    pub format_version: FormatVersion,
    /// A data file is closed once it holds about this many megabytes (2^20 bytes).
    #[serde(default = "target_file_size_mb_default")]
    pub target_file_size_mb: u64,
    /// What holds for every table that does not say otherwise.
    #[serde(default)]
    pub table_defaults: TableConfig,
    /// What is different for single tables, by the table's name.
    #[serde(default)]
    pub tables: BTreeMap<String, TableConfig>,
}

fn target_file_size_mb_default() -> u64 {
    128
}

/// The kind of an Iceberg catalog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CatalogType {
    /// Tables of an SQL database; SQLite.
    #[default]
    Sql,
    /// A server of the Iceberg REST protocol.
    Rest,
    /// AWS Glue. Not supported yet.
    Glue,
    /// A Hive metastore. Not supported yet.
    Hive,
}

/// The format version of an Iceberg table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
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

/// A checked [`IcebergConfig`], with absolute places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    /// The warehouse as a `file://` location without a trailing slash.
    pub(crate) warehouse: String,
    /// The SQLite file of the catalog.
    pub(crate) catalog_file: PathBuf,
}

impl IcebergConfig {
    /// Checks everything that can be checked without touching catalog or warehouse.
    ///
    /// # Errors
    /// [`ExportError::Config`], naming the key.
    pub fn check(&self) -> Result<()> {
        if self.target_file_size_mb == 0 {
            return Err(ExportError::Config(
                "target_file_size_mb: 0 does not do, give 1 or more".into(),
            ));
        }
        self.table_defaults.check("table_defaults")?;
        for (name, table) in &self.tables {
            table.check(&format!("tables.{name}"))?;
        }
        match self.catalog_type {
            CatalogType::Rest => self.rest_places().map(drop),
            _ => self.places().map(drop),
        }
    }

    /// What holds for the table of that name.
    pub(crate) fn table(&self, name: &str) -> TableConfig {
        match self.tables.get(name) {
            Some(own) => own.or(&self.table_defaults),
            None => self.table_defaults.clone(),
        }
    }

    /// Where the catalog server is, and where tables go if it does not choose.
    pub(crate) fn rest_places(&self) -> Result<(Url, Option<String>)> {
        let uri = self.catalog_uri.as_deref().unwrap_or_default();
        let base = address("catalog_uri", uri)?;
        let rest = self.rest.as_ref();
        if let Some(uri) = rest.and_then(|rest| rest.oauth2_server_uri.as_deref()) {
            address("rest.oauth2_server_uri", uri)?;
        }
        let warehouse = match self.warehouse_path.as_str() {
            "" => None,
            _ => Some(self.warehouse()?.1),
        };
        Ok((base, warehouse))
    }

    /// The warehouse's folder, and its location without a slash at the end.
    fn warehouse(&self) -> Result<(PathBuf, String)> {
        let path = absolute(
            "warehouse_path",
            local_path("warehouse_path", &self.warehouse_path, "file:")?,
        )?;
        let text = path
            .to_str()
            .ok_or_else(|| ExportError::Config("warehouse_path: not UTF-8".into()))?;
        if let Some(character) = text.chars().find(|c| matches!(c, '#' | '?' | '%')) {
            return Err(ExportError::Config(format!(
                "warehouse_path: '{character}' in '{text}': readers of Iceberg tables disagree about that character"
            )));
        }
        let location = format!("file://{}", text.trim_end_matches('/'));
        Ok((path, location))
    }

    pub(crate) fn places(&self) -> Result<Places> {
        if self.catalog_type != CatalogType::Sql {
            return Err(ExportError::Config(format!(
                "catalog_type: {:?} is not supported, the supported types are 'sql' (an SQLite file) and 'rest' (a server)",
                format!("{:?}", self.catalog_type).to_lowercase()
            )));
        }
        let (warehouse, location) = self.warehouse()?;
        let catalog_file = match &self.catalog_uri {
            Some(uri) => absolute("catalog_uri", local_path("catalog_uri", uri, "sqlite:")?)?,
            None => warehouse.join("catalog.db"),
        };
        Ok(Places {
            warehouse: location,
            catalog_file,
        })
    }
}

/// The path in a location of that scheme, or in a plain path.
fn local_path<'a>(key: &str, location: &'a str, scheme: &str) -> Result<&'a Path> {
    let path = match location.strip_prefix(scheme) {
        // scheme://host-less/absolute, scheme:///absolute and SQLAlchemy's scheme:////absolute name the same file.
        Some(rest) => match rest.trim_start_matches('/') {
            trimmed if rest.starts_with("///") => {
                rest.get(rest.len() - trimmed.len() - 1..).unwrap_or(rest)
            }
            _ => rest.strip_prefix("//").unwrap_or(rest),
        },
        None if location.contains("://") => {
            return Err(ExportError::Config(format!(
                "{key}: '{location}' is not supported, give a local path ({scheme}// or none before it)"
            )));
        }
        None => location,
    };
    if path.is_empty() {
        return Err(ExportError::Config(format!("{key}: an empty path")));
    }
    Ok(Path::new(path))
}

fn absolute(key: &str, path: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(path)
        .map_err(|error| ExportError::Config(format!("{key}: '{}': {error}", path.display())))?;
    // Readers compare locations as text, so one folder needs one name.
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

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
