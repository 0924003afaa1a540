//! A folder through many deaths.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::process::Process;
use super::{Request, Totals};
use crate::fuse::Trigger;
use crate::told::{Ends, Told};
use crate::verify::{check_files, verify};

/// Who has not ended for so long hangs.
const HANGS_AFTER: Duration = Duration::from_secs(120);

/// A database's folder, with all that its children told.
#[derive(Debug)]
pub struct Life {
    program: PathBuf,
    forget_syncs: Option<String>,
    early: bool,
    kept_in: PathBuf,
    /// Holds the database and its backups.
    folder: PathBuf,
    /// What is written follows from it.
    pub seed: u64,
    /// How many children it had.
    pub runs: u64,
    /// What they told.
    pub told: Told,
}

/// How a child is run.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// What happens at which call.
    pub at: Option<Trigger>,
    /// So many rounds on one thread; threads without an end otherwise.
    pub rounds: Option<u64>,
    /// When it is killed, if it is.
    pub killed_after: Option<Duration>,
    /// The command around it.
    pub around: Vec<String>,
    /// Calls are made to fail.
    pub has_errors: bool,
}

impl Life {
    /// A new one in a folder that is not there.
    ///
    /// # Errors
    /// In words, where the folder can't be made.
    pub fn new(request: &Request, folder: PathBuf, seed: u64) -> Result<Self, String> {
        std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        Ok(Life {
            program: request.program.clone(),
            forget_syncs: request.forget_syncs.clone(),
            early: request.early,
            kept_in: request.kept_in.clone(),
            folder,
            seed,
            runs: 0,
            told: Told::default(),
        })
    }

    /// Where the database and its backups are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where it is kept once something is found in it.
    pub fn kept_in(&self) -> &Path {
        &self.kept_in
    }

    fn database(&self) -> PathBuf {
        self.folder.join("database")
    }

    fn arguments(&self, run: &Run) -> Vec<String> {
        let mut arguments = vec![
            format!("--folder={}", self.database().display()),
            format!("--seed={}", self.seed),
            format!("--run={}", self.runs),
        ];
        arguments.extend(run.at.map(|at| format!("--at={at}")));
        arguments.extend(run.rounds.map(|rounds| format!("--rounds={rounds}")));
        arguments.extend(run.has_errors.then(|| "--alone".to_owned()));
        arguments.extend(self.early.then(|| "--early".to_owned()));
        let forgotten = self.forget_syncs.as_ref();
        arguments.extend(forgotten.map(|ending| format!("--forget-syncs={ending}")));
        let landed = self.told.lake.landed().iter().map(|id| id.to_string());
        let landed: Vec<String> = landed.collect();
        if !landed.is_empty() {
            arguments.push(format!("--landed={}", landed.join(",")));
        }
        arguments
    }

    /// Starts a child.
    ///
    /// # Errors
    /// In words, why it does not start.
    pub fn start(&mut self, run: &Run) -> Result<Process, String> {
        self.runs += 1;
        self.told.backup = None;
        Process::start(&run.around, &self.program, &self.arguments(run))
    }

    /// Runs a child to its end; whether that was a death, not an end of its work.
    ///
    /// # Errors
    /// In words, what it did that can't be.
    pub fn run(&mut self, run: &Run) -> Result<bool, String> {
        let mut process = self.start(run)?;
        let ended = process.hear(run.killed_after.unwrap_or(HANGS_AFTER));
        let lines = process.end()?;
        if !ended && run.killed_after.is_none() {
            return Err(format!("it hangs after: {:?}", lines.last()));
        }
        self.told.take(&lines, Ends::Process, run.has_errors)?;
        match self.told.failures.first() {
            Some(failure) if !run.has_errors => Err(failure.clone()),
            Some(_) => Ok(false),
            None => Ok(self.told.calls.is_none()),
        }
    }

    /// Looks at a copy of what was left, so that the next child finds it as it is.
    ///
    /// # Errors
    /// In words, what is wrong with it.
    pub fn verify(&mut self, totals: &mut Totals) -> Result<(), String> {
        let place = tempfile::tempdir().map_err(|error| format!("no folder: {error}"))?;
        let copied = place.path().join("database");
        if !self.database().join("MANIFEST").exists() {
            return self.told.found(&Default::default());
        }
        copy(&self.database(), &copied)?;
        check_files(&copied, self.seed).map_err(|why| format!("before it is opened, {why}"))?;
        let state = verify(&copied, self.seed, Some(&self.told.lake))?;
        if let Some((name, seq)) = &self.told.backup {
            let copied = place.path().join("backup");
            copy(&self.folder.join(name), &copied)?;
            let held = verify(&copied, self.seed, None)
                .map_err(|why| format!("backup at {seq}: {why}"))?;
            if held.seq != *seq {
                return Err(format!("the backup at {seq} is one at {}", held.seq));
            }
            self.told
                .check_prefix(&held)
                .map_err(|why| format!("in a backup, {why}"))?;
            totals.count("backups");
        }
        self.told.found(&state)?;
        totals.acknowledged += std::mem::take(&mut self.told.acknowledged);
        Ok(())
    }

    /// Removes all of it.
    pub fn remove(self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Copies a folder with its holes.
///
/// # Errors
/// In words, what `cp` said.
pub fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let copied = Command::new("cp")
        .args(["-a", "--sparse=always"])
        .args([from, to])
        .output()
        .map_err(|error| format!("cp does not start: {error}"))?;
    match copied.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&copied.stderr).into_owned()),
    }
}
