//! Requests signed with a key of Amazon's, for the catalogs there: Glue and S3 Tables.
//!
//! Source: "Signature Version 4" in the IAM user guide of AWS. `object_store` has the algorithm.

use std::fmt;

use http::HeaderValue;
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{HttpRequest, HttpRequestBody};
use reqwest::Request;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::{ExportError, Result};
use crate::store::{StoreProperties, aws_credentials};

/// How requests are signed for a catalog of Amazon's. The key is that of `store`, or is looked for where the store looks.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SigningConfig {
    /// `glue`, or `s3tables`.
    pub service: String,
    /// As `eu-west-1`.
    pub region: String,
}

/// The headers that a signature consists of.
const SIGNATURE_HEADERS: [&str; 4] = [
    "authorization",
    "x-amz-date",
    "x-amz-content-sha256",
    "x-amz-security-token",
];

/// Signs requests.
pub(in crate::catalog) struct Signer {
    config: SigningConfig,
    credentials: AwsCredentialProvider,
}

impl fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Signer").field(&self.config).finish()
    }
}

impl Signer {
    pub(in crate::catalog) fn new(config: SigningConfig, store: &StoreProperties) -> Result<Self> {
        Ok(Signer {
            config,
            credentials: aws_credentials(store)?,
        })
    }

    /// Signs a request as it is: what is added to it later, its signature does not cover.
    pub(in crate::catalog) async fn sign(&self, request: &mut Request) -> Result<()> {
        let place = "the key that requests are signed with";
        let credential = self.credentials.get_credential().await;
        let credential = credential.map_err(|error| ExportError::unavailable(place, error))?;
        // A space has one spelling in what is signed.
        let query = request.url().query().map(|query| query.replace('+', "%20"));
        request.url_mut().set_query(query.as_deref());
        let mut signed = copy_of(request)?;
        let SigningConfig { service, region } = &self.config;
        AwsAuthorizer::new(&credential, service, region).authorize(&mut signed, None);
        for name in SIGNATURE_HEADERS {
            if let Some(value) = signed.headers().get(name) {
                let mut value: HeaderValue = value.clone();
                value.set_sensitive(true);
                request.headers_mut().insert(name, value);
            }
        }
        Ok(())
    }
}

/// The request as `object_store` knows one.
fn copy_of(request: &Request) -> Result<HttpRequest> {
    let body = request.body().and_then(|body| body.as_bytes());
    let body = HttpRequestBody::from(body.unwrap_or_default().to_vec());
    let mut copy = http::Request::builder()
        .method(request.method().clone())
        .uri(request.url().as_str())
        .body(body)
        .map_err(|error| ExportError::unavailable("a request to the catalog", error))?;
    *copy.headers_mut() = request.headers().clone();
    Ok(copy)
}
