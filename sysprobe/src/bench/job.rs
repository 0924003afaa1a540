//! One job: all options, with fio's defaults.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::values::{
    BlockRange, BufferContent, DatabaseOptions, Distribution, Extent, FadviseHint, Fallocate,
    JobEngine, PerDirection, Rw, StartDelay, SyncMode,
};
use crate::io::EngineName;

/// The percentiles that are reported where a job names none.
pub const PERCENTILES_DEFAULT: [f64; 17] = [
    1.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95,
    99.99,
];

/// What one job of a job file does. The fields are named as fio's options where a name tells enough; units are in the
/// names that need one.
///
/// ```
/// use moonshine_sysprobe::bench::{JobOptions, Rw};
/// let job = JobOptions { name: "log".into(), rw: Rw::Write, fdatasync: 1, ..JobOptions::default() };
/// assert_eq!(job.block_sizes.write.most_bytes, 4096);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JobOptions {
    /// The section's name.
    pub name: String,
    /// What was given for this job, as it was written; not what comes from `[global]`.
    pub options_given: Vec<(String, String)>,

    /// `directory`: where files without a path lie.
    pub directory: Option<PathBuf>,
    /// `filename`, split at colons; files named after the job where empty.
    pub filenames: Vec<PathBuf>,
    /// `nrfiles`: how many files named after the job each thread has.
    pub nrfiles: usize,
    /// `filename_format`: names of files where no `filename` is given; `$jobname`, `$jobnum` (the thread's number within
    /// the job) and `$filenum` are replaced.
    pub filename_format: String,
    /// `filesize`: size of each file; `size` over the files where `None`.
    pub filesize_bytes: Option<u64>,
    /// `size`: bytes of all files of a thread, and how much is read or written once over. The size of the files that are
    /// there where `None`.
    pub size: Option<Extent>,
    /// `io_size`: bytes to read and write where that is not `size`.
    pub io_size: Option<Extent>,
    /// `number_ios`: ends a thread after that many I/Os.
    pub number_ios: Option<u64>,
    /// `offset`: where in each file the job begins.
    pub offset: Extent,
    /// `offset_increment`: each further thread of the job begins that much later.
    pub offset_increment: Option<Extent>,
    /// `fallocate`.
    pub fallocate: Fallocate,
    /// `overwrite`: writes the file before the job begins, so that the job overwrites blocks that are there.
    pub overwrite: bool,
    /// `unlink`: removes the job's files afterwards.
    pub unlink: bool,
    /// `invalidate`: drops the files' pages from the page cache before the job begins.
    pub invalidate: bool,
    /// `fadvise_hint`.
    pub fadvise_hint: FadviseHint,

    /// `rw`.
    pub rw: Rw,
    /// `rwmixread`, or what `rwmixwrite` leaves.
    pub rwmix_read_percent: u8,
    /// `bs` and `bsrange`.
    pub block_sizes: PerDirection<BlockRange>,
    /// `blockalign`: random offsets are multiples of this; of the smallest block where `None`.
    pub block_align_bytes: PerDirection<Option<u64>>,
    /// `random_distribution`.
    pub random_distribution: Distribution,
    /// `norandommap`: blocks are drawn without a look at which were done.
    pub norandommap: bool,
    /// `randrepeat`: each run draws the same.
    pub randrepeat: bool,
    /// `randseed`: draws by this seed.
    pub randseed: Option<u64>,

    /// `ioengine`.
    pub ioengine: JobEngine,
    /// `iodepth`: I/Os under way at once.
    pub iodepth: usize,
    /// `iodepth_batch`: I/Os that are submitted together.
    pub iodepth_batch_submit: usize,
    /// `iodepth_batch_complete_min`: completions that are waited for together.
    pub iodepth_batch_complete_min: usize,
    /// `iodepth_batch_complete_max`: most completions that are taken together; as many as
    /// `iodepth_batch_complete_min` where `None`.
    pub iodepth_batch_complete_max: Option<usize>,
    /// `iodepth_low`: a full queue drains to this before it is filled again; `iodepth` where `None`.
    pub iodepth_low: Option<usize>,
    /// `direct`: `O_DIRECT`.
    pub direct: bool,
    /// `sync`.
    pub sync: SyncMode,
    /// `fixedbufs`.
    pub fixedbufs: bool,
    /// `registerfiles`.
    pub registerfiles: bool,
    /// `sqthread_poll`.
    pub sqthread_poll: bool,
    /// `sqthread_poll_cpu`.
    pub sqthread_poll_cpu: Option<u32>,
    /// `hipri`.
    pub hipri: bool,

    /// `fsync`: one `fsync` after that many writes; never where 0.
    pub fsync: u64,
    /// `fdatasync`: one `fdatasync` after that many writes; never where 0.
    pub fdatasync: u64,
    /// `end_fsync`: one `fsync` of each file at the end.
    pub end_fsync: bool,

    /// `numjobs`: threads that do the same.
    pub numjobs: usize,
    /// `thread`: threads instead of processes. Jobs are always threads here.
    pub thread: bool,
    /// `runtime`: a thread ends after this time, counted without the ramp.
    pub runtime: Option<Duration>,
    /// `time_based`: begins again until the runtime is over.
    pub time_based: bool,
    /// `ramp_time`: time at the beginning that is not counted.
    pub ramp_time: Duration,
    /// `loops`: how often `size` is done.
    pub loops: u64,
    /// `startdelay`.
    pub startdelay: StartDelay,
    /// `stonewall` (`wait_for_previous`): begins when all jobs before have ended.
    pub stonewall: bool,
    /// `new_group`: begins a new reporting group.
    pub new_group: bool,
    /// `group_reporting`: one report for all threads of a group.
    pub group_reporting: bool,

    /// `rate`: most bytes a second.
    pub rate_bytes_per_s: PerDirection<Option<u64>>,
    /// `rate_iops`: most I/Os a second.
    pub rate_iops: PerDirection<Option<u64>>,
    /// `thinktime`: pause after each `thinktime_blocks` I/Os.
    pub thinktime: Duration,
    /// `thinktime_spin`: how much of the pause keeps the core busy.
    pub thinktime_spin: Duration,
    /// `thinktime_blocks`.
    pub thinktime_blocks: u64,

    /// `zero_buffers` and `buffer_pattern`.
    pub buffer_content: BufferContent,
    /// `refill_buffers`: new content for each write.
    pub refill_buffers: bool,
    /// `scramble_buffers`: content that is a little different for each write.
    pub scramble_buffers: bool,

    /// `clat_percentiles`.
    pub clat_percentiles: bool,
    /// `lat_percentiles`.
    pub lat_percentiles: bool,
    /// `percentile_list`.
    pub percentile_list: Vec<f64>,

    /// The options of the engine `moonshine` alone.
    pub database: DatabaseOptions,
}

