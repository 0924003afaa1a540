//! Every type at its extremes, in a table of its own.

use moonshine_engine::{ColumnType, Database, TableSchema, Value};
use moonshine_export::FormatVersion;

use super::matrix::{Matrix, Outcome};
use super::process::{Reader, Request};
use super::rows::{columns_of, expected_rows};
use crate::support::{World, ident};

const MAX_38: i128 = 99_999_999_999_999_999_999_999_999_999_999_999_999;
/// 0001-01-01 and the last microsecond of 9999, in microseconds since 1970.
const YEAR_1_US: i64 = -62_135_596_800_000_000;
const YEAR_9999_US: i64 = 253_402_300_799_999_999;
/// 2000-02-29T12:34:56.789012.
const LEAP_DAY_US: i64 = 951_827_696_789_012;

/// The cases, as the columns of the table in docs/iceberg.md name them.
pub(super) const CASES: &[&str] = &[
    "boolean",
    "int32",
    "int64",
    "float32",
    "float64",
    "decimal(9,2)",
    "decimal(18,18)",
    "decimal(38,0)",
    "decimal(38,38)",
    "string",
    "binary",
    "uuid",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "date, 32-bit ends",
    "timestamp, 64-bit ends",
];
/// Those that format 2 has no type for, in tables of format 3.
/// Lists, structs and maps, and each in another.
pub(super) const NESTED_CASES: &[&str] = &[
    "list<int32>",
    "list<timestamptz>",
    "struct<a: decimal(38,10), b: uuid>",
    "map<string, float64>",
    "map<int32, list<string>>",
    "list<list<list<string>>>",
    "list<struct<a: int64, b: map<string, list<date>>>>",
];
/// Those that format 2 has no type for, in tables of format 3.
pub(super) const CASES_OF_FORMAT_3: &[&str] = &["timestamp_ns", "timestamptz_ns"];

fn values(case: &str) -> (ColumnType, Vec<Value>) {
    let decimal = |precision, scale| ColumnType::Decimal { precision, scale };
    let decimals = |max: i128| [-max, -1, 0, 1, max].map(Value::Decimal).to_vec();
    let times = |make: fn(i64) -> Value| {
        let values = [YEAR_1_US, YEAR_9999_US, -1, 0, 1, LEAP_DAY_US];
        values.map(make).to_vec()
    };
    match case {
        "boolean" => (
            ColumnType::Boolean,
            vec![Value::Boolean(false), Value::Boolean(true)],
        ),
        "int32" => (
            ColumnType::Int32,
            [i32::MIN, -1, 0, 1, i32::MAX].map(Value::Int32).to_vec(),
        ),
        "int64" => (
            ColumnType::Int64,
            [i64::MIN, -1, 0, 1, i64::MAX].map(Value::Int64).to_vec(),
        ),
        "float32" => (
            ColumnType::Float32,
            [
                f32::MIN,
                f32::MAX,
                f32::MIN_POSITIVE,
                f32::from_bits(1),
                f32::NAN,
                f32::INFINITY,
                f32::NEG_INFINITY,
                0.0,
                -0.0,
                0.1,
            ]
            .map(Value::Float32)
            .to_vec(),
        ),
        "float64" => (
            ColumnType::Float64,
            [
                f64::MIN,
                f64::MAX,
                f64::MIN_POSITIVE,
                f64::from_bits(1),
                f64::NAN,
                f64::INFINITY,
                f64::NEG_INFINITY,
                0.0,
                -0.0,
                0.1,
            ]
            .map(Value::Float64)
            .to_vec(),
        ),
        "decimal(9,2)" => (decimal(9, 2), decimals(999_999_999)),
        "decimal(18,18)" => (decimal(18, 18), decimals(999_999_999_999_999_999)),
        "decimal(38,0)" => (decimal(38, 0), decimals(MAX_38)),
        "decimal(38,38)" => (decimal(38, 38), decimals(MAX_38)),
        "string" => {
            let texts = [
                String::new(),
                "naïve Ω 🦀 \"quoted\"\t\r\n".into(),
                "\u{10ffff}".repeat(70),
                "a\0b".into(),
                "16 MiB: ".to_owned() + &"x".repeat((16 << 20) - 8),
            ];
            (ColumnType::Utf8, texts.map(Value::Utf8).to_vec())
        }
        "binary" => {
            let bytes = [
                Vec::new(),
                vec![0],
                (0..=255).collect(),
                vec![0xff; 70],
                vec![0x80; 1 << 20],
            ];
            (ColumnType::Binary, bytes.map(Value::Binary).to_vec())
        }
        "uuid" => (
            ColumnType::Uuid,
            [0, 0x7f, 0x80, 0xff]
                .map(|byte| Value::Uuid([byte; 16]))
                .to_vec(),
        ),
        // 0001-01-01, the last day of 9999, around 1970, 2000-02-29.
        "date" => (
            ColumnType::Date,
            [-719_162, 2_932_896, -1, 0, 1, 11_016]
                .map(Value::Date)
                .to_vec(),
        ),
        "time" => (
            ColumnType::Time,
            [0, 1, 43_200_000_000, 86_399_999_999]
                .map(Value::Time)
                .to_vec(),
        ),
        "timestamp" => (ColumnType::Timestamp, times(Value::Timestamp)),
        "timestamptz" => (ColumnType::TimestampTz, times(Value::TimestampTz)),
        "date, 32-bit ends" => (
            ColumnType::Date,
            [i32::MIN, i32::MAX].map(Value::Date).to_vec(),
        ),
        "timestamp, 64-bit ends" => (
            ColumnType::Timestamp,
            [i64::MIN, i64::MAX].map(Value::Timestamp).to_vec(),
        ),
        "timestamp_ns" => (ColumnType::TimestampNs, nanoseconds(Value::TimestampNs)),
        "timestamptz_ns" => (ColumnType::TimestampTzNs, nanoseconds(Value::TimestampTzNs)),
        nested => {
            let column_type: ColumnType = nested.parse().unwrap();
            (column_type, nested_values(column_type))
        }
    }
}

