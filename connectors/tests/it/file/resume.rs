//! Stopping at any place and going on from there.

use super::*;

/// A history with every kind of event, some of them in transactions.
fn history() -> Vec<String> {
    vec![
        event("r", "notes", "null", &note_row(1, "one")),
        event("r", "notes", "null", &note_row(2, "two")),
        in_transaction(&note(3, "three"), "a"),
        in_transaction(&event("u", "notes", "null", &note_row(1, "uno")), "a"),
        in_transaction(&event("d", "notes", &note_row(2, "two"), "null"), "b"),
        r#"{"key":{"id":2},"value":null}"#.into(),
        String::new(),
        in_transaction(&note(2, "zwei"), "c"),
        event("u", "notes", &note_row(3, "three"), &note_row(4, "four")),
        event(
            "u",
            "notes",
            "null",
            &note_row(4, "__debezium_unavailable_value"),
        ),
        "null".into(),
        note(5, "five"),
    ]
}

const FINAL: [&str; 5] = ["uno", "zwei", "", "four", "five"];

#[test]
fn any_line_boundary_is_a_place_to_go_on_from() {
    let lines = history();
    for count in 0..=lines.len() {
        let mut bench = Bench::new();
        let config = bench.config("a.jsonl", vec![notes()]);
        bench.append(
            "a.jsonl",
            &lines[..count]
                .iter()
                .map(|line| format!("{line}\n"))
                .collect::<String>(),
        );
        bench.run(&config).unwrap();
        bench = bench.reopen();
        bench.append(
            "a.jsonl",
            &lines[count..]
                .iter()
                .map(|line| format!("{line}\n"))
                .collect::<String>(),
        );
        bench.run(&config).unwrap();
        assert_eq!(bench.notes(1..=5), some(&FINAL), "after {count} lines");
    }
}

#[test]
fn one_line_a_run_ends_in_the_same_rows() {
    let mut bench = Bench::new();
    let config = bench.config("a.jsonl", vec![notes()]);
    for line in history() {
        bench.append("a.jsonl", &format!("{line}\n"));
        bench.run(&config).unwrap();
        bench = bench.reopen();
    }
    assert_eq!(bench.notes(1..=5), some(&FINAL));
}

#[test]
fn nothing_is_applied_twice() {
    let bench = Bench::new();
    let config = bench.config("a.jsonl", vec![notes()]);
    bench.write("a.jsonl", &[note(1, "one"), note(2, "two")]);
    assert_eq!(bench.run(&config).unwrap().rows, 2);
    // Were the lines read again, they would bring this row back.
    let mut transaction = bench.database.begin();
    transaction
        .delete(&bench.table("shop.notes"), &[Value::Int64(1)])
        .unwrap();
    transaction.commit().unwrap();
    let bench = bench.reopen();
    assert_eq!(bench.run(&config).unwrap().rows, 0);
    assert_eq!(bench.notes([1, 2]), some(&["", "two"]));
    let position = bench.database.origin(SOURCE).unwrap().position;
    let bytes = fs::metadata(bench.input("a.jsonl")).unwrap().len();
    assert_eq!(
        position,
        format!(r#"{{"file":"a.jsonl","offset":{bytes},"line":2}}"#)
    );
}

#[test]
fn a_folder_goes_on_in_the_file_it_was_in() {
    let bench = Bench::new();
    let config = bench.config("", vec![notes()]);
    bench.write("01.jsonl", &[note(1, "one")]);
    bench.write("02.jsonl", &[note(2, "two")]);
    assert_eq!(bench.run(&config).unwrap().rows, 2);
    bench.append("02.jsonl", &note(3, "three"));
    bench.write("03.jsonl", &[note(4, "four")]);
    let bench = bench.reopen();
    assert_eq!(bench.run(&config).unwrap().rows, 2);
    assert_eq!(bench.notes(1..=4), some(&["one", "two", "three", "four"]));
}

#[test]
fn a_last_line_without_newline_is_taken_once() {
    let bench = Bench::new();
    let config = bench.config("a.jsonl", vec![notes()]);
    bench.append("a.jsonl", &note(1, "one"));
    assert_eq!(bench.run(&config).unwrap().rows, 1);
    bench.append("a.jsonl", &format!("\n{}", note(2, "two")));
    assert_eq!(bench.run(&config).unwrap().rows, 1);
    bench.append("a.jsonl", "\nx\n");
    assert!(
        bench
            .run(&config)
            .unwrap_err()
            .to_string()
            .contains("a.jsonl:3: ")
    );
}

#[test]
fn a_file_that_was_cut_or_swapped_is_refused() {
    let bench = Bench::new();
    bench.write("a.jsonl", &[note(1, "one"), note(2, "two")]);
    bench.write("b.jsonl", &[note(3, "three")]);
    bench.run(&bench.config("a.jsonl", vec![notes()])).unwrap();
    let error = bench
        .run(&bench.config("b.jsonl", vec![notes()]))
        .unwrap_err();
    assert!(
        matches!(&error, SourceError::Config(text) if text.contains("'a.jsonl'")),
        "{error}"
    );
    bench.write("a.jsonl", &[note(1, "one")]);
    let error = bench
        .run(&bench.config("a.jsonl", vec![notes()]))
        .unwrap_err();
    assert!(
        matches!(&error, SourceError::Config(text) if text.contains("truncated")),
        "{error}"
    );
}
