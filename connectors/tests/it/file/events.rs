//! What each kind of event does.

use moonshine_connectors::Phase;
use moonshine_connectors::file::OtherTables;
use moonshine_engine::ColumnType;

use super::*;

/// A value's JSON in the events' schema: name, type with logical name and parameters, JSON value.
type Field<'a> = (&'a str, &'a str, &'a str);

fn with_schema(op: &str, table: &str, fields: &[Field<'_>]) -> String {
    let types: Vec<String> = fields
        .iter()
        .map(|(name, kind, _)| format!(r#"{{{kind},"optional":true,"field":"{name}"}}"#))
        .collect();
    let row: Vec<String> = fields
        .iter()
        .map(|(name, _, value)| format!(r#""{name}":{value}"#))
        .collect();
    let schema = format!(
        r#"{{"type":"struct","fields":[{{"type":"struct","fields":[{0}],"optional":true,"name":"web.shop.{table}.Value","field":"before"}},{{"type":"struct","fields":[{0}],"optional":true,"name":"web.shop.{table}.Value","field":"after"}},{{"type":"string","optional":false,"field":"op"}}],"optional":false,"name":"web.shop.{table}.Envelope","version":1}}"#,
        types.join(",")
    );
    let payload = event(op, table, "null", &format!("{{{}}}", row.join(",")));
    format!(r#"{{"schema":{schema},"payload":{payload}}}"#)
}

#[test]
fn inserts_updates_deletes_snapshots_and_truncates() {
    let bench = Bench::new();
    bench.write(
        "a.jsonl",
        &[
            event("r", "notes", "null", &note_row(1, "one")),
            note(2, "two"),
            note(3, "three"),
            event("u", "notes", "null", &note_row(1, "uno")),
            event("u", "notes", &note_row(2, "two"), &note_row(2, "dos")),
            event("d", "notes", &note_row(3, "three"), "null"),
        ],
    );
    let progress = bench.run(&bench.config("a.jsonl", vec![notes()])).unwrap();
    assert_eq!(bench.notes(1..=3), some(&["uno", "dos", ""]));
    assert_eq!(
        (progress.rows, progress.transactions, progress.phase),
        (6, 1, Phase::Finished)
    );
    assert_eq!(
        progress.bytes,
        fs::metadata(bench.input("a.jsonl")).unwrap().len()
    );
    assert_eq!(
        (progress.total_bytes, progress.lag_bytes),
        (progress.bytes, 0)
    );

    bench.append(
        "a.jsonl",
        &format!(
            "{}\n{}\n",
            event("t", "notes", "null", "null"),
            note(4, "four")
        ),
    );
    bench.run(&bench.config("a.jsonl", vec![notes()])).unwrap();
    assert_eq!(
        (bench.notes([1, 2, 4]), bench.row_count("shop.notes")),
        (some(&["", "", "four"]), 1)
    );
}

#[test]
fn an_update_of_the_key_moves_the_row() {
    let bench = Bench::new();
    bench.write(
        "a.jsonl",
        &[
            note(1, "one"),
            event("u", "notes", &note_row(1, "one"), &note_row(2, "two")),
        ],
    );
    bench.run(&bench.config("a.jsonl", vec![notes()])).unwrap();
    assert_eq!(bench.notes([1, 2]), some(&["", "two"]));
}

#[test]
fn tombstones_delete_by_key_and_do_nothing_without_one() {
    let bench = Bench::new();
    let pair = |id: i64, value: &str| format!(r#"{{"key":{{"id":{id}}},"value":{value}}}"#);
    bench.write(
        "a.jsonl",
        &[
            pair(1, &note(1, "one")),
            pair(2, &note(2, "two")),
            pair(3, &note(3, "three")),
            pair(2, &event("d", "notes", "null", "null")),
            pair(2, "null"),
            "null".into(),
            pair(1, "null"),
            pair(7, "null"),
            r#"{"key":null,"value":null}"#.into(),
        ],
    );
    bench.run(&bench.config("a.jsonl", vec![notes()])).unwrap();
    assert_eq!(
        (bench.notes(1..=3), bench.row_count("shop.notes")),
        (some(&["", "", "three"]), 1)
    );
}

#[test]
fn a_tombstone_finds_its_table_by_its_schema_or_by_the_delete_before() {
    let bench = Bench::new();
    let tables = || {
        vec![
            notes(),
            table("shop.tags", &["id"], &[("id", "int64"), ("note", "string")]),
        ]
    };
    let schema = r#"{"type":"struct","fields":[{"type":"int64","optional":false,"field":"id"}],"name":"web.shop.tags.Key"}"#;
    bench.write(
        "a.jsonl",
        &[
            note(1, "one"),
            event("c", "tags", "null", &note_row(1, "one")),
            event("c", "tags", "null", &note_row(2, "two")),
            format!(r#"{{"key":{{"schema":{schema},"payload":{{"id":1}}}},"value":null}}"#),
            event("d", "tags", &note_row(2, "two"), "null"),
            r#"{"key":{"id":2},"value":null}"#.into(),
        ],
    );
    bench.run(&bench.config("a.jsonl", tables())).unwrap();
    assert_eq!(
        (bench.row_count("shop.notes"), bench.row_count("shop.tags")),
        (1, 0)
    );

    bench.append("a.jsonl", "{\"key\":{\"id\":1},\"value\":null}\n");
    let error = bench
        .run(&bench.config("a.jsonl", tables()))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("a.jsonl:7") && error.contains("which of the configured tables"),
        "{error}"
    );
}

#[test]
fn columns_come_from_the_schema_of_the_events() {
    let bench = Bench::new();
    let logical = |kind: &str, name: &str| format!(r#""type":"{kind}","name":"{name}""#);
    let decimal = r#""type":"bytes","name":"org.apache.kafka.connect.data.Decimal","parameters":{"scale":"2","connect.decimal.precision":"9"}"#;
    let (micro, zoned) = (
        logical("int64", "io.debezium.time.MicroTimestamp"),
        logical("string", "io.debezium.time.ZonedTimestamp"),
    );
    let (milli, day) = (
        logical("int64", "io.debezium.time.Timestamp"),
        logical("int32", "io.debezium.time.Date"),
    );
    let (uuid, json) = (
        logical("string", "io.debezium.data.Uuid"),
        logical("string", "io.debezium.data.Json"),
    );
    let time = logical("int64", "io.debezium.time.MicroTime");
    let fields: &[Field<'_>] = &[
        ("id", r#""type":"int64""#, "7"),
        ("small", r#""type":"int16""#, "-3"),
        ("flag", r#""type":"boolean""#, "true"),
        ("ratio", r#""type":"double""#, "0.1"),
        ("price", decimal, "\"BOI=\""),
        ("text", r#""type":"string""#, "\"é\""),
        ("bytes", r#""type":"bytes""#, "\"AP8=\""),
        ("day", &day, "-1"),
        ("time", &time, "1"),
        ("micro", &micro, "5"),
        ("milli", &milli, "5"),
        ("zoned", &zoned, "\"1970-01-01T00:00:01Z\""),
        ("uuid", &uuid, "\"00000000-0000-0000-0000-00000000000a\""),
        ("json", &json, "\"{\\\"a\\\":1}\""),
        ("none", r#""type":"string""#, "null"),
    ];
    bench.write("a.jsonl", &[with_schema("c", "wide", fields)]);
    bench
        .run(&bench.config("a.jsonl", vec![FileTable::new("shop.wide", ["id"])]))
        .unwrap();

    let mut ten = [0; 16];
    ten[15] = 10;
    assert_eq!(
        bench.row("shop.wide", &[Value::Int64(7)]).unwrap(),
        vec![
            Value::Int64(7),
            Value::Int32(-3),
            Value::Boolean(true),
            Value::Float64(0.1),
            Value::Decimal(1250),
            Value::Utf8("é".into()),
            Value::Binary(vec![0, 255]),
            Value::Date(-1),
            Value::Time(1),
            Value::Timestamp(5),
            Value::Timestamp(5000),
            Value::TimestampTz(1_000_000),
            Value::Uuid(ten),
            Value::Utf8("{\"a\":1}".into()),
            Value::Null,
        ]
    );
    let price = bench.table("shop.wide").schema().columns()[4].column_type;
    assert_eq!(
        price,
        ColumnType::Decimal {
            precision: 9,
            scale: 2
        }
    );
}

#[test]
fn declared_columns_choose_and_type_the_fields_of_the_schema() {
    let bench = Bench::new();
    let fields: &[Field<'_>] = &[
        ("id", r#""type":"int32""#, "7"),
        ("price", r#""type":"string""#, "\"12.5\""),
        ("x", r#""type":"array""#, "[1]"),
    ];
    bench.write("a.jsonl", &[with_schema("c", "wide", fields)]);
    let columns = [("price", "decimal(9,2)"), ("id", "int64")];
    bench
        .run(&bench.config("a.jsonl", vec![table("shop.wide", &["id"], &columns)]))
        .unwrap();
    assert_eq!(
        bench.row("shop.wide", &[Value::Int64(7)]).unwrap(),
        vec![Value::Decimal(1250), Value::Int64(7)]
    );
}

#[test]
fn a_schema_that_grows_a_column_is_refused_where_it_does() {
    let bench = Bench::new();
    let id = |value| ("id", r#""type":"int64""#, value);
    bench.write(
        "a.jsonl",
        &[
            with_schema("c", "wide", &[id("1")]),
            with_schema("c", "wide", &[id("2")]),
            with_schema(
                "c",
                "wide",
                &[id("3"), ("more", r#""type":"string""#, "null")],
            ),
        ],
    );
    let config = bench.config("a.jsonl", vec![FileTable::new("shop.wide", ["id"])]);
    let error = bench.run(&config).unwrap_err().to_string();
    assert!(
        error.contains("a.jsonl:3") && error.contains("'more'"),
        "{error}"
    );
    assert_eq!(bench.row_count("shop.wide"), 2);
}

#[test]
fn unchanged_columns_are_filled_from_the_row_that_is_there() {
    let bench = Bench::new();
    let unchanged = |id| note_row(id, "__debezium_unavailable_value");
    let two = |id: i64, note: &str| format!(r#"{{"id":{id},"note":"{note}","n":{id}}}"#);
    let wide = || {
        table(
            "shop.notes",
            &["id"],
            &[("id", "int64"), ("note", "string"), ("n", "int64")],
        )
    };
    bench.write(
        "a.jsonl",
        &[
            in_transaction(&event("c", "notes", "null", &two(1, "one")), "a"),
            in_transaction(&event("c", "notes", "null", &two(2, "two")), "b"),
            // In the transaction that wrote the row, and in a later one.
            in_transaction(&event("u", "notes", "null", &unchanged(2)), "b"),
            in_transaction(&event("u", "notes", "null", &unchanged(1)), "c"),
            // With another key: from the row of the old key.
            in_transaction(&event("u", "notes", &two(2, "two"), &unchanged(3)), "c"),
        ],
    );
    bench.run(&bench.config("a.jsonl", vec![wide()])).unwrap();
    assert_eq!(bench.notes(1..=3), some(&["one", "", "two"]));
    assert_eq!(
        bench.row("shop.notes", &[Value::Int64(1)]).unwrap()[2],
        Value::Null,
        "only what is unchanged is kept"
    );

    bench.append(
        "a.jsonl",
        &(event("u", "notes", "null", &unchanged(9)) + "\n"),
    );
    let error = bench
        .run(&bench.config("a.jsonl", vec![wide()]))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("a.jsonl:6") && error.contains("[note]") && error.contains("shop.notes"),
        "{error}"
    );
}

#[test]
fn events_of_one_source_transaction_are_one_transaction() {
    let bench = Bench::new();
    let by_lsn = |id: i64, tx: i64| {
        note(id, "x").replace(
            r#""table":"notes""#,
            &format!(r#""table":"notes","txId":{tx},"lsn":{id}"#),
        )
    };
    bench.write(
        "a.jsonl",
        &[
            in_transaction(&note(1, "a"), "7"),
            in_transaction(&note(2, "b"), "7"),
            in_transaction(&note(3, "c"), "8"),
            by_lsn(4, 9),
            by_lsn(5, 9),
            by_lsn(6, 10),
            note(7, "x"),
            note(8, "x"),
        ],
    );
    let progress = bench.run(&bench.config("a.jsonl", vec![notes()])).unwrap();
    assert_eq!(
        (
            progress.rows,
            progress.transactions,
            bench.row_count("shop.notes")
        ),
        (8, 5, 8)
    );
}

#[test]
fn tables_are_matched_by_schema_or_database_and_others_can_be_left_out() {
    let bench = Bench::new();
    let mysql = r#"{"after":{"id":1,"note":"m"},"source":{"db":"legacy","table":"memo"},"op":"c"}"#;
    let memo = FileTable {
        source_table: Some("legacy.memo".into()),
        ..table("shop.memo", &["id"], &[("id", "int64")])
    };
    bench.write(
        "a.jsonl",
        &[
            mysql.to_owned(),
            note(1, "one"),
            event("c", "other", "null", "{}"),
        ],
    );
    let mut config = bench.config("a.jsonl", vec![notes(), memo]);
    let error = bench.run(&config).unwrap_err().to_string();
    assert!(
        error.contains("a.jsonl:3") && error.contains("'shop.other'"),
        "{error}"
    );
    assert_eq!(
        (bench.row_count("shop.memo"), bench.row_count("shop.notes")),
        (1, 1)
    );

    config.other_tables = OtherTables::Skip;
    bench.run(&config).unwrap();
}

#[test]
fn the_only_table_takes_events_without_a_source() {
    let bench = Bench::new();
    bench.write("a.jsonl", &[r#"{"op":"c","after":{"id":1,"note":"one"}}"#]);
    bench.run(&bench.config("a.jsonl", vec![notes()])).unwrap();
    assert_eq!(bench.notes([1]), some(&["one"]));
}

#[test]
fn the_sample_of_the_quickstart_ends_in_the_rows_that_its_events_say() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../examples/quickstart/orders.jsonl"
    );
    let text = fs::read_to_string(path).unwrap();
    let mut notes: BTreeMap<i64, Option<String>> = BTreeMap::new();
    let mut items = 0;
    for line in text.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        match (
            event["source"]["table"].as_str().unwrap(),
            event["op"].as_str().unwrap(),
        ) {
            ("orders", "d") => drop(notes.remove(&event["before"]["order_id"].as_i64().unwrap())),
            ("orders", _) => {
                let note = event["after"]["note"].as_str().map(str::to_owned);
                notes.insert(event["after"]["order_id"].as_i64().unwrap(), note);
            }
            ("order_items", "c") => items += 1,
            ("order_items", "d") => items -= 1,
            _ => {}
        }
    }
    let bench = Bench::new();
    let config = FileConfig::new(
        path,
        vec![
            table(
                "shop.customers",
                &["customer_id"],
                &[("customer_id", "int64"), ("since", "date not null")],
            ),
            table(
                "shop.orders",
                &["order_id"],
                &[
                    ("order_id", "int64"),
                    ("note", "string"),
                    ("total", "decimal(12,2) not null"),
                ],
            ),
            table(
                "shop.order_items",
                &["order_id", "line_no"],
                &[("order_id", "int64"), ("line_no", "int32")],
            ),
        ],
    );
    bench.run(&config).unwrap();
    assert_eq!(
        (
            bench.row_count("shop.customers"),
            bench.row_count("shop.order_items")
        ),
        (52, items)
    );
    assert_eq!(bench.row_count("shop.orders"), notes.len() as u64);
    for (id, note) in notes {
        let row = bench.row("shop.orders", &[Value::Int64(id)]).unwrap();
        assert_eq!(row[1], note.map_or(Value::Null, Value::Utf8), "order {id}");
    }
}