impl Default for JobOptions {
    fn default() -> Self {
        JobOptions {
            name: String::new(),
            options_given: Vec::new(),
            directory: None,
            filenames: Vec::new(),
            nrfiles: 1,
            filename_format: "$jobname.$jobnum.$filenum".into(),
            filesize_bytes: None,
            size: None,
            io_size: None,
            number_ios: None,
            offset: Extent::Bytes(0),
            offset_increment: None,
            fallocate: Fallocate::Native,
            overwrite: false,
            unlink: false,
            invalidate: true,
            fadvise_hint: FadviseHint::ByPattern,
            rw: Rw::Read,
            rwmix_read_percent: 50,
            block_sizes: PerDirection::both(BlockRange::fixed(4096)),
            block_align_bytes: PerDirection::both(None),
            random_distribution: Distribution::Random,
            norandommap: false,
            randrepeat: true,
            randseed: None,
            ioengine: JobEngine::Io(EngineName::Psync),
            iodepth: 1,
            iodepth_batch_submit: 1,
            iodepth_batch_complete_min: 1,
            iodepth_batch_complete_max: None,
            iodepth_low: None,
            direct: false,
            sync: SyncMode::None,
            fixedbufs: false,
            registerfiles: false,
            sqthread_poll: false,
            sqthread_poll_cpu: None,
            hipri: false,
            fsync: 0,
            fdatasync: 0,
            end_fsync: false,
            numjobs: 1,
            thread: false,
            runtime: None,
            time_based: false,
            ramp_time: Duration::ZERO,
            loops: 1,
            startdelay: StartDelay::default(),
            stonewall: false,
            new_group: false,
            group_reporting: false,
            rate_bytes_per_s: PerDirection::both(None),
            rate_iops: PerDirection::both(None),
            thinktime: Duration::ZERO,
            thinktime_spin: Duration::ZERO,
            thinktime_blocks: 1,
            buffer_content: BufferContent::Random,
            refill_buffers: false,
            scramble_buffers: true,
            clat_percentiles: true,
            lat_percentiles: false,
            percentile_list: PERCENTILES_DEFAULT.to_vec(),
            database: DatabaseOptions::default(),
        }
    }
}
