//! The kinds of values that a job's options take.

use std::time::Duration;

use serde::Serialize;

use crate::io::EngineName;

/// Reading or writing, as the statistics tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Reads.
    Read,
    /// Writes.
    Write,
}

impl Direction {
    /// Both.
    pub const ALL: [Direction; 2] = [Direction::Read, Direction::Write];
}

/// One value for reads, one for writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PerDirection<T> {
    /// That of reads.
    pub read: T,
    /// That of writes.
    pub write: T,
}

impl<T> PerDirection<T> {
    /// The value of a direction.
    pub fn get(&self, direction: Direction) -> &T {
        match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        }
    }

    /// The value of a direction, to be changed.
    pub fn get_mut(&mut self, direction: Direction) -> &mut T {
        match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        }
    }
}

impl<T: Clone> PerDirection<T> {
    /// The same value for both.
    pub fn both(value: T) -> Self {
        PerDirection {
            read: value.clone(),
            write: value,
        }
    }
}

/// `rw`: what a job does, and in which order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Rw {
    /// Reads one block after the other.
    #[default]
    Read,
    /// Writes one block after the other.
    Write,
    /// Reads blocks at random places.
    RandRead,
    /// Writes blocks at random places.
    RandWrite,
    /// Reads and writes mixed, one block after the other (`rw`, `readwrite`).
    Rw,
    /// Reads and writes mixed, at random places.
    RandRw,
}

impl Rw {
    /// All, with their names in job files; `readwrite` is another name of `rw`.
    pub const NAMES: [(&'static str, Rw); 7] = [
        ("read", Rw::Read),
        ("write", Rw::Write),
        ("randread", Rw::RandRead),
        ("randwrite", Rw::RandWrite),
        ("rw", Rw::Rw),
        ("readwrite", Rw::Rw),
        ("randrw", Rw::RandRw),
    ];

    /// The name in job files.
    pub fn name(self) -> &'static str {
        match self {
            Rw::Read => "read",
            Rw::Write => "write",
            Rw::RandRead => "randread",
            Rw::RandWrite => "randwrite",
            Rw::Rw => "rw",
            Rw::RandRw => "randrw",
        }
    }

    /// Whether it goes to random places.
    pub fn is_random(self) -> bool {
        matches!(self, Rw::RandRead | Rw::RandWrite | Rw::RandRw)
    }

    /// Whether it reads.
    pub fn reads(self) -> bool {
        !matches!(self, Rw::Write | Rw::RandWrite)
    }

    /// Whether it writes.
    pub fn writes(self) -> bool {
        !matches!(self, Rw::Read | Rw::RandRead)
    }
}

/// A size, or a share of the file's size (`50%`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// Bytes.
    Bytes(u64),
    /// Percent of the file.
    Percent(u8),
}

impl Extent {
    /// In bytes, for a file of that size.
    pub fn of(self, file_size_bytes: u64) -> u64 {
        match self {
            Extent::Bytes(bytes) => bytes,
            Extent::Percent(percent) => {
                let part = u128::from(file_size_bytes) * u128::from(percent) / 100;
                u64::try_from(part).unwrap_or(u64::MAX)
            }
        }
    }
}

/// Block sizes of a direction: multiples of the smallest, up to the greatest (`bsrange`); one size where both are the
/// same (`bs`). As in fio, the greatest is drawn somewhat more often than the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct BlockRange {
    /// Smallest, in bytes.
    pub least_bytes: u64,
    /// Greatest, in bytes.
    pub most_bytes: u64,
}

impl BlockRange {
    /// Always that size.
    pub fn fixed(size_bytes: u64) -> Self {
        BlockRange {
            least_bytes: size_bytes,
            most_bytes: size_bytes,
        }
    }
}