/// Values of a nested type: with all that its parts can be, with nulls alone, and empty where it can be.
fn nested_values(column_type: ColumnType) -> Vec<Value> {
    let all = |column_type: ColumnType| match column_type {
        nested if nested.is_nested() => nested_values(nested),
        ColumnType::Utf8 => ["", "Ω \"q\"\n", "x"]
            .map(|t| Value::Utf8(t.into()))
            .to_vec(),
        ColumnType::Decimal { .. } => [-MAX_38, 0, MAX_38].map(Value::Decimal).to_vec(),
        plain => values(&plain.to_string()).1,
    };
    let nulls = vec![Value::Null, Value::Null];
    match column_type {
        ColumnType::List(list) => {
            let mut elements = all(list.fields()[0].column_type);
            elements.push(Value::Null);
            [elements, nulls, vec![]].map(Value::List).to_vec()
        }
        ColumnType::Map(map) => {
            let keys = all(map.fields()[0].column_type);
            let values = all(map.fields()[1].column_type).into_iter().cycle();
            let full = keys.iter().cloned().zip(values).collect();
            let null = vec![(keys[0].clone(), Value::Null)];
            [full, null, vec![]].map(Value::Map).to_vec()
        }
        _ => {
            let fields = column_type.nested_fields().iter();
            let fields: Vec<Vec<Value>> = fields.map(|field| all(field.column_type)).collect();
            let nulls = fields.iter().map(|_| Value::Null).collect();
            let firsts = fields.iter().map(|values| values[0].clone()).collect();
            let lasts = fields.iter().map(|values| values[values.len() - 1].clone());
            [firsts, lasts.collect(), nulls].map(Value::Struct).to_vec()
        }
    }
}

/// Both ends of what 64 bits of nanoseconds hold, one before and after 1970, a leap day.
fn nanoseconds(make: fn(i64) -> Value) -> Vec<Value> {
    let values = [i64::MIN, i64::MAX, -1, 0, 1, LEAP_DAY_US * 1000 + 345];
    values.map(make).to_vec()
}

/// Writes a table of the case.
fn write(database: &Database, case: &str, number: usize) {
    let (column_type, values) = values(case);
    let schema = TableSchema::builder(format!("types.t{number}"))
        .column("id", ColumnType::Int32, false)
        .column("value", column_type, true)
        .primary_key(["id"])
        .build()
        .unwrap();
    let table = database.create_table(schema).unwrap();
    let mut transaction = database.begin();
    for (id, value) in values.into_iter().chain([Value::Null]).enumerate() {
        let row = vec![Value::Int32(i32::try_from(id).unwrap()), value];
        transaction.upsert(&table, row).unwrap();
    }
    transaction.commit().unwrap();
}

pub(super) async fn measure(reader: &mut Reader, matrix: &mut Matrix) {
    // What no reader refuses, so that the column is about the type alone.
    measure_cases(reader, matrix, FormatVersion::V2, "types", CASES).await;
    measure_cases(
        reader,
        matrix,
        FormatVersion::V2,
        "nested types",
        NESTED_CASES,
    )
    .await;
    let (version, cases) = (FormatVersion::V3, CASES_OF_FORMAT_3);
    measure_cases(reader, matrix, version, "types of format 3", cases).await;
}

async fn measure_cases(
    reader: &mut Reader,
    matrix: &mut Matrix,
    version: FormatVersion,
    page_table: &'static str,
    cases: &[&str],
) {
    let world = World::new(version);
    let database = world.database();
    for (number, case) in cases.iter().enumerate() {
        write(&database, case, number);
    }
    let mut exporter = world.exporter(&database).await.unwrap();
    exporter.tick(&database.snapshot()).await.unwrap();
    let catalog = world.catalog().await;
    for (number, case) in cases.iter().enumerate() {
        let name = format!("t{number}");
        let table = database.table(&format!("types.{name}")).unwrap();
        let found = catalog.load(&ident("types", &name)).await.unwrap().unwrap();
        let read = reader.read(&Request {
            metadata_location: &found.metadata_location,
            columns: columns_of(table.schema()),
            lineage: false,
            snapshot_id: None,
        });
        let outcome = Outcome::of(read, &expected_rows(&database, &table));
        matrix.note(page_table, case, outcome);
    }
}
