//! Arrow batches from encoded keys and rows.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{Schema, SchemaRef};

use super::column_builder::{BytesColumn, ColumnBuilder};
use super::page_columns::{NullBitmaps, RowRests};
use super::piece::Slots;
use super::rows::TakeRows;
use crate::codec::key::decode_key_value;
use crate::codec::row::{ValueRef, decode_value};
use crate::codec::versions::current_values;
use crate::codec::{Malformed, Reader};
use crate::error::{Error, Result};
use crate::row_set::rows_page::{RowRef, RowsView};
use crate::schema::{ColumnType, TableSchema};

/// A batch ends when its keys and values have so many bytes, however few rows those are.
const BATCH_SIZE_BYTES_MAX: usize = 64 << 20;
/// Rows that come one by one are decoded together once there are so many, or so many bytes of them: columns are then found in
/// the processor's nearest caches.
const STAGED_ROWS_MAX: usize = 256;
const STAGED_SIZE_BYTES_MAX: usize = 128 << 10;

/// The schema of batches that hold those columns of a table, in that order.
fn projected_schema(schema: &TableSchema, projection: Option<&[usize]>) -> Result<SchemaRef> {
    match projection {
        None => Ok(schema.arrow_schema().clone()),
        Some(positions) => schema
            .arrow_schema()
            .project(positions)
            .map(Arc::new)
            .map_err(|_| {
                Error::Usage(format!(
                    "table '{}': a projection names a column beyond the {} that it has",
                    schema.name(),
                    schema.columns().len()
                ))
            }),
    }
}

/// A column in the order in which it is encoded, and which builder takes it.
#[derive(Clone, Copy, Debug)]
struct Step {
    column_type: ColumnType,
    builder: Option<usize>,
}

/// Collects encoded rows into batches.
#[derive(Debug)]
pub(crate) struct BatchBuilder {
    table_schema: Arc<TableSchema>,
    batch_schema: Arc<Schema>,
    /// One for each column of the table that is asked for.
    builders: Vec<ColumnBuilder>,
    /// For each column of the batch, the builder of its column.
    columns: Vec<usize>,
    /// The columns of the key up to the last one that is asked for, and whether that is all of them.
    key_steps: Vec<Step>,
    has_whole_key: bool,
    /// Likewise those outside the key.
    value_steps: Vec<Step>,
    has_whole_value: bool,
    /// Bytes of the bitmap of nulls.
    null_bytes: usize,
    /// Where text of a key is put together.
    scratch: Vec<u8>,
    /// Rows that came one by one and are not decoded yet.
    staged: StagedRows,
    row_count: usize,
    size_bytes: usize,
}

/// Encoded rows, one behind the other, each a key and a value.
#[derive(Debug, Default)]
struct StagedRows {
    bytes: Vec<u8>,
    /// Where the key of each row ends, and where its value does.
    ends: Vec<(usize, usize)>,
}

impl StagedRows {
    fn push(&mut self, row: RowRef<'_>) {
        match row.key.first_chunk::<8>() {
            // A number, which is copied without a call.
            Some(key) if row.key.len() == 8 => self.bytes.extend_from_slice(key),
            _ => self.bytes.extend_from_slice(row.key),
        }
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(row.value.unwrap_or_default());
        self.ends.push((key_end, self.bytes.len()));
    }

    fn is_full(&self) -> bool {
        self.ends.len() >= STAGED_ROWS_MAX || self.bytes.len() >= STAGED_SIZE_BYTES_MAX
    }

    /// The keys and the values.
    fn split(&self) -> (Vec<&[u8]>, Vec<&[u8]>) {
        let mut start = 0;
        let row = |(key_end, end): &(usize, usize)| {
            let key = self.bytes.get(start..*key_end).unwrap_or_default();
            let value = self.bytes.get(*key_end..*end).unwrap_or_default();
            start = *end;
            (key, value)
        };
        self.ends.iter().map(row).unzip()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// The rows without the version that they begin with, if that is the given one for all, and stands in one byte.
fn without_version<'v>(values: &[&'v [u8]], version: u32) -> Option<Vec<&'v [u8]>> {
    let version = u8::try_from(version).ok().filter(|one| *one < 0x80)?;
    let mut rests = Vec::with_capacity(values.len());
    for value in values {
        let (_, rest) = value.split_first().filter(|(byte, _)| **byte == version)?;
        rests.push(rest);
    }
    Some(rests)
}

/// Leaves out the columns behind the last one that is asked for; whether none is left out.
fn cut(mut steps: Vec<Step>) -> (Vec<Step>, bool) {
    let wanted = steps.iter().rposition(|step| step.builder.is_some());
    let count = wanted.map_or(0, |last| last + 1);
    let is_whole = count == steps.len();
    steps.truncate(count);
    (steps, is_whole)
}

