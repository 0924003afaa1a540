//! The figures of a database, as they were at one moment.

use std::time::Duration;

pub use crate::counting::histogram::Distribution;
use crate::counting::ratio;
use crate::row_set::stats::PageCacheStats;

/// What a database did since it was opened, and what it holds now.
///
/// Counters of the work are since the open and start at 0 again with the next one; sizes are as of now. The figures are
/// taken one after the other beside everything that runs, so they may be some microseconds apart.
///
/// ```
/// use moonshine_engine::{Database, Options};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// let users = database.keyspace("users")?;
/// users.insert("ada", "1815")?;
/// let statistics = database.statistics();
/// assert_eq!(statistics.writes.commits, 1);
/// assert!(statistics.log.syncs.count >= 1);
/// println!("{}", statistics.to_metrics());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Statistics {
    /// How long the database has been open.
    pub uptime: Duration,
    /// Commits, and what became of their bytes.
    pub writes: WriteStatistics,
    /// The log and the queue in front of it.
    pub log: LogStatistics,
    /// Generations written below level 0.
    pub flushes: WorkStatistics,
    /// Generations that wait to be flushed, the one that is being flushed included.
    pub queued_flushes: u64,
    /// Compactions by kind, sorted by name.
    pub compactions: Vec<(&'static str, WorkStatistics)>,
    /// Point reads, and what they took.
    pub reads: ReadStatistics,
    /// Memory by who uses it.
    pub memory: MemoryStatistics,
    /// What made writers wait, by reason.
    pub stalls: [StallStatistics; StallReason::ALL.len()],
    /// Files of the database that are open.
    pub open_files: u64,
    /// The tables, in order of creation.
    pub tables: Vec<TableStatistics>,
}

/// Commits, and what became of their bytes.
///
/// ```
/// use moonshine_engine::{Database, Options};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// database.keyspace("settings")?.insert("color", "green")?;
/// let writes = database.statistics().writes;
/// assert_eq!((writes.commits, writes.rows), (1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct WriteStatistics {
    /// Transactions that were submitted and wrote something.
    pub commits: u64,
    /// Rows that they wrote or deleted.
    pub rows: u64,
    /// Bytes of the encoded keys and values of those rows.
    pub user_bytes: u64,
    /// Bytes written to the log, the zeros ahead of small commits included: up to a byte for each of the log. Small commits
    /// that are not synced are copied into zeros, and not counted again.
    pub log_bytes: u64,
    /// Bytes written to delta files, by flushes and compactions, those that failed included.
    pub delta_file_bytes: u64,
    /// Bytes written to the log of edits.
    pub edit_bytes: u64,
    /// How long a commit took that was synced, in nanoseconds.
    pub synced_commit_ns: Distribution,
    /// How long a commit took that was buffered, in nanoseconds. One in sixteen is timed.
    pub buffered_commit_ns: Distribution,
}

/// The log and the queue in front of it.
///
/// ```
/// use moonshine_engine::{Database, Options};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// let log = database.statistics().log;
/// println!("a sync took {:.0} ns", log.syncs.mean());
/// assert_eq!(log.queued_records, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct LogStatistics {
    /// Bytes of the segments that a start would read, as they were last written, with up to 1 MiB of zeros.
    pub size_bytes: u64,
    /// How many records a block held, each a group commit: one entry a block.
    pub block_records: Distribution,
    /// How long syncs of the log took, in nanoseconds.
    pub syncs: Distribution,
    /// Records that wait to be written.
    pub queued_records: u64,
    /// Bytes that wait to be written.
    pub queued_bytes: u64,
}

/// Work in the background.
///
/// ```
/// use moonshine_engine::{Database, Options};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// database.keyspace("settings")?.insert("color", "green")?;
/// database.flush()?;
/// let flushes = database.statistics().flushes;
/// assert_eq!(flushes.failed, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct WorkStatistics {
    /// How often it was done.
    pub count: u64,
    /// How often it failed.
    pub failed: u64,
    /// Bytes that went in: of memory for a flush, of RowSets for a compaction.
    pub read_bytes: u64,
    /// Bytes of the RowSets that came out.
    pub written_bytes: u64,
    /// How long it took, in nanoseconds.
    pub time_ns: Distribution,
}

