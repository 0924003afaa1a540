//! What another writer did to a table, and whether an export may go on top of it.
//!
//! A snapshot that is not ours says by its operation and counters what it did. One that changed no row of the table, as a
//! rewrite of manifests does, is passed over. One that only added rows stands in the way unless the table's settings let
//! such rows be: they are not in the database, and stay what they are. Whatever else changed rows that the database exported
//! ends the export: going on would write over what nobody decided.

use iceberg::TableIdent;
use iceberg::spec::{Operation, Snapshot};

use crate::config::ForeignAppends;
use crate::error::{ExportError, Result};

/// What a snapshot of another writer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// The same rows in the same files.
    Nothing,
    /// New files beside ours.
    Appended,
    /// Files of ours were replaced or removed, or rows of them deleted.
    Changed,
}

/// Checks that an export may go on top of a snapshot of another writer; `ours` is the newest one of ours below it.
pub(crate) fn check_foreign(
    table: &TableIdent,
    snapshot: &Snapshot,
    parent: Option<&Snapshot>,
    ours: Option<i64>,
    appends: ForeignAppends,
) -> Result<()> {
    let id = snapshot.snapshot_id();
    let operation = snapshot.summary().operation.as_str();
    let back = match ours {
        Some(ours) => format!("roll the table back to snapshot {ours}"),
        None => "drop the table, so that it is made anew".to_owned(),
    };
    match (effect(snapshot, parent), appends) {
        (Effect::Nothing, _) => Ok(()),
        (Effect::Appended, ForeignAppends::Keep) => Ok(()),
        (Effect::Appended, ForeignAppends::Stop) => Err(ExportError::foreign(
            table,
            format!(
                "its snapshot {id} ({operation}) was made by another writer and added rows that are not in the database: {back}, \
                 or set foreign_appends: keep for the table, which lets such rows be"
            ),
        )),
        (Effect::Changed, _) => Err(ExportError::foreign(
            table,
            format!(
                "its snapshot {id} ({operation}) was made by another writer and changed files that the database exported: {back}"
            ),
        )),
    }
}

/// By the counters that Iceberg's writers put into a summary; one that says nothing may have done anything.
fn effect(snapshot: &Snapshot, parent: Option<&Snapshot>) -> Effect {
    let any = |keys: &[&str]| {
        keys.iter()
            .any(|key| counter(snapshot, key).unwrap_or(0) > 0)
    };
    let removes = any(&[
        "deleted-data-files",
        "deleted-records",
        "removed-delete-files",
        "added-delete-files",
        "added-position-deletes",
        "added-equality-deletes",
        "added-dvs",
        "removed-dvs",
    ]);
    let adds = any(&["added-data-files", "added-records"]);
    // Only totals that are there and did not change say that nothing did.
    let is_same = parent.is_some_and(|parent| {
        TOTALS.iter().all(|key| {
            let total = counter(snapshot, key);
            total.is_some() && total == counter(parent, key)
        })
    });
    match snapshot.summary().operation {
        _ if removes => Effect::Changed,
        Operation::Append if adds => Effect::Appended,
        _ if adds => Effect::Changed,
        Operation::Append | Operation::Replace if is_same => Effect::Nothing,
        Operation::Append => Effect::Appended,
        _ => Effect::Changed,
    }
}

/// What a snapshot that changed no row has in common with the one before it.
const TOTALS: [&str; 5] = [
    "total-data-files",
    "total-records",
    "total-delete-files",
    "total-position-deletes",
    "total-equality-deletes",
];

fn counter(snapshot: &Snapshot, key: &str) -> Option<u64> {
    let text = snapshot.summary().additional_properties.get(key);
    text.and_then(|text| text.parse().ok())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use iceberg::spec::Summary;

    use super::*;

    fn snapshot(operation: Operation, counters: &[(&str, &str)]) -> Snapshot {
        let properties = counters
            .iter()
            .map(|(key, number)| ((*key).to_owned(), (*number).to_owned()));
        Snapshot::builder()
            .with_snapshot_id(7)
            .with_sequence_number(1)
            .with_timestamp_ms(0)
            .with_manifest_list("file:///l")
            .with_summary(Summary {
                operation,
                additional_properties: properties.collect::<HashMap<_, _>>(),
            })
            .build()
    }

    /// Invariant 8 "honest": nobody's rows are written over without a word.
    #[test]
    fn what_others_did_is_told_apart() {
        let totals = TOTALS.map(|key| (key, "3"));
        let parent = snapshot(Operation::Append, &totals);
        let with = |more: &[(&'static str, &'static str)]| [&totals[..], more].concat();
        let more_rows = with(&[("total-records", "4")]);
        for (operation, counters, expected) in [
            (Operation::Replace, with(&[]), Effect::Nothing),
            (Operation::Append, with(&[]), Effect::Nothing),
            (Operation::Append, more_rows, Effect::Appended),
            (
                Operation::Append,
                with(&[("added-data-files", "1")]),
                Effect::Appended,
            ),
            (Operation::Append, vec![], Effect::Appended),
            (Operation::Replace, vec![], Effect::Changed),
            (
                Operation::Replace,
                with(&[("added-data-files", "1"), ("deleted-data-files", "4")]),
                Effect::Changed,
            ),
            (
                Operation::Delete,
                with(&[("deleted-data-files", "1")]),
                Effect::Changed,
            ),
            (Operation::Overwrite, with(&[]), Effect::Changed),
            (
                Operation::Overwrite,
                with(&[("added-equality-deletes", "1")]),
                Effect::Changed,
            ),
            (
                Operation::Append,
                with(&[("added-delete-files", "1")]),
                Effect::Changed,
            ),
        ] {
            assert_eq!(
                effect(&snapshot(operation.clone(), &counters), Some(&parent)),
                expected,
                "{operation:?} {counters:?}"
            );
        }
    }

    #[test]
    fn the_error_says_what_to_do() {
        let table = TableIdent::from_strs(["ns", "t"]).unwrap();
        let append = snapshot(Operation::Append, &[("added-data-files", "1")]);
        let check = |snapshot, appends| check_foreign(&table, snapshot, None, Some(5), appends);
        check(&append, ForeignAppends::Keep).unwrap();
        let text = check(&append, ForeignAppends::Stop)
            .unwrap_err()
            .to_string();
        for word in [
            "snapshot 7 (append)",
            "back to snapshot 5",
            "foreign_appends: keep",
        ] {
            assert!(text.contains(word), "{text}");
        }
        let delete = snapshot(Operation::Delete, &[("deleted-data-files", "1")]);
        assert!(check(&delete, ForeignAppends::Keep).is_err());
    }
}
