//! What a stretch of work cost this process, and running one on several threads.

use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::kv::Result;

/// What was measured, as one line of a result file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The part of the report it belongs to.
    pub(crate) section: String,
    pub(crate) row: String,
    pub(crate) measured: Measured,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Measured {
    /// Operations, and what they cost.
    Rate(Rate),
    /// One number, the lower the better.
    Figure { value: f64, unit: String },
}

/// Operations over a stretch of time, the CPU time of background threads included.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Rate {
    pub(crate) ops: u64,
    pub(crate) wall_s: f64,
    pub(crate) cpu_s: f64,
    /// Bytes sent towards the disk, as the kernel counts them for this process.
    pub(crate) written_bytes: u64,
    /// More than `ops` if the time limit came first.
    pub(crate) planned_ops: u64,
}

impl Rate {
    pub(crate) fn ops_per_s(&self) -> f64 {
        self.ops as f64 / self.wall_s
    }

    pub(crate) fn cpu_us_per_op(&self) -> f64 {
        self.cpu_s * 1e6 / self.ops as f64
    }
}

/// What this process has used so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    at: Instant,
    cpu: Duration,
    written_bytes: u64,
}

impl Usage {
    pub(crate) fn now() -> Result<Self> {
        Ok(Usage {
            at: Instant::now(),
            cpu: cpu_time(),
            written_bytes: number_in("/proc/self/io", "write_bytes:")?,
        })
    }

    /// What `ops` operations cost since then.
    pub(crate) fn since(self, ops: u64) -> Result<Rate> {
        Ok(self.until(Usage::now()?, ops))
    }

    /// What `ops` operations cost between the two.
    pub(crate) fn until(self, end: Usage, ops: u64) -> Rate {
        Rate {
            ops,
            wall_s: (end.at - self.at).as_secs_f64(),
            cpu_s: (end.cpu - self.cpu).as_secs_f64(),
            written_bytes: end.written_bytes - self.written_bytes,
            planned_ops: ops,
        }
    }
}

/// User and system time of all threads, ended ones included: what `getrusage` tells, to the nanosecond.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// The number behind a label in one of the kernel's text files.
pub(crate) fn number_in(path: &str, label: &str) -> Result<u64> {
    let text = std::fs::read_to_string(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(label));
    let number = line
        .and_then(|rest| rest.split_whitespace().next())
        .ok_or_else(|| format!("{path} has no {label}"))?;
    Ok(number.parse()?)
}

/// The most memory this process has had, mapped files included.
pub(crate) fn peak_memory_bytes() -> Result<u64> {
    Ok(number_in("/proc/self/status", "VmHWM:")? * 1024)
}

/// Bytes of disk that a folder takes, by blocks.
pub(crate) fn disk_bytes(folder: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            // The engine may delete files while we look.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error.into()),
        };
        bytes += if metadata.is_dir() {
            disk_bytes(&entry.path())?
        } else {
            metadata.blocks() * 512
        };
    }
    Ok(bytes)
}

/// How long background threads must do nothing before the process counts as idle.
const IDLE_WINDOW: Duration = Duration::from_millis(300);
const IDLE_POLL: Duration = Duration::from_millis(10);
/// CPU time between two polls that is no work: the poll itself and timers of idle threads.
const IDLE_CPU_MAX: Duration = Duration::from_micros(500);

/// Waits until this process uses no CPU: whatever the engine still had to do is done. Returns when that was.
pub(crate) fn wait_until_idle(limit: Duration) -> Result<Usage> {
    let end = Instant::now() + limit;
    let mut idle_since = Usage::now()?;
    let mut before = idle_since.cpu;
    while idle_since.at.elapsed() < IDLE_WINDOW && Instant::now() < end {
        std::thread::sleep(IDLE_POLL);
        let now = cpu_time();
        if now - before > IDLE_CPU_MAX {
            idle_since = Usage::now()?;
        }
        before = now;
    }
    Ok(idle_since)
}

/// When to stop, for work whose length depends on the engine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    pub(crate) fn passed(self) -> bool {
        Instant::now() >= self.0
    }

    /// Whether it has passed, looking at the clock at every 64th operation only.
    pub(crate) fn passed_at(self, i: usize) -> bool {
        i % 64 == 63 && self.passed()
    }
}

/// What one thread did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    pub(crate) ops: u64,
    pub(crate) planned_ops: u64,
}

impl Done {
    /// `ops` of `planned_ops` operations.
    pub(crate) fn of(ops: u64, planned_ops: u64) -> Self {
        Done { ops, planned_ops }
    }
}

/// Prepares on each thread, then runs `work` on all at once and measures that.
pub(crate) fn run<P>(
    threads: usize,
    limit: Duration,
    prepare: impl Fn(u64) -> P + Sync,
    work: impl Fn(P, Deadline) -> Result<Done> + Sync,
) -> Result<Rate> {
    // Two barriers, so that no thread is at work before the clock has started.
    let (ready, start) = (Barrier::new(threads + 1), Barrier::new(threads + 1));
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads as u64)
            .map(|thread| {
                let (ready, start, prepare, work) = (&ready, &start, &prepare, &work);
                scope.spawn(move || {
                    let prepared = prepare(thread);
                    ready.wait();
                    start.wait();
                    work(prepared, Deadline(Instant::now() + limit))
                })
            })
            .collect();
        ready.wait();
        let before = Usage::now();
        start.wait();
        let before = before?;
        let (mut ops, mut planned_ops) = (0, 0);
        for handle in handles {
            let done = handle.join().map_err(|_| "a thread ended in a panic")??;
            ops += done.ops;
            planned_ops += done.planned_ops;
        }
        Ok(Rate {
            planned_ops,
            ..before.since(ops)?
        })
    })
}
