//! The targets of `fuzz/`, without cargo-fuzz: what it passes to the compiler are flags that a stable one takes too, but for
//! the address sanitizer's, which finds little in safe code.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::Deserialize;

use crate::fuzz_report::{self, Ran};
use crate::{cargo, exit_code, target_folder};

const MANIFEST: &str = "fuzz/Cargo.toml";

/// Coverage of blocks and comparisons for libFuzzer.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0";

/// What a process may take before it counts as a failure, and how long an input.
const LIMITS: [&str; 3] = ["-rss_limit_mb=2048", "-timeout=20", "-len_control=0"];
/// Most bytes of an input: enough for a history or a file of rows, and little enough to be fast.
const INPUT_SIZE_BYTES_MAX: &str = "-max_len=4096";
/// Most bytes of a target's corpus in the tree, and most inputs in it beside the named ones.
const CORPUS_SIZE_BYTES_MAX: u64 = 12 << 10;
const CORPUS_COUNT_MAX: usize = 40;

const USAGE: &str = "usage: cargo xtask fuzz [OPTION…]

  --seconds S      how long each target runs (60); 0 runs what fuzz/corpus has, and nothing else
  --target T       only that one; may be given several times
  --workers N      so many targets side by side (1)
  --input FILE     runs one target with one input, as a crash has left it
  --seeds          writes what each target begins with into fuzz/corpus
  --merge          puts some of the inputs that reach what all known ones reach into fuzz/corpus
  --list           names the targets";

#[derive(Debug)]
struct Flags {
    seconds: u64,
    targets: Vec<String>,
    workers: usize,
    input: Option<PathBuf>,
    task: Task,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Fuzz,
    Seeds,
    Merge,
    List,
}

impl Flags {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut flags = Flags {
            seconds: 60,
            targets: Vec::new(),
            workers: 1,
            input: None,
            task: Task::Fuzz,
        };
        while let Some(name) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .ok_or_else(|| format!("{name} needs a value"))
            };
            let number = |text: String| text.parse().map_err(|_| format!("'{text}' is no number"));
            match name.as_str() {
                "--seconds" => flags.seconds = number(value()?)?,
                "--target" => flags.targets.push(value()?),
                "--workers" => {
                    flags.workers = usize::try_from(number(value()?)?).unwrap_or(1).max(1)
                }
                "--input" => flags.input = Some(value()?.into()),
                "--seeds" => flags.task = Task::Seeds,
                "--merge" => flags.task = Task::Merge,
                "--list" => flags.task = Task::List,
                _ => return Err(USAGE.to_owned()),
            }
        }
        Ok(flags)
    }
}

/// Builds the targets and runs them.
///
/// # Errors
/// In words, where something can't be started, or the build fails.
pub(crate) fn run(arguments: impl Iterator<Item = String>) -> Result<ExitCode, String> {
    let flags = Flags::parse(arguments)?;
    let all = target_names()?;
    if flags.task == Task::List {
        all.iter().for_each(|name| println!("{name}"));
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(unknown) = flags.targets.iter().find(|name| !all.contains(name)) {
        return Err(format!(
            "no target '{unknown}'; there are {}",
            all.join(", ")
        ));
    }
    let targets = match flags.targets.is_empty() {
        true => all,
        false => flags.targets.clone(),
    };
    let programs = build(&targets)?;
    match (&flags.input, flags.task) {
        (Some(input), _) => run_one(&programs, &targets, input),
        (None, Task::Seeds) => each(&targets, |target| write_seeds(&programs, target)),
        (None, Task::Merge) => each(&targets, |target| merge(&programs, target)),
        (None, _) => fuzz(&programs, targets, &flags),
    }
}

fn each(
    targets: &[String],
    mut work: impl FnMut(&str) -> Result<(), String>,
) -> Result<ExitCode, String> {
    targets.iter().try_for_each(|target| work(target))?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Deserialize)]
