//! What has to hold of the Iceberg tables whenever somebody looks.

use std::collections::{BTreeMap, HashSet};

use crate::lake::{Event, Lake};
use crate::model::history::History;
use crate::replay::{Replay, ReplayedTable, SnapshotRows};

use super::expected::Defaults;
use super::names::Names;

const COMMIT_SEQ: &str = "moonshine.commit-seq";

/// What was looked at before.
#[derive(Debug, Default)]
pub(super) struct Checker {
    replay: Replay,
    journal_at: usize,
    compared: HashSet<(String, i64, i64)>,
    /// The newest commit sequence that each table's head had.
    newest_seqs: BTreeMap<usize, u64>,
    pub(super) snapshot_count: u64,
}

/// What is not as it must be: the check and the details.
pub(super) type Checked = Result<(), (&'static str, String)>;

/// What is compared with.
pub(super) struct Reference<'r> {
    pub(super) names: &'r Names,
    pub(super) history: &'r History,
    pub(super) defaults: &'r Defaults,
}

fn seq_of(rows: &SnapshotRows) -> Option<u64> {
    rows.stamp(COMMIT_SEQ)?.parse().ok()
}

impl Checker {
    /// Reads all that is new in the lake.
    pub(super) fn check(&mut self, lake: &Lake, reference: &Reference<'_>) -> Checked {
        if let Some(violation) = lake.violations().into_iter().next() {
            return Err(("immutable", violation));
        }
        for (ident, metadata_key) in lake.tables() {
            let replayed = self.replay.table(lake, &metadata_key);
            let replayed = replayed.map_err(|finding| ("replay", format!("{ident}: {finding}")))?;
            let Some(table) = reference.names.table(&ident) else {
                return Err(("replay", format!("nobody asked for {ident}")));
            };
            self.compare(&replayed, table, reference)?;
            let head = replayed.heads.get("main");
            let head_seq = head.and_then(|head| {
                let mut ancestry = replayed.metadata.ancestry(head.snapshot.id);
                ancestry.find_map(|snapshot| snapshot.summary.get(COMMIT_SEQ)?.parse().ok())
            });
            let head_seq = head_seq.unwrap_or(0);
            let newest = self.newest_seqs.entry(table).or_default();
            if head_seq < *newest {
                let detail = format!("{ident} is at commit sequence {head_seq} after {newest}");
                return Err(("monotonic", detail));
            }
            *newest = head_seq;
        }
        self.check_deletions(lake)
    }

    /// Somebody else moved the head of a table.
    pub(super) fn forget_position(&mut self, table: usize) {
        self.newest_seqs.remove(&table);
    }

    fn compare(
        &mut self,
        table: &ReplayedTable,
        number: usize,
        reference: &Reference<'_>,
    ) -> Checked {
        let key = reference.names.key(number);
        for rows in table.snapshots.iter().chain(table.heads.values()) {
            let snapshot = &rows.snapshot;
            let identity = (snapshot.manifest_list.clone(), snapshot.id, rows.schema.id);
            let Some(seq) = seq_of(rows) else { continue };
            let name = reference.names.name(number);
            if seq > reference.history.top_seq() {
                let top_seq = reference.history.top_seq();
                let detail =
                    format!("{name} has commit sequence {seq}, the database is at {top_seq}");
                return Err(("durable", detail));
            }
            if !self.compared.insert(identity) {
                continue;
            }
            self.snapshot_count += 1;
            let states = reference.history.states_at(seq);
            let same = states.map(|state| {
                let expected = reference
                    .defaults
                    .rows(number, state.table(number), rows, key);
                rows.check_same(&expected, key)
            });
            // Where nothing decides yet what happened, any of it may be.
            let same = same.reduce(Result::or).unwrap_or(Ok(()));
            same.map_err(|finding| {
                (
                    "lake",
                    format!("{name} as of commit sequence {seq}: {finding}"),
                )
            })?;
        }
        Ok(())
    }

    /// Nothing was deleted while a snapshot of then named it.
    fn check_deletions(&mut self, lake: &Lake) -> Checked {
        let events = lake.journal_from(self.journal_at);
        self.journal_at += events.len();
        let objects = lake.with_deleted();
        for event in events {
            let Event::Deleted { key, metadata_keys } = event else {
                continue;
            };
            for metadata_key in metadata_keys {
                let wrong = |what: String| Err(("deleted", what));
                if key == metadata_key {
                    return wrong(format!("the newest metadata file {key} was deleted"));
                }
                let table = self.replay.table(&objects, &metadata_key);
                let table = table.map_err(|finding| ("replay", finding.to_string()))?;
                for rows in &table.snapshots {
                    if rows.objects().any(|object| object == key) {
                        let id = rows.snapshot.id;
                        return wrong(format!(
                            "{key} was deleted, and snapshot {id} of {metadata_key} names it"
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}
