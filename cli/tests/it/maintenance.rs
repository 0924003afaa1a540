//! `moonshine check`, `compact`, `maintain`, `backup` and `restore`: what they say, what they leave, and what they refuse.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::moonshine::Workplace;
use crate::orders;

fn json(workplace: &Workplace, arguments: &[&str]) -> Value {
    let outcome = workplace.run(arguments);
    serde_json::from_slice(&outcome.assert_success().stdout).unwrap()
}

fn largest_segment(folder: &Path) -> PathBuf {
    let files = std::fs::read_dir(folder.join("log")).unwrap();
    let paths = files.map(|entry| entry.unwrap().path());
    paths
        .max_by_key(|path| std::fs::metadata(path).unwrap().len())
        .unwrap()
}

#[test]
fn a_backup_beside_a_sync_is_restored_and_goes_on() {
    let workplace = orders::synced();
    let running = workplace.start(&["sync", "sync.yaml"], "log");
    let made = json(&workplace, &["backup", "data", "saved", "--json"]);
    let sound = json(&workplace, &["check", "data", "--json"]);
    drop(running);
    assert_eq!(sound["is_sound"], true, "{sound}");
    assert_eq!(made["commit_seq"], sound["commit_seq"]);
    let again = workplace.run(&["backup", "data", "saved"]);
    again.assert_error(&["saved", "not empty"]);

    std::fs::remove_dir_all(workplace.path("data")).unwrap();
    let text = workplace.run(&["restore", "saved", "data"]);
    let text = text.assert_success().stdout_text();
    assert!(text.contains("0 files linked"), "{text}");
    // The Iceberg tables stand where the backup left them, so the mirror goes on.
    workplace
        .run(&["sync", "sync.yaml", "--once"])
        .assert_success();
    let found = json(&workplace, &["inspect", "data", "--json"]);
    assert_eq!(found["tables"][0]["rows"], orders::row_count(20));
}

/// *Once*: of a database and its copy, the one that exports second is refused.
#[test]
fn a_database_and_its_copy_do_not_both_export() {
    let workplace = orders::synced();
    json(&workplace, &["backup", "data", "copy", "--json"]);
    workplace.write("orders.jsonl", orders::events(1..=25));
    workplace
        .run(&["sync", "sync.yaml", "--once"])
        .assert_success();
    std::fs::rename(workplace.path("data"), workplace.path("original")).unwrap();
    std::fs::rename(workplace.path("copy"), workplace.path("data")).unwrap();
    let outcome = workplace.run(&["sync", "sync.yaml", "--once"]);
    outcome.assert_error(&["shop.orders"]);
    std::fs::remove_dir_all(workplace.path("data")).unwrap();
    std::fs::rename(workplace.path("original"), workplace.path("data")).unwrap();
    workplace
        .run(&["sync", "sync.yaml", "--once"])
        .assert_success();
}

#[test]
fn a_check_names_what_is_damaged_and_fails() {
    let workplace = orders::synced();
    let text = workplace
        .run(&["check", "data"])
        .assert_success()
        .stdout_text();
    assert!(text.contains("sound") && text.contains("records"), "{text}");
    let path = largest_segment(&workplace.path("data"));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[200] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let outcome = workplace.run(&["check", "data"]);
    let text = String::from_utf8(outcome.stdout.clone()).unwrap();
    assert_eq!(outcome.status.code(), Some(1));
    assert!(
        text.contains("PROBLEM") && text.contains(".mlog, byte"),
        "{text}"
    );
    outcome.assert_error(&["1 problem"]);
    let outcome = workplace.run(&["check", "data", "--json"]);
    let found: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!(found["is_sound"], false);
    assert!(found["problems"][0]["offset"].is_u64(), "{found}");
    workplace
        .run(&["restore", "data", "new"])
        .assert_error(&["corrupt", ".mlog"]);
    assert!(!workplace.path("new").exists());
}

#[test]
fn a_compaction_says_what_it_saved_and_keeps_the_rows() {
    let workplace = orders::synced();
    let done = json(&workplace, &["compact", "data", "--json"]);
    assert!(done["size_bytes_before"].as_u64().unwrap() > 0, "{done}");
    assert!(done["size_bytes_after"].as_u64().unwrap() > 0, "{done}");
    let text = workplace.run(&["compact", "data"]);
    assert!(text.assert_success().stdout_text().contains("before"));
    let sound = json(&workplace, &["check", "data", "--json"]);
    assert!(sound["delta_files"].as_u64().unwrap() > 0, "{sound}");
    let found = json(&workplace, &["inspect", "data", "--json"]);
    assert_eq!(found["tables"][0]["rows"], orders::row_count(20));
    let options = moonshine_engine::Options::unmeasured();
    let open = moonshine_engine::Database::open(workplace.path("data"), options).unwrap();
    workplace
        .run(&["compact", "data"])
        .assert_error(&["in use by another process"]);
    drop(open);
}

#[test]
fn a_folder_without_a_database_is_named() {
    let workplace = Workplace::new();
    for command in [
        &["check", "data"][..],
        &["compact", "data"],
        &["backup", "data", "saved"],
        &["restore", "data", "new"],
    ] {
        workplace
            .run(command)
            .assert_error(&["no database", "data"]);
    }
    for folder in ["data", "saved", "new"] {
        assert!(!workplace.path(folder).exists(), "{folder}");
    }
}

#[test]
fn maintain_says_what_it_would_do_and_does_it() {
    let workplace = orders::synced();
    workplace.write("orders.jsonl", orders::events(1..=25));
    let sync = || {
        workplace
            .run(&["sync", "sync.yaml", "--once"])
            .assert_success();
    };
    sync();
    let few = "iceberg: { warehouse_path: ./warehouse, tables: { '*': { maintenance: { snapshots_min: 1, snapshots_max: 1 } } } }";
    let all = "iceberg: { warehouse_path: ./warehouse }";
    workplace.write("sync.yaml", orders::config("").replace(all, few));
    let would = json(
        &workplace,
        &["maintain", "sync.yaml", "--dry-run", "--json"],
    );
    let expiry = |found: &Value| {
        let mut actions = found.as_array().unwrap().clone();
        actions.retain(|action| action["task"] == "expire-snapshots");
        actions
    };
    let [action] = expiry(&would).try_into().unwrap();
    assert_eq!(
        (&action["table"], &action["is_dry_run"]),
        (&"shop.orders".into(), &true.into())
    );
    let items = action["items"].as_u64().unwrap();
    assert!(items > 0, "{action}");

    let refused = workplace.run(&["maintain", "sync.yaml", "--table", "shop.other"]);
    refused.assert_error(&["shop.other"]);
    let did = workplace.run(&["maintain", "sync.yaml", "--table", "shop.orders"]);
    let text = did.assert_success().stdout_text();
    let took = text.split("expire-snapshots took ").nth(1);
    let took = took.and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
    // What a rewrite before it committed leaves one more behind.
    assert!(took >= Some(items), "{text}");
    let again = json(
        &workplace,
        &["maintain", "sync.yaml", "--dry-run", "--json"],
    );
    assert!(expiry(&again).is_empty(), "{again}");
    assert_eq!(
        orders::query_row_count(&workplace),
        Some(orders::row_count(25))
    );
    sync();
}
