//! Group commit, with the log on the simulated disk.

use std::sync::{Arc, Mutex as Leaf};

use super::small::{join, open, start};
use crate::database::Database;
use crate::error::Error;
use crate::io::{CrashStyle, SimulatedIo};
use crate::queue::commit_queue::Durability;
use crate::schema::{ColumnType, TableSchema};
use crate::sync::thread;
use crate::table::Table;
use crate::transaction::Transaction;
use crate::value::Value;

const WRITERS: i64 = 3;
const COMMITS: i64 = 2;
const GENERATION_SIZE_BYTES: u64 = 1 << 16;

/// What was acknowledged: commit sequence, writer, number.
type Acknowledged = Arc<Leaf<Vec<(u64, i64, i64)>>>;

/// What was seen: at which sequence, and the rows of all writers.
type Observed = Arc<Leaf<Vec<(u64, Vec<i64>)>>>;

fn table(database: &Database, name: &str) -> Table {
    let schema = TableSchema::builder(name)
        .column("id", ColumnType::Int64, false)
        .column("number", ColumnType::Int64, false)
        .primary_key(["id"]);
    database.create_table(schema.build().unwrap()).unwrap()
}

/// A row of the same key and value in two tables.
fn transaction(database: &Database, tables: &[Table; 2], id: i64, number: i64) -> Transaction {
    let mut transaction = database.begin();
    for table in tables {
        let row = vec![Value::Int64(id), Value::Int64(number)];
        transaction.upsert(table, row).unwrap();
    }
    transaction
}

fn stored(database: &Database, table: &Table, id: i64) -> i64 {
    let row = database.snapshot().get(table, &[Value::Int64(id)]).unwrap();
    number_of(row)
}

fn number_of(row: Option<Vec<Value>>) -> i64 {
    match row.as_deref() {
        None => 0,
        Some([_, Value::Int64(number)]) => *number,
        other => panic!("{other:?}"),
    }
}

/// Threads that commit, and one that reads.
pub(super) fn group_commit() {
    let database = open(&SimulatedIo::new(1), GENERATION_SIZE_BYTES);
    let tables = [table(&database, "a"), table(&database, "b")];
    let first_seq = database.snapshot().seq() + 1;
    let acknowledged = Acknowledged::default();
    let mut threads = Vec::new();
    for id in 0..WRITERS {
        let (database, tables) = (database.clone(), tables.clone());
        let acknowledged = acknowledged.clone();
        threads.push(start(move || {
            for number in 1..=COMMITS {
                let mut transaction = transaction(&database, &tables, id, number);
                let is_buffered = (id + number) % 2 == 0;
                if is_buffered {
                    transaction.set_durability(Durability::Buffered);
                }
                let seq = transaction.commit().unwrap();
                assert!(database.snapshot().seq() >= seq, "not visible");
                assert!(is_buffered || database.durable_seq() >= seq, "not durable");
                acknowledged.lock().unwrap().push((seq, id, number));
            }
        }));
    }
    let observed = Observed::default();
    let (reading, of_reader, seen) = (database.clone(), tables.clone(), observed.clone());
    threads.push(start(move || {
        for _ in 0..3 {
            let snapshot = reading.snapshot();
            let read = |table: &Table| -> Vec<i64> {
                let get = |id| snapshot.get(table, &[Value::Int64(id)]).unwrap();
                (0..WRITERS).map(|id| number_of(get(id))).collect()
            };
            let (a, b) = (read(&of_reader[0]), read(&of_reader[1]));
            assert_eq!(a, b, "half of a transaction");
            seen.lock().unwrap().push((snapshot.seq(), a));
        }
    }));
    join(threads);
    let mut acknowledged = acknowledged.lock().unwrap().clone();
    acknowledged.sort_unstable();
    let seqs: Vec<u64> = acknowledged.iter().map(|(seq, ..)| *seq).collect();
    let expected: Vec<u64> = (first_seq..).take((WRITERS * COMMITS) as usize).collect();
    assert_eq!(seqs, expected, "each sequence is given out once");
    let mut last_seq = 0;
    for (seq, rows) in observed.lock().unwrap().iter() {
        assert!(*seq >= last_seq, "the visible sequence went back");
        last_seq = *seq;
        let mut replayed = vec![0; rows.len()];
        for &(_, id, number) in acknowledged.iter().filter(|(of, ..)| of <= seq) {
            replayed[id as usize] = number;
        }
        assert_eq!(rows, &replayed, "not the prefix up to {seq}");
    }
}

