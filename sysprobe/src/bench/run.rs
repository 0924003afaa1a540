//! All jobs of a run: files, threads, order, and what they came to.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::disk_util::DiskWatch;
use super::error::BenchError;
use super::job::JobOptions;
use super::layout::{self, ThreadFiles};
use super::limits::bytes_goal;
use super::progress_counters::{RunControl, ThreadCounters, ThreadPlan};
use super::recorder::Clock;
use super::schedule;
use super::stats::{JobStats, RunReport};
use super::thread::{Gate, Stage, ThreadTask, Work};
use super::values::{JobEngine, PerDirection};
use super::workload::WorkloadFactory;

/// Is told what happens before the threads begin. All methods do nothing unless overridden.
pub trait RunObserver: Sync {
    /// Files of a job are about to be written, which may take long.
    fn laying_out(&self, job: &str, files: usize, size_bytes: u64) {
        let _ = (job, files, size_bytes);
    }

    /// A file was there before and is used as it is.
    fn file_reused(&self, job: &str, path: &Path) {
        let _ = (job, path);
    }
}

impl RunObserver for () {}

/// One thread before it begins.
struct PlannedThread {
    job: usize,
    thread: usize,
    /// `None` for a workload.
    files: Option<ThreadFiles>,
    counters: Arc<ThreadCounters>,
}

/// Runs the jobs and gives back what they came to.
///
/// A job that fails while it runs ends with its error in its [`JobStats`](super::JobStats); the others go on.
///
/// ```
/// use moonshine_sysprobe::bench::{Extent, JobOptions, RunControl, Rw, run_jobs};
///
/// let folder = tempfile::tempdir()?;
/// let job = JobOptions {
///     name: "first".into(),
///     directory: Some(folder.path().to_owned()),
///     rw: Rw::RandWrite,
///     size: Some(Extent::Bytes(1 << 20)),
///     ..JobOptions::default()
/// };
/// let report = run_jobs(&[job], &[], &RunControl::new(), &())?;
/// assert_eq!(report.threads[0].directions.write.total_ios, 256);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`BenchError`] where a job cannot begin. Threads that had begun are stopped.
pub fn run_jobs(
    jobs: &[JobOptions],
    workloads: &[&dyn WorkloadFactory],
    control: &RunControl,
    observer: &dyn RunObserver,
) -> Result<RunReport, BenchError> {
    let (started, began) = (SystemTime::now(), Instant::now());
    schedule::check(jobs)?;
    for job in jobs {
        schedule::workload_of(job, workloads)?;
    }
    let mut threads = Vec::new();
    for (index, job) in jobs.iter().enumerate() {
        plan_threads(index, job, control, observer, &mut threads)?;
    }
    let paths: Vec<PathBuf> = threads.iter().flat_map(PlannedThread::paths).collect();
    let disks = DiskWatch::begin(paths.iter().map(PathBuf::as_path));
    let groups = schedule::groups(jobs);
    let clock = Clock::start();
    let mut report = RunReport {
        started,
        ..RunReport::default()
    };
    for stage in schedule::stages(jobs) {
        if control.is_stopped() {
            break;
        }
        let run = StageRun {
            jobs,
            groups: &groups,
            workloads,
            control,
            clock,
        };
        report.threads.extend(run.run(&stage, &threads)?);
    }
    report.disk_util = disks.end();
    report.elapsed = began.elapsed();
    Ok(report)
}

impl PlannedThread {
    fn paths(&self) -> impl Iterator<Item = PathBuf> {
        let files = self.files.iter().flat_map(|files| &files.files);
        files.map(|file| file.path.clone())
    }
}

/// Lays out the files of a job and makes its threads known to the progress line.
fn plan_threads(
    index: usize,
    job: &JobOptions,
    control: &RunControl,
    observer: &dyn RunObserver,
    threads: &mut Vec<PlannedThread>,
) -> Result<(), BenchError> {
    for thread in 0..job.numjobs.max(1) {
        let files = match &job.ioengine {
            JobEngine::Io(_) => Some(layout::prepare(job, thread, control, observer)?),
            JobEngine::Workload(_) => None,
        };
        let counters = Arc::new(ThreadCounters::new(ThreadPlan {
            job: index,
            directions: PerDirection {
                read: job.rw.reads(),
                write: job.rw.writes(),
            },
            is_random: job.rw.is_random(),
            time_goal: job.runtime.map(|runtime| runtime + job.ramp_time),
        }));
        if let Some(files) = &files {
            counters.set_bytes_goal(bytes_goal(job, Some(files.size)));
        }
        control.register(Arc::clone(&counters));
        threads.push(PlannedThread {
            job: index,
            thread,
            files,
            counters,
        });
    }
    Ok(())
}

