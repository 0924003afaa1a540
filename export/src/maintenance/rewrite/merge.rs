//! Rows of several files, each in the order of the primary key, as one sequence in that order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_row::{RowConverter, Rows, SortField};
use arrow_select::interleave::interleave_record_batch;
use futures::StreamExt;
use futures::stream::BoxStream;
use moonshine_engine::TableSchema;

use crate::environment::Work;
use crate::error::{ExportError, Result};
use crate::scan::{FileScan, scan_file};

/// Rows of a batch at most.
const BATCH_ROWS: usize = 8192;
/// Rows of a batch that is read of one of many files.
pub(super) const INPUT_ROWS: usize = 1024;
/// A batch is not made larger than about this, in bytes.
const BATCH_BYTES_MAX: usize = 32 << 20;

/// The merged rows. It waits for the files on the thread that asks, which has to be one that may block.
pub(super) struct MergedRows {
    work: Arc<dyn Work>,
    converter: RowConverter,
    /// The key's columns.
    key: Vec<usize>,
    inputs: Vec<Input>,
    /// Of each input that has rows left the next row's key.
    heads: BinaryHeap<Reverse<(Vec<u8>, usize)>>,
}

struct Input {
    stream: BoxStream<'static, Result<RecordBatch>>,
    batch: RecordBatch,
    keys: Rows,
    /// The next row of the batch.
    at: usize,
    /// About how many bytes each of its rows has.
    row_bytes: usize,
}

fn failed(error: arrow_schema::ArrowError) -> ExportError {
    ExportError::corrupt("rows to be merged", error)
}

impl MergedRows {
    /// Rows with all columns of the table, and whatever the scans have behind them.
    pub(super) fn open(
        work: &Arc<dyn Work>,
        schema: &TableSchema,
        scans: impl Iterator<Item = FileScan>,
    ) -> Result<Self> {
        let field =
            |column: &moonshine_engine::Column| SortField::new(column.column_type.arrow_type());
        let converter =
            RowConverter::new(schema.key_columns().map(field).collect()).map_err(failed)?;
        let mut merged = MergedRows {
            work: work.clone(),
            key: schema.primary_key().to_vec(),
            inputs: Vec::new(),
            heads: BinaryHeap::new(),
            converter,
        };
        let empty = RecordBatch::new_empty(schema.arrow_schema().clone());
        for scan in scans {
            let number = merged.inputs.len();
            merged.inputs.push(Input {
                stream: scan_file(scan),
                keys: merged.converter.empty_rows(0, 0),
                batch: empty.clone(),
                at: 0,
                row_bytes: 0,
            });
            merged.refill(number)?;
        }
        Ok(merged)
    }

    /// Reads the next batch of an input whose rows are all taken.
    fn refill(&mut self, number: usize) -> Result<()> {
        let Some(input) = self.inputs.get_mut(number) else {
            return Ok(());
        };
        while let Some(batch) = self.work.output(input.stream.next()).flatten() {
            let batch = batch?;
            if batch.num_rows() == 0 {
                continue;
            }
            let columns = self
                .key
                .iter()
                .filter_map(|&at| batch.columns().get(at).cloned());
            let columns: Vec<ArrayRef> = columns.collect();
            input.keys = self.converter.convert_columns(&columns).map_err(failed)?;
            input.row_bytes = batch.get_array_memory_size() / batch.num_rows();
            (input.batch, input.at) = (batch, 0);
            self.heads
                .push(Reverse((input.keys.row(0).as_ref().to_vec(), number)));
            break;
        }
        Ok(())
    }

    /// The next rows, up to the end of one of the batches that they come from.
    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let mut rows: Vec<(usize, usize)> = Vec::with_capacity(BATCH_ROWS);
        let (mut ended, mut bytes) = (None, 0);
        while let Some(Reverse((_, number))) = self.heads.pop() {
            let Some(input) = self.inputs.get_mut(number) else {
                continue;
            };
            rows.push((number, input.at));
            input.at += 1;
            bytes += input.row_bytes;
            if input.at == input.batch.num_rows() {
                ended = Some(number);
                break;
            }
            let key = input.keys.row(input.at).as_ref().to_vec();
            self.heads.push(Reverse((key, number)));
            if rows.len() == BATCH_ROWS || bytes >= BATCH_BYTES_MAX {
                break;
            }
        }
        if rows.is_empty() {
            return Ok(None);
        }
        // An input without rows may have other columns than those that have some.
        let used = |(number, input): (usize, &Input)| (input.at > 0).then_some(number);
        let used: Vec<usize> = self.inputs.iter().enumerate().filter_map(used).collect();
        let batches = used.iter().filter_map(|&number| self.inputs.get(number));
        let batches: Vec<&RecordBatch> = batches.map(|input| &input.batch).collect();
        for (number, _) in &mut rows {
            *number = used.binary_search(number).unwrap_or_default();
        }
        let merged = interleave_record_batch(&batches, &rows).map_err(failed)?;
        if let Some(number) = ended {
            self.refill(number)?;
        }
        Ok(Some(merged))
    }
}

impl Iterator for MergedRows {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_batch().transpose()
    }
}
