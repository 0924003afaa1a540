//! What the threads of one job share, and what they came to.

use std::sync::{Arc, Mutex, PoisonError};

use moonshine_sysprobe::bench::ycsb::Operation;

use super::dataset::Dataset;
use super::plan::Plan;

/// Operations by kind, the ramp's included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OperationCounts {
    pub(super) reads: u64,
    pub(super) updates: u64,
    pub(super) inserts: u64,
    pub(super) scans: u64,
    pub(super) read_modify_writes: u64,
    /// Reads that asked for a key that is not there.
    pub(super) missed: u64,
    pub(super) scanned_rows: u64,
    /// Bytes of keys and values.
    pub(super) written_bytes: u64,
}

impl OperationCounts {
    pub(super) fn count(&mut self, operation: Operation) {
        *self.of_mut(operation) += 1;
    }

    /// Operations of each kind that there were.
    pub(super) fn by_kind(mut self) -> Vec<(Operation, u64)> {
        let kinds = [
            Operation::Read,
            Operation::Update,
            Operation::Insert,
            Operation::Scan,
            Operation::ReadModifyWrite,
        ];
        let counts = kinds.map(|kind| (kind, *self.of_mut(kind)));
        counts.into_iter().filter(|(_, count)| *count > 0).collect()
    }

    fn of_mut(&mut self, operation: Operation) -> &mut u64 {
        match operation {
            Operation::Read => &mut self.reads,
            Operation::Update => &mut self.updates,
            Operation::Insert => &mut self.inserts,
            Operation::Scan => &mut self.scans,
            Operation::ReadModifyWrite => &mut self.read_modify_writes,
        }
    }

    fn add(&mut self, other: &OperationCounts) {
        self.reads += other.reads;
        self.updates += other.updates;
        self.inserts += other.inserts;
        self.scans += other.scans;
        self.read_modify_writes += other.read_modify_writes;
        self.missed += other.missed;
        self.scanned_rows += other.scanned_rows;
        self.written_bytes += other.written_bytes;
    }
}

/// A job that was prepared.
#[derive(Debug)]
pub(super) struct JobState {
    pub(super) plan: Plan,
    pub(super) dataset: Arc<Dataset>,
    counts: Mutex<OperationCounts>,
}

impl JobState {
    pub(super) fn new(plan: Plan, dataset: Arc<Dataset>) -> Self {
        JobState {
            plan,
            dataset,
            counts: Mutex::default(),
        }
    }

    /// Adds what a thread came to.
    pub(super) fn add(&self, counts: &OperationCounts) {
        let mut sum = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        sum.add(counts);
    }

    /// What all threads that have ended came to.
    pub(super) fn counts(&self) -> OperationCounts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all is durable, and says what there was to do and what it cost.
    ///
    /// # Errors
    /// Says why what was written did not become durable, or the folder can't be read.
    pub(super) fn report(&self) -> Result<Vec<String>, String> {
        let (dataset, counts) = (&self.dataset, self.counts());
        dataset.wait_durable()?;
        let mut lines = vec![load_line(dataset)];
        let kinds = counts.by_kind().into_iter();
        let kinds: Vec<String> = kinds
            .map(|(kind, count)| format!("{}={count}", kind.name()))
            .collect();
        let mut operations = format!("operations: {}", kinds.join(", "));
        if counts.missed > 0 {
            operations += &format!("; {} reads of absent keys", counts.missed);
        }
        if counts.scans > 0 {
            operations += &format!("; {} rows scanned", counts.scanned_rows);
        }
        lines.push(operations);
        let (io, written_bytes) = dataset.written();
        let mut files = format!(
            "files: {} on disk; read {}, wrote {} in {} syncs",
            mebibytes(dataset.disk_bytes()?),
            mebibytes(io.read_bytes),
            mebibytes(io.written_bytes),
            io.syncs
        );
        if written_bytes > 0 {
            files += &format!(
                " for {} of records: write amplification {:.2}",
                mebibytes(written_bytes),
                io.written_bytes as f64 / written_bytes as f64
            );
        }
        lines.push(files);
        Ok(lines)
    }
}

fn load_line(dataset: &Dataset) -> String {
    let loaded = dataset.loaded;
    let mut line = format!(
        "database: {}, {} records found",
        dataset.folder.display(),
        loaded.found
    );
    if loaded.loaded > 0 {
        let seconds = loaded.took.as_secs_f64().max(1e-9);
        let bytes = loaded.loaded as f64 * dataset.format.size_bytes() as f64;
        line += &format!(
            ", {} loaded in {seconds:.2} s ({:.0} records/s, {:.1} MiB/s)",
            loaded.loaded,
            loaded.loaded as f64 / seconds,
            bytes / seconds / MEBIBYTE
        );
    }
    line
}

const MEBIBYTE: f64 = (1 << 20) as f64;

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / MEBIBYTE)
}