impl BatchBuilder {
    pub(crate) fn new(
        table_schema: Arc<TableSchema>,
        projection: Option<&[usize]>,
    ) -> Result<Self> {
        let batch_schema = projected_schema(&table_schema, projection)?;
        let all: Vec<usize> = (0..table_schema.columns().len()).collect();
        let positions = projection.unwrap_or(&all);
        let mut distinct: Vec<usize> = Vec::new();
        let mut columns = Vec::with_capacity(positions.len());
        for position in positions {
            let known = distinct.iter().position(|known| known == position);
            columns.push(known.unwrap_or(distinct.len()));
            if known.is_none() {
                distinct.push(*position);
            }
        }
        let step = |position: &usize| {
            let column = table_schema.columns().get(*position)?;
            Some(Step {
                column_type: column.column_type,
                builder: distinct.iter().position(|known| known == position),
            })
        };
        let keys = table_schema.primary_key().iter().filter_map(step).collect();
        let outside = all
            .iter()
            .filter(|position| !table_schema.is_key(**position));
        let values: Vec<Step> = outside.filter_map(step).collect();
        let null_bytes = values.len().div_ceil(8);
        let (key_steps, has_whole_key) = cut(keys);
        let (value_steps, has_whole_value) = cut(values);
        let builders = distinct
            .iter()
            .filter_map(|&position| table_schema.columns().get(position))
            .map(|column| ColumnBuilder::new(column.column_type))
            .collect();
        Ok(BatchBuilder {
            batch_schema,
            builders,
            columns,
            key_steps,
            has_whole_key,
            value_steps,
            has_whole_value,
            null_bytes,
            scratch: Vec::new(),
            staged: StagedRows::default(),
            row_count: 0,
            size_bytes: 0,
            table_schema,
        })
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.batch_schema
    }

    pub(crate) fn row_count(&self) -> usize {
        self.row_count
    }

    /// Whether it is to be finished, however few rows it has.
    pub(crate) fn is_full(&self) -> bool {
        self.size_bytes >= BATCH_SIZE_BYTES_MAX
    }

