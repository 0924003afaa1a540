//! Building one column of a batch: a value at a time, or those of many rows.

use std::sync::Arc;

use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType, TimestampNanosecondType,
};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryArray, PrimitiveArray, StringArray,
};
use arrow_buffer::{BooleanBuffer, Buffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType};

use super::nested_column::NestedColumn;
use crate::codec::Malformed;
use crate::codec::row::ValueRef;
use crate::schema::ColumnType;

/// A column that is being built.
#[derive(Debug)]
pub(super) struct ColumnBuilder {
    column_type: ColumnType,
    pub(super) values: ColumnValues,
}

/// Its values, by how they are encoded.
#[derive(Debug)]
pub(super) enum ColumnValues {
    Boolean(FixedColumn<bool>),
    Int32(FixedColumn<i32>),
    Int64(FixedColumn<i64>),
    Float32(FixedColumn<f32>),
    Float64(FixedColumn<f64>),
    Decimal(FixedColumn<i128>),
    Uuid(FixedColumn<[u8; 16]>),
    Bytes(BytesColumn),
    Nested(Box<NestedColumn>),
}

impl ColumnBuilder {
    pub(super) fn new(column_type: ColumnType) -> Self {
        let values = match column_type {
            ColumnType::Boolean => ColumnValues::Boolean(FixedColumn::new()),
            ColumnType::Int32 | ColumnType::Date => ColumnValues::Int32(FixedColumn::new()),
            ColumnType::Int64
            | ColumnType::Time
            | ColumnType::Timestamp
            | ColumnType::TimestampTz
            | ColumnType::TimestampNs
            | ColumnType::TimestampTzNs => ColumnValues::Int64(FixedColumn::new()),
            ColumnType::Float32 => ColumnValues::Float32(FixedColumn::new()),
            ColumnType::Float64 => ColumnValues::Float64(FixedColumn::new()),
            ColumnType::Decimal { .. } => ColumnValues::Decimal(FixedColumn::new()),
            ColumnType::Uuid => ColumnValues::Uuid(FixedColumn::new()),
            ColumnType::Utf8 | ColumnType::Binary => ColumnValues::Bytes(BytesColumn::new()),
            ColumnType::List(_) | ColumnType::Struct(_) | ColumnType::Map(_) => {
                ColumnValues::Nested(Box::new(NestedColumn::new(column_type)))
            }
        };
        ColumnBuilder {
            column_type,
            values,
        }
    }

    /// How many values it has.
    pub(super) fn len(&self) -> usize {
        match &self.values {
            ColumnValues::Boolean(column) => column.values.len(),
            ColumnValues::Int32(column) => column.values.len(),
            ColumnValues::Int64(column) => column.values.len(),
            ColumnValues::Float32(column) => column.values.len(),
            ColumnValues::Float64(column) => column.values.len(),
            ColumnValues::Decimal(column) => column.values.len(),
            ColumnValues::Uuid(column) => column.values.len(),
            ColumnValues::Bytes(column) => column.len(),
            ColumnValues::Nested(column) => column.len(),
        }
    }

    pub(super) fn push_null(&mut self) {
        self.values.push_null();
    }

    /// Whether its values are text.
    pub(super) fn is_text(&self) -> bool {
        self.column_type == ColumnType::Utf8
    }

    /// The column, if its values are bytes and need not be text.
    pub(super) fn binary(&mut self) -> Option<&mut BytesColumn> {
        match &mut self.values {
            ColumnValues::Bytes(column) if self.column_type == ColumnType::Binary => Some(column),
            _ => None,
        }
    }

    #[inline]
    pub(super) fn push(&mut self, value: ValueRef<'_>) -> Result<(), Malformed> {
        let is_text = self.is_text();
        match (&mut self.values, value) {
            (values, ValueRef::Null) => values.push_null(),
            (ColumnValues::Boolean(column), ValueRef::Boolean(v)) => column.push(v),
            (ColumnValues::Int32(column), ValueRef::Int32(v)) => column.push(v),
            (ColumnValues::Int64(column), ValueRef::Int64(v)) => column.push(v),
            (ColumnValues::Float32(column), ValueRef::Float32(v)) => column.push(v),
            (ColumnValues::Float64(column), ValueRef::Float64(v)) => column.push(v),
            (ColumnValues::Decimal(column), ValueRef::Decimal(v)) => column.push(v),
            (ColumnValues::Uuid(column), ValueRef::Uuid(v)) => column.push(v),
            (ColumnValues::Bytes(column), ValueRef::Bytes(v)) => {
                if is_text && std::str::from_utf8(v).is_err() {
                    return Err(Malformed("text is not UTF-8"));
                }
                column.push(v);
            }
            (ColumnValues::Nested(column), ValueRef::Bytes(v)) => column.push(v)?,
            _ => return Err(Malformed("value of another type")),
        }
        Ok(())
    }

