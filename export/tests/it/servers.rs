//! Servers that tests start: on a free port, ended with the value that stands for them.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use moonshine_export::IcebergConfig;

const API_KEY: &str = "rb_0123456789abcdef0123456789abcdef0123456789ab";

/// A program that `scripts/test` installs, or that an environment variable names; `None`, after a notice, if it is
/// missing.
fn program(variable: &str, name: &str) -> Option<PathBuf> {
    let installed = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?;
    let path = match std::env::var_os(variable) {
        Some(path) => PathBuf::from(path),
        None => installed.join("test-servers/bin").join(name),
    };
    if path.exists() {
        return Some(path);
    }
    // Straight to the process's standard error: the test harness would keep it to itself.
    let notice = format!("\nSKIPPED: there is no {name} at {}\n", path.display());
    std::io::stderr().write_all(notice.as_bytes()).unwrap();
    None
}

/// A process that is ended when this is dropped.
pub(crate) struct Server {
    process: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A server of the REST protocol with a warehouse in that folder.
pub(crate) struct RestServer {
    server: Server,
}

impl RestServer {
    /// Starts Rustberg, if it is there.
    pub(crate) fn start(folder: &Path) -> Option<RestServer> {
        let program = program("MOONSHINE_TEST_RUSTBERG", "rustberg")?;
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        std::fs::create_dir_all(folder.join("warehouse")).unwrap();
        let config = format!(
            "[server]\nhost = \"127.0.0.1\"\nport = {port}\n\
             [server.auth]\napi_key_enabled = true\n\
             [[server.auth.api_keys]]\nname = \"test\"\ntenant = \"default\"\nroles = [\"admin\"]\nkey_env = \"TEST_KEY\"\n\
             [tls]\nenabled = false\ninsecure_http = true\n\
             [storage]\ncatalog_url = \"memory://\"\nwarehouse_location = \"file://{}\"\n",
            folder.join("warehouse").display()
        );
        let config_file = folder.join("rustberg.toml");
        std::fs::write(&config_file, config).unwrap();
        let log = std::fs::File::create(folder.join("rustberg.log")).unwrap();
        let process = Command::new(program)
            .args(["--dev", "--insecure-http", "--config"])
            .arg(&config_file)
            .env("TEST_KEY", API_KEY)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let server = Server { process, port };
        for _ in 0..600 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(RestServer { server });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("rustberg does not listen at {port}");
    }

    pub(crate) fn uri(&self) -> String {
        format!("http://127.0.0.1:{}", self.server.port)
    }

    pub(crate) fn token(&self) -> &'static str {
        API_KEY
    }

    pub(crate) fn config(&self, format_version: u8) -> IcebergConfig {
        serde_json::from_value(serde_json::json!({
            "catalog_type": "rest",
            "catalog_uri": self.uri(),
            "rest": { "token": API_KEY },
            "format_version": format_version,
        }))
        .unwrap()
    }
}
