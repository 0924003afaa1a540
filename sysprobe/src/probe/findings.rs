//! What limits what the numbers of a report mean.

use std::fmt;

use serde::Serialize;

use crate::probe::budget::Budget;
use crate::probe::derive::{Probed, Quantity, Uncertain};
use crate::probe::disk::{Access, Disk, IoMode, Medium};
use crate::probe::drift::Drift;

/// Something that limits what the numbers mean.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Finding {
    /// There is no device: the folder lies in memory.
    InMemory,
    /// The file system is a network's or FUSE; its server's state is part of the numbers.
    Remote,
    /// `O_DIRECT` was refused; the page cache was measured along with the device.
    Buffered,
    /// Asynchronous I/O was not measured.
    NoQueue {
        /// Why.
        reason: String,
    },
    /// Nothing was written, so writing and commits were not measured.
    ReadOnly,
    /// Parts of the file that was read are not stored.
    Holes,
    /// The device did not keep its speed.
    Unsteady {
        /// What it did.
        drift: Drift,
    },
    /// The measurements do not decide a number.
    Undecided(Uncertain),
    /// The temporary file is smaller than asked for, since writing it took too long.
    SmallFile {
        /// Its size.
        file_size_bytes: u64,
    },
    /// The time ended before all points of the grid were measured.
    PartialGrid {
        /// How many were.
        measured: usize,
        /// Of how many.
        planned: usize,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::InMemory => out.write_str(
                "the folder lies in memory: there is no device below it, so memory and system calls were measured",
            ),
            Finding::Remote => out.write_str(
                "the file system is a network's or FUSE: the state of its server is part of the numbers",
            ),
            Finding::Buffered => out.write_str(
                "the file system refuses O_DIRECT: the page cache was measured along with the device, so the numbers are \
                 a guess",
            ),
            Finding::NoQueue { reason } => write!(
                out,
                "asynchronous I/O was not measured, S-Paral rests on threads alone: {reason}"
            ),
            Finding::ReadOnly => out.write_str(
                "nothing was written: writing and commits were not measured, and S-Size is that of reading",
            ),
            Finding::Holes => out.write_str(
                "parts of the file are not stored: reading them is no I/O, so the numbers are too good",
            ),
            Finding::Unsteady { drift } => unsteady(drift, out),
            Finding::Undecided(uncertain) => undecided(uncertain, out),
            Finding::SmallFile { file_size_bytes } => write!(
                out,
                "writing was slow, so the temporary file has only {} MiB and caches weigh more",
                file_size_bytes >> 20
            ),
            Finding::PartialGrid { measured, planned } => write!(
                out,
                "the time ended after {measured} of the grid's {planned} points; the profile does not rest on them"
            ),
        }
    }
}

fn unsteady(drift: &Drift, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    match drift {
        Drift::Throttled { after_s, share } => write!(
            out,
            "the device fell to {:.0} % of its speed after {after_s:.0} s: throttled, or a burst used up; the numbers are \
             of what it sustained, as far as that was measured",
            share * 100.0
        ),
        Drift::Slower { share } => write!(
            out,
            "the device ended at {:.0} % of the speed it began with; after a rest it may be faster again",
            share * 100.0
        ),
        Drift::Faster { share } => write!(
            out,
            "the device ended at {:.0} % of the speed it began with: a cache filled, or somebody else stopped using it",
            share * 100.0
        ),
        Drift::Scattered { ratio } => write!(
            out,
            "equal measurements differed {ratio:.1}-fold: the device or the cores are shared with something else"
        ),
    }
}

fn undecided(uncertain: &Uncertain, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Uncertain { low, high, .. } = uncertain;
    match uncertain.quantity {
        Quantity::SSize => write!(
            out,
            "the measurements do not decide S-Size: it lies between {} and {} KiB",
            low >> 10,
            high >> 10
        ),
        Quantity::IoThreads => write!(
            out,
            "the measurements do not decide how many threads the device needs: between {low} and {high}"
        ),
        Quantity::IoDepth => write!(
            out,
            "the measurements do not decide how deep a queue the device needs: between {low} and {high}"
        ),
    }
}

/// What is to be said of a probe.
pub(crate) fn findings(disk: &Disk, probed: &Probed, budget: &Budget) -> Vec<Finding> {
    let mut findings = Vec::new();
    match disk.medium() {
        Medium::Memory => findings.push(Finding::InMemory),
        Medium::Remote => findings.push(Finding::Remote),
        Medium::Local => {}
    }
    // In memory there is nothing that a page cache could hide.
    if disk.io_mode() == IoMode::Buffered && disk.medium() != Medium::Memory {
        findings.push(Finding::Buffered);
    }
    findings.extend(disk.queue_refused().map(|reason| Finding::NoQueue {
        reason: reason.into(),
    }));
    if disk.access() == Access::ReadOnly {
        findings.push(Finding::ReadOnly);
    } else if disk.size_bytes() < budget.file_size_bytes {
        findings.push(Finding::SmallFile {
            file_size_bytes: disk.size_bytes(),
        });
    }
    if disk.has_holes() {
        findings.push(Finding::Holes);
    }
    findings.extend(probed.drift.map(|drift| Finding::Unsteady { drift }));
    findings.extend(probed.uncertain.iter().copied().map(Finding::Undecided));
    if !probed.grid.left.is_empty() {
        findings.push(Finding::PartialGrid {
            measured: probed.grid.points.len(),
            planned: probed.grid.planned(),
        });
    }
    findings
}
