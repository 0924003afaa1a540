//! What has to hold after each step.

use std::collections::{BTreeMap, HashSet};

use moonshine_sim::lake::{Event, Lake};
use moonshine_sim::replay::{Replay, ReplayedTable, SnapshotRows};

use crate::model::{KEY, TableModel};

const COMMIT_SEQ: &str = "moonshine.commit-seq";

/// What was looked at before.
#[derive(Default)]
pub(crate) struct Checker {
    replay: Replay,
    journal_at: usize,
    compared: HashSet<(String, i64, i64)>,
    /// The newest commit sequence that each table's head had.
    newest_seqs: BTreeMap<String, u64>,
    pub(crate) snapshot_count: u32,
}

fn seq_of(rows: &SnapshotRows) -> Option<u64> {
    rows.stamp(COMMIT_SEQ)?.parse().ok()
}

impl Checker {
    /// Reads all that is new in the lake. `may_go_back`: whether somebody rolled tables back.
    pub(crate) fn check(&mut self, lake: &Lake, models: &[TableModel], may_go_back: bool) {
        let violations = lake.violations();
        assert!(violations.is_empty(), "{violations:?}");
        for (ident, metadata_key) in lake.tables() {
            let replayed = self.replay.table(lake, &metadata_key);
            let replayed = replayed.unwrap_or_else(|finding| panic!("{ident}: {finding}"));
            let name = format!("{}.{}", ident.namespace(), ident.name());
            let model = models.iter().find(|model| model.name == name).unwrap();
            self.compare(&replayed, model);
            let head = replayed.heads.get("main");
            let head_seq = head.and_then(|head| {
                let mut ancestry = replayed.metadata.ancestry(head.snapshot.id);
                ancestry.find_map(|snapshot| snapshot.summary.get(COMMIT_SEQ)?.parse().ok())
            });
            let newest = self.newest_seqs.entry(name).or_default();
            let head_seq = head_seq.unwrap_or(0);
            assert!(
                may_go_back || *newest <= head_seq,
                "{ident}: {head_seq} after {newest}"
            );
            *newest = head_seq.max(*newest);
        }
        self.check_deletions(lake);
    }

    fn compare(&mut self, table: &ReplayedTable, model: &TableModel) {
        for rows in table.snapshots.iter().chain(table.heads.values()) {
            let snapshot = &rows.snapshot;
            let key = (snapshot.manifest_list.clone(), snapshot.id, rows.schema.id);
            let Some(seq) = seq_of(rows) else { continue };
            if !self.compared.insert(key) {
                continue;
            }
            self.snapshot_count += 1;
            let expected = model.expected(seq, rows);
            let same = rows.check_same(&expected, &[KEY]);
            same.unwrap_or_else(|finding| panic!("{} as of {seq}: {finding}", model.name));
        }
    }

    /// Nothing was deleted while a snapshot of then named it.
    fn check_deletions(&mut self, lake: &Lake) {
        let events = lake.journal_from(self.journal_at);
        self.journal_at += events.len();
        let objects = lake.with_deleted();
        for event in events {
            let Event::Deleted { key, metadata_keys } = event else {
                continue;
            };
            for metadata_key in metadata_keys {
                assert_ne!(key, metadata_key, "the newest metadata file was deleted");
                let table = self.replay.table(&objects, &metadata_key).unwrap();
                for rows in &table.snapshots {
                    let is_named = rows.objects().any(|object| object == key);
                    let id = rows.snapshot.id;
                    assert!(
                        !is_named,
                        "{key} was deleted, and snapshot {id} of {metadata_key} names it"
                    );
                }
            }
        }
    }

    /// How many objects nothing names.
    pub(crate) fn unnamed(&mut self, lake: &Lake) -> usize {
        let mut keys = lake.keys();
        for (_, metadata_key) in lake.tables() {
            let table = self.replay.table(lake, &metadata_key).unwrap();
            keys.remove(&metadata_key);
            for rows in &table.snapshots {
                rows.objects().for_each(|key| _ = keys.remove(key));
            }
        }
        keys.retain(|key| key.contains("/data/"));
        keys.len()
    }
}
