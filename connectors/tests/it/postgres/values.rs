//! Every type at its extremes, by copy and by stream, in the binary and in the text form.

use super::*;

const COLUMNS: &str = "b bool, i2 int2, i4 int4, i8 int8, f4 float4, f8 float8, n numeric(10,2), n38 numeric(38,10), \
                       nx numeric, n39 numeric(45,3), t text, v varchar(20), c char(5), nm name, by bytea, d date, \
                       tm time, ts timestamp, tz timestamptz, u uuid, js json, jb jsonb";

const ROWS: [&str; 4] = [
    "true, -32768, -2147483648, -9223372036854775808, '-Infinity', '-Infinity', -99999999.99, \
     -9999999999999999999999999999.9999999999, '-Infinity', -0.001, '', '', '', '', '\\x', '4713-01-01 BC', \
     '00:00', '4713-01-01 00:00:00 BC', '4713-01-01 00:00:00+00 BC', '00000000-0000-0000-0000-000000000000', \
     '{\"b\": 1,  \"a\":2}', '{\"b\": 1,  \"a\":2}'",
    "false, 32767, 2147483647, 9223372036854775807, 'Infinity', 1.7976931348623157e308, 99999999.99, \
     9999999999999999999999999999.9999999999, 'NaN', 123456789012345678901234567890123456789012.345, 'ä€😀\\n', \
     'twenty characters..', 'ab', 'name', '\\x00ff10', '5874897-12-31', '23:59:59.999999', \
     '294246-12-31 23:59:59.999999', '294246-12-31 23:59:59.999999+00', 'ffffffff-ffff-ffff-ffff-ffffffffffff', \
     '[]', '[1, null]'",
    "NULL, 0, 0, 0, 1.1754944e-38, 4.9406564584124654e-324, 0, 0.0000000001, 0.000, 0, 'x', 'y', 'z', 'n', '\\x61', \
     '2000-02-29', '12:34:56.000001', '1969-12-31 23:59:59.999999', '1999-12-31 23:59:59.5+05:45', \
     'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '\"x\"', '\"x\"'",
    "NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 1e-20, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, \
     NULL, NULL, NULL, NULL",
];

/// The rows' values by hand, of the columns whose reading is not plain.
fn expected(row: usize) -> Vec<(&'static str, Value)> {
    match row {
        0 => vec![
            ("i2", Value::Int32(-32768)),
            ("f4", Value::Float32(f32::NEG_INFINITY)),
            ("n", Value::Decimal(-9_999_999_999)),
            ("n38", Value::Decimal(1 - 10i128.pow(38))),
            ("nx", text("-Infinity")),
            ("n39", text("-0.001")),
            ("c", text("     ")),
            ("d", Value::Date(-2_440_550)),
            ("js", text("{\"b\": 1,  \"a\":2}")),
            ("jb", text("{\"a\": 2, \"b\": 1}")),
        ],
        1 => vec![
            ("f8", Value::Float64(f64::MAX)),
            ("n38", Value::Decimal(10i128.pow(38) - 1)),
            ("nx", text("NaN")),
            (
                "n39",
                text("123456789012345678901234567890123456789012.345"),
            ),
            ("t", text("ä€😀\\n")),
            ("c", text("ab   ")),
            ("by", Value::Binary(vec![0, 255, 16])),
            ("tm", Value::Time(86_399_999_999)),
            ("ts", Value::Timestamp(9_223_371_244_799_999_999)),
            ("u", Value::Uuid([255; 16])),
        ],
        2 => vec![
            ("b", Value::Null),
            ("f4", Value::Float32(f32::MIN_POSITIVE)),
            ("f8", Value::Float64(f64::from_bits(1))),
            ("n38", Value::Decimal(1)),
            ("nx", text("0.000")),
            ("d", Value::Date(11_016)),
            ("tm", Value::Time(45_296_000_001)),
            ("ts", Value::Timestamp(-1)),
            ("tz", Value::TimestampTz(946_664_099_500_000)),
        ],
        _ => vec![
            ("nx", text("0.00000000000000000001")),
            ("i4", Value::Null),
            ("jb", Value::Null),
        ],
    }
}

fn insert(server: &PostgresServer, table: &str, rows: &[&str], first_id: usize) {
    for (position, row) in rows.iter().enumerate() {
        server.sql(&format!(
            "INSERT INTO {table} VALUES ({}, {row});",
            first_id + position
        ));
    }
}

fn assert_values(mirror: &Mirror, first_id: usize) {
    let schema = Arc::clone(mirror.database.table("public.typed").unwrap().schema());
    for position in 0..ROWS.len() {
        let id = |first: usize| i32::try_from(first + position).unwrap();
        let row = mirror.row("public.typed", id(first_id)).expect("the row");
        for (column, value) in expected(position) {
            let at = schema.position(column).unwrap();
            assert_eq!(row[at], value, "row {position}, column {column}");
        }
        let copied = mirror.row("public.typed", id(0)).expect("the copied row");
        assert_eq!(row[1..], copied[1..], "row {position}");
    }
}

