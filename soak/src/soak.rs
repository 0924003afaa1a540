//! A run from its start to its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use moonshine_crash::fuse::Fuse;
use moonshine_engine::{Database, Options, ScanOrder};
use moonshine_sim_runtime::Random;

use crate::Flags;
use crate::disk::Disk;
use crate::judge::{Limits, problems};
use crate::lake::Lake;
use crate::leak::{Leak, Leaked};
use crate::phases::{Phase, plan};
use crate::readers::{Backups, Gets, Holder, Scans};
use crate::run::{Run, Trouble, Work};
use crate::samples::{Sample, anonymous_bytes};
use crate::tables::{self, Tables};
use crate::works::{Evolver, Loader, Transfers};
use crate::writer::Writer;

/// Between two looks.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// What delta files take while the disk is slow, in bytes a second for each thread that writes one.
const SLOW_BYTES_PER_SECOND: u64 = 256 << 10;
/// What the harness and the exporter may take beyond what they took before the first row: the model is there by then. Backups are read
/// with a budget of their own, and the exporter encodes files of 16 MiB.
const HARNESS_BYTES: u64 = 32 << 20;
const EXPORTER_BYTES: u64 = 96 << 20;

/// What a run was like.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// All samples.
    pub(crate) samples: Vec<Sample>,
    /// What memory is held against.
    pub(crate) limits: Limits,
    /// What was done, and how often.
    pub(crate) counts: Vec<(&'static str, u64)>,
    /// What must not be.
    pub(crate) problems: Vec<String>,
    /// What it ran on.
    pub(crate) disk: &'static str,
}

fn options(flags: &Flags, fuse: &Fuse) -> Options {
    Options {
        memory_budget_bytes: flags.budget_mib << 20,
        // Fragments divide, and files go, within a short run too.
        fragment_size_bytes_max: Some(8 << 20),
        segment_size_bytes_max: Some(8 << 20),
        io: Arc::new(fuse.clone()),
        ..Options::unmeasured()
    }
}

fn said<T>(result: moonshine_engine::Result<T>, what: &str) -> Result<T, String> {
    result.map_err(|error| format!("{what}: {error}"))
}

/// Runs it.
///
/// # Errors
/// In words, why it can't be run.
pub(crate) fn run(flags: &Flags) -> Result<Outcome, String> {
    let place = match &flags.folder {
        Some(folder) => tempfile::tempdir_in(folder),
        None => tempfile::tempdir(),
    };
    let place = place.map_err(|error| error.to_string())?;
    let disk = Disk::new(place.path())?;
    let fuse = Fuse::new(None, None);
    let database = disk.folder().join("database");
    let database = said(Database::open(database, options(flags, &fuse)), "the open")?;
    let tables = said(Tables::create(&database), "the tables")?;
    let mut run = Run::new(database, tables, fuse, disk.folder().to_owned());
    (run.writers, run.keys, run.seed) = (flags.writers, flags.keys, flags.seed);
    let loses_every = (flags.leak == Some(Leak::Rows)).then_some(1000);
    let mut writers: Vec<Writer> = (0..flags.writers)
        .map(|writer| Writer::new(writer, &run, loses_every))
        .collect();
    let mut lake = match flags.no_exports {
        true => None,
        false => Some(Lake::open(&run.database, &run.place.join("warehouse"))?),
    };
    let limits = Limits {
        budget_bytes: flags.budget_mib << 20,
        baseline_bytes: anonymous_bytes(),
        beside_bytes: HARNESS_BYTES + if flags.no_exports { 0 } else { EXPORTER_BYTES },
        minutes: flags.minutes,
    };
    let samples = load_and_soak(flags, &run, &disk, &mut writers, lake.as_mut())?;
    let mut problems = match run.failure() {
        Some(why) => vec![why],
        None => problems(&samples, &limits),
    };
    let counts = run.counts();
    if !counts.contains_key("refusals for want of space") && run.failure().is_none() {
        problems.push("nothing was refused while the disk was full".into());
    }
    if problems.is_empty()
        && let Err(why) = check_end(flags, run, &mut writers, lake)
    {
        problems.push(why);
    }
    Ok(Outcome {
        samples,
        limits,
        counts: counts.into_iter().collect(),
        problems,
        disk: disk.name(),
    })
}

/// The work beside the writers.
fn all_work<'a>(run: &Run, lake: Option<&'a mut Lake>) -> Result<Vec<Box<dyn Work + 'a>>, String> {
    let mut all: Vec<Box<dyn Work + 'a>> = vec![
        Box::new(Transfers::new(run, 0)),
        Box::new(Transfers::new(run, 1)),
        Box::new(Loader::default()),
        Box::new(said(Evolver::new(run), "the evolving table")?),
        Box::new(Scans(Random::of(run.seed, "scans"))),
        Box::new(Holder(Random::of(run.seed, "holder"))),
        Box::new(Gets(Random::of(run.seed, "gets"))),
        Box::new(Backups::default()),
    ];
    if let Some(lake) = lake {
        all.push(Box::new(Exports(lake)));
    }
    Ok(all)
}

