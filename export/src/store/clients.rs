//! Clients of the kinds of object stores, made from properties.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AwsCredential};
use object_store::azure::{AzureAccessKey, AzureCredential, MicrosoftAzureBuilder};
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder};
use object_store::{
    ClientOptions, CredentialProvider, ObjectStore, RetryConfig, StaticCredentialProvider,
};
use reqwest::Url;

use super::credentials::{End, Read, Renewal, Renewed};
use super::objects::Objects;
use super::properties::StoreProperties;
use crate::error::{ExportError, Result};

const S3: &[&str] = &["s3", "s3a", "s3n"];
const GCS: &[&str] = &["gs", "gcs"];
const AZURE: &[&str] = &["abfss", "abfs", "wasbs", "wasb"];

/// How long one request may take; a part of a file is 8 MiB at most.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For how long a request that met a busy server or a broken connection is sent again.
const RETRY_TIMEOUT: Duration = Duration::from_secs(90);
const RETRIES_MAX: usize = 8;

/// Checks that there is a kind of store for a location.
pub(crate) fn check_location(key: &str, location: &str) -> Result<()> {
    let (scheme, rest) = location.split_once("://").unwrap_or(("", location));
    let is_known = [S3, GCS, AZURE].iter().any(|kind| kind.contains(&scheme));
    if is_known && !rest.starts_with('/') && !rest.is_empty() {
        return Ok(());
    }
    Err(ExportError::Config(format!(
        "{key}: '{location}' is not supported, give a local path, s3://bucket/…, gs://bucket/… or \
         abfss://container@account.dfs.core.windows.net/…"
    )))
}

/// The key for Amazon's services: that of the properties, or what the environment or the machine has.
pub(crate) fn aws_credentials(
    properties: &StoreProperties,
) -> Result<Arc<dyn CredentialProvider<Credential = AwsCredential>>> {
    if let Some((credential, _)) = s3_credential(properties) {
        return Ok(Arc::new(StaticCredentialProvider::new(credential)));
    }
    // No request is sent to a bucket; its client knows where keys are looked for.
    let client = AmazonS3Builder::from_env().with_bucket_name("none").build();
    let client = client.map_err(|error| ExportError::Config(format!("store: {error}")))?;
    Ok(client.credentials().clone())
}

/// The bucket that a location lies in.
pub(super) fn bucket(
    location: &str,
    properties: &StoreProperties,
    renewal: Option<Renewal>,
) -> Result<Objects> {
    check_location("location", location)?;
    let (scheme, rest) = location.split_once("://").unwrap_or_default();
    let authority = rest.split('/').next().unwrap_or(rest);
    let client = Client {
        authority,
        properties,
        renewal,
    };
    let (store, schemes) = match scheme {
        _ if S3.contains(&scheme) => (client.s3(), S3),
        _ if GCS.contains(&scheme) => (client.gcs(), GCS),
        _ => (client.azure(), AZURE),
    };
    Ok(Objects::new(
        store?,
        format!("{scheme}://{authority}"),
        schemes,
    ))
}

struct Client<'a> {
    /// The bucket, or Azure's `container@account.host`.
    authority: &'a str,
    properties: &'a StoreProperties,
    renewal: Option<Renewal>,
}

