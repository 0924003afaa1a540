//! The bodies of requests and answers, as far as they are used.
//!
//! Source: the Iceberg project's `open-api/rest-catalog-open-api.yaml`.

use std::collections::HashMap;

use iceberg::spec::{Schema, SortOrder, TableMetadata, UnboundPartitionSpec};
use iceberg::{NamespaceIdent, TableIdent, TableRequirement, TableUpdate};
use serde::{Deserialize, Deserializer, Serialize};

use crate::config::Secret;

/// May hold keys, as the answers about tables: none of them can be shown.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct CatalogConfig {
    #[serde(deserialize_with = "or_default")]
    pub(super) defaults: HashMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    pub(super) overrides: HashMap<String, String>,
}

/// Null is as good as absent.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let value = Option::<serde_json::Value>::deserialize(deserializer)?;
    Ok(value.and_then(|value| match value {
        serde_json::Value::String(text) => text.parse().ok(),
        // A number with a fraction is cut.
        number => number.as_f64().map(|seconds| seconds as u64),
    }))
}

#[derive(Debug, Deserialize)]
pub(super) struct ErrorAnswer {
    pub(super) error: ErrorModel,
}

#[derive(Debug, Deserialize)]
pub(super) struct ErrorModel {
    pub(super) message: String,
    pub(super) r#type: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Token {
    pub(super) access_token: Secret,
    /// Some servers write a text.
    #[serde(default, deserialize_with = "seconds")]
    pub(super) expires_in: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct CreateNamespace<'a> {
    pub(super) namespace: &'a NamespaceIdent,
    pub(super) properties: HashMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Namespaces {
    pub(super) namespaces: Vec<NamespaceIdent>,
    pub(super) next_page_token: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Tables {
    pub(super) identifiers: Vec<TableIdent>,
    pub(super) next_page_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct CreateTable<'a> {
    pub(super) name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) location: Option<&'a str>,
    pub(super) schema: &'a Schema,
    pub(super) partition_spec: &'a UnboundPartitionSpec,
    pub(super) write_order: &'a SortOrder,
    pub(super) stage_create: bool,
    pub(super) properties: HashMap<String, String>,
}

#[derive(Debug, Serialize)]
pub(super) struct CommitTable<'a> {
    pub(super) identifier: &'a TableIdent,
    pub(super) requirements: &'a [TableRequirement],
    pub(super) updates: &'a [TableUpdate],
}

/// What loading, making and changing a table answers.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct TableAnswer {
    /// None for a table that is staged.
    pub(super) metadata_location: Option<String>,
    pub(super) metadata: TableMetadata,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) config: HashMap<String, String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) storage_credentials: Vec<StorageCredential>,
}

#[derive(Deserialize)]
pub(super) struct StorageCredential {
    pub(super) prefix: String,
    pub(super) config: HashMap<String, String>,
}

impl TableAnswer {
    /// The properties of the table's store, with the credentials of the longest prefix of its folder.
    pub(super) fn store_properties(
        &self,
        catalog: &HashMap<String, String>,
    ) -> HashMap<String, String> {
        let mut properties = catalog.clone();
        properties.extend(self.config.clone());
        let location = self.metadata.location();
        let credentials = self.storage_credentials.iter();
        let fitting = credentials
            .filter(|credential| location.starts_with(&credential.prefix))
            .max_by_key(|credential| credential.prefix.len());
        properties.extend(
            fitting
                .map(|fitting| fitting.config.clone())
                .unwrap_or_default(),
        );
        properties
    }
}
