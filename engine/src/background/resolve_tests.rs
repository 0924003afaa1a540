//! Patches and trees as a database makes them: each patch is right, no scan misses a row or shows one twice, and patches do occur;
//! what has to hold of a tree (`tree_checks`) does.
//!
//! Defends *same* and *ordered*: at every commit sequence that is held, scans by ordinal and by key, in one part and in
//! several, hold the same rows. *Bounded*: once nobody holds a snapshot, a compaction leaves the rows that are alive.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use proptest::prelude::*;

use super::tree_checks::{Counts, check_tree};
use crate::codec::key::hash_key;
use crate::io::{CrashStyle, SimulatedIo};
use crate::keyspace::{Keyspace, KeyspaceOptions};
use crate::row_set::check::check_patch;
use crate::schema::ShardKey;
use crate::snapshot::{Scan, Snapshot};
use crate::tree::state::Described;
use crate::value::Value;
use crate::{Database, Options};

type State = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Clone, Debug)]
enum Step {
    Write(u16, u16, u8),
    Remove(u16, u16),
    RemoveRange(u16, u16),
    Truncate,
    Flush,
    Compact,
    Hold,
    Release(usize),
    /// Writes fail after so many, and then the machine stops.
    Crash(u64, u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let first = 0_u16..600;
    prop_oneof![
        8 => (first.clone(), 1_u16..120, any::<u8>()).prop_map(|(k, n, v)| Step::Write(k, n, v)),
        3 => (first.clone(), 1_u16..60).prop_map(|(k, n)| Step::Remove(k, n)),
        1 => (first, 1_u16..200).prop_map(|(k, n)| Step::RemoveRange(k, n)),
        1 => Just(Step::Truncate),
        4 => Just(Step::Flush),
        2 => Just(Step::Compact),
        2 => Just(Step::Hold),
        2 => any::<usize>().prop_map(Step::Release),
        1 => (0..20_u64, any::<u64>()).prop_map(|(writes, seed)| Step::Crash(writes, seed)),
    ]
}

fn options(io: &SimulatedIo) -> Options {
    Options {
        io: Arc::new(io.clone()),
        profile: moonshine_sysprobe::Profile::given(4096, 4).into(),
        memory_budget_bytes: 512 << 10,
        generation_size_bytes_max: Some(256 << 10),
        fragment_size_bytes_max: Some(24 << 10),
        ..Options::default()
    }
}

fn open(io: &SimulatedIo, shard_key: ShardKey) -> (Database, Keyspace) {
    let database = Database::open(Path::new("/db"), options(io)).unwrap();
    let options = KeyspaceOptions { shard_key };
    let keyspace = database.keyspace_with("pairs", options).unwrap();
    (database, keyspace)
}

fn key(k: u16) -> Vec<u8> {
    // Neighbours, so that patches have runs and gaps.
    format!("{k:05}").into_bytes()
}

struct Harness {
    io: SimulatedIo,
    shard_key: ShardKey,
    open: Option<(Database, Keyspace)>,
    state: State,
    held: Vec<(Snapshot, State)>,
    /// Patches and ordinals that were checked.
    patch_count: usize,
    ordinal_count: u64,
}

impl Harness {
    fn new(shard_key: ShardKey) -> Self {
        let io = SimulatedIo::new(1);
        let open = Some(open(&io, shard_key));
        Harness {
            io,
            shard_key,
            open,
            state: State::new(),
            held: Vec::new(),
            patch_count: 0,
            ordinal_count: 0,
        }
    }

    fn step(&mut self, step: &Step) {
        let (database, keyspace) = self.open.as_ref().unwrap();
        match *step {
            Step::Write(first, count, v) => {
                let mut batch = keyspace.batch();
                // Every third key, so that RowSets interleave.
                for k in (first..first + 3 * count).step_by(3) {
                    let value = vec![v; usize::from(v) % 90];
                    batch.insert(key(k), &value).unwrap();
                    self.state.insert(key(k), value);
                }
                batch.commit().unwrap();
            }
            Step::Remove(first, count) => {
                let mut batch = keyspace.batch();
                for k in first..first + count {
                    batch.remove(key(k)).unwrap();
                    self.state.remove(&key(k));
                }
                batch.commit().unwrap();
            }
            Step::RemoveRange(first, count) => {
                let bound = |k| vec![Value::Binary(key(k))];
                let range = (
                    Bound::Included(bound(first)),
                    Bound::Excluded(bound(first + count)),
                );
                let mut transaction = database.begin();
                transaction.delete_range(keyspace.table(), &range).unwrap();
                transaction.commit().unwrap();
                self.state
                    .retain(|k, _| !(key(first)..key(first + count)).contains(k));
            }
            Step::Truncate => {
                let mut transaction = database.begin();
                transaction.truncate(keyspace.table()).unwrap();
                transaction.commit().unwrap();
                self.state.clear();
            }
            Step::Flush => database.flush().unwrap(),
            Step::Compact => {
                database.flush().unwrap();
                database.compact().unwrap();
            }
            Step::Hold => self.held.push((database.snapshot(), self.state.clone())),
            Step::Release(i) if !self.held.is_empty() => {
                self.held.swap_remove(i % self.held.len());
            }
            Step::Release(_) => {}
            Step::Crash(writes, seed) => {
                self.io.fail_writes_after(writes);
                drop(database.flush().and_then(|()| database.compact()));
                self.held.clear();
                self.open = None;
                self.io = self.io.crash(CrashStyle::TearUnsynced(seed));
                // Before a compaction writes anew what the snapshots had kept apart.
                let left = Database::open_read_only(Path::new("/db"), options(&self.io)).unwrap();
                let keyspace = left.keyspace("pairs").unwrap();
                self.open = Some((left, keyspace));
                self.check_patches();
                self.open = Some(open(&self.io, self.shard_key));
            }
        }
        self.check();
    }

