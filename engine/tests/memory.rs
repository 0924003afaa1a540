//! How much memory a database takes, counted by the allocator of this process.
//!
//! Defends *bounded*: memory stays under a stated limit.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

use moonshine_engine::{
    ColumnType, Database, Durability, ExportFile, Keyspace, Options, Pairs, Placement, Table,
    TableSchema, Value,
};
use parking_lot::Mutex;
use peak_alloc::PeakAlloc;

/// The allocator counts all tests of the process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const BUDGET_BYTES: u64 = 8 << 20;
/// What the process may take for each byte of the budget: the allocator counts what it hands out, the engine what it asks
/// for, and some small things, such as what is known of RowSets, aren't counted by the engine.
const FACTOR: f64 = 1.5;
const VALUE_SIZE_BYTES: usize = 200;
const BATCH_ROWS: u32 = 100;
const BATCHES: u32 = 3_000;
const KEYS: u32 = 120_000;

fn key(k: u32) -> [u8; 8] {
    u64::from(k.wrapping_mul(2_654_435_761)).to_be_bytes()
}

fn open(folder: &std::path::Path) -> (Database, Keyspace) {
    let options = Options {
        memory_budget_bytes: BUDGET_BYTES,
        ..Options::unmeasured()
    };
    let database = Database::open(folder, options).unwrap();
    let keyspace = database.keyspace("pairs").unwrap();
    (database, keyspace.with_durability(Durability::Buffered))
}

fn write_batch(keyspace: &Keyspace, batch: u32) {
    let mut writes = keyspace.batch();
    for row in 0..BATCH_ROWS {
        let k = (batch * BATCH_ROWS + row) % KEYS;
        writes
            .insert(key(k), [batch as u8; VALUE_SIZE_BYTES])
            .unwrap();
    }
    writes.commit().unwrap();
}

/// Seven times the budget is written beside gets, while snapshots, keyspaces at snapshots and scans that were begun stay
/// open, each from another moment; each still sees its own.
#[test]
fn memory_stays_near_the_budget_whatever_readers_hold() {
    let _alone = ONE_AT_A_TIME.lock();
    let folder = tempfile::tempdir().unwrap();
    let (database, keyspace) = open(folder.path());
    let before = PeakAlloc.current_usage();
    PeakAlloc.reset_peak_usage();
    let mut scans: Vec<(u8, Pairs)> = Vec::new();
    let mut readers = Vec::new();
    let mut snapshots = Vec::new();
    for batch in 0..BATCHES {
        write_batch(&keyspace, batch);
        for k in 0..20 {
            keyspace.get(key((batch * 31 + k * 997) % KEYS)).unwrap();
        }
        if batch % 60 == 59 {
            // The first key was written last by this batch or one a multiple of 1200 before.
            let mut scan = keyspace.iter();
            let (first, value) = scan.next().unwrap().unwrap();
            assert_eq!(&*first, key(0));
            scans.push((value[0], scan));
            readers.push((value[0], keyspace.snapshot()));
            snapshots.push(database.snapshot());
        }
        let memory = database.statistics().memory;
        // A generation is a sixth of the budget. Two are kept at most: the one whose flush has just ended, of which readers
        // are about to let go, and the one before, by a reader that was being made as the others let go.
        assert!(
            memory.kept_generation_bytes <= BUDGET_BYTES * 3 / 8,
            "{memory:?}"
        );
    }
    let used = (PeakAlloc.peak_usage() - before) as f64;
    println!(
        "peak {:.1} MiB for a budget of {:.1} MiB",
        used / f64::from(1 << 20),
        BUDGET_BYTES as f64 / f64::from(1 << 20)
    );
    for (value, reader) in &readers {
        assert_eq!(reader.get(key(0)).unwrap().unwrap()[0], *value);
    }
    for (_, scan) in scans.iter_mut().take(3) {
        let rest = scan.map(|pair| pair.unwrap().0.to_vec());
        let mut rest: Vec<_> = rest.collect();
        assert!(rest.is_sorted());
        rest.dedup();
        assert!(rest.len() > 5_000);
    }
    assert!(used <= FACTOR * BUDGET_BYTES as f64, "{used} bytes");
}

const LONG_KEYS: u32 = 300_000;
/// Files that an export of them writes side by side, batch by batch.
const FILES: usize = 3;
const BATCH: usize = 1024;

fn long_key(number: u32) -> Value {
    Value::Utf8(format!("{number:08}{:-<72}", ""))
}

/// Where an export of all of them, in the order of their keys, puts one.
fn place_of(export: u32, number: u32) -> Placement {
    let (batch, row) = (number as usize / BATCH, number as usize % BATCH);
    Placement {
        file: format!("data/{export}-{}.parquet", batch % FILES).into(),
        position: (batch / FILES * BATCH + row) as u64,
    }
}

fn table_of_long_keys(database: &Database) -> Table {
    let schema = TableSchema::builder("long_keys")
        .column("name", ColumnType::Utf8, false)
        .primary_key(["name"]);
    let table = database.create_table(schema.build().unwrap()).unwrap();
    load_long_keys(database, &table);
    table
}

fn load_long_keys(database: &Database, table: &Table) {
    let mut load = database.bulk_load(table).unwrap();
    for number in 0..LONG_KEYS {
        load.upsert(vec![long_key(number)]).unwrap();
    }
    load.finish().unwrap();
}

