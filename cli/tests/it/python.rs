//! Compares tables by way of `tests/python/verify.py`: PyIceberg and DuckDB on one side, the expected rows on the other.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The Python environment that `scripts/test` makes.
pub(crate) struct Python {
    interpreter: PathBuf,
}

impl Python {
    /// The environment named by `MOONSHINE_TEST_PYTHON`, or else the one in the target folder. `None`, after
    /// a loud notice, where there is none; in CI that is a failure.
    pub(crate) fn find(test: &str) -> Option<Self> {
        let interpreter = match std::env::var_os("MOONSHINE_TEST_PYTHON") {
            Some(path) => PathBuf::from(path),
            None => Path::new(env!("CARGO_BIN_EXE_moonshine"))
                .ancestors()
                .nth(2)?
                .join("test-venv/bin/python"),
        };
        if interpreter.exists() {
            return Some(Python { interpreter });
        }
        let reason = format!(
            "{test}: there is no Python environment at {}",
            interpreter.display()
        );
        assert!(std::env::var_os("CI").is_none(), "{reason}, and this is CI");
        // Straight to the process's standard error: the test harness would keep it to itself.
        let notice = format!(
            "
SKIPPED: {reason} (scripts/test makes it)
"
        );
        std::io::stderr().write_all(notice.as_bytes()).unwrap();
        None
    }

    /// Compares every Iceberg table of the warehouse with the expected rows, as each engine reads it. Returns what
    /// each table is made of.
    pub(crate) fn compare(&self, warehouse: &Path, expected: &Path) -> Value {
        self.verify(&["compare".as_ref(), warehouse, expected])
    }

    /// Compares files `NAME.format` that `moonshine query` printed with the expected rows.
    pub(crate) fn compare_output(&self, format: &str, folder: &Path, expected: &Path) -> Value {
        self.verify(&["compare-output".as_ref(), format.as_ref(), folder, expected])
    }

    /// Writes the expected rows of a file of change events.
    pub(crate) fn replay(&self, events: &Path, tables: &Path, expected: &Path) -> Value {
        std::fs::create_dir_all(expected).unwrap();
        self.verify(&["replay".as_ref(), events, tables, expected])
    }

    fn verify(&self, arguments: &[&Path]) -> Value {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/verify.py");
        let output = Command::new(&self.interpreter)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .arg(script)
            .args(arguments)
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "verify.py {arguments:?}: {}\n{stderr}",
            output.status
        );
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }
}
