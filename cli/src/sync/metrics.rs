//! The metrics of a running `sync`, for Prometheus: `GET /metrics` at a loopback address.
//!
//! One answer a connection, HTTP/1.1, no TLS and no password; so only this machine is served. Whoever is slow, or one of too
//! many, is not waited for.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use moonshine_engine::Database;
use moonshine_export::ExporterMetrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::error::CliError;

/// The head of a request is no longer than this, in bytes, and has no more headers.
const HEAD_MAX: usize = 8 << 10;
const HEADERS_MAX: usize = 64;
/// How long a request and its answer may take.
const REQUEST_MAX: Duration = Duration::from_secs(5);
/// How many are answered at the same time.
const REQUESTS_AT_ONCE: usize = 8;
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is told.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) database: Database,
    /// Set once the catalog was reached.
    pub(crate) exporter: Arc<OnceLock<ExporterMetrics>>,
    pub(crate) freshness_ms: i64,
}

impl Told {
    fn text(&self) -> String {
        let mut text = self.database.statistics().to_metrics();
        if let Some(exporter) = self.exporter.get() {
            // One text has one end.
            text.truncate(text.trim_end_matches("# EOF\n").len());
            text.push_str(&exporter.to_metrics(self.freshness_ms));
        }
        text
    }
}

/// Takes the address.
pub(crate) async fn listen(address: SocketAddr) -> Result<TcpListener, CliError> {
    let failed = |error| CliError::Output(format!("metrics.listen: {address}: {error}"));
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    tracing::info!(%address, "metrics are served at /metrics");
    Ok(listener)
}

/// Answers for as long as it is let.
pub(crate) async fn serve(listener: TcpListener, told: Told) {
    let turns = Arc::new(Semaphore::new(REQUESTS_AT_ONCE));
    loop {
        let accepted = listener.accept().await;
        let turn = turns.clone().acquire_owned().await;
        let (Ok((stream, _)), Ok(turn)) = (accepted, turn) else {
            // Too many open files pass.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let told = told.clone();
        tokio::spawn(async move {
            let _turn = turn;
            if let Ok(Err(error)) = timeout(REQUEST_MAX, answer(stream, &told)).await {
                tracing::debug!(%error, "a request for metrics failed");
            }
        });
    }
}

async fn answer(mut stream: TcpStream, told: &Told) -> std::io::Result<()> {
    let head = read_head(&mut stream).await?;
    let response = response(&head, || told.text());
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await
}

/// Reads up to the empty line, or to the end of what there may be.
async fn read_head(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut limited = stream.take(HEAD_MAX as u64);
    while !head.ends_with(b"\r\n\r\n") {
        if limited.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    Ok(head)
}

fn response(head: &[u8], text: impl FnOnce() -> String) -> String {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let is_whole = request.parse(head).is_ok_and(|status| status.is_complete());
    let path = request
        .path
        .map(|path| path.split('?').next().unwrap_or(path));
    let (status, body) = match (is_whole, request.method, path) {
        (true, Some("GET" | "HEAD"), Some("/metrics")) => ("200 OK", text()),
        (true, Some("GET" | "HEAD"), Some(_)) => ("404 Not Found", "see /metrics\n".to_owned()),
        (true, _, _) => ("405 Method Not Allowed", "GET /metrics\n".to_owned()),
        (false, _, _) => ("400 Bad Request", "GET /metrics\n".to_owned()),
    };
    let content_type = match status {
        "200 OK" => CONTENT_TYPE,
        _ => "text/plain; charset=utf-8",
    };
    let allow = match status {
        "405 Method Not Allowed" => "Allow: GET, HEAD\r\n",
        _ => "",
    };
    let length = body.len();
    let body = match request.method {
        Some("HEAD") => "",
        _ => &body,
    };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n{allow}Connection: close\r\n\r\n{body}"
    )
}

#[cfg(test)]
mod tests {
    use super::response;

    fn answer(head: &str) -> String {
        response(head.as_bytes(), || "up 1\n# EOF\n".to_owned())
    }

    #[test]
    fn only_metrics_are_told() {
        for (head, status, body) in [
            (
                "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
                "200 OK",
                "up 1\n# EOF\n",
            ),
            (
                "GET /metrics?a=b HTTP/1.0\r\n\r\n",
                "200 OK",
                "up 1\n# EOF\n",
            ),
            ("HEAD /metrics HTTP/1.1\r\n\r\n", "200 OK", ""),
            (
                "GET /etc/passwd HTTP/1.1\r\n\r\n",
                "404 Not Found",
                "see /metrics\n",
            ),
            (
                "POST /metrics HTTP/1.1\r\n\r\n",
                "405 Method Not Allowed",
                "GET /metrics\n",
            ),
            (
                "GET /metrics HTTP/1.1\r\nHost: x\r\n",
                "400 Bad Request",
                "GET /metrics\n",
            ),
            ("\u{16}\u{3}\u{1}", "400 Bad Request", "GET /metrics\n"),
            ("", "400 Bad Request", "GET /metrics\n"),
        ] {
            let answer = answer(head);
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}\r\n")),
                "{head}: {answer}"
            );
            assert_eq!(answer.split_once("\r\n\r\n").unwrap().1, body, "{head}");
        }
        assert!(answer("HEAD /metrics HTTP/1.1\r\n\r\n").contains("Content-Length: 11\r\n"));
    }
}