    /// Appends a row; what is not asked for is not looked at.
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) -> Result<(), Malformed> {
        self.push_key(key)?;
        self.push_value(value)?;
        self.row_count += 1;
        Ok(())
    }

    fn push_key(&mut self, key: &[u8]) -> Result<(), Malformed> {
        if self.key_steps.is_empty() {
            return Ok(());
        }
        let mut reader = Reader::new(key);
        let last = self.table_schema.primary_key().len() - 1;
        for (i, step) in self.key_steps.iter().enumerate() {
            let scratch = &mut self.scratch;
            let value = decode_key_value(step.column_type, i == last, &mut reader, scratch)?;
            if let Some(builder) = step.builder.and_then(|i| self.builders.get_mut(i)) {
                builder.push(value)?;
            }
        }
        self.size_bytes += key.len();
        if self.has_whole_key {
            reader.finish()?;
        }
        Ok(())
    }

    fn push_value(&mut self, value: &[u8]) -> Result<(), Malformed> {
        if self.value_steps.is_empty() {
            return Ok(());
        }
        let value = current_values(&self.table_schema, value)?;
        let mut reader = Reader::new(&value);
        let nulls = reader.bytes(self.null_bytes)?;
        for (i, step) in self.value_steps.iter().enumerate() {
            let is_null = nulls
                .get(i / 8)
                .is_some_and(|byte| byte >> (i % 8) & 1 == 1);
            let value = if is_null {
                ValueRef::Null
            } else {
                decode_value(step.column_type, &mut reader)?
            };
            if let Some(builder) = step.builder.and_then(|i| self.builders.get_mut(i)) {
                builder.push(value)?;
            }
        }
        self.size_bytes += value.len();
        if self.has_whole_value {
            reader.finish()?;
        }
        Ok(())
    }

    /// The builder of a table's only key column if that is bytes, which stand as they are.
    fn binary_key(&mut self) -> Option<&mut BytesColumn> {
        let [step] = self.key_steps.as_slice() else {
            return None;
        };
        let column = self.builders.get_mut(step.builder?)?.binary();
        column.filter(|_| self.has_whole_key)
    }

    /// The builder of a table's only column outside the key if that is bytes, which stand behind their length. Where rows
    /// have versions, something else stands before them.
    fn binary_value(&mut self) -> Option<&mut BytesColumn> {
        if self.table_schema.has_row_versions() {
            return None;
        }
        let [step] = self.value_steps.as_slice() else {
            return None;
        };
        let column = self.builders.get_mut(step.builder?)?.binary();
        column.filter(|_| self.has_whole_value)
    }

    fn take_keys(&mut self, rows: RowsView<'_>, slots: Slots<'_>) -> Result<(), Malformed> {
        if self.key_steps.is_empty() {
            return Ok(());
        }
        let Some(column) = self.binary_key() else {
            return self.take_key_columns(rows, slots);
        };
        match slots {
            Slots::Range(start, end) if start < end => {
                let (from, _) = rows.key_span(start);
                let (_, to) = rows.key_span(end - 1);
                let ends = (start..end).map(|slot| rows.key_span(slot).1 - from);
                column.push_all(rows.key_bytes().get(from..to).unwrap_or_default(), ends);
                self.size_bytes += to - from;
                Ok(())
            }
            slots => {
                let mut size_bytes = 0;
                slots.try_each(|slot| {
                    let key = rows.key(slot);
                    size_bytes += key.len();
                    column.push(key);
                    Ok(())
                })?;
                self.size_bytes += size_bytes;
                Ok(())
            }
        }
    }

    fn take_values(&mut self, rows: RowsView<'_>, slots: Slots<'_>) -> Result<(), Malformed> {
        if self.value_steps.is_empty() {
            return Ok(());
        }
        let Some(column) = self.binary_value() else {
            return self.take_value_columns(rows, slots);
        };
        let mut size_bytes = 0;
        slots.try_each(|slot| {
            let mut reader = Reader::new(rows.live_value(slot));
            if reader.u8()? != 0 {
                column.push_null();
                return reader.finish();
            }
            let len = reader.varint()?;
            let value = reader.remaining();
            if value.len() as u64 != len {
                return Err(Malformed("a value of another length"));
            }
            size_bytes += value.len();
            column.push(value);
            Ok(())
        })?;
        self.size_bytes += size_bytes;
        Ok(())
    }

    /// The keys of rows of a page, column by column.
    fn take_key_columns(&mut self, rows: RowsView<'_>, slots: Slots<'_>) -> Result<(), Malformed> {
        let mut keys = Vec::with_capacity(slots.len());
        slots.try_each(|slot| {
            keys.push(rows.key(slot));
            Ok(())
        })?;
        self.decode_keys(keys)
    }

    fn decode_keys(&mut self, keys: Vec<&[u8]>) -> Result<(), Malformed> {
        self.size_bytes += keys.iter().map(|key| key.len()).sum::<usize>();
        let mut keys = RowRests::new(keys);
        let last = self.table_schema.primary_key().len() - 1;
        for (i, step) in self.key_steps.iter().enumerate() {
            let builder = step.builder.and_then(|i| self.builders.get_mut(i));
            keys.take_keys(step.column_type, i == last, builder)?;
        }
        if self.has_whole_key {
            keys.finish()
        } else {
            Ok(())
        }
    }

    /// The values of rows of a page outside the key, column by column.
    fn take_value_columns(
        &mut self,
        rows: RowsView<'_>,
        slots: Slots<'_>,
    ) -> Result<(), Malformed> {
        let mut values = Vec::with_capacity(slots.len());
        slots.try_each(|slot| {
            values.push(rows.live_value(slot));
            Ok(())
        })?;
        self.decode_values(values)
    }

    fn decode_values(&mut self, values: Vec<&[u8]>) -> Result<(), Malformed> {
        if !self.table_schema.has_row_versions() {
            return self.decode_current(values);
        }
        // Mostly all are of the version that the schema has now.
        if let Some(values) = without_version(&values, self.table_schema.version()) {
            return self.decode_current(values);
        }
        let values = values.into_iter();
        let values = values.map(|value| current_values(&self.table_schema, value));
        let values = values.collect::<Result<Vec<_>, _>>()?;
        self.decode_current(values.iter().map(|value| &**value).collect())
    }

    /// As [`decode_values`](Self::decode_values), of values as the schema has them now.
    fn decode_current(&mut self, values: Vec<&[u8]>) -> Result<(), Malformed> {
        self.size_bytes += values.iter().map(|value| value.len()).sum::<usize>();
        let mut values = RowRests::new(values);
        let nulls = NullBitmaps::take(&mut values, self.null_bytes)?;
        for (i, step) in self.value_steps.iter().enumerate() {
            let builder = step.builder.and_then(|i| self.builders.get_mut(i));
            values.take_values(step.column_type, nulls.of_column(i), builder)?;
        }
        if self.has_whole_value {
            values.finish()
        } else {
            Ok(())
        }
    }

    /// Decodes the rows that came one by one, column by column.
    fn decode_staged(&mut self) -> Result<(), Malformed> {
        if self.staged.ends.is_empty() {
            return Ok(());
        }
        let mut staged = std::mem::take(&mut self.staged);
        let (keys, values) = staged.split();
        self.row_count += keys.len();
        if !self.key_steps.is_empty() {
            self.decode_keys(keys)?;
        }
        if !self.value_steps.is_empty() {
            self.decode_values(values)?;
        }
        staged.clear();
        self.staged = staged;
        Ok(())
    }

    /// The rows so far as a batch; the builder starts anew.
    pub(crate) fn finish(&mut self) -> Result<RecordBatch> {
        let not_made = |error| Error::Row(format!("table '{}': {error}", self.table_schema.name()));
        let arrays = self.builders.iter_mut().map(ColumnBuilder::finish);
        let arrays: Vec<ArrayRef> = arrays.collect::<Result<_, _>>().map_err(not_made)?;
        let columns = self.columns.iter().filter_map(|&i| arrays.get(i).cloned());
        let options = RecordBatchOptions::new().with_row_count(Some(self.row_count));
        (self.row_count, self.size_bytes) = (0, 0);
        RecordBatch::try_new_with_options(self.batch_schema.clone(), columns.collect(), &options)
            .map_err(not_made)
    }
}