/// `random_distribution`: how often a place is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Distribution {
    /// All alike.
    #[default]
    Random,
    /// By the law of Zipf.
    Zipf {
        /// Exponent: above 0, not 1.
        theta: f64,
        /// Where in the file the most frequent place lies, as a share of it; anywhere where `None`.
        center: Option<f64>,
    },
    /// By the law of Pareto.
    Pareto {
        /// Between 0 and 1: 0.2 is 80 % of accesses to 20 % of the places.
        h: f64,
        /// As for Zipf.
        center: Option<f64>,
    },
    /// By a bell curve around the middle of the file.
    Normal {
        /// Standard deviation in percent of the file: 0 to 100.
        deviation_percent: f64,
        /// As for Zipf; the middle where `None`.
        center: Option<f64>,
    },
}

/// `sync`: whether each write is made durable by how the file is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncMode {
    /// No.
    #[default]
    None,
    /// `O_SYNC`: data and all metadata.
    Sync,
    /// `O_DSYNC`: data, and the metadata needed to read it.
    Dsync,
}

/// `fallocate`: how room is made before a file is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fallocate {
    /// Not at all.
    None,
    /// By `fallocate`, where the file system can.
    #[default]
    Native,
    /// By `posix_fallocate`, which writes where the file system can't.
    Posix,
    /// By `fallocate`, the size of the file stays.
    Keep,
    /// By making the file longer, without room for it.
    Truncate,
}

/// `fadvise_hint`: what the kernel is told about the order of the I/O.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FadviseHint {
    /// Nothing.
    None,
    /// What the job's `rw` says.
    #[default]
    ByPattern,
    /// That it is random.
    Random,
    /// That it is sequential.
    Sequential,
}

/// What is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BufferContent {
    /// Random bytes.
    #[default]
    Random,
    /// Zeros (`zero_buffers`).
    Zeros,
    /// These bytes over and over (`buffer_pattern`).
    Pattern(Vec<u8>),
}

/// `ioengine`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JobEngine {
    /// Blocks of files.
    Io(EngineName),
    /// Something else that is not made of blocks: a [`Workload`](crate::bench::Workload) of that name.
    Workload(String),
}

/// `startdelay`: a time, or one drawn evenly from a range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StartDelay {
    /// Shortest.
    pub least: Duration,
    /// Longest.
    pub most: Duration,
}

/// What the engine `moonshine` does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DatabaseWorkload {
    /// Half reads, half updates.
    #[default]
    YcsbA,
    /// 95 % reads, 5 % updates.
    YcsbB,
    /// Reads only.
    YcsbC,
    /// 95 % reads of the latest, 5 % inserts.
    YcsbD,
    /// 95 % short scans, 5 % inserts.
    YcsbE,
    /// Half reads, half read-modify-writes.
    YcsbF,
    /// Puts only.
    Put,
    /// Gets only.
    Get,
    /// Scans only.
    Scan,
    /// Gets and puts by `rwmixread`.
    Mixed,
}

impl DatabaseWorkload {
    /// All, with their names in job files.
    pub const NAMES: [(&'static str, DatabaseWorkload); 10] = [
        ("ycsb-a", DatabaseWorkload::YcsbA),
        ("ycsb-b", DatabaseWorkload::YcsbB),
        ("ycsb-c", DatabaseWorkload::YcsbC),
        ("ycsb-d", DatabaseWorkload::YcsbD),
        ("ycsb-e", DatabaseWorkload::YcsbE),
        ("ycsb-f", DatabaseWorkload::YcsbF),
        ("put", DatabaseWorkload::Put),
        ("get", DatabaseWorkload::Get),
        ("scan", DatabaseWorkload::Scan),
        ("mixed", DatabaseWorkload::Mixed),
    ];
}

/// The options of the engine `moonshine` alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DatabaseOptions {
    /// `workload`.
    pub workload: DatabaseWorkload,
    /// `records`: rows that are there before the job begins.
    pub records: u64,
    /// `value_size`: bytes of a value.
    pub value_size_bytes: u64,
    /// `scan_length`: most rows of a scan.
    pub scan_rows_max: u64,
    /// `batch`: puts that share a transaction.
    pub batch: u64,
}

impl Default for DatabaseOptions {
    fn default() -> Self {
        DatabaseOptions {
            workload: DatabaseWorkload::default(),
            records: 100_000,
            value_size_bytes: 1000,
            scan_rows_max: 100,
            batch: 1,
        }
    }
}
