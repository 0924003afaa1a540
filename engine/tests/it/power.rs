//! Crashes at any call of the disk, in recovery too, under every rule by which unsynced bytes and names are lost, and with
//! calls that fail.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use moonshine_engine::io::{
    CrashStyle, Fault, FaultPlan, FaultRule, FileKind, Lasts, NamesStyle, Operation, SimulatedIo,
};
use moonshine_engine::{
    ColumnType, Database, Durability, Error, Options, Scan, Table, TableSchema, Value,
};

use crate::reading::rows_of;

/// Rows that every transaction writes, and how long one lives that a single transaction wrote.
const COMMON_ROWS: i64 = 10;
const OWN_ROWS: i64 = 15;

/// Random numbers of a seed.
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

pub(crate) fn options(io: &SimulatedIo) -> Options {
    Options {
        io: Arc::new(io.clone()),
        segment_size_bytes_max: Some(4096),
        memory_budget_bytes: 40_000,
        generation_size_bytes_max: Some(6000),
        fragment_size_bytes_max: Some(4000),
        compaction_threads: Some(2),
        profile: moonshine_sysprobe::Profile::given(4096, 4).into(),
    }
}

pub(crate) fn table(database: &Database) -> Result<Table, Error> {
    let schema = TableSchema::builder("counts")
        .column("id", ColumnType::Int64, false)
        .column("count", ColumnType::Int64, false)
        .column("filling", ColumnType::Binary, false)
        .primary_key(["id"])
        .build()
        .unwrap();
    database.create_table(schema)
}

fn row(id: i64, n: i64) -> Vec<Value> {
    let filling = vec![n as u8; (n as usize * 7 + id as usize) % 150];
    vec![Value::Int64(id), Value::Int64(n), Value::Binary(filling)]
}

/// Transaction n replaces the common rows, adds a row of its own and removes an older one.
pub(crate) fn write(
    database: &Database,
    table: &Table,
    n: i64,
    durability: Durability,
) -> Result<u64, Error> {
    let mut transaction = database.begin();
    for id in 0..COMMON_ROWS {
        transaction.upsert(table, row(id, n))?;
    }
    transaction.upsert(table, row(100 + n, n))?;
    if n > OWN_ROWS {
        transaction.delete(table, &[Value::Int64(100 + n - OWN_ROWS)])?;
    }
    transaction.set_durability(durability);
    transaction.commit()
}

/// The same as a load, which removes nothing.
fn load(database: &Database, table: &Table, n: i64) -> Result<u64, Error> {
    let mut load = database.bulk_load(table)?;
    for id in (0..COMMON_ROWS).chain([100 + n]) {
        load.upsert(row(id, n))?;
    }
    load.finish()
}

/// The state after n transactions of which these were loads.
pub(crate) fn state(n: i64, loads: &BTreeSet<i64>) -> BTreeMap<i64, Vec<Value>> {
    let common = (0..COMMON_ROWS)
        .filter(|_| n > 0)
        .map(|id| (id, row(id, n)));
    let stays = |own: &i64| own + OWN_ROWS > n || loads.contains(&(own + OWN_ROWS));
    let own = (1..=n).filter(stays).map(|n| (100 + n, row(100 + n, n)));
    common.chain(own).collect()
}

