//! The divider by itself: any rows, in any layout, within any limits.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch};
use bytes::Bytes;
use iceberg::TableIdent;
use iceberg::spec::{
    FormatVersion, Literal, NullOrder, PartitionSpec, SortDirection, SortField, SortOrder,
};
use moonshine_engine::{ColumnType, TableSchema};
use parking_lot::Mutex;
use proptest::prelude::*;

use super::divider::Divider;
use super::writer::{FileBytes, Output};
use super::*;
use crate::schema::iceberg_schema;

/// Files in memory, and how many of them were open at once.
#[derive(Clone, Default)]
struct Files(Arc<Mutex<Written>>);

#[derive(Default)]
struct Written {
    files: Vec<Vec<u8>>,
    open: usize,
    open_max: usize,
}

struct FileInMemory(Files, usize);

impl Write for FileInMemory {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.0.lock().files[self.1].extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl FileBytes for FileInMemory {
    fn end(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Output for Files {
    type Bytes = FileInMemory;

    fn open(&mut self, number: usize) -> Result<(String, FileInMemory)> {
        let mut written = self.0.lock();
        assert_eq!(number, written.files.len());
        written.files.push(Vec::new());
        written.open += 1;
        written.open_max = written.open_max.max(written.open);
        Ok((number.to_string(), FileInMemory(self.clone(), number)))
    }

    fn close(&mut self, _: usize) -> Result<()> {
        self.0.lock().open -= 1;
        Ok(())
    }
}

fn schema() -> TableSchema {
    let schema = TableSchema::builder("rows")
        .column("id", ColumnType::Int64, false)
        .column("kind", ColumnType::Int32, true)
        .column("weight", ColumnType::Int64, false)
        .primary_key(["id"]);
    schema.build().unwrap()
}

/// By kind or not at all, the heaviest row first or by the key.
fn layout(schema: &TableSchema, by_kind: bool, by_weight: bool, limits: LayoutLimits) -> Layout {
    let table = TableIdent::from_strs(["shop", "rows"]).unwrap();
    let iceberg = iceberg_schema(schema, FormatVersion::V2).unwrap();
    let mut spec = PartitionSpec::builder(iceberg.clone()).with_spec_id(1);
    if by_kind {
        spec = spec
            .add_partition_field("kind", "kind", Transform::Identity)
            .unwrap();
    }
    let weight = SortField::builder()
        .source_id(schema.columns()[2].field_id)
        .transform(Transform::Identity)
        .direction(SortDirection::Descending)
        .null_order(NullOrder::Last)
        .build();
    let order = SortOrder::builder()
        .with_order_id(1)
        .with_sort_field(weight)
        .build(&iceberg)
        .unwrap();
    let order = by_weight.then(|| RowOrder::new(&table, &order, schema).unwrap());
    Layout {
        spec_id: 1,
        partitioning: Partitioning::new(&table, &spec.build().unwrap(), schema).unwrap(),
        sort_order_id: i32::from(by_weight),
        order: order.flatten(),
        target_size_bytes: 0,
        limits,
    }
}

/// Kind and weight of the row with each id.
type Rows = Vec<(Option<i32>, i64)>;

fn batches(schema: &TableSchema, rows: &Rows, batch_rows: usize) -> Vec<RecordBatch> {
    let ids: Vec<i64> = (0..rows.len() as i64).collect();
    let chunks = rows.chunks(batch_rows).zip(ids.chunks(batch_rows));
    let batch = |(rows, ids): (&[(Option<i32>, i64)], &[i64])| {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(ids.iter().copied())),
            Arc::new(Int32Array::from_iter(rows.iter().map(|(kind, _)| *kind))),
            Arc::new(Int64Array::from_iter_values(
                rows.iter().map(|(_, weight)| *weight),
            )),
        ];
        RecordBatch::try_new(schema.arrow_schema().clone(), columns).unwrap()
    };
    chunks.map(batch).collect()
}

/// The rows of a file, with their ids.
fn read(file: Vec<u8>) -> Vec<(i64, (Option<i32>, i64))> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(file)).unwrap();
    let mut rows = Vec::new();
    for batch in reader.build().unwrap() {
        let batch = batch.unwrap();
        let ids = batch.column(0).as_primitive::<Int64Type>().values().iter();
        let kinds = batch.column(1).as_primitive::<Int32Type>().iter();
        let weights = batch.column(2).as_primitive::<Int64Type>().values().iter();
        let both = kinds.zip(weights.copied());
        rows.extend(ids.copied().zip(both));
    }
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// *Same* and *bounded*: each row lies in one file, of its partition, in the layout's order; no more files are open than may be, and one
    /// at a time where all rows can be gathered; what a manifest says of a file is so.
    #[test]
    fn rows_are_divided_and_none_is_lost(
        rows in proptest::collection::vec(
            (proptest::option::weighted(0.9, 0..12), -1000_i64..1000), 1..3000,
        ),
        batch_rows in 1_usize..700,
        (by_kind, by_weight) in any::<(bool, bool)>(),
        (row_group_bytes, gathered_bytes, open_files, target_size_bytes) in
            (1_usize..60_000, 1_usize..400_000, 1_usize..6, 1_u64..60_000),
    ) {
        let schema = schema();
        let limits = LayoutLimits { row_group_bytes, gathered_bytes, open_files, partitions: 100 };
        let layout = Layout { target_size_bytes, ..layout(&schema, by_kind, by_weight, limits) };
        let files = Files::default();
        let mut divider = Divider::new(&schema, &layout, files.clone(), None);
        let mut pass_count = 0;
        loop {
            for batch in batches(&schema, &rows, batch_rows) {
                divider.take(batch).unwrap();
            }
            pass_count += 1;
            if !divider.end_pass().unwrap() {
                break;
            }
        }
        let entries = divider.finish();
        let written = std::mem::take(&mut *files.0.lock());
        prop_assert_eq!(entries.len(), written.files.len());
        prop_assert_eq!(written.open, 0);
        let open_max = if by_kind { open_files } else { 1 };
        prop_assert!(written.open_max <= open_max, "{} of {open_max}", written.open_max);
        if pass_count > 1 {
            prop_assert!(by_kind && entries.len() > open_files);
        }
        let mut found = BTreeMap::new();
        let mut in_order = Vec::new();
        for (number, (file, bytes)) in entries.iter().zip(written.files).enumerate() {
            let entry = &file.entry;
            prop_assert_eq!(entry.file_path(), number.to_string());
            prop_assert_eq!(entry.file_size_in_bytes(), bytes.len() as u64);
            let of_file = read(bytes);
            prop_assert_eq!(entry.record_count(), of_file.len() as u64);
            let partition: Vec<Option<Literal>> = entry.partition().iter().map(|value| value.cloned()).collect();
            if by_kind {
                let kind = of_file[0].1.0;
                prop_assert!(of_file.iter().all(|(_, (other, _))| *other == kind));
                prop_assert_eq!(partition, vec![kind.map(Literal::int)]);
            } else {
                prop_assert!(partition.is_empty());
            }
            if by_weight {
                prop_assert!(of_file.windows(2).all(|pair| pair[0].1.1 >= pair[1].1.1));
            } else {
                prop_assert!(of_file.windows(2).all(|pair| pair[0].0 < pair[1].0));
            }
            in_order.extend(of_file.iter().map(|(id, _)| *id));
            for (id, row) in of_file {
                prop_assert_eq!(found.insert(id, row), None, "{} is in two places", id);
            }
        }
        prop_assert!(found.into_iter().eq((0..).zip(rows)));
        if !by_kind && !by_weight {
            prop_assert!(in_order.is_sorted());
        }
    }
}