/// Exports what changed, and holds what that takes at most against the budget.
fn export_within_the_budget(database: &Database, table: &Table, number: u32, replaced_count: u64) {
    let before = PeakAlloc.current_usage();
    PeakAlloc.reset_peak_usage();
    let peak = || PeakAlloc.peak_usage() - before;
    let snapshot = database.snapshot();
    let mut export = database.begin_export(table, &snapshot).unwrap();
    let begun = peak();
    assert_eq!(export.replaced_count(), replaced_count);
    let mut keys: Vec<_> = (0..FILES).map(|_| export.file_keys()).collect();
    for (i, batch) in export.batches(None, BATCH).unwrap().enumerate() {
        let keys = keys.get_mut(i % FILES).unwrap();
        keys.add(&batch.unwrap(), None).unwrap();
    }
    let replaced = export.replaced().map(Result::unwrap);
    assert!((0..).zip(replaced).all(|(row, replaced)| {
        replaced.row == u64::from(row) && replaced.placement == place_of(number - 1, row)
    }));
    let files = keys.into_iter().enumerate().map(|(i, keys)| {
        let file = ExportFile {
            path: format!("data/{number}-{i}.parquet"),
            row_count: keys.row_count(),
        };
        (file, keys)
    });
    let files: Vec<_> = files.collect();
    let written = peak();
    let id = uuid::Uuid::from_u128(number.into());
    export.prepare_files(id, files).unwrap();
    let prepared = peak();
    export.commit(number.to_string()).unwrap();
    let committed = peak();
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    println!(
        "peak {:.1} MiB until begun, {:.1} MiB until written, {:.1} MiB until prepared, {:.1} MiB until committed, for {:.1} MiB of \
         keys and a budget of {:.1} MiB",
        mib(begun),
        mib(written),
        mib(prepared),
        mib(committed),
        mib(LONG_KEYS as usize * 84),
        mib(BUDGET_BYTES as usize)
    );
    // What was read of the table and its locations is in the cache.
    let most = FACTOR * BUDGET_BYTES as f64;
    assert!(committed as f64 <= most, "{committed} bytes");
}

/// Rows whose keys take three times the budget are exported, to files that are written side by side; then as many in their place;
/// then all are gone. What an export takes does not follow their number.
#[test]
fn exports_stay_within_the_budget() {
    let _alone = ONE_AT_A_TIME.lock();
    let folder = tempfile::tempdir().unwrap();
    let (database, _) = open(folder.path());
    let table = table_of_long_keys(&database);
    export_within_the_budget(&database, &table, 1, 0);
    load_long_keys(&database, &table);
    export_within_the_budget(&database, &table, 2, LONG_KEYS.into());
    // Each row lies where it was written.
    let numbers = [0, 1023, 1024, 150_000, LONG_KEYS - 1];
    let mut transaction = database.begin();
    for number in numbers {
        transaction.delete(&table, &[long_key(number)]).unwrap();
    }
    transaction.commit().unwrap();
    let mut expected = numbers.map(|number| place_of(2, number));
    expected.sort();
    let changes = database.changes(&table, &database.snapshot()).unwrap();
    assert!(changes.removed().iter().eq(expected));
    drop(changes);
    let mut transaction = database.begin();
    transaction.truncate(&table).unwrap();
    transaction.commit().unwrap();
    export_within_the_budget(&database, &table, 3, 0);
    let changes = database.changes(&table, &database.snapshot()).unwrap();
    assert!(changes.is_empty());
}

/// An export writes thousands of files, as to many partitions, each with more keys than are kept of a file that is being written.
#[test]
fn keys_of_many_files_stay_within_the_budget() {
    const ROWS_PER_FILE: usize = 300;
    let _alone = ONE_AT_A_TIME.lock();
    let folder = tempfile::tempdir().unwrap();
    let (database, _) = open(folder.path());
    let table = table_of_long_keys(&database);
    let before = PeakAlloc.current_usage();
    PeakAlloc.reset_peak_usage();
    let mut export = database.begin_export(&table, &database.snapshot()).unwrap();
    let mut files = Vec::new();
    for batch in export.batches(None, ROWS_PER_FILE).unwrap() {
        let mut keys = export.file_keys();
        keys.add(&batch.unwrap(), None).unwrap();
        keys.end().unwrap();
        let file = ExportFile {
            path: format!("data/{}.parquet", files.len()),
            row_count: keys.row_count(),
        };
        files.push((file, keys));
    }
    assert_eq!(files.len(), LONG_KEYS as usize / ROWS_PER_FILE);
    let id = uuid::Uuid::from_u128(1);
    export.prepare_files(id, files).unwrap();
    export.commit("1".into()).unwrap();
    let used = PeakAlloc.peak_usage() - before;
    println!("peak {:.1} MiB", used as f64 / f64::from(1 << 20));
    assert!(used as f64 <= FACTOR * BUDGET_BYTES as f64, "{used} bytes");
    // The last row of a file in the middle is where it was written.
    let mut transaction = database.begin();
    let number = ROWS_PER_FILE as u32 * 501 - 1;
    transaction.delete(&table, &[long_key(number)]).unwrap();
    transaction.commit().unwrap();
    let changes = database.changes(&table, &database.snapshot()).unwrap();
    let expected = Placement {
        file: "data/500.parquet".into(),
        position: ROWS_PER_FILE as u64 - 1,
    };
    assert!(changes.removed().iter().eq([expected]));
}