    fn check(&mut self) {
        let (database, keyspace) = self.open.as_ref().unwrap();
        let newest = (database.snapshot(), self.state.clone());
        for (snapshot, state) in self.held.iter().chain([&newest]) {
            let reader = keyspace.at(snapshot).unwrap();
            for part_count in [1, 3] {
                let mut seen = State::new();
                let parts = reader.scan_parts(part_count).unwrap();
                assert_eq!(parts.len(), part_count);
                for part in parts {
                    part.for_each(|key, value| {
                        let before = seen.insert(key.to_vec(), value.to_vec());
                        assert_eq!(before, None, "a row is there twice");
                    })
                    .unwrap();
                }
                assert_eq!(&seen, state);
            }
            check_range(snapshot, keyspace, state);
            let counted = snapshot.row_count(keyspace.table()).unwrap();
            assert_eq!(counted, state.len() as u64);
        }
        self.check_patches();
        self.check_tree();
    }

    /// What has to hold of the tree, beside compactions.
    fn check_tree(&self) -> Counts {
        let (_, keyspace) = self.open.as_ref().unwrap();
        let trees = keyspace.table().state.trees.load_full();
        let held: Vec<u64> = self.held.iter().map(|(held, _)| held.seq()).collect();
        check_tree(&trees.rows.fragments, &held)
    }

    /// Once nobody holds a snapshot, what is dead goes; but what a range delete hides waits for the next reason to merge.
    fn check_end(&mut self, has_range_deletes: bool) {
        self.held.clear();
        let (database, _) = self.open.as_ref().unwrap();
        database.flush().unwrap();
        database.compact().unwrap();
        self.check();
        let rows = self.state.len() as u64;
        let (left, expected) = (
            self.check_tree(),
            Counts {
                rows,
                tombstones: 0,
            },
        );
        let is_more = has_range_deletes && left.rows >= rows;
        assert!(
            left == expected || is_more,
            "{left:?} are left of {expected:?}"
        );
    }

    /// What every patch says is so.
    fn check_patches(&mut self) {
        let (_, keyspace) = self.open.as_ref().unwrap();
        let trees = keyspace.table().state.trees.load_full();
        for fragment in trees.rows.fragments.fragments() {
            for (i, newer) in fragment.row_sets.iter().enumerate() {
                let (Some(patch), Some(held)) = (&newer.meta().patch, &newer.patch_file) else {
                    continue;
                };
                self.patch_count += 1;
                for older in &fragment.row_sets[i + 1..] {
                    let target = patch.target(older.meta().place());
                    self.ordinal_count += target.map_or(0, |target| target.ordinal_count.into());
                    check_patch(&newer.row_set, patch, &held.file, &older.row_set, hash_key)
                        .unwrap();
                }
            }
        }
    }
}

/// Bounds cut pages and RowSets where they must.
fn check_range(snapshot: &Snapshot, keyspace: &Keyspace, state: &State) {
    let mut keys = state.keys();
    let (from, to) = (keys.nth(state.len() / 3), keys.nth(state.len() / 4));
    let (Some(from), Some(to)) = (from, to) else {
        return;
    };
    let bound = |key: &Vec<u8>| vec![Value::Binary(key.clone())];
    for (start, end) in [
        (Bound::Included(from), Bound::Excluded(to)),
        (Bound::Excluded(from), Bound::Included(to)),
    ] {
        let scan = Scan {
            projection: Some(vec![0]),
            range: (start.map(bound), end.map(bound)),
            batch_rows: 7,
            ..Scan::default()
        };
        let mut seen = Vec::new();
        for part in snapshot.scan_parts(keyspace.table(), &scan, 2).unwrap() {
            for batch in part {
                let batch = batch.unwrap();
                assert!(batch.num_rows() <= 7 && batch.num_columns() == 1);
                let column = batch.column(0).as_binary::<i32>();
                seen.extend(column.iter().map(|key| key.unwrap().to_vec()));
            }
        }
        seen.sort();
        let range = state.range::<Vec<u8>, _>((start, end));
        assert!(seen.iter().eq(range.map(|(key, _)| key)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn scans_by_ordinal_hold_what_was_written(
        steps in prop::collection::vec(any_step(), 1..40), is_ranged: bool,
    ) {
        let shard_key = if is_ranged { ShardKey::Range } else { ShardKey::PrimaryKey };
        let mut harness = Harness::new(shard_key);
        for step in &steps {
            harness.step(step);
        }
        let is_range_delete = |step: &Step| matches!(step, Step::RemoveRange(..));
        harness.check_end(steps.iter().any(is_range_delete));
    }
}

/// The test above is worth something: patches with ordinals occur, on both sides of a snapshot.
#[test]
fn patches_occur_and_outlive_a_snapshot_and_a_crash() {
    let mut harness = Harness::new(ShardKey::PrimaryKey);
    for round in 0..6 {
        harness.step(&Step::Write(round * 7, 100, round as u8 + 1));
        harness.step(&Step::Flush);
        harness.open.as_ref().unwrap().0.compact().unwrap();
        harness.step(&Step::Hold);
    }
    assert!(harness.patch_count > 5, "{} patches", harness.patch_count);
    assert!(
        harness.ordinal_count > 500,
        "{} ordinals",
        harness.ordinal_count
    );
    let before = harness.patch_count;
    harness.step(&Step::Crash(1000, 0));
    assert!(
        harness.patch_count > before,
        "no patch is left after a crash"
    );
}
