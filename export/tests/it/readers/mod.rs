//! Invariant 5, "same", as engines see it that share no code with Moonshine: after each tick they read the rows that the
//! database holds, value by value.
//!
//! `process` runs a reader of `export/tests/python/readers.py`, `rows` is the text that rows are compared in, `histories` (with `nested`) and
//! `types` make the tables, `matrix` is what was measured, as the tables in docs/iceberg.md show it. A reader that begins to
//! read what it did not, or ceases to read what it did, is a test that fails: `MOONSHINE_UPDATE_DOCS=1` writes what was
//! measured into the page instead.

mod histories;
mod matrix;
mod nested;
pub(crate) mod process;
mod rows;
mod types;

use matrix::Matrix;
use process::Reader;

/// Those that the one test command runs.
const QUICK_READERS: [&str; 6] = ["DuckDB", "PyIceberg", "Polars", "Sail", "Daft", "chdb"];

/// Those that read everything but row ids, whatever docs/iceberg.md says.
const WHOLE_READERS: [&str; 5] = ["DuckDB", "PyIceberg", "Polars", "Sail", "Spark"];

async fn measure(name: &str) {
    let Some(mut reader) = Reader::start(name) else {
        return;
    };
    let mut matrix = Matrix::new(name, reader.version());
    histories::measure(&mut reader, &mut matrix).await;
    types::measure(&mut reader, &mut matrix).await;
    matrix.check_documented();
    if WHOLE_READERS.contains(&name) {
        for version in ["v2", "v3"] {
            let cells = [
                "rows",
                "deletes",
                "columns",
                "as of",
                "histories",
                "partitions",
                "nested",
            ]
            .map(|what| format!("{version} {what}"));
            matrix.check_same("readers", &cells.each_ref().map(String::as_str));
        }
    }
}

/// Each in turn, so that the tables in the documentation are written by one at a time.
#[tokio::test(flavor = "multi_thread")]
async fn readers_agree_with_the_database() {
    for name in QUICK_READERS {
        measure(name).await;
    }
}

/// Spark takes a Java runtime and minutes: `scripts/test --spark` makes its environment and runs this.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "scripts/test --spark runs it"]
async fn spark_agrees_with_the_database() {
    assert!(
        std::env::var_os("MOONSHINE_TEST_PYTHON").is_some(),
        "scripts/test --spark runs this"
    );
    measure("Spark").await;
}
