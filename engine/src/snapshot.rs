//! Reading at a commit sequence.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use crate::Origin;
use crate::cache::shard::RowPointer;
use crate::codec::Malformed;
use crate::codec::batch::BatchBuilder;
use crate::codec::key::{encode_key, encode_key_prefix};
use crate::codec::row::join_row;
use crate::error::{Error, Result};
use crate::shared::{Shared, Table};
use crate::value::{Row, Value};

/// Slots of a shard that a scan looks at before it lets writers at it again.
const SLOTS_PER_LOCK: usize = 4096;

/// The database as it was at one commit sequence, for as long as this is held.
///
/// Readers never wait for writers. A clone holds the same sequence.
#[derive(Debug)]
pub struct Snapshot {
    shared: Arc<Shared>,
    seq: u64,
}

impl Clone for Snapshot {
    fn clone(&self) -> Self {
        self.shared.pins.pin(self.seq);
        Snapshot {
            shared: self.shared.clone(),
            seq: self.seq,
        }
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.shared.pins.unpin(self.seq);
    }
}

/// In which order a scan returns rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScanOrder {
    /// In any order: the fastest.
    #[default]
    Unordered,
    /// By primary key, smallest first.
    Ascending,
    /// By primary key, greatest first.
    Descending,
}

/// What a scan returns.
#[derive(Clone, Debug)]
pub struct Scan {
    /// Positions of the columns, in the order the batches have them; `None` for all.
    pub projection: Option<Vec<usize>>,
    /// The order of the rows.
    pub order: ScanOrder,
    /// Bounds of the primary key. A bound may name only the key's first columns: an included one then takes in all keys
    /// that start with it, an excluded one none.
    pub range: (Bound<Vec<Value>>, Bound<Vec<Value>>),
    /// Most rows of a batch.
    pub batch_rows: usize,
}

impl Default for Scan {
    fn default() -> Self {
        Scan {
            projection: None,
            order: ScanOrder::Unordered,
            range: (Bound::Unbounded, Bound::Unbounded),
            batch_rows: 8192,
        }
    }
}

impl Snapshot {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let seq = shared.pins.pin_visible();
        Snapshot { shared, seq }
    }

    /// The commit sequence.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// How far each source was, sorted by source.
    pub fn origins(&self) -> Vec<Origin> {
        self.shared.origins.at(self.seq)
    }

    /// The row with that key, given in primary-key order.
    ///
    /// # Errors
    /// [`Error::Row`] if the key does not fit the table, [`Error::Corrupt`] or [`Error::Io`] if it can't be read.
    pub fn get(&self, table: &Table, key: &[Value]) -> Result<Option<Row>> {
        self.check_table(table)?;
        let mut key_bytes = Vec::new();
        encode_key(table.schema(), key.iter(), &mut key_bytes)?;
        let Some(pointer) = table.state.get(&key_bytes, self.seq) else {
            return Ok(None);
        };
        let body = self.shared.records.body(pointer.record)?;
        let corrupt = |reason: &str| self.shared.records.corrupt_record(pointer.record, reason);
        let value =
            value_bytes(&body, pointer).ok_or_else(|| corrupt("a row lies beyond its record"))?;
        join_row(table.schema(), key.to_vec(), value)
            .map(Some)
            .map_err(|malformed| corrupt(malformed.0))
    }

    /// How many rows the table holds. Looks at every key, at no value.
    ///
    /// # Errors
    /// [`Error::Usage`] if the table belongs to another database.
    pub fn row_count(&self, table: &Table) -> Result<u64> {
        self.check_table(table)?;
        let mut count = 0;
        for shard in table.state.shards() {
            let mut start = 0;
            loop {
                let shard = shard.read();
                let end = shard.slot_count().min(start + SLOTS_PER_LOCK);
                count += (start..end)
                    .filter(|&slot| shard.slot(slot, self.seq).is_some())
                    .count() as u64;
                if end == shard.slot_count() {
                    break;
                }
                start = end;
            }
        }
        Ok(count)
    }

    /// The rows of a table as Arrow batches.
    ///
    /// # Errors
    /// [`Error::Usage`] for a column that does not exist or a table of another database, [`Error::Row`] for a bound that
    /// does not fit the key.
    pub fn scan(&self, table: &Table, scan: Scan) -> Result<Batches> {
        self.check_table(table)?;
        let range = KeyRange::new(table, &scan.range)?;
        if scan.order == ScanOrder::Unordered {
            return Batches::of_table(
                table,
                self,
                range,
                scan.projection.as_deref(),
                scan.batch_rows,
            );
        }
        let rows = self.sorted_rows(table, &range);
        let descending = scan.order == ScanOrder::Descending;
        Batches::of_rows(
            table,
            self,
            Arc::new(rows),
            descending,
            scan.projection.as_deref(),
            scan.batch_rows,
        )
    }

    /// The rows of a range in key order.
    pub(crate) fn sorted_rows(
        &self,
        table: &Table,
        range: &KeyRange,
    ) -> Vec<(Box<[u8]>, RowPointer)> {
        let mut rows = Vec::new();
        for shard in 0..table.state.shards().len() {
            let mut slot = 0;
            while let Some(next) = self.collect(table, range, shard, slot, |key, pointer| {
                rows.push((key.into(), pointer));
            }) {
                slot = next;
            }
        }
        rows.sort_by(|(a, _): &(Box<[u8]>, _), (b, _)| a.cmp(b));
        rows
    }

    /// Checks that the snapshot is of the table's database.
    pub(crate) fn check_table(&self, table: &Table) -> Result<()> {
        self.shared.check_table(table)
    }

    /// The body of the record that a row lies in.
    pub(crate) fn body(&self, pointer: RowPointer) -> Result<Arc<[u8]>> {
        self.shared.records.body(pointer.record)
    }

    /// The error for a row that is not what its place says.
    pub(crate) fn corrupt_row(&self, pointer: RowPointer, malformed: Malformed) -> Error {
        self.shared
            .records
            .corrupt_record(pointer.record, malformed.0)
    }

    /// Gives the rows of some slots to `each`; returns the slot to go on from, `None` after the shard's last.
    fn collect(
        &self,
        table: &Table,
        range: &KeyRange,
        shard: usize,
        slot_start: usize,
        mut each: impl FnMut(&[u8], RowPointer),
    ) -> Option<usize> {
        let shard = table.state.shards().get(shard)?.read();
        let slot_end = shard.slot_count().min(slot_start + SLOTS_PER_LOCK);
        for (key, pointer) in (slot_start..slot_end).filter_map(|slot| shard.slot(slot, self.seq)) {
            if range.contains(key) {
                each(key, pointer);
            }
        }
        (slot_end < shard.slot_count()).then_some(slot_end)
    }
}

