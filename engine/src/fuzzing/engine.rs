//! A database through a history, on a disk that fails and loses power, against a reference.

use std::sync::Arc;

use super::input::Input;
use super::noise;
use super::reference::{
    Pool, State, compare, encoded_key, is_in, is_same_state, key_of, may_be, read, same,
};
use super::values::small_schema;
use crate::database::Database;
use crate::error::{Error, Result};
use crate::io::{
    CrashStyle, Fault, FaultPlan, FaultRule, FileKind, Lasts, NamesStyle, Operation, SimulatedIo,
};
use crate::key_range::KeyRange;
use crate::options::Options;
use crate::queue::commit_queue::Durability;
use crate::schema::{ColumnType, TableSchema};
use crate::snapshot::Snapshot;
use crate::table::Table;
use crate::transaction::{Isolation, Transaction};

const STEPS_MAX: usize = 80;
const FOLDER: &str = "/db";

pub(super) fn seeds() -> Vec<Vec<u8>> {
    [noise(10, 300), noise(6, 1200)].concat()
}

fn options(disk: &SimulatedIo) -> Options {
    Options {
        io: Arc::new(disk.clone()),
        segment_size_bytes_max: Some(2048),
        memory_budget_bytes: 40_000,
        generation_size_bytes_max: Some(1500),
        fragment_size_bytes_max: Some(1000),
        compaction_threads: Some(1),
        profile: moonshine_sysprobe::Profile::given(4096, 4).into(),
    }
}

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut world = World::new(&mut input);
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        match world.step(&mut input) {
            Ok(()) => {}
            Err(error) if world.is_faulty && may_be(&error) => {
                say(|| format!("{error}"));
                // Whether what it was about is there is known again after the next start.
                if world.is_unsure() || matches!(error, Error::Poisoned(_)) {
                    world.reopen(&mut input);
                }
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    world.crash(&mut input);
    let check = Database::check(FOLDER, &options(&world.disk)).unwrap();
    assert_eq!(check.problems, []);
}

struct World {
    disk: SimulatedIo,
    open: Option<(Database, Vec<Table>)>,
    schemas: Vec<TableSchema>,
    pools: Vec<Pool>,
    /// What the database held after each transaction since the last start. The last one of them is what it shows, unless it is
    /// only tried.
    states: Vec<State>,
    shown: usize,
    seq: u64,
    durable: usize,
    held: Vec<(Snapshot, State)>,
    is_faulty: bool,
}

impl World {
    fn new(input: &mut Input<'_>) -> Self {
        let pairs = TableSchema::builder("pairs")
            .column("key", ColumnType::Binary, false)
            .column("value", ColumnType::Binary, false)
            .primary_key(["key"])
            .build()
            .unwrap();
        let mut world = World {
            disk: SimulatedIo::new(1),
            open: None,
            schemas: vec![small_schema(input), pairs],
            pools: vec![Pool::default(), Pool::default()],
            states: vec![vec![Default::default(); 2]],
            shown: 0,
            seq: 0,
            durable: 0,
            held: Vec::new(),
            is_faulty: false,
        };
        let database = Database::open(FOLDER, options(&world.disk)).unwrap();
        let tables = world.schemas.iter().cloned();
        let tables = tables.map(|schema| database.create_table(schema).unwrap());
        world.open = Some((database.clone(), tables.collect()));
        world
    }

    fn database(&self) -> (Database, Vec<Table>) {
        self.open.clone().expect("it is open between steps")
    }

    /// Whether it is not known if the last transaction took effect.
    fn is_unsure(&self) -> bool {
        self.states.len() > self.shown + 1
    }

    fn step(&mut self, input: &mut Input<'_>) -> Result<()> {
        let kind = input.below(20);
        say(|| {
            format!(
                "step {kind}: {} states, {} shown, {} durable",
                self.states.len(),
                self.shown,
                self.durable
            )
        });
        match kind {
            0..6 => self.transaction(input),
            6 => self.optimistic(input),
            7 => self.load(input),
            8 | 9 => self.database().0.flush(),
            10 => self.database().0.compact(),
            11 => {
                self.database().0.sync()?;
                self.durable = self.shown;
                Ok(())
            }
            12 => {
                let snapshot = self.database().0.snapshot();
                self.held.push((snapshot, self.states[self.shown].clone()));
                Ok(())
            }
            13 => {
                let at = input.place(self.held.len());
                if at < self.held.len() {
                    self.held.swap_remove(at);
                }
                Ok(())
            }
            14 | 15 => self.look(input),
            16 => {
                self.reopen(input);
                Ok(())
            }
            17 => {
                self.crash(input);
                Ok(())
            }
            18 => {
                self.is_faulty = true;
                self.disk.set_faults(faults(input));
                Ok(())
            }
            _ => {
                self.is_faulty = true;
                self.disk.kill_after(input.u8().into());
                Ok(())
            }
        }
    }

    /// What the state becomes if it is committed.
    fn writes(
        &mut self,
        transaction: &mut Transaction,
        tables: &[Table],
        input: &mut Input<'_>,
    ) -> Result<State> {
        let mut state = self.states[self.shown].clone();
        for _ in 0..1 + input.below(8) {
            let t = input.below(2);
            let (schema, table) = (&self.schemas[t], &tables[t]);
            match input.below(12) {
                0..8 => {
                    let row = self.pools[t].row(schema, input);
                    state[t].insert(encoded_key(schema, &key_of(schema, &row)), row.clone());
                    transaction.upsert(table, row)?;
                }
                8 | 9 => {
                    let key = self.pools[t].key(schema, input);
                    state[t].remove(&encoded_key(schema, &key));
                    transaction.delete(table, &key)?;
                }
                10 => {
                    let bounds = self.pools[t].bounds(schema, input);
                    let range = KeyRange::new(schema, &bounds).unwrap();
                    state[t].retain(|key, _| !is_in(&range, key));
                    transaction.delete_range(table, &bounds)?;
                }
                _ => {
                    state[t].clear();
                    transaction.truncate(table)?;
                }
            }
        }
        Ok(state)
    }

    fn transaction(&mut self, input: &mut Input<'_>) -> Result<()> {
        let (database, tables) = self.database();
        let mut transaction = database.begin();
        let state = self.writes(&mut transaction, &tables, input)?;
        let is_synced = input.bool();
        if !is_synced {
            transaction.set_durability(Durability::Buffered);
        }
        let committed = transaction.commit();
        self.took(state, committed, is_synced)
    }

    /// An optimistic transaction sees what it wrote itself, and nobody comes in between.
    fn optimistic(&mut self, input: &mut Input<'_>) -> Result<()> {
        let (database, tables) = self.database();
        let isolation = [Isolation::Snapshot, Isolation::Serializable][input.below(2)];
        let mut transaction = database.begin_optimistic(isolation);
        let state = self.writes(&mut transaction, &tables, input)?;
        for _ in 0..input.below(4) {
            let t = input.below(2);
            let key = self.pools[t].key(&self.schemas[t], input);
            let found = transaction.get(&tables[t], &key)?;
            let expected = state[t].get(&encoded_key(&self.schemas[t], &key));
            assert!(
                same(found.as_ref(), expected),
                "{key:?}: {found:?}, not {expected:?}"
            );
        }
        let committed = transaction.commit();
        self.took(state, committed, true)
    }

    fn load(&mut self, input: &mut Input<'_>) -> Result<()> {
        let (database, tables) = self.database();
        let mut state = self.states[self.shown].clone();
        let t = input.below(2);
        let mut load = database.bulk_load(&tables[t])?;
        for _ in 0..input.below(30) {
            let row = self.pools[t].row(&self.schemas[t], input);
            let key = encoded_key(&self.schemas[t], &key_of(&self.schemas[t], &row));
            state[t].insert(key, row.clone());
            load.upsert(row)?;
        }
        let committed = load.finish();
        self.took(state, committed, true)
    }

    /// Notes what became of a commit. One that is refused for want of space never takes effect; one that failed otherwise may.
    fn took(&mut self, state: State, committed: Result<u64>, is_synced: bool) -> Result<()> {
        say(|| format!("committed: {committed:?}, synced {is_synced}"));
        match committed {
            Ok(seq) => {
                self.states.push(state);
                self.shown += 1;
                // What wrote nothing is no commit, and makes none durable.
                let is_commit = seq > std::mem::replace(&mut self.seq, seq);
                if is_synced && is_commit {
                    self.durable = self.shown;
                }
                Ok(())
            }
            Err(error) => {
                if !matches!(error, Error::NoSpace { .. }) {
                    self.states.push(state);
                }
                Err(error)
            }
        }
    }

    fn look(&mut self, input: &mut Input<'_>) -> Result<()> {
        let (database, tables) = self.database();
        let current = [(database.snapshot(), self.states[self.shown].clone())];
        for (snapshot, state) in self.held.iter().chain(&current) {
            let t = input.below(2);
            compare(snapshot, &tables[t], &state[t], &self.pools[t], input)?;
        }
        Ok(())
    }

    fn close(&mut self) {
        self.held.clear();
        self.open = None;
    }

    fn reopen(&mut self, input: &mut Input<'_>) {
        if self.disk.is_dead() || self.is_faulty {
            return self.crash(input);
        }
        self.close();
        self.start(self.shown);
    }

    /// Power is lost, or the process dies alone; starts may fail before one comes through.
    fn crash(&mut self, input: &mut Input<'_>) {
        let (mut image, mut is_kept) = self.image(input);
        self.close();
        for _ in 0..input.below(3) {
            let process = image.of_process(2);
            process.set_faults(faults(input));
            process.kill_after(input.u8().into());
            let opened = Database::open(FOLDER, options(&process));
            if let Err(error) = &opened {
                assert!(may_be(error), "{error:?}");
            }
            self.disk = process;
            let (after, is_kept_again) = self.image(input);
            drop(opened);
            is_kept &= is_kept_again;
            image = after;
        }
        self.disk = image.of_process(3);
        self.start(if is_kept { self.shown } else { self.durable });
    }

    fn image(&self, input: &mut Input<'_>) -> (SimulatedIo, bool) {
        let seed = input.u16().into();
        let style = match input.below(5) {
            0 => CrashStyle::LoseUnsynced,
            1 => CrashStyle::KeepUnsynced,
            2 => CrashStyle::PrefixUnsynced(seed),
            3 => CrashStyle::SubsetUnsynced(seed),
            _ => CrashStyle::TearUnsynced(seed),
        };
        let names = match input.below(3) {
            0 => NamesStyle::Kept,
            1 => NamesStyle::Ordered(seed),
            _ => NamesStyle::Any(seed),
        };
        say(|| format!("crash: {style:?}, {names:?}"));
        let image = self.disk.crash_image(style, names);
        (image, style == CrashStyle::KeepUnsynced)
    }

    /// Starts, and finds a state that was reached, none before `least`.
    fn start(&mut self, least: usize) {
        self.is_faulty = false;
        let database = Database::open(FOLDER, options(&self.disk)).unwrap();
        let tables: Vec<Table> = self
            .schemas
            .iter()
            .map(|schema| database.table(schema.name()).unwrap())
            .collect();
        let snapshot = database.snapshot();
        let found: State = tables
            .iter()
            .map(|table| read(&snapshot, table).unwrap())
            .collect();
        let possible = &self.states[least..];
        assert!(
            possible.iter().any(|state| is_same_state(state, &found)),
            "{found:?} is none of {possible:?}"
        );
        self.states = vec![found];
        (self.shown, self.durable) = (0, 0);
        self.seq = snapshot.seq();
        drop(snapshot);
        self.open = Some((database, tables));
    }
}

/// Tells what goes on where `MOONSHINE_FUZZ_LOUD` is set: for who repeats a failure.
fn say(what: impl FnOnce() -> String) {
    static IS_LOUD: std::sync::LazyLock<bool> =
        std::sync::LazyLock::new(|| std::env::var_os("MOONSHINE_FUZZ_LOUD").is_some());
    if *IS_LOUD {
        eprintln!("{}", what());
    }
}

/// Calls of some kinds that fail, each in its way.
fn faults(input: &mut Input<'_>) -> FaultPlan {
    const OPERATIONS: [Operation; 10] = [
        Operation::Write,
        Operation::Sync,
        Operation::Read,
        Operation::SetLen,
        Operation::Create,
        Operation::Open,
        Operation::Remove,
        Operation::Rename,
        Operation::PunchHole,
        Operation::SyncFolder,
    ];
    const FAULTS: [Fault; 6] = [
        Fault::Error,
        Fault::NoSpace,
        Fault::Short,
        Fault::AfterArrival,
        Fault::LostLater,
        Fault::FlipRead,
    ];
    const FILES: [Option<FileKind>; 4] = [
        None,
        Some(FileKind::Log),
        Some(FileKind::Edits),
        Some(FileKind::Delta),
    ];
    const LASTS: [Lasts; 4] = [Lasts::Single, Lasts::Once, Lasts::File, Lasts::Forever];
    let rules = (0..input.below(4)).map(|_| {
        let fault = FAULTS[input.below(FAULTS.len())];
        FaultRule {
            operation: OPERATIONS[input.below(OPERATIONS.len())],
            // At the end of a log what is damaged can't be told from what was torn.
            files: match fault {
                Fault::FlipRead => Some(FileKind::Delta),
                _ => FILES[input.below(4)],
            },
            fault,
            per_million: [10_000, 100_000, 1_000_000][input.below(3)],
            lasts: LASTS[input.below(4)],
        }
    });
    let plan = FaultPlan {
        rules: rules.collect(),
        seed: input.u8().into(),
        capacity_bytes: (input.below(8) == 0).then(|| 40_000 + 4096 * u64::from(input.u8())),
        ..FaultPlan::default()
    };
    say(|| format!("{plan:?}"));
    plan
}
