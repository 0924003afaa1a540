//! Commits of many threads in every way there is: none is lost or left waiting, whoever writes it.

use std::path::Path;
use std::sync::Arc;

use moonshine_engine::io::{CrashStyle, SimulatedIo};
use moonshine_engine::{
    ColumnType, Database, Durability, Error, Options, Origin, Table, TableSchema, Transaction,
    Value,
};

use crate::wait_until;

const THREADS: i64 = 8;
const COMMITS: i64 = 400;

/// A database with a table of numbers.
pub(crate) fn open(io: &SimulatedIo) -> (Database, Table) {
    let options = Options {
        io: Arc::new(io.clone()),
        ..Options::unmeasured()
    };
    let database = Database::open(Path::new("/db"), options).unwrap();
    let schema = TableSchema::builder("rows")
        .column("id", ColumnType::Int64, false)
        .primary_key(["id"])
        .build()
        .unwrap();
    let table = database.create_table(schema).unwrap();
    (database, table)
}

fn insert(database: &Database, table: &Table, id: i64) -> Transaction {
    let mut transaction = database.begin();
    transaction.upsert(table, vec![Value::Int64(id)]).unwrap();
    transaction
}

/// Commits by one thread: waited for, buffered, submitted and waited for later, or never waited for.
fn commit_in_turn(database: &Database, table: &Table, thread: i64) {
    let mut later = Vec::new();
    for i in 0..COMMITS {
        let mut transaction = insert(database, table, thread * COMMITS + i);
        match (i + thread) % 5 {
            0 => {
                let seq = transaction.commit().unwrap();
                assert!(database.durable_seq() >= seq);
            }
            1 | 2 => {
                transaction.set_durability(Durability::Buffered);
                let seq = transaction.commit().unwrap();
                let key = [Value::Int64(thread * COMMITS + i)];
                let row = database.snapshot().get(table, &key).unwrap();
                assert!(row.is_some(), "commit {seq} is not seen by who made it");
            }
            3 => later.push(transaction.submit().unwrap()),
            _ => drop(transaction.submit().unwrap()),
        }
        if later.len() == 7 {
            for handle in later.drain(..) {
                handle.wait().unwrap();
            }
        }
    }
}

/// *Durable*, *ordered*: also where threads come and go while one of them writes for the others.
#[test]
fn commits_of_many_threads_all_arrive() {
    let io = SimulatedIo::new(3);
    let (database, table) = open(&io);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (database, table) = (&database, &table);
            scope.spawn(move || commit_in_turn(database, table, thread));
        }
    });
    let total = (THREADS * COMMITS) as u64;
    database.wait_durable(total).unwrap();
    assert_eq!(database.durable_seq(), total);
    assert_eq!(database.snapshot().row_count(&table).unwrap(), total);
    let (recovered, table) = open(&io.crash(CrashStyle::LoseUnsynced));
    assert_eq!(recovered.snapshot().row_count(&table).unwrap(), total);
}

/// *Durable*: what only the system had is lost with the machine, and nothing before the last sync is.
#[test]
fn buffered_commits_last_from_the_next_sync_on() {
    let io = SimulatedIo::new(4);
    let (database, table) = open(&io);
    let buffered = |id| {
        let mut transaction = insert(&database, &table, id);
        transaction.set_durability(Durability::Buffered);
        transaction.commit().unwrap()
    };
    let after_power_loss = || rows_after(&io, CrashStyle::LoseUnsynced);
    let first = buffered(1);
    assert!(database.durable_seq() < first);
    assert_eq!(after_power_loss(), 0);
    database.sync().unwrap();
    assert_eq!(database.durable_seq(), first);
    assert_eq!(after_power_loss(), 1);
    let second = buffered(2);
    database.wait_durable(second).unwrap();
    assert_eq!(after_power_loss(), 2);
    buffered(3);
    insert(&database, &table, 4).commit().unwrap();
    assert_eq!(after_power_loss(), 4);
    buffered(5);
    assert_eq!(rows_after(&io, CrashStyle::KeepUnsynced), 5);
    assert_eq!(after_power_loss(), 4);
    drop(database);
    assert_eq!(after_power_loss(), 5, "closing syncs");
}

