//! Wrong input of every kind: one clear error that names the place, and nothing is lost that was accepted before it.

use std::path::{Path, PathBuf};

use moonshine_engine::{Database, Options, Origin};
use serde_json::{Value, json};

use crate::free_port::free_port;
use crate::moonshine::{Workplace, wait_for};
use crate::orders;
use crate::postgres_server::PostgresServer;
use crate::python::Python;

/// Number of good orders before the bad line.
const GOOD_ORDERS: u64 = 20;

fn good_events() -> String {
    orders::events(1..=GOOD_ORDERS)
}

/// A workplace whose file of events has `bad` as its last line, and that line's number.
fn workplace_with_bad_line(bad: &str) -> (Workplace, usize) {
    let workplace = Workplace::new();
    let good = good_events();
    let line = good.lines().count() + 1;
    workplace.write("orders.jsonl", format!("{good}{bad}\n"));
    workplace.write("good.jsonl", good);
    workplace.write("sync.yaml", orders::config(""));
    (workplace, line)
}

fn check_bad_line(bad: &str, parts: &[&str]) {
    let (workplace, line) = workplace_with_bad_line(bad);
    let place = format!("orders.jsonl:{line}");
    let parts: Vec<&str> = parts.iter().copied().chain([place.as_str()]).collect();
    workplace
        .run(&["sync", "sync.yaml", "--once"])
        .assert_error(&parts);
    check_accepted(&workplace);

    // The mended file goes on where the bad line stood, and takes nothing twice.
    let more = orders::events(GOOD_ORDERS + 1..=GOOD_ORDERS + 5);
    workplace.write("orders.jsonl", good_events() + &more);
    workplace
        .run(&["sync", "sync.yaml", "--once"])
        .assert_success();
    assert_eq!(
        orders::query_row_count(&workplace),
        Some(orders::row_count(GOOD_ORDERS + 5))
    );
}

/// The orders before the bad line are in the engine and in the Iceberg table.
fn check_accepted(workplace: &Workplace) {
    assert_eq!(
        orders::query_row_count(workplace),
        Some(orders::row_count(GOOD_ORDERS))
    );
    if let Some(python) = Python::find("bad input") {
        orders::compare(&python, workplace, "good.jsonl");
    }
}

#[test]
fn a_malformed_line_is_named() {
    check_bad_line(r#"{"op": "c", "after": {"order_id": 1"#, &["JSON"]);
}

#[test]
fn an_unknown_op_is_named() {
    let row = json!({ "order_id": 999, "customer": "x", "total": "1.00", "paid": true });
    check_bad_line(
        &orders::event("z", &Value::Null, &row).to_string(),
        &["\"z\""],
    );
}

#[test]
fn a_row_that_does_not_fit_is_named() {
    for (column, value) in [
        ("order_id", json!("many")),
        ("total", json!("12345678901.50")),
        ("paid", json!("maybe")),
    ] {
        let mut row = json!({ "order_id": 999, "customer": "x", "total": "1.00", "paid": true });
        row[column] = value;
        check_bad_line(
            &orders::event("c", &Value::Null, &row).to_string(),
            &["shop.orders", column],
        );
    }
    let keyless = json!({ "customer": "x", "total": "1.00", "paid": true });
    check_bad_line(
        &orders::event("c", &Value::Null, &keyless).to_string(),
        &["shop.orders", "order_id"],
    );
}

#[test]
fn a_missing_file_is_named() {
    let workplace = Workplace::new();
    workplace.write("sync.yaml", orders::config(""));
    workplace
        .run(&["sync", "sync.yaml", "--once"])
        .assert_error(&["orders.jsonl"]);
    workplace
        .run(&["sync", "no-such.yaml", "--once"])
        .assert_error(&["no-such.yaml"]);
}

#[test]
fn a_wrong_key_of_the_configuration_is_named_with_the_nearest_one() {
    let workplace = Workplace::new();
    workplace.write("orders.jsonl", good_events());
    workplace.write(
        "sync.yaml",
        orders::config("buffer: { flush_intervall_secs: 1 }"),
    );
    for arguments in [
        &["sync", "sync.yaml", "--once"][..],
        &["sync", "--check", "sync.yaml"],
    ] {
        let parts = [
            "sync.yaml:",
            "buffer.flush_intervall_secs",
            "'flush_interval_secs'",
        ];
        workplace.run(arguments).assert_error(&parts);
    }
    assert!(
        !workplace.path("data").exists(),
        "a refused configuration left something behind"
    );
}

#[test]
fn a_catalog_that_cannot_be_reached_is_named_and_loses_nothing() {
    let workplace = Workplace::new();
    workplace.write("orders.jsonl", good_events());
    workplace.write("good.jsonl", good_events());
    workplace.write("in-the-way", "a file where the warehouse should be");
    let config = orders::config("");
    workplace.write("sync.yaml", config.replace("./warehouse", "./in-the-way"));
    workplace
        .run(&["sync", "sync.yaml", "--once"])
        .assert_error(&["in-the-way"]);
    workplace.write("sync.yaml", config);
    workplace
        .run(&["sync", "sync.yaml", "--once"])
        .assert_success();
    check_accepted(&workplace);
}

/// A catalog that is down at the start keeps no row from being taken in, and is found again without a restart.
#[test]
fn a_catalog_that_is_down_at_the_start_is_waited_for() {
    let workplace = Workplace::new();
    workplace.write("orders.jsonl", good_events());
    workplace.write("good.jsonl", good_events());
    let in_the_way = workplace.write("warehouse", "a file where the warehouse should be");
    workplace.write(
        "sync.yaml",
        orders::config("buffer: { flush_interval_secs: 0.1 }"),
    );
    let mut sync = workplace.start(&["sync", "sync.yaml"], "log");
    wait_for(
        "the rows to be taken in, and the catalog to be missed",
        || {
            assert!(sync.is_running(), "{}", sync.log_text());
            let is_missed = sync.log_text().contains("the catalog is not reached");
            (is_missed && orders::query_row_count(&workplace).is_some_and(|rows| rows > 0))
                .then_some(())
        },
    );
    std::fs::remove_file(in_the_way).unwrap();
    wait_for("the rows to be exported", || {
        assert!(sync.is_running(), "{}", sync.log_text());
        sync.log_text().contains("exported").then_some(())
    });
    sync.signal("TERM");
    assert!(sync.wait().success(), "{}", sync.log_text());
    check_accepted(&workplace);
}

#[test]
fn a_damaged_byte_of_the_database_is_named_and_the_exported_table_stays() {
    let workplace = Workplace::new();
    workplace.write("orders.jsonl", good_events());
    workplace.write("good.jsonl", good_events());
    workplace.write("sync.yaml", orders::config(""));
    workplace
        .run(&["sync", "sync.yaml", "--once"])
        .assert_success();
    let log = largest_file(&workplace.path("data"));
    let mut bytes = std::fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&log, bytes).unwrap();

    let name = log.file_name().unwrap().to_str().unwrap();
    for arguments in [
        &["sync", "sync.yaml", "--once"][..],
        &["query", "sync.yaml", "SELECT * FROM shop.orders"],
    ] {
        workplace.run(arguments).assert_error(&[name]);
    }
    if let Some(python) = Python::find("bad input") {
        orders::compare(&python, &workplace, "good.jsonl");
    }
}

