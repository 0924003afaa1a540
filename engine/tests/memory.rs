//! How much memory a database takes, counted by the allocator of this process.
//!
//! Defends *bounded*: memory stays under a stated limit.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

use moonshine_engine::{
    ColumnType, Database, Durability, ExportFile, Keyspace, Options, Pairs, TableSchema, Value,
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

/// Rows whose keys take three times the budget are exported, to files that are written side by side. What they take until they
/// are prepared does not follow their number.
#[test]
fn keys_of_an_export_stay_within_the_budget() {
    const ROWS: u32 = 300_000;
    const FILES: usize = 3;
    const BATCH: usize = 1024;
    let _alone = ONE_AT_A_TIME.lock();
    let folder = tempfile::tempdir().unwrap();
    let (database, _) = open(folder.path());
    let schema = TableSchema::builder("long_keys")
        .column("name", ColumnType::Utf8, false)
        .primary_key(["name"]);
    let table = database.create_table(schema.build().unwrap()).unwrap();
    let mut load = database.bulk_load(&table).unwrap();
    for number in 0..ROWS {
        let name = format!("{number:080}");
        load.upsert(vec![Value::Utf8(name)]).unwrap();
    }
    load.finish().unwrap();
    let before = PeakAlloc.current_usage();
    PeakAlloc.reset_peak_usage();
    let snapshot = database.snapshot();
    let mut export = database.begin_export(&table, &snapshot).unwrap();
    let mut keys: Vec<_> = (0..FILES).map(|_| export.file_keys()).collect();
    for (i, batch) in export.batches(None, BATCH).unwrap().enumerate() {
        keys[i % FILES].add(&batch.unwrap(), None).unwrap();
    }
    let paths = (0..FILES).map(|i| format!("data/{i}.parquet"));
    let files = paths.zip(&keys).map(|(path, keys)| ExportFile {
        path,
        row_count: keys.row_count(),
    });
    let files: Vec<_> = files.collect();
    let files = files.into_iter().zip(keys).collect();
    let written = PeakAlloc.peak_usage() - before;
    export
        .prepare_files(uuid::Uuid::from_u128(1), files)
        .unwrap();
    let prepared = PeakAlloc.peak_usage() - before;
    export.commit("1".into()).unwrap();
    let committed = PeakAlloc.peak_usage() - before;
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    println!(
        "peak {:.1} MiB until written, {:.1} MiB until prepared, {:.1} MiB until committed, for {:.1} MiB of keys and a budget of \
         {:.1} MiB",
        mib(written),
        mib(prepared),
        mib(committed),
        mib(ROWS as usize * 84),
        mib(BUDGET_BYTES as usize)
    );
    assert!(committed as u64 <= BUDGET_BYTES, "{committed} bytes");
    // Each row lies where it was written.
    let numbers = [0, 1023, 1024, 150_000, ROWS - 1];
    let mut transaction = database.begin();
    for number in numbers {
        let name = Value::Utf8(format!("{number:080}"));
        transaction.delete(&table, &[name]).unwrap();
    }
    transaction.commit().unwrap();
    let place = |number: u32| {
        let (batch, row) = (number as usize / BATCH, number as usize % BATCH);
        let position = (batch / FILES * BATCH + row) as u64;
        (format!("data/{}.parquet", batch % FILES), position)
    };
    let mut expected = numbers.map(place);
    expected.sort();
    let changes = database.changes(&table, &database.snapshot()).unwrap();
    let removed = changes.removed().iter();
    let removed: Vec<_> = removed
        .map(|row| (row.file.to_string(), row.position))
        .collect();
    assert_eq!(removed, expected);
}
