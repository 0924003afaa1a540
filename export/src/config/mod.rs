//! The `iceberg:` part of the configuration, and what it resolves to.
//!
//! `catalog` is what all tables share: which catalog, and where. `table` is what may differ from table to table: a new
//! setting of that kind is a field of [`TableConfig`], another of [`TableSettings`], and a line in `over` and `settings`.

mod cadence;
mod catalog;
mod maintenance;
mod secret;
mod table;
mod tags;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

pub use cadence::{CadenceConfig, CadenceSettings};
pub(crate) use catalog::SqlPlace;
pub use catalog::{CatalogType, SqlConfig};
pub use maintenance::{MaintenanceConfig, MaintenanceSettings};
pub(crate) use maintenance::{SNAPSHOT_AGE_MS, SNAPSHOTS_MIN};
pub use secret::Secret;
pub use table::{ForeignAppends, FormatVersion, SettingsByTable, TableConfig, TableSettings};
pub use tags::{TagPattern, TagPeriod, TagSettings, TagsConfig};

use crate::catalog::{GlueConfig, RestConfig};
use crate::error::Result;
use crate::store::StoreProperties;

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
    /// The folder that holds the Iceberg tables: a local path, `s3://bucket/…`, `gs://bucket/…` or
    /// `abfss://container@account.dfs.core.windows.net/…`. A catalog server chooses where it is left out.
    #[serde(default)]
    pub warehouse_path: String,
    /// The kind of catalog.
    #[serde(default)]
    pub catalog_type: CatalogType,
    /// The catalog: for `sql`, the path of an SQLite file, with or without `sqlite:` before it, by default `catalog.db` in
    /// a local warehouse, or the address of a PostgreSQL server, `postgresql://user@host/database`; for `rest`, the
    /// address of the server; for `glue`, the address of another server than the region's; for `hive`, `thrift://host:9083`.
    #[serde(default)]
    pub catalog_uri: Option<String>,
    /// More about an SQL catalog.
    #[serde(default)]
    pub sql: SqlConfig,
    /// More about a server of the REST protocol.
    #[serde(default)]
    pub rest: Option<RestConfig>,
    /// More about AWS Glue.
    #[serde(default)]
    pub glue: Option<GlueConfig>,
    /// How the store of the files is reached: `s3.endpoint`, `s3.region` and others of Iceberg's property names.
    #[serde(default)]
    pub store: StoreProperties,
    /// The Iceberg format version: 3 (deletion vectors and row lineage, the default) or 2 (position deletes). Tables of version 2 are upgraded to 3, never back.
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
    /// [`ExportError::Config`](crate::ExportError::Config), naming the key.
    pub fn check(&self) -> Result<()> {
        self.settings_by_table()?;
        self.store.check()?;
        self.check_sections()?;
        match self.catalog_type {
            CatalogType::Rest => self.rest_places().map(drop),
            CatalogType::Glue => self.glue_places().map(drop),
            CatalogType::Hive => self.hive_places().map(drop),
            CatalogType::Sql => self.sql_places().map(drop),
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

    fn catalog_of(json: &str) -> SqlPlace {
        config(json).sql_places().unwrap().catalog
    }

    #[test]
    fn places_are_absolute() {
        let places = config(r#"{"warehouse_path": "/a/./b/../warehouse/"}"#)
            .sql_places()
            .unwrap();
        assert_eq!(places.warehouse, "file:///a/warehouse");
        let file = |path: &str| SqlPlace::File(Path::new(path).to_owned());
        assert_eq!(places.catalog, file("/a/warehouse/catalog.db"));
        let here = std::env::current_dir().unwrap();
        let places = config(r#"{"warehouse_path": "w", "catalog_uri": "sqlite://c.db"}"#)
            .sql_places()
            .unwrap();
        assert_eq!(places.warehouse, format!("file://{}/w", here.display()));
        assert_eq!(places.catalog, SqlPlace::File(here.join("c.db")));
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
            let expected = SqlPlace::File(Path::new("/x/c.db").to_owned());
            assert_eq!(catalog_of(&json), expected, "{uri}");
        }
    }

    #[test]
    fn a_bucket_needs_a_catalog_elsewhere() {
        for warehouse in [
            "s3://bucket/w",
            "gs://bucket/w/",
            "abfss://box@account.dfs.core.windows.net/w",
        ] {
            let json = |uri: &str| format!(r#"{{"warehouse_path": "{warehouse}"{uri}}}"#);
            let alone = config(&json("")).check().unwrap_err();
            assert!(alone.to_string().contains("catalog_uri"), "{alone}");
            let places = config(&json(r#", "catalog_uri": "postgresql://me@h/db""#));
            let places = places.sql_places().unwrap();
            assert_eq!(places.warehouse, warehouse.trim_end_matches('/'));
            assert!(matches!(places.catalog, SqlPlace::Server(url) if url.host_str() == Some("h")));
        }
    }

    #[test]
    fn a_kind_of_catalog_says_what_it_needs() {
        for (json, word) in [
            (
                r#"{"warehouse_path": "w", "catalog_type": "hive"}"#,
                "thrift://",
            ),
            (
                r#"{"warehouse_path": "w", "catalog_type": "hive", "catalog_uri": "http://h:9083"}"#,
                "thrift://",
            ),
            (
                r#"{"catalog_type": "hive", "catalog_uri": "thrift://h:9083"}"#,
                "warehouse_path",
            ),
            (
                r#"{"warehouse_path": "w", "catalog_type": "glue"}"#,
                "glue.region",
            ),
            (
                r#"{"warehouse_path": "w", "glue": {"region": "eu-west-1"}}"#,
                "catalog_type",
            ),
            (
                r#"{"catalog_type": "glue", "glue": {"region": "eu-west-1"}}"#,
                "warehouse_path",
            ),
            (
                r#"{"warehouse_path": "w", "catalog_type": "glue", "glue": {"region": ""}}"#,
                "glue.region",
            ),
            (
                r#"{"warehouse_path": "w", "catalog_type": "glue", "glue": {"region": "EU.west/1"}}"#,
                "glue.region: 'EU.west/1'",
            ),
        ] {
            let error = config(json).check().unwrap_err();
            assert!(
                matches!(error, ExportError::Config(_)) && error.to_string().contains(word),
                "{json}: {error}"
            );
        }
        let json =
            r#"{"warehouse_path": "w", "catalog_type": "glue", "glue": {"region": "eu-west-1"}}"#;
        let places = config(json).glue_places().unwrap();
        let endpoint = places.endpoint.as_str();
        assert_eq!(endpoint, "https://glue.eu-west-1.amazonaws.com/");
    }

    #[test]
    fn what_is_not_supported_says_what_is() {
        for (json, word) in [
            (r#"{"warehouse_path": "hdfs://h/w"}"#, "local path"),
            (r#"{"warehouse_path": "s3:///w"}"#, "s3://bucket"),
            (
                r#"{"warehouse_path": "w", "store": {"s3.end-point": "hush"}}"#,
                "'s3.end-point'",
            ),
            (r#"{"warehouse_path": ""}"#, "empty"),
            (
                r#"{"catalog_type": "rest", "catalog_uri": "catalog.db"}"#,
                "http://",
            ),
            (
                r#"{"catalog_type": "rest", "catalog_uri": "https://me:hush@h"}"#,
                "no password",
            ),
            (
                r#"{"catalog_type": "rest", "catalog_uri": "https://h",
                    "rest": {"oauth2_server_uri": "https://hush@h"}}"#,
                "rest.oauth2_server_uri",
            ),
            (
                r#"{"warehouse_path": "w", "catalog_uri": "postgresql://me:hush@h/db"}"#,
                "sql.password",
            ),
            (
                r#"{"warehouse_path": "w", "target_file_size_mb": 0}"#,
                "target_file_size_mb",
            ),
            (
                r#"{"warehouse_path": "w", "tables": {"a.b": {"target_file_size_mb": 0}}}"#,
                "tables.a.b",
            ),
            (
                r#"{"warehouse_path": "w", "rest": {"token": "hush"}}"#,
                "catalog_type",
            ),
            (
                r#"{"catalog_type": "rest", "catalog_uri": "https://h", "sql": {"password": "hush"}}"#,
                "catalog_type",
            ),
            (
                r#"{"catalog_type": "rest", "catalog_uri": "https://h", "rest": {"token": "hush", "credential": "hush"}}"#,
                "one of them",
            ),
            (
                r#"{"catalog_type": "rest", "catalog_uri": "https://h", "rest": {"headers": {"a b": "hush"}}}"#,
                "rest.headers",
            ),
            (
                r#"{"warehouse_path": "w", "sql": {"timeout_secs": 0}}"#,
                "sql.timeout_secs",
            ),
            (r#"{"warehouse_path": "w%20x"}"#, "'%'"),
        ] {
            let error = config(json).check().unwrap_err();
            assert!(
                matches!(error, ExportError::Config(_)) && error.to_string().contains(word),
                "{json}: {error}"
            );
            assert!(!error.to_string().contains("hush"), "{error}");
        }
        let error = serde_json::from_str::<IcebergConfig>(
            r#"{"warehouse_path": "w", "format_version": 1}"#,
        );
        assert!(error.unwrap_err().to_string().contains("choose 2 or 3"));
    }
}
