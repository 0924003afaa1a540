//! The ordinary SQL connection and what its errors mean for a source.

use tokio_postgres::config::Host;
use tokio_postgres::{Client, NoTls};

use super::connection::is_transient;
use crate::SourceError;

/// Connects. The connection lives as long as the client.
pub(super) async fn connect(config: &tokio_postgres::Config) -> Result<Client, SourceError> {
    let (client, connection) = config
        .connect(NoTls)
        .await
        .map_err(|error| sql_error(&format!("connecting to {}", address(config)), &error))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            // Whoever uses the client gets an error of its own.
            tracing::debug!(%error, "the PostgreSQL connection ended");
        }
    });
    Ok(client)
}

/// The server as errors name it: `host:port`.
fn address(config: &tokio_postgres::Config) -> String {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(name)) => name.clone(),
        Some(Host::Unix(folder)) => folder.display().to_string(),
        None => config
            .get_hostaddrs()
            .first()
            .map_or_else(String::new, ToString::to_string),
    };
    match config.get_ports().first() {
        Some(port) => format!("{host}:{port}"),
        None => host,
    }
}

/// An error of `tokio-postgres` as what a source reports, by whether trying again can help.
pub(super) fn sql_error(attempt: &str, error: &tokio_postgres::Error) -> SourceError {
    let Some(server) = error.as_db_error() else {
        let cause = std::error::Error::source(error)
            .map(|cause| format!(": {cause}"))
            .unwrap_or_default();
        let text = format!("PostgreSQL, {attempt}: {error}{cause}");
        // Without a word from the server it is the connection that failed, or its set-up.
        return if error.to_string().contains("invalid configuration") {
            SourceError::Config(text)
        } else {
            SourceError::Unavailable(text)
        };
    };
    let code = server.code().code();
    let text = format!(
        "PostgreSQL, {attempt}: {} (SQLSTATE {code})",
        server.message()
    );
    if is_transient(code) {
        SourceError::Unavailable(text)
    } else {
        SourceError::Config(text)
    }
}
