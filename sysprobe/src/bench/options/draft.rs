//! A job while it is being described: what options said, before what depends on others is settled.

use super::super::job::JobOptions;
use super::super::settings::Place;
use super::super::values::{
    BlockRange, BufferContent, DatabaseOptions, Distribution, JobEngine, PerDirection,
};
use super::report::ReportOptions;
use crate::io::EngineName;

/// What is known of a job so far. A global section is one too: its jobs begin as copies of it.
#[derive(Clone, Debug)]
pub struct Draft<'a> {
    /// The job.
    pub(super) job: JobOptions,
    /// How it is printed.
    pub(super) report: ReportOptions,
    /// `bs`, which `bsrange` overrules wherever it stands.
    pub(super) block_size: PerDirection<u64>,
    /// `bsrange`.
    pub(super) block_range: PerDirection<Option<BlockRange>>,
    /// `buffer_pattern`, which overrules `zero_buffers`.
    pub(super) pattern: Option<Vec<u8>>,
    /// `zero_buffers`.
    pub(super) zero_buffers: bool,
    /// Engines that are not made of blocks.
    pub(super) workloads: &'a [&'a str],
    /// Names of the options of this section itself.
    own: Vec<String>,
}

impl<'a> Draft<'a> {
    /// fio's defaults; `workloads` are the engines that are not made of blocks.
    pub fn new(workloads: &'a [&'a str]) -> Self {
        Draft {
            job: JobOptions::default(),
            report: ReportOptions::default(),
            block_size: PerDirection::both(4096),
            block_range: PerDirection::both(None),
            pattern: None,
            zero_buffers: false,
            workloads,
            own: Vec::new(),
        }
    }

    /// A job that begins with what this one says.
    pub fn job_named(&self, name: &str) -> Self {
        let mut draft = self.clone();
        name.clone_into(&mut draft.job.name);
        draft.job.options_given.clear();
        draft.own.clear();
        draft
    }

    /// The options that were given, as they are reported: those with a value.
    pub fn options_given(&self) -> &[(String, String)] {
        &self.job.options_given
    }

    pub(super) fn given(&mut self, name: &str, value: Option<&str>) {
        self.own.push(name.to_owned());
        if let Some(value) = value {
            let pair = (name.to_owned(), value.to_owned());
            self.job.options_given.push(pair);
        }
    }

    fn is_own(&self, name: &str) -> bool {
        self.own.iter().any(|own| own == name)
    }

    /// The job, when all its options are known. What fio mends with a message is added to `warnings`.
    ///
    /// # Errors
    ///
    /// Says which options don't fit together.
    pub fn finish(
        mut self,
        place: &Place,
        warnings: &mut Vec<String>,
    ) -> Result<(JobOptions, ReportOptions), String> {
        self.settle_blocks();
        self.settle_buffers();
        self.check_engine()?;
        let name = self.job.name.clone();
        let mut warn = |text: &str| warnings.push(format!("{place}: job '{name}': {text}"));
        let job = &mut self.job;
        if job.random_distribution != Distribution::Random {
            job.norandommap = true;
        }
        let is_aligned = |align: Option<u64>, least| align.is_none_or(|align| align == least);
        if !job.rw.is_random() {
            job.block_align_bytes = PerDirection::both(None);
        }
        let (align, blocks) = (&job.block_align_bytes, &job.block_sizes);
        let is_aligned = is_aligned(align.read, blocks.read.least_bytes)
            && is_aligned(align.write, blocks.write.least_bytes);
        if !is_aligned && !job.norandommap {
            job.norandommap = true;
            warn("blockalign turns norandommap on");
        }
        if job.time_based && job.runtime.is_none() {
            job.time_based = false;
            warn("time_based does nothing without runtime");
        }
        if let JobEngine::Io(engine) = &job.ioengine
            && engine.is_synchronous()
            && job.iodepth > 1
        {
            let engine = engine.name();
            warn(&format!(
                "ioengine={engine} has one I/O under way at a time, whatever iodepth is"
            ));
        }
        check_numbers(&self.job)?;
        Ok((self.job, self.report))
    }

    fn settle_blocks(&mut self) {
        let sizes = |range: Option<BlockRange>, size| range.unwrap_or(BlockRange::fixed(size));
        self.job.block_sizes = PerDirection {
            read: sizes(self.block_range.read, self.block_size.read),
            write: sizes(self.block_range.write, self.block_size.write),
        };
    }

    fn settle_buffers(&mut self) {
        if let Some(pattern) = self.pattern.take() {
            self.job.buffer_content = BufferContent::Pattern(pattern);
            self.job.scramble_buffers = false;
        } else if self.zero_buffers {
            self.job.buffer_content = BufferContent::Zeros;
            self.job.scramble_buffers &= self.is_own("scramble_buffers");
        }
    }

    /// Options that belong to one engine are refused in a job of another; from a global section they don't reach it, as
    /// in fio.
    fn check_engine(&mut self) -> Result<(), String> {
        let (is_uring, is_pvsync2) = match &self.job.ioengine {
            JobEngine::Io(engine) => (
                *engine == EngineName::IoUring,
                *engine == EngineName::Pvsync2,
            ),
            JobEngine::Workload(_) => (false, false),
        };
        for (names, engines, fits) in [
            (
                &[
                    "fixedbufs",
                    "registerfiles",
                    "sqthread_poll",
                    "sqthread_poll_cpu",
                ][..],
                "io_uring",
                is_uring,
            ),
            (
                &["hipri"][..],
                "io_uring and pvsync2",
                is_uring || is_pvsync2,
            ),
            (
                &["workload", "records", "value_size", "scan_length", "batch"][..],
                "moonshine",
                matches!(self.job.ioengine, JobEngine::Workload(_)),
            ),
        ] {
            if !fits && let Some(name) = names.iter().find(|name| self.is_own(name)) {
                return Err(format!("{name} is an option of ioengine={engines} alone"));
            }
        }
        let job = &mut self.job;
        if !is_uring {
            job.fixedbufs = false;
            job.registerfiles = false;
            job.sqthread_poll = false;
            job.sqthread_poll_cpu = None;
        }
        job.hipri &= is_uring || is_pvsync2;
        if !matches!(job.ioengine, JobEngine::Workload(_)) {
            job.database = DatabaseOptions::default();
        }
        Ok(())
    }
}

fn check_numbers(job: &JobOptions) -> Result<(), String> {
    let has = |limit: &PerDirection<Option<u64>>| limit.read.is_some() || limit.write.is_some();
    if has(&job.rate_bytes_per_s) && has(&job.rate_iops) {
        return Err("rate and rate_iops exclude each other".to_owned());
    }
    let least = [
        (job.rw.reads(), job.block_sizes.read),
        (job.rw.writes(), job.block_sizes.write),
    ];
    let least = least.iter().filter(|(does, _)| *does);
    let least = least.map(|(_, block)| block.least_bytes).min();
    if let (Some(super::super::values::Extent::Bytes(size)), Some(least)) = (job.size, least)
        && size < least
        && matches!(job.ioengine, JobEngine::Io(_))
    {
        return Err(format!(
            "size={size} is less than the smallest block, {least}"
        ));
    }
    Ok(())
}
