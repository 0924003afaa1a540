//! Servers of the S3 protocol.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use super::{Server, named};
use crate::installed::{moto, moto_python};

const BUCKET: &str = "warehouse";
const ACCESS_KEY: &str = "moonshine";
const SECRET_KEY: &str = "moonshine-secret";

const GLUE_SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/glue_server.py");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum S3Kind {
    /// Moto; takes every key.
    Moto,
    /// The same, which is AWS Glue too; `tests/python/glue_server.py` says what was mended there.
    MotoWithGlue,
    /// The Versity gateway over a folder; knows one key. Only where `MOONSHINE_TEST_VERSITYGW` names it.
    Versity,
}

/// A server with an empty bucket.
pub(crate) struct S3Server {
    server: Server,
    pub(crate) kind: S3Kind,
}

impl S3Server {
    /// Starts every server that is there.
    pub(crate) fn start_all(folder: &Path) -> Vec<S3Server> {
        let kinds = [S3Kind::Moto, S3Kind::Versity];
        let started = kinds.map(|kind| Self::start(kind, &folder.join(format!("{kind:?}"))));
        started.into_iter().flatten().collect()
    }

    pub(crate) fn start(kind: S3Kind, folder: &Path) -> Option<S3Server> {
        let program = match kind {
            S3Kind::Moto => moto()?,
            S3Kind::MotoWithGlue => moto_python()?,
            S3Kind::Versity => named("MOONSHINE_TEST_VERSITYGW")?,
        };
        let files = folder.join("files");
        std::fs::create_dir_all(files.join(BUCKET)).unwrap();
        let server = Server::start(&folder.join("s3.log"), |port| {
            let mut command = Command::new(program);
            match kind {
                S3Kind::Moto => command.args(["-H", "127.0.0.1", "-p", &port.to_string()]),
                S3Kind::MotoWithGlue => command.args([GLUE_SERVER, &port.to_string()]),
                S3Kind::Versity => command
                    .args(["--port", &format!("127.0.0.1:{port}")])
                    .args(["--access", ACCESS_KEY, "--secret", SECRET_KEY, "posix"])
                    .arg(files),
            };
            command
        });
        let server = S3Server { server, kind };
        if kind != S3Kind::Versity {
            server.make_bucket();
        }
        Some(server)
    }

    /// Moto does not look at signatures, so a plain request does.
    fn make_bucket(&self) {
        let uri = format!("{}/{BUCKET}", self.uri());
        let made = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime
                .unwrap()
                .block_on(reqwest::Client::new().put(uri).send())
        });
        let answer = made.join().unwrap().unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    }

    pub(crate) fn uri(&self) -> String {
        self.server.uri()
    }

    /// The bucket's location.
    pub(crate) fn bucket(&self) -> String {
        format!("s3://{BUCKET}")
    }

    /// How it is reached.
    pub(crate) fn properties(&self) -> BTreeMap<String, String> {
        let properties = [
            ("s3.endpoint", self.uri().as_str()),
            ("s3.region", "us-east-1"),
            ("s3.path-style-access", "true"),
            ("s3.access-key-id", ACCESS_KEY),
            ("s3.secret-access-key", SECRET_KEY),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        properties.into_iter().collect()
    }
}