impl TakeRows for BatchBuilder {
    fn take_page(&mut self, rows: RowsView<'_>, slots: Slots<'_>) -> Result<(), Malformed> {
        self.take_keys(rows, slots)?;
        self.take_values(rows, slots)?;
        self.row_count += slots.len();
        Ok(())
    }

    fn take_row(&mut self, row: RowRef<'_>) -> Result<(), Malformed> {
        self.staged.push(row);
        if self.staged.is_full() {
            self.decode_staged()?;
        }
        Ok(())
    }

    fn end_rows(&mut self) -> Result<(), Malformed> {
        self.decode_staged()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::columns::tests::{any_rows, encoded};
    use crate::row_set::rows_page::RowsLayout;
    use crate::row_set::rows_page_builder::RowsPageBuilder;

    proptest! {
        /// *Same*: rows of a page become the columns that they become one by one, whichever are asked for; and where bytes are
        /// cut off or added, neither way takes them.
        #[test]
        fn rows_of_a_page_become_what_they_become_one_by_one(
            (schema, rows) in any_rows(),
            projection in prop::option::of(prop::collection::vec(any::<prop::sample::Index>(), 0..4)),
            is_listed: bool,
            damage in prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<bool>())),
        ) {
            prop_assume!(!rows.is_empty());
            let schema = Arc::new(schema);
            let count = schema.columns().len();
            let projection = projection.map(|wanted| wanted.iter().map(|i| i.index(count)).collect::<Vec<_>>());
            let builder = || BatchBuilder::new(schema.clone(), projection.as_deref()).unwrap();
            let mut rows: Vec<_> = rows.iter().map(|row| encoded(&schema, row)).collect();
            if let Some((row, is_longer)) = damage {
                let row = row.index(rows.len());
                let value = &mut rows[row].1;
                if is_longer {
                    value.push(7);
                } else {
                    value.pop();
                }
            }
            let (mut page, mut one_by_one) = (RowsPageBuilder::default(), builder());
            let mut staged = builder();
            let (mut pushed, mut ended) = (Ok(()), Ok(()));
            for (i, (key, value)) in rows.iter().enumerate() {
                let row = RowRef { key, value: Some(value) };
                page.push(row);
                pushed = pushed.and_then(|()| one_by_one.push(key, value));
                ended = ended.and_then(|()| staged.take_row(row));
                if i % 5 == 4 {
                    ended = ended.and_then(|()| staged.end_rows());
                }
            }
            ended = ended.and_then(|()| staged.end_rows());
            prop_assert_eq!(ended.is_err(), pushed.is_err(), "{:?} {:?}", ended, pushed);
            let mut content = Vec::new();
            page.encode(&mut content);
            let view = RowsView::new(&content, RowsLayout::decode(&content).unwrap());
            let all: Vec<u16> = (0..rows.len() as u16).collect();
            let slots = if is_listed { Slots::List(&all) } else { Slots::Range(0, rows.len()) };
            let mut at_once = builder();
            let taken = at_once.take_page(view, slots);
            prop_assert_eq!(taken.is_err(), pushed.is_err(), "{:?} {:?}", taken, pushed);
            if taken.is_ok() {
                let batch = at_once.finish().unwrap();
                prop_assert_eq!(&batch, &one_by_one.finish().unwrap());
                prop_assert_eq!(&batch, &staged.finish().unwrap());
                // The builder has started anew.
                at_once.take_page(view, slots).unwrap();
                prop_assert_eq!(&batch, &at_once.finish().unwrap());
            }
        }
    }
}
