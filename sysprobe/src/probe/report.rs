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
use crate::probe::derive::{Probed, Synced, THREADS_FOR_BLOCK_SIZE, cpu_window, probe};
use crate::probe::device::{Device, Load, Operation, Pattern};
use crate::probe::disk::{Disk, IoMode, Medium};
use crate::probe::drift::Drift;
use crate::probe::knee::{Estimate, Knee, Point};
use crate::probe::sweep::{Axis, Varies};
use crate::profile::Profile;
use crate::profile_file::ProfileFile;

/// A whole probe.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The two numbers.
    pub profile: Profile,
    /// Threads that the device needs for its greatest bandwidth.
    pub io_threads: u64,
    /// Most bytes that may share a commit for little more than the smallest one costs.
    pub commit_batch_bytes: Option<u64>,
    /// What to keep in mind about the numbers.
    pub findings: Vec<Finding>,
    /// The folder that was measured.
    pub folder: PathBuf,
    /// Whether the page cache stood between.
    pub io_mode: IoMode,
    /// What lies under the folder.
    pub medium: Medium,
    /// Size of the temporary file.
    pub file_size_bytes: u64,
    /// The machine.
    pub machine: Machine,
    /// RFC 3339, UTC.
    pub measured_at: String,
    /// How it was measured, in words.
    pub method: String,
    /// How long it took.
    pub duration_s: f64,
    /// Bandwidths and latencies along each axis.
    pub curves: Vec<CurveReport>,
    /// Synced writes.
    pub synced: Vec<Synced>,
    /// The cores.
    pub cpu: Vec<CpuSpeed>,
}

/// Something that limits what the numbers mean.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Finding {
    /// `O_DIRECT` was refused; the page cache was measured along with the device.
    Buffered,
    /// There is no device: the folder lies in memory.
    InMemory,
    /// The file system is a network's or FUSE; its server's state is part of the numbers.
    Remote,
    /// The device did not keep its speed.
    Unsteady {
        /// What it did.
        drift: Drift,
    },
    /// The time ran out before every point was decided.
    OutOfTime,
    /// The temporary file is smaller than asked for, since writing it took too long.
    SmallFile,
}

/// One axis.
#[derive(Clone, Debug, Serialize)]
pub struct CurveReport {
    /// What varies.
    pub varies: Varies,
    /// Reading or writing.
    pub operation: Operation,
    /// Where the I/Os go.
    pub pattern: Pattern,
    /// The knee of the bandwidth.
    pub knee: Option<Knee>,
    /// Each setting.
    pub points: Vec<PointReport>,
}

/// One setting of an axis.
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

/// Measures the device under `folder`, and the cores. Nothing is left in the folder, however the process ends.
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
    let measured_at =
        DateTime::<Utc>::from(SystemTime::now()).to_rfc3339_opts(SecondsFormat::Secs, true);
    let cpu = cpu_speeds(cpu_window(budget));
    let disk = Disk::open(folder, budget.file_size_bytes, budget.fill_time())?;
    // The disk's clock began when its file was made.
    let rest = Budget {
        duration: budget
            .duration
            .saturating_sub(begun.elapsed().saturating_sub(disk.now())),
        ..*budget
    };
    let probed = probe(&disk, &rest)?.ok_or_else(|| ProbeError::TooSlow {
        folder: folder.to_owned(),
        budget_s: budget.duration.as_secs(),
    })?;
    Ok(Report {
        profile: Profile::measured(probed.s_size_bytes, probed.io_threads, cores()),
        io_threads: probed.io_threads,
        commit_batch_bytes: probed.commit_batch_bytes(),
        findings: findings(&disk, &probed, budget),
        folder: folder.to_owned(),
        io_mode: disk.io_mode(),
        medium: disk.medium(),
        file_size_bytes: disk.filled_bytes(),
        machine: Machine::this(),
        measured_at,
        method: method(&disk, budget),
        duration_s: begun.elapsed().as_secs_f64(),
        curves: probed.axes.iter().map(curve_report).collect(),
        synced: probed.synced,
        cpu,
    })
}

impl Report {
    /// The profile as a file.
    pub fn profile_file(&self) -> ProfileFile {
        ProfileFile::new(&self.profile, self.measured_at.clone(), self.method.clone())
    }
}

fn method(disk: &Disk, budget: &Budget) -> String {
    let mode = match disk.io_mode() {
        IoMode::Direct => "O_DIRECT",
        IoMode::Buffered => "the page cache (O_DIRECT refused)",
    };
    format!(
        "knee at 95 % of the greatest median bandwidth; random pread and pwrite by threads through {mode}; block size by \
         {THREADS_FOR_BLOCK_SIZE} threads; windows of {} ms, {} to {} rounds; file of {} MiB",
        budget.window.as_millis(),
        budget.rounds_min,
        budget.rounds_max,
        disk.filled_bytes() >> 20
    )
}

fn findings(disk: &Disk, probed: &Probed, budget: &Budget) -> Vec<Finding> {
    let mut findings = Vec::new();
    match disk.medium() {
        Medium::Memory => findings.push(Finding::InMemory),
        Medium::Remote => findings.push(Finding::Remote),
        Medium::Local => {}
    }
    if disk.io_mode() == IoMode::Buffered {
        findings.push(Finding::Buffered);
    }
    findings.extend(probed.drift.map(|drift| Finding::Unsteady { drift }));
    if probed.out_of_time {
        findings.push(Finding::OutOfTime);
    }
    if disk.filled_bytes() < budget.file_size_bytes {
        findings.push(Finding::SmallFile);
    }
    findings
}

fn curve_report(axis: &Axis) -> CurveReport {
    let points = axis.curve.points.iter().zip(&axis.latencies);
    let report = |(point, latencies): (&Point, &Histogram)| {
        let load = axis.load_at(point.setting);
        let bytes_per_second = point.estimate()?;
        Some(PointReport {
            load,
            bytes_per_second,
            iops: bytes_per_second.median / load.block_size_bytes as f64,
            latency: latencies.latency(),
            measurements: point.samples.len(),
        })
    };
    CurveReport {
        varies: axis.varies,
        operation: axis.load.operation,
        pattern: axis.load.pattern,
        knee: axis.curve.knee(),
        points: points.filter_map(report).collect(),
    }
}
