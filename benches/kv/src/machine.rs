//! Facts about the machine and its disk that stand beside the results.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::data::ROW_SIZE_BYTES;
use crate::kv::Result;
use crate::measure::number_in;
use crate::settings::BATCH_ROWS;

/// What the results depend on beside the engines.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_mib: u64,
    pub(crate) kernel: String,
    pub(crate) file_system: String,
    /// Load averages when the run began and when it ended: whether others used the machine.
    pub(crate) load_before: String,
    pub(crate) load_after: String,
    /// Appends of 4 KiB, each made durable, one after the other: the most a single writer can commit.
    pub(crate) durable_appends_per_s: f64,
    /// The same into a file that was written before: no new size or extent has to go through the file system's journal,
    /// which on a busy disk waits for everybody's writes.
    #[serde(default)]
    pub(crate) durable_overwrites_per_s: f64,
    /// Appends of 1 MiB, each made durable.
    pub(crate) durable_mib_per_s: f64,
    /// Appends of a batch of rows, each made durable, and the same into a file that was written before.
    #[serde(default)]
    pub(crate) durable_batch_appends_per_s: f64,
    #[serde(default)]
    pub(crate) durable_batch_overwrites_per_s: f64,
    /// Names and versions of the engines, from the lock file.
    pub(crate) engines: Vec<String>,
}

/// Crates in the lock file that are engines.
const ENGINE_CRATES: [&str; 7] = [
    "fjall",
    "heed",
    "lmdb-master-sys",
    "moonshine-engine",
    "redb",
    "librocksdb-sys",
    "sled",
];

pub(crate) fn machine(folder: &Path) -> Result<Machine> {
    let uname = rustix::system::uname();
    let cpu_info = std::fs::read_to_string("/proc/cpuinfo")?;
    let cpu = cpu_info
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or_default();
    let batch_size_bytes = BATCH_ROWS * usize::try_from(ROW_SIZE_BYTES)?;
    Ok(Machine {
        cpu: cpu.trim_start_matches([' ', '\t', ':']).to_owned(),
        cores: std::thread::available_parallelism()?.get(),
        memory_mib: number_in("/proc/meminfo", "MemTotal:")? / 1024,
        kernel: format!(
            "{} {}",
            uname.sysname().to_string_lossy(),
            uname.release().to_string_lossy()
        ),
        file_system: file_system(folder)?,
        load_before: load()?,
        load_after: String::new(),
        durable_appends_per_s: durable_writes(folder, 4 << 10, 256, false)?,
        durable_overwrites_per_s: durable_writes(folder, 4 << 10, 256, true)?,
        durable_mib_per_s: durable_writes(folder, 1 << 20, 64, false)?,
        durable_batch_appends_per_s: durable_writes(folder, batch_size_bytes, 128, false)?,
        durable_batch_overwrites_per_s: durable_writes(folder, batch_size_bytes, 128, true)?,
        engines: engine_versions(),
    })
}

pub(crate) fn load() -> Result<String> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    Ok(text
        .split_whitespace()
        .take(3)
        .collect::<Vec<_>>()
        .join(" "))
}

/// The type of the file system that a folder is on: the mount whose path is the longest start of the folder's.
fn file_system(folder: &Path) -> Result<String> {
    let folder = folder.canonicalize()?;
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let fields = mounts
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mount = fields
        .filter(|fields| fields.get(1).is_some_and(|at| folder.starts_with(at)))
        .max_by_key(|fields| fields.get(1).map_or(0, |at| at.len()));
    Ok(mount
        .and_then(|fields| fields.get(2).map(|kind| (*kind).to_owned()))
        .unwrap_or_default())
}

/// How many writes of a size, one after the other in a file, this folder's disk makes durable in a second.
fn durable_writes(
    folder: &Path,
    size_bytes: usize,
    count: u64,
    written_before: bool,
) -> Result<f64> {
    let path = folder.join("probe");
    let file = File::create(&path)?;
    let block = vec![0x5a; size_bytes];
    let write = |i: u64| file.write_all_at(&block, i * size_bytes as u64);
    if written_before {
        (0..count).try_for_each(write)?;
        file.sync_all()?;
    }
    let started = Instant::now();
    for i in 0..count {
        write(i)?;
        file.sync_data()?;
    }
    let elapsed_s = started.elapsed().as_secs_f64();
    std::fs::remove_file(&path)?;
    Ok(count as f64 / elapsed_s)
}

fn engine_versions() -> Vec<String> {
    let mut versions = Vec::new();
    let mut lines = include_str!("../Cargo.lock").lines();
    while let Some(line) = lines.next() {
        let field = |line: &str, label: &str| {
            line.strip_prefix(label)
                .map(|value| value.trim_matches(['"', ' ']).to_owned())
        };
        if let Some(name) = field(line, "name = ")
            && ENGINE_CRATES.contains(&name.as_str())
            && let Some(version) = lines.next().and_then(|line| field(line, "version = "))
        {
            // Of Moonshine what was built says more than its version.
            let commit = option_env!("MOONSHINE_COMMIT").filter(|_| name == "moonshine-engine");
            let commit = commit.map_or(String::new(), |commit| format!(" (commit {commit})"));
            versions.push(format!("{name} {version}{commit}"));
        }
    }
    versions
}
