//! `moonshine inspect`: which number came from where, and what lies in the database.

use serde_json::{Value, json};

use crate::moonshine::Workplace;
use crate::orders;

#[test]
fn every_number_says_where_it_came_from() {
    let workplace = orders::synced();
    let outcome = workplace.run(&["inspect", "data", "--json"]);
    let found: Value = serde_json::from_slice(&outcome.assert_success().stdout).unwrap();
    assert_eq!(found["profile"]["from"], "safe default");
    let s_size_bytes = found["profile"]["s_size_bytes"].as_u64().unwrap();
    let layout = found["layout"].as_array().unwrap();
    let number = |name: &str| {
        let number = layout.iter().find(|number| number["name"] == name).unwrap();
        assert_eq!(number["from"], "safe default", "{number}");
        assert!(!number["formula"].as_str().unwrap().is_empty());
        number["value"].as_u64().unwrap()
    };
    assert_eq!(number("shard_count"), found["profile"]["s_paral"]);
    assert_eq!(number("log_segment_size_bytes"), 256 * s_size_bytes);

    let text = workplace
        .run(&["inspect", "data"])
        .assert_success()
        .stdout_text();
    for expected in [
        "S-Size        256 KiB",
        "safe default",
        "log segment size",
        "space: ",
        "  level 1: 1 fragment, at most 0 RowSets each",
    ] {
        assert!(text.contains(expected), "{expected} in:\n{text}");
    }
}

#[test]
fn tables_log_sources_and_exports_are_told_beside_a_running_sync() {
    let workplace = orders::synced();
    let running = workplace.start(&["sync", "sync.yaml"], "log");
    let outcome = workplace.run(&["inspect", "data", "--json"]);
    drop(running);
    let found: Value = serde_json::from_slice(&outcome.assert_success().stdout).unwrap();
    let table = &found["tables"][0];
    assert_eq!(table["name"], "shop.orders");
    assert_eq!(table["rows"], orders::row_count(20));
    assert_eq!(table["key"], json!(["order_id"]));
    // So few rows are all in the log.
    assert_eq!(found["space"]["log_bytes"], found["log"]["size_bytes"]);
    assert_eq!(found["space"]["tree_bytes"], 0);
    let level = &table["tree"]["levels"][0];
    assert_eq!(
        (&level["level"], &level["fragments"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(table["tree"]["fragments"][0]["id"], "1");
    assert_eq!(
        table["columns"][2],
        json!({ "name": "total", "type": "decimal(12,2)", "nullable": true })
    );
    assert_eq!(table["exported"]["commit_seq"], found["log"]["commit_seq"]);
    assert_eq!(
        table["unexported"],
        json!({ "rows_written": 0, "rows_removed": 0 })
    );
    assert_eq!(found["sources"][0]["name"], "file");
    let segment = &found["log"]["segments"][0];
    let on_disk = std::fs::metadata(workplace.path(segment["file"].as_str().unwrap())).unwrap();
    assert!(segment["size_bytes"].as_u64().unwrap() <= on_disk.len());
    assert_eq!(found["pending_exports"], json!([]));
}

#[test]
fn a_folder_without_a_database_is_named_and_stays_as_it_is() {
    let workplace = Workplace::new();
    std::fs::create_dir(workplace.path("data")).unwrap();
    let outcome = workplace.run(&["inspect", "data"]);
    outcome.assert_error(&["no database", "data"]);
    assert_eq!(
        std::fs::read_dir(workplace.path("data")).unwrap().count(),
        0
    );
    workplace.write("data/MANIFEST", "MOONDB\r\nand nothing that belongs there");
    let outcome = workplace.run(&["inspect", "data"]);
    outcome.assert_error(&["corrupt", "MANIFEST"]);
}
