//! Random histories of transactions, snapshots, exports, reopens and crashes against a reference map.
//!
//! Defends *durable*, *atomic*, *ordered*, *once* and *same*: after every step each live snapshot holds the replay of
//! the transactions up to it, and the files of the committed exports, less their removed positions, hold the table as
//! of the exported sequence.

mod optimistic;
mod relocation;
mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;
use moonshine_engine::io::{CrashStyle, Io, NamesStyle, SimulatedIo};
use moonshine_engine::{
    ColumnType, CommitHandle, Database, Durability, Error, ExportFile, Options, Origin, Placement,
    Row, Scan, ScanOrder, ShardKey, Snapshot, Table, TableSchema, Transaction, Value,
};
use optimistic::{Optimistic, any_optimistic};
use proptest::prelude::*;
use relocation::keys_of_files;
use uuid::Uuid;
use writes::{Write, any_write, replay};

use crate::disk_full::with_space;
use crate::reading::{rows_of, sort_key};

const TABLE_COUNT: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Outcome {
    Commit,
    Abort,
    DropUnprepared,
    /// The process dies between the two steps; whether the catalog has the commit.
    Crash(bool),
    /// The exporter gives up between the two steps without a crash.
    DropPrepared(bool),
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Write>),
    /// Visible, and not yet durable.
    CommitBuffered(Vec<Write>),
    Sync,
    /// What is in memory goes below level 0.
    Flush,
    Compact,
    /// A copy of the database, opened beside it.
    Backup,
    /// Writes fail after so many, in the foreground or the background, and then the machine stops.
    FailingCrash(u64, u64),
    /// Rows that go below level 0 past the log.
    Load(usize, Vec<(u8, u8)>),
    Optimistic(Optimistic),
    /// The disk is full after so many writes, and has space again behind a transaction, a flush and a compaction.
    FullDisk(u64, Vec<Write>),
    /// Many submits, waited for together: one group commit or several.
    Pipeline(Vec<Vec<Write>>),
    Hold,
    Release(usize),
    Reopen,
    Crash(u64),
    Export(usize, Outcome, bool),
    /// Exported rows of some files go into another one, which has rows that count no more beside them.
    Relocate(usize, Outcome, u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let writes = || prop::collection::vec(any_write(), 1..8);
    let outcome = || {
        prop_oneof![
            6 => Just(Outcome::Commit),
            1 => Just(Outcome::Abort),
            1 => Just(Outcome::DropUnprepared),
            1 => any::<bool>().prop_map(Outcome::Crash),
            1 => any::<bool>().prop_map(Outcome::DropPrepared),
        ]
    };
    prop_oneof![
        8 => writes().prop_map(Step::Commit),
        4 => writes().prop_map(Step::CommitBuffered),
        1 => Just(Step::Sync),
        3 => Just(Step::Flush),
        1 => Just(Step::Compact),
        1 => Just(Step::Backup),
        1 => (0..12_u64, any::<u64>()).prop_map(|(writes, seed)| Step::FailingCrash(writes, seed)),
        2 => (0..TABLE_COUNT, prop::collection::vec((0u8..20, any::<u8>()), 1..60))
            .prop_map(|(t, rows)| Step::Load(t, rows)),
        4 => any_optimistic().prop_map(Step::Optimistic),
        2 => (0..6_u64, writes()).prop_map(|(passing, writes)| Step::FullDisk(passing, writes)),
        2 => prop::collection::vec(writes(), 1..6).prop_map(Step::Pipeline),
        2 => Just(Step::Hold),
        1 => any::<usize>().prop_map(Step::Release),
        1 => Just(Step::Reopen),
        1 => any::<u64>().prop_map(Step::Crash),
        4 => (0..TABLE_COUNT, outcome(), any::<bool>()).prop_map(|(t, o, old)| Step::Export(t, o, old)),
        3 => (0..TABLE_COUNT, outcome(), any::<u64>()).prop_map(|(t, o, seed)| Step::Relocate(t, o, seed)),
    ]
}

