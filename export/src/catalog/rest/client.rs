//! Requests to a catalog server: paths, tokens, and what an answer means for what was asked.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use super::config::{RestConfig, address};
use super::messages::{ErrorAnswer, Token};
use super::signing::Signer;
use crate::config::Secret;
use crate::environment::Environment;
use crate::error::{ExportError, Result};

/// How long a request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a connection may take: a request that was not sent can't have changed anything.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a request that changes nothing is sent.
const ATTEMPTS_MAX: u32 = 4;
/// The first pause between two of them, in milliseconds; each is twice as long as the one before.
const PAUSE_FIRST_MS: u64 = 200;
/// The longest pause, in milliseconds, whatever the server asks for.
const PAUSE_MAX_MS: u64 = 5_000;
/// A token is exchanged for a new one so long before it expires, in milliseconds.
const TOKEN_MARGIN_MS: i64 = 30_000;
/// So much of what a server says goes into an error.
const SAID_CHARS_MAX: usize = 300;
/// The statuses of a request whose token does not do (419: it expired, in the REST protocol's own numbering).
const UNAUTHORIZED: [u16; 3] = [401, 403, 419];

/// A server, and how to speak to it.
#[derive(Debug)]
pub(super) struct RestClient {
    http: Client,
    environment: Environment,
    base: Url,
    /// `v1`, and what the server or the configuration puts behind it.
    prefix: String,
    headers: BTreeMap<String, Secret>,
    tokens: Tokens,
    signer: Option<Signer>,
}

#[derive(Debug)]
struct Tokens {
    fixed: Option<Secret>,
    credential: Option<Secret>,
    endpoint: Url,
    scope: String,
    current: Mutex<Option<(Secret, i64)>>,
}

/// A request: what, and where below the warehouse's path.
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) path: &'a [&'a str],
    pub(super) query: &'a [(&'a str, &'a str)],
    /// JSON.
    pub(super) body: Option<Vec<u8>>,
}

/// What a server answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) retry_after_ms: Option<u64>,
    /// The server that a redirect points to.
    redirected_to: Option<String>,
    body: Bytes,
    place: String,
}

/// Why there is no answer.
#[derive(Debug)]
pub(in crate::catalog) enum NoAnswer {
    /// The request did not reach the server.
    NotSent(ExportError),
    /// The request was not sent, as there is no token for it.
    Denied(ExportError),
    /// Whether it did is not known.
    Lost(ExportError),
}

impl From<NoAnswer> for ExportError {
    fn from(no_answer: NoAnswer) -> Self {
        match no_answer {
            NoAnswer::NotSent(error) | NoAnswer::Denied(error) | NoAnswer::Lost(error) => error,
        }
    }
}

impl Answer {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether the catalog says that the table or its namespace does not exist. A 404 alone says less: a gateway
    /// answers so while the catalog is away.
    pub(super) fn is_missing(&self) -> bool {
        let is_named = |answer: ErrorAnswer| {
            let mut names = ["NoSuchTab", "NoSuchNamespace"].iter();
            names.any(|name| answer.error.r#type.starts_with(name))
        };
        self.status == 404 && serde_json::from_slice(&self.body).is_ok_and(is_named)
    }

    /// The body, if the request succeeded.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T> {
        if !self.is_success() {
            return Err(self.error());
        }
        serde_json::from_slice(&self.body).map_err(|error| {
            ExportError::unavailable(
                &self.place,
                format!("an answer that is not understood: {error}"),
            )
        })
    }

