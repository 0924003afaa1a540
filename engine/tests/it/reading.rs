//! Rows back from Arrow batches, and scans by range and projection.

use std::ops::Bound;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType, TimestampNanosecondType,
};
use arrow_array::{Array, RecordBatch};
use moonshine_engine::{
    ColumnType, Database, NestedField, Options, Row, Scan, ScanOrder, Table, TableSchema, Value,
};

/// The rows of a batch that holds all columns of a table.
pub(crate) fn rows_of(batch: &RecordBatch, table: &Table) -> Vec<Row> {
    assert_eq!(&batch.schema(), table.schema().arrow_schema());
    let columns = table.schema().columns();
    (0..batch.num_rows())
        .map(|i| {
            columns
                .iter()
                .zip(batch.columns())
                .map(|(c, a)| value_of(a, c.column_type, i))
                .collect()
        })
        .collect()
}

fn value_of(array: &dyn Array, column_type: ColumnType, i: usize) -> Value {
    if array.is_null(i) {
        return Value::Null;
    }
    let parts = column_type.nested_fields();
    let values = |array: &dyn Array, part: usize| -> Vec<Value> {
        let all = 0..array.len();
        all.map(|i| value_of(array, parts[part].column_type, i))
            .collect()
    };
    match column_type {
        ColumnType::List(_) => Value::List(values(&array.as_list::<i32>().value(i), 0)),
        ColumnType::Map(_) => {
            let entries = array.as_map().value(i);
            let keys = values(entries.column(0), 0).into_iter();
            Value::Map(keys.zip(values(entries.column(1), 1)).collect())
        }
        ColumnType::Struct(_) => {
            let columns = array.as_struct().columns().iter().zip(parts);
            let value = columns.map(|(column, part)| value_of(column, part.column_type, i));
            Value::Struct(value.collect())
        }
        ColumnType::Boolean => Value::Boolean(array.as_boolean().value(i)),
        ColumnType::Int32 => Value::Int32(array.as_primitive::<Int32Type>().value(i)),
        ColumnType::Int64 => Value::Int64(array.as_primitive::<Int64Type>().value(i)),
        ColumnType::Float32 => Value::Float32(array.as_primitive::<Float32Type>().value(i)),
        ColumnType::Float64 => Value::Float64(array.as_primitive::<Float64Type>().value(i)),
        ColumnType::Decimal { .. } => {
            Value::Decimal(array.as_primitive::<Decimal128Type>().value(i))
        }
        ColumnType::Utf8 => Value::Utf8(array.as_string::<i32>().value(i).into()),
        ColumnType::Binary => Value::Binary(array.as_binary::<i32>().value(i).into()),
        ColumnType::Uuid => Value::Uuid(array.as_fixed_size_binary().value(i).try_into().unwrap()),
        ColumnType::Date => Value::Date(array.as_primitive::<Date32Type>().value(i)),
        ColumnType::Time => Value::Time(array.as_primitive::<Time64MicrosecondType>().value(i)),
        ColumnType::Timestamp => {
            Value::Timestamp(array.as_primitive::<TimestampMicrosecondType>().value(i))
        }
        ColumnType::TimestampTz => {
            Value::TimestampTz(array.as_primitive::<TimestampMicrosecondType>().value(i))
        }
        ColumnType::TimestampNs => {
            Value::TimestampNs(array.as_primitive::<TimestampNanosecondType>().value(i))
        }
        ColumnType::TimestampTzNs => {
            Value::TimestampTzNs(array.as_primitive::<TimestampNanosecondType>().value(i))
        }
    }
}

/// Text that sorts as the key does.
pub(crate) fn sort_key(key: &[Value]) -> String {
    key.iter()
        .map(|value| match value {
            Value::Int32(v) => format!("{:020}", i64::from(*v) + 1_000_000_000_000),
            Value::Int64(v) => format!("{:020}", v + 1_000_000_000_000),
            Value::Utf8(v) => {
                v.bytes()
                    .map(|byte| format!("{byte:03}"))
                    .collect::<String>()
                    + "!"
            }
            Value::Binary(v) => v.iter().map(|byte| format!("{byte:03}")).collect(),
            other => panic!("{other:?} is no key of these tests"),
        })
        .collect()
}

