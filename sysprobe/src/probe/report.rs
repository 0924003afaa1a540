//! What a probe found, in a form to print or to keep.

use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use crate::error::ProbeError;
use crate::latency::{Histogram, Latency};
use crate::machine::Machine;
use crate::probe::budget::Budget;
use crate::probe::cpu::{CpuSpeed, cores, cpu_speeds};
use crate::probe::derive::{Synced, THREADS_FOR_BLOCK_SIZE, probe};
use crate::probe::device::{Device, Load};
use crate::probe::disk::{Access, Disk, IoMode, Medium};
use crate::probe::findings::{Finding, findings};
use crate::probe::grid::GridPoint;
use crate::probe::knee::{Estimate, Knee, Point};
use crate::probe::sweep::{Axis, Varies};
use crate::profile::Profile;
use crate::profile_file::ProfileFile;

/// A whole probe.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The two numbers.
    pub profile: Profile,
    /// Threads of synchronous I/O that the device needs for its greatest bandwidth.
    pub io_threads: u64,
    /// Depth of a queue of asynchronous I/O that it needs; `None` where io_uring is refused.
    pub io_depth: Option<u64>,
    /// Cores that this process may use.
    pub cores: usize,
    /// Most bytes that may share a commit for little more than the smallest one costs; `None` where nothing was written.
    pub commit_batch_bytes: Option<u64>,
    /// The smallest write and its `fdatasync`, the median in microseconds; `None` where nothing was written.
    pub fdatasync_us: Option<f64>,
    /// What to keep in mind about the numbers.
    pub findings: Vec<Finding>,
    /// The folder that was measured, or the file that was read.
    pub folder: PathBuf,
    /// Whether it was written to.
    pub access: Access,
    /// Whether the page cache stood between.
    pub io_mode: IoMode,
    /// What lies under the folder.
    pub medium: Medium,
    /// Size of the file that was measured.
    pub file_size_bytes: u64,
    /// The machine.
    pub machine: Machine,
    /// RFC 3339, UTC.
    pub measured_at: String,
    /// How it was measured, in words.
    pub method: String,
    /// How long it took.
    pub duration_s: f64,
    /// Bandwidths and latencies along the axes that decide, each point measured many times.
    pub curves: Vec<CurveReport>,
    /// All other points, each measured once.
    pub grid: Vec<PointReport>,
    /// Synced writes.
    pub synced: Vec<Synced>,
    /// The cores.
    pub cpu: Vec<CpuSpeed>,
}

/// One axis.
#[derive(Clone, Debug, Serialize)]
pub struct CurveReport {
    /// What varies.
    pub varies: Varies,
    /// The load; of what varies, the value here means nothing.
    pub load: Load,
    /// The knee of the bandwidth.
    pub knee: Option<Knee>,
    /// Each setting.
    pub points: Vec<PointReport>,
}

/// One load and what it came to.
#[derive(Clone, Debug, Serialize)]
pub struct PointReport {
    /// The load.
    #[serde(flatten)]
    pub load: Load,
    /// Bandwidth.
    pub bytes_per_second: Estimate,
    /// I/Os a second at the median bandwidth.
    pub iops: f64,
    /// Times of single I/Os.
    pub latency: Option<Latency>,
    /// How often it was measured.
    pub measurements: usize,
}

/// Measures the device under `folder`, and the cores. [`disk_use`](crate::disk::disk_use) says beforehand what that takes;
/// nothing is left in the folder, however the process ends.
///
/// # Errors
/// [`ProbeError`], by what should be done.
///
/// ```no_run
/// use moonshine_sysprobe::{Budget, measure};
/// let report = measure("data".as_ref(), &Budget::quick())?;
/// println!("S-Size {} bytes, S-Paral {}", report.profile.s_size_bytes, report.profile.s_paral);
/// # Ok::<(), moonshine_sysprobe::ProbeError>(())
/// ```
pub fn measure(folder: &Path, budget: &Budget) -> Result<Report, ProbeError> {
    let begun = Instant::now();
    report(Disk::open(folder, budget)?, budget, begun)
}

