//! A PostgreSQL server of one test's own, on a free loopback port, gone when it is dropped.

// No function here is a test by itself, so Clippy's leave for tests does not reach them; which of them are used differs
// between the test programs that include this file.
#![allow(clippy::expect_used, clippy::panic, dead_code)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::free_port::free_port;

const START_WAIT: Duration = Duration::from_secs(60);
const START_ATTEMPTS: usize = 5;
const NEEDED_PROGRAMS: [&str; 4] = ["postgres", "initdb", "pg_isready", "psql"];

/// A running server with the superuser `postgres`, who needs no password. `md5_user` and `scram_user`, where a test
/// creates them, have to give theirs.
pub(crate) struct PostgresServer {
    process: ServerProcess,
    port: u16,
    programs: PathBuf,
    settings: Vec<(String, String)>,
    folder: tempfile::TempDir,
}

impl PostgresServer {
    /// Starts a server that can replicate logically, or says loudly that it is not installed and returns `None`. In
    /// continuous integration (`CI` is set) that is a failure.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// As [`start`](Self::start), with settings on top.
    pub(crate) fn start_with(settings: &[(&str, &str)]) -> Option<Self> {
        let settings: Vec<_> = settings
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let Some(programs) = find_programs() else {
            assert!(
                std::env::var_os("CI").is_none(),
                "PostgreSQL is not installed, and this is CI"
            );
            // Straight to the process's standard error: the test harness would keep it to itself.
            let notice =
                b"\nSKIPPED: PostgreSQL is not installed (Debian: apt install postgresql)\n";
            std::io::stderr().write_all(notice).expect("standard error");
            return None;
        };
        let folder = tempfile::Builder::new()
            .prefix("moonshine-postgres-")
            .tempdir()
            .expect("a temporary folder");
        let data = folder.path().join("data");
        fs::create_dir(&data).expect("the data folder");
        if is_root() {
            let status = Command::new("chown")
                .args(["-R", "postgres"])
                .arg(folder.path())
                .status();
            assert!(
                status.expect("chown").success(),
                "chown {}",
                folder.path().display()
            );
        }
        let mut initdb = as_server_user(&programs.join("initdb"));
        initdb.args([
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "-D",
        ]);
        let output = initdb
            .arg(&data)
            .current_dir(folder.path())
            .output()
            .expect("initdb");
        assert!(
            output.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let rules = "host all md5_user all md5\nhost all scram_user all scram-sha-256\nhost all all all trust\n";
        fs::write(data.join("pg_hba.conf"), rules).expect("pg_hba.conf");
        for _ in 0..START_ATTEMPTS {
            let port = free_port();
            if let Some(process) = try_start(&programs, &data, port, &settings) {
                return Some(Self {
                    process,
                    port,
                    programs,
                    settings,
                    folder,
                });
            }
        }
        let log = fs::read_to_string(data.join("server.log")).unwrap_or_default();
        panic!("PostgreSQL does not start:\n{log}");
    }

    /// Stops the server as an administrator does ("fast"), and starts it again on the same port.
    pub(crate) fn restart(&mut self) {
        self.process.signal("-INT");
        self.process.0.wait().expect("its end");
        let data = self.folder.path().join("data");
        self.process = try_start(&self.programs, &data, self.port, &self.settings)
            .expect("the server starts again");
    }

    /// The port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The URL of a database, for the superuser.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// One of PostgreSQL's programs, such as `pgbench`, set to connect to the server.
    pub(crate) fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", "postgres");
        command.env("PGDATABASE", "postgres");
        command
    }

    /// Runs SQL in the database `postgres`, statement by statement, and returns what it prints, without decoration.
    /// Statements are one transaction only between BEGIN and COMMIT.
    pub(crate) fn sql(&self, statements: &str) -> String {
        let mut psql = self.program("psql");
        psql.args([
            "--no-psqlrc",
            "--quiet",
            "--tuples-only",
            "--no-align",
            "--set=ON_ERROR_STOP=1",
            "--file=-",
        ]);
        let mut process = psql
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("psql");
        process
            .stdin
            .take()
            .expect("a pipe")
            .write_all(statements.as_bytes())
            .expect("psql reads");
        let output = process.wait_with_output().expect("psql");
        assert!(
            output.status.success(),
            "{statements}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout)
            .expect("UTF-8")
            .trim_end()
            .to_owned()
    }
}

/// Stops the server when dropped.
struct ServerProcess(Child);

impl ServerProcess {
    /// Sends a signal; false if there is nobody to take it.
    fn signal(&self, signal: &str) -> bool {
        let sent = Command::new("kill")
            .args([signal, &self.0.id().to_string()])
            .stderr(Stdio::null())
            .status();
        sent.is_ok_and(|status| status.success())
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(Some(_))) {
            return;
        }
        // SIGQUIT: at once, and its children with it. The folder goes away, so nothing needs to be written.
        if !self.signal("-QUIT") {
            drop(self.0.kill());
        }
        drop(self.0.wait());
    }
}

/// Starts the server; `None` if it ended again, as when the port is taken.
fn try_start(
    programs: &Path,
    data: &Path,
    port: u16,
    settings: &[(String, String)],
) -> Option<ServerProcess> {
    let log = fs::File::create(data.join("server.log")).expect("the log");
    let mut command = as_server_user(&programs.join("postgres"));
    command.arg("-D").arg(data).args(["-p", &port.to_string()]);
    let basics = [
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_directories", ""),
        ("wal_level", "logical"),
        ("fsync", "off"),
        ("shared_buffers", "16MB"),
    ];
    for (name, value) in basics.into_iter().chain(
        settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str())),
    ) {
        command.args(["-c", &format!("{name}={value}")]);
    }
    command
        .current_dir(data)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    let mut process = ServerProcess(command.spawn().expect("postgres"));
    let started = Instant::now();
    loop {
        if process.0.try_wait().expect("its status").is_some() {
            return None;
        }
        let mut ready = Command::new(programs.join("pg_isready"));
        ready.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]);
        if ready.status().expect("pg_isready").success() {
            return Some(process);
        }
        assert!(
            started.elapsed() < START_WAIT,
            "PostgreSQL is not ready after {START_WAIT:?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The folder of PostgreSQL's programs: that of `postgres` on the path, or the newest of Debian's.
fn find_programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_complete = |folder: &PathBuf| {
        NEEDED_PROGRAMS
            .iter()
            .all(|name| folder.join(name).is_file())
    };
    let on_path = std::env::split_paths(&path).find(is_complete);
    on_path.or_else(|| {
        let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
        let version = |folder: &Path| folder.file_name()?.to_str()?.parse::<u32>().ok();
        versions
            .map(|entry| entry.path())
            .filter(|folder| is_complete(&folder.join("bin")))
            .max_by_key(|folder| version(folder))
            .map(|folder| folder.join("bin"))
    })
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().expect("id");
    output.stdout.trim_ascii() == b"0"
}

/// PostgreSQL refuses to run as root; its package comes with a user.
fn as_server_user(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args([
            "--reuid=postgres",
            "--regid=postgres",
            "--clear-groups",
            "--",
        ])
        .arg(program);
    command
}
