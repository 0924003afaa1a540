//! Which partition a row belongs to.

use std::collections::HashMap;

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_row::{RowConverter, SortField};
use iceberg::TableIdent;
use iceberg::spec::{PartitionSpec, PrimitiveType, Struct, Transform, Type};
use moonshine_engine::{Column, ColumnType, TableSchema};

use super::transform::{apply, literal};
use super::wanted::is_avro_name;
use super::{check_transform, position_of};
use crate::error::{At, ExportError, Result};
use crate::schema::iceberg_type;

/// The fields of a partition spec, bound to columns.
#[derive(Debug)]
pub(super) struct Partitioning {
    fields: Vec<Field>,
}

#[derive(Debug)]
struct Field {
    /// The column's position; `None` for a void field whose column is gone.
    column: Option<usize>,
    transform: Transform,
}

impl Partitioning {
    pub(super) fn new(
        table: &TableIdent,
        spec: &PartitionSpec,
        schema: &TableSchema,
    ) -> Result<Self> {
        let fields = spec.fields().iter().map(|field| {
            let position = position_of(schema, field.source_id);
            let column = position.and_then(|position| schema.columns().get(position));
            let what = format!("its partition field '{}'", field.name);
            if !is_avro_name(&field.name) {
                let reason = format!("{what} has a name that manifests can't hold; rename it");
                return Err(ExportError::foreign(table, reason));
            }
            match column {
                Some(column) => {
                    check_transform(table, &what, field.transform, column)?;
                    if !is_writable(field.transform, column) {
                        let reason =
                            format!("{what} is of values that can't be written; take it out");
                        return Err(ExportError::foreign(table, reason));
                    }
                }
                None if field.transform == Transform::Void => {}
                None => {
                    let reason = format!("{what} is of a column that the database does not have");
                    return Err(ExportError::foreign(table, reason));
                }
            }
            Ok(Field {
                column: position,
                transform: field.transform,
            })
        });
        let fields: Vec<Field> = fields.collect::<Result<_>>()?;
        let column = |field: &Field| schema.columns().get(field.column?);
        let values = fields
            .iter()
            .filter_map(|field| Some((field.transform, column(field)?)));
        if let Some(repeated) = named_twice(values) {
            let reason = format!(
                "two of its partition fields are of type {repeated}, which manifests can't name twice; take one out"
            );
            return Err(ExportError::foreign(table, reason));
        }
        Ok(Partitioning { fields })
    }

    /// Whether all rows are of one partition.
    pub(super) fn is_empty(&self) -> bool {
        self.fields
            .iter()
            .all(|field| field.transform == Transform::Void)
    }

    /// The values of a batch's rows, by field; `None` for a field that is always null.
    fn values(&self, batch: &RecordBatch) -> Result<Vec<Option<ArrayRef>>> {
        let value = |field: &Field| match field
            .column
            .and_then(|column| batch.columns().get(column))
        {
            Some(column) if field.transform != Transform::Void => apply(field.transform, column)
                .at("a partition's value")
                .map(Some),
            _ => Ok(None),
        };
        self.fields.iter().map(value).collect()
    }
}

/// Whether values of a column can be those of a partition: what manifests are written with knows no UUIDs and no nanoseconds
/// there, and no two writers agree on those of floating-point numbers.
pub(super) fn is_writable(transform: Transform, column: &Column) -> bool {
    match column.column_type {
        ColumnType::Float32 | ColumnType::Float64 => transform == Transform::Void,
        ColumnType::Uuid | ColumnType::TimestampNs | ColumnType::TimestampTzNs => {
            transform != Transform::Identity
        }
        _ => true,
    }
}

/// A type of partition values that two fields have, of those that Avro knows by a name: a schema may not define a name twice.
/// The iceberg crate does, and readers refuse such manifests.
pub(super) fn named_twice<'c>(
    fields: impl Iterator<Item = (Transform, &'c Column)>,
) -> Option<PrimitiveType> {
    let mut named: Vec<PrimitiveType> = Vec::new();
    for (transform, column) in fields {
        let source = iceberg_type(column.column_type);
        if let Ok(Type::Primitive(value)) = transform.result_type(&source)
            && matches!(value, PrimitiveType::Decimal { .. } | PrimitiveType::Uuid)
        {
            if named.contains(&value) {
                return Some(value);
            }
            named.push(value);
        }
    }
    None
}

/// Tells the partitions of rows apart, and numbers them as they appear.
pub(super) struct Partitioner<'l> {
    partitioning: &'l Partitioning,
    /// Made for the types of the first batch.
    converter: Option<RowConverter>,
    numbers: HashMap<Box<[u8]>, usize>,
    /// The partition values by number.
    values: Vec<Struct>,
}

impl<'l> Partitioner<'l> {
    pub(super) fn new(partitioning: &'l Partitioning) -> Self {
        Partitioner {
            partitioning,
            converter: None,
            numbers: HashMap::new(),
            values: Vec::new(),
        }
    }

    /// How many partitions there were so far.
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// The values of a partition.
    pub(super) fn value(&self, number: usize) -> Struct {
        let value = self.values.get(number).cloned();
        value.unwrap_or_else(|| self.partitioning.fields.iter().map(|_| None).collect())
    }

    /// The partition of each of a batch's rows.
    pub(super) fn numbers(&mut self, batch: &RecordBatch) -> Result<Vec<usize>> {
        let failed = |error| ExportError::corrupt("a partition's value", error);
        let values = self.partitioning.values(batch)?;
        let columns: Vec<ArrayRef> = values.iter().flatten().cloned().collect();
        if columns.is_empty() {
            return Ok(vec![0; batch.num_rows()]);
        }
        let converter = match &mut self.converter {
            Some(converter) => converter,
            none => {
                let types = columns
                    .iter()
                    .map(|column| SortField::new(column.data_type().clone()));
                none.insert(RowConverter::new(types.collect()).map_err(failed)?)
            }
        };
        let keys = converter.convert_columns(&columns).map_err(failed)?;
        let mut numbers: Vec<usize> = Vec::with_capacity(batch.num_rows());
        let mut last: Option<(&[u8], usize)> = None;
        for (row, key) in keys.iter().enumerate() {
            let key = key.data();
            // Neighbours are often of one partition.
            let number = match last {
                Some((before, number)) if before == key => number,
                _ => match self.numbers.get(key) {
                    Some(number) => *number,
                    None => {
                        let number = self.values.len();
                        self.values.push(struct_at(&values, row));
                        self.numbers.insert(key.into(), number);
                        number
                    }
                },
            };
            last = Some((key, number));
            numbers.push(number);
        }
        Ok(numbers)
    }
}

fn struct_at(values: &[Option<ArrayRef>], row: usize) -> Struct {
    let field = |values: &Option<ArrayRef>| values.as_ref().and_then(|values| literal(values, row));
    values.iter().map(field).collect()
}
