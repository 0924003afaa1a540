//! Rows on their way into files: gathered until they are worth a row group, put in order, and told apart by partition.
//!
//! What is gathered is bounded in memory, and so is the number of files that are open. If all rows can be gathered, partitions are
//! written one after the other. If not, rows of more partitions than files may be open wait for another pass over all rows,
//! rather than that files are closed half empty.

use std::collections::BTreeMap;
use std::ops::Range;

use arrow_array::{RecordBatch, UInt32Array};
use arrow_select::interleave::interleave_record_batch;
use arrow_select::take::take_record_batch;
use iceberg::spec::DataFile;
use moonshine_engine::TableSchema;

use super::Layout;
use super::parquet::OpenFile;
use super::partition::Partitioner;
use super::writer::Output;
use crate::error::{ExportError, Result};

/// Rows of a batch that is put together from others.
const BATCH_ROWS: usize = 8192;

/// Rows that were gathered.
#[derive(Default)]
struct Gathered {
    batches: Vec<RecordBatch>,
    /// The partition of each batch's rows.
    partitions: Vec<Vec<usize>>,
    /// The number of each batch's rows among all rows.
    numbers: Vec<Vec<u32>>,
    /// The memory of the batches.
    size_bytes: usize,
    /// What it takes beside to put them in order.
    order_bytes: usize,
}

/// What a row takes that is told apart by partition, in bytes.
const DIVIDED_ROW_BYTES: usize = 32;

/// Brings rows into files.
pub(super) struct Divider<'a, O> {
    schema: &'a TableSchema,
    layout: &'a Layout,
    output: O,
    partitioner: Partitioner<'a>,
    /// The partitions that this pass writes: all, as long as all rows may fit into memory.
    own: Range<usize>,
    gathered: Gathered,
    open: BTreeMap<usize, OpenFile>,
    /// Bytes in a file for a byte in memory, as of the last row group.
    ratio: f64,
    files: Vec<Option<(DataFile, Vec<u32>)>>,
}

impl<'a, O: Output> Divider<'a, O> {
    pub(super) fn new(schema: &'a TableSchema, layout: &'a Layout, output: O) -> Self {
        Divider {
            schema,
            layout,
            output,
            partitioner: Partitioner::new(&layout.partitioning),
            own: 0..usize::MAX,
            gathered: Gathered::default(),
            open: BTreeMap::new(),
            ratio: 1.0,
            files: Vec::new(),
        }
    }

