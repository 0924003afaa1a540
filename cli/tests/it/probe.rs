//! `moonshine probe`, and the profile it writes in a database's folder.

use serde_json::Value;

use crate::moonshine::Workplace;
use crate::orders;

/// A workplace with a profile in its database's folder, and the report that came with it; `None` on a device that is too
/// slow for it.
fn probed() -> Option<(Workplace, Value)> {
    let workplace = Workplace::new();
    std::fs::create_dir(workplace.path("data")).unwrap();
    let outcome = workplace.run(&[
        "probe",
        "data",
        "--quick",
        "--json",
        "--profile",
        "data/PROFILE.toml",
        "--report",
        "report.html",
    ]);
    if outcome.stderr.contains("too slow to be measured") {
        eprintln!("SKIPPED: the device is too slow for a quick probe");
        return None;
    }
    outcome.assert_success();
    let report = serde_json::from_slice(&outcome.stdout).unwrap();
    Some((workplace, report))
}

#[test]
fn a_probe_leaves_its_profile_alone_and_a_new_database_takes_it() {
    let Some((workplace, report)) = probed() else {
        return;
    };
    let s_size_bytes = report["profile"]["s_size_bytes"].as_u64().unwrap();
    let s_paral = report["profile"]["s_paral"].as_u64().unwrap();
    assert!(s_size_bytes.is_power_of_two() && s_paral.is_power_of_two());
    // Block sizes and threads, reading and writing; where io_uring is allowed, depths of a queue too.
    let curves = report["curves"].as_array().unwrap().len();
    assert_eq!(curves, if report["io_depth"].is_null() { 4 } else { 6 });
    let page = std::fs::read_to_string(workplace.path("report.html")).unwrap();
    assert!(page.matches("<svg").count() >= 3 && page.contains("S-Size"));
    // It loads nothing and runs nothing.
    for absent in ["<script", "http:", "https:", "@import", "url("] {
        assert!(!page.contains(absent), "{absent}");
    }
    assert_eq!(
        std::fs::read_dir(workplace.path("data")).unwrap().count(),
        1
    );

    workplace.write("orders.jsonl", orders::events(1..=5));
    workplace.write("sync.yaml", orders::config_without_profile());
    workplace
        .run(&["sync", "sync.yaml", "--once"])
        .assert_success();
    assert_eq!(
        orders::query_row_count(&workplace),
        Some(orders::row_count(5))
    );
    let outcome = workplace.run(&["inspect", "data", "--json"]);
    let found: Value = serde_json::from_slice(&outcome.assert_success().stdout).unwrap();
    assert_eq!(found["profile"]["from"], "measured");
    assert_eq!(found["profile"]["s_size_bytes"], s_size_bytes);
    assert_eq!(found["profile"]["s_paral"], s_paral);
    assert_eq!(found["profile"]["measured_at"], report["measured_at"]);

    // The database keeps what it was made with, so nothing that becomes of the file stands in its way.
    workplace.write("data/PROFILE.toml", "damaged");
    workplace
        .run(&["sync", "sync.yaml", "--once"])
        .assert_success();
}

#[test]
fn a_damaged_profile_stops_a_sync_before_it_makes_anything() {
    let workplace = Workplace::new();
    workplace.write(
        "data/PROFILE.toml",
        "checksum = \"00\"\nversion = 1\ns_paral = 4\n",
    );
    workplace.write("orders.jsonl", orders::events(1..=5));
    workplace.write("sync.yaml", orders::config_without_profile());
    let outcome = workplace.run(&["sync", "sync.yaml", "--once"]);
    outcome.assert_error(&["PROFILE.toml", "damaged", "moonshine probe"]);
    assert_eq!(outcome.status.code(), Some(2));
    assert_eq!(
        std::fs::read_dir(workplace.path("data")).unwrap().count(),
        1
    );
}

#[test]
fn a_read_only_probe_writes_nothing_and_says_so() {
    let workplace = Workplace::new();
    let content = vec![7; 64 << 20];
    workplace.write("files/large", &content);
    let outcome = workplace.run(&["probe", "files", "--read-only", "--quick", "--explain"]);
    let text = outcome.assert_success().stdout_text();
    for expected in ["read only", "nothing was written"] {
        assert!(text.contains(expected), "{expected} in:\n{text}");
    }
    assert!(std::fs::read(workplace.path("files/large")).unwrap() == content);
    assert_eq!(
        std::fs::read_dir(workplace.path("files")).unwrap().count(),
        1
    );
    let outcome = workplace.run(&["probe", "--quick", "--read-only", "files/none"]);
    outcome.assert_error(&["files/none"]);
    assert_eq!(outcome.status.code(), Some(2));
}

#[test]
fn a_report_that_cannot_be_written_stops_a_probe_before_it_measures() {
    let workplace = Workplace::new();
    for (report, reason) in [("report.pdf", ".html"), ("nowhere/report.svg", "nowhere")] {
        let outcome = workplace.run(&["probe", "--quick", "--report", report]);
        outcome.assert_error(&["--report", reason]);
        assert_eq!(outcome.status.code(), Some(2));
        assert!(!outcome.stderr.contains("measuring"));
    }
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let workplace = Workplace::new();
    let outcome = workplace.run(&["probe", "nowhere", "--quick"]);
    outcome.assert_error(&["nowhere", "No such file"]);
    assert_eq!(outcome.status.code(), Some(2));
    let outcome = workplace.run(&["probe", "--quick", "--profile", "nowhere/PROFILE.toml"]);
    outcome.assert_error(&["--profile", "nowhere"]);
    assert_eq!(outcome.status.code(), Some(2));
}
