//! `moonshine check`, `compact`, `backup` and `restore`: looking after a database's folder.
//!
//! Each calls what the engine has for it and says what was done, for people or as JSON. Only `compact` opens the database to
//! write; the others work beside a running `sync`.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar};
use moonshine_engine::{Backup, Check, Database, Options};
use serde::Serialize;

use crate::args::{BackupArguments, CheckArguments, CompactArguments, RestoreArguments};
use crate::config::LogLevel;
use crate::error::CliError;
use crate::log;
use crate::query::print;
use crate::units::size_rounded;

/// How often what is in progress is looked at.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Debug, Serialize)]
struct CheckFacts<'a> {
    database: &'a Path,
    is_sound: bool,
    commit_seq: u64,
    tables: u64,
    fragments: u64,
    row_sets: u64,
    rows: u64,
    patched_rows: u64,
    delta_files: u64,
    edits: u64,
    log_segments: u64,
    log_records: u64,
    log_rows: u64,
    checked_bytes: u64,
    unnamed_files: &'a [PathBuf],
    problems: Vec<ProblemFacts<'a>>,
}

#[derive(Debug, Serialize)]
struct ProblemFacts<'a> {
    file: &'a Path,
    /// Bytes from its start; missing where the whole file is meant.
    offset: Option<u64>,
    reason: &'a str,
}

#[derive(Debug, Serialize)]
struct CompactFacts<'a> {
    database: &'a Path,
    size_bytes_before: u64,
    size_bytes_after: u64,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct BackupFacts<'a> {
    from: &'a Path,
    to: &'a Path,
    commit_seq: u64,
    linked_files: usize,
    linked_bytes: u64,
    copied_files: usize,
    copied_bytes: u64,
}

/// Runs `moonshine check`.
pub(crate) fn check(arguments: &CheckArguments) -> Result<(), CliError> {
    let progress = start();
    let bar = spinner(&progress, "checking");
    let found = Database::check(&arguments.database, &Options::default())?;
    bar.finish_and_clear();
    if arguments.json {
        print_json(&check_facts(&arguments.database, &found))?;
    } else {
        print(&check_text(&arguments.database, &found))?;
    }
    match found.problems.len() {
        0 => Ok(()),
        count => Err(CliError::Damaged(format!(
            "{}: {count} {}",
            arguments.database.display(),
            if count == 1 { "problem" } else { "problems" }
        ))),
    }
}

fn check_facts<'a>(database: &'a Path, found: &'a Check) -> CheckFacts<'a> {
    CheckFacts {
        database,
        is_sound: found.problems.is_empty(),
        commit_seq: found.commit_seq,
        tables: found.tables,
        fragments: found.fragments,
        row_sets: found.row_sets,
        rows: found.rows,
        patched_rows: found.patched_rows,
        delta_files: found.delta_files,
        edits: found.edits,
        log_segments: found.log_segments,
        log_records: found.log_records,
        log_rows: found.log_rows,
        checked_bytes: found.checked_bytes,
        unnamed_files: &found.unnamed_files,
        problems: found
            .problems
            .iter()
            .map(|problem| ProblemFacts {
                file: &problem.path,
                offset: problem.offset,
                reason: &problem.reason,
            })
            .collect(),
    }
}

fn check_text(database: &Path, found: &Check) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _never = write_check(&mut text, database, found);
    text
}

fn write_check(text: &mut String, database: &Path, found: &Check) -> std::fmt::Result {
    writeln!(
        text,
        "{}: {} read, up to commit {}",
        database.display(),
        size_rounded(found.checked_bytes),
        found.commit_seq
    )?;
    writeln!(
        text,
        "  tree  {} tables, {} fragments, {} RowSets, {} rows ({} replaced), {} delta files, {} edits",
        found.tables,
        found.fragments,
        found.row_sets,
        found.rows,
        found.patched_rows,
        found.delta_files,
        found.edits
    )?;
    writeln!(
        text,
        "  log   {} segments, {} records, {} rows",
        found.log_segments, found.log_records, found.log_rows
    )?;
    for path in &found.unnamed_files {
        writeln!(
            text,
            "left over, removed by the next start: {}",
            path.display()
        )?;
    }
    for problem in &found.problems {
        writeln!(text, "PROBLEM {problem}")?;
    }
    if found.problems.is_empty() {
        writeln!(text, "sound")?;
    }
    Ok(())
}