/// Measures reading alone: of a file, a block device, or the largest file that lies directly in a folder. Nothing is
/// written, so the report has no numbers of writing.
///
/// # Errors
/// [`ProbeError`], by what should be done.
pub fn measure_read_only(path: &Path, budget: &Budget) -> Result<Report, ProbeError> {
    let begun = Instant::now();
    report(Disk::open_read_only(path)?, budget, begun)
}

fn report(disk: Disk, budget: &Budget, begun: Instant) -> Result<Report, ProbeError> {
    let measured_at =
        DateTime::<Utc>::from(SystemTime::now()).to_rfc3339_opts(SecondsFormat::Secs, true);
    let cpu = cpu_speeds(budget.cpu_window());
    // The disk's clock began when its file was made, so what filling it and the cores took is part of the budget.
    let probed = probe(&disk, budget)?.ok_or_else(|| ProbeError::TooSlow {
        path: disk.path().to_owned(),
        budget_s: budget.duration.as_secs(),
    })?;
    let in_flight = probed.io_threads.max(probed.io_depth.unwrap_or(0));
    let grid = probed.grid.points.iter().filter_map(grid_report);
    Ok(Report {
        profile: Profile::measured(probed.s_size_bytes, in_flight, cores()),
        io_threads: probed.io_threads,
        io_depth: probed.io_depth,
        cores: cores(),
        commit_batch_bytes: probed.commit_batch_bytes(),
        fdatasync_us: probed.fdatasync_us(),
        findings: findings(&disk, &probed, budget),
        folder: disk.path().to_owned(),
        access: disk.access(),
        io_mode: disk.io_mode(),
        medium: disk.medium(),
        file_size_bytes: disk.size_bytes(),
        machine: Machine::this(),
        measured_at,
        method: method(&disk, budget),
        duration_s: begun.elapsed().as_secs_f64(),
        curves: probed.axes.iter().map(curve_report).collect(),
        grid: grid.collect(),
        synced: probed.synced,
        cpu,
    })
}

impl Report {
    /// The profile as a file.
    pub fn profile_file(&self) -> ProfileFile {
        ProfileFile::new(self)
    }
}

fn method(disk: &Disk, budget: &Budget) -> String {
    let mode = match (disk.io_mode(), disk.medium()) {
        (IoMode::Direct, _) => "with O_DIRECT",
        (IoMode::Buffered, Medium::Memory) => "in memory",
        (IoMode::Buffered, _) => "through the page cache, since O_DIRECT was refused",
    };
    let file = match disk.access() {
        Access::ReadWrite => "temporary file",
        Access::ReadOnly => "existing file, read only,",
    };
    let queue = if disk.queues() {
        ", and by a queue of io_uring"
    } else {
        ""
    };
    format!(
        "smallest setting at 95 % of the greatest bandwidth, by the saturation curve that fits the 90th percentiles; random I/O \
         by threads{queue}, {mode}; block size by {THREADS_FOR_BLOCK_SIZE} threads; windows of {} ms, {} to {} rounds; {file} \
         of {} MiB",
        budget.window.as_millis(),
        budget.rounds_min,
        budget.rounds_max,
        disk.size_bytes() >> 20
    )
}

fn curve_report(axis: &Axis) -> CurveReport {
    let points = axis.curve.points.iter().zip(&axis.latencies);
    let points = points.filter_map(|(point, latencies)| {
        point_report(axis.load_at(point.setting), point, latencies)
    });
    CurveReport {
        varies: axis.varies,
        load: axis.load,
        knee: axis.curve.knee(),
        points: points.collect(),
    }
}

fn grid_report(point: &GridPoint) -> Option<PointReport> {
    let measured = Point {
        setting: 0,
        samples: vec![point.measurement.bytes_per_second],
    };
    point_report(point.load, &measured, &point.measurement.latencies)
}

fn point_report(load: Load, point: &Point, latencies: &Histogram) -> Option<PointReport> {
    let bytes_per_second = point.estimate()?;
    Some(PointReport {
        load,
        bytes_per_second,
        iops: bytes_per_second.median / load.block_size_bytes as f64,
        latency: latencies.latency(),
        measurements: point.samples.len(),
    })
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
