//! The fio-style harness: jobs in, statistics out.
//!
//! A [`JobOptions`] says what one job does; the parser of job files and of flags fills it. [`run_jobs`] lays out the
//! files, starts `numjobs` threads a job, in order of `stonewall` and `startdelay`, and gives back a [`RunReport`] with a
//! [`JobStats`] for each thread; [`JobStats::add`] joins those of a group. Each thread draws offsets, hands them to an
//! [engine](crate::io) and keeps its statistics to itself until it ends; only a few counters are shared meanwhile, which
//! [`RunControl::snapshot`] reads for a progress line. A job whose engine is not made of blocks is a [`Workload`], which
//! runs under the same limits and is counted the same way.

pub mod arguments;
mod block_loop;
mod content;
mod disk_util;
mod distribution;
mod error;
mod failure;
mod job;
pub mod jobfile;
mod layout;
mod limits;
mod offsets;
pub mod options;
pub mod output;
mod plan;
pub mod progress;
mod progress_counters;
mod queue;
mod random;
mod random_map;
mod rate;
mod recorder;
mod run;
mod schedule;
pub mod settings;
mod stats;
mod thread;
pub mod units;
mod values;
mod workload;
mod workload_loop;

pub use error::BenchError;
pub use job::{JobOptions, PERCENTILES_DEFAULT};
pub use plan::{Plan, Planner};
pub use progress_counters::{RunControl, Snapshot, ThreadSnapshot, ThreadState};
pub use run::{RunObserver, run_jobs};
pub use stats::{
    DEPTH_CLASSES, DepthShares, DirectionStats, DiskUtil, JobStats, LATENCY_CLASSES_MS,
    LATENCY_CLASSES_NS, LATENCY_CLASSES_US, LatencyShares, RunReport, SampleStats, SyncStats,
};
pub use values::{
    BlockRange, BufferContent, DatabaseOptions, DatabaseWorkload, Direction, Distribution, Extent,
    FadviseHint, Fallocate, JobEngine, PerDirection, Rw, StartDelay, SyncMode,
};
pub use workload::{OperationDone, Workload, WorkloadFactory};

#[cfg(test)]
mod run_tests;
