//! Calls to a Hive metastore, each over a connection of its own.

use std::time::Duration;

use reqwest::Url;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::thrift::{Reply, Struct, Undecoded, Value, call, reply};
use crate::environment::Environment;
use crate::error::{ExportError, Result};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Larger answers are refused.
const ANSWER_SIZE_BYTES_MAX: usize = 64 << 20;
/// What is read at once.
const READ_SIZE_BYTES: usize = 64 << 10;
/// The port of a metastore.
const PORT: u16 = 9083;

/// A metastore.
#[derive(Debug)]
pub(super) struct HiveClient {
    environment: Environment,
    host: String,
    port: u16,
    place: String,
}

/// Why a call did not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    /// It did not reach the metastore.
    NotSent(ExportError),
    /// Whether it did is not known.
    Lost(ExportError),
    /// What was thrown: its field of the result, and its message.
    Thrown(i16, String, ExportError),
}

impl Failure {
    /// Whether that field was thrown.
    pub(super) fn is(&self, field: i16) -> bool {
        matches!(self, Failure::Thrown(thrown, ..) if *thrown == field)
    }
}

impl From<Failure> for ExportError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotSent(error) | Failure::Lost(error) | Failure::Thrown(_, _, error) => error,
        }
    }
}

impl HiveClient {
    pub(super) fn new(address: &Url) -> Result<Self> {
        let host = address.host_str().filter(|host| !host.is_empty());
        let wrong = || ExportError::Config("catalog_uri: no host, as in thrift://host:9083".into());
        let host = host.ok_or_else(wrong)?.trim_matches(['[', ']']).to_owned();
        let port = address.port().unwrap_or(PORT);
        Ok(HiveClient {
            environment: Environment::default(),
            place: format!("Hive metastore at {host}:{port}"),
            host,
            port,
        })
    }

    fn unavailable(&self, reason: impl ToString) -> ExportError {
        ExportError::unavailable(&self.place, reason)
    }

    /// Calls a method; its result, if it has one.
    pub(super) async fn call(
        &self,
        method: &str,
        arguments: &Struct,
    ) -> Result<Option<Value>, Failure> {
        let connect = TcpStream::connect((self.host.as_str(), self.port));
        let connected = self.environment.within(CONNECT_TIMEOUT, connect).await;
        let connected = connected.unwrap_or_else(|| Err(std::io::ErrorKind::TimedOut.into()));
        let stream = connected.map_err(|error| Failure::NotSent(self.unavailable(error)))?;
        let ask = self.ask(stream, method, arguments);
        let answer = self.environment.within(CALL_TIMEOUT, ask).await;
        let late = || Failure::Lost(self.unavailable(format!("no answer to {method} in time")));
        match answer.ok_or_else(late)?? {
            Reply::Result(Struct(fields)) => self.result(method, fields),
            Reply::Failed(failed) => {
                let reason = text_of(failed.get(1));
                Err(self.thrown(method, 0, reason))
            }
        }
    }

    async fn ask(
        &self,
        mut stream: TcpStream,
        method: &str,
        arguments: &Struct,
    ) -> Result<Reply, Failure> {
        let message = call(method, arguments);
        let lost = |error: std::io::Error| Failure::Lost(self.unavailable(error));
        stream.write_all(&message).await.map_err(lost)?;
        let mut answer = Vec::with_capacity(READ_SIZE_BYTES);
        loop {
            answer.reserve(READ_SIZE_BYTES);
            let read = stream.read_buf(&mut answer).await.map_err(lost)?;
            let broken =
                |reason: &str| Failure::Lost(self.unavailable(format!("{method}: {reason}")));
            match reply(&answer) {
                Ok(reply) => return Ok(reply),
                Err(Undecoded::Malformed) => return Err(broken("its answer is not Thrift's")),
                Err(Undecoded::Early) if read == 0 => return Err(broken("its answer ends early")),
                Err(Undecoded::Early) if answer.len() > ANSWER_SIZE_BYTES_MAX => {
                    return Err(broken("its answer is too large"));
                }
                Err(Undecoded::Early) => {}
            }
        }
    }

    /// The result is in field 0, what was thrown in another one.
    fn result(&self, method: &str, fields: Vec<(i16, Value)>) -> Result<Option<Value>, Failure> {
        match fields.into_iter().next() {
            None => Ok(None),
            Some((0, result)) => Ok(Some(result)),
            Some((field, thrown)) => {
                let message = thrown.fields().and_then(|fields| fields.get(1));
                Err(self.thrown(method, field, text_of(message)))
            }
        }
    }

    fn thrown(&self, method: &str, field: i16, message: String) -> Failure {
        let error = self.unavailable(format!("{method}: {message}"));
        Failure::Thrown(field, message, error)
    }
}

fn text_of(message: Option<&Value>) -> String {
    let text = message.and_then(Value::text);
    text.unwrap_or("it does not say why").to_owned()
}
