//! The replication connection: the PostgreSQL frontend/backend protocol as far as replication needs it, over TCP or a
//! Unix socket. `tokio-postgres` serves ordinary SQL but does not know the CopyBoth mode in which changes stream.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::authentication::{md5_hash, sasl};
use postgres_protocol::message::backend::{DataRowBody, ErrorFields, Message};
use postgres_protocol::message::frontend;
use postgres_protocol::message::frontend::CopyData;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::config::Host;
use tokio_postgres::fallible_iterator::FallibleIterator;

use crate::SourceError;

const PORT_DEFAULT: u16 = 5432;
/// Free space of the read buffer ahead of each read.
const READ_BYTES: usize = 128 * 1024;
/// Tag of CopyBothResponse, which `postgres-protocol` does not parse.
const COPY_BOTH_RESPONSE_TAG: u8 = b'W';
/// Tag and length.
const HEADER_BYTES: usize = 5;

/// SQLSTATE of an object that is busy, such as a slot that another connection still reads.
pub(super) const OBJECT_IN_USE: &str = "55006";

/// Why the replication connection failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{message} (SQLSTATE {code})")]
    Server { code: String, message: String },
    #[error("{0}")]
    Protocol(String),
}

impl WireError {
    /// As what a source reports, by whether trying again can help.
    pub(super) fn into_source_error(self, attempt: &str) -> SourceError {
        let text = format!("{attempt}: {self}");
        match self {
            WireError::Server { code, .. } if !is_transient(&code) => SourceError::Config(text),
            _ => SourceError::Unavailable(text),
        }
    }
}

/// Whether an error of that SQLSTATE can go away by itself: connection trouble, lack of resources, operator
/// intervention (shutdown), a serialization failure, or a busy object.
pub(super) fn is_transient(code: &str) -> bool {
    const CONFIGURATION_LIMIT_EXCEEDED: &str = "53400";
    code != CONFIGURATION_LIMIT_EXCEEDED
        && (code == OBJECT_IN_USE
            || ["08", "40", "53", "57"]
                .iter()
                .any(|class| code.starts_with(class)))
}

trait Socket: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Socket for T {}

/// A connection in replication mode.
pub(super) struct ReplicationConnection {
    socket: Box<dyn Socket>,
    read: BytesMut,
    write: BytesMut,
}

impl ReplicationConnection {
    /// Connects and authenticates.
    pub(super) async fn connect(config: &tokio_postgres::Config) -> Result<Self, WireError> {
        let attempt = async {
            let socket = open_socket(config).await?;
            let mut connection = Self {
                socket,
                read: BytesMut::new(),
                write: BytesMut::new(),
            };
            connection.start_up(config).await?;
            Ok(connection)
        };
        let Some(&timeout) = config.get_connect_timeout() else {
            return attempt.await;
        };
        match tokio::time::timeout(timeout, attempt).await {
            Ok(result) => result,
            Err(_) => {
                let reason = format!("no answer within {} s", timeout.as_secs());
                Err(WireError::Io(io::Error::new(
                    io::ErrorKind::TimedOut,
                    reason,
                )))
            }
        }
    }

    async fn start_up(&mut self, config: &tokio_postgres::Config) -> Result<(), WireError> {
        let mut parameters = vec![
            ("user", config.get_user().unwrap_or_default()),
            ("database", config.get_dbname().unwrap_or_default()),
            ("replication", "database"),
            (
                "application_name",
                config.get_application_name().unwrap_or_default(),
            ),
            // What the text form of values is read under.
            ("client_encoding", "UTF8"),
            ("DateStyle", "ISO, YMD"),
            ("TimeZone", "UTC"),
            ("bytea_output", "hex"),
            ("extra_float_digits", "3"),
        ];
        if let Some(options) = config.get_options() {
            parameters.push(("options", options));
        }
        frontend::startup_message(parameters, &mut self.write)?;
        self.flush().await?;
        self.authenticate(config).await?;
        loop {
            match self.receive().await? {
                Message::ReadyForQuery(_) => return Ok(()),
                Message::BackendKeyData(_) => {}
                _ => return Err(unexpected("start-up")),
            }
        }
    }