fn rows_after(io: &SimulatedIo, style: CrashStyle) -> u64 {
    let (recovered, table) = open(&io.crash(style));
    recovered.snapshot().row_count(&table).unwrap()
}

/// A failed sync ends writing, and says so to everybody who waits.
#[test]
fn a_failed_sync_stops_every_way_to_commit() {
    let io = SimulatedIo::new(5);
    let (database, table) = open(&io);
    insert(&database, &table, 1).commit().unwrap();
    io.fail_syncs(true);
    let mut buffered = insert(&database, &table, 2);
    buffered.set_durability(Durability::Buffered);
    buffered.commit().unwrap();
    assert!(database.sync().is_err());
    assert!(insert(&database, &table, 3).commit().is_err());
    assert!(insert(&database, &table, 4).submit().is_err());
    assert_eq!(database.snapshot().row_count(&table).unwrap(), 2);
}

/// A thread that wrote its own commit goes on for others; what becomes of theirs is not said of its own.
#[test]
fn who_leads_hears_of_its_own_commit_alone() {
    let io = SimulatedIo::new(6);
    let (database, table) = open(&io);
    let blocks = || database.statistics().log.block_records.count;
    let blocks_before = blocks();
    io.hold_writes(Some(".mlog"));
    std::thread::scope(|scope| {
        let first = scope.spawn(|| {
            let mut transaction = insert(&database, &table, 1);
            transaction.set_durability(Durability::Buffered);
            transaction.commit()
        });
        wait_until("a block is being written", || blocks() != blocks_before);
        // It waits for the block that is being written.
        let mut second = insert(&database, &table, 2);
        second.set_durability(Durability::Buffered);
        let second = second.submit().unwrap();
        io.fail_writes_after(1);
        io.hold_writes(None);
        assert!(matches!(second.wait(), Err(Error::Poisoned(_))));
        first.join().unwrap().unwrap();
    });
    assert_eq!(database.snapshot().row_count(&table).unwrap(), 1);
}

/// Nor does it write what others have synced: it returns while their block, in the next segment, does not come to an end.
#[test]
fn who_leads_does_not_sync_for_others() {
    let io = SimulatedIo::new(7);
    drop(open(&io));
    let options = Options {
        io: Arc::new(io.clone()),
        segment_size_bytes_max: Some(1024),
        ..Options::unmeasured()
    };
    let database = Database::open(Path::new("/db"), options).unwrap();
    let table = database.table("rows").unwrap();
    let blocks = || database.statistics().log.block_records.count;
    let blocks_before = blocks();
    io.hold_writes(Some(".mlog"));
    std::thread::scope(|scope| {
        let first = scope.spawn(|| {
            let mut transaction = insert(&database, &table, -1);
            transaction.set_durability(Durability::Buffered);
            transaction.commit()
        });
        wait_until("a block is being written", || blocks() != blocks_before);
        let mut second = database.begin();
        for id in 0..100 {
            second.upsert(&table, vec![Value::Int64(id)]).unwrap();
        }
        let second = second.submit().unwrap();
        io.hold_writes(Some("log-00000002.mlog"));
        first.join().unwrap().unwrap();
        io.hold_writes(None);
        second.wait().unwrap();
    });
    assert_eq!(database.snapshot().row_count(&table).unwrap(), 101);
}

/// *Monotonic*: whoever asks for a source's position beside its commits is told one, and never an older one than before.
#[test]
fn a_source_never_seems_to_be_further_back() {
    const COMMITS: u64 = 20_000;
    let (database, _) = open(&SimulatedIo::new(1));
    let commit = |position: u64| {
        let mut transaction = database.begin();
        transaction.set_origin(Origin {
            source: "source".into(),
            position: position.to_string(),
        });
        transaction.commit().unwrap();
    };
    commit(1);
    std::thread::scope(|scope| {
        scope.spawn(|| (2..=COMMITS).for_each(commit));
        let mut last = 1;
        while last < COMMITS {
            let origin = database.origin("source").unwrap();
            let position = origin.position.parse().unwrap();
            assert!(position >= last, "{position} after {last}");
            last = position;
        }
    });
}