    /// What went wrong, as the server says it.
    pub(super) fn error(&self) -> ExportError {
        let said = match serde_json::from_slice::<ErrorAnswer>(&self.body) {
            Ok(answer) => {
                let message = beginning(&answer.error.message);
                format!("{message} ({})", answer.error.r#type)
            }
            Err(_) => beginning(&String::from_utf8_lossy(&self.body)),
        };
        let hint = match &self.redirected_to {
            _ if UNAUTHORIZED.contains(&self.status) => {
                "; look at the token or credential of the catalog".to_owned()
            }
            Some(server) => format!("; redirects are not followed, this one points to {server}"),
            None => String::new(),
        };
        ExportError::unavailable(&self.place, format!("status {}: {said}{hint}", self.status))
    }
}

impl RestClient {
    pub(super) fn new(
        base: Url,
        config: &RestConfig,
        signer: Option<Signer>,
        environment: Environment,
    ) -> Result<Self> {
        let http = http_client()?;
        let endpoint = match &config.oauth2_server_uri {
            Some(text) => address("rest.oauth2_server_uri", text)?,
            None => below(&base, "v1", &["oauth", "tokens"]),
        };
        Ok(RestClient {
            http,
            environment,
            base,
            prefix: "v1".to_owned(),
            headers: config.headers.clone(),
            tokens: Tokens {
                fixed: config.token.clone(),
                credential: config.credential.clone(),
                endpoint,
                scope: config.scope.clone().unwrap_or_else(|| "catalog".to_owned()),
                current: Mutex::default(),
            },
            signer,
        })
    }

    /// What stands before the paths of requests to come, as it is in an address.
    pub(super) fn set_prefix(&mut self, prefix: &str) {
        self.prefix = match prefix.trim_matches('/') {
            "" => "v1".to_owned(),
            prefix => format!("v1/{prefix}"),
        };
    }

    /// The same request, again while the server is busy or can't be reached: for what changes nothing.
    pub(super) async fn ask(&self, request: &Request<'_>) -> Result<Answer> {
        let mut attempt = 1;
        loop {
            let answered = self.send(request).await;
            let is_passing = match &answered {
                Ok(answer) => answer.status == 429 || answer.status >= 500,
                Err(no_answer) => !matches!(no_answer, NoAnswer::Denied(_)),
            };
            if !is_passing || attempt == ATTEMPTS_MAX {
                return Ok(answered?);
            }
            let wanted = answered.ok().and_then(|answer| answer.retry_after_ms);
            let pause_ms = wanted.unwrap_or(PAUSE_FIRST_MS << (attempt - 1));
            self.environment
                .clock
                .pause(pause_ms.min(PAUSE_MAX_MS))
                .await;
            attempt += 1;
        }
    }

    /// Sends a request once; once more with another token if its own does not do.
    pub(super) async fn send(&self, request: &Request<'_>) -> Result<Answer, NoAnswer> {
        let token = self.token(None).await?;
        let answer = self.send_with(request, token.as_ref()).await?;
        if UNAUTHORIZED.contains(&answer.status) && self.tokens.credential.is_some() {
            let renewed = self.token(token.as_ref()).await?;
            return self.send_with(request, renewed.as_ref()).await;
        }
        Ok(answer)
    }

    async fn send_with(
        &self,
        request: &Request<'_>,
        token: Option<&Secret>,
    ) -> Result<Answer, NoAnswer> {
        let url = below(&self.base, &self.prefix, request.path);
        let place = format!("catalog {url}");
        let mut builder = self
            .http
            .request(request.method.clone(), url)
            .query(request.query)
            .header("X-Iceberg-Access-Delegation", "vended-credentials");
        for (name, value) in &self.headers {
            builder = builder.header(name, value.reveal());
        }
        if let Some(token) = token {
            builder = builder.bearer_auth(token.reveal());
        }
        if let Some(body) = &request.body {
            builder = builder
                .header("Content-Type", "application/json")
                .body(body.clone());
        }
        let mut request = built(builder, &place)?;
        if let Some(signer) = &self.signer {
            let signed = signer.sign(&mut request).await;
            signed.map_err(NoAnswer::NotSent)?;
        }
        self.receive(request, place).await
    }

