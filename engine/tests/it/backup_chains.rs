//! Backups one after the other beside writes, flushes and compactions, and what is restored from them.
//!
//! Defends *durable* and *atomic* for copies: each is the database as of its commit sequence, for as long as it is kept, whatever
//! becomes of the original; and *bounded*: no delta file is copied that the file system can share.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use moonshine_engine::io::SimulatedIo;
use moonshine_engine::{ColumnType, Database, Options, Scan, Table, TableSchema, Value};
use proptest::prelude::*;

use crate::reading::rows_of;

type State = BTreeMap<i64, i64>;

#[derive(Clone, Debug)]
enum Step {
    /// So many keys from one on get a number.
    Write(i64, i64, i64),
    Delete(i64, i64),
    Truncate,
    Flush,
    Compact,
    Reopen,
    Backup,
    /// A copy of a backup, which must not share anything with it, and is written to.
    Restore(usize),
    /// A backup goes.
    Drop(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..200_i64, 1..80_i64, any::<i64>()).prop_map(|(first, count, number)| Step::Write(first, count, number)),
        2 => (0..200_i64, 1..40_i64).prop_map(|(first, count)| Step::Delete(first, count)),
        1 => Just(Step::Truncate),
        3 => Just(Step::Flush),
        2 => Just(Step::Compact),
        1 => Just(Step::Reopen),
        4 => Just(Step::Backup),
        2 => any::<usize>().prop_map(Step::Restore),
        1 => any::<usize>().prop_map(Step::Drop),
    ]
}

fn options(io: &SimulatedIo) -> Options {
    Options {
        io: Arc::new(io.clone()),
        segment_size_bytes_max: Some(4096),
        generation_size_bytes_max: Some(8192),
        fragment_size_bytes_max: Some(4096),
        ..Options::unmeasured()
    }
}

fn table(database: &Database) -> Table {
    let schema = TableSchema::builder("counts")
        .column("id", ColumnType::Int64, false)
        .column("number", ColumnType::Int64, false)
        .primary_key(["id"]);
    database.create_table(schema.build().unwrap()).unwrap()
}

fn state_of(database: &Database) -> State {
    let table = table(database);
    let batches = database.snapshot().scan(&table, Scan::default()).unwrap();
    let rows = batches.flat_map(|batch| rows_of(&batch.unwrap(), &table));
    let pair = |row: Vec<Value>| match row[..] {
        [Value::Int64(id), Value::Int64(number)] => (id, number),
        _ => panic!("{row:?}"),
    };
    rows.map(pair).collect()
}

/// Delta files in a folder of the simulated disk.
fn delta_files(io: &SimulatedIo, folder: &str) -> usize {
    let files = io.files().into_iter().map(|(path, _)| path);
    let is_delta = |path: &Path| path.extension().is_some_and(|ending| ending == "mdelta");
    files
        .filter(|path| path.starts_with(folder) && is_delta(path))
        .count()
}

struct Harness {
    io: SimulatedIo,
    database: Option<Database>,
    state: State,
    /// The folder of each backup that is kept, its commit sequence, and what it holds.
    kept: Vec<(String, u64, State)>,
    folders: usize,
}

impl Harness {
    fn new() -> Self {
        let io = SimulatedIo::new(3);
        let database = Database::open("/db", options(&io)).unwrap();
        table(&database);
        Harness {
            io,
            database: Some(database),
            state: State::new(),
            kept: Vec::new(),
            folders: 0,
        }
    }

    fn folder(&mut self) -> String {
        self.folders += 1;
        format!("/copy-{}", self.folders)
    }

    fn step(&mut self, step: &Step) {
        let database = self.database.clone().unwrap();
        let rows = table(&database);
        let mut transaction = database.begin();
        match *step {
            Step::Write(first, count, number) => {
                for id in first..first + count {
                    let row = vec![Value::Int64(id), Value::Int64(number)];
                    transaction.upsert(&rows, row).unwrap();
                    self.state.insert(id, number);
                }
                transaction.commit().unwrap();
            }
            Step::Delete(first, count) => {
                for id in first..first + count {
                    transaction.delete(&rows, &[Value::Int64(id)]).unwrap();
                    self.state.remove(&id);
                }
                transaction.commit().unwrap();
            }
            Step::Truncate => {
                transaction.truncate(&rows).unwrap();
                transaction.commit().unwrap();
                self.state.clear();
            }
            Step::Flush => database.flush().unwrap(),
            Step::Compact => database.compact().unwrap(),
            Step::Reopen => {
                drop((transaction, rows, database));
                self.database = None;
                self.database = Some(Database::open("/db", options(&self.io)).unwrap());
            }
            Step::Backup => self.back_up(&database),
            Step::Restore(which) if !self.kept.is_empty() => self.restore(which % self.kept.len()),
            Step::Drop(which) if !self.kept.is_empty() => {
                let (folder, ..) = self.kept.swap_remove(which % self.kept.len());
                let files = self.io.files().into_iter().map(|(path, _)| path);
                for path in files.filter(|path| path.starts_with(&folder)) {
                    moonshine_engine::io::Io::remove(&self.io, &path).unwrap();
                }
            }
            Step::Restore(_) | Step::Drop(_) => {}
        }
    }

    fn back_up(&mut self, database: &Database) {
        let folder = self.folder();
        let seq = database.snapshot().seq();
        let made = database.backup(&folder).unwrap();
        assert_eq!(made.commit_seq, seq);
        let deltas = delta_files(&self.io, &folder);
        assert_eq!(made.linked_files, deltas, "a delta file was copied");
        self.kept.push((folder, seq, self.state.clone()));
    }

    /// The copy is what the backup is, by itself: what is written to it stays there.
    fn restore(&mut self, which: usize) {
        let to = self.folder();
        let (folder, seq, state) = self.kept[which].clone();
        let made = Database::restore(&folder, &to, &options(&self.io)).unwrap();
        assert_eq!((made.commit_seq, made.linked_files), (seq, 0));
        let copy = Database::open(&to, options(&self.io)).unwrap();
        assert_eq!(state_of(&copy), state);
        let rows = table(&copy);
        let mut transaction = copy.begin();
        transaction.truncate(&rows).unwrap();
        transaction.commit().unwrap();
        copy.flush().unwrap();
        copy.compact().unwrap();
    }

    fn check(&self) {
        for (folder, seq, state) in &self.kept {
            let copy = Database::open_read_only(folder, options(&self.io)).unwrap();
            assert_eq!(copy.snapshot().seq(), *seq);
            assert_eq!(&state_of(&copy), state, "{folder}");
            let checked = Database::check(folder, &options(&self.io)).unwrap();
            assert_eq!(checked.problems, []);
        }
        assert_eq!(state_of(self.database.as_ref().unwrap()), self.state);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn each_backup_stays_what_it_was(steps in prop::collection::vec(any_step(), 1..30)) {
        let mut harness = Harness::new();
        for step in &steps {
            harness.step(step);
        }
        harness.check();
    }
}