/// Each table has another kind of key: composite with text in front, bytes, a number; and another of the shard keys that fit
/// it with each of three numbers.
fn schemas(shard_keys: usize) -> [TableSchema; TABLE_COUNT] {
    let lines = TableSchema::builder("shop.lines")
        .column(
            "amount",
            ColumnType::Decimal {
                precision: 20,
                scale: 2,
            },
            true,
        )
        .column("shop", ColumnType::Utf8, false)
        .column("line", ColumnType::Int32, false)
        .column("at", ColumnType::TimestampTz, true)
        .column("parts", ColumnType::list(ColumnType::Int64, true), true)
        .primary_key(["shop", "line"])
        .shard_key([ShardKey::PrimaryKey, ShardKey::Prefix(1), ShardKey::Range][shard_keys]);
    let pairs = TableSchema::builder("pairs")
        .column("key", ColumnType::Binary, false)
        .column("value", ColumnType::Binary, false)
        .primary_key(["key"])
        .shard_key(
            [
                ShardKey::PrefixBytes(1),
                ShardKey::Range,
                ShardKey::PrimaryKey,
            ][shard_keys],
        );
    let flags = TableSchema::builder("flags")
        .column("id", ColumnType::Int64, false)
        .primary_key(["id"])
        .shard_key(
            [
                ShardKey::Range,
                ShardKey::PrimaryKey,
                ShardKey::PrefixBytes(7),
            ][shard_keys],
        );
    [lines, pairs, flags].map(|builder| builder.build().unwrap())
}

fn key(table: usize, k: u8) -> Vec<Value> {
    match table {
        0 => vec![
            Value::Utf8(["", "a", "a\0", "b"][usize::from(k) % 4].into()),
            Value::Int32(i32::from(k) - 10),
        ],
        1 => vec![Value::Binary(vec![k; usize::from(k) % 3])],
        _ => vec![Value::Int64(i64::from(k) - 10)],
    }
}

fn row(table: usize, k: u8, v: u8) -> Row {
    let mut key = key(table, k);
    match table {
        0 => {
            let (line, shop) = (key.pop().unwrap(), key.pop().unwrap());
            let amount = if v.is_multiple_of(5) {
                Value::Null
            } else {
                Value::Decimal(i128::from(v) - 128)
            };
            vec![
                amount,
                shop,
                line,
                if v.is_multiple_of(7) {
                    Value::Null
                } else {
                    Value::TimestampTz(i64::from(v))
                },
                match v % 4 {
                    0 => Value::Null,
                    count => Value::List(vec![Value::Int64(v.into()); usize::from(count) - 1]),
                },
            ]
        }
        1 => vec![
            key.pop().unwrap(),
            Value::Binary(vec![v; usize::from(v) * 3]),
        ],
        _ => key,
    }
}

/// Rows of each table, by their key.
type State = [BTreeMap<String, Row>; TABLE_COUNT];

#[derive(Default)]
struct ExternalTable {
    files: BTreeMap<Arc<str>, Vec<Row>>,
    removed: BTreeSet<Placement>,
    /// The id of each row, and whether its file says it outright.
    row_ids: BTreeMap<Placement, (u64, bool)>,
}

impl ExternalTable {
    fn live(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        for (file, file_rows) in &self.files {
            let live = file_rows.iter().enumerate().filter(|(position, _)| {
                !self.removed.contains(&Placement {
                    file: file.clone(),
                    position: *position as u64,
                })
            });
            rows.extend(live.map(|(_, row)| row.clone()));
        }
        rows
    }
}

fn options(io: &SimulatedIo) -> Options {
    Options {
        io: Arc::new(io.clone()),
        segment_size_bytes_max: Some(2000),
        memory_budget_bytes: 40_000,
        generation_size_bytes_max: Some(6000),
        fragment_size_bytes_max: Some(4000),
        compaction_threads: Some(3),
        profile: moonshine_sysprobe::Profile::given(4096, 4).into(),
    }
}

