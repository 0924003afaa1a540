//! What `fuzz/` runs: any bytes as lines of change events.

#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a property that does not hold is told by a panic, as in tests"
)]

use std::iter::{empty, once};
use std::sync::{Arc, LazyLock};

use moonshine_engine::io::SimulatedIo;
use moonshine_engine::{
    ColumnType, Database, NestedField, Options, Scan, ScanOrder, TableSchema, Value, check_row,
};

use super::apply::Applier;
use super::config::{FileConfig, FileTable, OtherTables};
use super::connect;
use super::event::{Change, Line, parse, unwrap_key};
use super::lines::LineBuffer;
use super::plan::Plan;
use super::position::Position;
use crate::Progress;

const TYPES: [&str; 16] = [
    "boolean",
    "int32",
    "int64",
    "float32",
    "float64",
    "decimal(10,2)",
    "decimal(38,0)",
    "string",
    "binary",
    "uuid",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "timestamp_ns",
    "timestamptz_ns",
];

/// A table with a column of every type.
static SCHEMA: LazyLock<TableSchema> = LazyLock::new(|| {
    let mut builder = TableSchema::builder("a.b").column("id", ColumnType::Int64, false);
    for (i, name) in TYPES.iter().enumerate() {
        builder = builder.column(format!("c{i}"), name.parse().unwrap(), true);
    }
    let part = ColumnType::structure([
        NestedField::new("x", ColumnType::Int32, true),
        NestedField::new("y", ColumnType::list(ColumnType::Date, true), true),
    ]);
    builder
        .column("list", ColumnType::list(ColumnType::Utf8, true), true)
        .column("map", ColumnType::map(ColumnType::Utf8, part, true), true)
        .primary_key(["id"])
        .build()
        .unwrap()
});

/// The first byte says whether the lines go through an applier; each is read by itself in any case.
pub fn debezium(bytes: &[u8]) {
    let Some((&kind, text)) = bytes.split_first() else {
        return;
    };
    let lines = lines(text, usize::from(kind >> 1) + 1);
    lines.iter().for_each(|line| one(line));
    if kind & 1 == 1 && lines.len() > 1 {
        apply(&lines);
    }
}

/// Lines come out whole however the bytes come in.
fn lines(text: &[u8], chunk_len: usize) -> Vec<Vec<u8>> {
    let mut buffer = LineBuffer::default();
    let mut found: Vec<Vec<u8>> = Vec::new();
    for chunk in text.chunks(chunk_len) {
        buffer.extend(chunk);
        while let Some(line) = buffer.take_line() {
            found.push(buffer.line(line).to_vec());
        }
    }
    found.extend(buffer.take_rest().map(|rest| buffer.line(rest).to_vec()));
    assert_eq!(
        found,
        text.split_inclusive(|byte| *byte == b'\n')
            .collect::<Vec<_>>()
    );
    found
}

/// A line is a change or refused, whether its schema is known or not; rows that it gives have values of their columns' types.
fn one(line: &[u8]) {
    let parsed = parse(line, empty());
    if let Ok(Line::Tombstone(key)) = &parsed {
        let (schema, key) = unwrap_key(key);
        let _ = schema.map(|schema| connect::key_table_name(schema.get()));
        check_key(SCHEMA.clone(), &Plan::natural(&SCHEMA), key);
    }
    let Ok(Line::Change(change)) = &parsed else {
        return;
    };
    if let Some(schema) = change.schema {
        let again = parse(line, once(schema));
        assert_eq!(format!("{again:?}"), format!("{parsed:?}"));
    }
    read(&SCHEMA, &Plan::natural(&SCHEMA), change);
    let Some(Ok(fields)) = change.schema.map(connect::row_fields) else {
        return;
    };
    if let Ok(plan) = Plan::of_fields(&fields, &SCHEMA, true) {
        read(&SCHEMA, &plan, change);
    }
    // As a table is made of an event.
    let mut builder = TableSchema::builder("a.c");
    for field in &fields {
        let Some(decoder) = field.decoder else {
            return;
        };
        builder = builder.column(&field.name, decoder.column_type, field.optional);
    }
    let first = fields.first().map(|field| field.name.clone());
    if let Ok(schema) = builder.primary_key(first).build()
        && let Ok(plan) = Plan::of_fields(&fields, &schema, false)
    {
        read(&schema, &plan, change);
    }
}

fn check_key(schema: TableSchema, plan: &Plan, raw: &serde_json::value::RawValue) {
    if let Ok(key) = plan.key(raw, &schema) {
        assert_eq!(key.len(), schema.primary_key().len());
    }
}

fn read(schema: &TableSchema, plan: &Plan, change: &Change<'_>) {
    for raw in [change.before, change.after].into_iter().flatten() {
        if let Ok(decoded) = plan.row(raw, schema) {
            for (value, column) in decoded.row.iter().zip(schema.columns()) {
                let one = TableSchema::builder("one")
                    .column("id", ColumnType::Boolean, false)
                    .column("value", column.column_type, true)
                    .primary_key(["id"])
                    .build();
                let fits = check_row(&one.unwrap(), &[Value::Boolean(true), value.clone()]);
                assert!(fits.is_ok(), "{fits:?}");
            }
        }
        check_key(schema.clone(), plan, raw);
    }
}