/// Encoded bounds of a scan.
#[derive(Debug)]
pub(crate) struct KeyRange {
    start: Bound<Vec<u8>>,
    end: Bound<Vec<u8>>,
}

impl KeyRange {
    /// The range between bounds that are encoded already.
    pub(crate) fn of_bytes(start: Bound<Vec<u8>>, end: Bound<Vec<u8>>) -> Self {
        KeyRange { start, end }
    }

    fn new(table: &Table, range: &(Bound<Vec<Value>>, Bound<Vec<Value>>)) -> Result<Self> {
        let encode = |values: &Vec<Value>| {
            let count = table.schema().primary_key().len();
            if values.is_empty() || values.len() > count {
                return Err(Error::Row(format!(
                    "table '{}': a bound of {} values, the primary key has {count} columns",
                    table.name(),
                    values.len()
                )));
            }
            let mut key = Vec::new();
            encode_key_prefix(table.schema(), values.iter(), &mut key)?;
            Ok((key, values.len() < count))
        };
        // A bound of the key's first columns stands before or after all keys that start with it.
        let start = match &range.0 {
            Bound::Unbounded => Bound::Unbounded,
            Bound::Included(values) => Bound::Included(encode(values)?.0),
            Bound::Excluded(values) => match encode(values)? {
                (key, false) => Bound::Excluded(key),
                (key, true) => after_prefix(key).map_or(Bound::Unbounded, Bound::Included),
            },
        };
        let end = match &range.1 {
            Bound::Unbounded => Bound::Unbounded,
            Bound::Excluded(values) => Bound::Excluded(encode(values)?.0),
            Bound::Included(values) => match encode(values)? {
                (key, false) => Bound::Included(key),
                (key, true) => after_prefix(key).map_or(Bound::Unbounded, Bound::Excluded),
            },
        };
        Ok(KeyRange { start, end })
    }

    fn contains(&self, key: &[u8]) -> bool {
        let after_start = match &self.start {
            Bound::Unbounded => true,
            Bound::Included(start) => key >= start.as_slice(),
            Bound::Excluded(start) => key > start.as_slice(),
        };
        after_start
            && match &self.end {
                Bound::Unbounded => true,
                Bound::Included(end) => key <= end.as_slice(),
                Bound::Excluded(end) => key < end.as_slice(),
            }
    }
}

/// The smallest key above all that start with a prefix; `None` if there is none.
pub(crate) fn after_prefix(mut prefix: Vec<u8>) -> Option<Vec<u8>> {
    while let Some(last) = prefix.pop() {
        if last < u8::MAX {
            prefix.push(last + 1);
            return Some(prefix);
        }
    }
    None
}

