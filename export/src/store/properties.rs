//! How a store is reached: properties by the names that Iceberg's other implementations use.

use std::collections::{BTreeMap, HashMap};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::Secret;
use crate::error::{ExportError, Result};

/// The properties that are used. A SAS token may have the account's name, with a dot before it, at its end.
const KNOWN: [&str; 23] = [
    "s3.endpoint",
    "s3.region",
    "client.region",
    "s3.path-style-access",
    "s3.access-key-id",
    "s3.secret-access-key",
    "s3.session-token",
    "s3.session-token-expires-at-ms",
    "s3.allow-anonymous",
    "gcs.service.host",
    "gcs.service.path",
    "gcs.credentials-json",
    "gcs.oauth2.token",
    "gcs.oauth2.token-expires-at",
    "gcs.no-auth",
    "gcs.allow-anonymous",
    "adls.connection-string",
    "adls.account-key",
    "adls.sas-token",
    "adls.sas-token-expires-at-ms",
    "adls.tenant-id",
    "adls.client-id",
    "adls.client-secret",
];

/// How a store is reached, by the names that Iceberg's other implementations use: `s3.endpoint`, `s3.region`,
/// `s3.access-key-id` and so on. Keys that are left out are looked for where the store's own tools look: in the
/// environment, and in what the machine it runs on is allowed.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct StoreProperties(BTreeMap<String, Secret>);

impl StoreProperties {
    /// Checks that each property is known.
    pub(crate) fn check(&self) -> Result<()> {
        let is_known = |name: &str| KNOWN.contains(&name) || name.starts_with("adls.sas-token.");
        match self.0.keys().find(|name| !is_known(name)) {
            None => Ok(()),
            Some(unknown) => Err(ExportError::Config(format!(
                "store: there is no '{unknown}', the known properties are {}",
                KNOWN.join(", ")
            ))),
        }
    }

    /// These, and what a catalog says where they say nothing.
    pub(crate) fn over(&self, defaults: HashMap<String, String>) -> StoreProperties {
        let mut properties: StoreProperties = defaults.into_iter().collect();
        properties.0.extend(self.0.clone());
        properties
    }

    /// These, and in place of those of the same name what a catalog says.
    pub(crate) fn under(&self, of_catalog: &HashMap<String, String>) -> StoreProperties {
        let of_catalog = of_catalog.iter();
        let mut properties = self.clone();
        properties
            .0
            .extend(of_catalog.map(|(name, value)| (name.clone(), value.clone().into())));
        properties
    }

    /// The first of these that is given.
    pub(super) fn first(&self, names: &[&str]) -> Option<&str> {
        let mut found = names.iter().filter_map(|name| self.0.get(*name));
        found.next().map(Secret::reveal)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.first(&[name])
    }

    /// Properties whose names begin like this.
    pub(super) fn beginning<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        let found = self.0.iter();
        found.filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value.reveal())))
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>> {
        let text = self.get(name);
        text.map(|text| match text.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(ExportError::Config(format!(
                "store: {name} is either true or false"
            ))),
        })
        .transpose()
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for StoreProperties {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(properties: I) -> Self {
        let properties = properties.into_iter();
        let secret = |(name, value): (N, V)| (name.into(), value.into().into());
        StoreProperties(properties.map(secret).collect())
    }
}
