//! Rows on their way into files: gathered until they are worth a row group, put in order, and told apart by partition.
//!
//! What is gathered is bounded in memory, and so is the number of files that are open. If all rows can be gathered, partitions are
//! written one after the other. If not, rows of more partitions than files may be open wait for another pass over all rows,
//! rather than that files are closed half empty.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{RecordBatch, UInt32Array};
use arrow_select::interleave::interleave_record_batch;
use arrow_select::take::take_record_batch;
use moonshine_engine::{Export, TableSchema};

use super::parquet::OpenFile;
use super::partition::Partitioner;
use super::writer::Output;
use super::{Layout, WrittenFile};
use crate::error::{ExportError, Result};

/// Rows of a batch that is put together from others.
const BATCH_ROWS: usize = 8192;

/// Rows that were gathered.
#[derive(Default)]
struct Gathered {
    batches: Vec<RecordBatch>,
    /// The partition of each batch's rows.
    partitions: Vec<Vec<usize>>,
    /// The memory of the batches.
    size_bytes: usize,
    /// What it takes beside to put them in order.
    order_bytes: usize,
}

/// Rows are encoded once they take so many bytes: while what reads and encodes them finds them in the processor's caches.
const PIECE_BYTES: usize = 4 << 20;

/// What a row takes that is told apart by partition, in bytes.
const DIVIDED_ROW_BYTES: usize = 32;

/// Brings rows into files.
pub(super) struct Divider<'a, O: Output> {
    schema: &'a TableSchema,
    layout: &'a Layout,
    output: O,
    partitioner: Partitioner<'a>,
    /// The partitions that this pass writes: all, as long as all rows may fit into memory.
    own: Range<usize>,
    gathered: Gathered,
    open: BTreeMap<usize, OpenFile<O::Bytes>>,
    /// Bytes in a file for a byte in memory, as of the last row group.
    ratio: f64,
    /// Whose rows they are, if the engine has to know where each lies.
    export: Option<Arc<Export>>,
    files: Vec<Option<WrittenFile>>,
}

impl<'a, O: Output> Divider<'a, O> {
    pub(super) fn new(
        schema: &'a TableSchema,
        layout: &'a Layout,
        output: O,
        export: Option<Arc<Export>>,
    ) -> Self {
        Divider {
            schema,
            layout,
            output,
            partitioner: Partitioner::new(&layout.partitioning),
            own: 0..usize::MAX,
            gathered: Gathered::default(),
            open: BTreeMap::new(),
            ratio: 1.0,
            export,
            files: Vec::new(),
        }
    }

