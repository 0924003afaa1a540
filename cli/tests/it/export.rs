//! `moonshine export`: a table once, and names for points of its history.

use serde_json::Value;

use crate::moonshine::Workplace;
use crate::orders;

fn json(workplace: &Workplace, arguments: &[&str]) -> Value {
    let outcome = workplace.run(arguments);
    serde_json::from_slice(&outcome.assert_success().stdout).unwrap()
}

const TABLE: [&str; 6] = [
    "export",
    "data",
    "--table",
    "shop.orders",
    "--warehouse",
    "warehouse",
];

fn export<'a>(more: &[&'a str]) -> Vec<&'a str> {
    TABLE.iter().chain(more).copied().collect()
}

#[test]
fn a_table_is_exported_once_and_its_history_named() {
    let workplace = orders::synced();
    let first = json(&workplace, &export(&["--json", "--tag", "first-day"]));
    workplace.write("orders.jsonl", orders::events(1..=30));
    workplace
        .run(&["sync", "sync.yaml", "--once"])
        .assert_success();
    let second = json(&workplace, &export(&["--json"]));
    assert_ne!(first["snapshot_id"], second["snapshot_id"]);
    // Nothing changed since.
    assert_eq!(json(&workplace, &export(&["--json"])), second);

    let commit = first["commit_seq"].to_string();
    let running = workplace.start(&["sync", "sync.yaml"], "log");
    let found = json(
        &workplace,
        &export(&["--as-of", &commit, "--branch", "audit", "--json"]),
    );
    drop(running);
    assert_eq!(found["snapshot_id"], first["snapshot_id"]);
    let text = workplace.run(&export(&["--as-of", "2099-01-01T00:00:00Z"]));
    let text = text.assert_success().stdout_text();
    let named = format!("snapshot {}", second["snapshot_id"]);
    assert!(text.contains(&named) && text.contains("file"), "{text}");

    // With the configuration of the sync in place of the warehouse.
    let by_config = ["export", "sync.yaml", "--table", "shop.orders", "--json"];
    assert_eq!(json(&workplace, &by_config), second);
    let no_warehouse = ["export", "data", "--table", "shop.orders"];
    workplace
        .run(&no_warehouse)
        .assert_error(&["data", "--warehouse"]);

    for (more, words) in [
        (vec!["--as-of", "0"], vec!["shop.orders", "begins with"]),
        (vec!["--as-of", "yesterday"], vec!["yesterday", "LSN"]),
        (vec!["--tag", "audit"], vec!["audit", "another snapshot"]),
    ] {
        workplace.run(&export(&more)).assert_error(&words);
    }
    workplace
        .run(&[
            "export",
            "data",
            "--table",
            "shop.x",
            "--warehouse",
            "warehouse",
        ])
        .assert_error(&["shop.x", "shop.orders"]);
    workplace
        .run(&["export", "nowhere", "--table", "a", "--warehouse", "w"])
        .assert_error(&["nowhere", "no database"]);
}

/// The settings of the configuration hold, and what it does not say of a table that is there stays.
#[test]
fn a_table_keeps_its_format_version() {
    let workplace = orders::synced();
    let v2 = "iceberg: { warehouse_path: ./v2, tables: { shop.orders: { format_version: 2 } } }";
    let all = "iceberg: { warehouse_path: ./warehouse }";
    let folder = workplace.path("other");
    workplace.write(
        "v2.yaml",
        orders::config("")
            .replace(all, v2)
            .replace("./data", "./other"),
    );
    workplace
        .run(&["sync", "v2.yaml", "--once"])
        .assert_success();
    workplace.write("orders.jsonl", orders::events(1..=30));
    let open = moonshine_engine::Options::unmeasured();
    let database = moonshine_engine::Database::open(&folder, open).unwrap();
    let table = database.table("shop.orders").unwrap();
    let mut transaction = database.begin();
    let key = [moonshine_engine::Value::Int64(1)];
    transaction.delete(&table, &key).unwrap();
    transaction.commit().unwrap();
    drop((table, database));
    let by_hand = [
        "export",
        "other",
        "--table",
        "shop.orders",
        "--warehouse",
        "v2",
        "--json",
    ];
    let exported = json(&workplace, &by_hand);
    assert!(exported["snapshot_id"].is_i64(), "{exported}");
    // Were it of version 3 by now, this would be refused.
    workplace
        .run(&["sync", "v2.yaml", "--once"])
        .assert_success();
}

/// A table of a configuration that names a branch is read once it is published.
#[test]
fn a_branch_is_published_beside_a_sync() {
    let workplace = orders::synced();
    let all = "iceberg: { warehouse_path: ./warehouse }";
    let audited =
        "iceberg: { warehouse_path: ./warehouse, tables: { shop.orders: { branch: audit } } }";
    let publish = ["publish", "sync.yaml", "--table", "shop.orders"];
    workplace
        .run(&publish)
        .assert_error(&["shop.orders", "main branch"]);
    workplace.write("sync.yaml", orders::config("").replace(all, audited));
    workplace.write("orders.jsonl", orders::events(1..=30));
    workplace
        .run(&["sync", "sync.yaml", "--once"])
        .assert_success();
    let running = workplace.start(&["sync", "sync.yaml"], "log");
    let mut with_tag = publish.to_vec();
    with_tag.extend(["--tag", "release", "--json"]);
    let first = json(&workplace, &with_tag);
    assert_eq!(first["branch"], "audit");
    assert!(first["main_before"].is_i64(), "{first}");
    assert_ne!(first["main_before"], first["snapshot_id"]);
    drop(running);
    let by_hand = [
        "publish",
        "data",
        "--table",
        "shop.orders",
        "--warehouse",
        "warehouse",
    ];
    let again = workplace.run(&by_hand).assert_success().stdout_text();
    assert!(again.contains("'audit'"), "{again}");
    let mut unknown = by_hand.to_vec();
    unknown.extend(["--snapshot", "1"]);
    workplace
        .run(&unknown)
        .assert_error(&["snapshot 1", "audit"]);
    assert_eq!(
        orders::query_row_count(&workplace),
        Some(orders::row_count(30))
    );
}