/// A table with a column of each type, and rows at the extremes.
pub(crate) fn extremes() -> (TableSchema, Vec<Row>) {
    let decimal = ColumnType::Decimal {
        precision: 38,
        scale: 9,
    };
    let types = [
        ColumnType::Boolean,
        ColumnType::Int32,
        ColumnType::Int64,
        ColumnType::Float32,
        ColumnType::Float64,
        decimal,
        ColumnType::Utf8,
        ColumnType::Binary,
        ColumnType::Uuid,
        ColumnType::Date,
        ColumnType::Time,
        ColumnType::Timestamp,
        ColumnType::TimestampTz,
        ColumnType::TimestampNs,
        ColumnType::TimestampTzNs,
        ColumnType::list(ColumnType::Utf8, true),
        ColumnType::structure([
            NestedField::new("a", ColumnType::Uuid, false),
            NestedField::new("b", ColumnType::list(ColumnType::Int64, true), true),
        ]),
        ColumnType::map(
            ColumnType::Int32,
            ColumnType::map(ColumnType::Utf8, ColumnType::list(decimal, false), false),
            true,
        ),
    ];
    let mut builder = TableSchema::builder("extremes").column("id", ColumnType::Int32, false);
    for column_type in types {
        builder = builder.column(column_type.to_string(), column_type, true);
    }
    let digits = 10i128.pow(38) - 1;
    let rows = [
        vec![Value::Null; types.len()],
        vec![
            Value::Boolean(false),
            Value::Int32(i32::MIN),
            Value::Int64(i64::MIN),
            Value::Float32(f32::NEG_INFINITY),
            Value::Float64(f64::MIN_POSITIVE),
            Value::Decimal(-digits),
            Value::Utf8(String::new()),
            Value::Binary(Vec::new()),
            Value::Uuid([0; 16]),
            Value::Date(i32::MIN),
            Value::Time(0),
            Value::Timestamp(i64::MIN),
            Value::TimestampTz(i64::MIN),
            Value::TimestampNs(i64::MIN),
            Value::TimestampTzNs(i64::MIN),
            Value::List(vec![]),
            Value::Struct(vec![Value::Uuid([0; 16]), Value::Null]),
            Value::Map(vec![(Value::Int32(i32::MIN), Value::Null)]),
        ],
        vec![
            Value::Boolean(true),
            Value::Int32(i32::MAX),
            Value::Int64(i64::MAX),
            Value::Float32(-0.0),
            Value::Float64(f64::INFINITY),
            Value::Decimal(digits),
            Value::Utf8("ü\0🥃".repeat(100_000)),
            Value::Binary(vec![0xff; 1_000_000]),
            Value::Uuid([0xff; 16]),
            Value::Date(i32::MAX),
            Value::Time(86_399_999_999),
            Value::Timestamp(i64::MAX),
            Value::TimestampTz(i64::MAX),
            Value::TimestampNs(i64::MAX),
            Value::TimestampTzNs(i64::MAX),
            Value::List(vec![
                Value::Null,
                Value::Utf8(String::new()),
                Value::Utf8("\u{10ffff}".repeat(70)),
            ]),
            Value::Struct(vec![
                Value::Uuid([0xff; 16]),
                Value::List(vec![Value::Int64(i64::MAX), Value::Null]),
            ]),
            Value::Map(vec![
                (Value::Int32(1), Value::Map(vec![])),
                (Value::Int32(i32::MAX), {
                    let digits = vec![Value::Decimal(-digits), Value::Decimal(digits)];
                    Value::Map(vec![(Value::Utf8("k".into()), Value::List(digits))])
                }),
            ]),
        ],
    ];
    let rows = (0i32..).zip(rows).map(|(id, mut row)| {
        row.insert(0, Value::Int32(id));
        row
    });
    (builder.primary_key(["id"]).build().unwrap(), rows.collect())
}