/// From some moment on no sync succeeds.
pub(super) fn failed_sync() {
    let disk = SimulatedIo::new(1);
    let database = open(&disk, GENERATION_SIZE_BYTES);
    let (mut threads, synced) = start_writers(&database, |_, transaction, id| {
        // One has its records written by the database's thread.
        match id {
            0 => transaction.submit().and_then(|handle| handle.wait()),
            _ => transaction.commit(),
        }
    });
    let failing = disk.clone();
    threads.push(start(move || failing.fail_syncs(true)));
    join(threads);
    drop(database);
    check_recovered(&disk, &synced);
}

/// For a moment no sync succeeds, of commits that several threads have synced later, each by itself.
pub(super) fn failed_later_sync() {
    let disk = SimulatedIo::new(1);
    let database = open(&disk, GENERATION_SIZE_BYTES);
    let (mut threads, synced) = start_writers(&database, |database, mut transaction, _| {
        transaction.set_durability(Durability::Buffered);
        let seq = transaction.commit()?;
        database.wait_durable(seq).map(|()| seq)
    });
    let failing = disk.clone();
    threads.push(start(move || {
        failing.fail_syncs(true);
        thread::yield_now();
        failing.fail_syncs(false);
    }));
    join(threads);
    // Closing may sync what is left, and must not be what saves it.
    let left = disk.crash(CrashStyle::LoseUnsynced);
    drop(database);
    check_recovered(&left, &synced);
}

/// Starts threads that commit and note what they were told is synced. Once one fails nothing is written any more.
fn start_writers(
    database: &Database,
    commit: fn(&Database, Transaction, i64) -> Result<u64, Error>,
) -> (Vec<thread::JoinHandle<()>>, Acknowledged) {
    let tables = [table(database, "a"), table(database, "b")];
    let synced = Acknowledged::default();
    let start_writer = |id| {
        let (database, tables) = (database.clone(), tables.clone());
        let synced = synced.clone();
        start(move || {
            for number in 1..=COMMITS {
                let transaction = transaction(&database, &tables, id, number);
                match commit(&database, transaction, id) {
                    Ok(seq) => synced.lock().unwrap().push((seq, id, number)),
                    Err(Error::Poisoned(_) | Error::Io { .. }) => {
                        assert!(is_poisoned(&database, &tables), "it writes on");
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        })
    };
    let threads = (0..WRITERS).map(start_writer).collect();
    (threads, synced)
}

/// After a power loss each writer's row is at least the last that was acknowledged as synced, in both tables.
fn check_recovered(disk: &SimulatedIo, synced: &Acknowledged) {
    let left = disk.crash(CrashStyle::LoseUnsynced);
    let database = open(&left, GENERATION_SIZE_BYTES);
    let [a, b] = ["a", "b"].map(|name| database.table(name).unwrap());
    let synced = synced.lock().unwrap();
    for id in 0..WRITERS {
        let least = synced.iter().filter(|(_, of, _)| *of == id).count() as i64;
        let (in_a, in_b) = (stored(&database, &a, id), stored(&database, &b, id));
        assert_eq!(in_a, in_b, "half of a transaction");
        assert!(in_a >= least, "an acknowledged commit is lost");
    }
}

/// Whether no commit succeeds any more.
fn is_poisoned(database: &Database, tables: &[Table; 2]) -> bool {
    let committed = transaction(database, tables, WRITERS, 1).commit();
    matches!(committed, Err(Error::Poisoned(_)))
}