    pub(super) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let arrow_type = self.column_type.arrow_type();
        Ok(match &mut self.values {
            ColumnValues::Boolean(column) => {
                let (values, mut nulls) = column.take();
                let values = BooleanBuffer::from(values.as_slice());
                Arc::new(BooleanArray::new(values, nulls.finish()))
            }
            ColumnValues::Int32(column) if self.column_type == ColumnType::Date => {
                column.finish::<Date32Type>(arrow_type)?
            }
            ColumnValues::Int32(column) => column.finish::<Int32Type>(arrow_type)?,
            ColumnValues::Int64(column) => match self.column_type {
                ColumnType::Time => column.finish::<Time64MicrosecondType>(arrow_type)?,
                ColumnType::Int64 => column.finish::<Int64Type>(arrow_type)?,
                ColumnType::TimestampNs | ColumnType::TimestampTzNs => {
                    column.finish::<TimestampNanosecondType>(arrow_type)?
                }
                _ => column.finish::<TimestampMicrosecondType>(arrow_type)?,
            },
            ColumnValues::Float32(column) => column.finish::<Float32Type>(arrow_type)?,
            ColumnValues::Float64(column) => column.finish::<Float64Type>(arrow_type)?,
            ColumnValues::Decimal(column) => column.finish::<Decimal128Type>(arrow_type)?,
            ColumnValues::Uuid(column) => {
                let (values, mut nulls) = column.take();
                let bytes = Buffer::from_vec(values.into_flattened());
                let nulls = nulls.finish();
                Arc::new(FixedSizeBinaryArray::try_new(16, bytes, nulls)?)
            }
            ColumnValues::Bytes(column) => column.finish(&arrow_type)?,
            ColumnValues::Nested(column) => column.finish()?,
        })
    }
}

impl ColumnValues {
    fn push_null(&mut self) {
        match self {
            ColumnValues::Boolean(column) => column.push_null(),
            ColumnValues::Int32(column) => column.push_null(),
            ColumnValues::Int64(column) => column.push_null(),
            ColumnValues::Float32(column) => column.push_null(),
            ColumnValues::Float64(column) => column.push_null(),
            ColumnValues::Decimal(column) => column.push_null(),
            ColumnValues::Uuid(column) => column.push_null(),
            ColumnValues::Bytes(column) => column.push_null(),
            ColumnValues::Nested(column) => column.push_null(),
        }
    }
}

/// Values of one size.
#[derive(Debug)]
pub(super) struct FixedColumn<T> {
    values: Vec<T>,
    nulls: NullBufferBuilder,
}

impl<T: Copy + Default> FixedColumn<T> {
    fn new() -> Self {
        FixedColumn {
            values: Vec::new(),
            nulls: NullBufferBuilder::new(0),
        }
    }

    #[inline]
    pub(super) fn push(&mut self, value: T) {
        self.values.push(value);
        self.nulls.append_non_null();
    }

    #[inline]
    pub(super) fn push_null(&mut self) {
        self.values.push(T::default());
        self.nulls.append_null();
    }

    /// Appends values of which none is null.
    #[inline]
    pub(super) fn push_all(&mut self, values: impl Iterator<Item = T>) {
        let before = self.values.len();
        self.values.extend(values);
        self.nulls.append_n_non_nulls(self.values.len() - before);
    }

    /// Appends values, `None` for those that are null.
    #[inline]
    pub(super) fn push_some(&mut self, values: impl Iterator<Item = Option<T>>) {
        let nulls = &mut self.nulls;
        self.values.extend(values.map(|value| {
            nulls.append(value.is_some());
            value.unwrap_or_default()
        }));
    }

