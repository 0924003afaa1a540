//! The documentation: every public type has an example, which `cargo test --doc` compiles and runs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const KINDS: [&str; 4] = ["pub struct ", "pub enum ", "pub trait ", "pub type "];

#[allow(clippy::disallowed_methods, reason = "it reads the engine's source")]
pub(crate) fn source_files(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            source_files(&path, found);
        } else {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
}

/// The names that a module hands on.
fn reexported(module: &str) -> impl Iterator<Item = &str> {
    let uses = module.split("pub use ").skip(1);
    uses.filter_map(|text| text.split(';').next())
        .flat_map(|path| path.split(['{', '}', ',', ':']))
        .map(str::trim)
        .filter(|name| name.starts_with(char::is_uppercase))
}

fn name_of(line: &str) -> Option<&str> {
    let rest = KINDS.iter().find_map(|kind| line.strip_prefix(kind))?;
    rest.split(|c: char| !c.is_alphanumeric()).next()
}

#[test]
fn every_public_type_has_an_example() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    source_files(&folder, &mut files);
    let is_root =
        |path: &Path| [folder.join("lib.rs"), folder.join("io/mod.rs")].contains(&path.into());
    let roots = files.iter().filter(|(path, _)| is_root(path));
    let mut public: BTreeSet<&str> = roots
        .flat_map(|(_, text)| reexported(text).chain(text.lines().filter_map(name_of)))
        .collect();
    let mut without = Vec::new();
    for (path, text) in &files {
        let mut has_example = false;
        for line in text.lines() {
            if let Some(name) = name_of(line)
                && public.remove(name)
                && !has_example
            {
                without.push(format!("{name} in {}", path.display()));
            }
            has_example = match line {
                line if line.starts_with("///") => has_example || line.starts_with("/// ```"),
                line => {
                    has_example && (line.starts_with("#[") || line.starts_with(['/', ' ', ')']))
                }
            };
        }
    }
    // A function, a constant or an alias of std's needs none; the lists of names are those of types otherwise.
    public.retain(|name| name.contains(char::is_lowercase));
    assert_eq!(without, Vec::<String>::new());
    assert!(public.is_empty(), "not found: {public:?}");
}
