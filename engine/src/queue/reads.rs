//! What a serializable transaction read: keys, and ranges as far as they were gone through.

use std::sync::Arc;

use crate::key_range::{KeyInterval, KeyRange, united};
use crate::sync::Mutex;
use crate::tree::table::TableState;

/// What was read of a table.
#[derive(Debug)]
pub(crate) struct TableReads {
    pub(crate) table: Arc<TableState>,
    keys: Vec<(u64, Box<[u8]>)>,
    ranges: Vec<Arc<ReadRange>>,
}

/// The same when nothing more is read.
#[derive(Debug)]
pub(crate) struct SettledReads {
    pub(crate) table: Arc<TableState>,
    /// Hashes and keys, each once.
    pub(crate) keys: Vec<(u64, Box<[u8]>)>,
    /// Ascending and disjoint.
    pub(crate) intervals: Vec<KeyInterval>,
}

/// A range that is read by an iterator, from either end or both.
#[derive(Debug)]
pub(crate) struct ReadRange {
    range: KeyRange,
    reached: Mutex<Reached>,
}

/// How far an iterator has come.
#[derive(Debug, Default)]
struct Reached {
    /// The last key from the front, and from the back.
    front: Option<Box<[u8]>>,
    back: Option<Box<[u8]>>,
    /// Whether nothing is left in between.
    is_done: bool,
}

impl TableReads {
    pub(crate) fn new(table: Arc<TableState>) -> Self {
        TableReads {
            table,
            keys: Vec::new(),
            ranges: Vec::new(),
        }
    }

    pub(crate) fn add_key(&mut self, hash: u64, key: &[u8]) {
        self.keys.push((hash, key.into()));
    }

    /// A range that nothing was read of yet.
    pub(crate) fn add_range(&mut self, range: KeyRange) -> Arc<ReadRange> {
        let range = Arc::new(ReadRange {
            range,
            reached: Mutex::default(),
        });
        self.ranges.push(range.clone());
        range
    }

    pub(crate) fn settled(&self) -> SettledReads {
        let mut keys = self.keys.clone();
        keys.sort_unstable();
        keys.dedup();
        let intervals = self.ranges.iter().flat_map(|range| range.intervals());
        SettledReads {
            table: self.table.clone(),
            keys,
            intervals: united(intervals.collect()),
        }
    }
}

impl ReadRange {
    /// The iterator came to a row.
    pub(crate) fn reach(&self, key: &[u8], from_back: bool) {
        let mut reached = self.reached.lock();
        let end = if from_back {
            &mut reached.back
        } else {
            &mut reached.front
        };
        *end = Some(key.into());
    }

    /// The iterator found that nothing is left.
    pub(crate) fn finish(&self) {
        self.reached.lock().is_done = true;
    }

    /// The parts that were gone through.
    fn intervals(&self) -> Vec<KeyInterval> {
        let reached = self.reached.lock();
        let whole = KeyInterval::from(&self.range);
        if reached.is_done {
            return vec![whole];
        }
        let mut parts = Vec::new();
        if let Some(front) = &reached.front {
            parts.push(KeyInterval {
                start: whole.start.clone(),
                end: Some([front, &[0][..]].concat()),
            });
        }
        if let Some(back) = &reached.back {
            parts.push(KeyInterval {
                start: back.to_vec(),
                end: whole.end,
            });
        }
        parts
    }
}
