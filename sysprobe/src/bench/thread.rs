//! One thread of a job: opens what it needs, waits for the others, runs, and hands back its statistics.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::block_loop::BlockLoop;
use super::content::Content;
use super::error::BenchError;
use super::failure::Failure;
use super::job::JobOptions;
use super::layout::{self, ThreadFiles};
use super::limits::{Limits, Wait};
use super::offsets::{BlockPicker, FileRange};
use super::progress_counters::{RunControl, ThreadCounters};
use super::queue::Queue;
use super::random::{Random, thread_seed};
use super::rate::Pacer;
use super::recorder::{Clock, Recorder};
use super::stats::JobStats;
use super::workload::Workload;
use super::workload_loop::WorkloadLoop;
use crate::io::{EngineName, EngineOptions, IoEngine, open_engine};

/// What a thread needs to begin.
pub(super) struct ThreadTask<'a> {
    pub(super) job: &'a JobOptions,
    pub(super) job_index: usize,
    pub(super) thread: usize,
    pub(super) group: usize,
    pub(super) work: Work,
    pub(super) counters: Arc<ThreadCounters>,
}

/// What a thread does.
pub(super) enum Work {
    /// Reads and writes blocks of these files.
    Blocks(EngineName, ThreadFiles),
    /// Steps of a workload, until that many bytes where bytes end it.
    Steps(Box<dyn Workload>, Option<u64>),
}

/// What all threads of a stage share.
pub(super) struct Stage<'a> {
    pub(super) control: &'a RunControl,
    pub(super) clock: Clock,
    pub(super) gate: Gate,
}

/// Lets no thread begin before all are ready, and none at all where one failed.
#[derive(Default)]
pub(super) struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    arrived: usize,
    has_failed: bool,
    may_begin: Option<bool>,
}

impl Gate {
    /// Called by a thread once: says whether it is ready, waits, and returns whether it may begin.
    fn arrive(&self, is_ready: bool) -> bool {
        let mut state = self.lock();
        state.arrived += 1;
        state.has_failed |= !is_ready;
        self.changed.notify_all();
        loop {
            if let Some(may_begin) = state.may_begin {
                return may_begin;
            }
            state = self.wait(state);
        }
    }

    /// Waits for that many threads and lets them begin if all are ready.
    pub(super) fn open(&self, threads: usize, is_complete: bool) {
        let mut state = self.lock();
        while state.arrived < threads {
            state = self.wait(state);
        }
        state.may_begin = Some(is_complete && !state.has_failed);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, GateState>) -> MutexGuard<'a, GateState> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread that is ready.
enum Ready {
    Blocks(Box<ReadyBlocks>),
    Steps(Box<dyn Workload>, Option<u64>),
}

struct ReadyBlocks {
    engine: Box<dyn IoEngine>,
    is_synchronous: bool,
    picker: BlockPicker,
    content: Content,
    queue: Queue,
    size: u64,
    files: usize,
}

impl ThreadTask<'_> {
    /// The thread's whole life; `None` where another thread of the stage could not begin.
    pub(super) fn run(self, stage: &Stage<'_>) -> Result<Option<JobStats>, BenchError> {
        let seed = thread_seed(
            self.job.randseed,
            self.job.randrepeat,
            self.job_index,
            self.thread,
        );
        let (job, job_index, group) = (self.job, self.job_index, self.group);
        let counters = Arc::clone(&self.counters);
        let ready = self.prepare(seed);
        if !stage.gate.arrive(ready.is_ok()) {
            return ready.map(|_| None);
        }
        let ready = ready?;
        delay(job, stage, seed);
        let now_ns = stage.clock.now_ns();
        let (stats, failure) = match ready {
            Ready::Blocks(ready) => block_loop(job, stage, *ready, counters, seed, now_ns).run(),
            Ready::Steps(workload, size) => WorkloadLoop {
                job,
                control: stage.control,
                workload,
                pacer: Pacer::new(job, now_ns),
                recorder: Recorder::begin(job, counters, true, now_ns),
                clock: stage.clock,
                limits: Limits::new(job, size, now_ns),
                now_ns,
            }
            .run(),
        };
        let ended_ms = stage.clock.now_ns() / 1_000_000;
        Ok(Some(JobStats {
            name: job.name.clone(),
            job: job_index,
            group,
            group_reporting: job.group_reporting,
            thread_id: i64::from(rustix::thread::gettid().as_raw_nonzero().get()),
            options_given: job.options_given.clone(),
            iodepth: job.iodepth as u64,
            error: failure.as_ref().map_or(0, |failure| failure.errno),
            error_text: failure.map(|Failure { text, .. }| format!("job {}: {text}", job.name)),
            ended: Some(SystemTime::now()),
            elapsed_s: ended_ms.div_ceil(1000),
            percentile_list: job.percentile_list.clone(),
            clat_percentiles: job.clat_percentiles,
            lat_percentiles: job.lat_percentiles,
            ..stats
        }))
    }