    /// Takes a batch. The rows of partitions that are not this pass's are left out.
    pub(super) fn take(&mut self, batch: RecordBatch) -> Result<()> {
        if !self.layout.keeps_rows_in_order() {
            self.gather(batch)?;
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
        let group_rows = self.layout.limits.row_group_bytes / row_bytes;
        let mut rest = batch;
        while rest.num_rows() > 0 {
            let room = self.row_group_room(0);
            let room = room.saturating_sub(self.gathered.size_bytes) / row_bytes;
            let row_count = rest.num_rows().min(room.max(1));
            self.gathered.batches.push(rest.slice(0, row_count));
            self.gathered.size_bytes += row_count * row_bytes;
            rest = rest.slice(row_count, rest.num_rows() - row_count);
            let is_full = row_count >= room;
            if is_full || self.gathered.size_bytes >= PIECE_BYTES {
                self.write_gathered(group_rows)?;
            }
            if is_full {
                self.end_row_group(0)?;
            }
        }
        Ok(())
    }

    /// Writes rows that come as they are to lie, into a row group that will have about so many.
    fn write_gathered(&mut self, group_rows: usize) -> Result<()> {
        let Gathered {
            batches,
            size_bytes,
            ..
        } = std::mem::take(&mut self.gathered);
        self.write_rows(0, &batches, size_bytes, group_rows)
    }

    fn gather(&mut self, batch: RecordBatch) -> Result<()> {
        let numbers = self.partitioner.numbers(&batch)?;
        let limit = self.layout.limits.partitions;
        if self.partitioner.len() > limit {
            return Err(ExportError::Config(format!(
                "table '{}': an export has rows of more than {limit} partitions; give a partition_by with fewer",
                self.schema.name()
            )));
        }
        let is_own = |number: &usize| self.own.contains(number);
        let (batch, numbers) = if numbers.iter().all(is_own) {
            (batch, numbers)
        } else {
            let chosen = |(_, number): &(u32, usize)| is_own(number);
            let (rows, numbers): (Vec<u32>, Vec<usize>) = (0..).zip(numbers).filter(chosen).unzip();
            let batch = take_record_batch(&batch, &UInt32Array::from(rows)).map_err(reordering)?;
            (batch, numbers)
        };
        if batch.num_rows() > 0 {
            self.gathered.size_bytes += batch.get_array_memory_size();
            let order = self.layout.order.as_ref();
            self.gathered.order_bytes += batch.num_rows() * DIVIDED_ROW_BYTES
                + order.map_or(0, |order| order.memory_bytes(&batch));
            self.gathered.batches.push(batch);
            self.gathered.partitions.push(numbers);
        }
        Ok(())
    }

    /// Ends a pass over all rows; true if there has to be another one.
    pub(super) fn end_pass(&mut self) -> Result<bool> {
        if self.layout.keeps_rows_in_order() {
            self.write_gathered(0)?;
        } else {
            self.flush()?;
        }
        while let Some((partition, file)) = self.open.pop_first() {
            self.close(partition, file)?;
        }
        let next = self.own.end;
        self.own = next..next.saturating_add(self.layout.limits.open_files);
        Ok(self.partitioner.len() > next)
    }

    /// The files, and their rows' keys.
    pub(super) fn finish(self) -> Vec<WrittenFile> {
        self.files.into_iter().flatten().collect()
    }

    /// Puts what was gathered in order, and writes it.
    fn flush(&mut self) -> Result<()> {
        let gathered = std::mem::take(&mut self.gathered);
        if gathered.batches.is_empty() {
            return Ok(());
        }
        let batches: Vec<&RecordBatch> = gathered.batches.iter().collect();
        let row_count: usize = batches.iter().map(|batch| batch.num_rows()).sum();
        let row_bytes = gathered.size_bytes / row_count.max(1) + 1;
        for (partition, rows) in self.rows_by_partition(&gathered)? {
            let mut rest = rows.as_slice();
            while !rest.is_empty() {
                let row_count = (self.row_group_room(partition) / row_bytes).max(1);
                let (group, after) = rest.split_at(row_count.min(rest.len()));
                rest = after;
                for rows in group.chunks((PIECE_BYTES / row_bytes).clamp(1, BATCH_ROWS)) {
                    let piece = interleave_record_batch(&batches, rows).map_err(reordering)?;
                    self.write_rows(partition, &[piece], rows.len() * row_bytes, group.len())?;
                }
                self.end_row_group(partition)?;
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

    /// How much more memory of rows the row group of a partition's file that is being written, or comes next, is made of.
    fn row_group_room(&self, partition: usize) -> usize {
        let file = self.open.get(&partition);
        let written = file.map_or(0, OpenFile::size_bytes);
        let rest = self.layout.target_size_bytes.saturating_sub(written) as f64 / self.ratio;
        // A number too large for its type becomes the largest.
        let whole = (rest as usize).clamp(1, self.layout.limits.row_group_bytes);
        whole.saturating_sub(file.map_or(0, |file| file.group_bytes))
    }

    /// Adds rows to a row group of a partition's file, which will have about so many, or no more than these.
    fn write_rows(
        &mut self,
        partition: usize,
        batches: &[RecordBatch],
        memory_bytes: usize,
        group_rows: usize,
    ) -> Result<()> {
        if batches.is_empty() {
            return Ok(());
        }
        let mut file = match self.open.remove(&partition) {
            Some(file) => file,
            None => {
                let number = self.files.len();
                self.files.push(None);
                let (path, bytes) = self.output.open(number)?;
                let row_count: usize = batches.iter().map(RecordBatch::num_rows).sum();
                let row_bytes = memory_bytes / row_count.max(1) + 1;
                let most_rows = self.layout.limits.row_group_bytes / row_bytes;
                let keys = self.export.as_ref().map(|export| export.file_keys());
                let rows = (group_rows.max(row_count), most_rows);
                let place = (number, path, bytes);
                OpenFile::open(place, self.schema, self.layout, batches, rows, keys)?
            }
        };
        let written = file.write_rows(batches, memory_bytes);
        self.open.insert(partition, file);
        written
    }

    /// Ends the row group of a partition's file that is being written, and the file if it is large enough.
    fn end_row_group(&mut self, partition: usize) -> Result<()> {
        let Some(mut file) = self.open.remove(&partition) else {
            return Ok(());
        };
        let (before, memory_bytes) = (file.size_bytes(), file.group_bytes);
        file.end_row_group()?;
        self.ratio = ((file.size_bytes() - before) as f64 / memory_bytes.max(1) as f64).max(1e-3);
        // A row group that would be a fraction of the others is not begun.
        if file.size_bytes() >= self.layout.target_size_bytes - self.layout.target_size_bytes / 16 {
            return self.close(partition, file);
        }
        self.open.insert(partition, file);
        Ok(())
    }

    fn close(&mut self, partition: usize, file: OpenFile<O::Bytes>) -> Result<()> {
        let number = file.number;
        let partition = self.partitioner.value(partition);
        let written = file.finish(self.layout, self.schema.columns(), partition)?;
        self.output.close(number)?;
        if let Some(slot) = self.files.get_mut(number) {
            *slot = Some(written);
        }
        Ok(())
    }
}

fn reordering(error: arrow_schema::ArrowError) -> ExportError {
    ExportError::corrupt("rows in another order", error)
}