/// The lake, which is needed once more in the end.
struct Exports<'a>(&'a mut Lake);

impl Work for Exports<'_> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn pause(&self) -> Duration {
        self.0.pause()
    }

    fn step(&mut self, run: &Run) -> crate::run::Done {
        self.0.step(run)
    }
}

fn load_and_soak(
    flags: &Flags,
    run: &Run,
    disk: &Disk,
    writers: &mut [Writer],
    lake: Option<&mut Lake>,
) -> Result<Vec<Sample>, String> {
    let mut all = all_work(run, lake)?;
    let loaded = std::sync::Barrier::new(writers.len() + 1);
    let start = Instant::now();
    let mut watch = Watch {
        flags,
        run,
        start,
        samples: Vec::new(),
        leaked: Leaked::default(),
    };
    std::thread::scope(|scope| {
        for writer in writers {
            let loaded = &loaded;
            scope.spawn(move || {
                while !writer.has_loaded(run) && !run.is_over() {
                    if let Err(why) = writer.step(run) {
                        run.fail(format!("the load: {why:?}"));
                    }
                }
                loaded.wait();
                run.work(writer);
            });
        }
        for work in &mut all {
            scope.spawn(|| run.work(&mut **work));
        }
        loaded.wait();
        let soaked = watch.soak(disk);
        run.end();
        soaked
    })?;
    Ok(watch.samples)
}

/// Who goes through the phases, and looks.
struct Watch<'a> {
    flags: &'a Flags,
    run: &'a Run,
    start: Instant,
    samples: Vec<Sample>,
    leaked: Leaked,
}

impl Watch<'_> {
    fn soak(&mut self, disk: &Disk) -> Result<(), String> {
        let begun = Instant::now();
        for (phase, end) in plan(Duration::from_secs_f64(self.flags.minutes * 60.0)) {
            self.begin(phase, disk)?;
            while begun.elapsed() < end && !self.run.is_over() {
                self.look()?;
                self.run
                    .sleep(SAMPLE_EVERY.min(end.saturating_sub(begun.elapsed())));
            }
            self.finish(phase, disk)?;
        }
        Ok(())
    }

    fn begin(&self, phase: Phase, disk: &Disk) -> Result<(), String> {
        self.run.set_phase(phase);
        match phase {
            Phase::Slow => self.run.fuse.slow_down(Some(SLOW_BYTES_PER_SECOND)),
            Phase::Full => disk.fill(&self.run.fuse)?,
            _ => {}
        }
        Ok(())
    }

    fn finish(&self, phase: Phase, disk: &Disk) -> Result<(), String> {
        match phase {
            Phase::Slow => self.run.fuse.slow_down(None),
            Phase::Full => disk.free(&self.run.fuse)?,
            _ => {}
        }
        Ok(())
    }

    fn look(&mut self) -> Result<(), String> {
        let second = self.start.elapsed().as_secs_f64();
        let mut sample = Sample::take(self.run, second);
        if let Some(leak) = self.flags.leak {
            let grown = self.leaked.grow(leak, &self.run.place.join("database"));
            grown.map_err(|error| error.to_string())?;
            if leak == Leak::Stalls {
                sample.stalls = Default::default();
            }
        }
        if self.flags.verbose {
            println!("{}", crate::report::line(&sample));
        }
        self.samples.push(sample);
        Ok(())
    }
}

fn failed(trouble: Trouble) -> String {
    match trouble {
        Trouble::Failed(why) => why,
        other => format!("{other:?}"),
    }
}

/// Everything that was acknowledged is there.
fn check_rows(database: &Database, writers: &[Writer]) -> Result<(), String> {
    let tables = said(Tables::create(database), "the tables")?;
    for writer in writers {
        writer.check(database, &tables).map_err(failed)?;
    }
    let (snapshot, order) = (database.snapshot(), ScanOrder::Ascending);
    let checked = tables::check(&snapshot, &tables, writers.len(), order);
    said(checked, "a scan")?.map(drop)
}

/// In the database, in the Iceberg tables, and in the database once more when it was closed and opened.
fn check_end(
    flags: &Flags,
    run: Run,
    writers: &mut [Writer],
    mut lake: Option<Lake>,
) -> Result<(), String> {
    for writer in writers.iter_mut() {
        writer.finish(&run).map_err(failed)?;
    }
    check_rows(&run.database, writers)?;
    if let Some(lake) = &mut lake {
        lake.check(&run, &run.database.snapshot())?;
    }
    said(run.database.flush(), "the last flush")?;
    said(run.database.compact(), "the last compaction")?;
    check_rows(&run.database, writers)?;
    let folder = run.place.join("database");
    let options = options(flags, &run.fuse);
    drop((lake, run));
    let whole = said(Database::check(&folder, &options), "the check")?;
    if let Some(problem) = whole.problems.first() {
        return Err(format!("the check found: {problem}"));
    }
    let database = said(Database::open(&folder, options), "the reopen")?;
    check_rows(&database, writers)
}