    /// The token to send; another one than `refused`.
    async fn token(&self, refused: Option<&Secret>) -> Result<Option<Secret>, NoAnswer> {
        let Some(credential) = &self.tokens.credential else {
            return Ok(self.tokens.fixed.clone());
        };
        let mut current = self.tokens.current.lock().await;
        let now_ms = self.environment.clock.now_ms();
        if let Some((token, expires_ms)) = &*current
            && *expires_ms > now_ms
            && refused != Some(token)
        {
            return Ok(Some(token.clone()));
        }
        let mut form = vec![
            ("grant_type", "client_credentials"),
            ("scope", &self.tokens.scope),
        ];
        match credential.reveal().split_once(':') {
            Some((id, secret)) => form.extend([("client_id", id), ("client_secret", secret)]),
            None => form.push(("client_secret", credential.reveal())),
        }
        let place = format!("catalog {}", self.tokens.endpoint);
        let builder = self.http.post(self.tokens.endpoint.clone()).form(&form);
        let not_sent = |no_answer: NoAnswer| NoAnswer::NotSent(no_answer.into());
        let request = built(builder, &place)?;
        let answer = self.receive(request, place).await.map_err(not_sent)?;
        if (400..500).contains(&answer.status) && answer.status != 429 {
            return Err(NoAnswer::Denied(answer.error()));
        }
        let token: Token = answer.json().map_err(NoAnswer::NotSent)?;
        let lifetime_ms = token.expires_in.map_or(i64::MAX, |seconds| {
            i64::try_from(seconds)
                .unwrap_or(i64::MAX)
                .saturating_mul(1000)
        });
        let expires_ms = now_ms
            .saturating_add(lifetime_ms)
            .saturating_sub(TOKEN_MARGIN_MS);
        *current = Some((token.access_token.clone(), expires_ms));
        Ok(Some(token.access_token))
    }

    async fn receive(&self, request: reqwest::Request, place: String) -> Result<Answer, NoAnswer> {
        let failed = |error| no_answer(error, &place);
        let response = self.http.execute(request).await.map_err(failed)?;
        let status = response.status().as_u16();
        let retry_after_ms = retry_after_ms(&response);
        let redirected_to = redirected_to(&response);
        let body = response.bytes().await.map_err(failed)?;
        Ok(Answer {
            status,
            retry_after_ms,
            redirected_to,
            body,
            place,
        })
    }
}

/// A client of a catalog: with limits to what a request takes, and without redirects.
pub(in crate::catalog) fn http_client() -> Result<Client> {
    Client::builder()
        .timeout(REQUEST_TIMEOUT)
        .connect_timeout(CONNECT_TIMEOUT)
        // A redirected POST may become a GET whose answer looks like success, and secrets would go elsewhere.
        .redirect(Policy::none())
        .user_agent(concat!("moonshine/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| ExportError::unavailable("catalog", causes(&error)))
}

fn built(builder: RequestBuilder, place: &str) -> Result<reqwest::Request, NoAnswer> {
    builder.build().map_err(|error| no_answer(error, place))
}

pub(in crate::catalog) fn no_answer(error: reqwest::Error, place: &str) -> NoAnswer {
    let is_sent = !(error.is_connect() || error.is_builder());
    let error = ExportError::unavailable(place, causes(&error.without_url()));
    if is_sent {
        NoAnswer::Lost(error)
    } else {
        NoAnswer::NotSent(error)
    }
}

/// What a server says, up to the end of the line. The servers of AWS go on, where a signature does not match, with the request that
/// they got, and so with the token in it.
pub(in crate::catalog) fn beginning(said: &str) -> String {
    // In a body that is not understood a line may end as in a text of JSON.
    let mut lines = said.lines().flat_map(|line| line.split("\\n"));
    let line = lines.find(|line| line.contains(char::is_alphanumeric));
    let line = line.unwrap_or_default().trim();
    line.chars().take(SAID_CHARS_MAX).collect()
}

/// The body of a request.
pub(super) fn json(message: &impl Serialize) -> Result<Option<Vec<u8>>> {
    serde_json::to_vec(message)
        .map(Some)
        .map_err(|error| ExportError::corrupt("a request to the catalog", error))
}

/// What the server asks to wait, where it says so in seconds.
fn retry_after_ms(response: &Response) -> Option<u64> {
    let text = response.headers().get("Retry-After")?.to_str().ok()?;
    text.trim().parse::<u64>().ok()?.checked_mul(1000)
}

/// The scheme, host and port that a redirect points to: what the address in the configuration may have to be.
fn redirected_to(response: &Response) -> Option<String> {
    let location = response.headers().get("Location")?.to_str().ok()?;
    let target = response.url().join(location).ok()?;
    response
        .status()
        .is_redirection()
        .then(|| target.origin().ascii_serialization())
}

/// An error with what caused it.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// The address below `base` with this prefix, in which nothing is encoded, and these parts, in which everything is.
fn below(base: &Url, prefix: &str, parts: &[&str]) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{prefix}", base.path().trim_end_matches('/')));
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.extend(parts);
    }
    url
}