/// Point reads, and what they took.
///
/// ```
/// use moonshine_engine::{Database, Options};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// database.keyspace("settings")?.get("color")?;
/// assert_eq!(database.statistics().reads.gets, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReadStatistics {
    /// Lookups of one key.
    pub gets: u64,
    /// Generations that were there for them, summed up.
    pub generations: u64,
    /// The page cache: RowSets asked, pages used, read and evicted.
    pub pages: PageCacheStats,
    /// Reads of delta files: pages, or many at once for a scan or a compaction.
    pub file_reads: u64,
    /// Bytes that they read.
    pub file_bytes: u64,
}

/// Memory by who uses it, in bytes.
///
/// ```
/// use moonshine_engine::{Database, Options};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// let memory = database.statistics().memory;
/// assert!(memory.used_bytes <= memory.budget_bytes);
/// for (consumer, size_bytes) in memory.by_consumer() {
///     println!("{consumer}: {size_bytes} bytes");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryStatistics {
    /// The memory budget.
    pub budget_bytes: u64,
    /// All that is counted against it.
    pub used_bytes: u64,
    /// The generation that is written, and those that wait to be flushed.
    pub generation_bytes: u64,
    /// Generations that were flushed and that scans still read.
    pub kept_generation_bytes: u64,
    /// Pages of RowSets, cached or in use.
    pub page_bytes: u64,
    /// Room between pages, which is not among the bytes used: a sixteenth of what pages take, a chunk of 2 MiB for every
    /// 64 MiB of the budget, and what pages that went have left since memory was last given back.
    pub page_room_bytes: u64,
    /// The places for pages of the RowSets.
    pub slot_bytes: u64,
    /// Transactions that are being built.
    pub transaction_bytes: u64,
    /// Buffers, rows and indexes of flushes and compactions.
    pub background_bytes: u64,
    /// Records that wait to be written to the log. They have a limit of their own, a sixteenth of the budget, and are not
    /// among those used.
    pub commit_queue_bytes: u64,
}

/// Why a writer had to wait.
///
/// ```
/// use moonshine_engine::StallReason;
/// let names = StallReason::ALL.map(StallReason::name);
/// assert_eq!(names, ["log", "flush", "compaction", "memory"]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StallReason {
    /// The queue in front of the log was full.
    Log,
    /// Generations wait to be flushed.
    Flush,
    /// Leaves have many RowSets that are not yet compacted.
    Compaction,
    /// The memory budget is used up by what can't go.
    Memory,
}

impl StallReason {
    /// All reasons.
    pub const ALL: [StallReason; 4] = [
        StallReason::Log,
        StallReason::Flush,
        StallReason::Compaction,
        StallReason::Memory,
    ];

    /// As metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            StallReason::Log => "log",
            StallReason::Flush => "flush",
            StallReason::Compaction => "compaction",
            StallReason::Memory => "memory",
        }
    }
}

/// How long writers had to wait for one reason.
///
/// ```
/// use moonshine_engine::{Database, Options};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// for stall in database.statistics().stalls {
///     println!("{} commits waited {:?} for {}", stall.count, stall.time, stall.reason.name());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StallStatistics {
    /// The reason.
    pub reason: StallReason,
    /// Commits that had to wait, or wait.
    pub count: u64,
    /// Commits that wait now.
    pub waiting: u64,
    /// Their waiting until now, summed up.
    pub time: Duration,
}

/// RowSets and what is in them.
///
/// ```
/// use moonshine_engine::{Database, Options};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// database.keyspace("settings")?.insert("color", "green")?;
/// database.flush()?;
/// let tables = database.statistics().tables;
/// let held = tables.first().map(|table| table.held).ok_or("no table")?;
/// assert_eq!((held.row_sets, held.rows), (1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TreeFigures {
    /// How many RowSets.
    pub row_sets: u64,
    /// Their rows and tombstones.
    pub rows: u64,
    /// Rows that say that there is none any more.
    pub tombstones: u64,
    /// Rows that newer RowSets of their leaf replace, as far as patches say.
    pub replaced_rows: u64,
    /// Bytes on disk.
    pub size_bytes: u64,
    /// Bytes of keys and values before they became pages.
    pub data_bytes: u64,
}

