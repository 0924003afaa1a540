//! Runs each step of each engine in a process of its own, and gathers what they measured.
//!
//! So memory and CPU time are an engine's own, nothing is warm from another's run, and an engine that crashes or hangs
//! costs its own rows and no more. Within a round the engines take turns step by step; each round begins with the next.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::kv::Result;
use crate::measure::{Measured, Record, number_in};
use crate::workloads::{Engine, READY_FILE, Sizes, Step, mib, section};

/// A group of rows that can be chosen on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    Load,
    Reads,
    Writes,
    Ycsb,
    Churn,
    Reopen,
    Larger,
    RedbBench,
}

impl Workload {
    fn steps(self) -> &'static [Step] {
        match self {
            Workload::Load => &[Step::Load],
            Workload::Reads => &[Step::Reads],
            Workload::Writes => &[Step::Writes],
            Workload::Ycsb => &[Step::Ycsb],
            Workload::Churn => &[Step::Churn],
            Workload::Reopen => &[Step::Crash, Step::Reopen],
            Workload::Larger => &[Step::Larger],
            Workload::RedbBench => &[Step::RedbBench],
        }
    }

    fn starts_loaded(self) -> bool {
        !matches!(
            self,
            Workload::Load | Workload::Larger | Workload::RedbBench
        )
    }

    /// Whether it leaves the loaded database as it was, so that it needs no copy.
    fn only_reads(self) -> bool {
        self == Workload::Reads
    }
}

/// A record with where it comes from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) round: u32,
    pub(crate) engine: Engine,
    pub(crate) record: Record,
}

/// A step that gave no result, and why.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) round: u32,
    pub(crate) engine: Engine,
    pub(crate) section: String,
    pub(crate) reason: String,
}

pub(crate) struct Plan {
    pub(crate) engines: Vec<Engine>,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) rounds: u32,
    pub(crate) sizes: Sizes,
    pub(crate) folder: PathBuf,
    pub(crate) step_limit: Duration,
}

#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) samples: Vec<Sample>,
    pub(crate) failures: Vec<Failure>,
}

/// Runs the whole plan.
pub(crate) fn run(plan: &Plan) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for round in 0..plan.rounds {
        let mut loaded = BTreeMap::new();
        for &workload in &plan.workloads {
            let mut engines = plan.engines.clone();
            let first = round as usize % engines.len().max(1);
            engines.rotate_left(first);
            for engine in engines {
                let mut turn = Turn {
                    plan,
                    round,
                    engine,
                    outcome: &mut outcome,
                };
                if workload == Workload::Load
                    || (workload.starts_loaded() && !loaded.contains_key(&engine))
                {
                    loaded.insert(engine, turn.load()?);
                }
                if workload != Workload::Load {
                    turn.work(workload, loaded.get(&engine).cloned().flatten())?;
                }
            }
        }
        for folder in loaded.into_values().flatten() {
            std::fs::remove_dir_all(folder)?;
        }
    }
    Ok(outcome)
}

/// One engine's turn at one workload.
struct Turn<'a> {
    plan: &'a Plan,
    round: u32,
    engine: Engine,
    outcome: &'a mut Outcome,
}

