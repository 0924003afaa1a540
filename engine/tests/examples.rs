//! The examples of this crate run to their end: what they assert on their way holds.
//!
//! `cargo test` builds them before it runs this.

use std::path::{Path, PathBuf};
use std::process::Command;

#[allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "it looks at the examples' sources, and fails by a panic"
)]
#[test]
fn every_example_runs() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let entries = std::fs::read_dir(sources).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let sources: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect();
    assert!(sources.len() >= 4, "{sources:?}");
    // Beside the folder of this test.
    let programs = std::env::current_exe().unwrap();
    let programs = programs.parent().unwrap().with_file_name("examples");
    for source in sources {
        let program = programs.join(source.file_stem().unwrap());
        assert!(
            program.exists(),
            "`cargo build --examples` first: there is no {}",
            program.display()
        );
        let output = Command::new(&program).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {errors}", program.display());
    }
}
