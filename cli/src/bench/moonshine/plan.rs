//! What a job's options mean for a database, and which of them mean nothing.

use std::path::{Path, PathBuf};

use moonshine_sysprobe::bench::ycsb::{
    Mix, Operation, Random, RecordChooser, Requests, ScanLength,
};
use moonshine_sysprobe::bench::{
    BufferContent, DatabaseWorkload, Distribution, Extent, JobOptions, Rw, SyncMode,
};

use super::record::{KEY_SIZE_BYTES_MIN, VALUE_SIZE_BYTES_MIN};

/// Longest key and value: far beyond what is useful, far below what the engine refuses.
const RECORD_SIZE_BYTES_MAX: u64 = 64 << 20;

/// Which records operations take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Choice {
    /// As YCSB says.
    Ycsb(Requests),
    /// As `random_distribution` says.
    Distribution(Distribution),
}

/// A job of the database, checked.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) mix: Mix,
    pub(super) choice: Choice,
    pub(super) scan_length: ScanLength,
    pub(super) records: u64,
    pub(super) key_size: usize,
    pub(super) value_size: usize,
    pub(super) content: BufferContent,
    /// Rows of a put or an insert.
    pub(super) batch: u64,
    /// Share of reads that ask for a key that is not there.
    pub(super) miss: f64,
    /// Whether a write waits until it is durable.
    pub(super) waits: bool,
    pub(super) memory_budget_bytes: Option<u64>,
}

impl Plan {
    /// The plan of a job.
    ///
    /// # Errors
    /// Names the option that is out of its range or that a database has no use for.
    pub(super) fn of(job: &JobOptions) -> Result<Self, String> {
        if let Some(option) = useless(job) {
            return Err(format!("{option} means nothing to ioengine=moonshine"));
        }
        let options = &job.database;
        let workload = options.workload;
        let mix = workload.mix(job.rwmix_read_percent);
        check_mix(job, &mix)?;
        let bs_bytes = job.block_sizes.write.most_bytes;
        let value_size_bytes = options.effective_value_size_bytes(bs_bytes);
        let key_size = size("key_size", options.key_size_bytes, KEY_SIZE_BYTES_MIN)?;
        let value_size = size("value_size", value_size_bytes, VALUE_SIZE_BYTES_MIN)?;
        Ok(Plan {
            mix,
            choice: match workload.requests() {
                Some(requests) => Choice::Ycsb(requests),
                None => Choice::Distribution(job.random_distribution),
            },
            scan_length: workload.scan_length(options.scan_rows_max),
            records: options.records,
            key_size,
            value_size,
            content: job.buffer_content.clone(),
            batch: options.batch,
            miss: f64::from(options.miss_percent) / 100.0,
            waits: job.sync != SyncMode::None,
            memory_budget_bytes: options.memory_budget_bytes,
        })
    }

    /// What chooses the records of a thread.
    pub(super) fn chooser(&self, records: u64, random: &mut Random) -> RecordChooser {
        match self.choice {
            Choice::Ycsb(requests) => RecordChooser::ycsb(requests),
            Choice::Distribution(distribution) => RecordChooser::of(distribution, records, random),
        }
    }
}

