//! What was measured of a reader, and the tables of docs/iceberg.md that say so.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::rows::TextRow;

/// How a reader fared with a kind of table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    /// It read the rows that the database holds.
    Same,
    /// It read values of another type, so they were not compared.
    AnotherType(String),
    /// It read none and said why.
    Refused(String),
    /// It read other rows and said nothing.
    Wrong(String),
}

impl Outcome {
    /// Of what a reader answered.
    pub(super) fn of(read: Result<Vec<TextRow>, Outcome>, expected: &[TextRow]) -> Outcome {
        match read {
            Err(outcome) => outcome,
            Ok(rows) if rows == expected => Outcome::Same,
            Ok(rows) => Outcome::Wrong(difference(&rows, expected)),
        }
    }

    fn cell(&self) -> &'static str {
        match self {
            Outcome::Same => "yes",
            Outcome::AnotherType(_) => "another type",
            Outcome::Refused(_) => "refused",
            Outcome::Wrong(_) => "**wrong**",
        }
    }
}

/// The first rows that differ.
fn difference(found: &[TextRow], expected: &[TextRow]) -> String {
    let missing = expected.iter().filter(|row| !found.contains(row)).take(2);
    let wrong = found.iter().filter(|row| !expected.contains(row)).take(2);
    let mut text = format!(
        "{} rows, expected {}; missing {:?}; wrong {:?}",
        found.len(),
        expected.len(),
        missing.collect::<Vec<_>>(),
        wrong.collect::<Vec<_>>()
    );
    text.truncate(text.floor_char_boundary(1000));
    text
}

/// The outcomes of one reader.
pub(super) struct Matrix {
    reader: String,
    version: String,
    /// By the table in the page and the column of it: the worst of the outcomes.
    outcomes: BTreeMap<(&'static str, String), Outcome>,
}

/// The tables of the page: their names, and the cells of a row in their order.
const TABLES: [(&str, &[&str]); 4] = [
    (
        "readers",
        &[
            "v2 rows",
            "v2 deletes",
            "v2 columns",
            "v2 as of",
            "v2 histories",
            "v2 partitions",
            "v2 nested",
            "v3 rows",
            "v3 deletes",
            "v3 columns",
            "v3 defaults",
            "v3 as of",
            "v3 histories",
            "v3 partitions",
            "v3 nested",
            "v3 lineage",
        ],
    ),
    ("types", super::types::CASES),
    ("nested types", super::types::NESTED_CASES),
    ("types of format 3", super::types::CASES_OF_FORMAT_3),
];

impl Matrix {
    pub(super) fn new(reader: &str, version: &str) -> Matrix {
        Matrix {
            reader: reader.to_owned(),
            version: version.to_owned(),
            outcomes: BTreeMap::new(),
        }
    }

    /// Notes an outcome; of several for one cell the worst stays.
    pub(super) fn note(&mut self, table: &'static str, cell: &str, outcome: Outcome) {
        let noted = self.outcomes.entry((table, cell.to_owned()));
        let noted = noted.or_insert(Outcome::Same);
        if outcome > *noted {
            *noted = outcome;
        }
    }

    /// Checks that every outcome for these cells of a table is the rows of the database.
    pub(super) fn check_same(&self, table: &'static str, cells: &[&str]) {
        for cell in cells {
            let outcome = self.outcomes.get(&(table, (*cell).to_owned()));
            assert_eq!(outcome, Some(&Outcome::Same), "{}: {cell}", self.reader);
        }
    }

    fn line(&self, table: &'static str, cells: &[&str]) -> String {
        let mut line = format!("| {} {} |", self.reader, self.version);
        for cell in cells {
            let outcome = self.outcomes.get(&(table, (*cell).to_owned()));
            let outcome = outcome.unwrap_or_else(|| panic!("{table}: {cell} was not measured"));
            line.push_str(&format!(" {} |", outcome.cell()));
        }
        line
    }

    /// Holds what was measured against docs/iceberg.md, or writes it there.
    pub(super) fn check_documented(&self) {
        let page: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/iceberg.md");
        let mut text = std::fs::read_to_string(&page).unwrap();
        let mut unlike = Vec::new();
        for (table, cells) in TABLES {
            let begin = format!("<!-- measured: {table} -->\n");
            let (head, rest) = text.split_once(&begin).unwrap();
            let (body, tail) = rest.split_once("<!-- end -->").unwrap();
            let measured = self.line(table, cells);
            let mut lines: Vec<String> = body.lines().map(str::to_owned).collect();
            let start = format!("| {} ", self.reader);
            match lines.iter_mut().find(|line| line.starts_with(&start)) {
                Some(line) if *line == measured => {}
                Some(line) => {
                    unlike.push(format!("documented {line}\nmeasured   {measured}"));
                    *line = measured;
                }
                None => {
                    unlike.push(format!("not documented {measured}"));
                    lines.push(measured);
                }
            }
            text = format!("{head}{begin}{}\n<!-- end -->{tail}", lines.join("\n"));
        }
        let reasons: Vec<String> = self
            .outcomes
            .iter()
            .filter(|(_, outcome)| **outcome != Outcome::Same)
            .map(|((table, cell), outcome)| format!("{table}, {cell}: {outcome:?}"))
            .collect();
        if std::env::var_os("MOONSHINE_UPDATE_DOCS").is_some() {
            eprintln!("{}\n{}", self.reader, reasons.join("\n"));
            std::fs::write(&page, text).unwrap();
            return;
        }
        assert!(
            unlike.is_empty(),
            "{}\n{}",
            unlike.join("\n"),
            reasons.join("\n")
        );
    }
}

/// Invariant 5, "same": no row that is missing, too many or another passes for the database's.
#[test]
fn rows_that_differ_are_wrong() {
    let row =
        |first: &str, second: Option<&str>| vec![Some(first.to_owned()), second.map(str::to_owned)];
    let expected = [row("a", None), row("b", None)];
    assert_eq!(Outcome::of(Ok(expected.to_vec()), &expected), Outcome::Same);
    let [a, b] = expected.clone();
    for found in [
        vec![],
        vec![a.clone()],
        vec![a.clone(), a.clone()],
        vec![a.clone(), b.clone(), b],
        vec![a, row("b", Some(""))],
    ] {
        let outcome = Outcome::of(Ok(found), &expected);
        assert!(matches!(outcome, Outcome::Wrong(_)), "{outcome:?}");
    }
}