    /// What it has; it starts anew.
    fn take(&mut self) -> (Vec<T>, NullBufferBuilder) {
        // The next batch is likely as large.
        let next = FixedColumn {
            values: Vec::with_capacity(self.values.len()),
            nulls: NullBufferBuilder::new(0),
        };
        let done = std::mem::replace(self, next);
        (done.values, done.nulls)
    }

    fn finish<P: ArrowPrimitiveType<Native = T>>(
        &mut self,
        arrow_type: DataType,
    ) -> Result<ArrayRef, ArrowError>
    where
        T: arrow_buffer::ArrowNativeType,
    {
        let (values, mut nulls) = self.take();
        let array = PrimitiveArray::<P>::try_new(ScalarBuffer::from(values), nulls.finish())?;
        Ok(Arc::new(array.with_data_type(arrow_type)))
    }
}

/// Short values are copied together with what follows them, so many bytes at once and without a call.
const COPIED_SIZE_BYTES: usize = 32;

/// Bytes or text.
#[derive(Debug)]
pub(super) struct BytesColumn {
    data: Vec<u8>,
    /// 0, and the end of each value.
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
}

impl BytesColumn {
    fn new() -> Self {
        BytesColumn {
            data: Vec::new(),
            offsets: vec![0],
            nulls: NullBufferBuilder::new(0),
        }
    }

    #[inline]
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.data.extend_from_slice(bytes);
        self.offsets.push(offset(self.data.len()));
        self.nulls.append_non_null();
    }

    /// Appends the first bytes of some, so many, which there are.
    #[inline]
    pub(super) fn push_first(&mut self, bytes: &[u8], size_bytes: usize) {
        let end = self.data.len() + size_bytes;
        match bytes.first_chunk::<COPIED_SIZE_BYTES>() {
            Some(chunk) if size_bytes <= COPIED_SIZE_BYTES => {
                self.data.extend_from_slice(chunk);
                self.data.truncate(end);
            }
            _ => self
                .data
                .extend_from_slice(bytes.get(..size_bytes).unwrap_or_default()),
        }
        self.offsets.push(offset(end));
        self.nulls.append_non_null();
    }

    #[inline]
    pub(super) fn push_null(&mut self) {
        self.offsets.push(offset(self.data.len()));
        self.nulls.append_null();
    }

    /// Appends values that stand one behind the other; `ends` are theirs, counted from the first byte.
    #[inline]
    pub(super) fn push_all(&mut self, bytes: &[u8], ends: impl Iterator<Item = usize>) {
        let start = self.data.len();
        self.data.extend_from_slice(bytes);
        let before = self.offsets.len();
        self.offsets.extend(ends.map(|end| offset(start + end)));
        self.nulls.append_n_non_nulls(self.offsets.len() - before);
    }

    /// How many values it has.
    pub(super) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Checks that the values from one on are text.
    pub(super) fn check_text(&self, from: usize) -> Result<(), Malformed> {
        let no_text = Malformed("text is not UTF-8");
        let ends = self.offsets.get(from..).unwrap_or_default();
        let start = ends.first().map_or(0, |start| *start as usize);
        let bytes = self.data.get(start..).unwrap_or_default();
        let text = std::str::from_utf8(bytes).map_err(|_| no_text)?;
        let are_whole = text.is_ascii()
            || ends
                .iter()
                .all(|end| text.is_char_boundary(*end as usize - start));
        if are_whole { Ok(()) } else { Err(no_text) }
    }

    fn finish(&mut self, arrow_type: &DataType) -> Result<ArrayRef, ArrowError> {
        let (rows, size_bytes) = (self.offsets.len(), self.data.len());
        // The next batch is likely as large.
        let next = BytesColumn {
            data: Vec::with_capacity(size_bytes + size_bytes / 16),
            offsets: Vec::with_capacity(rows),
            nulls: NullBufferBuilder::new(0),
        };
        let mut done = std::mem::replace(self, next);
        self.offsets.push(0);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(done.offsets));
        let data = Buffer::from_vec(done.data);
        let nulls = done.nulls.finish();
        Ok(match arrow_type {
            DataType::Utf8 => Arc::new(StringArray::try_new(offsets, data, nulls)?),
            _ => Arc::new(BinaryArray::try_new(offsets, data, nulls)?),
        })
    }
}

/// A batch ends long before it has 2 GiB.
pub(super) fn offset(len: usize) -> i32 {
    i32::try_from(len).unwrap_or(i32::MAX)
}