/// Runs `moonshine compact`.
pub(crate) fn compact(arguments: &CompactArguments) -> Result<(), CliError> {
    let folder = &arguments.database;
    let options = Options::default();
    let progress = start();
    if !Database::exists(folder, &options)? {
        let reason = format!("there is no database in {}", folder.display());
        return Err(moonshine_engine::Error::Usage(reason).into());
    }
    let started = Instant::now();
    let size_bytes_before = folder_size_bytes(folder);
    let database = Database::open(folder, options)?;
    let bar = spinner(&progress, "compacting");
    std::thread::scope(|scope| {
        let work = scope.spawn(|| database.flush().and_then(|()| database.compact()));
        while !work.is_finished() {
            std::thread::sleep(PROGRESS_INTERVAL.min(started.elapsed()));
            let now = size_rounded(folder_size_bytes(folder));
            bar.set_message(format!(
                "compacting: {} before, {now} now",
                size_rounded(size_bytes_before)
            ));
        }
        match work.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })?;
    drop(database);
    bar.finish_and_clear();
    let facts = CompactFacts {
        database: folder,
        size_bytes_before,
        size_bytes_after: folder_size_bytes(folder),
        seconds: started.elapsed().as_secs_f64(),
    };
    if arguments.json {
        return print_json(&facts);
    }
    print(&format!(
        "{}: {} before, {} now, in {:.1} s\n",
        folder.display(),
        size_rounded(facts.size_bytes_before),
        size_rounded(facts.size_bytes_after),
        facts.seconds
    ))
}

/// Bytes of the log and the tree. A file that goes meanwhile counts as gone.
fn folder_size_bytes(folder: &Path) -> u64 {
    ["log", "tree"]
        .iter()
        .filter_map(|part| std::fs::read_dir(folder.join(part)).ok())
        .flat_map(|entries| entries.flatten())
        .filter_map(|entry| Some(entry.metadata().ok()?.len()))
        .sum()
}

/// Runs `moonshine backup`.
pub(crate) fn backup(arguments: &BackupArguments) -> Result<(), CliError> {
    let progress = start();
    let bar = spinner(&progress, "backing up");
    let database = Database::open_read_only(&arguments.database, Options::default())?;
    let made = database.backup(&arguments.target)?;
    bar.finish_and_clear();
    tell(&arguments.database, &made, arguments.json)
}

/// Runs `moonshine restore`.
pub(crate) fn restore(arguments: &RestoreArguments) -> Result<(), CliError> {
    let progress = start();
    let bar = spinner(&progress, "restoring");
    let made = Database::restore(&arguments.backup, &arguments.database, &Options::default())?;
    bar.finish_and_clear();
    tell(&arguments.backup, &made, arguments.json)
}

fn tell(from: &Path, made: &Backup, json: bool) -> Result<(), CliError> {
    let facts = BackupFacts {
        from,
        to: &made.folder,
        commit_seq: made.commit_seq,
        linked_files: made.linked_files,
        linked_bytes: made.linked_bytes,
        copied_files: made.copied_files,
        copied_bytes: made.copied_bytes,
    };
    if json {
        return print_json(&facts);
    }
    print(&format!(
        "{}: commit {}, {} files linked ({}), {} files copied ({})\n",
        facts.to.display(),
        facts.commit_seq,
        facts.linked_files,
        size_rounded(facts.linked_bytes),
        facts.copied_files,
        size_rounded(facts.copied_bytes)
    ))
}

fn start() -> MultiProgress {
    let progress = MultiProgress::new();
    log::start(LogLevel::Warn, &progress);
    progress
}

/// Shows on a terminal that something goes on.
fn spinner(progress: &MultiProgress, message: &'static str) -> ProgressBar {
    let bar = progress.add(ProgressBar::new_spinner().with_message(message));
    bar.enable_steady_tick(PROGRESS_INTERVAL);
    bar
}

fn print_json(facts: &impl Serialize) -> Result<(), CliError> {
    let json = serde_json::to_string_pretty(facts);
    print(&(json.map_err(|error| CliError::Output(error.to_string()))? + "\n"))
}
