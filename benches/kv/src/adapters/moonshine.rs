//! Moonshine: a table of a binary key and a binary value, through the engine's public API.
//!
//! Every commit is synced; there is no buffered one yet. A buffered batch is submitted without waiting, so it is durable
//! and readable a little later; a buffered single row must be readable on return and so waits for its sync.

use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::{Array, BinaryArray, RecordBatch};
use moonshine_engine::{
    ColumnType, Database, Scan, ScanOrder, Snapshot, Table, TableSchema, Transaction, Value,
};

use crate::data;
use crate::kv::{ArrowTotals, Durability, Kv, Reader, Result, Sink};
use crate::settings::{self, Memory};

const VALUE_COLUMN: usize = 1;

pub(crate) struct Moonshine {
    database: Database,
    rows: Table,
    /// The newest commit sequence that was submitted and not waited for.
    submitted_seq: AtomicU64,
}

impl Kv for Moonshine {
    type Reader<'a> = MoonshineReader<'a>;

    fn open(folder: &Path, memory: Memory) -> Result<Self> {
        let database = Database::open(folder, settings::moonshine(memory))?;
        let schema = TableSchema::builder("bench.rows")
            .column("key", ColumnType::Binary, false)
            .column("value", ColumnType::Binary, false)
            .primary_key(["key"])
            .build()?;
        let rows = database.create_table(schema)?;
        Ok(Moonshine {
            database,
            rows,
            submitted_seq: AtomicU64::new(0),
        })
    }

    fn put(&self, key: &[u8], value: &[u8], _: Durability) -> Result<()> {
        self.write(Durability::Synced, |sink| sink.put(key, value))
    }

    fn write(
        &self,
        durability: Durability,
        fill: impl FnOnce(&mut dyn Sink) -> Result<()>,
    ) -> Result<()> {
        let mut sink = MoonshineSink {
            rows: &self.rows,
            transaction: self.database.begin(),
        };
        fill(&mut sink)?;
        match durability {
            Durability::Synced => {
                sink.transaction.commit()?;
            }
            Durability::Buffered => {
                let seq = sink.transaction.submit()?.seq();
                self.submitted_seq.fetch_max(seq, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(self
            .database
            .wait_durable(self.submitted_seq.load(Ordering::Relaxed))?)
    }

    fn reader(&self) -> Result<MoonshineReader<'_>> {
        Ok(MoonshineReader {
            rows: &self.rows,
            snapshot: self.database.snapshot(),
        })
    }
}

struct MoonshineSink<'a> {
    rows: &'a Table,
    transaction: Transaction,
}

impl Sink for MoonshineSink<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.transaction.upsert(
            self.rows,
            vec![Value::Binary(key.to_vec()), Value::Binary(value.to_vec())],
        )?)
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        Ok(self
            .transaction
            .delete(self.rows, &[Value::Binary(key.to_vec())])?)
    }
}

pub(crate) struct MoonshineReader<'a> {
    rows: &'a Table,
    snapshot: Snapshot,
}

impl MoonshineReader<'_> {
    fn each_batch(
        &mut self,
        scan: Scan,
        mut each: impl FnMut(&RecordBatch) -> Result<bool>,
    ) -> Result<()> {
        for batch in self.snapshot.scan(self.rows, scan)? {
            if !each(&batch?)? {
                break;
            }
        }
        Ok(())
    }

    fn each_row(
        &mut self,
        scan: Scan,
        limit: u64,
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Result<u64> {
        let mut count = 0;
        self.each_batch(scan, |batch| {
            for (key, value) in binary_column(batch, 0)?
                .iter()
                .zip(binary_column(batch, VALUE_COLUMN)?)
            {
                if count == limit {
                    return Ok(false);
                }
                each(key.unwrap_or_default(), value.unwrap_or_default());
                count += 1;
            }
            Ok(count < limit)
        })?;
        Ok(count)
    }
}

fn binary_column(batch: &RecordBatch, position: usize) -> Result<&BinaryArray> {
    let column = batch
        .columns()
        .get(position)
        .and_then(|column| column.as_any().downcast_ref());
    column.ok_or_else(|| format!("column {position} of the batch is not binary").into())
}

impl Reader for MoonshineReader<'_> {
    fn get(&mut self, key: &[u8], mut found: impl FnMut(&[u8])) -> Result<bool> {
        match self
            .snapshot
            .get(self.rows, &[Value::Binary(key.to_vec())])?
            .as_deref()
        {
            Some([_, Value::Binary(value)]) => found(value),
            Some(row) => return Err(format!("a row of {} values", row.len()).into()),
            None => return Ok(false),
        }
        Ok(true)
    }

    fn range(&mut self, from: &[u8], limit: u64, each: impl FnMut(&[u8], &[u8])) -> Result<u64> {
        let start = if from.is_empty() {
            Bound::Unbounded
        } else {
            Bound::Included(vec![Value::Binary(from.to_vec())])
        };
        let batch_rows = usize::try_from(limit)
            .unwrap_or(usize::MAX)
            .min(Scan::default().batch_rows);
        let scan = Scan {
            order: ScanOrder::Ascending,
            range: (start, Bound::Unbounded),
            batch_rows,
            ..Scan::default()
        };
        self.each_row(scan, limit, each)
    }

    fn scan(&mut self, each: impl FnMut(&[u8], &[u8])) -> Result<u64> {
        self.each_row(Scan::default(), u64::MAX, each)
    }

    fn scan_arrow(&mut self) -> Result<Option<ArrowTotals>> {
        let mut totals = ArrowTotals::default();
        self.each_batch(Scan::default(), |batch| {
            totals.row_count += batch.num_rows() as u64;
            let values = binary_column(batch, VALUE_COLUMN)?;
            let sum = values
                .iter()
                .flatten()
                .map(data::check_sum)
                .fold(0, u64::wrapping_add);
            totals.check_sum = totals.check_sum.wrapping_add(sum);
            Ok(true)
        })?;
        Ok(Some(totals))
    }

    fn len(&mut self) -> Result<u64> {
        Ok(self.snapshot.row_count(self.rows)?)
    }
}