/// What the stages of a run share.
struct StageRun<'a> {
    jobs: &'a [JobOptions],
    groups: &'a [usize],
    workloads: &'a [&'a dyn WorkloadFactory],
    control: &'a RunControl,
    clock: Clock,
}

impl StageRun<'_> {
    /// Runs the threads of some jobs at the same time, to their ends.
    fn run(&self, stage: &[usize], threads: &[PlannedThread]) -> Result<Vec<JobStats>, BenchError> {
        let mut tasks = Vec::new();
        for index in stage {
            let Some(job) = self.jobs.get(*index) else {
                continue;
            };
            let workload = schedule::workload_of(job, self.workloads)?;
            if let Some(workload) = workload {
                workload
                    .prepare(job)
                    .map_err(|reason| refused(job, reason))?;
            }
            for thread in threads.iter().filter(|thread| thread.job == *index) {
                tasks.push(self.task(job, thread, workload)?);
            }
        }
        let mut stats = self.run_tasks(tasks)?;
        for index in stage {
            let Some(job) = self.jobs.get(*index) else {
                continue;
            };
            self.finish(*index, job, threads, &mut stats)?;
        }
        Ok(stats)
    }

    fn task<'b>(
        &self,
        job: &'b JobOptions,
        thread: &PlannedThread,
        workload: Option<&dyn WorkloadFactory>,
    ) -> Result<ThreadTask<'b>, BenchError> {
        let work = match (&job.ioengine, workload) {
            (JobEngine::Io(name), _) => {
                Work::Blocks(*name, thread.files.clone().unwrap_or_default())
            }
            (JobEngine::Workload(_), Some(workload)) => {
                let size = schedule::size_of_workload(job, workload);
                schedule::check_workload(job, size)?;
                thread.counters.set_bytes_goal(bytes_goal(job, size));
                let made = workload.thread(job, thread.thread);
                Work::Steps(made.map_err(|reason| refused(job, reason))?, size)
            }
            (JobEngine::Workload(name), None) => {
                return Err(refused(job, format!("there is no ioengine {name}")));
            }
        };
        Ok(ThreadTask {
            job,
            job_index: thread.job,
            thread: thread.thread,
            group: self.groups.get(thread.job).copied().unwrap_or_default(),
            work,
            counters: Arc::clone(&thread.counters),
        })
    }

    fn run_tasks(&self, tasks: Vec<ThreadTask<'_>>) -> Result<Vec<JobStats>, BenchError> {
        let stage = Stage {
            control: self.control,
            clock: self.clock,
            gate: Gate::default(),
        };
        std::thread::scope(|scope| {
            let mut threads = Vec::new();
            let mut failed = None;
            for task in tasks {
                let job = task.job;
                let stage = &stage;
                let spawned = std::thread::Builder::new()
                    .name(
                        job.name
                            .chars()
                            .take(15)
                            .filter(|letter| *letter != '\0')
                            .collect(),
                    )
                    .spawn_scoped(scope, move || task.run(stage));
                match spawned {
                    Ok(thread) => threads.push(thread),
                    Err(source) => {
                        let job = job.name.clone();
                        failed = Some(BenchError::Thread { job, source });
                        break;
                    }
                }
            }
            stage.gate.open(threads.len(), failed.is_none());
            let mut all = Vec::new();
            for thread in threads {
                match thread.join() {
                    Ok(Ok(stats)) => all.extend(stats),
                    Ok(Err(error)) => failed = failed.or(Some(error)),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            failed.map_or(Ok(all), Err)
        })
    }

    /// Ends the job's workload and removes its files where it wants that.
    fn finish(
        &self,
        index: usize,
        job: &JobOptions,
        threads: &[PlannedThread],
        stats: &mut [JobStats],
    ) -> Result<(), BenchError> {
        let first = stats.iter_mut().find(|stats| stats.job == index);
        if let (Some(workload), Some(first)) = (schedule::workload_of(job, self.workloads)?, first)
        {
            match workload.finish(job) {
                Ok(lines) => first.report_lines.extend(lines),
                Err(reason) if first.error_text.is_none() => {
                    first.error = rustix::io::Errno::IO.raw_os_error();
                    first.error_text = Some(format!("job {}: {reason}", job.name));
                }
                Err(_) => {}
            }
        }
        if job.unlink {
            for path in threads
                .iter()
                .filter(|thread| thread.job == index)
                .flat_map(PlannedThread::paths)
            {
                remove(job, &path)?;
            }
        }
        Ok(())
    }
}

/// Removes a file that threads may share, so that another one may have removed it before.
fn remove(job: &JobOptions, path: &Path) -> Result<(), BenchError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(BenchError::File {
            job: job.name.clone(),
            operation: "removing",
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

fn refused(job: &JobOptions, reason: String) -> BenchError {
    BenchError::Workload {
        job: job.name.clone(),
        reason,
    }
}
