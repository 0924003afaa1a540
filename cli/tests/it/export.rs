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