    async fn authenticate(&mut self, config: &tokio_postgres::Config) -> Result<(), WireError> {
        let user = config.get_user().unwrap_or_default();
        loop {
            match self.receive().await? {
                Message::AuthenticationOk => return Ok(()),
                Message::AuthenticationCleartextPassword => {
                    frontend::password_message(password(config)?, &mut self.write)?;
                }
                Message::AuthenticationMd5Password(body) => {
                    let hash = md5_hash(user.as_bytes(), password(config)?, body.salt());
                    frontend::password_message(hash.as_bytes(), &mut self.write)?;
                }
                Message::AuthenticationSasl(body) => {
                    let mut mechanisms = body.mechanisms();
                    let mut offered = false;
                    while let Some(mechanism) = mechanisms.next()? {
                        offered |= mechanism == sasl::SCRAM_SHA_256;
                    }
                    if !offered {
                        return Err(WireError::Protocol(
                            "the server offers no SCRAM-SHA-256 authentication".into(),
                        ));
                    }
                    self.authenticate_scram(password(config)?).await?;
                    continue;
                }
                _ => {
                    return Err(WireError::Protocol(
                        "the server asks for an unsupported authentication".into(),
                    ));
                }
            }
            self.flush().await?;
        }
    }

    async fn authenticate_scram(&mut self, password: &[u8]) -> Result<(), WireError> {
        let mut scram = sasl::ScramSha256::new(password, sasl::ChannelBinding::unsupported());
        frontend::sasl_initial_response(sasl::SCRAM_SHA_256, scram.message(), &mut self.write)?;
        self.flush().await?;
        let Message::AuthenticationSaslContinue(body) = self.receive().await? else {
            return Err(unexpected("SCRAM authentication"));
        };
        scram.update(body.data())?;
        frontend::sasl_response(scram.message(), &mut self.write)?;
        self.flush().await?;
        let Message::AuthenticationSaslFinal(body) = self.receive().await? else {
            return Err(unexpected("SCRAM authentication"));
        };
        scram.finish(body.data())?;
        Ok(())
    }

    /// Runs one command and returns its rows as text.
    pub(super) async fn query(
        &mut self,
        command: &str,
    ) -> Result<Vec<Vec<Option<String>>>, WireError> {
        frontend::query(command, &mut self.write)?;
        self.flush().await?;
        let mut rows = Vec::new();
        let mut failure = None;
        loop {
            match self.receive().await {
                Ok(Message::DataRow(body)) => rows.push(text_row(&body)?),
                Ok(Message::RowDescription(_) | Message::CommandComplete(_)) => {}
                Ok(Message::ReadyForQuery(_)) => break,
                // The server still says that it is ready, and the connection stays usable.
                Err(error @ WireError::Server { .. }) => failure = Some(error),
                Err(error) => return Err(error),
                Ok(_) => return Err(unexpected(command)),
            }
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(rows),
        }
    }