    /// Takes a batch whose first row has that number. The rows of partitions that are not this pass's are left out.
    pub(super) fn take(&mut self, batch: RecordBatch, first_row: usize) -> Result<()> {
        if !self.layout.keeps_rows_in_order() {
            self.gather(batch, first_row)?;
            let gathered_bytes = self.gathered.size_bytes + self.gathered.order_bytes;
            if gathered_bytes < self.layout.limits.gathered_bytes {
                return Ok(());
            }
            if self.own.end == usize::MAX {
                // More than fits: the first pass is of the partitions that came first.
                self.own = 0..self.layout.limits.open_files;
            }
            return self.flush();
        }
        let row_bytes = batch.get_array_memory_size() / batch.num_rows().max(1) + 1;
        let mut rest = batch;
        while rest.num_rows() > 0 {
            let room = self
                .row_group_bytes(0)
                .saturating_sub(self.gathered.size_bytes)
                / row_bytes;
            let row_count = rest.num_rows().min(room.max(1));
            self.gathered.batches.push(rest.slice(0, row_count));
            self.gathered.size_bytes += row_count * row_bytes;
            rest = rest.slice(row_count, rest.num_rows() - row_count);
            if row_count >= room {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn gather(&mut self, batch: RecordBatch, first_row: usize) -> Result<()> {
        let numbers = self.partitioner.numbers(&batch)?;
        let limit = self.layout.limits.partitions;
        if self.partitioner.len() > limit {
            return Err(ExportError::Config(format!(
                "table '{}': an export has rows of more than {limit} partitions; give a partition_by with fewer",
                self.schema.name()
            )));
        }
        let too_many = |_| {
            ExportError::Config(
                "an export of 2^32 rows or more can't be partitioned or sorted".into(),
            )
        };
        let last_row = u32::try_from(first_row + batch.num_rows()).map_err(too_many)?;
        let all = u32::try_from(first_row).map_err(too_many)?..last_row;
        let is_own = |number: &usize| self.own.contains(number);
        let (batch, numbers, rows) = if numbers.iter().all(is_own) {
            (batch, numbers, all.collect())
        } else {
            let chosen = |(_, number): &(u32, usize)| is_own(number);
            let (rows, numbers): (Vec<u32>, Vec<usize>) = (0..).zip(numbers).filter(chosen).unzip();
            let batch =
                take_record_batch(&batch, &UInt32Array::from(rows.clone())).map_err(reordering)?;
            (
                batch,
                numbers,
                rows.into_iter().map(|row| all.start + row).collect(),
            )
        };
        if batch.num_rows() > 0 {
            self.gathered.size_bytes += batch.get_array_memory_size();
            let order = self.layout.order.as_ref();
            self.gathered.order_bytes += batch.num_rows() * DIVIDED_ROW_BYTES
                + order.map_or(0, |order| order.memory_bytes(&batch));
            self.gathered.batches.push(batch);
            self.gathered.partitions.push(numbers);
            self.gathered.numbers.push(rows);
        }
        Ok(())
    }

    /// Ends a pass over all rows; true if there has to be another one.
    pub(super) fn end_pass(&mut self) -> Result<bool> {
        self.flush()?;
        while let Some((partition, file)) = self.open.pop_first() {
            self.close(partition, file)?;
        }
        let next = self.own.end;
        self.own = next..next.saturating_add(self.layout.limits.open_files);
        Ok(self.partitioner.len() > next)
    }

    /// The files, and the numbers of their rows.
    pub(super) fn finish(self) -> super::Written {
        let mut written = super::Written::default();
        let mut order = Vec::new();
        for (file, rows) in self.files.into_iter().flatten() {
            written.files.push(file);
            order.extend(rows);
        }
        written.order = (!self.layout.keeps_rows_in_order()).then_some(order);
        written
    }

    /// Writes what was gathered.
    fn flush(&mut self) -> Result<()> {
        let gathered = std::mem::take(&mut self.gathered);
        if gathered.batches.is_empty() {
            return Ok(());
        }
        if self.layout.keeps_rows_in_order() {
            let Gathered {
                batches,
                size_bytes,
                ..
            } = gathered;
            return self.write_row_group(0, &batches, size_bytes, Vec::new());
        }
        let batches: Vec<&RecordBatch> = gathered.batches.iter().collect();
        let row_count: usize = batches.iter().map(|batch| batch.num_rows()).sum();
        let row_bytes = gathered.size_bytes / row_count.max(1) + 1;
        for (partition, rows) in self.rows_by_partition(&gathered)? {
            let mut rest = rows.as_slice();
            while !rest.is_empty() {
                let row_count = (self.row_group_bytes(partition) / row_bytes).max(1);
                let (group, after) = rest.split_at(row_count.min(rest.len()));
                rest = after;
                let part = |rows| interleave_record_batch(&batches, rows).map_err(reordering);
                let parts = group
                    .chunks(BATCH_ROWS)
                    .map(part)
                    .collect::<Result<Vec<_>>>()?;
                let number = |(batch, row): &(usize, usize)| {
                    gathered.numbers.get(*batch)?.get(*row).copied()
                };
                let numbers = group.iter().filter_map(number).collect();
                self.write_row_group(partition, &parts, group.len() * row_bytes, numbers)?;
            }
            // The rows that come next begin the order anew; and if all were gathered, none come.
            if (self.layout.order.is_some() || self.own.end == usize::MAX)
                && let Some(file) = self.open.remove(&partition)
            {
                self.close(partition, file)?;
            }
        }
        Ok(())
    }

    /// The rows that were gathered, each partition's in its order, as (batch, row).
    fn rows_by_partition(
        &self,
        gathered: &Gathered,
    ) -> Result<BTreeMap<usize, Vec<(usize, usize)>>> {
        let mut by_partition: BTreeMap<usize, Vec<(usize, usize)>> = BTreeMap::new();
        let mut add = |(batch, row): (usize, usize)| {
            let partition = gathered.partitions.get(batch);
            let partition = partition.and_then(|rows| rows.get(row));
            // What was gathered before the pass was limited waits for its own.
            if let Some(partition) = partition.filter(|number| self.own.contains(number)) {
                by_partition
                    .entry(*partition)
                    .or_default()
                    .push((batch, row));
            }
        };
        match &self.layout.order {
            Some(order) => order.sorted(&gathered.batches)?.into_iter().for_each(add),
            None => {
                for (batch, rows) in gathered.partitions.iter().enumerate() {
                    (0..rows.len()).for_each(|row| add((batch, row)));
                }
            }
        }
        Ok(by_partition)
    }

    /// How much memory of rows the next row group of a partition's file is made of.
    fn row_group_bytes(&self, partition: usize) -> usize {
        let written = self.open.get(&partition).map_or(0, OpenFile::size_bytes);
        let rest = self.layout.target_size_bytes.saturating_sub(written) as f64 / self.ratio;
        // A number too large for its type becomes the largest.
        (rest as usize).clamp(1, self.layout.limits.row_group_bytes)
    }

    fn write_row_group(
        &mut self,
        partition: usize,
        batches: &[RecordBatch],
        memory_bytes: usize,
        numbers: Vec<u32>,
    ) -> Result<()> {
        let mut file = match self.open.remove(&partition) {
            Some(file) => file,
            None => {
                let number = self.files.len();
                self.files.push(None);
                let path = self.output.open(number)?;
                let row_count: usize = batches.iter().map(RecordBatch::num_rows).sum();
                let row_bytes = memory_bytes / row_count.max(1) + 1;
                let row_group_rows = self.layout.limits.row_group_bytes / row_bytes;
                OpenFile::open(
                    number,
                    path,
                    self.schema,
                    batches,
                    row_group_rows,
                    self.layout,
                )?
            }
        };
        let before = file.size_bytes();
        file.write_row_group(batches)?;
        file.rows.extend(numbers);
        self.ratio = ((file.size_bytes() - before) as f64 / memory_bytes.max(1) as f64).max(1e-3);
        self.output.bytes(file.number, file.take_bytes())?;
        // A row group that would be a fraction of the others is not begun.
        if file.size_bytes() >= self.layout.target_size_bytes - self.layout.target_size_bytes / 16 {
            return self.close(partition, file);
        }
        self.open.insert(partition, file);
        Ok(())
    }

    fn close(&mut self, partition: usize, mut file: OpenFile) -> Result<()> {
        let (number, rows) = (file.number, std::mem::take(&mut file.rows));
        let partition = self.partitioner.value(partition);
        let (bytes, entry) = file.finish(self.layout, self.schema.columns(), partition)?;
        self.output.bytes(number, bytes)?;
        self.output.close(number)?;
        if let Some(slot) = self.files.get_mut(number) {
            *slot = Some((entry, rows));
        }
        Ok(())
    }
}

fn reordering(error: arrow_schema::ArrowError) -> ExportError {
    ExportError::corrupt("rows in another order", error)
}
