//! Requests to AWS Glue: JSON, signed, and named by a header.

use reqwest::{Client, Response, Url};
use serde_json::Value;

use super::{BUSY, GluePlaces, text};
use crate::catalog::SigningConfig;
use crate::catalog::rest::{NoAnswer, Signer, beginning, http_client, no_answer};
use crate::environment::Environment;
use crate::error::{ExportError, Result};
use crate::store::StoreProperties;

/// How often a request that may be sent twice is sent.
const ATTEMPTS_MAX: u32 = 4;
/// The first pause between two of them, in milliseconds; each is twice as long as the one before.
const PAUSE_FIRST_MS: u64 = 400;

/// Glue, and how to speak to it.
#[derive(Debug)]
pub(super) struct GlueClient {
    http: Client,
    environment: Environment,
    endpoint: Url,
    catalog_id: Option<String>,
    signer: Signer,
}

/// Why a request did not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    /// It did not reach Glue.
    NotSent(ExportError),
    /// Whether it did is not known.
    Lost(ExportError),
    /// Glue says no.
    Answered {
        /// Its name of the error, as `EntityNotFoundException`.
        name: String,
        /// The HTTP status.
        status: u16,
        error: ExportError,
    },
}

impl Failure {
    pub(super) fn is(&self, wanted: &str) -> bool {
        matches!(self, Failure::Answered { name, .. } if name == wanted)
    }

    /// Whether the same request may succeed in a moment.
    fn is_passing(&self) -> bool {
        match self {
            Failure::NotSent(_) | Failure::Lost(_) => true,
            Failure::Answered { name, status, .. } => {
                *status == 429 || *status >= 500 || BUSY.contains(&name.as_str())
            }
        }
    }
}

impl From<Failure> for ExportError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotSent(error) | Failure::Lost(error) | Failure::Answered { error, .. } => {
                error
            }
        }
    }
}

impl From<NoAnswer> for Failure {
    fn from(no_answer: NoAnswer) -> Self {
        match no_answer {
            NoAnswer::NotSent(error) | NoAnswer::Denied(error) => Failure::NotSent(error),
            NoAnswer::Lost(error) => Failure::Lost(error),
        }
    }
}

impl GlueClient {
    pub(super) fn new(places: &GluePlaces, store: &StoreProperties) -> Result<Self> {
        let signing = SigningConfig {
            service: "glue".to_owned(),
            region: places.config.region.clone(),
        };
        Ok(GlueClient {
            http: http_client()?,
            environment: Environment::default(),
            endpoint: places.endpoint.clone(),
            catalog_id: places.config.catalog_id.clone(),
            signer: Signer::new(signing, store)?,
        })
    }

    /// The same request, again while Glue is busy or can't be reached: for what may be done twice.
    pub(super) async fn ask(&self, operation: &str, message: Value) -> Result<Value, Failure> {
        let mut attempt = 1;
        loop {
            match self.send(operation, &message).await {
                Err(failure) if failure.is_passing() && attempt < ATTEMPTS_MAX => {}
                answered => return answered,
            }
            let pause_ms = PAUSE_FIRST_MS << (attempt - 1);
            self.environment.clock.pause(pause_ms).await;
            attempt += 1;
        }
    }

    /// Sends a request once.
    pub(super) async fn send(&self, operation: &str, message: &Value) -> Result<Value, Failure> {
        let place = format!("catalog {} {operation}", self.endpoint);
        let mut message = message.clone();
        if let (Some(id), Some(parts)) = (&self.catalog_id, message.as_object_mut()) {
            parts.insert("CatalogId".to_owned(), id.as_str().into());
        }
        let builder = self
            .http
            .post(self.endpoint.clone())
            .header("Content-Type", "application/x-amz-json-1.1")
            .header("X-Amz-Target", format!("AWSGlue.{operation}"))
            .body(message.to_string());
        let failed = |error| Failure::from(no_answer(error, &place));
        let mut request = builder.build().map_err(failed)?;
        let signed = self.signer.sign(&mut request).await;
        signed.map_err(Failure::NotSent)?;
        let answer = self.http.execute(request).await.map_err(failed)?;
        let named = name_in_header(&answer);
        let status = answer.status().as_u16();
        let body = answer.bytes().await.map_err(failed)?;
        let said: serde_json::Result<Value> = match body.is_empty() {
            true => Ok(Value::Null),
            false => serde_json::from_slice(&body),
        };
        if (200..300).contains(&status) {
            return said.map_err(|error| {
                let reason = format!("an answer that is not understood: {error}");
                Failure::Lost(ExportError::unavailable(&place, reason))
            });
        }
        let said = said.unwrap_or_default();
        let name = named.or_else(|| text(&said, "__type").map(plain_name));
        let name = name.unwrap_or_default();
        let message = text(&said, "Message").or(text(&said, "message"));
        let message = match message {
            Some(message) => beginning(message),
            None => beginning(&String::from_utf8_lossy(&body)),
        };
        let reason = match name.as_str() {
            "" => format!("status {status}: {message}"),
            name => format!("status {status}: {message} ({name})"),
        };
        Err(Failure::Answered {
            name,
            status,
            error: ExportError::unavailable(&place, reason),
        })
    }
}

fn name_in_header(answer: &Response) -> Option<String> {
    let name = answer.headers().get("x-amzn-ErrorType")?.to_str().ok()?;
    Some(plain_name(name))
}

/// `EntityNotFoundException` of `com.amazonaws.glue#EntityNotFoundException:http://…`.
fn plain_name(text: &str) -> String {
    let name = text.split(':').next().unwrap_or(text);
    name.rsplit('#').next().unwrap_or(name).to_owned()
}
