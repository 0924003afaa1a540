//! Arrow batches from encoded keys and rows.

use std::sync::Arc;

use arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, FixedSizeBinaryBuilder,
    Float32Builder, Float64Builder, Int32Builder, Int64Builder, StringBuilder,
    Time64MicrosecondBuilder, TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{Schema, SchemaRef};

use super::Malformed;
use super::key::decode_key;
use super::row::{ValueRef, decode_row};
use super::versions::current_values;
use crate::error::{Error, Result};
use crate::schema::{ColumnType, TableSchema};

#[derive(Debug)]
enum ColumnBuilder {
    Boolean(BooleanBuilder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Decimal(Decimal128Builder),
    Utf8(StringBuilder),
    Binary(BinaryBuilder),
    Uuid(FixedSizeBinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
}

impl ColumnBuilder {
    fn new(column_type: ColumnType) -> Self {
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
            ColumnType::Binary => ColumnBuilder::Binary(BinaryBuilder::new()),
            ColumnType::Uuid => ColumnBuilder::Uuid(FixedSizeBinaryBuilder::new(16)),
            ColumnType::Date => ColumnBuilder::Date(Date32Builder::new()),
            ColumnType::Time => ColumnBuilder::Time(Time64MicrosecondBuilder::new()),
            ColumnType::Timestamp | ColumnType::TimestampTz => ColumnBuilder::Timestamp(
                TimestampMicrosecondBuilder::new().with_data_type(arrow_type),
            ),
        }
    }

    fn push(&mut self, value: ValueRef<'_>) -> Result<(), Malformed> {
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
            (ColumnBuilder::Binary(b), ValueRef::Bytes(v)) => b.append_value(v),
            (ColumnBuilder::Binary(b), _) if null => b.append_null(),
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

    fn finish(&mut self) -> ArrayRef {
        match self {
            ColumnBuilder::Boolean(b) => Arc::new(b.finish()),
            ColumnBuilder::Int32(b) => Arc::new(b.finish()),
            ColumnBuilder::Int64(b) => Arc::new(b.finish()),
            ColumnBuilder::Float32(b) => Arc::new(b.finish()),
            ColumnBuilder::Float64(b) => Arc::new(b.finish()),
            ColumnBuilder::Decimal(b) => Arc::new(b.finish()),
            ColumnBuilder::Utf8(b) => Arc::new(b.finish()),
            ColumnBuilder::Binary(b) => Arc::new(b.finish()),
            ColumnBuilder::Uuid(b) => Arc::new(b.finish()),
            ColumnBuilder::Date(b) => Arc::new(b.finish()),
            ColumnBuilder::Time(b) => Arc::new(b.finish()),
            ColumnBuilder::Timestamp(b) => Arc::new(b.finish()),
        }
    }
}

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

/// Collects encoded rows into batches.
#[derive(Debug)]
pub(crate) struct BatchBuilder {
    table_schema: Arc<TableSchema>,
    batch_schema: Arc<Schema>,
    /// One for each column of the batch.
    builders: Vec<ColumnBuilder>,
    /// For each column of the table, which builder takes it.
    builder_of: Vec<Option<usize>>,
    /// Per key column, which builder takes it.
    key_builder_of: Vec<Option<usize>>,
    needs_keys: bool,
    needs_values: bool,
    row_count: usize,
}

impl BatchBuilder {
    pub(crate) fn new(
        table_schema: Arc<TableSchema>,
        projection: Option<&[usize]>,
    ) -> Result<Self> {
        let batch_schema = projected_schema(&table_schema, projection)?;
        let all: Vec<usize> = (0..table_schema.columns().len()).collect();
        let positions = projection.unwrap_or(&all);
        let builders = positions
            .iter()
            .filter_map(|&position| table_schema.columns().get(position))
            .map(|column| ColumnBuilder::new(column.column_type))
            .collect();
        let builder_for = |column: usize| positions.iter().position(|&position| position == column);
        let builder_of: Vec<_> = all.iter().map(|&column| builder_for(column)).collect();
        let key_builder_of: Vec<_> = table_schema
            .primary_key()
            .iter()
            .map(|&column| builder_for(column))
            .collect();
        let needs_keys = key_builder_of.iter().any(Option::is_some);
        let needs_values = builder_of
            .iter()
            .enumerate()
            .any(|(position, builder)| builder.is_some() && !table_schema.is_key(position));
        Ok(BatchBuilder {
            table_schema,
            batch_schema,
            builders,
            builder_of,
            key_builder_of,
            needs_keys,
            needs_values,
            row_count: 0,
        })
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.batch_schema
    }

    /// Whether any column outside the key is asked for.
    pub(crate) fn needs_values(&self) -> bool {
        self.needs_values
    }

    pub(crate) fn row_count(&self) -> usize {
        self.row_count
    }

    /// Appends a row; `value` is not looked at unless [`needs_values`](Self::needs_values).
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) -> Result<(), Malformed> {
        if self.needs_keys {
            let key_values = decode_key(&self.table_schema, key)?;
            for (value, builder) in key_values.iter().zip(&self.key_builder_of) {
                if let Some(builder) = builder.and_then(|i| self.builders.get_mut(i)) {
                    builder.push(value.into())?;
                }
            }
        }
        if self.needs_values {
            let (builders, builder_of) = (&mut self.builders, &self.builder_of);
            let value = current_values(&self.table_schema, value)?;
            decode_row(
                &self.table_schema,
                &value,
                |position, value| match builder_of
                    .get(position)
                    .copied()
                    .flatten()
                    .and_then(|i| builders.get_mut(i))
                {
                    Some(builder) => builder.push(value),
                    None => Ok(()),
                },
            )?;
        }
        self.row_count += 1;
        Ok(())
    }

    /// The rows so far as a batch; the builder starts anew.
    pub(crate) fn finish(&mut self) -> Result<RecordBatch> {
        let columns: Vec<ArrayRef> = self
            .builders
            .iter_mut()
            .map(ColumnBuilder::finish)
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.row_count));
        self.row_count = 0;
        RecordBatch::try_new_with_options(self.batch_schema.clone(), columns, &options)
            .map_err(|error| Error::Row(format!("table '{}': {error}", self.table_schema.name())))
    }
}