struct Harness {
    shard_keys: usize,
    io: SimulatedIo,
    /// The disk as the process sees it that has the database open.
    process: SimulatedIo,
    database: Option<Database>,
    tables: Vec<Table>,
    state: State,
    seq: u64,
    /// The state at each commit sequence and its origin: after a crash, one of those from the last durable one on is there.
    history: Vec<(State, Option<String>)>,
    held: Vec<(Snapshot, State)>,
    external: [ExternalTable; TABLE_COUNT],
    exported: [u64; TABLE_COUNT],
    export_count: u128,
}

impl Harness {
    fn new(shard_keys: usize) -> Self {
        let mut harness = Harness {
            shard_keys,
            io: SimulatedIo::new(1),
            process: SimulatedIo::new(1),
            database: None,
            tables: Vec::new(),
            state: State::default(),
            seq: 0,
            history: vec![(State::default(), None)],
            held: Vec::new(),
            external: Default::default(),
            exported: [0; TABLE_COUNT],
            export_count: 0,
        };
        harness.open(0);
        harness
    }

    fn open(&mut self, durable_seq: u64) {
        self.held.clear();
        self.database = None;
        self.process = self.io.of_process(1);
        let database = Database::open(Path::new("/db"), options(&self.process)).unwrap();
        self.tables = schemas(self.shard_keys)
            .into_iter()
            .map(|schema| database.create_table(schema).unwrap())
            .collect();
        let seq = database.durable_seq();
        assert!(
            (durable_seq..=self.seq).contains(&seq),
            "{seq} of {}",
            self.seq
        );
        self.seq = seq;
        self.history.truncate(seq as usize + 1);
        self.state = self.history[seq as usize].0.clone();
        self.database = Some(database);
    }

    fn database(&self) -> &Database {
        self.database.as_ref().unwrap()
    }

    /// Queues a transaction; `None` if it inserts a row that exists and that is known already. The second part is
    /// whether it will take effect.
    fn submit(&mut self, writes: &[Write]) -> Option<(CommitHandle, bool)> {
        let (transaction, expected) = self.transaction(writes);
        let fits = expected.is_some();
        match transaction.submit() {
            Ok(handle) => {
                self.advance(expected, Some((self.seq + 1).to_string()));
                assert_eq!(handle.seq(), self.seq);
                Some((handle, fits))
            }
            Err(error) => {
                assert!(!fits && matches!(error, Error::Exists { .. }), "{error}");
                None
            }
        }
    }

    /// Commits a transaction and says whether it took effect.
    fn commit(&mut self, writes: &[Write], durability: Durability) -> bool {
        let (mut transaction, expected) = self.transaction(writes);
        transaction.set_durability(durability);
        match (transaction.commit(), expected) {
            (Ok(seq), Some(state)) => {
                self.advance(Some(state), Some((self.seq + 1).to_string()));
                assert_eq!(seq, self.seq);
                true
            }
            // Nobody else is there, so it is refused before it takes a sequence.
            (Err(Error::Exists { .. }), None) => false,
            (result, expected) => panic!("{result:?}, expected {expected:?}"),
        }
    }

    /// A commit sequence was taken, by a transaction that takes effect or not.
    fn advance(&mut self, state: Option<State>, origin: Option<String>) {
        self.seq += 1;
        let last = self.history.last().and_then(|(_, origin)| origin.clone());
        let origin = origin.filter(|_| state.is_some()).or(last);
        self.state = state.unwrap_or_else(|| self.state.clone());
        self.history.push((self.state.clone(), origin));
    }

