//! A server of Google Cloud Storage's protocols.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use super::Server;
use crate::installed::gcs_python;

const BUCKET: &str = "warehouse";
const TOKEN: &str = "moonshine-token";
/// 2100-01-01, in milliseconds.
const TOKEN_END_MS: &str = "4102444800000";

const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/gcs_server.py");

/// gcp-storage-emulator, from the Python package index; `tests/python/gcs_server.py` says what was added.
pub(crate) struct GcsServer {
    server: Server,
}

impl GcsServer {
    pub(crate) fn start(folder: &Path) -> Option<GcsServer> {
        let python = gcs_python()?;
        let server = Server::start(&folder.join("gcs.log"), |port| {
            let mut command = Command::new(python);
            command.args([SERVER, &port.to_string(), BUCKET, TOKEN]);
            command
        });
        Some(GcsServer { server })
    }

    /// The bucket's location.
    pub(crate) fn bucket(&self) -> String {
        format!("gs://{BUCKET}")
    }

    /// How it is reached.
    pub(crate) fn properties(&self) -> BTreeMap<String, String> {
        let properties = [
            ("gcs.service.host", self.server.uri().as_str()),
            ("gcs.oauth2.token", TOKEN),
            ("gcs.oauth2.token-expires-at", TOKEN_END_MS),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        properties.into_iter().collect()
    }
}
