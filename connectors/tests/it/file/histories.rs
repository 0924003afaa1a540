//! Random histories of events against a map.

use proptest::prelude::*;

use super::*;

/// A change of a table with few keys.
#[derive(Clone, Debug)]
enum Change {
    Put { id: i64, note: Option<String> },
    Move { from: i64, to: i64 },
    Delete { id: i64, has_tombstone: bool },
    Truncate,
}

type Notes = BTreeMap<i64, Option<String>>;

fn change() -> impl Strategy<Value = Change> {
    let id = 0i64..12;
    prop_oneof![
        8 => (id.clone(), proptest::option::of("[ -~äö]{0,12}")).prop_map(|(id, note)| Change::Put { id, note }),
        2 => (id.clone(), id.clone()).prop_map(|(from, to)| Change::Move { from, to }),
        4 => (id, any::<bool>()).prop_map(|(id, has_tombstone)| Change::Delete { id, has_tombstone }),
        1 => Just(Change::Truncate),
    ]
}

fn row_json(id: i64, note: &Option<String>) -> String {
    serde_json::json!({ "id": id, "note": note }).to_string()
}

/// Applies the change to the map and returns its lines.
fn apply(notes: &mut Notes, change: &Change) -> Vec<String> {
    match change {
        Change::Put { id, note } => {
            let before = notes.insert(*id, note.clone());
            let op = if before.is_some() { "u" } else { "c" };
            let before = before.map_or("null".into(), |before| row_json(*id, &before));
            vec![event(op, "notes", &before, &row_json(*id, note))]
        }
        Change::Move { from, to } => {
            let Some(note) = notes.remove(from) else {
                return Vec::new();
            };
            notes.insert(*to, note.clone());
            vec![event(
                "u",
                "notes",
                &row_json(*from, &note),
                &row_json(*to, &note),
            )]
        }
        Change::Delete { id, has_tombstone } => {
            notes.remove(id);
            let mut lines = vec![event("d", "notes", &row_json(*id, &None), "null")];
            lines.extend(has_tombstone.then(|| format!(r#"{{"key":{{"id":{id}}},"value":null}}"#)));
            lines
        }
        Change::Truncate => {
            notes.clear();
            vec![event("t", "notes", "null", "null")]
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Invariants *Ordered* and *Once*.
    #[test]
    fn the_rows_are_those_that_the_history_leaves(
        transactions in proptest::collection::vec((any::<bool>(), proptest::collection::vec(change(), 1..8)), 1..12),
        cut in 0usize..80,
    ) {
        let mut expected = Notes::new();
        let mut lines = Vec::new();
        for (number, (has_id, changes)) in transactions.iter().enumerate() {
            for line in changes.iter().flat_map(|change| apply(&mut expected, change)) {
                let is_event = line.starts_with(r#"{"before""#);
                lines.push(if *has_id && is_event { in_transaction(&line, &number.to_string()) } else { line });
            }
        }
        let cut = cut.min(lines.len());
        let mut bench = Bench::new();
        let config = bench.config("a.jsonl", vec![notes()]);
        let mut rows = 0;
        for part in [&lines[..cut], &lines[cut..]] {
            bench.append("a.jsonl", &part.iter().map(|line| format!("{line}\n")).collect::<String>());
            rows += bench.run(&config).unwrap().rows;
            bench = bench.reopen();
        }
        prop_assert_eq!(rows, lines.len() as u64);
        prop_assert_eq!(bench.all_notes(), expected);
    }
}