/// Lines up to one that is refused, into a database; it goes on with what it holds, and its scan shows rows that fit.
fn apply(lines: &[Vec<u8>]) {
    let options = Options {
        io: Arc::new(SimulatedIo::new(1)),
        memory_budget_bytes: 1 << 20,
        ..Options::unmeasured()
    };
    let database = Database::open("/db", options).unwrap();
    let mut declared = FileTable::new("a.b", ["id"]);
    let columns = TYPES
        .iter()
        .enumerate()
        .map(|(i, name)| (format!("c{i}"), (*name).to_owned()));
    let id = ("id".to_owned(), "int64".to_owned());
    declared.columns = Some(once(id).chain(columns).collect());
    let mut config = FileConfig::new("-", vec![declared, FileTable::new("s.t", ["id"])]);
    config.other_tables = OtherTables::Skip;
    let start = Position::start_of("-".into());
    let mut applier = Applier::open(
        &database,
        "s",
        &config,
        &start,
        Arc::new(Progress::default()),
    )
    .unwrap();
    let mut end = start;
    for line in lines {
        end.offset += line.len() as u64;
        end.line += 1;
        if applier.apply(line, &end).is_err() {
            break;
        }
    }
    applier.close().unwrap();
    applier.wait_durable().unwrap();
    if let Some(origin) = database.origin("s") {
        let position = Position::from_text(&origin.position).unwrap();
        assert_eq!(position.to_text().as_deref(), Ok(origin.position.as_str()));
        assert!(position.line <= end.line);
    }
    let snapshot = database.snapshot();
    for table in database.tables() {
        let scan = Scan {
            order: ScanOrder::Ascending,
            ..Scan::default()
        };
        let batches = snapshot.scan(&table, scan).unwrap();
        let row_count: usize = batches.map(|batch| batch.unwrap().num_rows()).sum();
        assert_eq!(row_count as u64, snapshot.row_count(&table).unwrap());
    }
}

/// Events in each of their wrappings.
pub fn debezium_seeds() -> Vec<Vec<u8>> {
    let row = r#"{"id":1,"c0":true,"c1":-7,"c2":9,"c3":1.5,"c4":"NaN","c5":"12.50","c6":{"scale":0,"value":"fQ=="},"c7":"a\u00e9","c8":"AAH/","c9":"123e4567-e89b-12d3-a456-426614174000","c10":"1969-12-31","c11":"00:00:01.5","c12":"1970-01-01T00:00:01.000001","c13":"1970-01-01T02:00:00+02:00","c14":-1,"c15":"2262-04-11T23:47:16.854775807Z","list":["a",null],"map":{"k":{"x":1,"y":["2024-02-29"]}}}"#;
    let unchanged = r#"{"id":1,"c7":"__debezium_unavailable_value"}"#;
    let source = r#""source":{"db":"d","schema":"a","table":"b","txId":7,"lsn":9}"#;
    let schema = r#"{"type":"struct","fields":[{"field":"before","optional":true,"type":"struct","fields":[]},{"field":"after","optional":true,"type":"struct","fields":[{"field":"id","optional":false,"type":"int32"},{"field":"n","optional":true,"type":"bytes","name":"org.apache.kafka.connect.data.Decimal","parameters":{"scale":"2","connect.decimal.precision":"10"}},{"field":"at","optional":true,"type":"int64","name":"io.debezium.time.MicroTimestamp"},{"field":"ms","optional":true,"type":"int64","name":"io.debezium.time.Timestamp"},{"field":"l","optional":true,"type":"array","items":{"type":"string","optional":true}}]}]}"#;
    let event = |op: &str, before: &str, after: &str| {
        format!(r#"{{"op":"{op}","before":{before},"after":{after},{source}}}"#)
    };
    let wrapped = format!(
        r#"{{"schema":{schema},"payload":{{"op":"r","before":null,"after":{{"id":3,"n":"BOA=","at":1700000000000000,"ms":1700000000000,"l":["x",null]}},"source":{{"schema":"s","table":"t"}}}}}}"#
    );
    let key = r#"{"schema":{"type":"struct","name":"d.a.b.Key","fields":[{"field":"id","type":"int64"}]},"payload":{"id":1}}"#;
    let texts = [
        event("c", "null", row),
        format!(
            "{}\n{}\n",
            event("c", "null", row),
            event("u", row, unchanged)
        ),
        format!(
            "{}\n{}\n",
            event("r", "null", row),
            event("d", r#"{"id":1}"#, "null")
        ),
        format!(
            "{}\n{{\"key\":{key},\"value\":null}}\n",
            event("d", r#"{"id":1}"#, "null")
        ),
        format!(
            "{}\n{}\n",
            event("t", "null", "null"),
            event("c", "null", r#"{"id":2}"#)
        ),
        format!("{wrapped}\n{wrapped}\n"),
        format!("{{\"key\":{key},\"value\":{wrapped}}}\n\n"),
        r#"{"transaction":{"id":"7:9"},"op":"c","after":{"id":5}}"#.to_owned(),
    ];
    texts
        .iter()
        .enumerate()
        .map(|(i, text)| [&[i as u8 * 16 + 1], text.as_bytes()].concat())
        .collect()
}
