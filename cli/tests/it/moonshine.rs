//! Runs the program under test as a user does: a folder with a configuration file, and commands in it.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Far more than any step of a test takes; what exceeds it hangs.
pub(crate) const HANG_LIMIT: Duration = Duration::from_secs(300);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Waits until `condition` gives a value. Panics after [`HANG_LIMIT`], naming what was waited for.
pub(crate) fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(
            started.elapsed() < HANG_LIMIT,
            "waited {HANG_LIMIT:?} in vain for {what}"
        );
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// A working folder that `moonshine` runs in; its relative paths start there.
pub(crate) struct Workplace {
    folder: tempfile::TempDir,
}

impl Drop for Workplace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.folder.disable_cleanup(true);
            eprintln!("kept for a look: {}", self.folder.path().display());
        }
    }
}

/// What a command left when it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    /// Bytes, since `query` can print Parquet.
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Workplace {
    pub(crate) fn new() -> Self {
        Workplace {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Runs `moonshine` to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        self.run_with_input(arguments, Stdio::null())
    }

    /// Runs `moonshine` to its end with that standard input.
    pub(crate) fn run_with_input(&self, arguments: &[&str], input: Stdio) -> Outcome {
        let outputs = tempfile::tempdir().unwrap();
        let (stdout, stderr) = (outputs.path().join("stdout"), outputs.path().join("stderr"));
        let child = self
            .command(arguments)
            .stdin(input)
            .stdout(File::create(&stdout).unwrap())
            .stderr(File::create(&stderr).unwrap())
            .spawn()
            .unwrap();
        let mut running = Running {
            child,
            log: stderr.clone(),
        };
        let status = running.wait();
        let stderr = String::from_utf8_lossy(&std::fs::read(&stderr).unwrap()).into_owned();
        Outcome {
            status,
            stdout: std::fs::read(&stdout).unwrap(),
            stderr,
        }
    }

    /// Starts `moonshine`; what it prints goes to the end of the file `log`.
    pub(crate) fn start(&self, arguments: &[&str], log: &str) -> Running {
        let log = self.path(log);
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        writeln!(file, "--- moonshine {}", arguments.join(" ")).unwrap();
        let child = self
            .command(arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Running { child, log }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_moonshine"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_remove("RUST_LOG")
            .env("NO_COLOR", "1");
        command
    }
}

impl Outcome {
    /// What the command printed, as text.
    pub(crate) fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Panics with all output unless the command succeeded.
    pub(crate) fn assert_success(&self) -> &Self {
        assert!(
            self.status.success(),
            "{}\nstdout:\n{}\nstderr:\n{}",
            self.status,
            self.stdout_text(),
            self.stderr
        );
        self
    }

    /// Panics unless the command ended by itself with a failure, and its error holds every one of `parts`.
    pub(crate) fn assert_error(&self, parts: &[&str]) -> &Self {
        let code = self.status.code();
        assert!(
            matches!(code, Some(1..=63)),
            "{} is no orderly failure\nstdout:\n{}\nstderr:\n{}",
            self.status,
            self.stdout_text(),
            self.stderr
        );
        let errors: Vec<&str> = self
            .stderr
            .lines()
            .filter(|line| line.starts_with("error"))
            .collect();
        assert_eq!(
            errors.len(),
            1,
            "not one line that starts with 'error'\nstderr:\n{}",
            self.stderr
        );
        for part in parts {
            assert!(
                self.stderr.contains(part),
                "'{part}' is not in the error\nstderr:\n{}",
                self.stderr
            );
        }
        assert!(
            !self.stderr.contains("panicked"),
            "stderr:\n{}",
            self.stderr
        );
        self
    }
}

/// A `moonshine` in the background; killed when dropped.
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Kills the process as a crash would: it gets no chance to do anything.
    pub(crate) fn kill(mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!(
                "moonshine had ended by itself ({status}):\n{}",
                self.log_text()
            );
        }
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks the process to end, by `TERM` or `INT`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        assert!(status.success(), "kill -{name}: {status}");
    }

    /// Waits for the process to end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait_for("moonshine to end", || self.child.try_wait().unwrap())
    }

    /// Whether the process has not ended.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// What the process, and others before it on the same log, printed.
    pub(crate) fn log_text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error here means that the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}:\n{}", self.log.display(), self.log_text());
        }
    }
}
