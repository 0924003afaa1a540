//! *Same*: engine, files and their union hold the same rows, at every moment between exports.

use moonshine_engine::{ColumnType, NestedField, TableSchema, Value};
use moonshine_query::{QueryError, QuerySession};

use crate::support::{Shop, csv};

const LINES: &str = "select * from shop.lines order by order_id, line";
const PAIRS: &str = "select encode(key, 'hex') k, encode(value, 'hex') v from pairs order by key";

/// A number that looks random and is the same in every run.
fn scattered(i: u64) -> u64 {
    i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33
}

fn write_round(shop: &Shop, round: u64) {
    for i in 0..4 {
        let mut transaction = shop.database.begin();
        for j in 0..30 {
            let n = scattered(round * 1000 + i * 100 + j);
            let (order_id, line) = ((n % 17) as i64, (n / 17 % 5) as i32);
            if n.is_multiple_of(4) {
                transaction
                    .delete(&shop.lines, &[Value::Int64(order_id), Value::Int32(line)])
                    .unwrap();
            } else {
                transaction
                    .upsert(&shop.lines, Shop::line(order_id, line, n as i64 % 10_000))
                    .unwrap();
            }
            let key = Value::Binary(vec![(n % 11) as u8; (n % 3) as usize]);
            transaction
                .upsert(
                    &shop.pairs,
                    vec![key, Value::Binary(n.to_be_bytes().to_vec())],
                )
                .unwrap();
        }
        if scattered(round * 7 + i).is_multiple_of(9) {
            transaction.truncate(&shop.pairs).unwrap();
        }
        transaction.commit().unwrap();
    }
}