/// Its tables are in part in the engine; exported, they would look whole.
#[test]
fn a_source_with_an_unfinished_first_copy_is_not_left_out() {
    let workplace = Workplace::new();
    workplace.write("orders.jsonl", good_events());
    workplace.write("sync.yaml", orders::config(""));
    let database = Database::open(workplace.path("data"), Options::unmeasured()).unwrap();
    let mut transaction = database.begin();
    transaction.set_origin(Origin {
        source: "postgres".into(),
        position: "copying".into(),
    });
    transaction.commit().unwrap();
    drop(database);
    workplace
        .run(&["sync", "sync.yaml", "--once"])
        .assert_error(&["'postgres'", "copy"]);
    assert!(!workplace.path("warehouse").exists());
}

#[test]
fn a_postgres_table_without_a_primary_key_is_named() {
    let Some(server) = PostgresServer::start() else {
        return;
    };
    server.sql("CREATE TABLE keyless (a integer)");
    let workplace = Workplace::new();
    workplace.write(
        "sync.yaml",
        postgres_config(&server.url("postgres"), "public.keyless"),
    );
    workplace
        .run(&["sync", "sync.yaml", "--once"])
        .assert_error(&["public.keyless", "primary key"]);
    workplace.write(
        "sync.yaml",
        postgres_config(&server.url("postgres"), "public.absent"),
    );
    workplace
        .run(&["sync", "sync.yaml", "--once"])
        .assert_error(&["public.absent"]);
    // A refused table leaves no slot that would hold the server's log back.
    assert_eq!(server.sql("SELECT count(*) FROM pg_replication_slots"), "0");
}

#[test]
fn a_postgres_server_that_does_not_answer_is_named() {
    let port = free_port();
    let workplace = Workplace::new();
    workplace.write(
        "sync.yaml",
        postgres_config(
            &format!("postgres://nobody@127.0.0.1:{port}/none"),
            "public.a",
        ),
    );
    let place = format!("127.0.0.1:{port}");
    workplace
        .run(&["sync", "sync.yaml", "--once"])
        .assert_error(&[&place]);
}

fn postgres_config(url: &str, table: &str) -> String {
    format!(
        "database: ./data
profile: safe-defaults
postgres: {{ url: '{url}', tables: ['{table}'] }}
iceberg: {{ warehouse_path: ./warehouse }}
"
    )
}

fn largest_file(folder: &Path) -> PathBuf {
    let mut folders = vec![folder.to_owned()];
    let mut largest = (0, PathBuf::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                largest = largest.max((entry.metadata().unwrap().len(), entry.path()));
            }
        }
    }
    largest.1
}