impl Client<'_> {
    fn wrong(&self, error: impl ToString) -> ExportError {
        ExportError::Config(format!("store {}: {}", self.authority, error.to_string()))
    }

    /// What gives the client its credentials; `None` if the properties hold none, so that it looks elsewhere.
    fn credentials<C: Send + Sync + std::fmt::Debug + 'static>(
        &self,
        read: Read<C>,
    ) -> Option<Arc<dyn CredentialProvider<Credential = C>>> {
        let (first, end) = read(self.properties)?;
        Some(match self.renewal.clone().filter(|_| end != End::Never) {
            Some(renewal) => Arc::new(Renewed::new((first, end), read, renewal)),
            None => Arc::new(StaticCredentialProvider::new(first)),
        })
    }

    fn s3(&self) -> Result<Arc<dyn ObjectStore>> {
        let properties = self.properties;
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(self.authority);
        if let Some(region) = properties.first(&["s3.region", "client.region"]) {
            builder = builder.with_region(region);
        }
        let is_virtual = properties.flag("s3.path-style-access")? == Some(false);
        let endpoint = properties.get("s3.endpoint");
        if let Some(endpoint) = endpoint {
            let mut url = address("s3.endpoint", endpoint)?;
            if is_virtual {
                let host = format!("{}.{}", self.authority, url.host_str().unwrap_or_default());
                url.set_host(Some(&host))
                    .map_err(|error| self.wrong(error))?;
            }
            builder = builder.with_endpoint(url.as_str().trim_end_matches('/'));
        }
        let is_given = |name| properties.get(name).is_some();
        if is_given("s3.access-key-id") != is_given("s3.secret-access-key") {
            return Err(self.wrong("s3.access-key-id and s3.secret-access-key belong together"));
        }
        if properties.flag("s3.allow-anonymous")? == Some(true) {
            builder = builder.with_skip_signature(true);
        } else if let Some(credentials) = self.credentials(s3_credential) {
            builder = builder.with_credentials(credentials);
        }
        let built = builder
            .with_virtual_hosted_style_request(is_virtual)
            .with_client_options(client_options(endpoint))
            .with_retry(retries())
            .build();
        Ok(Arc::new(built.map_err(|error| self.wrong(error))?))
    }

    fn gcs(&self) -> Result<Arc<dyn ObjectStore>> {
        let properties = self.properties;
        let mut builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(self.authority);
        let endpoint = properties.first(&["gcs.service.host", "gcs.service.path"]);
        if let Some(endpoint) = endpoint {
            let url = address("gcs.service.host", endpoint)?;
            builder = builder.with_base_url(url.as_str().trim_end_matches('/'));
        }
        let is_anonymous = properties.flag("gcs.no-auth")? == Some(true)
            || properties.flag("gcs.allow-anonymous")? == Some(true);
        if is_anonymous {
            let nobody = GcpCredential {
                bearer: String::new(),
            };
            let nobody = Arc::new(StaticCredentialProvider::new(nobody));
            builder = builder.with_skip_signature(true).with_credentials(nobody);
        } else if let Some(credentials) = self.credentials(gcs_credential) {
            builder = builder.with_credentials(credentials);
        } else if let Some(key) = properties.get("gcs.credentials-json") {
            builder = builder.with_service_account_key(key);
        }
        let built = builder
            .with_client_options(client_options(endpoint))
            .with_retry(retries())
            .build();
        Ok(Arc::new(built.map_err(|error| self.wrong(error))?))
    }

    fn azure(&self) -> Result<Arc<dyn ObjectStore>> {
        let properties = self.properties;
        let wanted = "give abfss://container@account.dfs.core.windows.net/…";
        let (container, host) = self
            .authority
            .split_once('@')
            .ok_or_else(|| self.wrong(wanted))?;
        let account = host.split('.').next().unwrap_or(host);
        let mut builder = MicrosoftAzureBuilder::from_env()
            .with_account(account)
            .with_container_name(container);
        let connection = properties.get("adls.connection-string");
        let endpoint = connection.and_then(|text| connection_part(text, "BlobEndpoint"));
        if let Some(endpoint) = endpoint {
            let url = address("adls.connection-string: BlobEndpoint", endpoint)?;
            builder = builder.with_endpoint(url.as_str().trim_end_matches('/').to_owned());
        }
        let key = properties
            .get("adls.account-key")
            .map(AzureAccessKey::try_new);
        key.transpose().map_err(|error| self.wrong(error))?;
        if let Some(credentials) = self.credentials(azure_credential) {
            builder = builder.with_credentials(credentials);
        } else if let (Some(tenant), Some(id), Some(secret)) = (
            properties.get("adls.tenant-id"),
            properties.get("adls.client-id"),
            properties.get("adls.client-secret"),
        ) {
            builder = builder.with_client_secret_authorization(id, secret, tenant);
        }
        let built = builder
            .with_client_options(client_options(endpoint))
            .with_retry(retries())
            .build();
        Ok(Arc::new(built.map_err(|error| self.wrong(error))?))
    }
}

fn client_options(endpoint: Option<&str>) -> ClientOptions {
    let is_plain = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
    ClientOptions::new()
        .with_allow_http(is_plain)
        .with_timeout(REQUEST_TIMEOUT)
        .with_connect_timeout(CONNECT_TIMEOUT)
}

fn retries() -> RetryConfig {
    RetryConfig {
        max_retries: RETRIES_MAX,
        retry_timeout: RETRY_TIMEOUT,
        ..RetryConfig::default()
    }
}

fn address(key: &str, text: &str) -> Result<Url> {
    crate::catalog::address(&format!("store: {key}"), text)
}

fn end_ms(properties: &StoreProperties, name: &str) -> Option<i64> {
    properties.get(name)?.parse().ok()
}

fn s3_credential(properties: &StoreProperties) -> Option<(AwsCredential, End)> {
    let credential = AwsCredential {
        key_id: properties.get("s3.access-key-id")?.to_owned(),
        secret_key: properties.get("s3.secret-access-key")?.to_owned(),
        token: properties.get("s3.session-token").map(str::to_owned),
    };
    let end_ms = end_ms(properties, "s3.session-token-expires-at-ms");
    let end = match credential.token.is_some() || end_ms.is_some() {
        true => End::of(end_ms),
        false => End::Never,
    };
    Some((credential, end))
}

fn gcs_credential(properties: &StoreProperties) -> Option<(GcpCredential, End)> {
    let bearer = properties.get("gcs.oauth2.token")?.to_owned();
    let end_ms = end_ms(properties, "gcs.oauth2.token-expires-at");
    Some((GcpCredential { bearer }, End::of(end_ms)))
}

fn azure_credential(properties: &StoreProperties) -> Option<(AzureCredential, End)> {
    let connection = properties.get("adls.connection-string").unwrap_or_default();
    let key = properties
        .get("adls.account-key")
        .or(connection_part(connection, "AccountKey"));
    if let Some(key) = key {
        let key = AzureAccessKey::try_new(key).ok()?;
        return Some((AzureCredential::AccessKey(key), End::Never));
    }
    // A catalog gives the account's name with them.
    let of_account = |prefix: &'static str| properties.beginning(prefix).next();
    let token = properties
        .get("adls.sas-token")
        .or(connection_part(connection, "SharedAccessSignature"))
        .or(of_account("adls.sas-token.").map(|(_, token)| token))?;
    let end_ms = end_ms(properties, "adls.sas-token-expires-at-ms").or_else(|| {
        of_account("adls.sas-token-expires-at-ms.").and_then(|(_, end_ms)| end_ms.parse().ok())
    });
    let query = format!("http://sas/?{}", token.trim_start_matches('?'));
    let pairs = Url::parse(&query).ok()?;
    let pairs = pairs.query_pairs().into_owned().collect();
    Some((AzureCredential::SASToken(pairs), End::of(end_ms)))
}

/// A part of a connection string: `name=value;name=value`.
fn connection_part<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut parts = text.split(';').filter_map(|part| part.split_once('='));
    parts
        .find(|(found, _)| *found == name)
        .map(|(_, value)| value)
}
