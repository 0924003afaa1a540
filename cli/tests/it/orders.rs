//! A stream of order changes for the tests that need any stream: inserts, updates and deletes in Debezium's form.

use std::fmt::Write;
use std::ops::RangeInclusive;
use std::path::Path;

use serde_json::{Value, json};

use crate::moonshine::Workplace;
use crate::python::Python;

/// Columns of `shop.orders` as the configuration and the reference replay take them.
const COLUMNS: [(&str, &str); 4] = [
    ("order_id", "int64 not null"),
    ("customer", "string"),
    ("total", "decimal(12,2)"),
    ("paid", "boolean"),
];

/// The events of orders with these numbers. Each order is inserted; every second one is updated, every fifth deleted.
pub(crate) fn events(order_ids: RangeInclusive<u64>) -> String {
    let mut lines = String::new();
    for id in order_ids {
        let order = |total: String, paid: bool| json!({ "order_id": id, "customer": format!("käufer {id}"), "total": total, "paid": paid });
        let (first, second) = (
            order(format!("{id}.50"), false),
            order(format!("{id}.75"), true),
        );
        let last = if id % 2 == 0 { &second } else { &first };
        writeln!(lines, "{}", event("c", &Value::Null, &first)).unwrap();
        if id % 2 == 0 {
            writeln!(lines, "{}", event("u", &first, &second)).unwrap();
        }
        if id % 5 == 0 {
            writeln!(lines, "{}", event("d", last, &Value::Null)).unwrap();
        }
    }
    lines
}

/// One change event of `shop.orders`.
pub(crate) fn event(op: &str, before: &Value, after: &Value) -> Value {
    json!({ "before": before, "after": after, "op": op, "source": { "schema": "shop", "table": "orders" } })
}

/// How many orders are left of `1..=last_id`.
pub(crate) fn row_count(last_id: u64) -> u64 {
    last_id - last_id / 5
}

/// A configuration that reads `orders.jsonl`, and what else is to stand in it.
pub(crate) fn config(more: &str) -> String {
    let columns: Vec<String> = COLUMNS
        .iter()
        .map(|(name, kind)| format!("{name}: '{kind}'"))
        .collect();
    format!(
        "database: ./data
profile: safe-defaults
file:
  path: orders.jsonl
  tables:
    - name: shop.orders
      key: [order_id]
      columns: {{ {} }}
iceberg: {{ warehouse_path: ./warehouse }}
{more}
",
        columns.join(", ")
    )
}

/// The same, with nothing said of the profile.
pub(crate) fn config_without_profile() -> String {
    config("").replace("profile: safe-defaults\n", "")
}

/// The columns as the flag `--columns` takes them.
pub(crate) fn columns_flag() -> String {
    COLUMNS
        .map(|(name, kind)| format!("{name}:{kind}"))
        .join(",")
}

/// A workplace with a database of some orders.
pub(crate) fn synced() -> Workplace {
    let workplace = Workplace::new();
    workplace.write("orders.jsonl", events(1..=20));
    workplace.write("sync.yaml", config(""));
    workplace
        .run(&["sync", "sync.yaml", "--once"])
        .assert_success();
    workplace
}

/// The number of orders that `moonshine query` counts; `None` while it can't answer.
pub(crate) fn query_row_count(workplace: &Workplace) -> Option<u64> {
    let sql = "SELECT count(*) AS n FROM shop.orders";
    let outcome = workplace.run(&["query", "sync.yaml", sql, "--format", "csv"]);
    outcome.stdout_text().lines().nth(1)?.parse().ok()
}

/// Compares the warehouse with a reference replay of that file of events.
pub(crate) fn compare(python: &Python, workplace: &Workplace, events: &str) -> Value {
    let columns: serde_json::Map<String, Value> = COLUMNS
        .iter()
        .map(|(name, kind)| ((*name).to_owned(), json!(kind)))
        .collect();
    let tables = json!({ "shop.orders": { "key": ["order_id"], "columns": columns } });
    compare_with(
        python,
        workplace,
        &workplace.path(events),
        &tables,
        "warehouse",
    )
}

/// Compares a warehouse with a reference replay of a file of events on those tables.
pub(crate) fn compare_with(
    python: &Python,
    workplace: &Workplace,
    events: &Path,
    tables: &Value,
    warehouse: &str,
) -> Value {
    let expected = tempfile::tempdir().unwrap();
    let description = workplace.write("tables.json", tables.to_string());
    python.replay(events, &description, expected.path());
    python.compare(&workplace.path(warehouse), expected.path())
}
