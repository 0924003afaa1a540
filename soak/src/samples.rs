//! What the process and the database take, looked at each second.

use std::path::Path;

use moonshine_engine::{StallReason, Statistics};

use crate::phases::Phase;
use crate::run::Run;

/// One look.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Since the load began, in seconds.
    pub(crate) second: f64,
    /// What went on.
    pub(crate) phase: Phase,
    /// Memory that the process takes and that is not of a file.
    pub(crate) anonymous_bytes: u64,
    /// What the engine counts against its budget.
    pub(crate) used_bytes: u64,
    /// What it has between pages, which is not counted.
    pub(crate) room_bytes: u64,
    /// What waits in front of the log, which has a limit of its own.
    pub(crate) queue_bytes: u64,
    /// Open descriptors.
    pub(crate) descriptors: u64,
    /// Threads.
    pub(crate) threads: u64,
    /// Files in the database's folder.
    pub(crate) files: u64,
    /// Bytes that they take on disk.
    pub(crate) disk_bytes: u64,
    /// Commits since the open.
    pub(crate) commits: u64,
    /// How long commits waited by reason, in seconds, and how many.
    pub(crate) stalls: [(f64, u64); StallReason::ALL.len()],
    /// How long writers were in commits, in seconds, all together.
    pub(crate) commit_seconds: f64,
}

/// A number of `/proc/self/status`, as `Threads:` or `RssAnon:`.
fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let word = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    word.unwrap_or(0)
}

/// Memory of the process that is not of a file, in bytes.
pub(crate) fn anonymous_bytes() -> u64 {
    status("RssAnon:") << 10
}

/// Files below a folder, and the bytes that they take. What goes meanwhile is left out.
pub(crate) fn files_and_bytes(folder: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    let mut sum = (0, 0);
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        if metadata.is_dir() {
            let within = files_and_bytes(&entry.path());
            sum = (sum.0 + within.0, sum.1 + within.1);
        } else {
            sum = (sum.0 + 1, sum.1 + metadata.blocks() * 512);
        }
    }
    sum
}

impl Sample {
    /// Looks.
    pub(crate) fn take(run: &Run, second: f64) -> Self {
        let statistics: Statistics = run.database.statistics();
        let (files, disk_bytes) = files_and_bytes(&run.place.join("database"));
        let descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, |all| all.count() as u64);
        let commit_ns = run.commit_ns.load(std::sync::atomic::Ordering::Relaxed);
        Sample {
            second,
            phase: run.phase(),
            anonymous_bytes: anonymous_bytes(),
            used_bytes: statistics.memory.used_bytes,
            room_bytes: statistics.memory.page_room_bytes,
            queue_bytes: statistics.memory.commit_queue_bytes,
            descriptors,
            threads: status("Threads:"),
            files,
            disk_bytes,
            commits: statistics.writes.commits,
            stalls: statistics
                .stalls
                .map(|stall| (stall.time.as_secs_f64(), stall.count)),
            commit_seconds: commit_ns as f64 / 1e9,
        }
    }
}
