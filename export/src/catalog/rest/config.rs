//! How a REST catalog is reached.

use std::collections::BTreeMap;

use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;

use super::signing::SigningConfig;
use crate::config::Secret;
use crate::error::{ExportError, Result};

/// Settings of a catalog server of the Iceberg REST protocol; its address is `catalog_uri`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RestConfig {
    /// The server's name of the warehouse, if it has several.
    pub warehouse: Option<String>,
    /// What stands before the paths of a warehouse, unless the server insists on another. Default: what the server says.
    pub prefix: Option<String>,
    /// A bearer token that is sent with each request.
    pub token: Option<Secret>,
    /// `client_id:client_secret`, exchanged for tokens by OAuth2 (client credentials) and again when they expire.
    pub credential: Option<Secret>,
    /// Where credentials are exchanged. Default: the catalog's own `v1/oauth/tokens`.
    pub oauth2_server_uri: Option<String>,
    /// The scope of tokens. Default: `catalog`.
    pub scope: Option<String>,
    /// How requests are signed for a catalog of Amazon's, in place of a token: AWS Glue, S3 Tables.
    pub signing: Option<SigningConfig>,
    /// More headers of each request.
    pub headers: BTreeMap<String, Secret>,
}

impl RestConfig {
    pub(crate) fn check(&self) -> Result<()> {
        let given = [
            self.token.is_some(),
            self.credential.is_some(),
            self.signing.is_some(),
        ];
        if given.into_iter().filter(|is_given| *is_given).count() > 1 {
            return Err(ExportError::Config(
                "rest.token, rest.credential and rest.signing: give one of them".into(),
            ));
        }
        for (name, value) in &self.headers {
            let fits = HeaderName::from_bytes(name.as_bytes()).is_ok()
                && HeaderValue::from_str(value.reveal()).is_ok();
            if !fits {
                return Err(ExportError::Config(format!(
                    "rest.headers: {name:?} or its value is no header of HTTP"
                )));
            }
        }
        Ok(())
    }
}

/// A server's address. It has no user and no password, as addresses are shown: in errors, logs and reports.
pub(crate) fn address(key: &str, text: &str) -> Result<Url> {
    let wrong = |reason: &str| ExportError::Config(format!("{key}: {reason}"));
    let url = Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"))
        .ok_or_else(|| {
            wrong("not the address of a server, which begins with http:// or https://")
        })?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong(
            "an address holds no user and no password, give rest.token, rest.credential or rest.headers",
        ));
    }
    Ok(url)
}