impl Turn<'_> {
    fn folder(&self, name: &str) -> PathBuf {
        self.plan
            .folder
            .join(format!("{}-{name}", self.engine.name()))
    }

    /// Makes the database that others start from; `None` if the engine failed.
    fn load(&mut self) -> Result<Option<PathBuf>> {
        let folder = self.folder("loaded");
        remove_folder(&folder)?;
        let done = self.step(Step::Load, &folder)?;
        if !done {
            remove_folder(&folder)?;
        }
        Ok(done.then_some(folder))
    }

    fn work(&mut self, workload: Workload, loaded: Option<PathBuf>) -> Result<()> {
        let folder = match &loaded {
            Some(loaded) if workload.only_reads() => loaded.clone(),
            _ => self.folder("work"),
        };
        if workload.starts_loaded() {
            let Some(loaded) = &loaded else {
                return Ok(());
            };
            if !workload.only_reads() {
                remove_folder(&folder)?;
                copy_folder(loaded, &folder)?;
            }
        } else {
            remove_folder(&folder)?;
        }
        for &step in workload.steps() {
            if !self.step(step, &folder)? {
                break;
            }
        }
        if !workload.only_reads() {
            remove_folder(&folder)?;
        }
        Ok(())
    }

    /// Runs one step; returns whether it came to its end.
    fn step(&mut self, step: Step, folder: &Path) -> Result<bool> {
        eprint!(
            "round {}, {}, {}: ",
            self.round + 1,
            section(step),
            self.engine.name()
        );
        // The writeback of one engine's files is not the next one's business.
        rustix::fs::sync();
        let started = Instant::now();
        let child = start_child(self.engine, step, folder, &self.plan.sizes)?;
        let ended = watch(child, step, folder, self.plan.step_limit)?;
        eprintln!(
            "{:.1} s{}",
            started.elapsed().as_secs_f64(),
            if ended.reason.is_some() {
                ", FAILED"
            } else {
                ""
            }
        );
        let mut records = ended.records;
        if step != Step::Crash && ended.reason.is_none() {
            records.push(Record {
                section: "peak memory".into(),
                row: format!("{}, without mapped files", section(step)),
                measured: Measured::Figure {
                    value: mib(ended.peak_anonymous_bytes),
                    unit: "MiB".into(),
                },
            });
        }
        let (round, engine) = (self.round, self.engine);
        self.outcome
            .samples
            .extend(records.into_iter().map(|record| Sample {
                round,
                engine,
                record,
            }));
        if let Some(reason) = &ended.reason {
            let failure = Failure {
                round,
                engine,
                section: section(step).into(),
                reason: reason.clone(),
            };
            eprintln!("  {reason}");
            self.outcome.failures.push(failure);
        }
        Ok(ended.reason.is_none())
    }
}

fn start_child(engine: Engine, step: Step, folder: &Path, sizes: &Sizes) -> Result<Child> {
    let step = step.to_possible_value().ok_or("a step has no name")?;
    Ok(Command::new(std::env::current_exe()?)
        .args(["step", engine.name(), step.get_name()])
        .arg(folder)
        .arg(serde_json::to_string(sizes)?)
        .stdin(Stdio::null())
        .stdout(File::create(folder.with_extension("records"))?)
        .stderr(File::create(folder.with_extension("log"))?)
        .spawn()?)
}

struct Ended {
    records: Vec<Record>,
    /// Why there is no result, if there is none.
    reason: Option<String>,
    peak_anonymous_bytes: u64,
}

/// Waits for a child, watching its memory; kills it when its time is up, or when it has said that it is ready to be.
fn watch(mut child: Child, step: Step, folder: &Path, limit: Duration) -> Result<Ended> {
    let status_path = format!("/proc/{}/status", child.id());
    let ready_path = folder.with_extension(READY_FILE);
    let end = Instant::now() + limit;
    let mut peak_anonymous_bytes = 0;
    let (mut timed_out, mut crashed) = (false, false);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        // A process that is just ending has no such line any more.
        let anonymous_bytes = number_in(&status_path, "RssAnon:").unwrap_or(0) * 1024;
        peak_anonymous_bytes = peak_anonymous_bytes.max(anonymous_bytes);
        timed_out = Instant::now() > end;
        crashed = step == Step::Crash && ready_path.exists();
        if timed_out || crashed {
            child.kill()?;
            break child.wait()?;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let _ = std::fs::remove_file(&ready_path);
    let reason = if timed_out {
        Some(format!("not done after {} s", limit.as_secs()))
    } else if crashed || status.success() {
        None
    } else {
        Some(failure_reason(status, folder))
    };
    let records = std::fs::read_to_string(folder.with_extension("records"))?;
    let records = if reason.is_none() && !records.is_empty() {
        serde_json::from_str(&records)?
    } else {
        Vec::new()
    };
    std::fs::remove_file(folder.with_extension("records"))?;
    std::fs::remove_file(folder.with_extension("log"))?;
    Ok(Ended {
        records,
        reason,
        peak_anonymous_bytes,
    })
}

/// The last thing that a child said, and how it ended.
fn failure_reason(status: ExitStatus, folder: &Path) -> String {
    let log = std::fs::read_to_string(folder.with_extension("log")).unwrap_or_default();
    let told = |line: &&str| !line.trim().is_empty() && !line.starts_with("note: ");
    format!(
        "{status}: {}",
        log.lines().rfind(told).unwrap_or("it said nothing")
    )
}

fn remove_folder(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
