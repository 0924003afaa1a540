//! Encoded rows from Arrow batches.

use super::cells::{Cells, is_fitting};
use super::key::{check_key_size, encode_key_value};
use super::row::{ValueRef, encode_values};
use super::versions::put_row_version;
use crate::error::{Error, Result};
use crate::schema::{Column, ColumnType, TableSchema};
use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType, TimestampNanosecondType,
};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryArray, PrimitiveArray, RecordBatch,
    StringArray,
};

/// The columns of a batch as a table has them: checked, and ready to be encoded row by row.
#[derive(Debug)]
pub(crate) struct BatchColumns<'b> {
    /// The key's columns, in the order of the key.
    key: Vec<ColumnReader<'b>>,
    /// The columns outside the key, in column order.
    values: Vec<ColumnReader<'b>>,
    /// What a row begins with.
    version: Vec<u8>,
}

/// Values of one column, of whatever Arrow type carries it.
#[derive(Clone, Debug)]
pub(super) enum ColumnReader<'b> {
    /// The batch lacks the column, so each row has its default, or null.
    Missing(ValueRef<'b>),
    Boolean(&'b BooleanArray),
    Int32(&'b PrimitiveArray<Int32Type>),
    Date(&'b PrimitiveArray<Date32Type>),
    Int64(&'b PrimitiveArray<Int64Type>),
    Time(&'b PrimitiveArray<Time64MicrosecondType>),
    Timestamp(&'b PrimitiveArray<TimestampMicrosecondType>),
    TimestampNs(&'b PrimitiveArray<TimestampNanosecondType>),
    Float32(&'b PrimitiveArray<Float32Type>),
    Float64(&'b PrimitiveArray<Float64Type>),
    Decimal(&'b PrimitiveArray<Decimal128Type>),
    Utf8(&'b StringArray),
    Binary(&'b BinaryArray),
    Uuid(&'b FixedSizeBinaryArray),
    /// Lists, structs or maps, which are encoded already.
    Cells(Cells),
}

impl<'b> BatchColumns<'b> {
    /// Checks a batch of whole rows against a table. Columns go by name, in any order; one that the batch lacks has its
    /// default, or is null.
    ///
    /// # Errors
    /// [`Error::Row`], naming table and column.
    pub(crate) fn of_rows(schema: &'b TableSchema, batch: &'b RecordBatch) -> Result<Self> {
        check_names(schema, batch, |_| true)?;
        let mut version = Vec::new();
        put_row_version(schema, &mut version);
        Ok(BatchColumns {
            key: readers(schema, batch, schema.key_columns())?,
            values: readers(schema, batch, columns_outside_key(schema))?,
            version,
        })
    }

    /// Checks a batch of keys against a table.
    ///
    /// # Errors
    /// As [`of_rows`](Self::of_rows).
    pub(crate) fn of_keys(schema: &'b TableSchema, batch: &'b RecordBatch) -> Result<Self> {
        check_names(schema, batch, |position| schema.is_key(position))?;
        Self::of_keys_among(schema, batch)
    }

    /// The keys of a batch that may have other columns too.
    ///
    /// # Errors
    /// As [`of_rows`](Self::of_rows).
    pub(crate) fn of_keys_among(schema: &'b TableSchema, batch: &'b RecordBatch) -> Result<Self> {
        Ok(BatchColumns {
            key: readers(schema, batch, schema.key_columns())?,
            values: Vec::new(),
            version: Vec::new(),
        })
    }

    /// Appends the key of a row.
    ///
    /// # Errors
    /// [`Error::Row`] if it is too long.
    pub(crate) fn encode_key(
        &self,
        schema: &TableSchema,
        row: usize,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let start = out.len();
        let last = self.key.len().saturating_sub(1);
        for (i, column) in self.key.iter().enumerate() {
            encode_key_value(column.value(row), i == last, out);
        }
        check_key_size(schema, out.get(start..).unwrap_or_default())
    }

    /// Appends the values of a row outside its key.
    pub(crate) fn encode_row(&self, row: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.version);
        encode_values(self.values.iter().map(|column| column.value(row)), out);
    }
}

fn columns_outside_key(schema: &TableSchema) -> impl Iterator<Item = &Column> {
    let columns = schema.columns().iter().enumerate();
    columns
        .filter(|(position, _)| !schema.is_key(*position))
        .map(|(_, column)| column)
}

/// Checks that every column of the batch is one that `takes` says yes to, and stands there once.
fn check_names(
    schema: &TableSchema,
    batch: &RecordBatch,
    takes: impl Fn(usize) -> bool,
) -> Result<()> {
    let batch_schema = batch.schema();
    for (i, field) in batch_schema.fields().iter().enumerate() {
        let name = field.name();
        let position = schema
            .columns()
            .iter()
            .position(|column| column.name == *name);
        if !position.is_some_and(&takes) {
            return Err(refused(
                schema,
                name,
                "is in the batch and does not belong there",
            ));
        }
        if batch_schema.index_of(name).is_ok_and(|first| first != i) {
            return Err(refused(schema, name, "is in the batch twice"));
        }
    }
    Ok(())
}

fn readers<'b>(
    schema: &TableSchema,
    batch: &'b RecordBatch,
    columns: impl Iterator<Item = &'b Column>,
) -> Result<Vec<ColumnReader<'b>>> {
    columns
        .map(|column| reader(schema, batch, column))
        .collect()
}

fn reader<'b>(
    schema: &TableSchema,
    batch: &'b RecordBatch,
    column: &'b Column,
) -> Result<ColumnReader<'b>> {
    let Some(array) = batch.column_by_name(&column.name) else {
        return match &column.default {
            Some(default) => Ok(ColumnReader::Missing(default.into())),
            None if column.nullable => Ok(ColumnReader::Missing(ValueRef::Null)),
            None => Err(refused(
                schema,
                &column.name,
                "is not nullable and the batch lacks it",
            )),
        };
    };
    if !column.nullable && array.null_count() > 0 {
        return Err(refused(
            schema,
            &column.name,
            "is not nullable and the batch holds a null",
        ));
    }
    let of_another_type = || {
        let found = array.data_type();
        refused(
            schema,
            &column.name,
            &format!("is {}, the batch has {found}", column.column_type),
        )
    };
    if column.column_type.is_nested() {
        if !is_fitting(array.data_type(), column.column_type) {
            return Err(of_another_type());
        }
        let cells = Cells::new(schema, column, array)?;
        return Ok(ColumnReader::Cells(cells));
    }
    let reader = ColumnReader::new(array, column.column_type).ok_or_else(of_another_type)?;
    if let (ColumnReader::Decimal(array), ColumnType::Decimal { precision, .. }) =
        (&reader, column.column_type)
        && array.validate_decimal_precision(precision).is_err()
    {
        return Err(refused(
            schema,
            &column.name,
            "has a number of more digits than it may have",
        ));
    }
    Ok(reader)
}

pub(super) fn refused(schema: &TableSchema, column: &str, reason: &str) -> Error {
    Error::Row(format!(
        "table '{}', column '{column}': {reason}",
        schema.name()
    ))
}

impl<'b> ColumnReader<'b> {
    /// `None` if the array is of another type than the column, or the type is nested.
    pub(super) fn new(array: &'b ArrayRef, column_type: ColumnType) -> Option<Self> {
        if !is_fitting(array.data_type(), column_type) {
            return None;
        }
        Some(match column_type {
            ColumnType::Boolean => ColumnReader::Boolean(array.as_boolean_opt()?),
            ColumnType::Int32 => ColumnReader::Int32(array.as_primitive_opt()?),
            ColumnType::Date => ColumnReader::Date(array.as_primitive_opt()?),
            ColumnType::Int64 => ColumnReader::Int64(array.as_primitive_opt()?),
            ColumnType::Time => ColumnReader::Time(array.as_primitive_opt()?),
            ColumnType::Timestamp | ColumnType::TimestampTz => {
                ColumnReader::Timestamp(array.as_primitive_opt()?)
            }
            ColumnType::TimestampNs | ColumnType::TimestampTzNs => {
                ColumnReader::TimestampNs(array.as_primitive_opt()?)
            }
            ColumnType::Float32 => ColumnReader::Float32(array.as_primitive_opt()?),
            ColumnType::Float64 => ColumnReader::Float64(array.as_primitive_opt()?),
            ColumnType::Decimal { .. } => ColumnReader::Decimal(array.as_primitive_opt()?),
            ColumnType::Utf8 => ColumnReader::Utf8(array.as_string_opt()?),
            ColumnType::Binary => ColumnReader::Binary(array.as_binary_opt()?),
            ColumnType::Uuid => ColumnReader::Uuid(array.as_fixed_size_binary_opt()?),
            ColumnType::List(_) | ColumnType::Struct(_) | ColumnType::Map(_) => return None,
        })
    }

    /// The value in a row of the batch.
    pub(super) fn value(&self, row: usize) -> ValueRef<'_> {
        if self.is_null(row) {
            return ValueRef::Null;
        }
        match self {
            ColumnReader::Missing(default) => *default,
            ColumnReader::Boolean(array) => ValueRef::Boolean(array.value(row)),
            ColumnReader::Int32(array) => ValueRef::Int32(array.value(row)),
            ColumnReader::Date(array) => ValueRef::Int32(array.value(row)),
            ColumnReader::Int64(array) => ValueRef::Int64(array.value(row)),
            ColumnReader::Time(array) => ValueRef::Int64(array.value(row)),
            ColumnReader::Timestamp(array) => ValueRef::Int64(array.value(row)),
            ColumnReader::TimestampNs(array) => ValueRef::Int64(array.value(row)),
            ColumnReader::Float32(array) => ValueRef::Float32(array.value(row)),
            ColumnReader::Float64(array) => ValueRef::Float64(array.value(row)),
            ColumnReader::Decimal(array) => ValueRef::Decimal(array.value(row)),
            ColumnReader::Utf8(array) => ValueRef::Bytes(array.value(row).as_bytes()),
            ColumnReader::Binary(array) => ValueRef::Bytes(array.value(row)),
            ColumnReader::Uuid(array) => array
                .value(row)
                .try_into()
                .map_or(ValueRef::Null, ValueRef::Uuid),
            ColumnReader::Cells(cells) => ValueRef::Bytes(cells.bytes(row)),
        }
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            ColumnReader::Missing(default) => default.is_null(),
            ColumnReader::Boolean(array) => array.is_null(row),
            ColumnReader::Int32(array) => array.is_null(row),
            ColumnReader::Date(array) => array.is_null(row),
            ColumnReader::Int64(array) => array.is_null(row),
            ColumnReader::Time(array) => array.is_null(row),
            ColumnReader::Timestamp(array) => array.is_null(row),
            ColumnReader::TimestampNs(array) => array.is_null(row),
            ColumnReader::Float32(array) => array.is_null(row),
            ColumnReader::Float64(array) => array.is_null(row),
            ColumnReader::Decimal(array) => array.is_null(row),
            ColumnReader::Utf8(array) => array.is_null(row),
            ColumnReader::Binary(array) => array.is_null(row),
            ColumnReader::Uuid(array) => array.is_null(row),
            ColumnReader::Cells(cells) => cells.is_null(row),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use arrow_array::{Int32Array, Int64Array};
    use arrow_schema::{Field, Schema};
    use proptest::prelude::*;

    use super::*;
    use crate::codec::key::encode_key;
    use crate::codec::row::encode_row;
    use crate::read::batch::BatchBuilder;
    use crate::value::tests::{any_column_type, any_key_type, any_value};
    use crate::value::{Row, Value};

    /// A table of any columns, the first `key_count` of them its key, and rows of it.
    pub(crate) fn any_rows() -> impl Strategy<Value = (TableSchema, Vec<Row>)> {
        let keys = prop::collection::vec((any_key_type(), any::<bool>()), 1..3);
        let others = prop::collection::vec((any_column_type(), any::<bool>()), 0..10);
        (keys, others).prop_flat_map(|(mut types, others)| {
            let key_count = types.len();
            types.extend(others);
            let mut builder = TableSchema::builder("t");
            let mut values = Vec::new();
            for (i, (column_type, nullable)) in types.into_iter().enumerate() {
                let nullable = nullable && i >= key_count;
                builder = builder.column(format!("c{i}"), column_type, nullable);
                let value = any_value(column_type);
                values.push(match nullable {
                    true => prop_oneof![Just(Value::Null), value].boxed(),
                    false => value,
                });
            }
            let key: Vec<String> = (0..key_count).rev().map(|i| format!("c{i}")).collect();
            let schema = builder.primary_key(key).build().unwrap();
            (Just(schema), prop::collection::vec(values, 0..6))
        })
    }

    pub(crate) fn encoded(schema: &TableSchema, row: &[Value]) -> (Vec<u8>, Vec<u8>) {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let columns: Vec<&Value> = schema.primary_key().iter().map(|&i| &row[i]).collect();
        encode_key(schema, columns.into_iter(), &mut key).unwrap();
        encode_row(schema, row, &mut value);
        (key, value)
    }

    proptest! {
        /// *Same*: a row is the same bytes whether it comes as values or in a batch.
        #[test]
        fn rows_of_a_batch_are_encoded_as_rows_of_values_are((schema, rows) in any_rows(), reversed: bool) {
            let mut builder = BatchBuilder::new(Arc::new(schema.clone()), None).unwrap();
            let expected: Vec<_> = rows.iter().map(|row| encoded(&schema, row)).collect();
            for (key, value) in &expected {
                builder.push(key, value).unwrap();
            }
            let mut batch = builder.finish().unwrap();
            if reversed {
                let order: Vec<usize> = (0..batch.num_columns()).rev().collect();
                batch = batch.project(&order).unwrap();
            }
            let columns = BatchColumns::of_rows(&schema, &batch).unwrap();
            let found: Vec<_> = (0..rows.len()).map(|row| {
                let (mut key, mut value) = (Vec::new(), Vec::new());
                columns.encode_key(&schema, row, &mut key).unwrap();
                columns.encode_row(row, &mut value);
                (key, value)
            }).collect();
            prop_assert_eq!(found, expected);
        }
    }

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        let fields = columns
            .iter()
            .map(|(name, array)| Field::new(*name, array.data_type().clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        RecordBatch::try_new(
            schema,
            columns.into_iter().map(|(_, array)| array).collect(),
        )
        .unwrap()
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let schema = TableSchema::builder("orders")
            .column("id", ColumnType::Int64, false)
            .column("count", ColumnType::Int32, true)
            .column(
                "price",
                ColumnType::Decimal {
                    precision: 3,
                    scale: 1,
                },
                true,
            )
            .primary_key(["id"])
            .build()
            .unwrap();
        let ids = || -> ArrayRef { Arc::new(Int64Array::from(vec![1, 2])) };
        let prices = |unscaled: Vec<i128>| -> ArrayRef {
            let array = PrimitiveArray::<Decimal128Type>::from(unscaled);
            Arc::new(array.with_precision_and_scale(3, 1).unwrap())
        };
        BatchColumns::of_rows(&schema, &batch(vec![("id", ids())])).unwrap();
        BatchColumns::of_keys(&schema, &batch(vec![("id", ids())])).unwrap();
        let int32s = || -> ArrayRef { Arc::new(Int32Array::from(vec![1, 2])) };
        let nulls: ArrayRef = Arc::new(Int64Array::from(vec![None, Some(2)]));
        for (columns, column, reason) in [
            (vec![("count", int32s())], "'id'", "lacks"),
            (vec![("id", int32s())], "'id'", "Int32"),
            (vec![("id", nulls)], "'id'", "null"),
            (vec![("id", ids()), ("colour", ids())], "'colour'", "belong"),
            (vec![("id", ids()), ("id", ids())], "'id'", "twice"),
            (
                vec![("id", ids()), ("price", prices(vec![999, 1000]))],
                "'price'",
                "digits",
            ),
        ] {
            let error = BatchColumns::of_rows(&schema, &batch(columns))
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("'orders'") && error.contains(column) && error.contains(reason),
                "{error}"
            );
        }
        let whole = batch(vec![("id", ids()), ("count", int32s())]);
        assert!(BatchColumns::of_keys(&schema, &whole).is_err());
    }
}
