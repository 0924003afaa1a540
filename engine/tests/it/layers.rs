//! The structure: the engine's modules stand on each other in one order, so that each can be read, changed and tested with
//! nothing in mind but what lies below it.

use std::path::Path;

use crate::examples::source_files;

/// The modules from the ground up. None names one that stands behind it.
const LAYERS: &[&str] = &[
    // Threads and locks.
    "sync",
    // What values, rows and keys are.
    "value",
    "error",
    "schema",
    "codec",
    "key_range",
    "sharding",
    "deletes",
    "origins",
    // The machine.
    "counting",
    "profile",
    "raw",
    "io",
    "layout",
    "parallel",
    "space",
    // Files and memory: RowSets, the log, the DeltaCache, the fragment tree.
    "row_set",
    "statistics",
    "backpressure",
    "exported",
    "log",
    "generation",
    "tree",
    "cache",
    "facts",
    "manifest",
    // What readers, writers and the work in the background share.
    "queue",
    "schedule",
    "table",
    "shared",
    "open",
    // What they do.
    "read",
    "predicate",
    "snapshot",
    "commit",
    "background",
    "load",
    "export",
    // The database, and what is asked of it.
    "options",
    "replay",
    "recovery",
    "database",
    "transaction",
    "multi_get",
    "serde_rows",
    "scan_parts",
    "keyspace",
    "bulk_load",
    "backup",
    "check",
    // What tries them.
    "fuzzing",
    // What its threads do to each other, in a build of its own.
    "models",
];

/// The modules that a source file names, but for its tests, with the line.
fn named(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let code = text.split("#[cfg(test)]\n").next().unwrap_or_default();
    let lines = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines.flat_map(|line| {
        line.split("crate::").skip(1).map(move |rest| {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_'));
            (&rest[..end.unwrap_or(rest.len())], line)
        })
    })
}

#[test]
fn no_module_names_one_that_stands_on_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    source_files(&folder, &mut files);
    let layer = |module: &str| LAYERS.iter().position(|one| *one == module);
    let mut wrong = Vec::new();
    for (path, text) in &files {
        let path = path.strip_prefix(&folder).unwrap();
        let module = path.iter().next().unwrap().to_str().unwrap();
        let module = module.trim_end_matches(".rs");
        if module == "lib" || path.to_str().unwrap().ends_with("_tests.rs") {
            continue;
        }
        let here = layer(module);
        assert!(here.is_some(), "module {module} has no layer");
        for (name, line) in named(text) {
            match layer(name) {
                Some(there) if there <= here.unwrap() => {}
                _ => wrong.push(format!("{}: {}", path.display(), line.trim())),
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "not below their users:\n{}",
        wrong.join("\n")
    );
    assert!(files.len() > LAYERS.len(), "the sources were not found");
}

#[test]
fn what_a_file_names_is_found() {
    let text = "//! crate::a\nuse crate::b::C;\nlet x = crate::d::e(crate::f);\n#[cfg(test)]\nuse crate::g;\n";
    let names: Vec<_> = named(text).map(|(name, _)| name).collect();
    assert_eq!(names, ["b", "d", "f"]);
}
