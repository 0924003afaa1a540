//! Which catalog, and where: the part of the configuration that all tables share.

use std::path::{Component, Path, PathBuf};

use reqwest::Url;
use schemars::JsonSchema;
use serde::Deserialize;

use super::IcebergConfig;
use crate::catalog::address;
use crate::error::{ExportError, Result};

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

/// A checked [`IcebergConfig`], with absolute places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    /// The warehouse as a `file://` location without a trailing slash.
    pub(crate) warehouse: String,
    /// The SQLite file of the catalog.
    pub(crate) catalog_file: PathBuf,
}

impl IcebergConfig {
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
