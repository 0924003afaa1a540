use std::fs;
use std::io::Write as _;

use tempfile::TempDir;

use super::*;

fn folder_of(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn append(folder: &TempDir, name: &str, text: &str) {
    let path = folder.path().join(name);
    fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
}

/// Lines up to the next idle or end, each with its place.
fn drain(files: &mut Files) -> Vec<String> {
    let mut lines = Vec::new();
    while files.step().unwrap() == Step::Line {
        let text = String::from_utf8(files.line().to_vec()).unwrap();
        let Position {
            file, offset, line, ..
        } = files.position();
        lines.push(format!("{file}:{line}@{offset} {}", text.trim_end()));
    }
    lines
}

#[test]
fn a_folder_is_read_in_name_order_and_only_its_json_files() {
    let folder = folder_of(&[
        ("b.jsonl", "3\n"),
        ("a.json", "1\n2"),
        ("c.txt", "x\n"),
        (".d.json", "x\n"),
    ]);
    let mut files = Files::open(folder.path(), None, false).unwrap();
    assert_eq!(files.known_bytes(), 5);
    assert_eq!(
        drain(&mut files),
        ["a.json:1@2 1", "a.json:2@3 2", "b.jsonl:1@2 3"]
    );
    assert_eq!(
        (
            files.step().unwrap(),
            files.taken_bytes(),
            files.known_bytes()
        ),
        (Step::End, 5, 5)
    );
}

#[test]
fn following_waits_for_newlines_and_takes_new_files() {
    let folder = folder_of(&[]);
    let mut files = Files::open(folder.path(), None, true).unwrap();
    assert_eq!(files.step().unwrap(), Step::Idle);
    append(&folder, "a.jsonl", "1\n2");
    assert_eq!(drain(&mut files), ["a.jsonl:1@2 1"]);
    append(&folder, "a.jsonl", "2\n3");
    assert_eq!(drain(&mut files), ["a.jsonl:2@5 22"]);
    append(&folder, "a.jsonl", "3");
    append(&folder, "b.jsonl", "4\n");
    assert_eq!(drain(&mut files), ["a.jsonl:3@7 33", "b.jsonl:1@2 4"]);
    assert_eq!(files.step().unwrap(), Step::Idle);
}

#[test]
fn every_position_is_a_place_to_go_on_from() {
    let folder = folder_of(&[("a.jsonl", "1\n\n22\n"), ("b.jsonl", "3\n44")]);
    let mut files = Files::open(folder.path(), None, false).unwrap();
    let all = drain(&mut files);
    let mut files = Files::open(folder.path(), None, false).unwrap();
    for taken in 1..=all.len() {
        assert_eq!(files.step().unwrap(), Step::Line);
        let mut resumed =
            Files::open(folder.path(), Some(files.position().clone()), false).unwrap();
        assert_eq!(drain(&mut resumed), all[taken..], "after {taken} lines");
    }
}

#[test]
fn a_newline_that_comes_after_its_line_was_taken_is_no_line() {
    let folder = folder_of(&[("a.jsonl", "1\n2")]);
    let mut files = Files::open(folder.path(), None, false).unwrap();
    drain(&mut files);
    append(&folder, "a.jsonl", "\n3\n");
    let mut resumed = Files::open(folder.path(), Some(files.position().clone()), false).unwrap();
    assert_eq!(drain(&mut resumed), ["a.jsonl:2@4 ", "a.jsonl:3@6 3"]);
}

#[test]
fn what_would_lose_lines_is_an_error() {
    assert!(
        Files::open(Path::new("/nowhere/x.jsonl"), None, false)
            .unwrap_err()
            .to_string()
            .contains("/nowhere/x.jsonl")
    );

    let folder = folder_of(&[("b.jsonl", "1\n2\n")]);
    let mut files = Files::open(folder.path(), None, true).unwrap();
    assert_eq!(drain(&mut files).len(), 2);
    let position = files.position().clone();

    append(&folder, "a.jsonl", "0\n");
    let error = files.step().unwrap_err();
    assert!(
        matches!(&error, SourceError::Record { place, .. } if place.ends_with("a.jsonl")),
        "{error}"
    );
    fs::remove_file(folder.path().join("a.jsonl")).unwrap();

    fs::write(folder.path().join("b.jsonl"), "1\n").unwrap();
    assert!(
        files
            .step()
            .unwrap_err()
            .to_string()
            .contains("truncated or replaced")
    );
    let error = Files::open(folder.path(), Some(position.clone()), false)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("b.jsonl") && error.contains("2 bytes") && error.contains("4 were read"),
        "{error}"
    );

    fs::rename(folder.path().join("b.jsonl"), folder.path().join("c.jsonl")).unwrap();
    let error = Files::open(folder.path(), Some(position), false)
        .unwrap_err()
        .to_string();
    assert!(error.contains("'b.jsonl', which is not there"), "{error}");
}

#[test]
fn what_comes_too_late_in_name_order_is_an_error() {
    let folder = folder_of(&[("a.jsonl", "1\n2"), ("c.jsonl", "3\n")]);
    let mut files = Files::open(folder.path(), None, true).unwrap();
    assert_eq!(drain(&mut files).len(), 3);
    let position = files.position().clone();
    assert_eq!(position.files_before, 1);

    append(&folder, "a.jsonl", "\n");
    assert_eq!(
        files.step().unwrap(),
        Step::Idle,
        "the last line's newline is nothing new"
    );
    append(&folder, "a.jsonl", "late\n");
    let error = files.step().unwrap_err().to_string();
    assert!(
        error.contains("a.jsonl") && error.contains("grew"),
        "{error}"
    );

    append(&folder, "b.jsonl", "late\n");
    let error = Files::open(folder.path(), Some(position.clone()), false).unwrap_err();
    assert!(
        error.to_string().contains("2 files sort before 'c.jsonl'"),
        "{error}"
    );
    fs::remove_file(folder.path().join("a.jsonl")).unwrap();
    fs::remove_file(folder.path().join("b.jsonl")).unwrap();
    Files::open(folder.path(), Some(position), false).unwrap();
}

#[test]
fn a_replaced_file_is_an_error() {
    let folder = folder_of(&[("a.jsonl", "1\n")]);
    let path = folder.path().join("a.jsonl");
    let mut files = Files::open(&path, None, true).unwrap();
    assert_eq!(drain(&mut files), ["a.jsonl:1@2 1"]);
    append(&folder, "new", "1\n2\n");
    fs::rename(folder.path().join("new"), &path).unwrap();
    assert!(
        files
            .step()
            .unwrap_err()
            .to_string()
            .contains("another file took its place")
    );
}
