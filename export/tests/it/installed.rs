//! What `scripts/test` installs for tests, below the target folder or where an environment variable says.
//!
//! Where it is missing its tests print `SKIPPED:` and the reason; in continuous integration (`CI` is set) they fail.

use std::io::Write;
use std::path::{Path, PathBuf};

/// A file that is installed; `None`, after a loud notice, where it is not.
pub(crate) fn installed(variable: &str, below_target: &str) -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?;
    let path = match std::env::var_os(variable) {
        Some(path) => PathBuf::from(path),
        None => target.join(below_target),
    };
    if path.exists() {
        return Some(path);
    }
    skipped(&format!("there is no {} ({variable})", path.display()));
    None
}

/// The Python that has the readers.
pub(crate) fn python() -> Option<PathBuf> {
    installed("MOONSHINE_TEST_PYTHON", "test-venv/bin/python")
}

/// Moto's server, from the Python package index.
pub(crate) fn moto() -> Option<PathBuf> {
    installed("MOONSHINE_TEST_MOTO", "test-servers/venv/bin/moto_server")
}

/// The Python that has Moto, beside its server.
pub(crate) fn moto_python() -> Option<PathBuf> {
    python_beside(&moto()?, "MOONSHINE_TEST_MOTO")
}

/// The Python that has gcp-storage-emulator, from the Python package index.
pub(crate) fn gcs_python() -> Option<PathBuf> {
    let variable = "MOONSHINE_TEST_GCS";
    let emulator = installed(variable, "test-servers/venv/bin/gcp-storage-emulator")?;
    python_beside(&emulator, variable)
}

fn python_beside(program: &Path, variable: &str) -> Option<PathBuf> {
    let python = program.with_file_name("python");
    if python.exists() {
        return Some(python);
    }
    skipped(&format!("there is no {} ({variable})", python.display()));
    None
}

/// Says what was left out on the process's standard error, which the test harness does not keep to itself.
pub(crate) fn skipped(reason: &str) {
    assert!(std::env::var_os("CI").is_none(), "{reason}, and this is CI");
    let notice = format!("\nSKIPPED: {reason}; scripts/test installs it\n");
    std::io::stderr().write_all(notice.as_bytes()).unwrap();
}