    /// Opens the files and the engine and fills the buffers.
    fn prepare(self, seed: u64) -> Result<Ready, BenchError> {
        let job = self.job;
        let (name, files) = match self.work {
            Work::Blocks(name, files) => (name, files),
            Work::Steps(workload, size) => return Ok(Ready::Steps(workload, size)),
        };
        let opened: Result<Vec<_>, BenchError> = files
            .files
            .iter()
            .map(|file| layout::open(job, file))
            .collect();
        let queue = Queue::new(job, name.is_synchronous());
        let sizes = &job.block_sizes;
        let greatest = sizes.read.most_bytes.max(sizes.write.most_bytes);
        let options = EngineOptions {
            direct: job.direct,
            registered_buffers: job.fixedbufs,
            registered_files: job.registerfiles,
            sqpoll: job.sqthread_poll,
            sqpoll_cpu: job.sqthread_poll_cpu,
            hipri: job.hipri,
            writes: job.rw.writes(),
            random: job.rw.is_random(),
            ..EngineOptions::new(
                queue.depth(),
                usize::try_from(greatest).unwrap_or(usize::MAX),
            )
        };
        let mut engine =
            open_engine(name, &opened?, &options).map_err(|source| BenchError::Engine {
                job: job.name.clone(),
                source,
            })?;
        let mut content = Content::new(job, seed ^ 1);
        for slot in 0..queue.depth() {
            content.fill(engine.buffer_mut(slot));
        }
        let ranges: Vec<FileRange> = files.files.iter().map(|file| file.range).collect();
        Ok(Ready::Blocks(Box::new(ReadyBlocks {
            engine,
            is_synchronous: name.is_synchronous(),
            picker: BlockPicker::new(job, &ranges, seed),
            content,
            queue,
            size: files.size,
            files: ranges.len(),
        })))
    }
}

fn block_loop<'a>(
    job: &'a JobOptions,
    stage: &Stage<'a>,
    ready: ReadyBlocks,
    counters: Arc<ThreadCounters>,
    seed: u64,
    now_ns: u64,
) -> BlockLoop<'a> {
    BlockLoop {
        job,
        control: stage.control,
        engine: ready.engine,
        is_synchronous: ready.is_synchronous,
        files: ready.files,
        picker: ready.picker,
        content: ready.content,
        mix: Random::new(seed ^ 2),
        pacer: Pacer::new(job, now_ns),
        recorder: Recorder::begin(job, counters, ready.is_synchronous, now_ns),
        clock: stage.clock,
        limits: Limits::new(job, Some(ready.size), now_ns),
        now_ns,
        queue: ready.queue,
    }
}

/// Sleeps for the job's `startdelay`.
fn delay(job: &JobOptions, stage: &Stage<'_>, seed: u64) {
    let delay = &job.startdelay;
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let (least, most) = (nanoseconds(delay.least), nanoseconds(delay.most));
    let drawn = least + Random::new(seed ^ 3).below(most.saturating_sub(least).saturating_add(1));
    if drawn > 0 {
        let until_ns = stage.clock.now_ns().saturating_add(drawn);
        Wait::until(until_ns, stage.control, stage.clock);
    }
}