    /// A transaction with writes, and the state it leads to, if it can.
    fn transaction(&mut self, writes: &[Write]) -> (Transaction, Option<State>) {
        let mut transaction = self.database().begin();
        for write in writes {
            write.make(&mut transaction, &self.tables);
        }
        transaction.set_origin(Origin {
            source: "model".into(),
            position: (self.seq + 1).to_string(),
        });
        let mut state = self.state.clone();
        let fits = replay(writes, &mut state);
        if let Write::Upsert(t, k, _) | Write::Delete(t, k) = writes[0] {
            let expected = state[t].get(&sort_key(&key(t, k))).cloned();
            // Its own writes are seen before the commit.
            assert_eq!(
                transaction.get(&self.tables[t], &key(t, k)).unwrap(),
                expected
            );
        }
        (transaction, fits.then_some(state))
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Commit(writes) => {
                if self.commit(writes, Durability::Synced) {
                    assert_eq!(self.database().durable_seq(), self.seq);
                }
            }
            Step::CommitBuffered(writes) => {
                self.commit(writes, Durability::Buffered);
            }
            Step::Sync => {
                self.database().sync().unwrap();
                assert_eq!(self.database().durable_seq(), self.seq);
            }
            Step::Flush => self.database().flush().unwrap(),
            Step::Compact => self.database().compact().unwrap(),
            Step::Backup => self.backup(),
            Step::FailingCrash(calls, seed) => {
                // Writes fail from then on, or the process dies at any call that changes something.
                match seed % 2 {
                    0 => self.io.fail_writes_after(*calls),
                    _ => self.process.kill_after(calls * 3),
                }
                // They fail, or not, and leave files at any stage.
                let flushed = self.database().flush();
                let compacted = flushed.and_then(|()| self.database().compact());
                drop(compacted);
                self.crash(*seed);
            }
            Step::FullDisk(passing, writes) => {
                self.io.fill_after(Some(*passing));
                let (transaction, expected) = self.transaction(writes);
                match (transaction.commit(), expected) {
                    (Ok(seq), Some(state)) => {
                        self.advance(Some(state), Some((self.seq + 1).to_string()));
                        assert_eq!(seq, self.seq);
                    }
                    (Err(Error::NoSpace { .. }), _) | (Err(Error::Exists { .. }), None) => {}
                    (result, expected) => panic!("{result:?}, expected {expected:?}"),
                }
                for done in [self.database().flush(), self.database().compact()] {
                    assert!(
                        matches!(done, Ok(()) | Err(Error::NoSpace { .. })),
                        "{done:?}"
                    );
                }
                self.check();
                self.io.fill_after(None);
                with_space(|| self.database().flush());
                with_space(|| self.database().compact());
            }
            Step::Pipeline(transactions) => {
                let handles: Vec<_> = transactions
                    .iter()
                    .filter_map(|writes| self.submit(writes))
                    .collect();
                for (handle, fits) in handles {
                    assert_eq!(handle.wait().is_ok(), fits);
                }
            }
            Step::Load(t, rows) => self.load(*t, rows),
            Step::Optimistic(step) => self.optimistic(step),
            Step::Hold => self
                .held
                .push((self.database().snapshot(), self.state.clone())),
            Step::Release(i) if !self.held.is_empty() => {
                drop(self.held.swap_remove(i % self.held.len()))
            }
            Step::Release(_) => {}
            Step::Reopen => self.open(self.seq),
            Step::Crash(seed) => self.crash(*seed),
            Step::Export(t, outcome, old) => self.export(*t, *outcome, *old),
            Step::Relocate(t, outcome, seed) => self.relocate(*t, *outcome, *seed),
        }
        self.check();
    }

    /// Nothing on disk is wrong.
    fn check_folder(&self) {
        let options = Options {
            io: Arc::new(self.io.clone()),
            ..Options::unmeasured()
        };
        let check = Database::check("/db", &options).unwrap();
        assert_eq!(check.problems, []);
        assert_eq!(check.commit_seq, self.seq);
    }

    fn backup(&self) {
        let folder = Path::new("/backup");
        let backup = self.database().backup(folder).unwrap();
        assert_eq!(backup.commit_seq, self.seq);
        let options = Options {
            io: Arc::new(self.io.clone()),
            ..Options::unmeasured()
        };
        let copy = Database::open(folder, options).unwrap();
        let tables = self
            .tables
            .iter()
            .map(|table| copy.table(table.name()).unwrap());
        let tables: Vec<_> = tables.collect();
        self.check_tables(&copy.snapshot(), &self.state, &tables);
        for (mine, its) in self.tables.iter().zip(&tables) {
            assert_eq!(self.database().exported(mine), copy.exported(its));
        }
        drop(copy);
        for (path, _) in self.io.files() {
            if path.starts_with(folder) {
                self.io.remove(&path).unwrap();
                self.io.sync_folder(path.parent().unwrap()).unwrap();
            }
        }
    }

    fn load(&mut self, t: usize, rows: &[(u8, u8)]) {
        let mut load = self.database().bulk_load(&self.tables[t]).unwrap();
        for &(k, v) in rows {
            load.upsert(row(t, k, v)).unwrap();
        }
        let seq = load.finish().unwrap();
        assert_eq!(self.database().durable_seq(), seq);
        // One that the tree did not take at first leaves an empty delta behind.
        assert!((self.seq + 1..=self.seq + 2).contains(&seq));
        let before = self.state.clone();
        for &(k, v) in rows {
            self.state[t].insert(sort_key(&key(t, k)), row(t, k, v));
        }
        let state = std::mem::replace(&mut self.state, before);
        while self.seq + 1 < seq {
            self.advance(None, None);
        }
        self.advance(Some(state), None);
    }

    fn crash(&mut self, seed: u64) {
        // A process that dies loses nothing that the system has.
        let mut least_seq = self.seq;
        let mut crash = |io: &SimulatedIo, seed: u64, durable_seq: u64| {
            let style = match seed % 5 {
                0 => CrashStyle::LoseUnsynced,
                1 => CrashStyle::KeepUnsynced,
                2 => CrashStyle::PrefixUnsynced(seed),
                3 => CrashStyle::SubsetUnsynced(seed),
                _ => CrashStyle::TearUnsynced(seed),
            };
            let names = match seed / 5 % 3 {
                0 => NamesStyle::Kept,
                1 => NamesStyle::Ordered(seed),
                _ => NamesStyle::Any(seed),
            };
            if style != CrashStyle::KeepUnsynced {
                least_seq = durable_seq;
            }
            io.crash_image(style, names)
        };
        let durable_seq = self.database().durable_seq();
        let mut image = crash(&self.io, seed, durable_seq);
        // And again while it recovers.
        for round in 1..=seed / 15 % 3 {
            let process = image.of_process(2);
            process.kill_after(seed / 45 / round % 20);
            let ended = Database::open("/db", options(&process));
            drop(ended);
            image = crash(&image, seed / 900 / round, durable_seq);
        }
        self.io = image;
        self.open(least_seq);
    }

    fn export(&mut self, t: usize, outcome: Outcome, old: bool) {
        // Also from a held snapshot, older than the newest state, as an exporter does while writes go on.
        let held = self
            .held
            .iter()
            .find(|(snapshot, _)| old && snapshot.seq() >= self.exported[t]);
        let (snapshot, expected) = match held {
            Some((snapshot, state)) => (snapshot.clone(), state[t].clone()),
            None => (self.database().snapshot(), self.state[t].clone()),
        };
        let mut export = self
            .database()
            .begin_export(&self.tables[t], &snapshot)
            .unwrap();
        assert!(
            self.database()
                .begin_export(&self.tables[t], &snapshot)
                .is_err()
        );
        let batches = export.batches(None, 3).unwrap().map(Result::unwrap);
        let batches: Vec<RecordBatch> = batches.collect();
        let mut rows: Vec<Row> = batches
            .iter()
            .flat_map(|batch| rows_of(batch, &self.tables[t]))
            .collect();
        assert_eq!(export.row_count(), rows.len() as u64);
        let removed: Vec<Placement> = export.removed().iter().collect();
        let kept_ids = self.check_replaced(t, &export, &rows);
        self.export_count += 1;
        // Every second export's files have the rows the other way round.
        let is_reversed = self.export_count.is_multiple_of(2);
        let mut kept_in_files = kept_ids;
        if is_reversed {
            rows.reverse();
            let kept = kept_in_files.into_iter();
            kept_in_files = kept
                .map(|(row, id)| (rows.len() as u64 - 1 - row, id))
                .collect();
        }
        let commit_id = Uuid::from_u128(self.export_count);
        let files: Vec<(ExportFile, Vec<Row>)> = rows
            .chunks(4)
            .enumerate()
            .map(|(i, rows)| {
                let path = format!("{:04}-{i:04}", self.export_count);
                (
                    ExportFile {
                        path,
                        row_count: rows.len() as u64,
                    },
                    rows.to_vec(),
                )
            })
            .collect();
        if !matches!(outcome, Outcome::DropUnprepared) {
            let sizes: Vec<usize> = files.iter().map(|(_, rows)| rows.len()).collect();
            let keys = keys_of_files(&export, &batches, is_reversed, &kept_in_files, &sizes);
            let files = files.iter().map(|(file, _)| file.clone());
            // What no file says a row's id of needs no keys taken down.
            if is_reversed || !kept_in_files.is_empty() {
                export
                    .prepare_files(commit_id, files.zip(keys).collect())
                    .unwrap();
            } else {
                export
                    .prepare(commit_id, &files.collect::<Vec<_>>())
                    .unwrap();
            }
        }
        let committed = match outcome {
            Outcome::Commit => {
                export.commit(format!("token {commit_id}")).unwrap();
                self.take_empty_delta();
                true
            }
            Outcome::Abort => {
                export.abort().unwrap();
                self.take_empty_delta();
                false
            }
            Outcome::DropUnprepared => false,
            Outcome::Crash(committed) => {
                self.io = self.io.crash(CrashStyle::LoseUnsynced);
                drop(export);
                // What was prepared is synced, and so is all before it.
                self.open(self.seq);
                self.settle(commit_id, committed);
                committed
            }
            Outcome::DropPrepared(committed) => {
                drop(export);
                assert!(
                    self.database()
                        .begin_export(&self.tables[t], &snapshot)
                        .is_err()
                );
                self.settle(commit_id, committed);
                committed
            }
        };
        if committed {
            self.external[t].removed.extend(removed);
            let mut number = 0;
            for (file, rows) in files {
                let path: Arc<str> = file.path.into();
                self.external[t].place_ids(
                    &path,
                    rows.len(),
                    self.export_count,
                    number,
                    &kept_in_files,
                );
                number += rows.len() as u64;
                self.external[t].files.insert(path, rows);
            }
            self.exported[t] = snapshot.seq();
            let exported = self.database().exported(&self.tables[t]).unwrap();
            assert_eq!(
                (exported.seq, exported.token),
                (snapshot.seq(), format!("token {commit_id}"))
            );
            assert_eq!(
                sorted(self.external[t].live()),
                sorted(expected.into_values().collect())
            );
        }
    }

    /// Where locations filled a generation, a delta without rows was committed, so that it can be flushed.
    fn take_empty_delta(&mut self) {
        if self.database().snapshot().seq() > self.seq {
            self.advance(None, None);
        }
    }

    fn settle(&mut self, commit_id: Uuid, committed: bool) {
        let mut pending = self.database().pending_exports();
        assert_eq!(pending.len(), 1);
        let pending = pending.pop().unwrap();
        assert_eq!(pending.commit_id(), commit_id);
        if committed {
            pending.commit(format!("token {commit_id}")).unwrap();
        } else {
            pending.abort().unwrap();
        }
        assert!(self.database().pending_exports().is_empty());
        self.take_empty_delta();
    }

    fn check(&self) {
        let newest = self.database().snapshot();
        assert_eq!(newest.seq(), self.seq);
        // A flush in the background may make more durable meanwhile.
        let durable_before = self.database().durable_seq();
        let origin = self
            .database()
            .origin("model")
            .map(|origin| origin.position);
        let durable_seq = self.database().durable_seq();
        let durable = |seq: u64| origin == self.history[seq as usize].1;
        assert!(
            (durable_before..=durable_seq).any(durable),
            "{origin:?} of {durable_before} to {durable_seq}"
        );
        self.check_snapshot(&newest, &self.state);
        for (snapshot, state) in &self.held {
            self.check_snapshot(snapshot, state);
        }
        for t in 0..TABLE_COUNT {
            self.check_union(&newest, t);
        }
    }

    fn check_snapshot(&self, snapshot: &Snapshot, state: &State) {
        self.check_keyspace(snapshot, state);
        self.check_tables(snapshot, state, &self.tables);
    }

    fn check_tables(&self, snapshot: &Snapshot, state: &State, tables: &[Table]) {
        for (t, expected) in state.iter().enumerate() {
            let table = &tables[t];
            assert_eq!(snapshot.row_count(table).unwrap(), expected.len() as u64);
            let scan = |order| {
                let scan = Scan {
                    order,
                    batch_rows: 5,
                    ..Scan::default()
                };
                let batches = snapshot.scan(table, scan).unwrap();
                batches
                    .flat_map(|batch| rows_of(&batch.unwrap(), table))
                    .collect::<Vec<_>>()
            };
            let rows: Vec<Row> = expected.values().cloned().collect();
            assert_eq!(scan(ScanOrder::Ascending), rows);
            assert_eq!(
                scan(ScanOrder::Descending),
                rows.iter().rev().cloned().collect::<Vec<_>>()
            );
            assert_eq!(sorted(scan(ScanOrder::Unordered)), sorted(rows));
            for k in 0..20 {
                let expected = expected.get(&sort_key(&key(t, k)));
                assert_eq!(snapshot.get(table, &key(t, k)).unwrap().as_ref(), expected);
            }
            check_multi_get(snapshot, table, t, expected);
        }
    }

    /// The table of pairs, read as the keyspace that it is.
    fn check_keyspace(&self, snapshot: &Snapshot, state: &State) {
        let bytes = |value: &Value| match value {
            Value::Binary(bytes) => bytes.clone(),
            other => panic!("{other:?} is not binary"),
        };
        let expected = state[1].values();
        let expected = expected.map(|row| (bytes(&row[0]), bytes(&row[1])));
        let keys: Vec<_> = (0..20).map(|k| bytes(&key(1, k)[0])).collect();
        let keyspace = self.database().keyspace("pairs").unwrap();
        let reader = keyspace.at(snapshot).unwrap();
        crate::pairs::check(&reader, &expected.collect(), &keys);
    }

    /// The files of the last export, less what changed since, and the changes are the table.
    fn check_union(&self, snapshot: &Snapshot, t: usize) {
        let changes = self.database().changes(&self.tables[t], snapshot).unwrap();
        assert_eq!(changes.from_seq(), self.exported[t]);
        let external = &self.external[t];
        let removed = external
            .removed
            .iter()
            .cloned()
            .chain(changes.removed().iter())
            .collect();
        let mut rows = ExternalTable {
            files: external.files.clone(),
            removed,
            ..ExternalTable::default()
        }
        .live();
        rows.extend(
            changes
                .batches(None, 100)
                .unwrap()
                .flat_map(|batch| rows_of(&batch.unwrap(), &self.tables[t])),
        );
        assert_eq!(
            sorted(rows),
            sorted(self.state[t].values().cloned().collect())
        );
    }
}