/// The folder of a job's database: `filename` or the job's name, in `directory`.
///
/// # Errors
/// Names the option that does not name one folder, or the folder above that is not there.
pub(super) fn folder(job: &JobOptions) -> Result<PathBuf, String> {
    let name = match job.filenames.as_slice() {
        [] => PathBuf::from(job.name.replace('/', "_")),
        [name] => name.clone(),
        _ => return Err("filename: ioengine=moonshine takes one database".into()),
    };
    let directory = job.directory.as_deref().unwrap_or(Path::new("."));
    let path = directory.join(name);
    let file_name = path
        .file_name()
        .ok_or_else(|| format!("filename: {} names no folder", path.display()))?;
    let parent = path.parent().filter(|path| !path.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    // Two jobs that name one database in two ways share it.
    let parent = parent
        .canonicalize()
        .map_err(|error| format!("directory: {}: {error}", parent.display()))?;
    Ok(parent.join(file_name))
}

/// An option that was set and that is of blocks in files.
fn useless(job: &JobOptions) -> Option<&'static str> {
    let default = JobOptions::default();
    let bs = job.block_sizes;
    let takes_bs = job.database.value_size_bytes.is_none() && !job.database.workload.is_ycsb();
    let options = [
        (job.direct, "direct"),
        (job.nrfiles != 1, "nrfiles"),
        (job.filesize_bytes.is_some(), "filesize"),
        (
            job.filename_format != default.filename_format,
            "filename_format",
        ),
        (job.offset != Extent::Bytes(0), "offset"),
        (job.offset_increment.is_some(), "offset_increment"),
        (job.overwrite, "overwrite"),
        (job.fallocate != default.fallocate, "fallocate"),
        (job.fadvise_hint != default.fadvise_hint, "fadvise_hint"),
        (!job.invalidate, "invalidate"),
        (
            job.rw != Rw::Read,
            "rw (workload says what is read and written)",
        ),
        (bs.read != bs.write, "bs for reads alone"),
        (bs.write.least_bytes != bs.write.most_bytes, "bsrange"),
        (
            !takes_bs && bs != default.block_sizes,
            "bs, with YCSB or beside value_size,",
        ),
        (
            job.block_align_bytes != default.block_align_bytes,
            "blockalign",
        ),
        (job.fixedbufs, "fixedbufs"),
        (job.registerfiles, "registerfiles"),
        (job.sqthread_poll, "sqthread_poll"),
        (job.sqthread_poll_cpu.is_some(), "sqthread_poll_cpu"),
        (job.hipri, "hipri"),
        (job.refill_buffers, "refill_buffers"),
        (!job.scramble_buffers, "scramble_buffers"),
    ];
    options
        .into_iter()
        .find_map(|(is_set, option)| is_set.then_some(option))
}

/// Checks the options that only some workloads take.
fn check_mix(job: &JobOptions, mix: &Mix) -> Result<(), String> {
    let (options, default) = (&job.database, JobOptions::default());
    let workload = options.workload;
    let takes = |takes: bool, option: &str| {
        if takes {
            Ok(())
        } else {
            let name = options.workload_name();
            Err(format!("{option} means nothing to workload={name}"))
        }
    };
    takes(
        workload == DatabaseWorkload::Mixed || job.rwmix_read_percent == default.rwmix_read_percent,
        "rwmixread",
    )?;
    takes(
        options.scan_rows_max == default.database.scan_rows_max || mix.has(Operation::Scan),
        "scan_length",
    )?;
    takes(
        options.miss_percent == 0 || mix.has(Operation::Read) && !workload.is_ycsb(),
        "miss",
    )?;
    let writes = mix.has(Operation::Update) || mix.has(Operation::Insert);
    takes(options.batch == 1 || writes && !workload.is_ycsb(), "batch")?;
    let chooses = workload.requests().is_none() && workload != DatabaseWorkload::Insert;
    takes(
        job.random_distribution == Distribution::Random || chooses,
        "random_distribution",
    )?;
    if options.scan_rows_max == 0 || options.batch == 0 {
        return Err("scan_length and batch are at least 1".into());
    }
    if options.miss_percent > 100 {
        return Err("miss is at most 100 percent".into());
    }
    if options.records == 0 && workload != DatabaseWorkload::Insert {
        return Err(
            "records=0 leaves nothing to read or replace; only workload=insert takes it".into(),
        );
    }
    Ok(())
}

fn size(option: &str, bytes: u64, least: u64) -> Result<usize, String> {
    if !(least..=RECORD_SIZE_BYTES_MAX).contains(&bytes) {
        return Err(format!(
            "{option}={bytes} is not between {least} and {RECORD_SIZE_BYTES_MAX}"
        ));
    }
    usize::try_from(bytes).map_err(|_| format!("{option}={bytes} is too large for this machine"))
}