    /// Runs a START_REPLICATION command; from then on the connection streams.
    pub(super) async fn start_streaming(&mut self, command: &str) -> Result<(), WireError> {
        frontend::query(command, &mut self.write)?;
        self.flush().await?;
        let mut failure = None;
        loop {
            if self.read.first() == Some(&COPY_BOTH_RESPONSE_TAG) && self.take_copy_both()? {
                return Ok(());
            }
            // One message at a time: what follows it may be the CopyBothResponse.
            match self.parse_message() {
                Ok(Some(Message::ReadyForQuery(_))) => {
                    return Err(failure.unwrap_or_else(|| unexpected("START_REPLICATION")));
                }
                Ok(Some(_)) => {}
                Ok(None) => self.fill().await?,
                Err(error @ WireError::Server { .. }) => failure = Some(error),
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes a whole CopyBothResponse off the buffer; whether there was one.
    fn take_copy_both(&mut self) -> Result<bool, WireError> {
        let mut header = self.read.get(1..).unwrap_or_default();
        let Ok(size_bytes) = header.try_get_u32() else {
            return Ok(false);
        };
        let total_bytes = usize::try_from(size_bytes)
            .ok()
            .and_then(|size_bytes| size_bytes.checked_add(1));
        match total_bytes {
            Some(total_bytes) if total_bytes >= HEADER_BYTES => {
                let whole = self.read.len() >= total_bytes;
                if whole {
                    self.read.advance(total_bytes);
                }
                Ok(whole)
            }
            _ => Err(unexpected("START_REPLICATION")),
        }
    }

    /// The next CopyData payload that was received already. It takes no waiting, and an empty answer means that
    /// [`fill`](Self::fill) is due.
    pub(super) fn buffered_copy_data(&mut self) -> Result<Option<Bytes>, WireError> {
        match self.buffered_message()? {
            Some(Message::CopyData(body)) => Ok(Some(body.into_bytes())),
            Some(Message::CopyDone | Message::CommandComplete(_)) => {
                Err(ended("the server ended the stream"))
            }
            Some(_) => Err(unexpected("streaming")),
            None => Ok(None),
        }
    }

    /// Sends one CopyData payload.
    pub(super) async fn send_copy_data(&mut self, payload: Bytes) -> Result<(), WireError> {
        CopyData::new(payload)?.write(&mut self.write);
        self.flush().await
    }

    /// Ends streaming and the connection, and waits until the server has done the same, so that the slot is free.
    pub(super) async fn finish(mut self) -> Result<(), WireError> {
        frontend::copy_done(&mut self.write);
        frontend::terminate(&mut self.write);
        self.flush().await?;
        loop {
            self.read.clear();
            if self.socket.read_buf(&mut self.read).await? == 0 {
                return Ok(());
            }
        }
    }

    /// Waits for more bytes. May be cancelled without losing any.
    pub(super) async fn fill(&mut self) -> Result<(), WireError> {
        self.read.reserve(READ_BYTES);
        match self.socket.read_buf(&mut self.read).await? {
            0 => Err(ended("the server closed the connection")),
            _ => Ok(()),
        }
    }

    /// The next message, without those that may come at any time and say nothing that is needed.
    async fn receive(&mut self) -> Result<Message, WireError> {
        loop {
            match self.buffered_message()? {
                Some(message) => return Ok(message),
                None => self.fill().await?,
            }
        }
    }

    fn buffered_message(&mut self) -> Result<Option<Message>, WireError> {
        loop {
            match self.parse_message()? {
                Some(Message::NoticeResponse(_) | Message::ParameterStatus(_)) => {}
                other => return Ok(other),
            }
        }
    }

    fn parse_message(&mut self) -> Result<Option<Message>, WireError> {
        match Message::parse(&mut self.read)? {
            Some(Message::ErrorResponse(body)) => Err(server_error(body.fields())),
            other => Ok(other),
        }
    }

    async fn flush(&mut self) -> Result<(), WireError> {
        self.socket.write_all_buf(&mut self.write).await?;
        self.socket.flush().await?;
        Ok(())
    }
}

/// Connects to the one host that the configuration names.
async fn open_socket(config: &tokio_postgres::Config) -> Result<Box<dyn Socket>, WireError> {
    let port = config.get_ports().first().copied().unwrap_or(PORT_DEFAULT);
    match (config.get_hostaddrs().first(), config.get_hosts().first()) {
        (Some(address), _) => open_tcp((*address, port), config).await,
        (None, Some(Host::Tcp(name))) => open_tcp((name.as_str(), port), config).await,
        #[cfg(unix)]
        (None, Some(Host::Unix(folder))) => {
            let path = folder.join(format!(".s.PGSQL.{port}"));
            Ok(Box::new(tokio::net::UnixStream::connect(path).await?))
        }
        (None, None) => Err(WireError::Protocol("the url names no host".into())),
    }
}

async fn open_tcp(
    address: impl tokio::net::ToSocketAddrs,
    config: &tokio_postgres::Config,
) -> Result<Box<dyn Socket>, WireError> {
    let socket = TcpStream::connect(address).await?;
    // Status updates are small and answer a server that waits for them.
    socket.set_nodelay(true)?;
    // As one is sent every second, bytes without a receipt show soon that the other side is gone.
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(&socket).set_tcp_user_timeout(config.get_tcp_user_timeout().copied())?;
    Ok(Box::new(socket))
}

fn password(config: &tokio_postgres::Config) -> Result<&[u8], WireError> {
    config.get_password().ok_or_else(|| WireError::Server {
        // As the server answers to a wrong one: trying again does not help.
        code: "28P01".into(),
        message: "the server asks for a password; put one into the url or into PGPASSWORD".into(),
    })
}

fn text_row(body: &DataRowBody) -> Result<Vec<Option<String>>, WireError> {
    let mut row = Vec::new();
    let mut ranges = body.ranges();
    while let Some(range) = ranges.next()? {
        let bytes = range.and_then(|range| body.buffer().get(range));
        row.push(bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()));
    }
    Ok(row)
}

fn server_error(mut fields: ErrorFields<'_>) -> WireError {
    let mut code = String::new();
    let mut message = String::new();
    // A field that can't be read ends the list; what came before it is worth reporting.
    while let Ok(Some(field)) = fields.next() {
        match field.type_() {
            b'C' => code = String::from_utf8_lossy(field.value_bytes()).into_owned(),
            b'M' => message = String::from_utf8_lossy(field.value_bytes()).into_owned(),
            _ => {}
        }
    }
    WireError::Server { code, message }
}

fn ended(reason: &str) -> WireError {
    WireError::Io(io::Error::new(io::ErrorKind::UnexpectedEof, reason))
}

fn unexpected(place: &str) -> WireError {
    WireError::Protocol(format!("unexpected message from the server at {place}"))
}
