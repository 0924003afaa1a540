//! Servers of the Iceberg REST protocol.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use super::{S3Server, Server, installed, named};

const API_KEY: &str = "rb_0123456789abcdef0123456789abcdef0123456789ab";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestKind {
    /// Apache Iceberg's own, over its JDBC catalog in an SQLite file. It takes every token.
    Reference,
    /// Rustberg, which knows one token. Only where `MOONSHINE_TEST_RUSTBERG` names it.
    Rustberg,
}

/// A server with an empty warehouse.
pub(crate) struct RestServer {
    server: Server,
}

impl RestServer {
    /// Starts the server with a warehouse in that folder, or in a bucket, for whose files it gives out keys.
    pub(crate) fn start(
        kind: RestKind,
        folder: &Path,
        s3: Option<&S3Server>,
    ) -> Option<RestServer> {
        match kind {
            RestKind::Reference => Self::reference(folder, s3),
            RestKind::Rustberg => Self::rustberg(folder),
        }
    }

    fn reference(folder: &Path, s3: Option<&S3Server>) -> Option<RestServer> {
        let program = installed(
            "MOONSHINE_TEST_ICEBERG_REST",
            "test-servers/iceberg-rest.jar",
        )?;
        let mut settings: BTreeMap<String, String> = BTreeMap::new();
        if let Some(s3) = s3 {
            settings = s3.properties();
            settings.insert("client.region".into(), "us-east-1".into());
            settings.insert(
                "io-impl".into(),
                "org.apache.iceberg.aws.s3.S3FileIO".into(),
            );
            settings.insert("include-credentials".into(), "true".into());
        }
        let warehouse = match s3 {
            Some(s3) => format!("{}/rest", s3.bucket()),
            None => format!("file://{}", folder.join("warehouse").display()),
        };
        settings.insert("warehouse".into(), warehouse);
        let uri = format!("jdbc:sqlite:{}", folder.join("rest.db").display());
        settings.insert("uri".into(), uri);
        let server = Server::start(&folder.join("rest.log"), |port| {
            let mut command = Command::new("java");
            command.args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-jar"]);
            command
                .arg(program)
                .env("CATALOG_REST_PORT", port.to_string());
            for (name, value) in &settings {
                let name = name.replace('-', "__").replace('.', "_").to_uppercase();
                command.env(format!("CATALOG_{name}"), value);
            }
            command
        });
        Some(RestServer { server })
    }

    fn rustberg(folder: &Path) -> Option<RestServer> {
        let program = named("MOONSHINE_TEST_RUSTBERG")?;
        std::fs::create_dir_all(folder.join("warehouse")).unwrap();
        let config_file = folder.join("rustberg.toml");
        let server = Server::start(&folder.join("rustberg.log"), |port| {
            let config = format!(
                "[server]\nhost = \"127.0.0.1\"\nport = {port}\n\
                 [server.auth]\napi_key_enabled = true\n\
                 [[server.auth.api_keys]]\nname = \"test\"\ntenant = \"default\"\nroles = [\"admin\"]\nkey_env = \"TEST_KEY\"\n\
                 [tls]\nenabled = false\ninsecure_http = true\n\
                 [storage]\ncatalog_url = \"memory://\"\nwarehouse_location = \"file://{}\"\n",
                folder.join("warehouse").display()
            );
            std::fs::write(&config_file, config).unwrap();
            let mut command = Command::new(program);
            command
                .args(["--dev", "--insecure-http", "--config"])
                .arg(&config_file)
                .env("TEST_KEY", API_KEY);
            command
        });
        Some(RestServer { server })
    }

    pub(crate) fn uri(&self) -> String {
        self.server.uri()
    }

    pub(crate) fn token(&self) -> &'static str {
        API_KEY
    }
}

/// A catalog for programs that are no tests: says its address and its warehouse's folder, and ends with its input.
#[test]
#[ignore = "benches/export/ticks.py runs it"]
fn serve_a_catalog() {
    let folder = tempfile::tempdir().unwrap();
    let server = RestServer::start(RestKind::Reference, folder.path(), None).unwrap();
    let warehouse = folder.path().join("warehouse");
    println!("\nCATALOG {} {}", server.uri(), warehouse.display());
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
}
