//! The first command of the README, on the bundled sample.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::moonshine::{Outcome, Workplace};
use crate::orders;
use crate::python::Python;

const CONFIG: &str = "examples/quickstart.yaml";

/// The bundled examples, copied to where the test may write.
fn workplace() -> Workplace {
    let workplace = Workplace::new();
    copy_folder(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples"),
        &workplace.path("examples"),
    );
    workplace
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The configuration, read apart from the program.
fn config(workplace: &Workplace) -> Value {
    serde_saphyr::from_str(&fs::read_to_string(workplace.path(CONFIG)).unwrap()).unwrap()
}

/// The command that the report ends with: everything after `moonshine` on the last line that holds it.
fn next_query(outcome: &Outcome) -> Vec<String> {
    let text = outcome.stdout_text();
    let line = text
        .lines()
        .rfind(|line| line.contains(" query "))
        .unwrap_or_else(|| panic!("no query in:\n{text}"));
    let (_, command) = line.split_at(line.find("query ").unwrap());
    let mut arguments = Vec::new();
    for (index, part) in command.split('"').enumerate() {
        // Odd parts stood between quotation marks.
        if index % 2 == 1 {
            arguments.push(part.to_owned());
        } else {
            arguments.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    arguments
}

#[test]
fn the_quickstart_gives_the_tables_that_a_replay_gives() {
    let Some(python) = Python::find("quickstart") else {
        return;
    };
    let workplace = workplace();
    let config = config(&workplace);
    let warehouse = config["iceberg"]["warehouse_path"].as_str().unwrap();
    let tables: serde_json::Map<String, Value> = config["file"]["tables"]
        .as_array()
        .unwrap()
        .iter()
        .map(|table| {
            let description = json!({ "key": table["key"], "columns": table["columns"] });
            (table["name"].as_str().unwrap().to_owned(), description)
        })
        .collect();
    let events = workplace.path(config["file"]["path"].as_str().unwrap());

    let mut snapshots = None;
    for run in 1..=2 {
        let outcome = workplace.run(&["sync", CONFIG, "--once"]);
        let report = outcome.assert_success().stdout_text();
        let compared =
            orders::compare_with(&python, &workplace, &events, &json!(tables), warehouse);
        for (table, content) in compared.as_object().unwrap() {
            assert!(
                content["rows"].as_u64() > Some(0),
                "run {run}: {table} is empty"
            );
            assert!(
                report.contains(table) && report.contains(&content["rows"].to_string()),
                "run {run}:\n{report}"
            );
        }
        assert!(report.contains("warehouse"), "{report}");
        // The second run finds nothing new, so it commits nothing.
        let now: Vec<Value> = compared
            .as_object()
            .unwrap()
            .values()
            .map(|table| table["snapshots"].clone())
            .collect();
        assert_eq!(
            *snapshots.get_or_insert_with(|| now.clone()),
            now,
            "run {run}"
        );

        let query = next_query(&outcome);
        let answer = workplace.run(&query.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(
            !answer.assert_success().stdout.is_empty(),
            "{query:?} printed nothing"
        );
    }
}

#[test]
fn one_table_from_standard_input_needs_no_configuration_file() {
    let Some(python) = Python::find("quickstart") else {
        return;
    };
    let workplace = Workplace::new();
    let events = workplace.write("orders.jsonl", orders::events(1..=50));
    let columns = orders::columns_flag();
    let flags = [
        "--from",
        "-",
        "--table",
        "shop.orders",
        "--key",
        "order_id",
        "--columns",
        &columns,
    ];
    let folders = [
        "--database",
        "data",
        "--warehouse",
        "warehouse",
        "--profile",
        "safe-defaults",
    ];
    let arguments = [&["sync", "--once"], &flags[..], &folders[..]].concat();
    let input = fs::File::open(events).unwrap();
    let outcome = workplace.run_with_input(&arguments, input.into());
    outcome.assert_success();
    orders::compare(&python, &workplace, "orders.jsonl");

    let query = next_query(&outcome);
    workplace
        .run(&query.iter().map(String::as_str).collect::<Vec<_>>())
        .assert_success();
}