#[tokio::test]
async fn copy_and_stream_agree_on_every_type_in_both_forms() {
    let Some(mut mirror) = Mirror::start(&["public.typed"]) else {
        return;
    };
    mirror.server.sql(&format!(
        "CREATE TABLE typed (id int4 PRIMARY KEY, {COLUMNS});"
    ));
    insert(&mirror.server, "typed", &ROWS, 0);
    mirror.run_once().await;
    assert_values(&mirror, 0);
    insert(&mirror.server, "typed", &ROWS, 10);
    mirror.run_once().await;
    assert_values(&mirror, 10);
    mirror.set("binary", json!(false));
    insert(&mirror.server, "typed", &ROWS, 20);
    mirror.run_once().await;
    assert_values(&mirror, 20);
    assert_eq!(mirror.row_count("public.typed"), 12);
}

/// A value that no column can hold stops the source, with its place, and loses nothing before it.
#[tokio::test]
async fn a_value_that_no_column_can_hold_is_named() {
    let Some(mut mirror) = Mirror::start(&["public.t"]) else {
        return;
    };
    mirror
        .server
        .sql("CREATE TABLE t (id int4 PRIMARY KEY, at timestamptz, n numeric(5,2), tm time);");
    mirror.run_once().await;
    mirror
        .server
        .sql("INSERT INTO t VALUES (1, '2020-01-01', 1, '10:00');");
    mirror
        .server
        .sql("INSERT INTO t VALUES (2, 'infinity', 1, '10:00');");
    for binary in [true, false] {
        mirror.set("binary", json!(binary));
        let error = mirror.refusal().await;
        assert!(matches!(error, SourceError::Record { .. }), "{error:?}");
        let error = error.to_string();
        assert!(
            error.contains("'public.t', LSN 0/") && error.contains("column 'at'"),
            "{error}"
        );
        assert!(mirror.row("public.t", 1).is_some());
    }
}

#[tokio::test]
async fn a_copied_value_that_no_column_can_hold_is_named() {
    for (column, value) in [
        ("at", "'-infinity', 1, '10:00'"),
        ("n", "NULL, 'NaN', NULL"),
        ("tm", "NULL, 1, '24:00'"),
    ] {
        let Some(mirror) = Mirror::start(&["public.t"]) else {
            return;
        };
        mirror
            .server
            .sql("CREATE TABLE t (id int4 PRIMARY KEY, at timestamp, n numeric(5,2), tm time);");
        mirror
            .server
            .sql(&format!("INSERT INTO t VALUES (7, {value});"));
        let error = mirror.refusal().await.to_string();
        assert!(
            error.contains("'public.t'") && error.contains(&format!("column '{column}'")),
            "{error}"
        );
        assert!(error.contains("Int32(7)"), "{error}");
    }
}

const ARRAYS: &str = "n int4[], s text[], d numeric(6,2)[], f float8[], by bytea[], ts timestamptz[], u uuid[], \
                      v varchar(5)[], b bool[], js jsonb[], large text[]";

/// Whole, empty, of nulls, and with all that the text form has a way to write for.
const ARRAY_ROWS: [&str; 3] = [
    "'{1,NULL,-2147483648}', ARRAY['', 'NULL', 'null', NULL, 'a,b', '{c}', 'd\"e', 'f\\g', ' h ', 'ä€😀'], \
     '{1.5,-9999.99}', '{Infinity,-Infinity,0.1}', ARRAY['\\x'::bytea, '\\x00ff'], \
     ARRAY['1969-12-31 23:59:59.999999+00'::timestamptz, NULL], '{ffffffff-ffff-ffff-ffff-ffffffffffff}', \
     '{ab,abcde}', '{t,f}', ARRAY['{\"a\": [1, \"x\"]}'::jsonb], NULL",
    "'{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}'",
    "'{NULL}', NULL, '{NULL,NULL}', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL",
];

