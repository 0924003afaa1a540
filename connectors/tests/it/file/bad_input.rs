//! Lines that can't be applied: each is named, and what came before it stays.

use super::*;

/// Runs two good lines and then a bad one; returns the error's text after checking its place and that the two stay.
fn refused(tables: Vec<FileTable>, bad: &str) -> String {
    let bench = Bench::new();
    bench.write(
        "a.jsonl",
        &[
            note(1, "one"),
            note(2, "two"),
            bad.to_owned(),
            note(4, "four"),
        ],
    );
    let error = bench.run(&bench.config("a.jsonl", tables)).unwrap_err();
    assert_eq!(bench.notes(1..=4), some(&["one", "two", "", ""]), "{bad}");
    match error {
        SourceError::Record { place, reason } => {
            assert_eq!(place, format!("{}:3", bench.input("a.jsonl").display()));
            reason
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn bad_lines_are_named_and_lose_nothing() {
    for (bad, reason) in [
        (r#"{"op":"c","#.to_owned(), "not valid JSON"),
        ("oops".to_owned(), "not a JSON object"),
        (r#"{"id":1}"#.to_owned(), "no 'op'"),
        (
            note(3, "x").replace(r#""op":"c""#, r#""op":"q""#),
            "unknown op \"q\"",
        ),
        (
            event("c", "notes", "null", r#"{"id":"three"}"#),
            "column 'id': \"three\" does not fit int64",
        ),
        (
            event("c", "notes", "null", r#"{"note":"x"}"#),
            "key column 'id' is missing or null",
        ),
        (
            event("c", "notes", "null", r#"{"id":null}"#),
            "key column 'id' is missing or null",
        ),
        (event("c", "notes", "null", "null"), "no 'after'"),
        (event("c", "notes", "null", "[3]"), "not a JSON object"),
        (
            event("u", "notes", r#"{"note":"x"}"#, &note_row(3, "x")),
            "before: key column 'id'",
        ),
        (
            event("d", "notes", "null", "null"),
            "neither 'before' nor a key",
        ),
        (
            event("c", "orders", "null", "{}"),
            "table 'shop.orders', which is not configured",
        ),
    ] {
        let found = refused(vec![notes()], &bad);
        assert!(found.contains(reason), "{bad}: {found}");
    }
}

#[test]
fn events_without_a_schema_need_declared_columns() {
    let found = refused(
        vec![notes(), FileTable::new("shop.orders", ["id"])],
        &event("c", "orders", "null", r#"{"id":1}"#),
    );
    assert!(
        found.contains("'shop.orders'") && found.contains("columns: {"),
        "{found}"
    );
}

#[test]
fn a_source_transaction_with_a_bad_line_is_left_out_whole() {
    let good = |id, transaction| in_transaction(&note(id, "x"), transaction);
    let misfit = in_transaction(&event("c", "notes", "null", "{}"), "b");
    let unreadable = "{".to_owned();
    for (lines, expected) in [
        (
            vec![good(1, "a"), good(2, "b"), misfit.clone(), good(3, "b")],
            1,
        ),
        (
            vec![good(1, "a"), good(2, "b"), unreadable.clone(), good(3, "b")],
            1,
        ),
        // The transaction was over before the bad line.
        (vec![good(1, "a"), good(2, "a"), misfit], 2),
        (
            vec![good(1, "a"), good(2, "b"), unreadable.clone(), good(3, "c")],
            2,
        ),
        (vec![good(1, "a"), good(2, "b"), unreadable], 2),
    ] {
        let bench = Bench::new();
        bench.write("a.jsonl", &lines);
        assert!(matches!(
            bench.run(&bench.config("a.jsonl", vec![notes()])),
            Err(SourceError::Record { .. })
        ));
        assert_eq!(bench.row_count("shop.notes"), expected, "{lines:#?}");
    }
}

#[test]
fn a_mended_line_lets_the_source_go_on() {
    let bench = Bench::new();
    let config = bench.config("a.jsonl", vec![notes()]);
    bench.write("a.jsonl", &[note(1, "one"), "{".into(), note(3, "three")]);
    bench.run(&config).unwrap_err();
    bench.write(
        "a.jsonl",
        &[note(1, "one"), note(2, "two"), note(3, "three")],
    );
    assert_eq!(bench.run(&config).unwrap().rows, 2);
    assert_eq!(bench.notes(1..=3), some(&["one", "two", "three"]));
}

#[test]
fn a_cut_off_last_line_says_so() {
    let bench = Bench::new();
    bench.append(
        "a.jsonl",
        &format!("{}\n{}", note(1, "one"), &note(2, "two")[..40]),
    );
    let error = bench
        .run(&bench.config("a.jsonl", vec![notes()]))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("a.jsonl:2") && error.contains("ends within this line"),
        "{error}"
    );
    assert_eq!(bench.notes([1]), some(&["one"]));
}

#[test]
fn wrong_configurations_are_told_before_anything_is_read() {
    let bench = Bench::new();
    let error = bench
        .run(&bench.config("none.jsonl", vec![notes()]))
        .unwrap_err();
    assert!(
        matches!(&error, SourceError::Config(text) if text.contains("none.jsonl")),
        "{error}"
    );

    bench.write("a.jsonl", &[note(1, "one")]);
    bench.run(&bench.config("a.jsonl", vec![notes()])).unwrap();
    let other = table("shop.notes", &["id"], &[("id", "int64"), ("note", "int64")]);
    let error = bench
        .run(&bench.config("a.jsonl", vec![other]))
        .unwrap_err();
    assert!(
        matches!(&error, SourceError::Config(text) if text.contains("shop.notes")),
        "{error}"
    );
    let error = bench
        .run(&bench.config("a.jsonl", vec![FileTable::new("shop.notes", ["note"])]))
        .unwrap_err();
    assert!(
        matches!(&error, SourceError::Config(text) if text.contains("key [note]") && text.contains("[id]")),
        "{error}"
    );
}

#[tokio::test]
async fn check_names_what_is_missing() {
    let bench = Bench::new();
    let source =
        |path: &str| FileSource::new(SOURCE.into(), bench.config(path, vec![notes()])).unwrap();
    bench.write("a.jsonl", &[note(1, "one")]);
    source("a.jsonl").check().await.unwrap();
    source("").check().await.unwrap();
    assert!(
        source("b.jsonl")
            .check()
            .await
            .unwrap_err()
            .to_string()
            .contains("b.jsonl")
    );
    assert!(
        bench.database.table("shop.notes").is_none(),
        "a check changes nothing"
    );
}