struct Manifest {
    bin: Vec<Bin>,
}

#[derive(Deserialize)]
struct Bin {
    name: String,
}

fn target_names() -> Result<Vec<String>, String> {
    let text = fs::read_to_string(MANIFEST).map_err(|error| format!("{MANIFEST}: {error}"))?;
    let manifest: Manifest =
        toml::from_str(&text).map_err(|error| format!("{MANIFEST}: {error}"))?;
    Ok(manifest.bin.into_iter().map(|bin| bin.name).collect())
}

fn folder() -> PathBuf {
    target_folder().join("fuzz")
}

/// Builds targets; the folder of their programs.
fn build(targets: &[String]) -> Result<PathBuf, String> {
    let said = |error: std::io::Error| format!("rustc does not start: {error}");
    let asked = Command::new("rustc").arg("-vV").output().map_err(said)?;
    let version = String::from_utf8_lossy(&asked.stdout).into_owned();
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.ok_or("rustc does not say what it compiles for")?;
    let folder = std::path::absolute(folder()).map_err(|error| error.to_string())?;
    let user_flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    let mut command = cargo();
    command
        .args(["build", "--quiet", "--release", "--manifest-path", MANIFEST])
        // Named, so that the flags are not those of build scripts and macros.
        .args(["--target", host])
        .arg("--target-dir")
        .arg(&folder)
        .env("RUSTFLAGS", format!("{user_flags} {FLAGS}"));
    if std::env::var_os("CI").is_some() {
        command.arg("--locked");
    }
    for target in targets {
        command.args(["--bin", target]);
    }
    let built = command.status();
    let built = built.map_err(|error| format!("cargo does not start: {error}"))?;
    if !built.success() {
        return Err("the fuzz targets were not built".into());
    }
    Ok(folder.join(host).join("release"))
}

fn corpus(target: &str) -> PathBuf {
    Path::new("fuzz/corpus").join(target)
}

fn make_folder(path: &Path) -> Result<(), String> {
    fs::create_dir_all(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn run_one(programs: &Path, targets: &[String], input: &Path) -> Result<ExitCode, String> {
    let [target] = targets else {
        return Err("--input needs one --target".into());
    };
    let ran = Command::new(programs.join(target))
        .args(LIMITS)
        .arg(input)
        .status();
    ran.map(exit_code)
        .map_err(|error| format!("{target} does not start: {error}"))
}

fn write_seeds(programs: &Path, target: &str) -> Result<(), String> {
    let seeds = std::path::absolute(corpus(target)).map_err(|error| error.to_string())?;
    let wrote = Command::new(programs.join(target))
        .env("MOONSHINE_FUZZ_SEEDS", &seeds)
        .status()
        .map_err(|error| format!("{target} does not start: {error}"))?;
    match wrote.success() {
        true => Ok(()),
        false => Err(format!("{target}: the seeds were not written")),
    }
}

/// Has libFuzzer choose among what is in the tree and what runs have found here, and keeps the smallest of that.
fn merge(programs: &Path, target: &str) -> Result<(), String> {
    let (kept, found, merged) = (
        corpus(target),
        folder().join("corpus").join(target),
        folder().join("merged").join(target),
    );
    let _ = fs::remove_dir_all(&merged);
    [&kept, &found, &merged]
        .into_iter()
        .try_for_each(|path| make_folder(path))?;
    let ran = Command::new(programs.join(target))
        .args(LIMITS)
        .args(["-merge=1", INPUT_SIZE_BYTES_MAX])
        .args([&merged, &found, &kept])
        .stderr(Stdio::null())
        .status()
        .map_err(|error| format!("{target} does not start: {error}"))?;
    if !ran.success() {
        return Err(format!("{target}: the inputs were not merged"));
    }
    let said = |error: std::io::Error| format!("{target}: {error}");
    let mut inputs = Vec::new();
    for entry in fs::read_dir(&merged).map_err(said)? {
        let entry = entry.map_err(said)?;
        inputs.push((entry.metadata().map_err(said)?.len(), entry.path()));
    }
    inputs.sort();
    // Seeds and the inputs of bugs stay whatever they reach; they are named, the others are hashes.
    for entry in fs::read_dir(&kept).map_err(said)? {
        let path = entry.map_err(said)?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if !name.contains('-') {
            fs::remove_file(&path).map_err(said)?;
        }
    }
    let mut left = CORPUS_SIZE_BYTES_MAX.saturating_sub(size_bytes_of(&kept));
    let mut count = 0;
    let step = inputs.len().div_ceil(CORPUS_COUNT_MAX).max(1);
    for (size_bytes, path) in inputs.into_iter().step_by(step) {
        let Some(rest) = left.checked_sub(size_bytes) else {
            break;
        };
        left = rest;
        fs::copy(&path, kept.join(path.file_name().unwrap_or_default())).map_err(said)?;
        count += 1;
    }
    println!(
        "{target}: {count} inputs beside the named ones, {} bytes",
        size_bytes_of(&kept)
    );
    Ok(())
}

fn size_bytes_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Some(entry.metadata().ok()?.len()))
        .sum()
}