fn assert_arrays(mirror: &Mirror, first_id: i32) {
    let texts = [
        "",
        "NULL",
        "null",
        "",
        "a,b",
        "{c}",
        "d\"e",
        "f\\g",
        " h ",
        "ä€😀",
    ]
    .map(text);
    let mut texts = texts.to_vec();
    texts[3] = Value::Null;
    let row = mirror.row("public.lists", first_id).unwrap();
    let integers = [Value::Int32(1), Value::Null, Value::Int32(i32::MIN)];
    assert_eq!(row[1], Value::List(integers.to_vec()));
    assert_eq!(row[2], Value::List(texts));
    let decimals = [Value::Decimal(150), Value::Decimal(-999_999)];
    assert_eq!(row[3], Value::List(decimals.to_vec()));
    let bytes = [Value::Binary(vec![]), Value::Binary(vec![0, 255])];
    assert_eq!(row[5], Value::List(bytes.to_vec()));
    let times = [Value::TimestampTz(-1), Value::Null];
    assert_eq!(row[6], Value::List(times.to_vec()));
    let empty = mirror.row("public.lists", first_id + 1).unwrap();
    assert!(empty[1..].iter().all(|value| *value == Value::List(vec![])));
    let nulls = mirror.row("public.lists", first_id + 2).unwrap();
    assert_eq!(nulls[1..3], [Value::List(vec![Value::Null]), Value::Null]);
    for position in 0..3 {
        let [here, copied] = [first_id, 0].map(|id| mirror.row("public.lists", id + position));
        assert_eq!(here.unwrap()[1..], copied.unwrap()[1..], "row {position}");
    }
}

/// Arrays are lists, copied and streamed, in both forms; one that is stored apart stays when another column is updated.
#[tokio::test]
async fn arrays_become_lists() {
    let Some(mut mirror) = Mirror::start(&["public.lists"]) else {
        return;
    };
    mirror.server.sql(&format!(
        "CREATE TABLE lists (id int4 PRIMARY KEY, {ARRAYS}); ALTER TABLE lists ALTER large SET STORAGE EXTERNAL;"
    ));
    insert(&mirror.server, "lists", &ARRAY_ROWS, 0);
    mirror.run_once().await;
    assert_arrays(&mirror, 0);
    for (binary, first_id) in [(true, 10), (false, 20)] {
        mirror.set("binary", json!(binary));
        insert(&mirror.server, "lists", &ARRAY_ROWS, first_id);
        let id = first_id + 5;
        mirror.server.sql(&format!(
            "INSERT INTO lists (id, large) VALUES ({id}, (SELECT array_agg(md5(i::text)) FROM generate_series(1, 3000) i));"
        ));
        mirror.run_once().await;
        let id = i32::try_from(id).unwrap();
        assert_arrays(&mirror, id - 5);
        mirror
            .server
            .sql(&format!("UPDATE lists SET n = '{{7}}' WHERE id = {id};"));
        mirror.run_once().await;
        let row = mirror.row("public.lists", id).unwrap();
        assert_eq!(row[1], Value::List(vec![Value::Int32(7)]));
        let Value::List(large) = &row[11] else {
            panic!("{row:?}");
        };
        assert_eq!(large.len(), 3000);
        assert_eq!(large[0], text("c4ca4238a0b923820dcc509a6f75849b"));
    }
}

/// PostgreSQL's columns don't say what shape their arrays have; a list has one.
#[tokio::test]
async fn arrays_of_another_shape_are_named() {
    let table = "CREATE TABLE lists (id int4 PRIMARY KEY, n int4[]);";
    for (array, reason) in [
        ("{{1,2},{3,4}}", "several dimensions"),
        ("[0:1]={1,2}", "subscripts"),
    ] {
        let Some(mut mirror) = Mirror::start(&["public.lists"]) else {
            return;
        };
        mirror.server.sql(table);
        mirror.run_once().await;
        let insert = format!("INSERT INTO lists VALUES (1, '{array}');");
        mirror.server.sql(&insert);
        for binary in [true, false] {
            mirror.set("binary", json!(binary));
            let error = mirror.refusal().await;
            assert!(matches!(error, SourceError::Record { .. }), "{error:?}");
            let error = error.to_string();
            assert!(
                error.contains("column 'n'") && error.contains(reason),
                "{error}"
            );
        }
        let Some(copied) = Mirror::start(&["public.lists"]) else {
            return;
        };
        copied.server.sql(table);
        copied.server.sql(&insert);
        let error = copied.refusal().await.to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[tokio::test]
async fn generated_columns_are_left_out() {
    let Some(mirror) = Mirror::start(&["public.g"]) else {
        return;
    };
    mirror.server.sql("CREATE TABLE g (id int4 PRIMARY KEY, a int4, b int4 GENERATED ALWAYS AS (a + 1) STORED, z text);");
    mirror
        .server
        .sql("INSERT INTO g (id, a, z) VALUES (1, 5, 'x');");
    mirror.run_once().await;
    mirror
        .server
        .sql("INSERT INTO g (id, a, z) VALUES (2, 6, 'y');");
    mirror.run_once().await;
    assert_eq!(
        mirror.row("public.g", 1).unwrap(),
        vec![Value::Int32(1), Value::Int32(5), text("x")]
    );
    assert_eq!(
        mirror.row("public.g", 2).unwrap(),
        vec![Value::Int32(2), Value::Int32(6), text("y")]
    );
}