fn value_bytes(body: &[u8], pointer: RowPointer) -> Option<&[u8]> {
    body.get(pointer.value_offset as usize..)?
        .get(..pointer.value_size_bytes as usize)
}

/// Batches of a table's rows, made as they are asked for.
#[derive(Debug)]
pub struct Batches {
    table: Table,
    snapshot: Snapshot,
    builder: BatchBuilder,
    batch_rows: usize,
    rows: RowSource,
    failed: bool,
}

#[derive(Debug)]
enum RowSource {
    /// The slots of each shard in turn; `waiting` was collected and not yet returned.
    Slots {
        range: KeyRange,
        shard: usize,
        slot: usize,
        waiting: VecDeque<(Box<[u8]>, RowPointer)>,
    },
    /// A list, from one end or the other.
    List {
        rows: Arc<Vec<(Box<[u8]>, RowPointer)>>,
        returned: usize,
        descending: bool,
    },
}

impl Batches {
    fn of_table(
        table: &Table,
        snapshot: &Snapshot,
        range: KeyRange,
        projection: Option<&[usize]>,
        batch_rows: usize,
    ) -> Result<Self> {
        let rows = RowSource::Slots {
            range,
            shard: 0,
            slot: 0,
            waiting: VecDeque::new(),
        };
        Self::new(table, snapshot, rows, projection, batch_rows)
    }

    pub(crate) fn of_rows(
        table: &Table,
        snapshot: &Snapshot,
        rows: Arc<Vec<(Box<[u8]>, RowPointer)>>,
        descending: bool,
        projection: Option<&[usize]>,
        batch_rows: usize,
    ) -> Result<Self> {
        Self::new(
            table,
            snapshot,
            RowSource::List {
                rows,
                returned: 0,
                descending,
            },
            projection,
            batch_rows,
        )
    }

    fn new(
        table: &Table,
        snapshot: &Snapshot,
        rows: RowSource,
        projection: Option<&[usize]>,
        batch_rows: usize,
    ) -> Result<Self> {
        Ok(Batches {
            table: table.clone(),
            snapshot: snapshot.clone(),
            builder: BatchBuilder::new(table.schema().clone(), projection)?,
            batch_rows: batch_rows.max(1),
            rows,
            failed: false,
        })
    }

    /// The schema of every batch.
    pub fn schema(&self) -> SchemaRef {
        self.builder.schema().clone()
    }

    fn next_row(&mut self) -> Option<(Box<[u8]>, RowPointer)> {
        match &mut self.rows {
            RowSource::List {
                rows,
                returned,
                descending,
            } => {
                let i = if *descending {
                    rows.len().checked_sub(*returned + 1)?
                } else {
                    *returned
                };
                let row = rows.get(i)?.clone();
                *returned += 1;
                Some(row)
            }
            RowSource::Slots {
                range,
                shard,
                slot,
                waiting,
            } => {
                while waiting.is_empty() && *shard < self.table.state.shards().len() {
                    let collect = |key: &[u8], pointer| waiting.push_back((key.into(), pointer));
                    match self
                        .snapshot
                        .collect(&self.table, range, *shard, *slot, collect)
                    {
                        Some(next) => *slot = next,
                        None => (*shard, *slot) = (*shard + 1, 0),
                    }
                }
                waiting.pop_front()
            }
        }
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let needs_values = self.builder.needs_values();
        let shared = self.snapshot.shared.clone();
        let mut warm: Option<(u32, Arc<[u8]>)> = None;
        while self.builder.row_count() < self.batch_rows {
            let Some((key, pointer)) = self.next_row() else {
                break;
            };
            let corrupt = |reason: &str| shared.records.corrupt_record(pointer.record, reason);
            let pushed = if needs_values {
                let body = match warm.take() {
                    Some((record, body)) if record == pointer.record => body,
                    _ => shared.records.body(pointer.record)?,
                };
                let value = value_bytes(&body, pointer)
                    .ok_or_else(|| corrupt("a row lies beyond its record"))?;
                let pushed = self.builder.push(&key, value);
                warm = Some((pointer.record, body));
                pushed
            } else {
                self.builder.push(&key, &[])
            };
            pushed.map_err(|malformed| corrupt(malformed.0))?;
        }
        if self.builder.row_count() == 0 {
            Ok(None)
        } else {
            self.builder.finish().map(Some)
        }
    }
}

impl Iterator for Batches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let batch = self.next_batch();
        self.failed = batch.is_err();
        batch.transpose()
    }
}