/// Many keys at once find what single gets find.
fn check_multi_get(snapshot: &Snapshot, table: &Table, t: usize, expected: &BTreeMap<String, Row>) {
    let keys: Vec<_> = (0..20).map(|k| key(t, k)).collect();
    let found = keys.iter().map(|key| expected.get(&sort_key(key)).cloned());
    let found: Vec<Option<Row>> = found.collect();
    assert_eq!(snapshot.multi_get(table, &keys).unwrap(), found);
    let scan = Scan {
        projection: Some(table.schema().primary_key().to_vec()),
        order: ScanOrder::Descending,
        ..Scan::default()
    };
    for keys in snapshot.scan(table, scan).unwrap() {
        let found = snapshot
            .multi_get_batch(table, &keys.unwrap(), None)
            .unwrap();
        assert_eq!(found.places, (0..expected.len()).collect::<Vec<_>>());
        let rows: Vec<Row> = expected.values().rev().cloned().collect();
        assert_eq!(rows_of(&found.rows, table), rows);
    }
}

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by_key(|row| format!("{row:?}"));
    rows
}

proptest! {
    #[test]
    fn the_database_is_the_replay_of_its_transactions(
        shard_keys in 0..3_usize, steps in prop::collection::vec(any_step(), 1..40),
    ) {
        let mut harness = Harness::new(shard_keys);
        for step in &steps {
            harness.step(step);
        }
        harness.check_folder();
    }
}
