//! Servers that tests start: on a free port of this machine, ended with the value that stands for them.
//!
//! `scripts/test` installs them below `<target>/test-servers`; an environment variable may name another copy.

mod azure;
mod gcs;
mod hive;
mod rest;
mod s3;

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub(crate) use self::azure::AzureServer;
pub(crate) use self::gcs::GcsServer;
pub(crate) use self::hive::HiveServer;
pub(crate) use self::rest::{RestKind, RestServer};
pub(crate) use self::s3::{S3Kind, S3Server};
use crate::free_port::free_port;
use crate::installed::installed;

/// How often a server is asked whether it listens, and how long after each time.
const LOOKS_MAX: u32 = 1200;
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// A file that is used where an environment variable names it.
fn named(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from)
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

impl Server {
    /// Starts what `command` says for a free port, and waits until it listens there. What it prints goes to a file.
    fn start(log: &Path, command: impl FnOnce(u16) -> Command) -> Server {
        let folder = log.parent().unwrap();
        std::fs::create_dir_all(folder).unwrap();
        let port = free_port();
        let output = std::fs::File::create(log).unwrap();
        let process = command(port)
            // Who is killed removes nothing.
            .env("TMPDIR", folder)
            .env(
                "JAVA_TOOL_OPTIONS",
                format!("-Djava.io.tmpdir={}", folder.display()),
            )
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let mut server = Server { process, port };
        for _ in 0..LOOKS_MAX {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return server;
            }
            if let Ok(Some(status)) = server.process.try_wait() {
                let said = std::fs::read_to_string(log).unwrap_or_default();
                panic!("the server ended ({status}): {said}");
            }
            std::thread::sleep(LOOK_PAUSE);
        }
        panic!("the server does not listen at {port}: {}", log.display());
    }

    fn uri(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}