/// A fragment of a table's tree.
///
/// ```
/// use moonshine_engine::{Database, Options};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// database.keyspace("settings")?;
/// for table in database.statistics().tables {
///     let leaves = table.fragments.iter().filter(|fragment| fragment.is_leaf);
///     assert_eq!(leaves.count(), 1);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FragmentStatistics {
    /// The fragment's number: a 1 and behind it the bits that lead to it; 1 for the root.
    pub id: u64,
    /// Its level: 1 for the root.
    pub level: u32,
    /// Whether it has no children.
    pub is_leaf: bool,
    /// Its own RowSets.
    pub held: TreeFigures,
    /// The commit sequences of its rows: after the first, up to the second. Equal if it has none.
    pub seqs: (u64, u64),
}

/// A level of a table's tree.
///
/// ```
/// use moonshine_engine::{Database, Options};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// database.keyspace("settings")?;
/// for table in database.statistics().tables {
///     for level in &table.levels {
///         println!("{}: {} fragments at level {}", table.name, level.fragments, level.level);
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LevelStatistics {
    /// 1 for the root.
    pub level: u32,
    /// Its fragments.
    pub fragments: u64,
    /// Their RowSets.
    pub held: TreeFigures,
    /// The most RowSets of one of them.
    pub row_sets_max: u64,
}

/// A table.
///
/// ```
/// use moonshine_engine::{Database, Options};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// database.keyspace("settings")?.insert("color", "green")?;
/// let tables = database.statistics().tables;
/// let rows: Vec<_> = tables.iter().map(|table| (table.name.as_str(), table.generation_rows)).collect();
/// assert_eq!(rows, [("settings", 1)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TableStatistics {
    /// Its name.
    pub name: String,
    /// Versions of its rows in memory.
    pub generation_rows: u64,
    /// All of its RowSets.
    pub held: TreeFigures,
    /// The levels of its tree, from the root.
    pub levels: Vec<LevelStatistics>,
    /// All fragments, each before its children.
    pub fragments: Vec<FragmentStatistics>,
    /// Bytes on disk of the locations of its exported rows.
    pub location_bytes: u64,
}

impl MemoryStatistics {
    /// Who uses memory, as metrics name it, and how much.
    pub fn by_consumer(&self) -> [(&'static str, u64); 8] {
        [
            ("generations", self.generation_bytes),
            ("kept_generations", self.kept_generation_bytes),
            ("pages", self.page_bytes),
            ("page_room", self.page_room_bytes),
            ("slots", self.slot_bytes),
            ("transactions", self.transaction_bytes),
            ("background", self.background_bytes),
            ("commit_queue", self.commit_queue_bytes),
        ]
    }
}

impl Statistics {
    /// Bytes written to files for each byte that was committed; 0 before the first.
    pub fn write_amplification(&self) -> f64 {
        let writes = &self.writes;
        let written = writes.log_bytes + writes.delta_file_bytes + writes.edit_bytes;
        ratio(written, writes.user_bytes)
    }

    /// Bytes on disk for each byte of keys and values below level 0 that is no tombstone; 0 without any. Rows that newer
    /// ones replace still count as data here, so the true one, which only a scan can tell, is not below it.
    pub fn space_amplification_min(&self) -> f64 {
        let size_bytes: u64 = self
            .tables
            .iter()
            .map(|table| table.held.size_bytes + table.location_bytes)
            .sum();
        let data_bytes = self.tables.iter().map(|table| table.held.data_bytes).sum();
        ratio(size_bytes + self.log.size_bytes, data_bytes)
    }

    /// RowSets asked for each get; 0 before the first.
    pub fn read_amplification(&self) -> f64 {
        ratio(self.reads.pages.row_sets_asked, self.reads.gets)
    }
}