#[test]
fn every_type_comes_back_at_its_extremes_after_a_reopen() {
    let folder = tempfile::tempdir().unwrap();
    let (schema, rows) = extremes();
    {
        let database = Database::open(folder.path(), Options::unmeasured()).unwrap();
        let table = database.create_table(schema.clone()).unwrap();
        let mut transaction = database.begin();
        rows.iter()
            .for_each(|row| transaction.upsert(&table, row.clone()).unwrap());
        transaction.commit().unwrap();
    }
    let database = Database::open(folder.path(), Options::unmeasured()).unwrap();
    let table = database.table("extremes").unwrap();
    assert_eq!(**table.schema(), schema);
    let snapshot = database.snapshot();
    let scan = Scan {
        order: ScanOrder::Ascending,
        ..Scan::default()
    };
    let scanned: Vec<Row> = snapshot
        .scan(&table, scan)
        .unwrap()
        .flat_map(|batch| rows_of(&batch.unwrap(), &table))
        .collect();
    assert_eq!(scanned, rows);
    for row in &rows {
        assert_eq!(snapshot.get(&table, &row[..1]).unwrap().as_ref(), Some(row));
    }
}

#[test]
fn ranges_and_projections_return_what_they_name() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(folder.path(), Options::unmeasured()).unwrap();
    let schema = TableSchema::builder("lines")
        .column("order", ColumnType::Utf8, false)
        .column("line", ColumnType::Int32, false)
        .column("note", ColumnType::Utf8, true)
        .primary_key(["order", "line"])
        .build()
        .unwrap();
    let table = database.create_table(schema).unwrap();
    let mut transaction = database.begin();
    for order in ["a", "b", "b\u{1}", "c"] {
        for line in -1..=1 {
            let row = vec![
                Value::Utf8(order.into()),
                Value::Int32(line),
                Value::Utf8(format!("{order}{line}")),
            ];
            transaction.upsert(&table, row).unwrap();
        }
    }
    transaction.commit().unwrap();
    let snapshot = database.snapshot();
    let notes = |start: Bound<Vec<Value>>, end: Bound<Vec<Value>>, order| {
        let scan = Scan {
            projection: Some(vec![2]),
            order,
            range: (start, end),
            batch_rows: 2,
            ..Scan::default()
        };
        let batches = snapshot.scan(&table, scan).unwrap();
        assert_eq!(batches.schema().fields().len(), 1);
        batches
            .flat_map(|batch| {
                let batch = batch.unwrap();
                let notes = batch.column(0).as_string::<i32>().clone();
                (0..notes.len())
                    .map(move |i| notes.value(i).to_owned())
                    .collect::<Vec<_>>()
            })
            .collect::<Vec<_>>()
    };
    let b = || vec![Value::Utf8("b".into())];
    let b0 = || vec![Value::Utf8("b".into()), Value::Int32(0)];
    use Bound::{Excluded, Included, Unbounded};
    use ScanOrder::{Ascending, Descending};
    assert_eq!(
        notes(Included(b()), Included(b()), Ascending),
        ["b-1", "b0", "b1"]
    );
    assert_eq!(
        notes(Included(b()), Included(b()), Descending),
        ["b1", "b0", "b-1"]
    );
    assert_eq!(
        notes(
            Excluded(b()),
            Excluded(vec![Value::Utf8("c".into())]),
            Ascending
        ),
        ["b\u{1}-1", "b\u{1}0", "b\u{1}1"]
    );
    assert_eq!(
        notes(Unbounded, Excluded(b()), Ascending),
        ["a-1", "a0", "a1"]
    );
    assert_eq!(notes(Included(b0()), Included(b0()), Ascending), ["b0"]);
    assert_eq!(notes(Excluded(b0()), Included(b()), Ascending), ["b1"]);
    assert_eq!(
        notes(
            Excluded(vec![Value::Utf8("b\u{1}".into())]),
            Unbounded,
            Ascending
        ),
        ["c-1", "c0", "c1"]
    );
    let too_long = vec![Value::Utf8("b".into()), Value::Int32(0), Value::Null];
    let scan = Scan {
        range: (Included(too_long), Unbounded),
        ..Scan::default()
    };
    assert!(snapshot.scan(&table, scan).is_err());
    assert!(
        snapshot
            .scan(
                &table,
                Scan {
                    projection: Some(vec![3]),
                    ..Scan::default()
                }
            )
            .is_err()
    );
    let keys_only = Scan {
        projection: Some(vec![]),
        ..Scan::default()
    };
    let count: usize = snapshot
        .scan(&table, keys_only)
        .unwrap()
        .map(|batch| batch.unwrap().num_rows())
        .sum();
    assert_eq!(count, 12);
}
