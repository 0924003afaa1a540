//! Faults are planted into a copy of the tree, one at a time, and what is there for it has to find each: what shows that the checks bite.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};
use std::time::Instant;

use serde::Deserialize;

use crate::{histories, models, sim};

/// Where the faults stand.
const LIST: &str = "sim/planted_faults.toml";

#[derive(Debug, Deserialize)]
struct List {
    fault: Vec<Fault>,
}

#[derive(Debug, Deserialize)]
struct Fault {
    name: String,
    file: String,
    find: String,
    replace: String,
    /// Within so many it has to be found: seeds, or orders of a model's steps, or runs.
    seeds: u64,
    /// What has to find it.
    #[serde(default)]
    by: Finder,
}

/// What is to find a fault.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Finder {
    #[default]
    Simulator,
    /// The simulator with exporter and lake.
    Lake,
    /// A model, by its name.
    Model(String),
    /// The histories of real threads (`engine/tests/histories`), by a test's name.
    Histories(String),
}

impl Fault {
    fn has_lake(&self) -> bool {
        matches!(self.by, Finder::Lake)
    }
}

/// Plants the faults whose name contains one of these words, or all, and runs the simulator on each.
///
/// # Errors
/// In words, where the list does not fit the tree, or a tree with a fault can't be built.
pub(crate) fn run(words: impl Iterator<Item = String>) -> Result<ExitCode, String> {
    let words: Vec<String> = words.collect();
    let text = fs::read_to_string(LIST).map_err(|error| format!("{LIST}: {error}"))?;
    let list: List = toml::from_str(&text).map_err(|error| format!("{LIST}: {error}"))?;
    let is_wanted = |fault: &&Fault| {
        words.is_empty() || words.iter().any(|word| fault.name.contains(word.as_str()))
    };
    let (mut found_count, mut missed) = (0, Vec::new());
    let tree = Tree::copy()?;
    // A build with the lake runs seeds without one, too.
    let has_lake = list
        .fault
        .iter()
        .filter(is_wanted)
        .any(|fault| fault.has_lake());
    for fault in list.fault.iter().filter(is_wanted) {
        let begin = Instant::now();
        tree.plant(fault)?;
        let found = tree.search(fault);
        tree.restore(fault)?;
        let took = begin.elapsed().as_secs();
        match found? {
            Some(Found {
                seed: Some(seed), ..
            }) if !succeeds(seed, has_lake, fault)? => {
                println!("seed {seed} fails without the fault too: {}", fault.name);
                missed.push(fault.name.as_str());
            }
            Some(Found { seeds, .. }) => {
                found_count += 1;
                println!(
                    "found after {seeds} of {} ({took} s): {}",
                    fault.seeds, fault.name
                );
            }
            None => {
                println!("NOT FOUND in {} ({took} s): {}", fault.seeds, fault.name);
                missed.push(fault.name.as_str());
            }
        }
    }
    println!("{found_count} found, {} missed", missed.len());
    Ok(if missed.is_empty() && found_count > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What found a fault.
struct Found {
    /// The seed that failed; `None` if the run died at it.
    seed: Option<u64>,
    /// After how many.
    seeds: u64,
}

/// Whether a seed passes in a build without a fault.
fn succeeds(seed: u64, has_lake: bool, fault: &Fault) -> Result<bool, String> {
    let program = sim::build(Path::new("."), &sim::folder(), has_lake)?;
    let seed = seed.to_string();
    let mut command = Command::new(program);
    command.args(["--seed", &seed, "--shrink-seconds", "0"]);
    command.args(fault.has_lake().then_some(sim::LAKE));
    output(&mut command).map(|ran| ran.status.success())
}

/// A copy of what git tracks, with a target folder of its own, in which only what a fault touches is built anew.
struct Tree {
    folder: PathBuf,
    target: PathBuf,
}

impl Tree {
    fn copy() -> Result<Tree, String> {
        let base = sim::folder().join("planted");
        let tree = Tree {
            folder: base.join("tree"),
            target: base.join("target"),
        };
        let listed = output(Command::new("git").args(["ls-files", "-z"]))?;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        for path in listed.split('\0').filter(|path| !path.is_empty()) {
            tree.refresh(Path::new(path))?;
        }
        Ok(tree)
    }

    /// Copies a file unless the copy is the same, whose time then stays what the last build saw.
    fn refresh(&self, path: &Path) -> Result<(), String> {
        let to = self.folder.join(path);
        let failed = |error| format!("{}: {error}", path.display());
        // A file that was removed and not committed yet.
        let Ok(content) = fs::read(path) else {
            return Ok(());
        };
        if fs::read(&to).is_ok_and(|copied| copied == content) {
            return Ok(());
        }
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        fs::write(&to, content).map_err(failed)
    }

    fn plant(&self, fault: &Fault) -> Result<(), String> {
        let path = self.folder.join(&fault.file);
        let wrong = |reason: String| format!("'{}' in {}: {reason}", fault.name, fault.file);
        let text = fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
        let count = text.matches(&fault.find).count();
        if count != 1 {
            return Err(wrong(format!(
                "what is to be replaced stands there {count} times"
            )));
        }
        let planted = text.replace(&fault.find, &fault.replace);
        fs::write(&path, planted).map_err(|error| wrong(error.to_string()))
    }

    fn restore(&self, fault: &Fault) -> Result<(), String> {
        self.refresh(Path::new(&fault.file))
    }

    /// By what the fault was found, if it was.
    fn search(&self, fault: &Fault) -> Result<Option<Found>, String> {
        let (tree, target, most) = (&self.folder, &self.target, fault.seeds);
        let after = |seeds| Found { seed: None, seeds };
        let found = match &fault.by {
            Finder::Simulator | Finder::Lake => self.simulate(fault),
            Finder::Model(model) => {
                models::search(tree, target, model, most).map(|found| found.map(after))
            }
            Finder::Histories(test) => {
                histories::search(tree, target, test, most).map(|found| found.map(after))
            }
        };
        found.map_err(|error| format!("'{}': {error}", fault.name))
    }

    /// By which seed the simulator found the fault, if it did.
    fn simulate(&self, fault: &Fault) -> Result<Option<Found>, String> {
        let program = sim::build(&self.folder, &self.target, fault.has_lake())?;
        let seeds = fault.seeds.to_string();
        let workers = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .to_string();
        let mut command = Command::new(program);
        command.args(["--seeds", &seeds, "--workers", &workers]);
        command.args(["--shrink-seconds", "0"]);
        command.args(fault.has_lake().then_some(sim::LAKE));
        let ran = output(&mut command)?;
        if ran.status.success() {
            return Ok(None);
        }
        // A run that died says neither.
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        let mut lines = said.lines();
        let count = { &mut lines }.find_map(|line| line.split_once(" seeds in ")?.0.parse().ok());
        let failed = |line: &str| {
            line.strip_prefix("seed ")?
                .split_once(" failed")?
                .0
                .parse()
                .ok()
        };
        Ok(Some(Found {
            seed: lines.find_map(failed),
            seeds: count.unwrap_or(fault.seeds),
        }))
    }
}

pub(crate) fn output(command: &mut Command) -> Result<Output, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.env(
        "RUST_BACKTRACE",
        env::var("RUST_BACKTRACE").unwrap_or_default(),
    );
    command
        .output()
        .map_err(|error| format!("{name} does not start: {error}"))
}
