//! What a job of the engine `moonshine` does: its own options, beside those of every job.

use serde::Serialize;

/// Bytes of a value in YCSB: ten fields of a hundred.
const YCSB_VALUE_SIZE_BYTES: u64 = 1000;

/// `workload`: what a job does with the records of a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DatabaseWorkload {
    /// Half reads, half updates: a store of sessions.
    #[default]
    YcsbA,
    /// 95 % reads, 5 % updates: tags of photos.
    YcsbB,
    /// Reads only: a cache of profiles.
    YcsbC,
    /// 95 % reads of the latest, 5 % inserts: status updates.
    YcsbD,
    /// 95 % short scans, 5 % inserts: threads of conversations.
    YcsbE,
    /// Half reads, half read-modify-writes: a database of users.
    YcsbF,
    /// Writes records that are there.
    Put,
    /// Writes records that are new.
    Insert,
    /// Reads records.
    Get,
    /// Reads the records that follow a key, in order.
    Scan,
    /// Gets and puts by `rwmixread`.
    Mixed,
}

impl DatabaseWorkload {
    /// All, with their names in job files.
    pub const NAMES: [(&'static str, DatabaseWorkload); 11] = [
        ("ycsb-a", DatabaseWorkload::YcsbA),
        ("ycsb-b", DatabaseWorkload::YcsbB),
        ("ycsb-c", DatabaseWorkload::YcsbC),
        ("ycsb-d", DatabaseWorkload::YcsbD),
        ("ycsb-e", DatabaseWorkload::YcsbE),
        ("ycsb-f", DatabaseWorkload::YcsbF),
        ("put", DatabaseWorkload::Put),
        ("insert", DatabaseWorkload::Insert),
        ("get", DatabaseWorkload::Get),
        ("scan", DatabaseWorkload::Scan),
        ("mixed", DatabaseWorkload::Mixed),
    ];

    /// Whether it is one of YCSB's core workloads.
    pub fn is_ycsb(self) -> bool {
        use DatabaseWorkload::{YcsbA, YcsbB, YcsbC, YcsbD, YcsbE, YcsbF};
        matches!(self, YcsbA | YcsbB | YcsbC | YcsbD | YcsbE | YcsbF)
    }
}

/// The options of the engine `moonshine` alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DatabaseOptions {
    /// `workload`.
    pub workload: DatabaseWorkload,
    /// `records`: rows that are there before the job begins. They are loaded where they are not.
    pub records: u64,
    /// `key_size`: bytes of a key.
    pub key_size_bytes: u64,
    /// `value_size`: bytes of a value. 1000 for YCSB and `bs` for the others where `None`.
    pub value_size_bytes: Option<u64>,
    /// `scan_length`: rows of a scan; of the longest one in YCSB.
    pub scan_rows_max: u64,
    /// `batch`: rows that a put or an insert writes in one transaction, which is one operation.
    pub batch: u64,
    /// `miss`: percent of the gets that ask for a key that is not there.
    pub miss_percent: u8,
    /// `memory_budget`: what the database may hold in memory, beside its keys; its own default where `None`.
    pub memory_budget_bytes: Option<u64>,
}

impl DatabaseOptions {
    /// Bytes of a value of this job: `value_size`, else what YCSB has, else `bs`.
    pub fn effective_value_size_bytes(&self, bs_bytes: u64) -> u64 {
        match self.value_size_bytes {
            Some(size_bytes) => size_bytes,
            None if self.workload.is_ycsb() => YCSB_VALUE_SIZE_BYTES,
            None => bs_bytes,
        }
    }

    /// The name of its workload in job files.
    pub fn workload_name(&self) -> &'static str {
        let mut names = DatabaseWorkload::NAMES.iter();
        let name = names.find(|(_, workload)| *workload == self.workload);
        name.map_or("", |(name, _)| name)
    }
}

impl Default for DatabaseOptions {
    fn default() -> Self {
        DatabaseOptions {
            workload: DatabaseWorkload::default(),
            records: 100_000,
            key_size_bytes: 16,
            value_size_bytes: None,
            scan_rows_max: 100,
            batch: 1,
            miss_percent: 0,
            memory_budget_bytes: None,
        }
    }
}
