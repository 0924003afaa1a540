//! Which catalog, and where: the part of the configuration that all tables share.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{IcebergConfig, Secret};
use crate::catalog::{GluePlaces, RestConfig, address};
use crate::error::{ExportError, Result};
use crate::store;

const TIMEOUT_SECS: u32 = 30;
const TIMEOUT_SECS_MAX: u32 = 3600;

/// The kind of an Iceberg catalog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CatalogType {
    /// Tables of an SQL database: SQLite or PostgreSQL.
    #[default]
    Sql,
    /// A server of the Iceberg REST protocol.
    Rest,
    /// AWS Glue's own interface. Its REST endpoint is `rest`, with `rest.signing`.
    Glue,
    /// A Hive metastore, of Hive 4 or newer.
    Hive,
}

/// More about an SQL catalog.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SqlConfig {
    /// The password of the PostgreSQL server. Default: `PGPASSWORD`, or what `~/.pgpass` says.
    pub password: Option<Secret>,
    /// The catalog's name within the database; other implementations have to be told it. Default: `moonshine`.
    pub catalog_name: Option<String>,
    /// How many seconds the database has to answer a statement. Default: 30.
    pub timeout_secs: Option<u32>,
}

impl SqlConfig {
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_secs.unwrap_or(TIMEOUT_SECS).into())
    }
}

/// Where an SQL catalog is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SqlPlace {
    /// An SQLite file.
    File(PathBuf),
    /// A PostgreSQL server. The address holds no password.
    Server(Url),
}

/// Where an SQL catalog and its tables are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SqlPlaces {
    /// The warehouse as a location without a slash at its end.
    pub(crate) warehouse: String,
    pub(crate) catalog: SqlPlace,
}

impl IcebergConfig {
    /// Checks that what is said of a catalog is said of this one's kind.
    pub(super) fn check_sections(&self) -> Result<()> {
        let SqlConfig {
            password,
            catalog_name,
            timeout_secs,
        } = &self.sql;
        let of_sql = password.is_some() || catalog_name.is_some() || timeout_secs.is_some();
        if timeout_secs.is_some_and(|seconds| !(1..=TIMEOUT_SECS_MAX).contains(&seconds)) {
            return Err(ExportError::Config(format!(
                "sql.timeout_secs: from 1 to {TIMEOUT_SECS_MAX}"
            )));
        }
        for (section, kind, is_there) in [
            ("sql", CatalogType::Sql, of_sql),
            ("rest", CatalogType::Rest, self.rest.is_some()),
            ("glue", CatalogType::Glue, self.glue.is_some()),
        ] {
            if is_there && self.catalog_type != kind {
                return Err(ExportError::Config(format!(
                    "{section}: the catalog is of another type, see catalog_type"
                )));
            }
        }
        self.rest.as_ref().map_or(Ok(()), RestConfig::check)
    }

    /// Where Glue and its tables are.
    pub(crate) fn glue_places(&self) -> Result<GluePlaces> {
        let missing = || ExportError::Config("glue.region: missing, as in eu-west-1".to_owned());
        let config = self.glue.clone().ok_or_else(missing)?;
        // It becomes a part of an address.
        let is_plain = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-');
        if config.region.is_empty() || !config.region.chars().all(is_plain) {
            return Err(ExportError::Config(format!(
                "glue.region: '{}' is no region, as eu-west-1 is",
                config.region
            )));
        }
        let endpoint = match &self.catalog_uri {
            Some(uri) => uri.clone(),
            None => format!("https://glue.{}.amazonaws.com", config.region),
        };
        Ok(GluePlaces {
            endpoint: address("catalog_uri", &endpoint)?,
            warehouse: self.warehouse()?,
            config,
        })
    }

    /// Where the Hive metastore is, and the warehouse.
    pub(crate) fn hive_places(&self) -> Result<(Url, String)> {
        let wrong = || {
            let reason = "the address of a Hive metastore, as in thrift://host:9083";
            ExportError::Config(format!("catalog_uri: give {reason}"))
        };
        let uri = self.catalog_uri.as_deref().ok_or_else(wrong)?;
        let address = Url::parse(uri).map_err(|_| wrong())?;
        let is_plain = address.username().is_empty() && matches!(address.path(), "" | "/");
        if address.scheme() != "thrift" || !is_plain {
            return Err(wrong());
        }
        Ok((address, self.warehouse()?))
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
            _ => Some(self.warehouse()?),
        };
        Ok((base, warehouse))
    }

    /// The warehouse's location, without a slash at the end.
    fn warehouse(&self) -> Result<String> {
        let key = "warehouse_path";
        let location = self.warehouse_path.trim_end_matches('/');
        let location = match location.split_once("://") {
            Some((scheme, _)) if scheme != "file" => {
                store::check_location(key, location)?;
                location.to_owned()
            }
            _ => {
                let path = absolute(key, local_path(key, &self.warehouse_path, "file:")?)?;
                let text = path
                    .to_str()
                    .ok_or_else(|| ExportError::Config(format!("{key}: not UTF-8")))?;
                format!("file://{}", text.trim_end_matches('/'))
            }
        };
        match location.chars().find(|c| matches!(c, '#' | '?' | '%')) {
            None => Ok(location),
            Some(character) => Err(ExportError::Config(format!(
                "{key}: '{character}' in '{location}': readers of Iceberg tables disagree about that character"
            ))),
        }
    }

    /// Where the SQL catalog and its tables are.
    pub(crate) fn sql_places(&self) -> Result<SqlPlaces> {
        let warehouse = self.warehouse()?;
        let catalog = match &self.catalog_uri {
            Some(uri) if is_postgres(uri) => SqlPlace::Server(postgres_address(uri)?),
            Some(uri) => {
                let path = local_path("catalog_uri", uri, "sqlite:")?;
                SqlPlace::File(absolute("catalog_uri", path)?)
            }
            None => match warehouse.strip_prefix("file://") {
                Some(folder) => SqlPlace::File(Path::new(folder).join("catalog.db")),
                None => {
                    return Err(ExportError::Config(format!(
                        "catalog_uri: missing; the warehouse {warehouse} can't hold an SQLite file"
                    )));
                }
            },
        };
        Ok(SqlPlaces { warehouse, catalog })
    }
}

fn is_postgres(uri: &str) -> bool {
    uri.starts_with("postgresql://") || uri.starts_with("postgres://")
}

/// A PostgreSQL server's address. It has no password, as addresses are shown: in errors, logs and reports.
fn postgres_address(text: &str) -> Result<Url> {
    let wrong = |reason: &str| ExportError::Config(format!("catalog_uri: {reason}"));
    let url = Url::parse(text)
        .map_err(|_| wrong("not an address as in postgresql://user@host:5432/database"))?;
    let has_password = url.query_pairs().any(|(name, _)| name == "password");
    if url.password().is_some() || has_password {
        return Err(wrong("an address holds no password, give sql.password"));
    }
    Ok(url)
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