/// How many transactions led to rows.
fn count_of(rows: &BTreeMap<i64, Vec<Value>>) -> i64 {
    match rows.get(&0).map(|row| row[1].clone()) {
        None => 0,
        Some(Value::Int64(n)) => n,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn read(database: &Database) -> Result<BTreeMap<i64, Vec<Value>>, Error> {
    let Some(table) = database.table("counts") else {
        return Ok(BTreeMap::new());
    };
    let mut found = BTreeMap::new();
    for batch in database.snapshot().scan(&table, Scan::default())? {
        for row in rows_of(&batch?, &table) {
            match row[0] {
                Value::Int64(id) => found.insert(id, row),
                ref other => panic!("{other:?}"),
            };
        }
    }
    Ok(found)
}

/// What a run of the database promised.
#[derive(Debug, Default)]
struct Promise {
    /// Transactions that are durable, that were shown, and that may be there.
    durable: i64,
    shown: i64,
    tried: i64,
    /// Those that are loads.
    loads: BTreeSet<i64>,
    /// Whether one was tried: they take two commit sequences at times, also in vain.
    has_loaded: bool,
}

/// One thing that a client does.
fn step(database: &Database, draw: &mut Draw, promise: &mut Promise) -> Result<(), Error> {
    let table = table(database)?;
    match draw.below(14) {
        0 => database.flush(),
        1 => database.compact(),
        2 => {
            database.sync()?;
            promise.durable = promise.shown;
            Ok(())
        }
        3 => {
            let found = read(database)?;
            let n = count_of(&found);
            // What failed last when writing ended may be there.
            assert!(
                (promise.shown..=promise.tried).contains(&n),
                "{n} of {promise:?}"
            );
            assert_eq!(found, state(n, &promise.loads));
            Ok(())
        }
        4 => {
            let n = promise.shown + 1;
            promise.has_loaded = true;
            let loaded = load(database, &table, n);
            // Once writing ended, what was tried last may be there, and nothing after it.
            if promise.tried < n && matches!(loaded, Ok(_) | Err(Error::Poisoned(_))) {
                promise.tried = n;
                promise.loads.insert(n);
            }
            loaded?;
            promise.shown = n;
            promise.durable = n;
            Ok(())
        }
        kind => {
            let durability = match kind < 10 {
                true => Durability::Buffered,
                false => Durability::Synced,
            };
            let n = promise.shown + 1;
            let written = write(database, &table, n, durability);
            if matches!(written, Ok(_) | Err(Error::Poisoned(_))) {
                promise.tried = n;
            }
            written?;
            promise.shown = n;
            if durability == Durability::Synced {
                promise.durable = promise.shown;
            }
            Ok(())
        }
    }
}

/// Whether it says what was done to the disk: calls of it failed, or reads of delta files came with flipped bits.
fn may_be(error: &Error) -> bool {
    match error {
        Error::Io { .. } | Error::Poisoned(_) | Error::NoSpace { .. } => true,
        Error::Corrupt { path, .. } => FileKind::of(path) == FileKind::Delta,
        _ => false,
    }
}

/// Writes, reads, flushes and compacts, and goes on for a while when something fails.
fn work(io: &SimulatedIo, draw: &mut Draw, promise: &mut Promise) {
    let Ok(database) = Database::open("/db", options(io)) else {
        return;
    };
    let mut failures = 0;
    for _ in 0..draw.below(60) {
        match step(&database, draw, promise) {
            Ok(()) => {}
            Err(error) if may_be(&error) => failures += 1,
            Err(error) => panic!("{error}"),
        }
        if failures > 4 {
            break;
        }
    }
    // What is told to be durable is a promise too.
    if !promise.has_loaded {
        let durable_seq = database.durable_seq() as i64;
        assert!(durable_seq <= promise.tried);
        promise.durable = promise.durable.max(durable_seq.min(promise.shown));
    }
}

fn crash(disk: &SimulatedIo, draw: &mut Draw) -> (SimulatedIo, bool) {
    let seed = draw.below(u64::MAX >> 34);
    let style = match draw.below(5) {
        0 => CrashStyle::LoseUnsynced,
        1 => CrashStyle::KeepUnsynced,
        2 => CrashStyle::PrefixUnsynced(seed),
        3 => CrashStyle::SubsetUnsynced(seed),
        _ => CrashStyle::TearUnsynced(seed),
    };
    let names = match draw.below(3) {
        0 => NamesStyle::Kept,
        1 => NamesStyle::Ordered(seed),
        _ => NamesStyle::Any(seed),
    };
    (
        disk.crash_image(style, names),
        style == CrashStyle::KeepUnsynced,
    )
}

/// *Durable*, *atomic*: the database is in a state that it promised.
fn check(disk: &SimulatedIo, promise: &mut Promise, killed_only: bool) {
    let database = Database::open("/db", options(disk)).unwrap();
    let found = read(&database).unwrap();
    let least = match killed_only {
        true => promise.shown,
        false => promise.durable,
    };
    let n = count_of(&found);
    assert!(
        (least..=promise.tried).contains(&n),
        "{n} of {promise:?}, killed {killed_only}"
    );
    assert!(
        found == state(n, &promise.loads),
        "{:?}, {promise:?}",
        found.keys()
    );
    drop(database);
    let check = Database::check("/db", &options(disk)).unwrap();
    assert_eq!(check.problems, []);
    promise.loads.retain(|load| *load <= n);
    (promise.durable, promise.shown, promise.tried) = (n, n, n);
}

/// Calls of some kinds that fail, each in its way.
fn faults(draw: &mut Draw) -> FaultPlan {
    const OPERATIONS: [Operation; 12] = [
        Operation::Read,
        Operation::Read,
        Operation::Write,
        Operation::Write,
        Operation::Sync,
        Operation::Sync,
        Operation::SetLen,
        Operation::Create,
        Operation::Open,
        Operation::Remove,
        Operation::PunchHole,
        Operation::SyncFolder,
    ];
    const FAULTS: [Fault; 7] = [
        Fault::Error,
        Fault::Error,
        Fault::Short,
        Fault::AfterArrival,
        Fault::LostLater,
        Fault::NoSpace,
        Fault::FlipRead,
    ];
    const FILES: [Option<FileKind>; 4] = [
        None,
        Some(FileKind::Log),
        Some(FileKind::Edits),
        Some(FileKind::Delta),
    ];
    const LASTS: [Lasts; 4] = [Lasts::Single, Lasts::Once, Lasts::File, Lasts::Forever];
    let mut pick = |count: usize| draw.below(count as u64) as usize;
    let rules = (0..1 + pick(4)).map(|_| {
        let fault = FAULTS[pick(FAULTS.len())];
        FaultRule {
            operation: OPERATIONS[pick(OPERATIONS.len())],
            // At the end of a log what is damaged can't be told from what was torn.
            files: match fault {
                Fault::FlipRead => Some(FileKind::Delta),
                _ => FILES[pick(FILES.len())],
            },
            fault,
            per_million: [10_000, 100_000, 1_000_000][pick(3)],
            lasts: LASTS[pick(LASTS.len())],
        }
    });
    FaultPlan {
        rules: rules.collect(),
        seed: pick(1000) as u64,
        shuffles_lists: pick(2) == 0,
        open_files_max: (pick(6) == 0).then(|| 6 + pick(30) as u64),
        capacity_bytes: (pick(8) == 0).then(|| 50_000 + pick(300_000) as u64),
        ..FaultPlan::default()
    }
}

/// Starts that come to no end: by a crash, or by calls that fail.
fn recover_in_vain(image: SimulatedIo, draw: &mut Draw, fails: bool) -> (SimulatedIo, bool) {
    let process = image.of_process(2);
    if fails && draw.below(2) == 0 {
        image.set_faults(faults(draw));
    } else {
        process.kill_after(draw.below(20));
    }
    match Database::open("/db", options(&process)) {
        Ok(_) => {}
        Err(error) => assert!(may_be(&error), "{error}"),
    }
    crash(&image, draw)
}

fn run(seed: u64, fails: bool) {
    let mut draw = Draw(seed);
    let mut disk = SimulatedIo::new(seed);
    let mut promise = Promise::default();
    for _ in 0..4 {
        let process = disk.of_process(1);
        if fails {
            disk.set_faults(faults(&mut draw));
        }
        if draw.below(4) > 0 {
            process.kill_after(draw.below(250));
        }
        work(&process, &mut draw, &mut promise);
        let (mut image, mut killed_only) = crash(&disk, &mut draw);
        for _ in 0..draw.below(4) {
            let (next, only) = recover_in_vain(image, &mut draw, fails);
            image = next;
            killed_only &= only;
        }
        // A failed sync may have lost what only the page cache had.
        check(&image, &mut promise, killed_only && !fails);
        disk = image;
    }
}

/// So many seeds; `MOONSHINE_TEST_SEED` names the first, and then ten times as many are tried.
fn run_seeds(count: u64, fails: bool) {
    let given = std::env::var("MOONSHINE_TEST_SEED");
    let (from, count) = match given {
        Ok(seed) => (seed.parse().unwrap(), count * 10),
        Err(_) => (0, count),
    };
    for seed in from..from + count {
        if let Err(panic) = std::panic::catch_unwind(|| run(seed, fails)) {
            eprintln!("MOONSHINE_TEST_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// *Atomic*: what a crash leaves of the creation of a database is a database, or nothing that is in the way of one.
#[test]
fn a_creation_that_was_cut_short_can_be_made_again() {
    for seed in 0..1500 {
        let mut draw = Draw(seed);
        let mut disk = SimulatedIo::new(seed);
        for _ in 0..2 {
            let process = disk.of_process(1);
            process.kill_after(draw.below(25));
            let _ended = Database::open("/db", options(&process));
            disk = crash(&disk, &mut draw).0;
        }
        let database = Database::open("/db", options(&disk));
        let database = database.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(database.snapshot().seq(), 0);
    }
}

/// *Durable*: also the folders above the database's that were made with it.
#[test]
fn folders_that_are_made_with_a_database_last_as_it_does() {
    let disk = SimulatedIo::new(1);
    let database = Database::open("/a/b/c/db", options(&disk)).unwrap();
    let counts = table(&database).unwrap();
    write(&database, &counts, 1, Durability::Synced).unwrap();
    database.backup("/d/e/copy").unwrap();
    for seed in 0..40 {
        let after = disk.crash_image(CrashStyle::LoseUnsynced, NamesStyle::Any(seed));
        for folder in ["/a/b/c/db", "/d/e/copy"] {
            let database = Database::open(folder, options(&after)).unwrap();
            assert_eq!(count_of(&read(&database).unwrap()), 1, "{folder}, {seed}");
        }
    }
}

/// *Durable*: what a start after the death of a process goes on in survives a power failure, with the name that it has.
#[test]
fn a_power_failure_after_a_kill_loses_nothing() {
    for calls in 0..60 {
        let disk = SimulatedIo::new(calls);
        let process = disk.of_process(1);
        process.kill_after(calls);
        let mut promise = Promise::default();
        let mut draw = Draw(calls);
        let database = Database::open("/db", options(&process));
        if let Ok(database) = database {
            for _ in 0..20 {
                let _refused = step(&database, &mut draw, &mut promise);
            }
        }
        let killed = disk.crash(CrashStyle::KeepUnsynced);
        let database = Database::open("/db", options(&killed)).unwrap();
        let n = count_of(&read(&database).unwrap());
        assert!((promise.shown..=promise.tried).contains(&n));
        promise.loads.retain(|load| *load <= n);
        let counts = table(&database).unwrap();
        write(&database, &counts, n + 1, Durability::Synced).unwrap();
        for seed in 0..12 {
            let style = CrashStyle::TearUnsynced(seed);
            let after = killed.crash_image(style, NamesStyle::Any(seed));
            let found = read(&Database::open("/db", options(&after)).unwrap()).unwrap();
            assert!(
                found == state(n + 1, &promise.loads),
                "{calls}: {:?}",
                found.keys()
            );
        }
    }
}

/// *Durable*, *atomic*: whatever the moment of the crash, and of the crashes of the starts after it.
#[test]
fn a_crash_at_any_call_leaves_what_was_promised() {
    run_seeds(100, false);
}

/// *Durable*, *honest*: whatever call fails, however, and whatever is tried after it, until the machine stops too.
#[test]
fn calls_that_fail_break_no_promise() {
    run_seeds(100, true);
}