async fn check(shop: &Shop) {
    let union = shop.session().await;
    let engine = QuerySession::open(&shop.database, None).await.unwrap();
    for sql in [
        LINES,
        PAIRS,
        "select count(*) from shop.lines",
        "select line, count(*), sum(price), max(at) from lines where price > 10 group by line order by line",
        "select at, line from lines order by at, line, order_id limit 7",
    ] {
        assert_eq!(csv(&union, sql).await, csv(&engine, sql).await, "{sql}");
    }
    let count = shop.database.snapshot().row_count(&shop.lines).unwrap();
    assert_eq!(
        csv(&union, "select count(*) as n from lines").await,
        format!("n\n{count}\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_union_is_the_engine_between_exports() {
    for format_version in [2, 3] {
        let shop = Shop::new(format_version);
        shop.export().await;
        check(&shop).await;
        for round in 0..6 {
            write_round(&shop, round);
            check(&shop).await;
            if round % 3 != 1 {
                shop.export().await;
                check(&shop).await;
            }
        }
        let mut transaction = shop.database.begin();
        transaction.truncate(&shop.lines).unwrap();
        transaction.commit().unwrap();
        check(&shop).await;
        shop.export().await;
        check(&shop).await;
    }
}

/// Rows that did not change since the export come from its files: without them they are missing, not made up.
#[tokio::test(flavor = "multi_thread")]
async fn exported_rows_are_read_from_the_files() {
    let shop = Shop::new(3);
    write_round(&shop, 0);
    shop.export().await;
    write_round(&shop, 1);
    let session = shop.session().await;
    let data = shop.folder.path().join("warehouse");
    let mut removed = 0;
    for entry in walk(&data) {
        if entry
            .extension()
            .is_some_and(|extension| extension == "parquet")
        {
            std::fs::remove_file(entry).unwrap();
            removed += 1;
        }
    }
    assert!(removed > 0);
    let error = run_to_end(&session, LINES).await.unwrap_err();
    assert!(error.to_string().contains(".parquet"), "{error}");
    // A lookup by the whole key asks the engine.
    let snapshot = shop.database.snapshot();
    let key = [Value::Int64(3), Value::Int32(2)];
    let expected = snapshot.get(&shop.lines, &key).unwrap();
    let found = csv(
        &session,
        "select note from lines where order_id = 3 and 2 = line",
    )
    .await;
    assert_eq!(found.lines().count() - 1, usize::from(expected.is_some()));
}

async fn run_to_end(session: &QuerySession, sql: &str) -> Result<u64, QueryError> {
    let answer = session.query(sql).await?;
    moonshine_query::write_batches(
        answer,
        moonshine_query::OutputFormat::Csv,
        &mut std::io::sink(),
    )
    .await
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(walk(&path))
        } else {
            files.push(path)
        }
    }
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn lookups_by_key_see_what_scans_see() {
    let shop = Shop::new(3);
    write_round(&shop, 0);
    shop.export().await;
    write_round(&shop, 1);
    let session = shop.session().await;
    for order_id in 0..17 {
        for line in 0..5 {
            let lookup =
                format!("select * from lines where order_id = {order_id} and line = {line}");
            let scan = format!(
                "select * from lines where order_id + 0 = {order_id} and line + 0 = {line}"
            );
            assert_eq!(
                csv(&session, &lookup).await,
                csv(&session, &scan).await,
                "{lookup}"
            );
        }
    }
    let contradiction =
        "select count(*) as n from lines where order_id = 1 and line = 1 and line = 2";
    assert_eq!(csv(&session, contradiction).await, "n\n0\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_a_query_is_refused_with_a_reason() {
    let shop = Shop::new(3);
    let session = QuerySession::open(&shop.database, None).await.unwrap();
    for (sql, hint) in [
        ("selct 1", "selct"),
        ("select * from nowhere", "shop.lines, pairs"),
        ("select nothing from lines", "nothing"),
        ("insert into pairs select * from pairs", "not supported"),
        ("create table t (a int)", "not supported"),
        ("copy lines to 'lines.csv'", "not supported"),
    ] {
        match session.query(sql).await {
            Err(QueryError::Sql(message)) => assert!(message.contains(hint), "{sql}: {message}"),
            other => panic!("{sql}: {other:?}"),
        }
    }
    assert!(csv(&session, "show tables").await.contains("lines"));
}

/// What the engine is told of the filters leaves out nothing that they let through.
#[tokio::test(flavor = "multi_thread")]
async fn filters_on_the_key_let_through_what_scans_see() {
    let shop = Shop::new(3);
    write_round(&shop, 0);
    shop.export().await;
    write_round(&shop, 1);
    let engine = QuerySession::open(&shop.database, None).await.unwrap();
    for session in [shop.session().await, engine] {
        for filter in [
            "ORDER = 5",
            "ORDER > 3 and 9 >= ORDER and LINE < 2",
            "ORDER between 4 and 6 or LINE = 1",
            "ORDER between 4 and 12 and LINE in (0, 4, 100)",
            "LINE <> 3 and LINE >= 2 and ORDER not in (1, 2)",
            "ORDER in (1, 2) and ORDER = 3",
            "ORDER in (1, 5, 9, 13)",
            "ORDER = 1 or ORDER = 5 or LINE = 2",
            "LINE in (0, 1, 2, 4) and ORDER > 2",
        ] {
            let sql = |order: &str, line: &str| {
                let filter = filter.replace("ORDER", order).replace("LINE", line);
                format!("select * from shop.lines where {filter} order by order_id, line")
            };
            let told = csv(&session, &sql("order_id", "line")).await;
            let untold = csv(&session, &sql("(order_id + 0)", "(line + 0)")).await;
            assert_eq!(told, untold, "{filter}");
        }
    }
}

/// Of a scan's filters those that the engine is told, as SQL; empty if none.
async fn told(session: &QuerySession, table: &str, filter: &str) -> String {
    let plan = csv(
        session,
        &format!("explain select * from {table} where {filter}"),
    )
    .await;
    let told = plan.split("partial_filters=[").nth(1);
    let told = told.and_then(|rest| rest.split_once(']'));
    told.unwrap_or_default().0.to_owned()
}

/// The engine is told of lists, however short, and of bounds on columns of the key, and of nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn the_engine_is_told_of_filters_on_the_key() {
    let shop = Shop::new(3);
    let session = QuerySession::open(&shop.database, None).await.unwrap();
    for (filter, values) in [
        ("order_id in (11)", &[11][..]),
        ("order_id in (11, 12)", &[11, 12]),
        ("order_id in (11, 12, 13)", &[11, 12, 13]),
        ("order_id in (11, 12, 13, 14)", &[11, 12, 13, 14]),
        ("order_id = 11 or 12 = order_id", &[11, 12]),
        ("line > 11 and price = 12", &[11]),
        ("order_id between 11 and 12", &[11, 12]),
        ("order_id = 11 or line = 12", &[]),
        ("order_id = 11 or order_id > 12", &[]),
        ("order_id not in (11, 12)", &[]),
        ("price = 11", &[]),
    ] {
        let told = told(&session, "shop.lines", filter).await;
        for value in 11..15 {
            let is_told = told.contains(&format!("({value})"));
            assert_eq!(is_told, values.contains(&value), "{filter}: {told}");
        }
    }
}

/// No row has a key that is longer than keys may be.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_found_by_a_key_that_is_too_long() {
    let shop = Shop::new(3);
    write_round(&shop, 0);
    let session = QuerySession::open(&shop.database, None).await.unwrap();
    let long = "ab".repeat(70_000);
    let sql = format!("select count(*) as n from pairs where key = X'{long}'");
    assert_eq!(csv(&session, &sql).await, "n\n0\n");
}

