//! Building one column of a batch.

use std::sync::Arc;

use arrow_array::builder::{
    BooleanBuilder, Date32Builder, Decimal128Builder, FixedSizeBinaryBuilder, Float32Builder,
    Float64Builder, Int32Builder, Int64Builder, StringBuilder, Time64MicrosecondBuilder,
    TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, BinaryArray};
use arrow_buffer::{Buffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer};
use arrow_schema::ArrowError;

use super::Malformed;
use super::row::ValueRef;
use crate::schema::ColumnType;

/// A column that is being built.
#[derive(Debug)]
pub(super) enum ColumnBuilder {
    Boolean(BooleanBuilder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Decimal(Decimal128Builder),
    Utf8(StringBuilder),
    Binary(BinaryColumn),
    Uuid(FixedSizeBinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
}

impl ColumnBuilder {
    pub(super) fn new(column_type: ColumnType) -> Self {
        let arrow_type = column_type.arrow_type();
        match column_type {
            ColumnType::Boolean => ColumnBuilder::Boolean(BooleanBuilder::new()),
            ColumnType::Int32 => ColumnBuilder::Int32(Int32Builder::new()),
            ColumnType::Int64 => ColumnBuilder::Int64(Int64Builder::new()),
            ColumnType::Float32 => ColumnBuilder::Float32(Float32Builder::new()),
            ColumnType::Float64 => ColumnBuilder::Float64(Float64Builder::new()),
            ColumnType::Decimal { .. } => {
                ColumnBuilder::Decimal(Decimal128Builder::new().with_data_type(arrow_type))
            }
            ColumnType::Utf8 => ColumnBuilder::Utf8(StringBuilder::new()),
            ColumnType::Binary => ColumnBuilder::Binary(BinaryColumn::default()),
            ColumnType::Uuid => ColumnBuilder::Uuid(FixedSizeBinaryBuilder::new(16)),
            ColumnType::Date => ColumnBuilder::Date(Date32Builder::new()),
            ColumnType::Time => ColumnBuilder::Time(Time64MicrosecondBuilder::new()),
            ColumnType::Timestamp | ColumnType::TimestampTz => ColumnBuilder::Timestamp(
                TimestampMicrosecondBuilder::new().with_data_type(arrow_type),
            ),
        }
    }

    #[inline]
    pub(super) fn push(&mut self, value: ValueRef<'_>) -> Result<(), Malformed> {
        let null = matches!(value, ValueRef::Null);
        match (self, value) {
            (ColumnBuilder::Boolean(b), ValueRef::Boolean(v)) => b.append_value(v),
            (ColumnBuilder::Boolean(b), _) if null => b.append_null(),
            (ColumnBuilder::Int32(b), ValueRef::Int32(v)) => b.append_value(v),
            (ColumnBuilder::Int32(b), _) if null => b.append_null(),
            (ColumnBuilder::Int64(b), ValueRef::Int64(v)) => b.append_value(v),
            (ColumnBuilder::Int64(b), _) if null => b.append_null(),
            (ColumnBuilder::Float32(b), ValueRef::Float32(v)) => b.append_value(v),
            (ColumnBuilder::Float32(b), _) if null => b.append_null(),
            (ColumnBuilder::Float64(b), ValueRef::Float64(v)) => b.append_value(v),
            (ColumnBuilder::Float64(b), _) if null => b.append_null(),
            (ColumnBuilder::Decimal(b), ValueRef::Decimal(v)) => b.append_value(v),
            (ColumnBuilder::Decimal(b), _) if null => b.append_null(),
            (ColumnBuilder::Utf8(b), ValueRef::Bytes(v)) => {
                b.append_value(std::str::from_utf8(v).map_err(|_| Malformed("text is not UTF-8"))?);
            }
            (ColumnBuilder::Utf8(b), _) if null => b.append_null(),
            (ColumnBuilder::Binary(b), ValueRef::Bytes(v)) => b.push(v),
            (ColumnBuilder::Binary(b), _) if null => b.push_null(),
            (ColumnBuilder::Uuid(b), ValueRef::Uuid(v)) => {
                b.append_value(v)
                    .map_err(|_| Malformed("UUID of another length"))?;
            }
            (ColumnBuilder::Uuid(b), _) if null => b.append_null(),
            (ColumnBuilder::Date(b), ValueRef::Int32(v)) => b.append_value(v),
            (ColumnBuilder::Date(b), _) if null => b.append_null(),
            (ColumnBuilder::Time(b), ValueRef::Int64(v)) => b.append_value(v),
            (ColumnBuilder::Time(b), _) if null => b.append_null(),
            (ColumnBuilder::Timestamp(b), ValueRef::Int64(v)) => b.append_value(v),
            (ColumnBuilder::Timestamp(b), _) if null => b.append_null(),
            _ => return Err(Malformed("value of another type")),
        }
        Ok(())
    }

    pub(super) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            ColumnBuilder::Boolean(b) => Arc::new(b.finish()),
            ColumnBuilder::Int32(b) => Arc::new(b.finish()),
            ColumnBuilder::Int64(b) => Arc::new(b.finish()),
            ColumnBuilder::Float32(b) => Arc::new(b.finish()),
            ColumnBuilder::Float64(b) => Arc::new(b.finish()),
            ColumnBuilder::Decimal(b) => Arc::new(b.finish()),
            ColumnBuilder::Utf8(b) => Arc::new(b.finish()),
            ColumnBuilder::Binary(b) => b.finish()?,
            ColumnBuilder::Uuid(b) => Arc::new(b.finish()),
            ColumnBuilder::Date(b) => Arc::new(b.finish()),
            ColumnBuilder::Time(b) => Arc::new(b.finish()),
            ColumnBuilder::Timestamp(b) => Arc::new(b.finish()),
        })
    }
}

/// Bytes, appended many at a time.
#[derive(Debug)]
pub(super) struct BinaryColumn {
    data: Vec<u8>,
    /// 0, and the end of each value.
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
}

impl Default for BinaryColumn {
    fn default() -> Self {
        BinaryColumn {
            data: Vec::new(),
            offsets: vec![0],
            nulls: NullBufferBuilder::new(0),
        }
    }
}

impl BinaryColumn {
    #[inline]
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.data.extend_from_slice(bytes);
        self.offsets.push(offset(self.data.len()));
        self.nulls.append_non_null();
    }

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

    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let (rows, size_bytes) = (self.offsets.len(), self.data.len());
        // The next batch is likely as large.
        let next = BinaryColumn {
            data: Vec::with_capacity(size_bytes + size_bytes / 16),
            offsets: Vec::with_capacity(rows),
            nulls: NullBufferBuilder::new(0),
        };
        let mut done = std::mem::replace(self, next);
        self.offsets.push(0);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(done.offsets));
        let data = Buffer::from_vec(done.data);
        Ok(Arc::new(BinaryArray::try_new(
            offsets,
            data,
            done.nulls.finish(),
        )?))
    }
}

/// A batch ends long before it has 2 GiB.
fn offset(len: usize) -> i32 {
    i32::try_from(len).unwrap_or(i32::MAX)
}