/// Runs the targets, so many side by side; each begins with its corpus.
fn fuzz(programs: &Path, targets: Vec<String>, flags: &Flags) -> Result<ExitCode, String> {
    let begin = Instant::now();
    let left = Mutex::new(VecDeque::from(targets));
    let done = Mutex::new(Vec::new());
    let lock = |which: &Mutex<VecDeque<String>>| {
        which
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    };
    std::thread::scope(|scope| {
        for _ in 0..flags.workers {
            scope.spawn(|| {
                while let Some(target) = lock(&left) {
                    let ran = fuzz_one(programs, &target, flags.seconds);
                    if let Ok(ran) = &ran {
                        println!("{ran}");
                    }
                    done.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(ran);
                }
            });
        }
    });
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    let done = done.into_iter().collect::<Result<Vec<Ran>, String>>()?;
    let ledger = target_folder().join("proof").join("fuzz.jsonl");
    fuzz_report::append(&ledger, &done, begin.elapsed())
        .map_err(|error| format!("{}: {error}", ledger.display()))?;
    let failed: Vec<&Ran> = done.iter().filter(|ran| !ran.is_good).collect();
    for ran in &failed {
        println!("\n{}\n{} FAILED. To repeat it:", ran.last_lines, ran.target);
        let input = ran.input.as_deref().unwrap_or("FILE");
        println!("cargo xtask fuzz --target {} --input {input}", ran.target);
    }
    Ok(match failed.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn fuzz_one(programs: &Path, target: &str, seconds: u64) -> Result<Ran, String> {
    let found = folder().join("corpus").join(target);
    let artifacts = folder().join("artifacts").join(target);
    [&found, &artifacts]
        .into_iter()
        .try_for_each(|path| make_folder(path))?;
    let mut command = Command::new(programs.join(target));
    command
        .args(LIMITS)
        .args([INPUT_SIZE_BYTES_MAX, "-print_final_stats=1"]);
    command.arg(format!("-artifact_prefix={}/", artifacts.display()));
    let dictionary = Path::new("fuzz/dictionaries").join(format!("{target}.dict"));
    if dictionary.exists() {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    match seconds {
        0 => command.arg("-runs=0"),
        seconds => command
            .arg(format!("-max_total_time={seconds}"))
            .arg(&found),
    };
    let ran = command.arg(corpus(target)).stdin(Stdio::null()).output();
    let ran = ran.map_err(|error| format!("{target} does not start: {error}"))?;
    let log = String::from_utf8_lossy(&ran.stderr).into_owned();
    let path = folder().join(format!("{target}.log"));
    fs::write(&path, &log).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Ran::of(target, &log, ran.status.success()))
}