/// Keys of other types are told as well, and find what scans see.
#[tokio::test(flavor = "multi_thread")]
async fn filters_on_keys_of_other_types_let_through_what_scans_see() {
    let shop = Shop::new(3);
    let price = ColumnType::Decimal {
        precision: 10,
        scale: 2,
    };
    let schema = TableSchema::builder("prices")
        .column("price", price, false)
        .column("day", ColumnType::Date, false)
        .column("at", ColumnType::TimestampTz, false)
        .primary_key(["price", "day", "at"]);
    let table = shop.database.create_table(schema.build().unwrap()).unwrap();
    let mut transaction = shop.database.begin();
    for n in 0..216_i32 {
        let row = vec![
            Value::Decimal(i128::from(n % 6) * 50 - 100),
            Value::Date(n / 6 % 6 - 2),
            Value::TimestampTz(i64::from(n / 36 - 2) * 500_000),
        ];
        transaction.upsert(&table, row).unwrap();
    }
    transaction.commit().unwrap();
    let session = QuerySession::open(&shop.database, None).await.unwrap();
    for filter in [
        "PRICE = 0.5",
        "PRICE in (-1, 0.5, 1, 1.5, 3)",
        "PRICE < -0.5 and DAY > date '1970-01-01'",
        "DAY in (date '1969-12-31', date '1970-01-03')",
        "DAY between date '1970-01-02' and date '1970-02-01'",
        "AT >= timestamp '1970-01-01T00:00:00.5Z'",
        "AT in (timestamp '1970-01-01T00:00:01Z', timestamp '1969-12-31T23:59:59Z')",
    ] {
        let filled = |price: &str, day: &str, at: &str| {
            let filter = filter.replace("PRICE", price).replace("DAY", day);
            filter.replace("AT", at)
        };
        let day = "(day + interval '0 days')";
        let untold = filled("(price + 0)", day, "(at + interval '0 days')");
        let filter = filled("price", "day", "at");
        let has_told = async |filter: &str| !told(&session, "prices", filter).await.is_empty();
        assert!(has_told(&filter).await, "{filter}");
        assert!(!has_told(&untold).await, "{untold}");
        let select = |filter| format!("select * from prices where {filter} order by 1, 2, 3");
        let found = csv(&session, &select(&filter)).await;
        assert_eq!(found, csv(&session, &select(&untold)).await, "{filter}");
        assert!(found.lines().count() > 1, "{filter}");
    }
}

/// Lists, structs and maps are there for SQL, in rows of the engine and of files, and in a row that is found by its key.
#[tokio::test(flavor = "multi_thread")]
async fn nested_values_are_there() {
    let shop = Shop::new(3);
    let part = ColumnType::structure([
        NestedField::new("name", ColumnType::Utf8, true),
        NestedField::new("counts", ColumnType::list(ColumnType::Int32, true), true),
    ]);
    let schema = TableSchema::builder("boxes")
        .column("id", ColumnType::Int64, false)
        .column("parts", ColumnType::list(part, true), true)
        .primary_key(["id"]);
    let table = shop.database.create_table(schema.build().unwrap()).unwrap();
    let write = |id, name: &str| {
        let counts = Value::List(vec![Value::Int32(1), Value::Null]);
        let part = Value::Struct(vec![Value::Utf8(name.into()), counts]);
        let mut transaction = shop.database.begin();
        let row = vec![Value::Int64(id), Value::List(vec![part, Value::Null])];
        transaction.upsert(&table, row).unwrap();
        transaction.commit().unwrap();
    };
    write(1, "a");
    shop.export().await;
    write(2, "b");
    let session = shop.session().await;
    for (id, name) in [(1, "a"), (2, "b")] {
        for filter in [format!("id = {id}"), format!("id + 0 = {id}")] {
            let sql = format!(
                "select parts[1]['name'] as name, parts[1]['counts'][1] as count, array_length(parts) as length \
                 from boxes where {filter}"
            );
            let expected = format!("name,count,length\n{name},1,2\n");
            assert_eq!(csv(&session, &sql).await, expected, "{filter}");
        }
    }
}
